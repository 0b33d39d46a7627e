"""The reference of a torch network: one module, and one copy of it in float64."""

import torch  # isort: skip

import copy
import subprocess
import sys

import pytest

from tritonvision.errors import ExportFailed
from tritonvision.exporters.libraries import torch_network
from tritonvision.exporters.libraries.torch_network import TorchNetwork

SIZE = 10 * 1500 * 1500 * 4  # bytes of the weights of a network that is large enough to be seen


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


class Tied(torch.nn.Module):
    """Two layers with one weight, a buffer, and a bias that is small."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(200, 200), torch.nn.Linear(200, 200)
        self.second.weight = self.first.weight
        self.register_buffer("table", torch.arange(20_000))

    def forward(self, values):
        return self.second(self.first(values)) + self.table[7]


def test_weights_of_a_large_network_lie_in_a_mapped_file_and_compute_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(torch_network, "APART", 1)
    network, given = Doubler(Tied()), torch.randn(3, 200)
    before, exact = network.reference()(given), copy.deepcopy(network.reference()).double()
    network.map_weights(tmp_path)
    module, double = network.reference(), network.reference(double=True)
    assert torch.equal(module(given), before) and torch.equal(double(given.double()), exact(given.double()))
    assert module.first.weight is module.second.weight and double.first.weight is double.second.weight
    assert torch.equal(module.table, torch.arange(20_000)) and double.table.dtype == torch.int64
    assert not [*tmp_path.iterdir()], "the file has no name: it ends with the process"


def test_mapped_weights_take_no_memory_of_the_process_and_small_networks_are_not_mapped(tmp_path):
    """In a process of its own: what other tests gave back there may be taken, or kept, at any moment."""
    program = f"""
import torch
from pathlib import Path
from tritonvision.exporters.libraries import torch_network

def own_memory():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

class Network(torch_network.TorchNetwork):
    packages = ()
    export = tensors = predict = None

Network.__abstractmethods__ = frozenset()
network = Network(torch.nn.Sequential(*(torch.nn.Linear(1500, 1500) for _ in range(10))))
folder = Path({str(tmp_path)!r})
network.map_weights(folder)
print(own_memory())
torch_network.APART = {SIZE}
network.map_weights(folder)
print(own_memory())
network.reference(double=True)
print(own_memory())
"""
    told = subprocess.check_output([sys.executable, "-c", program], text=True)
    held, mapped, doubled = map(int, told.split())
    assert mapped < held - 0.8 * SIZE and doubled < held - 0.7 * SIZE


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
