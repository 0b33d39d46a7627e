"""How a checkpoint wants its text searched for, told from its generation_config alone."""

import torch  # noqa: F401  isort: skip

from types import SimpleNamespace

import pytest

from tritonvision.errors import ExportFailed
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.modules import encoder_decoder


def test_a_checkpoint_that_names_no_token_to_end_with_is_refused_by_that():
    torch_env.import_torchvision()
    from transformers import GenerationConfig

    with pytest.raises(ExportFailed, match="names no eos_token_id, so nothing would end a text") as caught:
        encoder_decoder.search_of(SimpleNamespace(generation_config=GenerationConfig(max_length=9)))
    assert caught.value.hint
    found = encoder_decoder.search_of(SimpleNamespace(generation_config=GenerationConfig(max_length=9, eos_token_id=2)))
    assert found["ends"] == [2] and found["most"] == 8
