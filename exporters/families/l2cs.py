"""L2CS: a ResNet-50 whose two heads say in degrees where a face looks, behind the MediaPipe face model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition, Net
from tritonvision.ensembles.tensors import IMAGE_SIZE, Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import NoSignal, ReferencePipeline, Refusals, Tolerance, Weights
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries.torch_network import TorchFamily, TorchNetwork
from tritonvision.exporters.modules.normalise import IMAGENET, normalised, normalising
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.synthetic import calibrate
from tritonvision.python_backend.compositions import gaze

if TYPE_CHECKING:
    import torch

FILE = "L2CSNet_gaze360.pkl"
SIDE = 448  # pixels of a face
_SIGNAL = 0.1  # radians by which a random network's answers to different faces must differ
_FACES = ((177, 83, 273, 178), (200, 100, 250, 150), (120, 20, 330, 230))  # boxes in the photo in the tree
POINTS = ("right-eye", "left-eye", "nose", "mouth", "right-ear", "left-ear")  # names of the face model's key points
# Number of bins -> (degrees a bin, degrees of the first one): Gaze360 and MPIIGaze, as the authors train them.
BINS = {90: (4, -180), 28: (3, -42)}
_SUFFIXES = (*checkpoints.SUFFIXES, ".pkl")
# Outputs of the network: logits of the bins, and radians.
_OUTPUTS = (
    Tensor("yaw_logits", "FP32", (-1,)), Tensor("pitch_logits", "FP32", (-1,)),
    Tensor("yaw", "FP32", (1,)), Tensor("pitch", "FP32", (1,)),
)  # fmt: skip
POINT = Composition(
    name="gaze",
    version=1,
    task=gaze.TASK,
    nets=(Net("", (Tensor("pixels", "UINT8", (SIDE, SIDE, 3)),), _OUTPUTS),),
    outputs=(
        Tensor("boxes", "FP32", (-1, 4)), Tensor("scores", "FP32", (-1,)), Tensor("keypoints", "FP32", (-1, -1, 2)),
        Tensor("yaw", "FP32", (-1,)), Tensor("pitch", "FP32", (-1,)), Tensor("seconds", "FP32", (2,)), IMAGE_SIZE,
    ),
    options=(("side", SIDE),),
    needs=(gaze.FACES,),
    size=(SIDE, SIDE),
)  # fmt: skip


class L2CS(TorchFamily):
    """The network of L2CS-Net with ResNet-50; faces come from the published face model."""

    name = "L2CS"
    tolerance = Tolerance(
        tensors={"yaw_logits": 1e-3, "pitch_logits": 1e-3, "yaw": 2e-5, "pitch": 5e-5},
        answers={"pixels": 3e-3, "scores": 5e-6, "degrees": 5e-3},
    )
    reference_pipeline = ReferencePipeline(
        "torchvision", "0.28.0",
        "the steps of L2CS-Net's Pipeline, which no package holds, on mediapipe's recorded boxes: crop, RGB, cv2 to "
        "224, transforms.Resize(448) of the PIL image, ToTensor, Normalize, network, softmax expectation",
    )  # fmt: skip
    refusals = Refusals(labels="knows one class, 'face'", own_labels=("face",))
    random_note = "Random weights, calibrated only to carry signal: the angles mean nothing."
    license_notice = "The official L2CS weights were trained on Gaze360, whose terms allow research only."

    def entry_points(self, entry: Entry) -> tuple[Composition]:
        """Faces, then the network on each."""
        return (POINT,)

    def random_network(self, entry: Entry, weights: Weights) -> L2CSNetwork:
        """See :meth:`Family.random_network`."""
        return L2CSNetwork(_random(weights.seed))

    def official_network(self, entry: Entry, weights: Weights) -> L2CSNetwork:
        """The released weights cannot be fetched by a program. Raises ExportFailed."""
        raise ExportFailed(
            f"The official weights {FILE} lie on a drive that only people can fetch them from.",
            hint=f"Fetch {FILE} from the page of Ahmednull/L2CS-Net and name it with --weights PATH; "
            "or --weights random.",
        )

    def network_from_file(self, entry: Entry, weights: Weights) -> L2CSNetwork:
        """See :meth:`Family.network_from_file`."""
        path = files.user_file(weights, _SUFFIXES)
        found = checkpoints.read(path)
        return L2CSNetwork(_load(found.tensors), source=path.name, sha256=files.sha256(path), notes=found.notes)


class L2CSNetwork(TorchNetwork):
    """One network; the reference pipeline is the authors' own, rewritten here, on the faces of the face model."""

    packages = ("torchvision",)

    def __init__(self, network: torch.nn.Module, **facts: Any):
        """``facts`` are the attributes of :class:`Network`."""
        super().__init__(network, ("face",), keypoint_labels=POINTS, **facts)

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`: faces uint8 ``[B,448,448,3]`` RGB in, logits and radians out."""
        import torch

        example = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
        graph = _graph(self._model)
        export_onnx(graph, example, path, ("pixels",), tuple(t.name for t in _OUTPUTS))

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> dict[str, np.ndarray]:
        """See :meth:`Network.tensors`. The first head is the yaw; some of the authors' callers name it otherwise."""
        import torch

        with torch.inference_mode():
            logits = self.reference(double)(normalised(inputs["pixels"], IMAGENET, double))
        values = (*(v.numpy() for v in logits), *(_radians(v)[:, None] for v in logits))
        return dict(zip((tensor.name for tensor in _OUTPUTS), values, strict=True))

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> dict[str, np.ndarray]:
        """See :meth:`Network.predict`. Faces are mediapipe's recorded ones: no other pictures can be asked."""
        height, width = sample.shape[:2]
        if parameters["detect_faces"]:
            found = self._find_faces(sample, parameters)
        else:
            found = {
                "boxes": np.array([[0, 0, width, height]], np.float32), "scores": np.ones(1, np.float32),
                "keypoints": np.zeros((1, 0, 2), np.float32),
            }  # fmt: skip
        angles = [self._authors_angles(sample, box) for box in found["boxes"]]
        yaw, pitch = np.array(angles, np.float32).reshape(-1, 2).T
        return {**found, "yaw": yaw, "pitch": pitch, "image_size": np.array([height, width], np.int32)}

    def _authors_angles(self, picture: np.ndarray, box: np.ndarray) -> tuple[float, float]:
        """Yaw and pitch in radians by the steps of the authors' ``Pipeline``, which starts with a BGR frame."""
        import torch
        from torchvision import transforms

        frame = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        x_min, y_min, x_max, y_max = (max(int(v), 0) for v in box)
        crop = cv2.cvtColor(frame[y_min:y_max, x_min:x_max], cv2.COLOR_BGR2RGB)
        prepare = transforms.Compose([
            transforms.ToPILImage(), transforms.Resize(SIDE), transforms.ToTensor(), transforms.Normalize(*IMAGENET),
        ])  # fmt: skip
        with torch.inference_mode():
            heads = self._model(prepare(cv2.resize(crop, (224, 224)))[None])
        return tuple(_radians(head)[0] for head in heads)

    @staticmethod
    def _find_faces(picture: np.ndarray, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """mediapipe's own boxes, scores and key points, as recorded for the face model."""
        from tritonvision.exporters.families import mediapipe_face

        for recorded, given, found in mediapipe_face.recorded():
            if given["confidence"] == parameters["confidence"] and np.array_equal(recorded, picture):
                return {name: found[name] for name in ("boxes", "scores", "keypoints")}
        raise ExportFailed("mediapipe's answer to this picture was not recorded.")

    def examples(self, role: str) -> dict[str, dict[str, np.ndarray]]:
        """Faces and noise, at the size of the network's input."""
        faces, noise = _faces(SIDE), sample_pictures.noise(SIDE, SIDE)
        batches = {"a face": [faces[0]], "noise": [noise], "a batch of both": [*faces, noise]}
        return {what: {"pixels": np.stack(batch)} for what, batch in batches.items()}

    def questions(self) -> list[dict[str, Any]]:
        """With face detection, and with the whole picture as one face."""
        return [{}, {"detect_faces": False}]


def _module(bins: int) -> torch.nn.Module:
    """The authors' network with their parameter names: torchvision's ResNet-50, two heads on the pooled features."""
    from torch import nn
    from torchvision.models.resnet import Bottleneck, ResNet

    class Module(ResNet):
        def __init__(self):
            super().__init__(Bottleneck, [3, 4, 6, 3])
            self.fc_yaw_gaze = nn.Linear(self.fc.in_features, bins)
            self.fc_pitch_gaze = nn.Linear(self.fc.in_features, bins)
            self.fc = nn.Identity()

        def forward(self, images):
            features = super().forward(images)
            return self.fc_yaw_gaze(features), self.fc_pitch_gaze(features)

    return Module().eval()


def _radians(logits: torch.Tensor) -> np.ndarray:
    """``[B,bins]`` to ``[B]`` as the authors decode them: expected bin, degrees, radians."""
    shares = logits.softmax(1).numpy()
    scale, first = BINS[shares.shape[1]]
    return ((shares * np.arange(shares.shape[1])).sum(1) * scale + first) * np.pi / 180


def _graph(network: torch.nn.Module) -> torch.nn.Module:
    """uint8 ``[B,H,W,3]`` RGB to logits and radians; mean, std and the expectation over the bins are inside."""
    import torch
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.normalising = normalising(IMAGENET)
            bins = torch.arange(network.fc_yaw_gaze.out_features, dtype=torch.float64)
            scale, first = BINS[len(bins)]
            self.register_buffer("radians", torch.deg2rad(bins * scale + first).float())

        def forward(self, pixels):
            yaw, pitch = self.network(self.normalising(pixels))
            return yaw, pitch, *((v.softmax(1) * self.radians).sum(1, keepdim=True) for v in (yaw, pitch))

    return Graph()


def _load(state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The network with ``state``; the number of bins is that of its heads. Raises ExportFailed."""
    network = _module(max(BINS))
    state = checkpoints.unwrapped(state, network.state_dict().keys())
    heads = state.get("fc_yaw_gaze.weight")
    if heads is not None and heads.ndim == 2 and len(heads) in BINS:
        network = _module(len(heads))
    checkpoints.load_into(
        network, {name: v for name, v in state.items() if not name.startswith("fc_finetune.")},
        "L2CS-Net with ResNet-50",
        "Their names must be the authors' (conv1, bn1, layer1 to layer4, fc_yaw_gaze, fc_pitch_gaze), "
        f"their bins {' or '.join(map(str, BINS))}.",
    )  # fmt: skip
    return network


def _random(seed: int) -> torch.nn.Module:
    """The true architecture with random weights whose angles differ by tens of degrees between faces.

    Batch norms take the statistics of structured pictures at half the size, which hardly changes them; the last one of
    each residual branch gets a gain of 0.15, otherwise rounding errors grow with depth.
    """
    import torch

    pictures = np.concatenate([calibrate.structured_pictures(8, SIDE // 2, SIDE // 2, seed), _faces(SIDE // 2)])
    images = normalised(pictures, IMAGENET)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = _module(max(BINS))
        for name, layer in network.named_modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # the statistics are those of one batch
                layer.weight.fill_(0.15 if name.endswith("bn3") else 1)
        network.train()(images)
        network.eval()
        heads = [network.fc_yaw_gaze, network.fc_pitch_gaze]
        for head, rows in zip(heads, calibrate.inputs_of(heads, network, images), strict=True):
            calibrate.standardise(head, rows, 2.5, torch.zeros(head.out_features, dtype=torch.float64))
        apart = [np.ptp(_radians(logits)) for logits in network(normalised(_faces(SIDE), IMAGENET))]
    if not min(apart) >= _SIGNAL:
        raise NoSignal()
    return network


def _faces(side: int) -> np.ndarray:
    """uint8 ``[3,side,side,3]``: the photo's face in the box of the face model, in a smaller and in a larger box."""
    return np.stack([gaze.face(sample_pictures.photo(), np.array(box), side) for box in _FACES])


FAMILY = L2CS()
