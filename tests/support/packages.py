"""Folders as a person would import them: small networks in ``weights.onnx``, and the files that describe them."""

import torch  # isort: skip

import json

from torch import nn

ID = "mine/3"
SIZE = 64


def describe(folder, names, size=(SIZE, SIZE), mode="stretch", post=None, task=None, **network):
    """Write what stands beside ``weights.onnx``; ``network`` are keys of ``network_input``."""
    (folder / "class_names.txt").write_text("".join(f"{name}\n" for name in names))
    given = {
        "training_input_size": {"height": size[0], "width": size[1]}, "dynamic_spatial_size_supported": False,
        "color_mode": "rgb", "resize_mode": mode, "input_channels": 3, "scaling_factor": 255,
    }  # fmt: skip
    before = {"auto-orient": {"enabled": True}, "static-crop": {"enabled": False}, "contrast": None}
    config = {"image_pre_processing": before, "network_input": given | network, "post_processing": post}
    (folder / "inference_config.json").write_text(json.dumps(config))
    if task is not None:
        (folder / "model_config.json").write_text(json.dumps({"task_type": task, "backend_type": "onnx"}))


def write(folder, network, outputs, size=(SIZE, SIZE), dynamic=False):
    names = ["images", *outputs]
    torch.onnx.export(
        network.eval(), torch.zeros(1, 3, *size), folder / "weights.onnx", dynamo=False, opset_version=17,
        input_names=["images"], output_names=outputs, dynamic_axes={n: {0: "N"} for n in names} if dynamic else None,
    )  # fmt: skip


class Yolo(nn.Module):
    """Boxes of one size around the cells of a grid, scored by what is in them: ``[N, 4 + classes, 64]``."""

    def __init__(self, classes, masks=0):
        super().__init__()
        torch.manual_seed(0)
        self.scores, self.masks = nn.Conv2d(3, classes, 8, 8), nn.Conv2d(3, 32, 8, 8)
        self.prototypes = nn.Conv2d(3, 32, 4, 4)
        y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        boxes = torch.stack([x * 8 + 4, y * 8 + 4, 10 + x, 12 - y]).reshape(1, 4, 64)
        self.register_buffer("boxes", boxes)
        self.with_masks = masks

    def forward(self, images):
        scores = (3 * self.scores(images)).sigmoid().flatten(2)
        rows = [self.boxes.expand(len(images), 4, 64), scores]
        if not self.with_masks:
            return torch.cat(rows, 1)
        return torch.cat([*rows, self.masks(images).flatten(2)], 1), self.prototypes(images)


class Queries(nn.Module):
    """Boxes as fractions and logits, as RF-DETR gives them: ``[N, 64, 4]`` and ``[N, 64, classes]``."""

    def __init__(self, classes):
        super().__init__()
        self.inner = Yolo(classes)

    def forward(self, images):
        boxes = self.inner.boxes.expand(len(images), 4, 64) / SIZE
        return boxes.transpose(1, 2), (4 * self.inner.scores(images)).flatten(2).transpose(1, 2)


class Classifier(nn.Module):
    def __init__(self, classes, activation=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.last, self.activation = nn.Linear(32, classes), activation or nn.Identity()

    def forward(self, images):
        return self.activation(8 * self.last(self.layers(images)))
