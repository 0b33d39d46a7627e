"""Weights of the hub: fetched by its own client from a local server with the hub's answers, resumed, or refused."""

import resource

import huggingface_hub
import pytest
import weight_servers
from huggingface_hub import constants
from weight_servers import COMMIT, Repository

from tritonvision.errors import ExportFailed, InvalidParameter, SetupError
from tritonvision.exporters import weight_files
from tritonvision.exporters.sources import hub
from tritonvision.licenses import LicenseNotAccepted

WHOLE = {"config.json": b"{}", "model.safetensors": b"tensors", "README.md": b"#", "onnx/model.onnx": b"graph"}


@pytest.fixture
def serving(monkeypatch, tmp_path):
    """A hub to fill, which the client asks."""
    repositories = {}
    with weight_servers.hub(repositories) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)  # a download is resumed after whole ones
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("TRITONVISION_ACCEPTED_LICENSES", str(tmp_path / "accepted.json"))
        monkeypatch.setattr(hub.time, "sleep", lambda _: None)
        yield server
    huggingface_hub.close_session()


def test_one_file_is_fetched_with_its_commit_and_its_licence(serving):
    serving.repositories["somebody/flowers"] = Repository({"best.pt": b"weights"}, {"license": "apache-2.0"})
    for text in ("hf:somebody/flowers", "hf:somebody/flowers@main:best.pt", f"hf:somebody/flowers@{COMMIT}"):
        found = hub.fetch(text)
        assert found.path.read_bytes() == b"weights"
        assert (found.source, found.license) == (f"somebody/flowers@{COMMIT}:best.pt", "apache-2.0")


def test_a_repository_of_timm_or_transformers_becomes_a_folder(serving):
    serving.repositories["somebody/flowers"] = Repository(WHOLE)
    found = hub.fetch("hf:somebody/flowers")
    assert {path.name for path in found.path.iterdir()} == {"config.json", "model.safetensors"}
    assert found.source == f"somebody/flowers@{COMMIT}"
    assert found.license == "not told by somebody/flowers"


def test_large_weights_in_several_files_are_a_folder(serving):
    parts = {f"model-0000{n}-of-00002.safetensors": b"tensors" for n in (1, 2)}
    serving.repositories["somebody/large"] = Repository(
        {"config.json": b"{}", "model.safetensors.index.json": b"{}", "original/a.pth": b"", **parts}
    )
    found = hub.fetch("hf:somebody/large")
    assert {path.name for path in found.path.iterdir()} == {"config.json", "model.safetensors.index.json", *parts}


def test_an_adapter_is_a_folder_whatever_else_lies_there(serving):
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"a", "optimizer.pt": b"o"}
    serving.repositories["somebody/lora"] = Repository(files)
    found = hub.fetch("hf:somebody/lora")
    assert {path.name for path in found.path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_of_several_weights_one_has_to_be_named(serving):
    serving.repositories["somebody/flowers"] = Repository({"n.pt": b"n", "m.pt": b"m", "notes.md": b""})
    with pytest.raises(InvalidParameter, match="holds 2 files of weights: n.pt, m.pt") as caught:
        hub.fetch("hf:somebody/flowers")
    assert caught.value.hint == "Name one: hf:somebody/flowers:n.pt"
    assert hub.fetch("hf:somebody/flowers:m.pt").path.read_bytes() == b"m"
    with pytest.raises(InvalidParameter, match="has no file 'x.pt'") as caught:
        hub.fetch("hf:somebody/flowers:x.pt")
    assert "n.pt, m.pt" in caught.value.hint
    serving.repositories["somebody/text"] = Repository({"notes.md": b""})
    with pytest.raises(InvalidParameter, match="holds no weights in a format"):
        hub.fetch("hf:somebody/text")


@pytest.mark.parametrize(
    "text", ["hf:", "hf:flowers", "hf:a/b:../../etc/passwd", "hf:a/b:/etc/passwd", "hf:a/b/c", "hf:a b/c"]
)
def test_what_names_no_weights_is_refused_before_anybody_is_asked(text):
    with pytest.raises(InvalidParameter, match="names no weights on the hub") as caught:
        hub.fetch(text)
    assert "hf:OWNER/NAME" in caught.value.hint


def test_a_download_that_stops_in_the_middle_is_resumed_where_it_stopped(serving):
    data = bytes(range(256)) * 4096
    kept = serving.repositories["somebody/flowers"] = Repository({"best.pt": data})
    kept.cut["best.pt"] = [300_000]
    assert hub.fetch("hf:somebody/flowers").path.read_bytes() == data
    first, second = (start for start in serving.ranges[-2:])
    assert first == 0 and 0 < second <= 300_000


def _refused(status, **headers):
    return lambda repository: repository.refused.extend([(status, headers)] * 20)


def _private(repository):
    repository.token = "secret"


def _gated(repository):
    repository.gated = True


REFUSALS = {
    "nobody's": ("hf:somebody/else", lambda _: None, "has no repository 'somebody/else' that may be read", "HF_TOKEN"),
    "private": ("hf:somebody/flowers", _private, "has no repository 'somebody/flowers' that may be read", "HF_TOKEN"),
    "no revision": ("hf:somebody/flowers@v9", lambda _: None, "has no such revision", "a branch, a tag or a commit"),
    "401": ("hf:somebody/flowers", _refused(401, X_Error_Message="Invalid credentials in Authorization header"),
            r"refuses 'somebody/flowers' \(401\)", "HF_TOKEN"),
    "429 for long": ("hf:somebody/flowers", _refused(429, Retry_After="240"), r"\(429\)", "in 240 seconds"),
    "429 for ever": ("hf:somebody/flowers", _refused(429, Retry_After="1"), r"\(429\)", "in 1 seconds"),
    "500": ("hf:somebody/flowers", _refused(503), "answers 503", "later"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_the_hub_refuses_is_a_sentence_and_a_hint(serving, name):
    text, prepare, sentence, hint = REFUSALS[name]
    repository = serving.repositories["somebody/flowers"] = Repository({"best.pt": b"weights"})
    prepare(repository)
    with pytest.raises(ExportFailed, match=sentence) as caught:
        hub.fetch(text)
    assert hint in caught.value.hint and "\n" not in caught.value.message and "http" not in caught.value.message


def test_a_hub_that_asks_for_a_moment_gets_it(serving):
    repository = serving.repositories["somebody/flowers"] = Repository({"best.pt": b"weights"})
    repository.refused = [(429, {"Retry-After": "1"}), (503, {})]
    assert hub.fetch("hf:somebody/flowers").path.read_bytes() == b"weights"


def test_gated_weights_need_their_terms_accepted_here_and_there(serving):
    repository = serving.repositories["somebody/flowers"] = Repository({"best.pt": b"weights"}, {"license": "other"})
    repository.gated = True
    with pytest.raises(LicenseNotAccepted, match="its owner wants its terms to be accepted") as caught:
        hub.fetch("hf:somebody/flowers")
    hub.licenses.accept(caught.value.terms)
    with pytest.raises(ExportFailed, match="'somebody/flowers' is gated") as refused:
        hub.fetch("hf:somebody/flowers")
    assert "huggingface.co/somebody/flowers" in refused.value.hint


def test_weights_that_are_not_for_commercial_use_ask_once_for_each_licence(serving):
    for name in ("one", "two"):
        serving.repositories[f"somebody/{name}"] = Repository({"best.pt": b"w"}, {"license": "cc-by-nc-4.0"})
    with pytest.raises(LicenseNotAccepted, match="'cc-by-nc-4.0': they are not for commercial use") as caught:
        hub.fetch("hf:somebody/one")
    hub.licenses.accept(caught.value.terms)
    assert hub.fetch("hf:somebody/one").license == hub.fetch("hf:somebody/two").license == "cc-by-nc-4.0"


def test_a_disk_that_is_full_is_a_matter_of_setup(serving, tmp_path):
    """The size of files is limited instead: the same write fails, for a like reason."""
    serving.repositories["somebody/flowers"] = Repository({"best.pt": bytes(1 << 20)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(SetupError, match="disk is full: somebody/flowers/best.pt does not fit") as caught:
            hub.fetch("hf:somebody/flowers")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "HF_HOME" in caught.value.hint
    assert not [path for path in (tmp_path / "hub").rglob("blobs/*")], "what does not fit leaves nothing behind"


def test_no_network_and_something_else_at_the_address_are_told_apart(serving, monkeypatch):
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    with pytest.raises(ExportFailed, match="hub cannot be reached for somebody/flowers/best.pt"):
        hub.file("somebody/flowers", "best.pt")


def test_official_weights_say_why_they_cannot_be_had(serving):
    serving.repositories["somebody/moving"] = Repository(
        {"model.safetensors": b"w"}, refused=[(429, {"Retry-After": "99"})]
    )
    with pytest.raises(ExportFailed) as caught:
        weight_files.hub_file("somebody/moving", "model.safetensors")
    assert "official weights somebody/moving/model.safetensors could not be fetched: The hub was asked too often" in (
        caught.value.message
    )
    assert "in 99 seconds" in caught.value.hint and "--weights random" in caught.value.hint


def test_what_was_published_from_the_hub_is_fetched_again_for_a_comparison_and_nothing_else_is(serving):
    repository = serving.repositories["somebody/flowers"] = Repository({"best.pt": b"weights", "other.pt": b"others"})
    source = hub.fetch("hf:somebody/flowers:best.pt").source
    count = len(serving.ranges)
    assert hub.refetched(source).read_bytes() == b"weights" and len(serving.ranges) == count, "it is in the cache"
    repository.files["best.pt"] = b"newer"
    assert hub.refetched(source).read_bytes() == b"weights"
    assert hub.refetched("best.pt") is None and hub.refetched("somebody/flowers@main:best.pt") is None
