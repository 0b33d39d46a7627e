"""The snippets of Vi's own document that ask for 8 and 4 bits, as printed but for the import line and the run.

They build a decoder, which takes the packages of an export. The others are in ``tests/served/test_vi_snippets.py``.
"""

import pytest
from vi_runs import RUN, at_place

from tritonvision import ViModel
from tritonvision.exporters import variants
from tritonvision.exporters.precision import decoding
from tritonvision.vi.errors import ViError

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.fixture(scope="module")
def place(publish_as, tmp_path_factory):
    """A folder with a picture, and a repository with the run."""
    with at_place(publish_as, tmp_path_factory.mktemp("vi"), ["image.jpg"]) as root:
        yield root


def loaded(bits):
    """``model``, as the document prints it."""
    printed = f"""
model = ViModel(
    secret_key="...",
    organization_id="...",
    run_id="{RUN}",
    load_in_{bits}bit=True,
    device_map="auto"
)
"""
    names = {"ViModel": ViModel}
    exec(compile(printed, "the document", "exec"), names)
    return names["model"]


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_in_fewer_bits_are_built_and_judged(place, bits):
    """Random weights do not bear it, which the gate's sentence says."""
    with pytest.raises(ViError, match=f"int{bits}.* must be at least 0.99"):
        loaded(bits)


def test_weights_in_8_bits_that_are_published_are_chosen_and_answer(place, monkeypatch):
    monkeypatch.setattr(decoding, "TRIES", 16)  # of random weights more layers have to be tried: many tokens nearly tie
    variants.add(place / "repository", RUN, "onnxruntime", "int8")
    result, error = loaded(8)("image.jpg", "What is this?", {"max_new_tokens": 4})
    assert error is None and result.raw_output
