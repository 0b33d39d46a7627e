"""TrOCR: the graphs compute the outputs of transformers' network, and numpy generates the tokens of ``generate()``.

Two layers and small pictures, but every variant of the parts: learned and sinusoidal positions, tied and untied
embeddings, with and without a norm after the embeddings, scaled embeddings, an encoder narrower than the decoder.
"""

import torch  # isort: skip

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from attention import check_attention, examples_of
from PIL import Image
from safetensors.torch import load_file, save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalComposition
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.contract import kind as kind_of
from tritonvision.exporters.families import trocr
from tritonvision.exporters.families.trocr import FAMILY
from tritonvision.exporters.graphs import check
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.modules import encoder_decoder
from tritonvision.exporters.parity import compare, sample_pictures, text_pages
from tritonvision.exporters.parity.checks.line import LineText
from tritonvision.exporters.synthetic.tokenizers import roberta
from tritonvision.python_backend.compositions import line_text
from tritonvision.python_backend.generation.beams import Decoder, Search, search
from tritonvision.tasks import resolve

PRINTED, LARGE = catalog.find("trocr-base-printed"), catalog.find("trocr-large-printed")
SIDE, WORDS = 64, 600
VISION = {
    "image_size": SIDE, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
TEXT = {
    "vocab_size": WORDS, "d_model": 64, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 96,
    "max_position_embeddings": 50,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def reduced():
    """The ids at the reduced size, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch_env.import_torchvision()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trocr, "_ENCODERS", {kind: found | VISION for kind, found in trocr._ENCODERS.items()})
        patch.setattr(trocr, "_DECODER", TEXT)
        for kind, found in trocr._DECODERS.items():
            patch.setitem(trocr._DECODERS, kind, {n: v for n, v in found.items() if n not in TEXT})
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[PRINTED, LARGE], ids=lambda entry: entry.id)
def model(request, reduced, tmp_path_factory):
    """Network, composition and the id."""
    network = FAMILY.build(request.param, Weights("random", seed=1))
    return network, published(network, request.param, tmp_path_factory.mktemp("graphs")), request.param


def published(network, entry, folder):
    (point,) = FAMILY.entry_points(entry)
    graphs = {net.role: folder / f"{net.role}.onnx" for net in point.nets}
    for net in point.nets:
        network.export(graphs[net.role], net.role)
        check.check(graphs[net.role], net)
    return LocalComposition(graphs, point, assets=network.assets(""))


def worst(got, want):
    return max(compare.tensor_differences("", got, want, {}, want.keys()).values())


def test_both_reduced_kinds_have_the_parts_they_stand_for(model):
    network, _, entry = model
    text = network._model.decoder
    sines = not isinstance(text.model.decoder.embed_positions, torch.nn.Embedding)
    tied = text.output_projection.weight is text.model.decoder.embed_tokens.weight
    normed = text.model.decoder.layernorm_embedding is not None
    large = entry is LARGE
    assert (sines, tied, normed) == (large, not large, not large)
    assert (text.model.decoder.embed_tokens.embed_scale == 8) == large
    assert not hasattr(network._model, "enc_to_dec_proj")


def test_queries_and_keys_of_random_weights_have_an_effect(model):
    network, *_ = model
    check_attention(network, FAMILY.tolerance, examples_of(network, "encoder", "decoder"))


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_graphs_compute_the_networks_tensors(model, role):
    network, local, _ = model
    for what, inputs in network.examples(role).items():
        got, want = local.nets[role].tensors(inputs), network.tensors(inputs, role=role)
        assert worst(got, want) <= 1e-5, what
        assert all(value.std() > 0.1 for value in want.values()), what


def test_float64_reference_agrees_with_float32(model):
    network, _, _ = model
    for role in ("encoder", "decoder"):
        inputs = list(network.examples(role).values())[-1]
        single, double = network.tensors(inputs, role=role), network.tensors(inputs, double=True, role=role)
        assert all(value.dtype == np.float64 for value in double.values())
        assert worst(single, double) <= 1e-5


def test_tokens_give_the_same_logits_at_once_and_one_by_one(model):
    network, local, _ = model
    inputs = network._prompt(samples=1, beams=2, tokens=6, before=0)
    at_once = local.nets["decoder"].tensors(inputs)
    past = {name: value for name, value in inputs.items() if name != "input_ids"}
    for ids in inputs["input_ids"].T:
        found = local.nets["decoder"].tensors({"input_ids": ids[:, None], **past})
        past |= {n.replace("present", "past_key_values"): v for n, v in found.items() if n != "logits"}
    assert worst(found, at_once) <= 1e-5


def test_continuations_of_a_sample_give_the_same_logits_as_alone(model):
    network, local, _ = model
    inputs = network._prompt(samples=2, beams=3, tokens=2, before=4)
    repeated = {n: v.repeat(3, 0) if n.startswith("cross") else v for n, v in inputs.items()}
    together, alone = (local.nets["decoder"].tensors(each) for each in (inputs, repeated))
    assert worst(together, alone) <= 1e-5
    # and the samples differ: with the other sample's keys and values the logits would be others
    swapped = {n: v[::-1].copy() if n.startswith("cross") else v for n, v in inputs.items()}
    assert worst(local.nets["decoder"].tensors(swapped), together) > 0.05


def test_the_processors_own_pixels(model):
    network, _, _ = model
    for name, picture in [*sample_pictures.views().items(), ("line", text_pages.line("Total 4.20"))]:
        want = network.processor(picture, return_tensors="np").pixel_values[0].transpose(1, 2, 0)
        got = (line_text.frame(picture, SIDE) / 255 - 0.5) / 0.5
        assert np.abs(want - got).max() <= 1e-6, name


def test_the_gates_check_finds_signal_and_no_difference(model):
    network, local, entry = model
    count, missing, figures = LineText(local.point, network, FAMILY.tolerance, "random").run(local)
    assert count > 80 and missing == 0 and figures == {"tokens": 0, "words": 0}, entry.id


@pytest.mark.parametrize("view", ["line", "noise", "white", "one pixel", "thin"])
def test_the_composition_writes_what_processor_and_generate_write(model, view):
    network, local, _ = model
    picture = {
        "line": text_pages.line("lamp oil & bread"), "noise": sample_pictures.noise(40, 300),
        "white": np.full((30, 200, 3), 255, np.uint8), "one pixel": np.full((1, 1, 3), 90, np.uint8),
        "thin": sample_pictures.photo()[:1],
    }[view]  # fmt: skip
    for given in ({}, {"max_new_tokens": 1, "num_beams": 2}, {"max_new_tokens": 50, "num_beams": 4}):
        got, want = local(picture, given), network.predict(picture, resolve(line_text.TASK.parameters, given))
        assert got.keys() == want.keys() == {tensor.name for tensor in local.point.outputs}
        for name, value in want.items():
            np.testing.assert_array_equal(got[name], value, err_msg=f"{name} {given}")


@pytest.mark.parametrize("kind", ["base-handwritten", "large-handwritten"])
def test_the_ids_of_handwriting_write_what_processor_and_generate_write(reduced, tmp_path, kind):
    entry = catalog.find(f"trocr-{kind}")
    network = FAMILY.build(entry, Weights("random", seed=1))
    local, picture = published(network, entry, tmp_path), text_pages.line("lamp oil & bread")
    for given in ({}, {"max_new_tokens": 24, "num_beams": 3}):
        got, want = local(picture, given), network.predict(picture, resolve(line_text.TASK.parameters, given))
        assert len(set(want["token_ids"].tolist())) > 5
        np.testing.assert_array_equal(got["token_ids"], want["token_ids"])
        assert got["text"].tolist() == want["text"].tolist()


# generation_config.json as checkpoints have it, and what else it may say. Of 600 tokens 61 end an answer, so that beams
# end at different lengths.
ENDS = [2, *range(100, 160)]
SEARCHES = {
    "greedy": {"num_beams": 1},
    "three beams": {"num_beams": 3},
    "short": {"num_beams": 4, "length_penalty": -1.0},
    "long": {"num_beams": 4, "length_penalty": 2.0},
    "no penalty": {"num_beams": 3, "length_penalty": 0.0},
    "soon": {"num_beams": 3, "early_stopping": True},
    "never": {"num_beams": 3, "early_stopping": "never"},
    "never, short": {"num_beams": 4, "early_stopping": "never", "length_penalty": -0.5},
    "no repeats": {"num_beams": 1, "no_repeat_ngram_size": 1},
    "handwriting": {"num_beams": 4, "early_stopping": True, "no_repeat_ngram_size": 3, "length_penalty": 2.0},
    "pairs": {"num_beams": 2, "no_repeat_ngram_size": 2},
    "a given first token": {"num_beams": 3, "forced_bos_token_id": 0},
    "a given end": {"num_beams": 3, "forced_eos_token_id": 2, "length_penalty": 3.0},
    "one end": {"num_beams": 4, "eos_token_id": 2},
}


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_is_that_of_transformers(model, name):
    network, local, _ = model
    asked = {"max_length": 14, "eos_token_id": ENDS, "early_stopping": False} | SEARCHES[name]
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network._model, "generation_config", torch_config(network, **asked))
        settings = Search(**line_text.read_search(json.dumps(encoder_decoder.search_of(network._model)).encode()))
        for seed in range(8):
            pixels = sample_pictures.noise(SIDE, SIDE, seed)
            if seed % 2:
                pixels = np.array(Image.fromarray(text_pages.line(f"number {seed}")).resize((SIDE, SIDE)))
            cross = local._composition._call("encoder", {"pixels": pixels[None]}, local._composition._cross)
            got = search(Decoder(local._composition._call, cross), settings)
            values = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
            with torch.inference_mode():
                want = network._model.generate(values)[0, 1:].numpy()
            np.testing.assert_array_equal(got, want, err_msg=str(seed))
            written.append(tuple(got))
    assert len(set(written)) >= 6
    if asked.get("length_penalty", 1) < 2 and "eos_token_id" not in SEARCHES[name]:
        assert len({len(ids) for ids in written}) >= 2, "answers of one length try nothing"


def torch_config(network, **more):
    from transformers import GenerationConfig

    return GenerationConfig(bos_token_id=0, pad_token_id=1, decoder_start_token_id=2, **more)


def test_a_checkpoint_without_settings_gets_transformers_defaults(model):
    network, local, _ = model
    assert encoder_decoder.search_of(network._model) == {
        "start": 2, "ends": [2], "most": 20, "beams": 1, "length_penalty": 1.0, "early_stopping": False,
        "no_repeat": 0, "first": None, "last": [],
    }  # fmt: skip


def test_an_unsupported_search_is_refused(model, monkeypatch):
    network, _, _ = model
    monkeypatch.setattr(network._model, "generation_config", torch_config(network, repetition_penalty=1.3))
    with pytest.raises(ExportFailed, match="repetition_penalty"):
        encoder_decoder.search_of(network._model)


@pytest.mark.parametrize(("name", "tokens"), [
    ("eos_token_id", {"decoder_start_token_id": 2}),
    ("eos_token_id", {"decoder_start_token_id": 2, "eos_token_id": []}),
    ("decoder_start_token_id", {"eos_token_id": 2}),
])  # fmt: skip
def test_a_checkpoint_without_a_token_that_starts_or_ends_an_answer_is_refused(name, tokens):
    from transformers import GenerationConfig

    with pytest.raises(ExportFailed, match=f"does not tell '{name}'") as refusal:
        encoder_decoder.search_of(SimpleNamespace(generation_config=GenerationConfig(**tokens)))
    assert refusal.value.hint


def test_every_id_of_the_random_vocabulary_stands_for_another_text():
    tokenizer = roberta.vocabulary(2000)
    assert len(tokenizer) == 2000
    special = [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    assert special == [0, 1, 2, 3] and tokenizer.mask_token_id == 1999
    tokens = [tokenizer.convert_ids_to_tokens(id) for id in range(2000)]
    assert None not in tokens and len(set(tokens)) == 2000
    assert all(tokenizer.decode([id]) for id in range(4, 1999))
    assert tokenizer.decode(tokenizer("the harbour is 60 fathoms deep").input_ids, skip_special_tokens=True) == (
        "the harbour is 60 fathoms deep"
    )


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Weights as users save them: model and processor, with their own generation config."""
    network, _, entry = model
    path = tmp_path_factory.mktemp("weights") / "mine"
    before = network._model.generation_config
    network._model.generation_config = torch_config(network, max_length=12, num_beams=3, eos_token_id=2)
    network._model.save_pretrained(path)
    network._model.generation_config = before
    network.processor.save_pretrained(path)
    return path


def test_a_users_folder_brings_weights_vocabulary_and_search(model, folder, tmp_path):
    network, _, entry = model
    read = FAMILY.build(entry, Weights("user", path=folder))
    assert (read.source, read.labels, read.notes, len(read.sha256)) == ("mine", (), (), 64)
    assert read._search | {"most": 20, "beams": 1} == network._search
    assert (read._search["most"], read._search["beams"]) == (11, 3)
    for role in ("encoder", "decoder"):
        inputs = list(network.examples(role).values())[-1]
        assert worst(read.tensors(inputs, role=role), network.tensors(inputs, role=role)) == 0
    local = published(read, entry, tmp_path)
    picture = text_pages.line("receipt")
    got, want = local(picture), read.predict(picture, resolve(line_text.TASK.parameters, {}))
    assert got["token_ids"].tolist() == want["token_ids"].tolist() and got["text"][0] == want["text"][0]


def test_weights_may_lack_the_encoders_pooler_and_no_other_tensor(model, folder, tmp_path):
    _, _, entry = model
    copy = shutil.copytree(folder, tmp_path / "w")
    state = load_file(folder / "model.safetensors")
    save_file({n: v for n, v in state.items() if "pooler" not in n}, copy / "model.safetensors", {"format": "pt"})
    FAMILY.build(entry, Weights("user", path=copy))
    save_file({n: v for n, v in state.items() if "fc1" not in n}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportFailed, match="not those of microsoft/trocr"):
        FAMILY.build(entry, Weights("user", path=copy))


def test_weights_without_a_vocabulary_are_refused(model, folder, tmp_path):
    _, _, entry = model
    copy = shutil.copytree(folder, tmp_path / "w", ignore=shutil.ignore_patterns("vocab*", "tokenizer*", "merges*"))
    with pytest.raises(ExportFailed, match="lacks a vocabulary"):
        FAMILY.build(entry, Weights("user", path=copy))
    with pytest.raises(ExportFailed, match="are a folder") as caught:
        FAMILY.build(entry, Weights("user", path=folder / "model.safetensors"))
    assert "save_pretrained" in caught.value.hint


def test_class_names_are_refused():
    with pytest.raises(ExportFailed, match="no classes"):
        FAMILY.build(PRINTED, Weights("random", labels=("a",)))


def test_official_weights_that_cannot_be_downloaded_are_an_error(monkeypatch):
    import huggingface_hub

    def download(*_, **options):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ExportFailed, match="microsoft/trocr-base-printed.* could not be fetched"):
        FAMILY.build(PRINTED, Weights("official"))


@pytest.mark.parametrize("kind", ["base-printed", "base-handwritten", "large-printed", "large-handwritten"])
def test_the_ids_have_the_parameters_that_the_catalogue_counts(monkeypatch, kind):
    from transformers import VisionEncoderDecoderModel

    entry = catalog.find(f"trocr-{kind}")
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ORIGINAL.items():
            patch.setattr(trocr, name, value)
        config = trocr.config(entry)
        with torch.device("meta"):
            model = VisionEncoderDecoderModel(config)
        (point,) = FAMILY.entry_points(entry)
    counted = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert counted == pytest.approx(entry.params_m, rel=0.1)
    encoder, decoder = point.nets
    assert encoder.inputs[0].dims == (384, 384, 3) and encoder.outputs[0].dims == (16, 577, 64)
    assert decoder.outputs[0].dims == (50265,) and len(decoder.outputs) == 25
    assert dict(point.options) == {"side": 384, "layers": 12, "positions": 1024 if kind == "large-printed" else 512}
    assert {kind_of(tensor.name) for net in point.nets for tensor in net.outputs} == set(FAMILY.tolerance.tensors)


ORIGINAL = {name: getattr(trocr, name) for name in ("_ENCODERS", "_DECODER", "_DECODERS")}
ORIGINAL["_DECODERS"] = {kind: dict(found) for kind, found in ORIGINAL["_DECODERS"].items()}
