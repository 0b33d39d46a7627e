"""InternVL 3.5 at a reduced size: its graphs compute the outputs of transformers' model, its prompts are those of the
processor, its answers are those of ``generate``.
"""

import torch  # isort: skip

import shutil

import chat_families as support
import numpy as np
import pytest
from attention import check_attention, examples_of
from chat_families import PICTURE, says
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tritonvision import catalog
from tritonvision.errors import ExportFailed
from tritonvision.exporters import registry
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import internvl_3_5 as internvl
from tritonvision.exporters.families.internvl_3_5 import configs, synthetic
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.parity import sample_pictures
from tritonvision.python_backend.vlm.internvl import MARKS, Reader

ENTRY = catalog.find("internvl3.5-1b")
PARAMETERS = 1_060_897_792  # of the smallest, as it was released
SIZES = [(1, 1), (1, 700), (64, 64), (64, 512), (91, 77), (200, 401), (300, 299), (120, 150), (999, 37)]
QUESTION = [says(PICTURE, "What is it?")]
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module")
def network():
    return internvl.InternVLNetwork(*synthetic.random(configs.config("reduced"), 0), "seed 0")


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    return support.export(network, tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def nets(network, graphs):
    return support.open_nets(network, graphs)


def same_pixels(tiles, want):
    """Asserts that normalising ``tiles`` gives the processor's ``pixel_values``."""
    np.testing.assert_allclose((tiles / np.float32(255) - MEAN) / STD, want.transpose(0, 2, 3, 1), rtol=0, atol=1e-5)


def same_prompt(network, sample):
    """Asserts that the reader and the library's processor give the same prompt for ``sample``; returns the tiles."""
    ours, want = support.reader(network, Reader), network.read(sample)
    got = ours.read(sample["messages"], [picture.shape[:2] for picture in sample["pictures"]])
    np.testing.assert_array_equal(got.input_ids, want["input_ids"][0].numpy())
    if not sample["pictures"]:
        assert "pixel_values" not in want
        return np.zeros(0)
    tiles = np.concatenate([ours.vision_inputs(picture)["pixels"] for picture in sample["pictures"]])
    same_pixels(tiles, want["pixel_values"].numpy())
    return tiles


@pytest.mark.parametrize("role", ["vision", "embed", "decoder"])
def test_a_graph_computes_what_the_model_computes(network, nets, role):
    support.check_graph(network, nets, role)


def test_the_tower_of_the_largest_normalises_its_queries(tmp_path):
    """InternViT-6B: root mean squares, also of queries and keys, and attention without biases."""
    config = configs.config("reduced")
    for name in ("use_qk_norm", "norm_type", "attention_bias"):
        setattr(config.vision_config, name, configs._TOWERS["6b"].get(name, False))
    large = internvl.InternVLNetwork(*synthetic.random(config, 1), "seed 1")
    assert large.parts(large._model).tower.encoder.layer[0].attention.q_proj.bias is None
    large.export(tmp_path / "vision.onnx", "vision")
    support.check_graph(large, support.open_nets(large, {net.role: tmp_path / "vision.onnx" for net in
                                                         large.entry_points[0].nets}), "vision")  # fmt: skip


def test_a_padded_row_gives_the_same_logits_as_alone(network, nets):
    support.check_padding(network, nets["decoder"])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_tiles_of_a_picture_are_the_processors(network, height, width):
    tiles = same_prompt(network, {"messages": QUESTION, "pictures": [sample_pictures.noise(height, width)]})
    assert tiles.shape[1:] == (64, 64, 3) and 1 <= len(tiles) <= 13


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 400), width=st.integers(1, 400))
def test_the_tiles_of_any_picture_are_the_processors(network, height, width):
    same_prompt(network, {"messages": QUESTION, "pictures": [sample_pictures.noise(height, width)]})


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_picture_of_low_detail_is_the_processors_with_one_tile(network, height, width):
    picture = sample_pictures.noise(height, width)
    low = [says(PICTURE | {"detail": "low"}, "What is it?")]
    text = network._processor.apply_chat_template(low, add_generation_prompt=True)
    want = network._processor(text=[text], images=[Image.fromarray(picture)], max_patches=1, return_tensors="np")
    ours = support.reader(network, Reader)
    np.testing.assert_array_equal(ours.read(low, [(height, width)]).input_ids, want["input_ids"][0])
    same_pixels(ours.vision_inputs(picture, "low")["pixels"], want["pixel_values"])


@pytest.mark.parametrize(("view", "count"), [("photo", 1), ("wide-512x260", 3)])
def test_the_tiles_of_the_true_size_are_the_processors(view, count):
    """Tiles of 448 pixels and 256 tokens, without the network."""
    true = object.__new__(internvl.InternVLNetwork)
    true._processor = synthetic.random_processor(configs.config("internvl3.5-1b"))
    true.entry_points = internvl.FAMILY.entry_points(ENTRY)
    tiles = same_prompt(true, {"messages": QUESTION, "pictures": [support.VIEWS[view]]})
    assert tiles.shape == (count, 448, 448, 3)


@pytest.mark.parametrize("name", support.CONVERSATIONS)
def test_a_conversation_is_what_the_chat_template_makes_of_it(network, name):
    same_prompt(network, support.sample(*support.CONVERSATIONS[name]))


def test_the_marks_of_places_are_read_as_the_processor_reads_them(network):
    same_prompt(network, {"messages": [says("Where is <ref>the cat</ref>? <box>[[1, 2, 3, 4]]</box>")], "pictures": []})


def test_answers_are_those_of_generate(network, graphs):
    support.check_answers(network, graphs, internvl.FAMILY)


def test_an_answer_keeps_the_marks_of_places_and_no_other_special_token(network):
    ids = torch.tensor([configs.SPECIAL[token] for token in ("<ref>", "<box>", "</box>", "<img>", "<|im_end|>")])
    assert network.words.decode(ids, skip_special_tokens=True) == "<ref><box></box>"
    assert set(MARKS) <= set(configs.SPECIAL)


def test_a_folder_without_its_processor_is_refused(network, tmp_path):
    network.save(tmp_path / "mine")
    shutil.copytree(tmp_path / "mine", tmp_path / "bare", ignore=shutil.ignore_patterns("*processor_config.json"))
    with pytest.raises(ExportFailed, match="lacks the files of the processor") as caught:
        internvl.FAMILY.build(ENTRY, Weights("user", path=tmp_path / "bare"))
    assert "save_pretrained" in caught.value.hint


def test_the_sizes_are_the_published_ones():
    from transformers import InternVLForConditionalGeneration

    for entry in (e for e in catalog.entries().values() if e.family == "InternVL 3.5"):
        with torch.device("meta"), transformers_weights.quiet():
            model = InternVLForConditionalGeneration(configs.config(entry.id))
        count = sum(parameter.numel() for parameter in model.parameters())
        assert abs(count / 1e6 / entry.params_m - 1) < 0.01, entry.id
        if entry is ENTRY:
            assert count == PARAMETERS


def test_every_size_has_a_repository_of_its_own():
    family = registry.find("InternVL 3.5")
    entries = [entry for entry in catalog.entries().values() if entry.family == "InternVL 3.5"]
    assert len(entries) == 6 == len({family.repository(entry) for entry in entries})
    assert all(family.repository(entry) in entry.aliases for entry in entries)


def test_queries_and_keys_of_random_weights_have_an_effect(network):
    check_attention(network, internvl.FAMILY.tolerance, examples_of(network, "vision", "decoder"))
