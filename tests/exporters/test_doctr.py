"""docTR: the graphs compute the outputs of its networks, the pipeline gives its predictor's answers, word for word."""

import torch  # isort: skip

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalComposition
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import doctr
from tritonvision.exporters.families.doctr import DETECTOR, FAMILY, POINT, RECOGNISER, networks
from tritonvision.exporters.graphs import check
from tritonvision.exporters.parity import sample_pictures, text_pages
from tritonvision.exporters.parity.checks.base import Case
from tritonvision.exporters.parity.checks.page import PageText
from tritonvision.python_backend.ocr.page_layout import WORD

ENTRY = catalog.find("doctr-db_mobilenet_v3")
ROLES = {net.role: net for net in POINT.nets}


@pytest.fixture(scope="module")
def network():
    return FAMILY.build(ENTRY, Weights("random"))


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctr")
    for role in ROLES:
        network.export(folder / f"{role}.onnx", role)
    return {role: folder / f"{role}.onnx" for role in ROLES}


@pytest.fixture(scope="module")
def pipeline(network, graphs):
    return LocalComposition(graphs, POINT, assets=network.assets(""))


@pytest.fixture(scope="module")
def pages():
    page = text_pages.page(7)
    return {"flat": page, "turned": text_pages.turned(page), "photo": text_pages.photographed(page, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("role", list(ROLES))
def test_graphs_keep_their_contract_and_compute_docs_networks(network, graphs, pipeline, role):
    check.check(graphs[role], ROLES[role])
    (output,) = ROLES[role].outputs
    batches = network.examples(role)
    assert {len(batch["pixels"]) for batch in batches.values()} == ({1, 2} if role == DETECTOR else {1, 8})
    for inputs in batches.values():
        got, want = pipeline.nets[role].tensors(inputs)[output.name], network.tensors(inputs, role=role)[output.name]
        assert got.shape == want.shape and want.std() > 0.01
        assert np.abs(got - want).max() <= FAMILY.tolerance.tensors[output.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flat", "turned", "photo"])
def test_pages_are_read_word_for_word_as_docs_predictor_reads_them(network, pipeline, pages, name):
    wanted = network.predict(pages[name], {})
    words = wanted["texts"][wanted["class_ids"] == WORD].tolist()
    assert len(words) >= 20 and len(set(words)) >= 8  # so that the comparison says something
    parity_check = PageText(POINT, network, FAMILY.tolerance, "random")
    count, missing, figures = parity_check.compare(pipeline(pages[name]), Case(pages[name], {}, wanted))
    assert count > len(words) and missing == 0 and figures["words"] == 0
    assert figures["pixels"] <= 0.01 and figures["scores"] <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (600, 600)])
def test_a_picture_without_text_is_an_empty_page(network, pipeline, shape):
    picture = np.full((*shape, 3), 255, np.uint8)
    got, want = pipeline(picture), network.predict(picture, {})
    assert got.keys() >= want.keys()
    for name, value in want.items():
        assert got[name].shape == value.shape and got[name].dtype == value.dtype
    assert got["text"].tolist() == want["text"].tolist() == [b""] and len(got["boxes"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["photo", "two pixels"])
def test_pictures_that_are_no_pages_are_read_as_docs_predictor_reads_them(network, pipeline, name):
    picture = sample_pictures.views()["odd-220x316"] if name == "photo" else np.full((2, 1, 3), 255, np.uint8)
    parity_check = PageText(POINT, network, FAMILY.tolerance, "random")
    _, missing, figures = parity_check.compare(pipeline(picture), Case(picture, {}, network.predict(picture, {})))
    assert missing == 0 and figures["words"] == 0


@pytest.fixture(scope="module")
def states():
    """Weights of the small pair, drawn but not fitted."""
    torch.manual_seed(4)
    return {name: networks.module(name).state_dict() for name in doctr.ARCHITECTURES[ENTRY.id]}


@pytest.fixture
def folder(tmp_path, states):
    for name, state in states.items():
        torch.save(state, tmp_path / f"{name}-0a1b2c3d.pt")
    return tmp_path


def test_a_folder_with_the_users_two_files_is_loaded(folder, states):
    loaded = FAMILY.build(ENTRY, Weights("user", path=folder))
    assert len(loaded.sha256) == 64 and "db_mobilenet_v3_large-0a1b2c3d.pt" in loaded.source
    assert loaded.labels == ("block", "line", "word")
    for role, state in zip((DETECTOR, RECOGNISER), states.values(), strict=True):
        found = loaded._model[role].state_dict()
        assert found.keys() == state.keys() and all(torch.equal(found[name], value) for name, value in state.items())
    assert len(loaded.assets("")["vocabulary.txt"].decode()) == 126


def test_a_users_own_vocabulary_is_read_beside_the_weights(folder):
    name = "crnn_mobilenet_v3_small"
    torch.save(networks.module(name, vocab="abcß漢").state_dict(), folder / f"{name}-0a1b2c3d.pt")
    with pytest.raises(ExportFailed, match="knows 5 characters, its vocabulary names 126") as failure:
        FAMILY.build(ENTRY, Weights("user", path=folder))
    assert "vocabulary.txt" in failure.value.hint
    (folder / "vocabulary.txt").write_text("abcß漢\n", "utf-8")
    assert FAMILY.build(ENTRY, Weights("user", path=folder)).assets("") == {"vocabulary.txt": "abcß漢".encode()}


def test_a_lone_file_and_a_folder_without_both_are_refused_with_a_hint(folder):
    with pytest.raises(ExportFailed, match="two files in a folder") as failure:
        FAMILY.build(ENTRY, Weights("user", path=folder / "db_mobilenet_v3_large-0a1b2c3d.pt"))
    assert "crnn_mobilenet_v3_small.pt" in failure.value.hint
    (folder / "db_mobilenet_v3_large-0a1b2c3d.pt").unlink()
    with pytest.raises(ExportFailed, match="holds 0 files of db_mobilenet_v3_large"):
        FAMILY.build(ENTRY, Weights("user", path=folder))


def test_weights_of_another_architecture_are_refused(folder, states):
    torch.save(states["crnn_mobilenet_v3_small"], folder / "db_mobilenet_v3_large-0a1b2c3d.pt")
    with pytest.raises(ExportFailed, match="not those of db_mobilenet_v3_large"):
        FAMILY.build(ENTRY, Weights("user", path=folder))


def test_official_weights_that_cannot_be_downloaded_are_an_error(monkeypatch, tmp_path):
    """docTR's own downloader runs; only the network is unavailable."""
    import urllib.request

    def no_route(*_, **__):
        raise OSError("no route")

    monkeypatch.setenv("DOCTR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", no_route)
    with pytest.raises(ExportFailed, match="db_mobilenet_v3_large.* could not be fetched"):
        FAMILY.build(ENTRY, Weights("official"))


def test_labels_are_the_familys_own():
    with pytest.raises(ExportFailed, match="three classes"):
        FAMILY.build(ENTRY, Weights("random", labels=("word",)))


def test_every_id_of_the_family_stands_for_two_architectures():
    entries = [entry for entry in catalog.entries().values() if entry.family == FAMILY.name]
    assert {entry.id for entry in entries} == set(doctr.ARCHITECTURES)
    for detector, recogniser in doctr.ARCHITECTURES.values():
        assert networks.module(detector).cfg["input_shape"][1:] == doctr.PAGE
        assert networks.module(recogniser).cfg["input_shape"][1:] == doctr.WORD


@pytest.mark.parametrize("model_id", doctr.ARCHITECTURES)
def test_the_catalogue_counts_the_parameters_of_both_networks(model_id):
    with torch.device("meta"):
        parts = [networks.module(name) for name in doctr.ARCHITECTURES[model_id]]
    counted = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert counted / 1e6 == pytest.approx(catalog.find(model_id).params_m, rel=0.01)
