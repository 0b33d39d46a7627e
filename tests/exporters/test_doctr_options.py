"""docTR's options: other recognisers, pages at any angle, blocks; answers are those of its predictor given the same."""

import torch  # isort: skip

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalComposition, LocalNet
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import doctr
from tritonvision.exporters.families.doctr import (
    DETECTOR,
    FAMILY,
    RECOGNISER,
    Choice,
    DocTRNetwork,
    networks,
    synthetic,
)
from tritonvision.exporters.graphs import check
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.parity import text_pages
from tritonvision.exporters.parity.checks.base import Case
from tritonvision.exporters.parity.checks.page import PageText
from tritonvision.python_backend.compositions.page_text import CROP, PAGE
from tritonvision.python_backend.ocr import ctc

ENTRY = catalog.find("doctr-db_mobilenet_v3")
PAIR = doctr.ARCHITECTURES[ENTRY.id]
SHEET = (512, 512)
EVERY = Choice(*PAIR, assume_straight_pages=False, detect_orientation=True, straighten_pages=True, resolve_blocks=True)


@pytest.fixture(scope="module", autouse=True)
def small_pages():
    torch_env.import_torchvision()
    with pytest.MonkeyPatch.context() as patch:  # a quarter of the pixels
        patch.setattr(doctr, "PAGE", SHEET)
        patch.setattr(synthetic, "_SIDE", SHEET[0])
        yield


@pytest.fixture(scope="module")
def modules():
    """All four networks, fitted or drawn."""
    found = doctr._random(EVERY, 0)
    found[DETECTOR].cfg = found[DETECTOR].cfg | {"input_shape": (3, *SHEET)}  # the package has one dict for all
    return found


@pytest.fixture(scope="module")
def graphs(modules, tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctr")
    network = DocTRNetwork(modules, EVERY)
    for net in network.entry_points[0].nets:
        network.export(folder / f"{net.role}.onnx", net.role)
        check.check(folder / f"{net.role}.onnx", net)
    return folder


def opened(modules, graphs, choice):
    network = DocTRNetwork({role: modules[role] for role in choice.roles}, choice)
    (point,) = network.entry_points
    local = LocalComposition(
        {net.role: graphs / f"{net.role}.onnx" for net in point.nets}, point, assets=network.assets("")
    )  # fmt: skip
    return network, local


def page_at(degrees):
    page = text_pages.page(7)[:330]
    return text_pages.turned(np.pad(page, ((90, 90), (0, 0), (0, 0)), mode="edge"), degrees)


@pytest.mark.parametrize("choice", [
    Choice(*PAIR, assume_straight_pages=False, resolve_blocks=True, detect_orientation=True),
    EVERY, pytest.param(Choice(*PAIR, straighten_pages=True), marks=pytest.mark.slow),
    pytest.param(Choice(*PAIR, resolve_blocks=True), marks=pytest.mark.slow),
    pytest.param(Choice(*PAIR, assume_straight_pages=False), marks=pytest.mark.slow),
], ids=["turned blocks", "every", "straightened", "blocks", "turned"])  # fmt: skip
def test_pages_are_read_as_docs_predictor_with_these_options_reads_them(modules, graphs, choice):
    network, local = opened(modules, graphs, choice)
    page = page_at(12)
    wanted = network.predict(page, {})
    words = wanted["texts"][wanted["class_ids"] == 2].tolist()
    assert len(words) >= 6 and len(set(words)) >= 5
    assert ((wanted["class_ids"] == 0).sum() > 1) == choice.resolve_blocks
    found = local(page)
    assert found.keys() == wanted.keys() == {tensor.name for tensor in local.point.outputs}
    parity_check = PageText(local.point, network, FAMILY.tolerance, "random")
    count, missing, figures = parity_check.compare(found, Case(page, {}, wanted))
    assert count > len(words) and missing == 0 and figures["words"] == 0
    assert figures["pixels"] <= 0.01 and figures["scores"] <= 1e-4
    if choice.detect_orientation:
        assert found["orientation"].tolist() == wanted["orientation"].tolist()


@pytest.mark.parametrize("role", [CROP, PAGE])
def test_what_is_up_is_what_docs_networks_say(modules, graphs, role):
    network, local = opened(modules, graphs, EVERY)
    for inputs in network.examples(role).values():
        got, want = local.nets[role].tensors(inputs)["logits"], network.tensors(inputs, role=role)["logits"]
        assert got.shape == want.shape == (len(inputs["pixels"]), 4) and want.std() > 0.01
        assert np.abs(got - want).max() <= FAMILY.tolerance.tensors["logits"]


# Reduced where docTR's networks can be: fewer letters, of which each is a step of the graph.
SHORT = {"parseq": {"max_length": 3}}
QUICK = ["parseq"]


@pytest.mark.parametrize("name", QUICK)
def test_every_recogniser_reads_what_docs_reads(tmp_path, name):
    compare_recogniser(tmp_path, name, SHORT.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*doctr.RECOGNISERS} - {"crnn_mobilenet_v3_small"} - {*QUICK}) + ["parseq"])
def test_every_recogniser_reads_what_docs_reads_at_full_length(tmp_path, name):
    compare_recogniser(tmp_path, name, {})


def compare_recogniser(folder, name, options):
    network = networks.module(name, **options)
    network.exportable = True
    synthetic.redrawn(network, lambda pixels: networks.prepared(network, pixels), 1, doctr.WORD)
    network.exportable = False
    choice = Choice(PAIR[0], name)
    whole = DocTRNetwork({DETECTOR: torch.nn.Identity(), RECOGNISER: network}, choice)
    net = whole.entry_points[0].nets[1]
    whole.export(folder / "model.onnx", RECOGNISER)
    check.check(folder / "model.onnx", net)
    local, decode = LocalNet(folder / "model.onnx", net), ctc.DECODERS[doctr.RECOGNISERS[name]]
    from doctr.models import recognition_predictor

    predictor, read = recognition_predictor(network), []
    for inputs in whole.examples(RECOGNISER).values():
        got, want = local.tensors(inputs)["logits"], whole.tensors(inputs, role=RECOGNISER)["logits"]
        assert got.shape == want.shape and want.std() > 0.01
        assert np.abs(got - want).max() <= FAMILY.tolerance.tensors["logits"]
        found = [decode(sample, network.vocab) for sample in got]
        wanted = predictor(list(inputs["pixels"]))
        assert [text for text, _ in found] == [text for text, _ in wanted]
        np.testing.assert_allclose([sure for _, sure in found], [sure for _, sure in wanted], atol=1e-4)
        read += [text for text, _ in found]
    assert len(set(read)) >= 3, "all words alike prove nothing"


def test_every_recogniser_of_docs_can_be_chosen_but_master():
    from doctr.models.recognition import zoo

    assert {*doctr.RECOGNISERS} == {*zoo.ARCHS} - {"master"}


@pytest.mark.parametrize(("name", "value"), [
    ("reco_arch", "master"), ("assume_straight_pages", "no"), ("det_arch", "fast_base"), ("resolve_blocks", "1"),
])  # fmt: skip
def test_options_without_sense_are_refused_before_anything_is_built(name, value):
    with pytest.raises(InvalidParameter) as caught:
        FAMILY.check(ENTRY, Weights("random", options=((name, value),)))
    assert name in caught.value.message and caught.value.hint


def test_options_choose_the_networks_and_the_default_is_the_entry_point_of_before():
    assert FAMILY.choice(ENTRY, Weights()) == Choice(*PAIR)
    assert doctr.point(Choice(*PAIR)).options == (("page", SHEET), ("word", (32, 128)))
    given = (("reco_arch", "parseq"), ("assume_straight_pages", "false"), ("straighten_pages", "true"))
    choice = FAMILY.choice(ENTRY, Weights(options=given))
    assert list(choice.roles) == [DETECTOR, RECOGNISER, CROP, PAGE]
    point = doctr.point(choice)
    assert dict(point.options) == {
        "page": SHEET, "word": (32, 128), "decoding": "until-end", "turned": True, "straighten": True,
    }  # fmt: skip
    assert "polygons" in {tensor.name for tensor in point.outputs}


def test_a_folder_holds_a_file_for_each_network(tmp_path):
    given = Weights("user", path=tmp_path, options=(("assume_straight_pages", "false"), ("reco_arch", "vitstr_small")))
    states = {name: networks.module(name).state_dict() for name in FAMILY.choice(ENTRY, given).roles.values()}
    for name, state in states.items():
        torch.save(state, tmp_path / f"{name}-0a1b.pt")
    loaded = FAMILY.build(ENTRY, given)
    assert loaded.source == " and ".join(f"{name}-0a1b.pt" for name in states)
    for role, state in zip((DETECTOR, RECOGNISER, CROP), states.values(), strict=True):
        found = loaded._model[role].state_dict()
        assert found.keys() == state.keys() and all(torch.equal(found[n], v) for n, v in state.items())
    (tmp_path / "mobilenet_v3_small_crop_orientation-0a1b.pt").unlink()
    with pytest.raises(ExportFailed, match="holds 0 files of mobilenet_v3_small_crop_orientation") as caught:
        FAMILY.build(ENTRY, given)
    assert "mobilenet_v3_small_crop_orientation.pt" in caught.value.hint


def test_checkpoints_of_parseq_from_before_have_two_norms_that_nothing_reads(tmp_path):
    state = networks.module("parseq").state_dict()
    state |= {"decoder.attention_norm.weight": torch.ones(384), "decoder.cross_attention_norm.bias": torch.zeros(384)}
    torch.save(state, tmp_path / "parseq.pt")
    assert networks.load("parseq", tmp_path / "parseq.pt").vocab
