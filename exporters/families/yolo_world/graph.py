"""YOLO-World's detector as one ONNX graph whose classes are an input: any number of embeddings of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.exporters.libraries.ultralytics import detect

if TYPE_CHECKING:
    import torch


def graph(model: torch.nn.Module, height: int, width: int) -> torch.nn.Module:
    """``model``, changed in place: uint8 ``[B,H,W,3]`` RGB and float32 ``[B,C,512]`` embeddings of C classes to the
    canonical tensors of dense boxes.

    It is the graph of every ultralytics detector (:func:`.detect.detection_graph`), but for the layers that read the
    embeddings: the attention of the neck, and the score of a class, which is its similarity to the cell.
    """
    from torch import nn
    from ultralytics.nn.modules import C2fAttn

    class Texts:
        embeds: torch.Tensor

    texts = Texts()

    class Similarity(nn.Module):
        def __init__(self, branch, contrast):
            super().__init__()
            self.branch, self.contrast = branch, contrast

        def forward(self, features):
            return self.contrast(self.branch(features), texts.embeds)

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.ModuleList(model.model)

        def forward(self, images):
            outputs, last = [], images
            for layer in self.model:
                if isinstance(layer.f, int):
                    given = last if layer.f == -1 else outputs[layer.f]
                else:
                    given = [last if index == -1 else outputs[index] for index in layer.f]
                last = layer(given, texts.embeds) if isinstance(layer, C2fAttn) else layer(given)
                outputs.append(last)
            return last

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.detector = detect.detection_graph(Layers(), height, width)

        def forward(self, pixels, queries):
            texts.embeds = queries
            return self.detector(pixels)

    head = model.model[-1]
    head.cv3 = nn.ModuleList(map(Similarity, head.cv3, head.cv4))
    return Graph().eval()
