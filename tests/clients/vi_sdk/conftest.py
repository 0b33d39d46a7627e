"""The package imports torchvision, of which this environment may have a build without its operators."""

from tritonvision.exporters.libraries import torch_env

torch_env.import_torchvision()
