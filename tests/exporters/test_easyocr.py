"""EasyOCR: the graphs compute its networks, the pipeline gives its reader's answers, line for line."""

import torch  # isort: skip

import json

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalComposition, LocalNet
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import easyocr
from tritonvision.exporters.families.easyocr import DETECTOR, FAMILY, RECOGNISER, networks, packs, point
from tritonvision.exporters.graphs import check
from tritonvision.exporters.libraries import torch_env, transformers_weights
from tritonvision.exporters.parity import text_pages
from tritonvision.exporters.parity.checks.base import Case
from tritonvision.exporters.parity.checks.page import PageText

ENTRY, LATIN = catalog.find("easyocr-en"), catalog.find("easyocr-multi")
ROLES = {net.role: net for net in point().nets}


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(min(2, threads))
    torch_env.import_torchvision()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network():
    return FAMILY.build(ENTRY, Weights("random"))


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("easyocr")
    for role in ROLES:
        network.export(folder / f"{role}.onnx", role)
    return {role: folder / f"{role}.onnx" for role in ROLES}


@pytest.fixture(scope="module")
def pipeline(network, graphs):
    return LocalComposition(graphs, point(), assets=network.assets(""))


@pytest.fixture(scope="module")
def pages():
    """Parts of pages: the detector takes seconds a megapixel."""
    page = text_pages.page(7)
    photo = text_pages.photographed(page, 3)
    part = slice(100, 324)
    turned = text_pages.turned(page, 9)
    return {"flat": page[part, 40:600], "turned": turned[part, 40:600], "photo": photo[part, 90:650]}


@pytest.mark.slow
@pytest.mark.parametrize("role", list(ROLES))
def test_graphs_keep_their_contract_and_compute_easyocrs_networks(network, graphs, pipeline, role):
    check.check(graphs[role], ROLES[role])
    (output,) = ROLES[role].outputs
    batches = network.examples(role)
    shapes = {batch["pixels"].shape[1:] for batch in batches.values()}
    assert len(shapes) == 2 and {len(batch["pixels"]) for batch in batches.values()} >= {1}
    for inputs in batches.values():
        got, want = pipeline.nets[role].tensors(inputs)[output.name], network.tensors(inputs, role=role)[output.name]
        assert got.shape == want.shape and want.std() > 0.01
        assert np.abs(got - want).max() <= FAMILY.tolerance.tensors[output.name]


@pytest.mark.slow
def test_float64_reference_agrees_with_float32(network):
    for role in ROLES:
        inputs = list(network.examples(role).values())[-1]
        (single,), (double,) = (network.tensors(inputs, double=d, role=role).values() for d in (False, True))
        assert double.dtype == np.float64 and np.abs(single - double).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flat", "turned", "photo"])
def test_pages_are_read_line_for_line_as_easyocrs_reader_reads_them(network, pipeline, pages, name):
    wanted = network.predict(pages[name], {})
    lines = wanted["texts"].tolist()
    assert len(lines) >= 4 and len(set(lines)) >= 3  # so that the comparison says something
    sloped = np.abs(wanted["polygons"][:, 1, 1] - wanted["polygons"][:, 0, 1]) > 5
    assert sloped.sum() >= 3 or name != "turned"
    parity_check = PageText(point(), network, FAMILY.tolerance, "random")
    asked = []
    pipeline.watch = lambda role, inputs, outputs: asked.append((role, len(inputs["pixels"])))
    count, missing, figures = parity_check.compare(pipeline(pages[name]), Case(pages[name], {}, wanted))
    assert count == len(lines) and missing == 0 and figures["words"] == 0
    assert figures["pixels"] <= 1 and figures["scores"] <= 1e-4
    assert sum(rows for role, rows in asked if role == RECOGNISER) > len(lines)  # unsure ones are read twice


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (200, 300)])
def test_a_picture_without_text_is_an_empty_page(network, pipeline, shape):
    picture = np.full((*shape, 3), 255, np.uint8)
    got, want = pipeline(picture), network.predict(picture, {})
    assert got.keys() == want.keys() == {tensor.name for tensor in point().outputs}
    for name, value in want.items():
        assert got[name].shape == value.shape and got[name].dtype == value.dtype
        np.testing.assert_array_equal(got[name], value)
    assert len(got["boxes"]) <= 1 and got["text"].tolist() == [b""]  # random weights may take it for one region


@pytest.mark.parametrize("name", ["thai_g1", "cyrillic_g2"])
def test_recognisers_of_both_generations_are_exported_at_any_width(tmp_path, monkeypatch, name):
    """With every layer, each an eighth as wide."""
    monkeypatch.setattr(networks, "_CHANNELS", {number: wide // 8 for number, wide in networks._CHANNELS.items()})
    compare_reader(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["thai_g1", "zh_sim_g2"])
def test_recognisers_of_both_generations_are_exported_at_their_own_size(tmp_path, name):
    compare_reader(tmp_path, name)


def compare_reader(tmp_path, name):
    pack = packs.find(name)
    assert pack.generation == int(name[-1])
    reader = networks.reader(pack)
    transformers_weights.redraw(reader, 3)
    network = easyocr.EasyOCRNetwork(torch.nn.Identity(), reader, pack)
    network.export(tmp_path / "model.onnx", RECOGNISER)
    check.check(tmp_path / "model.onnx", ROLES[RECOGNISER])
    local = LocalNet(tmp_path / "model.onnx", ROLES[RECOGNISER])
    for inputs in network.examples(RECOGNISER).values():
        got, want = local.tensors(inputs)["logits"], network.tensors(inputs, role=RECOGNISER)["logits"]
        assert got.shape == want.shape and want.std() > 1e-3
        assert np.abs(got - want).max() <= 1e-3 * np.abs(want).max()


@pytest.mark.parametrize("name", packs.NAMES)
def test_every_pack_has_easyocrs_characters_and_ignores_what_its_reader_ignores(name):
    pack = packs.find(name)
    network = easyocr.EasyOCRNetwork(torch.nn.Identity(), torch.nn.Identity(), pack)
    reader = network._reader
    assert reader.character == pack.characters and set(pack.languages) >= {"en"}
    assert set(pack.ignored) == set(pack.characters) - set(reader.lang_char)


def test_languages_of_a_pack_can_be_chosen():
    german = packs.find("latin_g2", ("de",))
    assert "ß" not in german.ignored and "ł" in german.ignored and german.languages == ("de",)
    network = easyocr.EasyOCRNetwork(torch.nn.Identity(), torch.nn.Identity(), german)
    assert set(german.ignored) == set(german.characters) - set(network._reader.lang_char)
    assert json.loads(network.assets("")["characters.json"])["ignored"] == german.ignored
    with pytest.raises(InvalidParameter, match="latin_g2 does not read the language 'ru'"):
        packs.find("latin_g2", ("ru",))


@pytest.mark.parametrize(("name", "value"), [
    ("recog_network", "klingon_g2"), ("recog_network", "arabic_g1"), ("lang_list", "de;fr"), ("canvas_size", "9999"),
    ("canvas_size", "many"), ("canvas_size", "63"), ("vocabulary", "x"),
])  # fmt: skip
def test_options_without_sense_are_refused_before_anything_is_built(name, value):
    with pytest.raises(InvalidParameter) as caught:
        FAMILY.check(ENTRY, Weights("random", options=((name, value),)))
    assert caught.value.hint


def test_the_canvas_is_the_entry_points(tmp_path):
    pack = packs.find("english_g2")
    network = easyocr.EasyOCRNetwork(torch.nn.Identity(), torch.nn.Identity(), pack, longest=640)
    assert dict(network.entry_points[0].options) == {"longest": 640}


@pytest.fixture(scope="module")
def states():
    """Weights of both networks of the second id, drawn but not fitted, as easyocr saves them: wrapped."""
    torch.manual_seed(4)
    found = {easyocr.CRAFT: networks.craft(), "latin_g2.pth": networks.reader(packs.find("latin_g2"))}
    return {
        name: {f"module.{key}": value for key, value in module.state_dict().items()} for name, module in found.items()
    }


@pytest.fixture(scope="module")
def saved(states, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved")
    for name, state in states.items():
        torch.save(state, path / name)
    return path


@pytest.fixture
def folder(tmp_path, saved):
    """Links: a test that writes other weights puts another file in the place of one."""
    for path in saved.iterdir():
        (tmp_path / path.name).hardlink_to(path)
    return tmp_path


def test_a_folder_with_the_users_two_files_is_loaded(folder, states):
    loaded = FAMILY.build(LATIN, Weights("user", path=folder))
    assert len(loaded.sha256) == 64 and loaded.source == "craft_mlt_25k.pth and latin_g2.pth"
    for role, state in zip((DETECTOR, RECOGNISER), states.values(), strict=True):
        found = loaded._model[role].state_dict()
        assert all(torch.equal(value, state[f"module.{name}"]) for name, value in found.items())
    assert len(json.loads(loaded.assets("")["characters.json"])["characters"]) == 351


def test_a_users_own_characters_are_read_beside_the_weights(folder):
    own = networks.reader(packs.find("latin_g2").with_characters("abß漢"))
    (folder / "latin_g2.pth").unlink()
    torch.save(own.state_dict(), folder / "latin_g2.pth")
    with pytest.raises(ExportFailed, match="knows 4 characters, its vocabulary names 351") as failure:
        FAMILY.build(LATIN, Weights("user", path=folder))
    assert "vocabulary.txt" in failure.value.hint
    (folder / "vocabulary.txt").write_text("abß漢\n", "utf-8")
    loaded = FAMILY.build(LATIN, Weights("user", path=folder))
    assert json.loads(loaded.assets("")["characters.json"]) == {"characters": "abß漢", "ignored": ""}
    assert loaded._reader.character == loaded._reader.lang_char == "abß漢"


def test_a_lone_file_and_a_folder_without_both_are_refused_with_a_hint(folder):
    with pytest.raises(ExportFailed, match="two files in a folder") as failure:
        FAMILY.build(LATIN, Weights("user", path=folder / easyocr.CRAFT))
    assert "latin_g2.pth" in failure.value.hint
    with pytest.raises(ExportFailed, match="holds no english_g2.pth"):
        FAMILY.build(ENTRY, Weights("user", path=folder))


def test_weights_of_another_architecture_are_refused(folder):
    (folder / easyocr.CRAFT).unlink()
    (folder / easyocr.CRAFT).hardlink_to(folder / "latin_g2.pth")
    with pytest.raises(ExportFailed, match="not those of CRAFT"):
        FAMILY.build(LATIN, Weights("user", path=folder))


def test_official_weights_that_cannot_be_downloaded_are_an_error(monkeypatch, tmp_path):
    """easyocr's own downloader runs; only the network is unavailable."""
    from easyocr import config, utils

    def no_route(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(config, "MODULE_PATH", str(tmp_path))
    monkeypatch.setattr(utils, "urlretrieve", no_route)
    with pytest.raises(ExportFailed, match=r"craft_mlt_25k.pth could not be fetched"):
        FAMILY.build(ENTRY, Weights("official"))
    (tmp_path / "model" / easyocr.CRAFT).write_bytes(b"another file")
    with pytest.raises(ExportFailed, match="not the file that easyocr released"):
        FAMILY.build(ENTRY, Weights("official"))


def test_a_reader_leaves_the_places_that_python_imports_from_alone():
    import sys

    before = list(sys.path)
    easyocr.EasyOCRNetwork(torch.nn.Identity(), torch.nn.Identity(), packs.find("english_g2"))._reader  # noqa: B018
    assert sys.path == before


def test_every_id_of_the_family_has_a_pack_and_the_parameters_that_the_catalogue_counts():
    entries = [entry for entry in catalog.entries().values() if entry.family == FAMILY.name]
    assert {entry.id for entry in entries} == set(easyocr.PACKS)
    for entry in entries:
        parts = networks.craft(), networks.reader(packs.find(easyocr.PACKS[entry.id]))
        counted = sum(parameter.numel() for part in parts for parameter in part.parameters()) / 1e6
        assert counted == pytest.approx(entry.params_m, rel=0.01)
