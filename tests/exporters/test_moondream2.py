"""Moondream2 with random weights: the loop that stands for its own code answers what that code answered, and the graphs
with the prompts of the served model answer what the loop does.
"""

import torch  # isort: skip

import json
import queue

import chat_families
import numpy as np
import pytest
from attention import check_attention, examples_of
from moondream2_sizes import RECORDED, TRUE_CROPS

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalChat, LocalNet
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import moondream2
from tritonvision.exporters.families.moondream2.network import Moondream
from tritonvision.exporters.families.moondream2.sizes import REDUCED, RELEASED
from tritonvision.exporters.graphs import check
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.chat import PICTURE, Chat, sample, says
from tritonvision.python_backend.generation.prompt import Picture
from tritonvision.python_backend.vlm.moondream2 import Places, pooling, stitched, tiles_of
from tritonvision.tasks import VLM, resolve

ENTRY = catalog.find("moondream2")
LIMIT = 5e-5

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module")
def network():
    return moondream2.random(REDUCED, 0)


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    return chat_families.export(network, tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def chat(network, graphs):
    opened = LocalChat(graphs, network.entry_points[0], network.assets(""))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reader(network):
    return network.reader()


@pytest.fixture(scope="module")
def recorded():
    """The network and what the author's code answered with it (``tests/support/record_moondream2.py``)."""
    return moondream2.random(TRUE_CROPS, 0), json.loads(RECORDED.read_text())


def test_the_loop_answers_what_the_authors_code_answered(recorded):
    """Recorded of vikhyat/moondream at 44146f1, crops of the true size."""
    network, said_there = recorded
    for asked, (text, said) in zip(network.conversations(), said_there["answers"], strict=True):
        skill = text.partition(":")[0]
        most = {"detect": 12, "point": 8}.get(skill, 23)
        got = network.predict(asked, {"max_new_tokens": most})["text"][0]
        if skill not in ("detect", "point"):
            assert got == said, text
            continue
        kind = "objects" if skill == "detect" else "points"
        found = json.loads(got)[kind]
        assert len(found) == len(said[kind]) == 4
        for ours, theirs in zip(found, said[kind], strict=True):
            assert ours == pytest.approx(theirs, abs=6e-5), text


def test_the_rows_of_a_picture_are_the_authors(recorded):
    network, said_there = recorded
    inputs = network.reader().vision_inputs(sample_pictures.photo())
    rows = network.tensors(inputs)["image_embeds"][0]
    np.testing.assert_allclose(rows[::97, ::16], said_there["rows"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("role", ["vision", "embed", "decoder"])
def test_a_graph_computes_what_the_network_computes(network, graphs, role):
    net = next(net for net in network.entry_points[0].nets if net.role == role)
    check.check(graphs[role], net)
    local = LocalNet(graphs[role], net)
    for inputs in network.examples(role).values():
        got, want = local.tensors(inputs), network.tensors(inputs, role=role)
        for name, value in want.items():
            assert got[name].shape == value.shape, name
            assert np.abs(got[name] - value).max() <= LIMIT, name
    assert want[net.outputs[0].name].std() > 0.1


def test_a_padded_row_gives_the_same_logits_as_alone(graphs):
    config = REDUCED.decoder
    local = LocalNet(graphs["decoder"], causal_decoder.decoder_net(config, bidirectional=True))
    both = causal_decoder.example(config, batch=2, past=0, new=19, padding=5, bidirectional=True)
    alone = {name: value[:1] for name, value in both.items()}
    alone |= {name: alone[name][:, 5:] for name in ("inputs_embeds", "position_ids", "attention_mask")}
    alone["bidirectional"] = both["bidirectional"][:1] - 5
    got, want = local.tensors(both), local.tensors(alone)
    np.testing.assert_allclose(got["logits"][:1], want["logits"], rtol=0, atol=1e-5)


def test_answers_are_those_of_the_loop(network, chat):
    parity_check = Chat(network.entry_points[0], network, moondream2.FAMILY.tolerance, "random")
    cases = parity_check.cases()
    parity_check.demand_signal(chat, cases)
    for case in cases:
        answer = chat(case.sample, case.given)
        assert parity_check.compare(answer, case) == (24, 0, {"tokens": 0, "words": 0}), case.sample["messages"]
        assert answer["usage"].tolist() == case.wanted["usage"].tolist()


def test_prompts_of_several_skills_in_one_batch_are_answered_as_alone(network, chat):
    samples, settings = network.conversations(), resolve(VLM.parameters, {"max_new_tokens": 14})
    found: queue.SimpleQueue = queue.SimpleQueue()
    for number, asked in enumerate(samples):
        pictures = [*map(Picture.of, asked["pictures"])]
        emit = lambda delta, number=number: found.put((number, delta))  # noqa: E731
        chat._vlm_engine.start(asked["messages"], pictures, settings, emit, emit, lambda: False)
    answers, running = {number: [] for number in range(len(samples))}, len(samples)
    while running:
        number, delta = found.get(timeout=30)
        answers[number] += delta.token_ids.tolist()
        running -= bool(delta.finish_reason)
    for number, asked in enumerate(samples):
        assert answers[number] == chat(asked, {"max_new_tokens": 14})["token_ids"].tolist()


def test_places_are_written_as_the_authors_json(network, chat):
    answer = chat(network.conversations()[-1], {"max_new_tokens": 12})
    told = json.loads(answer["text"][0])
    assert told["object"] == "person" and len(told["objects"]) == 4
    assert all(box.keys() == {"x_min", "y_min", "x_max", "y_max"} for box in told["objects"])


def test_an_answer_in_places_ends_where_no_place_begins():
    words, speaker = 10, Places(10, "cat", sized=False)
    logits = np.zeros(words + 3 * 1024, dtype=np.float32)
    logits[4] = 1
    for at in (100, 200):  # x, y; the next place would begin
        logits[words + at] = 5 + at
        assert speaker(logits) == words + at
        speaker.push(words + at)
    logits[0] = 9
    assert speaker(logits) == 0
    assert json.loads(speaker.flush()) == {"object": "cat", "points": [{"x": 0.0977, "y": 0.1953}]}


def test_fifty_places_are_the_most():
    speaker = Places(10, "cat", sized=False)
    logits = np.zeros(10 + 3 * 1024, dtype=np.float32)
    logits[1] = 1
    for _ in range(100):
        speaker.push(speaker(logits))
    assert speaker(logits) == 0 and len(json.loads(speaker.flush())["points"]) == 50


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([says("system", "Be brief."), says("user", PICTURE, "Who?")], "one prompt about one picture"),
        ([says("user", PICTURE, PICTURE, "Which?")], "one prompt about one picture"),
        ([says("user", "detect: cat")], "'detect' is about a picture"),
        ([says("user", PICTURE, "caption: endless")], "no length of a caption"),
        ([says("user", PICTURE, "point:")], "names no object"),
        ([says("user", PICTURE, "word " * 900)], "tokens long"),
    ],
)
def test_what_it_cannot_be_asked_is_refused(reader, messages, said):
    count = sum(part["type"] == "image" for message in messages for part in message["content"])
    with pytest.raises(InvalidParameter, match=said):
        reader.read(messages, [(30, 40)] * count)


@pytest.mark.attack("special tokens spelt in a prompt")
def test_special_tokens_of_a_prompt_are_text(reader):
    prompt = reader.read([says("user", PICTURE, "<|endoftext|><|coord|>?")], [(30, 40)])
    ids = prompt.input_ids.tolist()
    assert ids.count(0) == 1 and ids.count(5) == REDUCED.grid**2 and prompt.bidirectional == 1 + REDUCED.grid**2
    assert reader.read([says("user", "Why?")], []).bidirectional == 0


@pytest.mark.parametrize("size", [(1, 1), (70, 70), (90, 800), (200, 133), (511, 512), (2000, 30)])
def test_crops_are_put_together_without_their_margins(reader, size):
    """Of crops whose patches are numbered by their place in the picture, that number comes back everywhere."""
    side, patch, margin, grid = 70, 14, 1, 5
    rows, columns = tiles_of(*size, side, patch, margin, 12)
    assert 1 <= rows * columns <= 12
    height, width = (count * (grid - 2 * margin) + 2 * margin for count in (rows, columns))
    numbered = np.arange(height * width).reshape(height, width)
    inner = grid - 2 * margin
    crops = [
        numbered[row * inner : row * inner + grid, column * inner : column * inner + grid]
        for row in range(rows) for column in range(columns)
    ]  # fmt: skip
    np.testing.assert_array_equal(np.stack(crops).reshape(-1)[stitched((rows, columns), grid, margin)], numbered)
    given = reader.vision_inputs(sample_pictures.noise(*size))
    assert given["pixels"].shape == (1, 1 + rows * columns, side, side, 3)


@pytest.mark.parametrize("count", [5, 8, 14, 11])
def test_pooling_is_torchs(count):
    values = torch.randn(1, 3, count)
    want = torch.nn.functional.adaptive_avg_pool1d(values, 5)
    np.testing.assert_allclose(values.numpy() @ pooling(count, 5).T, want, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_users_folder_goes_through_the_gate(network, tmp_path):
    (tmp_path / "mine").mkdir()
    network.save(tmp_path / "mine")
    manifest = pipeline.export("moondream2", Weights("user", path=tmp_path / "mine"), tmp_path, as_id="small")
    assert manifest.head == "chat" and manifest.grounding == "moondream" and manifest.parity["pipeline_tokens"] == 0


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json"])
def test_a_folder_without_a_file_is_refused(network, tmp_path, missing):
    network.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ExportFailed, match="are a folder of weights"):
        moondream2.FAMILY.build(ENTRY, Weights("user", path=tmp_path))


def test_the_size_is_the_published_one():
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Moondream(RELEASED).parameters())
    assert count / 1e6 == pytest.approx(ENTRY.params_m, rel=0.01)
    assert moondream2.FAMILY.entry_points(ENTRY)[0].size == tuple(ENTRY.input_size)


def test_sampled_words_are_words_only(network, chat):
    asked = sample([], says("user", "Who are you?"))
    answer = chat(asked, {"max_new_tokens": 8, "temperature": 2.0, "seed": 1})
    assert answer["token_ids"].max() < REDUCED.text_vocab_size


def test_queries_and_keys_of_random_weights_have_an_effect(network):
    check_attention(network, moondream2.FAMILY.tolerance, examples_of(network, "vision", "decoder"))
