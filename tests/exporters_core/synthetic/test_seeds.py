"""Random weights take the next seed where one carries no signal, and say so; nothing else is ever tried again."""

import weakref

import pytest

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import NoSignal, Weights
from tritonvision.exporters.synthetic import seeds


def tried(weights, first_good, error=NoSignal("All alike.")):
    """What was attempted until a seed was good, and what was said."""
    attempts, notices = [], []

    def attempt(weights):
        attempts.append(weights.seed)
        if weights.seed < first_good:
            raise error
        return weights

    return attempts, notices, lambda: seeds.with_signal(attempt, weights, notices.append)


def test_the_next_seed_that_carries_signal_is_taken_and_named():
    attempts, notices, run = tried(Weights("random", seed=4, labels=("a",)), first_good=6)
    assert run() == Weights("random", seed=6, labels=("a",))
    assert attempts == [4, 5, 6]
    assert notices == [
        "Random weights of seed 4 prove nothing, seed 5 is tried: All alike.",
        "Random weights of seed 5 prove nothing, seed 6 is tried: All alike.",
    ]


def test_a_good_seed_is_left_alone_without_a_word():
    attempts, notices, run = tried(Weights("random", seed=7), first_good=0)
    assert run().seed == 7 and attempts == [7] and not notices


def test_after_ten_seeds_it_is_given_up_with_the_reason():
    attempts, _, run = tried(Weights("random", seed=0), first_good=99)
    with pytest.raises(ExportFailed, match="seeds 0 to 9 prove nothing: All alike.") as caught:
        run()
    assert not isinstance(caught.value, NoSignal) and caught.value.hint and attempts == list(range(10))


@pytest.mark.parametrize(
    ("weights", "error"),
    [(Weights("official"), NoSignal("x")), (Weights("user"), NoSignal("x")), (Weights("random"), ExportFailed("x"))],
)
def test_other_weights_and_other_faults_are_not_tried_again(weights, error):
    attempts, _, run = tried(weights, first_good=99, error=error)
    with pytest.raises(type(error), match="x"):
        run()
    assert attempts == [0]


def test_the_network_of_a_seed_that_is_given_up_is_gone_before_the_next_one_is_built():
    class Network:
        pass

    built = []

    def attempt(weights):
        assert not [one for one in built if one() is not None]
        network = Network()
        network.itself = network  # as torch's modules and their hooks
        built.append(weakref.ref(network))
        if weights.seed < 2:
            raise NoSignal("All alike.")
        return weights

    assert seeds.with_signal(attempt, Weights("random"), lambda _: None).seed == 2 and len(built) == 3
