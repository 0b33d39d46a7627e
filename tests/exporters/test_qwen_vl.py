"""Qwen2.5-VL and Qwen3-VL at a reduced size: their graphs compute the outputs of transformers' models, their prompts
and positions are those of the library, their answers are those of ``generate``. All weights are random.
"""

import torch  # isort: skip

import shutil

import chat_families
import numpy as np
import pytest
import tokenizers
from attention import check_attention, examples_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalChat
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import cosmos_reason1, qwen2_5_vl, qwen3_vl
from tritonvision.exporters.graphs import check
from tritonvision.exporters.libraries import qwen_vl as families
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.chat import Chat
from tritonvision.publication import Repository
from tritonvision.python_backend.vlm import qwen_vl
from tritonvision.tasks import VLM, resolve

FAMILIES = {"qwen2.5": qwen2_5_vl.FAMILY, "qwen3": qwen3_vl.FAMILY}
LIMIT = 5e-5  # of rows of standard deviation 1 and logits of 3
PICTURE = {"type": "image"}
QUESTION = [{"role": "user", "content": [PICTURE, {"type": "text", "text": "What is it?"}]}]
PHOTO = sample_pictures.photo()

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def network(family):
    return family.random("reduced", 0)


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    return chat_families.export(network, tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def nets(network, graphs):
    return chat_families.open_nets(network, graphs)


@pytest.fixture(scope="module")
def reader(network):
    tokenizer = tokenizers.Tokenizer.from_str(network.assets("")["tokenizer.json"].decode())
    return qwen_vl.Reader(dict(network.entry_points[0].options), tokenizer)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """The reduced network as a user's weights."""
    path = tmp_path_factory.mktemp("weights") / "mine"
    network.save(path)
    return path


def says(role, *parts):
    return {"role": role, "content": [p if isinstance(p, dict) else {"type": "text", "text": p} for p in parts]}


def same_prompt(network, reader, messages, pictures):
    """Asserts that the reader and the library give one prompt, the same positions and the same patches."""
    sample = {"messages": messages, "pictures": pictures}
    got, want = reader.read(messages, [picture.shape[:2] for picture in pictures]), network.read(sample)
    np.testing.assert_array_equal(got.input_ids, want["input_ids"][0].numpy())
    if not pictures:
        assert "pixel_values" not in want and got.position_ids is None
        return
    positions, delta = network._model.model.get_rope_index(
        want["input_ids"], want["mm_token_type_ids"], image_grid_thw=want["image_grid_thw"],
        attention_mask=want["attention_mask"],
    )  # fmt: skip
    np.testing.assert_array_equal(got.position_ids, positions[:, 0].numpy())
    assert got.position_ids.max() + 1 - len(got.input_ids) == int(delta)
    inputs = [reader.vision_inputs(picture) for picture in pictures]
    found = [network.library_inputs(one, torch.float32) for one in inputs]
    np.testing.assert_array_equal(torch.cat([grid for _, grid in found]), want["image_grid_thw"])
    values = torch.cat([value for value, _ in found]).numpy()
    np.testing.assert_allclose(values, want["pixel_values"].numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("role", ["vision", "embed", "decoder"])
def test_a_graph_computes_what_the_model_computes(network, nets, graphs, role):
    check.check(graphs[role], nets[role].net)
    for what, inputs in network.examples(role).items():
        got, want = nets[role].tensors(inputs), network.tensors(inputs, role=role)
        for name, value in want.items():
            assert got[name].shape == value.shape, (what, name)
            assert np.abs(got[name] - value).max() <= LIMIT, (what, name)
    assert want[nets[role].net.outputs[0].name].std() > 0.1


@pytest.mark.parametrize(("tall", "wide"), [(1, 1), (1, 9), (7, 4), (8, 8), (5, 12)])
def test_the_vision_network_takes_any_grid(network, nets, tall, wide):
    """Grids of less than a window, of whole windows and of pieces of them."""
    options = dict(network.entry_points[0].options)
    unit = options["patch"] * options["merge"]
    inputs = qwen_vl.vision_inputs(PHOTO[: tall * unit, : wide * unit], options)
    got, want = nets["vision"].tensors(inputs), network.tensors(inputs, role="vision")
    assert got["image_embeds"].shape == (1, tall * wide, 64)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=LIMIT, err_msg=name)


@pytest.mark.parametrize(("past", "new"), [(0, 9), (13, 1), (7, 4)])
def test_a_padded_row_gives_the_same_logits_as_alone(network, nets, past, new):
    padding = 5 if not past else 4
    both = causal_decoder.example(network._model.config.text_config, 2, past, new, padding, **network.decoding)
    alone = {name: value[:, :1] if name == "position_ids" else value[:1] for name, value in both.items()}
    if past:  # the padding is in the cache
        alone = {n: v[:, :, padding:] if n.startswith("past") else v for n, v in alone.items()}
    else:  # the padding is in the prompt
        alone |= {name: alone[name][:, padding:] for name in ("inputs_embeds", *network.decoding["extra"])}
        alone["position_ids"] = alone["position_ids"][..., padding:]
    alone["attention_mask"] = alone["attention_mask"][:, padding:]
    got, want = nets["decoder"].tensors(both), nets["decoder"].tensors(alone)
    np.testing.assert_allclose(got["logits"][:1], want["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(got["present.2.key"][:1, :, padding:], want["present.2.key"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 150), (64, 512), (512, 63), (91, 77), (200, 401), (96, 96)])
def test_the_prompt_of_a_picture_is_the_processors(network, reader, height, width):
    same_prompt(network, reader, QUESTION, [sample_pictures.noise(height, width)])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_the_prompt_of_any_picture_is_the_processors(network, reader, height, width):
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(InvalidParameter, match="too narrow"):
            reader.read(QUESTION, [(height, width)])
    else:
        same_prompt(network, reader, QUESTION, [sample_pictures.noise(height, width)])


@pytest.mark.parametrize("name", ["no picture", "two pictures", "a system message", "a conversation"])
def test_conversations_are_written_as_the_template_has_them(network, reader, name):
    two = [sample_pictures.noise(40, 90), sample_pictures.noise(200, 60)]
    messages, pictures = {
        "no picture": ([says("user", "Who are ", "you?")], []),
        "two pictures": ([says("user", "One: ", PICTURE, " another: ", PICTURE, "Which?")], two),
        "a system message": ([says("system", "Be brief."), says("user", "And?", PICTURE)], two[:1]),
        "a conversation": (
            [says("user", PICTURE, "What?"), says("assistant", "A dog."), says("user", "And here?", PICTURE)], two
        ),
    }[name]  # fmt: skip
    same_prompt(network, reader, messages, pictures)


def test_the_prompt_of_the_true_sizes_is_the_processors(family):
    """The bounds, patches and windows of released models, without their weights."""
    entry = next(entry for entry in catalog.entries().values() if entry.family == family.name)
    config = family.config(entry.id)
    point = family.entry_points(entry)[0]
    options = dict(point.options)
    processor = family._processor(families._tokenizer(config), family._images(config, families.MOST_PIXELS), None)
    reader = qwen_vl.Reader(options, tokenizers.Tokenizer.from_str(processor.tokenizer.backend_tokenizer.to_str()))
    for picture in (PHOTO, sample_pictures.noise(1500, 1100), sample_pictures.noise(30, 40)):
        text = processor.apply_chat_template(QUESTION, add_generation_prompt=True)
        want = processor(text=[text], images=[picture], return_tensors="np")
        np.testing.assert_array_equal(reader.read(QUESTION, [picture.shape[:2]]).input_ids, want["input_ids"][0])
        inputs = reader.vision_inputs(picture)
        assert [tensor.dims for tensor in point.nets[0].inputs] == [
            (-1, *inputs[tensor.name].shape[2:]) for tensor in point.nets[0].inputs
        ]


def test_answers_are_those_of_generate(network, graphs):
    """24 greedy tokens about one picture, two, none, and in a conversation; a sampled answer repeats with its seed."""
    point = network.entry_points[0]
    local = LocalChat(graphs, point, network.assets(""))
    try:
        compared, missing, worst = Chat(point, network, network._family.tolerance, "random").run(local)
    finally:
        local.close()
    assert compared == 96 and not missing and worst == {"tokens": 0, "words": 0}


def test_prompts_in_one_batch_are_answered_as_alone(network, graphs):
    """With a picture, with two and without: rows of unlike lengths and positions."""
    point = network.entry_points[0]
    local = LocalChat(graphs, point, network.assets(""))
    two = [np.ascontiguousarray(PHOTO[:90, :200]), np.ascontiguousarray(PHOTO[50:300, :60])]
    samples = [
        {"messages": QUESTION, "pictures": two[:1]}, {"messages": [says("user", "Who?")], "pictures": []},
        {"messages": [says("user", PICTURE, PICTURE, "Which?")], "pictures": two},
    ]  # fmt: skip
    asked = resolve(VLM.parameters, {"max_new_tokens": 24})
    try:
        talks = [local._vlm_engine.talk(one["messages"], one["pictures"], asked) for one in samples]
        pieces = [[next(talk)] for talk in talks]  # all of them have begun
        for talk, some in zip(talks, pieces, strict=True):
            some.extend(talk)
    finally:
        local.close()
    for sample, some in zip(samples, pieces, strict=True):
        ids = np.concatenate([piece.token_ids for piece in some])
        np.testing.assert_array_equal(ids, network.predict(sample, asked)["token_ids"])


def test_a_second_question_about_a_picture_is_answered_as_if_it_were_the_first(network, graphs):
    """Its keys and values are kept, up to some token within the picture: the rest has positions and rows of its own."""
    point = network.entry_points[0]
    local = LocalChat(graphs, point, network.assets(""))
    pictures, asked = [np.ascontiguousarray(PHOTO[:90, :200])], resolve(VLM.parameters, {"max_new_tokens": 24})
    try:
        list(local._vlm_engine.talk(QUESTION, pictures, asked))
        second = {"messages": [says("user", PICTURE, "How many are there?")], "pictures": pictures}
        pieces = list(local._vlm_engine.talk(second["messages"], pictures, asked))
    finally:
        local.close()
    assert 64 <= pieces[-1].cached_tokens < pieces[-1].usage[0]
    ids = np.concatenate([piece.token_ids for piece in pieces])
    np.testing.assert_array_equal(ids, network.predict(second, asked)["token_ids"])


@pytest.mark.slow  # the models of tests/small_models.py go through it
def test_a_users_folder_goes_through_the_gate(family, folder, tmp_path):
    entry = next(entry for entry in catalog.entries().values() if entry.family == family.name)
    manifest = pipeline.export(entry.id, Weights("user", path=folder), tmp_path, as_id="small-qwen")
    assert manifest.head == "chat" and manifest.task == "vlm" and manifest.input_size is None
    pixels = (8, 3136, 9216) if family.in_pixels else None  # those of the reduced network
    assert manifest.grounding == family.grounding and manifest.grounding_pixels == pixels
    assert manifest.parity["pipeline_tokens"] == 0 and manifest.parity["tensor_image_embeds"] <= 1e-4
    assert Repository(tmp_path).get("small-qwen") == manifest


def test_the_bound_of_a_picture_is_lowered_and_said(family, folder, tmp_path):
    import json

    shutil.copytree(folder, tmp_path / "mine")
    file = tmp_path / "mine" / "processor_config.json"
    facts = json.loads(file.read_text())
    facts["image_processor"]["size"]["longest_edge"] = 12_845_056
    file.write_text(json.dumps(facts))
    entry = next(entry for entry in catalog.entries().values() if entry.family == family.name)
    network = family.build(entry, Weights("user", path=tmp_path / "mine"))
    assert dict(network.entry_points[0].options)["max_pixels"] == families.MOST_PIXELS == 1_003_520
    assert any("no more than 1,003,520 pixels" in note and "12,845,056" in note for note in network.notes)


def test_a_folder_without_its_processor_is_refused(family, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("processor_config.json"))
    entry = next(entry for entry in catalog.entries().values() if entry.family == family.name)
    with pytest.raises(ExportFailed, match="lacks the files of the processor"):
        family.build(entry, Weights("user", path=tmp_path / "bare"))


@pytest.mark.parametrize("entry", [
    entry for entry in catalog.entries().values() if entry.family in ("Qwen2.5-VL", "Qwen3-VL", "Cosmos Reason1")
], ids=lambda entry: entry.id)  # fmt: skip
def test_the_sizes_are_the_published_ones(entry):
    family = {f.name: f for f in (qwen2_5_vl.FAMILY, qwen3_vl.FAMILY, cosmos_reason1.FAMILY)}[entry.family]
    tied = entry.id in ("qwen2.5-vl-2b", "qwen3-vl-2b")
    with torch.device("meta"):
        model = family.model_class()(family.config(entry.id, tied=tied))
        model.tie_weights()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(entry.params_m, rel=3e-3)


def test_queries_and_keys_of_random_weights_have_an_effect(network, family):
    check_attention(network, family.tolerance, examples_of(network, "vision", "decoder"))
