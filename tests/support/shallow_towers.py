"""Perception Encoder's towers with two layers each, for tests of their form."""

import copy
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest import mock

from tritonvision.exporters.libraries import torch_env


@contextmanager
def shallow():
    """Two layers of each encoder, with every part of the true ones."""
    torch_env.import_torchvision()
    import open_clip.factory
    import open_clip.timm_model

    names = open_clip.factory._MODEL_CONFIGS
    facts = copy.deepcopy(names["PE-Core-B-16"])
    facts["text_cfg"] |= {"width": 64, "heads": 4, "layers": 2}
    facts["embed_dim"] = 48
    timm = open_clip.timm_model.timm
    with ExitStack() as patches:
        patches.enter_context(mock.patch.dict(names, {"PE-Core-B-16": facts}))
        create = partial(timm.create_model, depth=2, embed_dim=96, num_heads=4)
        patches.enter_context(mock.patch.object(open_clip.timm_model.timm, "create_model", create))
        yield
