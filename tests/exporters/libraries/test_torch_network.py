"""The reference of a torch network: one module, and one copy of it in float64."""

import torch

from tritonvision.exporters.libraries.torch_network import TorchNetwork


class Doubler(TorchNetwork):
    packages = ("numpy",)

    def export(self, path, role=""):
        """Nothing."""

    def tensors(self, inputs, double=False, role=""):
        """Nothing."""

    def predict(self, sample, parameters, role=""):
        """Nothing."""


def test_the_copy_in_float64_is_made_once_and_leaves_the_module_alone():
    network = Doubler(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout()))
    single, double = network.reference(), network.reference(double=True)
    assert network.reference(double=True) is double and network.reference() is single
    assert not single.training and not double.training
    assert (single[0].weight.dtype, double[0].weight.dtype) == (torch.float32, torch.float64)
    assert torch.equal(single[0].weight.double(), double[0].weight)


def test_the_manifest_gets_the_versions_of_the_packages_that_took_part():
    assert set(Doubler(torch.nn.Identity()).versions) == {"torch", "onnx", "onnxslim", "numpy"}
