"""The gate lets the real graph through and nothing that differs from it."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import NoSignal
from tritonvision.exporters.parity.gate import Gate


@pytest.fixture
def judged(family, entry, network, tmp_path):
    """A function: change the real graph's model, then let the gate judge it."""

    def parity_check(graph, change, judged_network=network, weights="official"):
        model = onnx.load(graph)
        change(model.graph)
        path = tmp_path / "changed.onnx"
        onnx.save(model, path)
        return Gate(family, entry, judged_network, {"": path}, weights).check()

    return parity_check


def scale_first_kernel(factor):
    def change(graph):
        kernel = next(i for i in graph.initializer if len(i.dims) == 4)
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(factor), kernel.name))

    return change


def rename_outputs(first, second):
    names = {first: second, second: first}

    def change(graph):
        for node in graph.node:
            node.output[:] = [names.get(name, name) for name in node.output]

    return change


def test_the_real_graph_passes_and_its_figures_are_small(judged, graph):
    figures = judged(graph, lambda _: None)
    assert figures["pipeline_answers"] == 12
    assert figures["pipeline_pixels"] <= 0.001
    assert figures["pipeline_scores"] <= 1e-6
    assert figures["tensor_boxes"] <= 1e-3 and figures["tensor_keypoints"] <= 1e-3
    assert all(isinstance(value, float) for value in figures.values())


def test_weights_off_by_a_tenth_of_a_percent_are_refused_by_name_and_amount(judged, graph):
    with pytest.raises(ExportFailed, match=r"'boxes' of the graph differs .* by 0\.\d+, allowed"):
        judged(graph, scale_first_kernel(1.001))


def test_not_a_number_is_refused(judged, graph):
    with pytest.raises(ExportFailed, match="differs"):
        judged(graph, scale_first_kernel(np.nan))


def test_normalisation_to_another_range_is_refused(judged, graph):
    def change(model_graph):
        name = next(node for node in model_graph.node if node.op_type == "Div").input[1]
        constant = next(i for i in model_graph.initializer if i.name == name)
        constant.CopyFrom(numpy_helper.from_array(np.float32(128), name))

    with pytest.raises(ExportFailed, match="differs"):
        judged(graph, change)


def test_a_graph_that_cannot_run_is_refused_in_a_sentence(judged, graph):
    def change(model_graph):
        model_graph.node[5].op_type = "NoSuchOperator"

    with pytest.raises(ExportFailed, match="onnxruntime cannot run"):
        judged(graph, change)


def test_exchanged_tensors_are_refused(judged, graph):
    with pytest.raises(ExportFailed):
        judged(graph, rename_outputs("boxes", "keypoints"))


def test_a_wrong_reference_pipeline_is_refused(judged, graph, network, monkeypatch):
    """Right tensors are not enough: here every recorded face lies a pixel to the right."""
    shifted = [(p, s, {**w, "boxes": w["boxes"] + np.float32([1, 0, 1, 0])}) for p, s, w in network.golden()]
    monkeypatch.setattr(network, "golden", lambda: shifted)
    with pytest.raises(ExportFailed, match="pixels differ from mediapipe's by 1"):
        judged(graph, lambda _: None)


def test_a_missing_face_is_refused(judged, graph, network, monkeypatch):
    fewer = [(p, s, {n: v[:0] for n, v in w.items()}) if i == 3 else (p, s, w)
             for i, (p, s, w) in enumerate(network.golden())]  # fmt: skip
    monkeypatch.setattr(network, "golden", lambda: fewer)
    with pytest.raises(ExportFailed, match="disagree about 1 answers"):
        judged(graph, lambda _: None)


def test_an_oracle_that_sees_nothing_proves_nothing(judged, graph, network, monkeypatch):
    blind = [(p, s, {n: v[:0] for n, v in w.items()}) for p, s, w in network.golden()[-2:]]
    monkeypatch.setattr(network, "golden", lambda: blind)
    with pytest.raises(ExportFailed, match="proves nothing"):
        judged(graph, lambda _: None)


def test_a_family_without_oracle_and_recording_is_refused(judged, graph, network, monkeypatch):
    monkeypatch.setattr(network, "golden", lambda: [])
    with pytest.raises(ExportFailed, match="neither a reference pipeline nor recorded answers"):
        judged(graph, lambda _: None)


def test_a_random_network_must_find_between_ten_and_sixty_boxes(judged, graph):
    with pytest.raises(ExportFailed, match="finds 1 boxes on the photo, not 10 to 60"):
        judged(graph, lambda _: None, weights="random")


def test_what_float32_itself_cannot_do_better_passes(judged, graph, network, monkeypatch):
    """With a reference whose own float32 error is 0.1 px, 0.2 px from the truth is no fault of the graph."""
    real = type(network).tensors

    def rough(inputs, double=False, role=""):
        found = real(network, inputs, double)
        shift = 0.2 if double else 0.1  # the graph is at 0, float32 at 0.1, the truth at 0.2
        return found | {"boxes": found["boxes"] + shift}

    monkeypatch.setattr(network, "tensors", rough)
    assert judged(graph, lambda _: None)["tensor_boxes"] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(("own", "passes"), [(0.2, True), (0.005, False)])
def test_answers_that_differ_by_what_float32_itself_is_off_by_pass_and_others_do_not(
    judged, graph, network, monkeypatch, own, passes
):
    """The author's answers are 0.2 px off ours; float32 is ``own`` pixels of the network's input off the truth."""
    real = type(network).tensors

    def rough(inputs, double=False, role=""):
        found = real(network, inputs, double)
        return found | {"boxes": found["boxes"] + (own if double else 0)}

    shifted = [(p, s, {**w, "boxes": w["boxes"] + np.float32(0.2)}) for p, s, w in network.golden()]
    monkeypatch.setattr(network, "golden", lambda: shifted)
    monkeypatch.setattr(network, "tensors", rough)
    if passes:
        assert judged(graph, lambda _: None)["pipeline_pixels"] == pytest.approx(0.2, abs=0.01)
    else:
        with pytest.raises(ExportFailed, match="pixels differ from mediapipe's by 0.2"):
            judged(graph, lambda _: None)


@pytest.mark.parametrize(
    ("weights", "own", "error"),
    [
        ("random", 0.1, NoSignal), ("official", 0.1, ExportFailed), ("user", 0.1, ExportFailed),
        ("random", 1e-4, ExportFailed),
    ],
)  # fmt: skip
def test_a_random_network_that_is_mostly_rounding_is_the_seeds_fault_and_no_other_difference_is(
    judged, graph, network, monkeypatch, weights, own, error
):
    """The graph is a pixel off; float32 is ``own`` off the truth, which is allowed to be a thousandth."""
    real = type(network).tensors

    def rough(inputs, double=False, role=""):
        found = real(network, inputs, double)
        return found | {"boxes": found["boxes"] + (1 + own if double else 1)}

    monkeypatch.setattr(network, "tensors", rough)
    with pytest.raises(ExportFailed) as caught:
        judged(graph, lambda _: None, weights=weights)
    assert type(caught.value) is error
    assert ("mostly rounding" if error is NoSignal else "float32 itself is off by") in caught.value.message
