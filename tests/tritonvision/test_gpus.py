"""What is told of a GPU, with NVIDIA's library replaced by a double: these tests run where there is no GPU."""

from types import SimpleNamespace

import pytest

from tritonvision import gpus


class NVMLError(Exception):
    pass


def library(names, mig=False, initialises=True):
    """A double with the calls of ``pynvml`` that are made, which count how often it was opened and closed."""
    opened = []

    def refuse(*_):
        raise NVMLError

    return SimpleNamespace(
        NVMLError=NVMLError, NVML_DEVICE_MIG_ENABLE=1, opened=opened,
        nvmlInit=(lambda: opened.append("in")) if initialises else refuse,
        nvmlShutdown=lambda: opened.append("out"),
        nvmlDeviceGetCount=lambda: len(names), nvmlDeviceGetHandleByIndex=lambda index: names[index],
        nvmlDeviceGetCudaComputeCapability=lambda handle: (9, 0), nvmlSystemGetCudaDriverVersion_v2=lambda: 12080,
        nvmlDeviceGetName=lambda handle: handle,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=7),
        nvmlDeviceGetMigMode=(lambda handle: (1, 1)) if mig else refuse,
        nvmlDeviceGetMigDeviceHandleByIndex=lambda handle, index: f"{handle} MIG 1g.18gb",
    )  # fmt: skip


def test_a_whole_gpu_and_a_part_of_one_are_told():
    nvml = library(["NVIDIA H200"])
    assert gpus.first(nvml) == gpus.Gpu("NVIDIA H200", "9.0", "", "12.8", 7)
    assert nvml.opened == ["in", "out"]
    assert gpus.first(library([b"NVIDIA H200"])).name == "NVIDIA H200"
    assert gpus.first(library(["NVIDIA H200"], mig=True)) == gpus.Gpu("NVIDIA H200", "9.0", "1g.18gb", "12.8", 7)


@pytest.mark.parametrize("nvml", [library([]), library(["NVIDIA H200"], initialises=False)])
def test_no_gpu_and_no_driver_are_none(nvml):
    assert gpus.first(nvml) is None
