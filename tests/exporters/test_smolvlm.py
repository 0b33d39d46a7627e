"""SmolVLM at a reduced size: its graphs compute the outputs of transformers' model, its prompts are those of the
processor, its answers are those of ``generate``.
"""

import torch  # isort: skip

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor

import chat_families
import numpy as np
import pytest
import tokenizers
from attention import check_attention, examples_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tritonvision import catalog, graph_files
from tritonvision.ensembles.in_process import LocalChat, LocalNet
from tritonvision.errors import ExportFailed
from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import NoSignal, Weights
from tritonvision.exporters.families import smolvlm
from tritonvision.exporters.graphs import check, storage
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.chat import Chat
from tritonvision.publication import Repository
from tritonvision.python_backend.vlm.smolvlm import Reader

ENTRY = catalog.find("smolvlm-256m")
PARAMETERS = 256_484_928  # of smolvlm-256m
LIMIT = 2e-5  # of logits that spread by 3
PICTURE = {"type": "image"}
VIEWS = sample_pictures.views()
SIZES = [(1, 1), (1, 700), (64, 512), (512, 63), (91, 77), (200, 401), (256, 256), (257, 256), (300, 299), (999, 37)]
QUESTION = [{"role": "user", "content": [PICTURE, {"type": "text", "text": "What is it?"}]}]


pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module")
def network():
    return smolvlm.SmolVLMNetwork(*smolvlm.random(smolvlm.config("reduced"), 0), "seed 0")


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    return chat_families.export(network, tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def nets(network, graphs):
    return chat_families.open_nets(network, graphs)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """The reduced network as a user's weights."""
    path = tmp_path_factory.mktemp("weights") / "mine"
    network.save(path)
    return path


@pytest.fixture(scope="module")
def parity_check(network):
    return Chat(network.entry_points[0], network, smolvlm.FAMILY.tolerance, "random")


@pytest.fixture(scope="module")
def cases(parity_check):
    """The conversations with the answers of ``generate``."""
    return parity_check.cases()


def test_a_decoder_whose_weights_lie_beside_its_graph_computes_the_same(network, nets, tmp_path, monkeypatch):
    """As those of the larger models, which one file cannot hold."""
    monkeypatch.setattr(storage, "INSIDE", 1)
    for role, local in nets.items():
        path = tmp_path / role / "model.onnx"
        path.parent.mkdir()
        network.export(path, role)
        check.check(path, local.net)
        assert graph_files.data_file(path).is_file() == (role != "vision")  # the reduced one has no large weight
        inputs = list(network.examples(role).values())[-1]
        got, want = LocalNet(path, local.net).tensors(inputs), local.tensors(inputs)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], atol=1e-6, err_msg=f"{role} {name}")


def reader(network):
    tokenizer = tokenizers.Tokenizer.from_str(network.assets("")["tokenizer.json"].decode())
    return Reader(dict(network.entry_points[0].options), tokenizer)


def same_prompt(network, sample):
    """Asserts that the reader and the library's processor give the same prompt for ``sample``; returns the tiles."""
    ours, want = reader(network), network.read(sample)
    got = ours.read(sample["messages"], [picture.shape[:2] for picture in sample["pictures"]])
    np.testing.assert_array_equal(got.input_ids, want["input_ids"][0].numpy())
    if not sample["pictures"]:
        assert "pixel_values" not in want
        return np.zeros(0)
    assert want["pixel_attention_mask"].bool().all()
    tiles = np.concatenate([ours.vision_inputs(picture)["pixels"] for picture in sample["pictures"]])
    pixels = want["pixel_values"][0].numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(tiles, np.rint((pixels * 0.5 + 0.5) * 255).astype(np.uint8))
    np.testing.assert_allclose((tiles.astype(np.float32) / 255 - 0.5) / 0.5, pixels, rtol=0, atol=1e-6)
    return tiles


@pytest.mark.parametrize("role", ["vision", "embed", "decoder"])
def test_a_graph_computes_what_the_model_computes(network, nets, role):
    for inputs in network.examples(role).values():
        got, want = nets[role].tensors(inputs), network.tensors(inputs, role=role)
        for name, value in want.items():
            assert got[name].shape == value.shape, name
            assert np.abs(got[name] - value).max() <= LIMIT, name
    outputs = nets[role].net.outputs[0].name
    assert want[outputs].std() > 0.1


@pytest.mark.parametrize(("past", "new"), [(0, 9), (13, 1), (7, 4)])
def test_a_padded_row_gives_the_same_logits_as_alone(network, nets, past, new):
    config, padding = network._model.config.text_config, 5 if not past else 4
    both = causal_decoder.example(config, batch=2, past=past, new=new, padding=padding)
    alone = {name: value[:1] for name, value in both.items()}
    if past:  # the padding is in the cache
        alone = {n: v[:, :, padding:] if n.startswith("past") else v for n, v in alone.items()}
    else:  # the padding is in the prompt
        alone |= {name: alone[name][:, padding:] for name in ("inputs_embeds", "position_ids")}
    alone["attention_mask"] = alone["attention_mask"][:, padding:]
    got, want = nets["decoder"].tensors(both), nets["decoder"].tensors(alone)
    np.testing.assert_allclose(got["logits"][:1], want["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(got["present.2.key"][:1, :, padding:], want["present.2.key"], rtol=0, atol=1e-5)


def test_the_contents_of_padding_have_no_effect(network, nets):
    given = causal_decoder.example(network._model.config.text_config, batch=2, past=6, new=1, padding=6)
    want = nets["decoder"].tensors(given)["logits"]
    for name in given:
        if name.startswith("past"):
            given[name][0] = 50
    np.testing.assert_array_equal(nets["decoder"].tensors(given)["logits"], want)


def test_a_prompt_gives_the_same_logits_at_once_and_token_by_token(network, nets):
    config = network._model.config.text_config
    whole = causal_decoder.example(config, batch=1, past=0, new=6)
    want = nets["decoder"].tensors(whole)
    cache = {name: value for name, value in whole.items() if name.startswith("past")}
    for place in range(6):
        step = {name: whole[name][:, place : place + 1] for name in ("inputs_embeds", "position_ids")}
        got = nets["decoder"].tensors({**step, "attention_mask": whole["attention_mask"][:, : place + 1], **cache})
        cache = {name: got[name.replace("past_key_values", "present")] for name in cache}
    np.testing.assert_allclose(got["logits"], want["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_tiles_of_a_picture_are_the_processors(network, height, width):
    picture = sample_pictures.noise(height, width)
    tiles = same_prompt(network, {"messages": QUESTION, "pictures": [picture]})
    assert tiles.shape[1:] == (64, 64, 3) and len(tiles) in (5, 9, 13, 17)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 400), width=st.integers(1, 400))
def test_the_tiles_of_any_picture_are_the_processors(network, height, width):
    same_prompt(network, {"messages": QUESTION, "pictures": [sample_pictures.noise(height, width)]})


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_picture_of_low_detail_is_the_processors_without_splitting(network, height, width):
    picture = sample_pictures.noise(height, width)
    low = [{"role": "user", "content": [PICTURE | {"detail": "low"}, {"type": "text", "text": "What is it?"}]}]
    text = network._processor.apply_chat_template(low, add_generation_prompt=True)
    want = network._processor(text=[text], images=[[Image.fromarray(picture)]], do_image_splitting=False,
                              return_tensors="np")  # fmt: skip
    ours = reader(network)
    np.testing.assert_array_equal(ours.read(low, [(height, width)]).input_ids, want["input_ids"][0])
    (tile,) = ours.vision_inputs(picture, "low")["pixels"]
    pixels = want["pixel_values"][0, 0].transpose(1, 2, 0)
    np.testing.assert_array_equal(tile, np.rint((pixels * 0.5 + 0.5) * 255).astype(np.uint8))


@pytest.mark.parametrize(("name", "side"), [("smolvlm-256m", 512), ("smolvlm-2.2b", 384)])
@pytest.mark.parametrize("view", ["photo", "wide-512x260", "odd-220x316"])
def test_the_tiles_of_the_true_size_are_the_processors(view, name, side):
    """Tiles of 512 pixels and 64 tokens, or of 384 and 81, without the network."""
    true = object.__new__(smolvlm.SmolVLMNetwork)
    true._processor = smolvlm.random_processor(smolvlm.config(name))
    true.entry_points = smolvlm.FAMILY.entry_points(catalog.find(name))
    tiles = same_prompt(true, {"messages": QUESTION, "pictures": [VIEWS[view]]})
    assert tiles.shape[1:] == (side, side, 3) and len(tiles) == {"photo": 17}.get(view, 13)


def texts(*parts):
    return [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]


@pytest.mark.parametrize(
    ("messages", "pictures"),
    [
        ([{"role": "user", "content": texts("Who are you?")}], 0),
        ([{"role": "system", "content": texts("Brief. ")}, {"role": "user", "content": texts(" Hi  ", "\n\nyou")}], 0),
        ([{"role": "user", "content": texts("One: ", PICTURE, "\ntwo:", PICTURE, " Which?")}], 2),
        ([{"role": "user", "content": texts(PICTURE, PICTURE, PICTURE)}], 3),
        (
            [
                {"role": "user", "content": texts(PICTURE, "What is it?")},
                {"role": "assistant", "content": texts("A cat, 12 years old.")},
                {"role": "user", "content": texts("Grüße 😀 \t and 2026?", PICTURE)},
            ],
            2,
        ),
    ],
    ids=["text", "system", "two pictures", "pictures alone", "conversation"],
)  # fmt: skip
def test_a_conversation_is_what_the_chat_template_makes_of_it(network, messages, pictures):
    some = [VIEWS[name] for name in ("tiny-91x77", "wide-512x260", "tall-300x512")][:pictures]
    same_prompt(network, {"messages": messages, "pictures": some})


def test_answers_are_those_of_generate(network, graphs, parity_check, cases):
    """24 greedy tokens about a picture, two, none and in a conversation: alone, and all at once."""
    chat = LocalChat(graphs, network.entry_points[0], network.assets(""))
    try:
        answers = [chat(case.sample, case.given) for case in cases]
        with ThreadPoolExecutor(len(cases)) as callers:
            together = list(callers.map(lambda case: chat(case.sample, case.given), cases))
        parity_check.demand_signal(chat, cases)
    finally:
        chat.close()
    for case, answer, beside in zip(cases, answers, together, strict=True):
        for got in (answer, beside):
            assert parity_check.compare(got, case) == (24, 0, {"tokens": 0, "words": 0})
        assert answer["usage"].tolist() == case.wanted["usage"].tolist()
        assert answer["finish_reason"][0] == case.wanted["finish_reason"][0] == "length"
        assert len(set(case.wanted["token_ids"].tolist())) >= 8


def test_the_check_refuses_answers_that_ignore_the_picture(parity_check, cases):
    with pytest.raises(ExportFailed, match="do not depend on the picture"):
        parity_check.demand_signal(lambda sample, given: cases[3].wanted, cases)


def test_the_check_refuses_answers_that_repeat_a_token(parity_check, cases):
    ids = np.tile([3, 4, 5], 8)
    loop = [dataclasses.replace(cases[0], wanted=cases[0].wanted | {"token_ids": ids}), *cases[1:]]
    with pytest.raises(NoSignal, match="3 different tokens"):  # with random weights the export takes another seed
        parity_check.demand_signal(lambda sample, given: cases[3].wanted, loop)


def test_trained_weights_may_answer_everything_with_one_word(network, parity_check, cases):
    """A fine-tune whose answers are "2" is exported: what it says is compared all the same."""
    two = cases[3].wanted | {"token_ids": np.array([3, 4])}
    alike = [dataclasses.replace(case, wanted=two) for case in cases]
    with pytest.raises(NoSignal):
        parity_check.demand_signal(lambda sample, given: two, alike)
    trained = type(parity_check)(network.entry_points[0], network, smolvlm.FAMILY.tolerance, "user")
    trained.demand_signal(lambda sample, given: two, alike)
    draws = iter((1, 2, 3))
    with pytest.raises(ExportFailed, match="the same seed"):
        trained.demand_signal(lambda sample, given: {"token_ids": np.array([next(draws)])}, alike)


def test_the_check_counts_differing_tokens(parity_check, cases):
    case = cases[0]
    other = case.wanted | {"token_ids": np.append(case.wanted["token_ids"][:-1] + 1, [5, 6])}
    assert parity_check.compare(other, case)[2] == {"tokens": len(case.wanted["token_ids"]) + 1, "words": 0}


def test_a_users_folder_of_another_size_goes_through_the_gate(folder, tmp_path):
    manifest = pipeline.export("smolvlm-256m", Weights("user", path=folder), tmp_path, as_id="small-smolvlm")
    assert manifest.head == "chat" and manifest.task == "vlm" and manifest.input_size == (64, 64)
    assert manifest.parity["pipeline_tokens"] == 0 and manifest.parity["tensor_logits"] <= 1e-4
    assert manifest.parity["tensor_present.key"] <= 1e-4
    assert Repository(tmp_path).get("small-smolvlm") == manifest
    files = {path.name for path in (tmp_path / "small-smolvlm" / "1").iterdir()}
    assert files >= {"model.py", "tokenizer.json", "vision.onnx", "embed.onnx", "decoder.onnx"}


def test_a_folder_without_its_processor_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("processor_config.json"))
    with pytest.raises(ExportFailed, match="lacks the files of the processor") as caught:
        smolvlm.FAMILY.build(ENTRY, Weights("user", path=tmp_path / "bare"))
    assert "save_pretrained" in caught.value.hint


def test_a_file_instead_of_a_folder_is_refused(folder):
    with pytest.raises(ExportFailed, match="are a folder") as caught:
        smolvlm.FAMILY.build(ENTRY, Weights("user", path=folder / "model.safetensors"))
    assert "save_pretrained" in caught.value.hint


def test_weights_of_another_architecture_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "other")
    state = load_file(folder / "model.safetensors")
    state.pop("lm_head.weight")
    save_file(state, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportFailed, match="not those of HuggingFaceTB/SmolVLM2-256M"):
        smolvlm.FAMILY.build(ENTRY, Weights("user", path=tmp_path / "other"))


def test_labels_are_refused(folder):
    with pytest.raises(ExportFailed, match="knows no classes"):
        smolvlm.FAMILY.build(ENTRY, Weights("user", path=folder, labels=("a",)))


def test_official_weights_that_cannot_be_downloaded_are_an_error(monkeypatch):
    import huggingface_hub

    def refuse(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(ExportFailed, match="SmolVLM2-256M-Video-Instruct/config.json could not be fetched"):
        smolvlm.FAMILY.build(ENTRY, Weights("official"))


@pytest.mark.parametrize(("name", "count"), [("smolvlm-256m", PARAMETERS), ("smolvlm-2.2b", 2_246_784_880)])
def test_the_sizes_are_the_published_ones(name, count):
    from transformers import SmolVLMForConditionalGeneration

    with torch.device("meta"):
        model = SmolVLMForConditionalGeneration(smolvlm.config(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_queries_and_keys_of_random_weights_have_an_effect(network):
    check_attention(network, smolvlm.FAMILY.tolerance, examples_of(network, "vision", "decoder"))
