"""The pre step of texts: each to the ids of one context, or a refusal that says why."""

import numpy as np
import pytest

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend import tokens


@pytest.fixture
def step(triton, tmp_path, byte_level):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "words.json").write_text(byte_level(["<end>"]).to_str())
    made = tokens.TritonPythonModel()
    made.initialize(triton.args(tmp_path, {"tokenizer": "words.json", "context": "12"}))
    return made


def test_texts_become_rows_of_one_length_padded_with_zeros(step, triton, byte_level):
    found = step.answer({"text": triton.texts(b"the fox", b"")}, [])["input_ids"]
    ids = byte_level(["<end>"]).encode("the fox").ids
    assert found.dtype == np.int64 and found.tolist() == [ids + [0] * (12 - len(ids)), [0] * 12]


@pytest.mark.parametrize(("text", "parameters", "sentence"), [
    (b"\xff", {}, "not UTF-8"),
    (b"fox " * 40, {}, "longer than 10 tokens"),
    (b"fox", {"loudness": 1}, "'loudness'"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused(step, triton, text, parameters, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        step.answer({"text": triton.texts(text), "parameters": triton.texts(parameters)}, [])
