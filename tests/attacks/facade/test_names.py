"""Names of models that mean something to a file system, a terminal or an eye, wherever a name may stand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from posted_routes import HOLES, NAMED, NAMES, WAIT, Route, assert_told

from tritonvision import catalog
from tritonvision.errors import InvalidParameter, UnknownModel
from tritonvision.publication import MANIFEST, Repository

HOSTILE = {
    "a folder up": "../secret", "two folders up": "../../etc/passwd", "an absolute path": "/etc/passwd",
    "up within": "coco/../../secret", "the folder itself": "coco/.", "a folder of another system": "..\\secret",
    "an encoded way up": "%2e%2e/secret", "a way up encoded twice": "%252e%252e%252fsecret",
    "NUL": "yolov8n-640\0", "NUL and an ending": "yolov8n-640\0.json", "a line feed": "yolov8n-640\n",
    "a header": "a\r\nset-cookie: b", "an escape of terminals": "\x1b[2Jmodel", "300 characters": "x" * 300,
    "a megabyte": "x" * 2**20, "fullwidth letters": "\uff59olov8n-640", "a Cyrillic letter": "yol\u043ev8n-640",
    "a combining mark": "yolov8n-640\u0301", "the other direction": "\u202eyolov8n-640",
    "no width": "yolov8\u200bn-640", "other digits": "yolov\u0668n-640",
    "the public name in Triton": "mine__weather__1",
    "a step": "pre--letterbox-640", "a role": "clip/RN50--text", "a hidden folder": ".git", "a home": "~root",
    "an option": "--help", "a command": "a;reboot", "a substitution": "$(reboot)", "a lookup": "${jndi:ldap://x}",
    "a template": "{{7*7}}", "a URL": "https://127.0.0.1/x", "a file URL": "file:///etc/passwd", "a scheme": "hf:a/b",
    "nothing": "", "a space": " ", "slashes": "///", "many segments": "a/" * 50 + "a", "markup": "<script>x</script>",
}  # fmt: skip
OPENED: list[str] = []
_audited = False


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths of all files and folders that are opened or listed from now on."""
    global _audited
    if not _audited:  # a hook cannot be taken away
        sys.addaudithook(
            lambda event, args: OPENED.append(str(args[0])) if event in ("open", "os.listdir", "os.scandir") else None
        )
        _audited = True
    OPENED.clear()
    yield OPENED


@pytest.fixture(scope="module")
def secret(shared_house):
    """A whole model beside the repository, where a way up would find it."""
    folder = shared_house.settings.repository.parent / "secret"
    folder.mkdir(exist_ok=True)
    own = shared_house.settings.repository / "yolov8n-640" / MANIFEST
    (folder / MANIFEST).write_text(own.read_text().replace('"yolov8n-640"', '"../secret"'))
    return folder


def each(routes: list[Route]):
    return pytest.mark.parametrize("route", routes, ids=repr)


def of_path(template: str, name: str) -> str:
    """The path with a name in it. A line feed at the end is taken for the end of a path, so it is left out."""
    name = name.removesuffix("\n")
    for hole in ("{model_id}", "{model}", "{run_id}"):
        template = template.replace(hole, quote(name, safe="/"))
    for hole, value in HOLES.items():
        template = template.replace(hole, value)
    return template


@pytest.mark.attack("names that lead out of the repository")
@each([route for route in NAMED if route.template != "/model/remove"])
def test_no_name_in_a_body_or_a_path_leads_anywhere(shared_house, secret, opened, route):
    fields = [name for name in NAMES if name in route.fields]
    for name in HOSTILE.values():
        path = of_path(route.template, name if "{" in route.template else "")
        if len(path) > 60_000:
            continue
        answer = shared_house.client.post(path, json=route.body | dict.fromkeys(fields, name), headers=WAIT)
        known = not fields and name.strip() == "yolov8n-640"
        refused = answer.status_code in (400, 404, 405, 422)
        assert refused or known or not name.strip("/ "), f"{name[:80]!r}: {answer.text[:300]}"
        if answer.status_code in (400, 404) and path == route.template:
            assert_told(answer, route, 400, 404)
        assert not refused or len(answer.content) < 5000
        assert "set-cookie" not in answer.headers
    assert not [path for path in opened if path.startswith(str(secret)) or "passwd" in path]


@pytest.mark.attack("names that lead out of the repository")
@pytest.mark.parametrize("template", [
    "/models/{model}", "/start/{model}", "/{model}", "/model/facts/{model}", "/model/times/{model}",
    "/vi/v1/models/{model}", "/v1/models/{model}", "/readiness/{model}", "/streams/{model}",
    "/docs/{model}", "/{model}/3",
])  # fmt: skip
def test_no_name_in_a_path_that_is_read_leads_anywhere(shared_house, secret, opened, template):
    for name in HOSTILE.values():
        path = of_path(template, name)
        if len(path) > 60_000 or not name.strip("/ ") or name.strip() == "yolov8n-640":
            continue
        answer = shared_house.client.get(path, headers=WAIT)
        assert 400 <= answer.status_code < 500 or answer.status_code == 501, f"{name[:80]!r}: {answer.text[:300]}"
        assert "root:" not in answer.text and "secret" not in answer.headers.get("location", "")
    assert not [path for path in opened if path.startswith(str(secret)) or "passwd" in path]


@pytest.mark.attack("names that lead out of the repository")
@pytest.mark.parametrize("field", ["sam_version_id", "doctr_version_id", "clip_version_id", "owlv2_version_id"])
def test_no_version_of_a_foundation_model_leads_anywhere(shared_house, secret, opened, field):
    (route,) = [route for route in NAMED if field in route.fields and "embed_text" not in route.template
                and "compare" not in route.template and "segment" not in route.template
                and route.template.rsplit("/", 1)[1] in ("embed_image", "ocr", "infer")]  # fmt: skip
    for name in HOSTILE.values():
        answer = route.post(shared_house, route.body | {field: name})
        assert answer.status_code in (400, 404, 422) or not name.strip(), f"{name[:80]!r}: {answer.text[:300]}"
    assert not [path for path in opened if path.startswith(str(secret)) or "passwd" in path]


@pytest.mark.attack("names that lead out of the repository")
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_repository_asks_its_disk_for_ids_alone(tmp_path, opened, name):
    with pytest.raises(UnknownModel):
        catalog.check_id(name)
    repository = Repository(tmp_path)
    with pytest.raises(UnknownModel):
        repository.find(name)
    assert opened == []


@pytest.mark.attack("names that lead out of the repository")
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_nothing_is_imported_under_a_name_that_no_id_has(tmp_path, name):
    from tritonvision.exporters.packages import import_package

    package, root = tmp_path / "package", tmp_path / "models"
    package.mkdir()
    (package / "weights.onnx").write_bytes(b"no graph")
    with pytest.raises((UnknownModel, InvalidParameter)) as refused:
        import_package(package, name, root)
    assert len(refused.value.message) < 300 and not root.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package"]


@pytest.mark.attack("patterns that burn")
def test_a_name_of_megabytes_costs_no_pass_over_it(monkeypatch):
    class Never:
        def fullmatch(self, name: str) -> None:
            raise AssertionError(f"{len(name)} characters were matched")

    monkeypatch.setattr(catalog, "_ID", Never())
    with pytest.raises(UnknownModel):
        catalog.check_id("a" * 2**20)
