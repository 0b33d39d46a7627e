"""NVIDIA's parser and builder, as TensorRT for RTX has them: the one TensorRT that runs on a machine without a GPU."""

import pytest


@pytest.fixture(scope="session")
def trt():
    import tensorrt_rtx_bindings

    return tensorrt_rtx_bindings
