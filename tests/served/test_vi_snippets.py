"""The snippets of Vi's own document (https://vi.developers.datature.com) as printed, but for the import line.

The model has every part of SmolVLM at a reduced size and random weights: what it says means nothing.
"""

from __future__ import annotations

import pytest
from vi_runs import KEY, ORGANIZATION, PHRASES, RUN, at_place

from tritonvision import ViModel
from tritonvision.vi.errors import ViConfigurationError, ViError

DESCRIBED = ("image.jpg", "image1.jpg", "image2.jpg", "image3.jpg", "car.jpg", "person.jpg", "building.jpg")
ONE_OR_MANY = """
# Single image
result, error = model(
    source="image.jpg",
    user_prompt="Describe this image"
)

# Multiple images
results = model(
    source=["image1.jpg", "image2.jpg"],
    user_prompt="Describe this image",
    show_progress=True
)

# Folder
results = model(
    source="./images/",
    user_prompt="Describe this image",
    recursive=True
)
"""
CONFIGURED = """
result, error = model(
    source="image.jpg",
    user_prompt="Describe this image",
    generation_config={
        "max_new_tokens": 256,
        "temperature": 0.7,
        "top_p": 0.9
    }
)
"""
QUESTION = """
result, error = model(
    source="image.jpg",
    user_prompt="What color is the car in this image?"
)

if error is None:
    print(f"Answer: {result.caption}")
"""
GROUNDING = """
# With custom prompt
result, error = model(
    source="image.jpg",
    user_prompt="Identify all objects"
)

# Without prompt (uses default)
result, error = model(source="image.jpg")

if error is None and hasattr(result, 'grounded_phrases'):
    for phrase in result.grounded_phrases:
        print(f"Phrase: {phrase.phrase}")
        print(f"BBox: {phrase.bbox}")
"""
ZIPPED = """
images = ["image1.jpg", "image2.jpg", "image3.jpg"]

results = model(
    source=images,
    user_prompt="Describe this image",
    show_progress=True
)

for image, (result, error) in zip(images, results):
    if error is None:
        print(f"{image}: {result.caption}")
    else:
        print(f"{image} failed: {error}")
"""
FOLDER = """
results = model(
    source="./images/",
    user_prompt="What's in this image?",
    recursive=True,
    show_progress=True
)

for result, error in results:
    if error is None:
        print(f"Caption: {result.caption}")
"""
EACH_ITS_PROMPT = """
images = ["car.jpg", "person.jpg", "building.jpg"]
prompts = [
    "What color is the car?",
    "How many people?",
    "What type of building?"
]

results = model(
    source=images,
    user_prompt=prompts,
    show_progress=True
)
"""
HANDLED = """
result, error = model(
    source="image.jpg",
    user_prompt="Describe this image"
)

if error is not None:
    if isinstance(error, FileNotFoundError):
        print("Image not found")
    elif "out of memory" in str(error):
        print("GPU out of memory")
        torch.cuda.empty_cache()
    else:
        print(f"Error: {error}")
else:
    print(f"Result: {result.caption}")
"""


@pytest.fixture(scope="module", autouse=True)
def place(publish_as, tmp_path_factory):
    """A folder with the pictures that the document names, and a repository with its runs."""
    pictures = *DESCRIBED, "images/one.jpg", "images/deep/two.jpg"
    with at_place(publish_as, tmp_path_factory.mktemp("vi"), pictures) as root:
        yield root


@pytest.fixture
def snippet(capsys):
    """``snippet(printed, run)``: the names that it leaves, and what it prints."""

    def run(printed: str, run_id: str = RUN) -> tuple[dict, str]:
        names = {"ViModel": ViModel, "model": ViModel(secret_key=KEY, organization_id=ORGANIZATION, run_id=run_id)}
        exec(compile(printed, "the document", "exec"), names)
        return names, capsys.readouterr().out

    return run


@pytest.mark.parametrize("printed", [CONFIGURED, QUESTION, HANDLED], ids=["configured", "question", "handled"])
def test_one_picture_is_one_pair_as_printed(snippet, printed):
    names, said = snippet(printed)
    assert names["error"] is None and names["result"].raw_output
    assert ("print" in printed) == (names["result"].caption in said != "")


@pytest.mark.parametrize(("printed", "count"), [
    (ONE_OR_MANY, 2), (ZIPPED, 3), (FOLDER, 2), (EACH_ITS_PROMPT, 3),
], ids=["one or many", "zipped", "folder", "each its prompt"])  # fmt: skip
def test_lists_and_folders_are_lists_of_pairs_as_printed(snippet, printed, count):
    names, said = snippet(printed)
    assert len(names["results"]) == count
    assert all(error is None and result.raw_output for result, error in names["results"])
    assert "print" not in printed or all(result.caption in said for result, _ in names["results"])


def test_a_broken_picture_of_a_folder_has_its_error_and_the_others_their_answers(snippet, place):
    (place / "images" / "broken.jpg").write_bytes(b"no picture")
    try:
        names, said = snippet(FOLDER)
    finally:
        (place / "images" / "broken.jpg").unlink()
    (broken, error), *others = names["results"]
    assert broken is None and isinstance(error, ViError) and "not a picture" in str(error)
    assert len(others) == 2 and all(error is None and result.caption in said for result, error in others)


def test_phrases_are_grounded_as_printed(snippet):
    names, _ = snippet(GROUNDING, PHRASES)
    assert names["error"] is None and isinstance(names["result"].grounded_phrases, list)


LOADED = """
model = ViModel(
    secret_key="your-secret-key",
    organization_id="your-organization-id",
    run_id="your-run-id",
    device_map="auto",
    attn_implementation="flash_attention_2",
    dtype="float16",
    load_in_8bit=False,
    load_in_4bit=False
)
"""


HALF = """
model = ViModel(
    secret_key="...",
    organization_id="...",
    run_id="your-run-id",
    dtype="float16",
    device_map="auto"
)
"""


def test_a_precision_that_this_machine_lacks_is_refused_by_name():
    """As printed but for a GPU: a processor computes nothing in fp16. Those in 8 and 4 bits are built in the export
    environment, see ``tests/exporters/precision/test_vi_snippets.py``.
    """
    for printed in (LOADED, HALF):
        with pytest.raises(ViConfigurationError, match="Nothing on this machine runs 'your-run-id' in fp16"):
            exec(compile(printed, "the document", "exec"), {"ViModel": ViModel})
    names = {"ViModel": ViModel}
    exec(compile(LOADED.replace("float16", "float32"), "the document", "exec"), names)
    assert names["model"]("image.jpg", "What is this?", {"max_new_tokens": 4})[1] is None
