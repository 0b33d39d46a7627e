"""L2CS: the graph computes the outputs of the authors' network, the pipeline their angles on mediapipe's boxes."""

import torch  # isort: skip

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalComposition, LocalNet
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import l2cs
from tritonvision.exporters.families.mediapipe_face import POINTS
from tritonvision.exporters.graphs import check
from tritonvision.exporters.parity import published_models, sample_pictures
from tritonvision.python_backend.compositions import gaze
from tritonvision.tasks import resolve

ENTRY = catalog.find("l2cs-gaze")
NET = l2cs.POINT.nets[0]


@pytest.fixture(scope="module")
def network():
    return l2cs.FAMILY.build(ENTRY, Weights("random", seed=5))


@pytest.fixture(scope="module")
def graph(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    return path


@pytest.fixture(scope="module")
def composition(graph, repository):
    return LocalComposition({"": graph}, l2cs.POINT, {gaze.FACES: published_models.needed(repository, gaze.FACES)})


@pytest.fixture(scope="module")
def state():
    """The authors' names, as their file has them: one layer more than the network uses."""
    torch.manual_seed(1)
    state = l2cs._module(28).state_dict()
    return state | {"fc_finetune.weight": torch.zeros(3, 2051), "fc_finetune.bias": torch.zeros(3)}


@pytest.mark.slow
def test_graph_keeps_its_contract_and_computes_the_networks_logits_and_angles(network, graph):
    check.check(graph, NET)
    net = LocalNet(graph, NET)
    for inputs in network.examples("").values():
        got, want = net.tensors(inputs), network.tensors(inputs)
        for tensor in NET.outputs:
            assert got[tensor.name].shape == want[tensor.name].shape
            assert np.abs(got[tensor.name] - want[tensor.name]).max() <= l2cs.FAMILY.tolerance.tensors[tensor.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["photo", "tiny-91x77", "three-faces-749x300", "no-face-151x237"])
def test_pipeline_answers_what_the_authors_steps_answer(network, composition, name):
    picture = sample_pictures.views()[name]
    got, want = composition(picture), network.predict(picture, resolve(gaze.TASK.parameters, {}))
    assert len(got["yaw"]) == len(got["pitch"]) == len(want["yaw"]) == {"three": 3, "no": 0}.get(name.split("-")[0], 1)
    np.testing.assert_allclose(got["boxes"], want["boxes"], atol=0.01)
    np.testing.assert_allclose(got["keypoints"], want["keypoints"], atol=0.01)
    np.testing.assert_allclose(got["yaw"], want["yaw"], atol=1e-4)
    np.testing.assert_allclose(got["pitch"], want["pitch"], atol=1e-4)
    assert got["image_size"].tolist() == list(picture.shape[:2])
    for tensor in l2cs.POINT.outputs:
        assert got[tensor.name].dtype == tensor.numpy and got[tensor.name].ndim == len(tensor.dims)


@pytest.mark.slow
def test_a_whole_picture_that_is_one_face_gets_the_authors_angles(network, composition):
    picture = sample_pictures.photo()[50:200, 150:290]
    settings = {"detect_faces": False}
    got, want = composition(picture, settings), network.predict(picture, resolve(gaze.TASK.parameters, settings))
    assert got["boxes"].tolist() == [[0, 0, 140, 150]] and got["scores"].tolist() == [1]
    assert abs(got["yaw"] - want["yaw"]) <= 1e-4 and abs(got["pitch"] - want["pitch"]) <= 1e-4


def test_random_angles_differ_between_faces(network):
    angles = network.tensors({"pixels": l2cs._faces(448)})
    for name in ("yaw", "pitch"):
        assert np.ptp(angles[name]) >= 1000 * l2cs.FAMILY.tolerance.tensors[name]


def test_float64_reference_agrees_with_float32(network):
    pixels = l2cs._faces(448)[:1]
    single, double = network.tensors({"pixels": pixels}), network.tensors({"pixels": pixels}, double=True)
    assert double["yaw_logits"].dtype == double["yaw"].dtype == np.float64
    assert np.abs(single["yaw_logits"] - double["yaw_logits"]).max() <= 1e-3


def test_yaw_is_the_first_head_and_pitch_the_second_in_graph_and_reference(state, tmp_path):
    """The authors' callers swap the names; here each head gives one constant angle."""
    state = dict(state)
    for head, bin_ in (("fc_yaw_gaze", 20), ("fc_pitch_gaze", 9)):
        state[f"{head}.weight"] = torch.zeros_like(state[f"{head}.weight"])
        state[f"{head}.bias"] = 100 * torch.nn.functional.one_hot(torch.tensor(bin_), 28).float()
    torch.save(state, tmp_path / "mine.pkl")
    network = l2cs.FAMILY.build(ENTRY, Weights("user", path=tmp_path / "mine.pkl"))
    network.export(tmp_path / "model.onnx")
    inputs = {"pixels": sample_pictures.noise(448, 448)[None]}
    for angles in (network.tensors(inputs), LocalNet(tmp_path / "model.onnx", NET).tensors(inputs)):
        assert np.rad2deg(angles["yaw"]).item() == pytest.approx(20 * 3 - 42)  # 28 bins are MPIIGaze's
        assert np.rad2deg(angles["pitch"]).item() == pytest.approx(9 * 3 - 42)
        assert angles["yaw_logits"].argmax() == 20 and angles["pitch_logits"].argmax() == 9


def test_90_bins_are_four_degrees_each_from_minus_180():
    logits = torch.full((1, 90), -100.0)
    logits[0, 50] = 0
    assert np.rad2deg(l2cs._radians(logits)).item() == pytest.approx(20)


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_the_authors_file_is_read_without_its_unused_layer(state, tmp_path, suffix):
    torch.save(state, tmp_path / f"gaze{suffix}")
    network = l2cs.FAMILY.build(ENTRY, Weights("user", path=tmp_path / f"gaze{suffix}"))
    assert network.source == f"gaze{suffix}" and len(network.sha256) == 64 and network.labels == ("face",)
    assert network.keypoint_labels == POINTS


@pytest.mark.parametrize("change", ["no heads", "other bins", "other depth", "a layer is missing"])
def test_weights_of_another_architecture_are_refused(state, tmp_path, change):
    state = dict(state)
    if change == "no heads":
        state = {name: value for name, value in state.items() if not name.startswith("fc_")}
    elif change == "other bins":
        state["fc_yaw_gaze.weight"], state["fc_yaw_gaze.bias"] = torch.zeros(35, 2048), torch.zeros(35)
    elif change == "other depth":
        state["layer3.6.conv1.weight"] = state["layer3.5.conv1.weight"]
    else:
        del state["layer4.2.bn3.weight"]
    torch.save(state, tmp_path / "other.pkl")
    with pytest.raises(ExportFailed, match="not those of L2CS-Net"):
        l2cs.FAMILY.build(ENTRY, Weights("user", path=tmp_path / "other.pkl"))


def test_official_weights_say_which_file_to_name():
    with pytest.raises(ExportFailed, match="L2CSNet_gaze360.pkl") as failure:
        l2cs.FAMILY.build(ENTRY, Weights())
    assert "--weights PATH" in failure.value.hint and "--weights random" in failure.value.hint


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pkl_that_would_run_code_is_refused_and_runs_none(tmp_path):
    torch.save({"fc_yaw_gaze.weight": Payload(tmp_path / "ran")}, tmp_path / "evil.pkl")
    with pytest.raises(ExportFailed, match="cannot be read"):
        l2cs.FAMILY.build(ENTRY, Weights("user", path=tmp_path / "evil.pkl"))
    assert not (tmp_path / "ran").exists()
