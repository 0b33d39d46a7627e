"""NVILA at reduced sizes: its graphs compute what transformers' SigLIP and Qwen2 compute, its prompts are those that
the author's code makes, written anew in the family's reference.
"""

import torch  # isort: skip

import shutil

import chat_families as support
import numpy as np
import pytest
from attention import check_attention, examples_of
from chat_families import PICTURE, says
from safetensors.torch import load_file

from tritonvision import catalog
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import nvila
from tritonvision.exporters.families.nvila import configs, synthetic
from tritonvision.exporters.parity import sample_pictures
from tritonvision.python_backend.vlm.nvila import Reader

SIZES = [(1, 1), (1, 700), (64, 64), (64, 512), (91, 77), (200, 401), (300, 299), (999, 37)]
QUESTION = [says(PICTURE, "What is it?")]

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module", params=["reduced", "reduced-lite"])
def network(request):
    """Three scales that are merged, and one."""
    return nvila.NVILANetwork(*synthetic.random(configs.config(request.param), 0), "seed 0")


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    return support.export(network, tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def nets(network, graphs):
    return support.open_nets(network, graphs)


def test_a_reduced_network_is_of_the_kind_of_the_id_that_it_stands_for():
    for model_id, name in nvila.REDUCED_AS.items():
        assert configs.plain(model_id).architectures == configs.plain(name).architectures


def same_prompt(network, sample):
    """Asserts that the reader and the reference give the same prompt and the same tiles for ``sample``."""
    ours, want = support.reader(network, Reader), network.read(sample)
    got = ours.read(sample["messages"], [picture.shape[:2] for picture in sample["pictures"]])
    np.testing.assert_array_equal(got.input_ids, want["input_ids"][0].numpy())
    assert len(want["pictures"]) == len(sample["pictures"]) == len(got.details)
    for picture, detail, (tiles, _) in zip(sample["pictures"], got.details, want["pictures"], strict=True):
        pixels = ours.vision_inputs(picture, detail)["pixels"].reshape(-1, *tiles.shape[2:], 3)
        np.testing.assert_allclose(
            (pixels.astype(np.float32) / 255 - 0.5) / 0.5, tiles.numpy().transpose(0, 2, 3, 1), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("role", ["vision", "embed", "decoder"])
def test_a_graph_computes_what_the_model_computes(network, nets, role):
    support.check_graph(network, nets, role)


def test_a_padded_row_gives_the_same_logits_as_alone(network, nets):
    support.check_padding(network, nets["decoder"])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_tiles_of_a_picture_are_the_authors(network, height, width):
    same_prompt(network, {"messages": QUESTION, "pictures": [sample_pictures.noise(height, width)]})


@pytest.mark.parametrize("name", support.CONVERSATIONS)
def test_a_conversation_is_what_the_author_makes_of_it(network, name):
    same_prompt(network, support.sample(*support.CONVERSATIONS[name]))


def test_answers_are_those_of_generate(network, graphs):
    support.check_answers(network, graphs, nvila.FAMILY)


@pytest.mark.parametrize("name", ["reduced", "reduced-lite"])
def test_a_users_folder_is_read_as_it_was_written(name, tmp_path):
    """In the layout of the released checkpoints, whose tower has a prefix that transformers has dropped."""
    nvila.save_reduced(tmp_path / "mine", name=name)
    stored = load_file(tmp_path / "mine" / "model.safetensors")
    assert "vision_tower.vision_model.embeddings.patch_embedding.weight" in stored
    assert {"mm_projector.layers.1.weight", "llm.model.embed_tokens.weight", "llm.lm_head.weight"} <= set(stored)
    entry = catalog.find("nvila" if name == "reduced" else "nvila-lite-2b")
    network = nvila.FAMILY.build(entry, Weights("user", path=tmp_path / "mine"))
    again = network._model.state_dict()
    assert torch.equal(again["llm.lm_head.weight"], stored["llm.lm_head.weight"])
    assert dict(network.entry_points[0].options)["scales"] == (3 if name == "reduced" else 1)
    shutil.copytree(tmp_path / "mine", tmp_path / "bare", ignore=shutil.ignore_patterns("preprocessor_config.json"))
    with pytest.raises(ExportFailed, match="lacks the files of the processor"):
        nvila.FAMILY.build(entry, Weights("user", path=tmp_path / "bare"))


def test_a_folder_of_another_architecture_is_refused(tmp_path):
    nvila.save_reduced(tmp_path / "mine", name="reduced-lite")
    config = tmp_path / "mine" / "config.json"
    config.write_text(config.read_text().replace("NVILALiteForConditionalGeneration", "SomethingElse"))
    with pytest.raises(ExportFailed, match="not those of Efficient-Large-Model/NVILA-Lite-2B-hf"):
        nvila.FAMILY.build(catalog.find("nvila-lite-2b"), Weights("user", path=tmp_path / "mine"))


def test_queries_and_keys_of_random_weights_have_an_effect(network):
    check_attention(network, nvila.FAMILY.tolerance, examples_of(network, "vision", "decoder"))
