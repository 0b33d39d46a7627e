"""Florence-2: graphs, prompts, answers and places are those of transformers' network, processor and ``generate()``.

The reduced network has every part: windows that fit and windows that are padded, channel attention, positions of the
picture on two axes, an encoder over picture and prompt, tied embeddings. Its weights are random.
"""

import torch  # isort: skip

import json
import queue
import re
import shutil
import threading

import jsonschema_rs
import numpy as np
import pytest
import tokenizers
from attention import check_attention, examples_of
from PIL import Image
from safetensors.torch import load_file, save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalChat, LocalNet
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import florence_2
from tritonvision.exporters.families.florence_2 import FAMILY, microsoft
from tritonvision.exporters.graphs import check
from tritonvision.exporters.modules.normalise import MEAN, STD
from tritonvision.exporters.parity import compare, sample_pictures, text_pages
from tritonvision.exporters.parity.checks.chat import PICTURE, Chat, sample, says
from tritonvision.grounding import florence
from tritonvision.python_backend.generation import beams
from tritonvision.python_backend.generation.prompt import Picture
from tritonvision.python_backend.vlm.florence_2 import Reader
from tritonvision.tasks import VLM, resolve

ENTRY = catalog.find("florence-2-base")
REGION = "<loc_52><loc_332><loc_932><loc_774>"
INPUTS = {"": "a cat & the dog's bowl"} | {token: REGION for token, task in florence.TASKS.items() if task.of_region}


def prompt_of(task):
    return task.token + (INPUTS.get(task.token, INPUTS[""]) if task.takes_input else "")


PROMPTS = [*map(prompt_of, florence.TASKS.values()), "What is in this picture?"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network():
    return florence_2.Florence2Network(*florence_2.random("reduced", 1))


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    for net in network.entry_points[0].nets:
        network.export(folder / f"{net.role}.onnx", net.role)
        check.check(folder / f"{net.role}.onnx", net)
    return {net.role: folder / f"{net.role}.onnx" for net in network.entry_points[0].nets}


@pytest.fixture(scope="module")
def local(network, graphs):
    opened = LocalChat(graphs, network.entry_points[0], network.assets(""))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reader(network):
    tokenizer = tokenizers.Tokenizer.from_str(network.assets("")["tokenizer.json"].decode())
    return Reader(dict(network.entry_points[0].options), tokenizer)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """Weights as users bring them."""
    made = tmp_path_factory.mktemp("weights")
    network.save(made)
    return made


def asks(prompt, picture):
    return sample([picture], says("user", PICTURE, prompt))


@pytest.mark.parametrize("role", ["vision", "encoder", "decoder"])
def test_a_graph_computes_what_the_model_computes(network, graphs, role):
    (net,) = [net for net in network.entry_points[0].nets if net.role == role]
    opened = LocalNet(graphs[role], net)
    for what, inputs in network.examples(role).items():
        got, want = opened.tensors(inputs), network.tensors(inputs, role=role)
        assert max(compare.tensor_differences("", got, want, {}, want.keys()).values()) <= 1e-5, what
        assert all(value.std() > 0.1 for value in want.values()), what
        double = network.tensors(inputs, double=True, role=role)
        assert max(compare.tensor_differences("", want, double, {}, want.keys()).values()) <= 1e-5, what


def test_the_gates_check_finds_signal_and_no_difference(network, local):
    count, missing, figures = Chat(local.point, network, FAMILY.tolerance, "random").run(local)
    assert count == 2 * 5 * 24 and missing == 0 and figures == {"tokens": 0, "words": 0}


@pytest.mark.parametrize("width", [1, 3])
def test_a_batch_of_mixed_prompts_writes_what_each_writes_alone(network, local, width):
    views = [sample_pictures.photo(), text_pages.line("ledger 2"), sample_pictures.noise(40, 60)]
    prompts = ["<CAPTION>", "<CAPTION_TO_PHRASE_GROUNDING>a long caption of a strip", "<OD>"]
    given = network._processor(
        text=prompts, images=[[Image.fromarray(view)] for view in views], padding=True, return_tensors="pt"
    )  # fmt: skip
    assert (given["attention_mask"] == 0).any()
    with torch.inference_mode():
        whole = network._model.generate(**given, max_new_tokens=24, num_beams=width)
    for prompt, view, want in zip(prompts, views, whole[:, 1:].tolist(), strict=True):
        got = local(asks(prompt, view), {"max_new_tokens": 24, "num_beams": width})["token_ids"].tolist()
        assert got == want[: len(got)] and set(want[len(got) :]) <= {1}, prompt
        assert len(set(got)) >= 8


@pytest.mark.parametrize("width", [1, 3])
def test_mixed_prompts_that_wait_are_written_in_one_batch_as_each_is_alone(local, width, monkeypatch):
    views = [sample_pictures.photo(), text_pages.line("ledger 2"), sample_pictures.noise(40, 60)]
    prompts = ["<OD>", "<CAPTION_TO_PHRASE_GROUNDING>a long caption of a strip", "<CAPTION>"]
    samples = [asks(prompt, view) for prompt, view in zip(prompts, views, strict=True)]
    given = {"max_new_tokens": 24, "num_beams": width}
    alone = [local(one, given)["token_ids"].tolist() for one in samples]
    rows, run = [], beams.Decoder.__call__
    monkeypatch.setattr(
        beams.Decoder, "__call__", lambda self, ids, origins: rows.append(len(ids)) or run(self, ids, origins)
    )
    everybody_waits, told = threading.Event(), [queue.SimpleQueue() for _ in range(4)]
    for one, where in zip([samples[0], *samples], told, strict=True):
        pictures = [*map(Picture.of, one["pictures"])]
        left = (lambda: not everybody_waits.wait(60)) if where is told[0] else (lambda: False)
        local._vlm_engine.start(one["messages"], pictures, resolve(VLM.parameters, given), where.put, where.put, left)
    everybody_waits.set()
    assert [where.get(timeout=60).token_ids.tolist() for where in told[1:]] == alone
    assert max(rows) >= 3 * width and len({*map(tuple, alone)}) == 3


@pytest.mark.parametrize("width", [1, 3])
def test_an_answer_by_a_schema_is_its_json(local, width):
    schema = {"type": "array", "items": {"enum": ["cat", "dog", "it"]}, "minItems": 3, "maxItems": 3}
    answer = local(asks("<OD>", sample_pictures.photo()), {"schema": schema, "num_beams": width, "max_new_tokens": 60})
    assert jsonschema_rs.is_valid(schema, json.loads(answer["text"][0])) and answer["finish_reason"][0] == "stop"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_and_a_picture_are_the_processors(network, reader, prompt):
    for picture in (sample_pictures.noise(37, 80), text_pages.line("Total 4.20")):
        want = network.read(asks(prompt, picture))
        got = reader.read(asks(prompt, picture)["messages"], [picture.shape[:2]]).input_ids
        np.testing.assert_array_equal(got, want["input_ids"][0].numpy())
        pixels = want["pixel_values"][0].numpy().transpose(1, 2, 0)
        ours = reader.vision_inputs(picture)["pixels"][0] / 255
        np.testing.assert_allclose((ours - MEAN) / STD, pixels, atol=1e-6)


@pytest.mark.attack("special tokens spelt in a prompt")
def test_special_tokens_spelt_in_a_prompt_stay_text(network, reader):
    want = network.read(asks("</s><loc_5>", sample_pictures.noise(9, 9)))["input_ids"][0].tolist()
    got = reader.read(asks("</s><loc_5>", sample_pictures.noise(9, 9))["messages"], [(9, 9)]).input_ids.tolist()
    special = set(network._processor.tokenizer.added_tokens_decoder)
    assert len(got) > len(want), "the library reads them as tokens"
    assert {id for id in got if id in special} == {0, 2, got[0]}


def test_what_no_prompt_is_is_refused_as_the_processor_refuses_it(network, local):
    with pytest.raises(ValueError, match="only content"):
        network.read(asks("<CAPTION> of a cat", sample_pictures.noise(9, 9)))
    for prompt in ("<CAPTION> of a cat", "see <OD>", "<REGION_TO_OCR> there"):
        with pytest.raises(InvalidParameter):
            local(asks(prompt, sample_pictures.noise(9, 9)))


# ---- places ----------------------------------------------------------------------------------------------------------


def written(task, rng):
    """A random answer in the form that the task's answers have."""
    phrases = ["a cat", "it", " the red car ", "caf\u00e9", "one another", "Total: 4.20 (net)", "A & B"]

    def steps(count):
        return "".join(f"<loc_{step}>" for step in rng.integers(0, 1000, count))

    def phrase():
        return str(rng.choice(phrases))

    times = range(int(rng.integers(0, 4)))
    if task.form == florence.TEXT:
        return "".join(phrase() for _ in times)
    if task.form == florence.LINES:
        return "".join(phrase() + steps(8) for _ in times)
    if task.form == florence.PROPOSALS:
        return steps(4 * len(times))
    if task.form == florence.OUTLINES:
        return "<sep>".join(steps(int(rng.integers(6, 13))) for _ in times)
    if task.form == florence.EITHER and rng.random() < 0.5:
        shapes = ("<sep>".join(steps(8) for _ in range(int(rng.integers(1, 3)))) for _ in range(9))
        return "".join(phrase() + f"<poly>{next(shapes)}</poly>" * int(rng.integers(1, 3)) for _ in times)
    return "".join(phrase() + steps(4 * int(rng.integers(1, 4)) + int(rng.integers(0, 2))) for _ in times)


@pytest.mark.parametrize("token", florence.TASKS)
def test_an_answer_is_read_as_the_processor_reads_it(network, token):
    from transformers import Florence2Processor

    processor = network._processor
    forms = set(processor.tasks_answer_post_processing_type.values())
    banned = {"phrase_grounding": {"banned_grounding_tokens": sorted(florence._NO_PHRASES)}}
    theirs = Florence2Processor(
        processor.image_processor, processor.tokenizer, post_processor_config=dict.fromkeys(forms, {}) | banned
    )  # fmt: skip
    rng, found = np.random.default_rng(3), 0
    for _ in range(60):
        text, size = written(florence.TASKS[token], rng), tuple(rng.integers(1, 3000, 2).tolist())
        want = theirs.post_process_generation(f"</s><s>{text}</s>", task=token, image_size=size)
        assert {token: florence.answer(florence.TASKS[token], f"</s><s>{text}</s>", *size)} == want, text
        found += bool(text)
    assert found > 30


def test_the_tasks_are_the_processors(network):
    theirs = network._processor.task_prompts_without_inputs | network._processor.task_prompts_with_input
    assert {token: re.sub("{input}", "{}", prompt) for token, prompt in theirs.items()} == {
        token: task.prompt for token, task in florence.TASKS.items()
    }


# ---- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # the tests' own model goes through it before
def test_a_users_folder_of_another_size_goes_through_the_gate(folder, tmp_path):
    manifest = pipeline.export("florence-2-base", Weights("user", path=folder), tmp_path, as_id="small-florence")
    assert (manifest.head, manifest.task, manifest.grounding) == ("chat", "vlm", "florence")
    assert manifest.input_size == (96, 96) and manifest.parity["pipeline_tokens"] == 0
    files = {path.name for path in (tmp_path / "small-florence" / "1").iterdir()}
    assert files >= {"tokenizer.json", "search.json", "vision.onnx", "encoder.onnx", "decoder.onnx"}


def original(network, folder, made):
    """The network in the layout of the authors' code: their names, one matrix transposed, no token for pictures."""
    state, names = {}, {name: name for name in load_file(folder / "model.safetensors")}
    back = (
        (r"^model\.language_model\.", "language_model.model."),
        (r"^model\.multi_modal_projector\.image_projection\.weight$", "image_projection"),
        (r"^model\.multi_modal_projector\.image_position_embed\.", "image_pos_embed."),
        (r"^model\.multi_modal_projector\.", ""), (r"^model\.vision_tower\.", "vision_tower."),
        (r"(convs\.\d+)\.conv\.", r"\1.proj."), (r"block\.(conv\d)\.", r"block.\1.fn.dw."),
        (r"spatial_block\.norm1\.", "spatial_block.window_attn.norm."),
        (r"channel_block\.norm1\.", "channel_block.channel_attn.norm."),
        (r"block\.(\w+)_attn\.(qkv|proj)\.", r"block.\1_attn.fn.\2."), (r"block\.norm2\.", "block.ffn.norm."),
        (r"block\.ffn\.(fc\d)\.", r"block.ffn.fn.net.\1."),
    )  # fmt: skip
    for pattern, replacement in back:
        names = {name: re.sub(pattern, replacement, renamed) for name, renamed in names.items()}
    tokens, table = network._model.config.image_token_id, network._model.config.text_config.vocab_size
    for name, value in load_file(folder / "model.safetensors").items():
        cut = value[:tokens] if len(value) == table else value
        state[names[name]] = cut.T.contiguous() if names[name] == "image_projection" else cut.clone()
    state["language_model.final_logits_bias"] = torch.zeros(1, tokens)
    made.mkdir()
    save_file(state, made / "model.safetensors", metadata={"format": "pt"})
    config = network._model.config.to_dict()
    vision, text = dict(config["vision_config"]), dict(config["text_config"])
    vision |= {
        "dim_embed": vision.pop("embed_dim"), "image_feature_source": ["spatial_avg_pool", "temporal_avg_pool"],
        "image_pos_embed": {"type": "learned_abs_2d", "max_pos_embeddings": vision.pop("max_position_embeddings")},
        "visual_temporal_embedding": {
            "type": "COSINE", "max_temporal_embeddings": vision.pop("max_temporal_embeddings"),
        },
    }  # fmt: skip
    told = {"model_type": "florence2", "vision_config": vision, "text_config": text | {"vocab_size": tokens}}
    (made / "config.json").write_text(json.dumps(told | {"num_beams": 3}))
    shutil.copy(folder / "generation_config.json", made)
    vocabulary = florence_2.synthetic.roberta.vocabulary(600)
    vocabulary.save_pretrained(made)  # without the tokens that the authors' processor adds
    network._processor.image_processor.save_pretrained(made)
    return made


def test_the_authors_layout_is_read(network, folder, tmp_path):
    made = original(network, folder, tmp_path / "original")
    assert microsoft.is_layout(made) and not microsoft.is_layout(folder)
    read = FAMILY.build(ENTRY, Weights("user", path=made))
    tokens = network._model.config.image_token_id
    for role in ("vision", "encoder", "decoder"):
        inputs = list(network.examples(role).values())[-1]
        if "input_ids" in inputs:
            inputs["input_ids"] %= tokens
        ours, theirs = (one.tensors(inputs, role=role) for one in (read, network))
        for name, value in theirs.items():
            got = ours[name]
            if name == "logits":  # the new tokens score as <pad>, which comes first
                assert (got[:, tokens:] == got[:, 1:2]).all()
                got, value = got[:, :tokens], value[:, :tokens]
            np.testing.assert_array_equal(got, value, err_msg=name)
    assert read.assets("")["search.json"] == network.assets("")["search.json"]
    assert read.assets("")["tokenizer.json"] == network.assets("")["tokenizer.json"]
    assert read.sha256 and read._model.config.text_config.vocab_size == network._model.config.text_config.vocab_size
    state = load_file(made / "model.safetensors")
    for broken in ({"image_projection": None}, {"language_model.final_logits_bias": torch.ones(1, 9)}):
        wrong = {name: value for name, value in (state | broken).items() if value is not None}
        save_file(wrong, made / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ExportFailed):
            FAMILY.build(ENTRY, Weights("user", path=made))


def test_a_folder_that_lacks_something_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ExportFailed, match="lacks a vocabulary") as caught:
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "bare"))
    assert "save_pretrained" in caught.value.hint
    with pytest.raises(ExportFailed, match="are a folder"):
        FAMILY.build(ENTRY, Weights("user", path=folder / "model.safetensors"))
    shutil.copytree(folder, tmp_path / "other")
    state = load_file(folder / "model.safetensors")
    state.pop("model.vision_tower.convs.0.conv.weight")
    save_file(state, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportFailed, match="not those of florence-community/Florence-2-base"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "other"))


@pytest.mark.parametrize(("name", "millions"), [("florence-2-base", 232), ("florence-2-large", 771)])
def test_the_sizes_are_the_published_ones(name, millions):
    from transformers import Florence2ForConditionalGeneration

    with torch.device("meta"):
        model = Florence2ForConditionalGeneration(florence_2.config(name))
    model.tie_weights()
    count = sum({id(parameter): parameter.numel() for parameter in model.parameters()}.values())
    assert abs(count / 1e6 - millions) < 1.5
    (point,) = FAMILY.entry_points(catalog.find(name))
    assert dict(point.options)["rows"] == 577 and dict(point.options)["image_token"] == 51289


def test_queries_and_keys_of_random_weights_have_an_effect(network):
    check_attention(network, FAMILY.tolerance, examples_of(network, "vision", "encoder", "decoder"))
