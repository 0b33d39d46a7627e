"""The reference of a torch network: one module, and one copy of it in float64."""

import torch  # isort: skip

import pytest

from tritonvision.errors import ExportFailed
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


@pytest.mark.parametrize(("name", "number", "refused"), [
    ("weight", float("nan"), True), ("bias", float("inf"), True), ("running_var", float("nan"), True),
    ("running_mean", float("-inf"), False),
])  # fmt: skip
def test_weights_that_are_no_numbers_are_refused_by_name(name, number, refused):
    """A buffer may hold infinity: masks of attention do."""
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    module.state_dict()[f"0.{name}"][1] = number
    if not refused:
        Doubler(module)
        return
    with pytest.raises(ExportFailed, match=f"NaN or infinity, first in '0.{name}'") as caught:
        Doubler(module)
    assert caught.value.hint
