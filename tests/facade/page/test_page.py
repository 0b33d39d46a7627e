"""The page's files and the answer of ``GET /models``, without a browser; tests/page/ uses one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tritonvision import catalog, tasks
from tritonvision.facade.dialects.roboflow.schemas import LegacyQuery
from tritonvision.facade.page import listing, routes
from tritonvision.facade.page.listing import ROUTES, command_for, route_of

PAGE = Path(__file__).parents[3] / "facade" / "page" / "static"
DETECTOR, PHRASES, FACE = "yolov8n-640", "grounding-dino-tiny", "mediapipe-face-detection"


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_a_page_runs_no_script_but_the_servers_own_and_loads_nothing_from_elsewhere(house, path):
    answer = house.client.get(path)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "http" not in answer.headers["content-security-policy"]
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", answer.text)
    assert all(not body.strip() for body in re.findall(r"<script[^>]*>(.*?)</script>", answer.text, re.DOTALL))
    assert not re.search(r"\son[a-z]+=|\sstyle=", answer.text)


def test_the_page_itself_has_no_inline_styles_either(house):
    assert "style-src 'self';" in house.client.get("/").headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_every_file_that_a_page_names_exists(house, path):
    named = set(re.findall(r'(?:src|href)="(static/[^"]+)"', house.client.get(path).text))
    assert named
    for name in named | {"static/sample.png"}:
        assert house.client.get(f"/{name}").status_code == 200, name


def test_every_module_is_imported_from_beside_it():
    scripts = {path.name: path.read_text() for path in PAGE.glob("*.js")}
    for name, text in scripts.items():
        for wanted in re.findall(r'from "([^"]+)"', text):
            assert wanted.startswith("./") and wanted[2:] in scripts, f"{name} imports {wanted}"


def test_no_script_reads_data_as_html():
    dangerous = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    for path in PAGE.glob("*.js"):
        assert not re.search(dangerous, path.read_text()), path.name


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/sample.png", "/static/swagger-ui.css"])
def test_a_file_is_sent_once_and_then_revalidated(house, path):
    first = house.client.get(path)
    assert first.headers["cache-control"] == "no-cache" and first.headers["x-content-type-options"] == "nosniff"
    again = house.client.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-security-policy" not in first.headers or first.headers["content-security-policy"] == (
        again.headers["content-security-policy"]
    )


@pytest.mark.parametrize(
    "path",
    ["/static/../page.py", "/static/%2e%2e/page.py", "/static/..%2fpage.py", "/static//etc/passwd", "/static/nobody.js",
     "/static/catalogue.json", "/static", "/static/%00"],
)  # fmt: skip
def test_only_the_pages_files_are_served(house, path):
    answer = house.client.get(path)
    assert answer.status_code == 404 and answer.json()["message"] == "There is no such route."


def test_files_allow_no_writing_methods(house):
    answer = house.client.post("/static/app.js")
    assert answer.status_code == 405 and answer.json() == {"message": "The route does not know this method."}


def test_scripts_are_served_as_scripts(house):
    for path in PAGE.glob("*.js"):
        assert house.client.get(f"/static/{path.name}").headers["content-type"].startswith("text/javascript")


def test_the_page_is_open_and_the_models_need_the_key(house_with):
    client = house_with(api_key="k").client
    for path in ("/", "/docs", "/redoc", "/static/app.js", "/static/sample.png"):
        assert client.get(path).status_code == 200, path
    assert client.get("/models").status_code == 401
    assert client.get("/models", headers={"authorization": "Bearer k"}).status_code == 200


# ---- what there is to ask --------------------------------------------------------------------------------------------


@pytest.fixture
def told(house):
    answer = house.client.get("/models")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    return answer.json()


def test_every_published_model_is_listed_with_its_facts(house, told):
    models = {model["id"]: model for model in told["models"]}
    assert models.keys() == {manifest.id for manifest in house.engine.repository}
    assert models[DETECTOR] == {
        "id": DETECTOR, "task": "object-detection", "family": "f", "license": "Apache-2.0",
        "aliases": list(catalog.names_of(DETECTOR)[1:]), "route": "/infer/object_detection", "weights": "random",
        "loaded": False, "labels": ["cat", "dog", "fox"], "label_count": 3, "keypoint_labels": [],
        "input_size": [480, 640], "places": False, "notes": [],
    }  # fmt: skip
    house.client.post("/model/add", json={"model_id": DETECTOR})
    again = house.client.get("/models").json()["models"]
    assert {model["id"] for model in again if model["loaded"]} == {DETECTOR}


def test_unpublished_models_are_listed_with_their_export_command(told):
    missing = {model["id"]: model for model in told["unpublished"]}
    assert missing.keys() == catalog.entries().keys() - {model["id"] for model in told["models"]}
    assert missing["resnet50"]["command"] == "tritonvision export resnet50"
    unreleased = next(entry for entry in catalog.entries().values() if entry.upstream_exists is False)
    assert command_for(unreleased) == f"tritonvision export {unreleased.id} --weights FILE"


@pytest.mark.parametrize("packages, face, torch_family", [
    ({"onnx", "torch"}, True, True), ({"onnx"}, True, False), ({"torch"}, False, False), (set(), False, False),
])  # fmt: skip
def test_an_export_is_offered_where_its_packages_are_installed(house, monkeypatch, packages, face, torch_family):
    monkeypatch.setattr(listing, "find_spec", lambda name: object() if name in packages else None)
    (house.engine.repository.root / FACE / "manifest.json").unlink()
    missing = {m["id"]: m["exportable_here"] for m in house.client.get("/models").json()["unpublished"]}
    assert (missing[FACE], missing["resnet50"]) == (face, torch_family)
    house.engine.exportable = set()
    assert not any(m["exportable_here"] for m in house.client.get("/models").json()["unpublished"])


def test_the_legacy_routes_defaults_are_the_pages(house):
    """With these settings the page's curl line sends only the file."""
    for model in (DETECTOR, FACE):
        manifest = house.engine.repository.get(model)
        legacy = LegacyQuery().settings(manifest)
        settings = house.client.get("/models").json()["routes"]["/infer/object_detection"]["settings"]
        assert {one["name"]: legacy[one["name"]] for one in settings} == {one["name"]: one["start"] for one in settings}


def test_an_id_that_cannot_be_exported_has_no_command(house):
    house.engine.exportable = {"resnet50"}
    missing = {model["id"]: model["command"] for model in house.client.get("/models").json()["unpublished"]}
    assert missing["resnet50"] and missing["rfdetr-base"] is None


def test_labels_are_counted_and_the_first_ones_listed(tmp_path, house):
    manifest = house.engine.repository.get(DETECTOR)
    many = {**manifest.__dict__, "labels": tuple(map(str, range(1000)))}
    (house.engine.repository.root / manifest.triton_name / "manifest.json").write_text(type(manifest)(**many).to_json())
    model = next(model for model in house.client.get("/models").json()["models"] if model["id"] == DETECTOR)
    assert model["label_count"] == 1000 and model["labels"] == [str(i) for i in range(200)]


def test_the_listing_says_whether_a_request_starts_an_export(house, house_with):
    assert house.client.get("/models").json()["exports_missing"] is True


def test_a_server_that_exports_nothing_says_so(house_with):
    assert house_with(export_missing=False).client.get("/models").json()["exports_missing"] is False


def test_settings_are_the_tasks_own(told):
    settings = {setting["name"]: setting for setting in told["routes"]["/infer/object_detection"]["settings"]}
    assert settings["confidence"] == {
        "name": "confidence", "field": "confidence", "kind": "float", "default": 0.4, "start": 0.4, "low": 0.0,
        "high": 1.0, "choices": [],
    }  # fmt: skip
    assert settings["max_detections"]["low"] == 1 and settings["class_agnostic_nms"]["kind"] == "bool"
    asked = {setting["field"] for setting in told["routes"]["/grounding_dino/infer"]["settings"]}
    assert {"box_threshold", "text_threshold"} <= asked


STREAMS = route_of(tasks.TRACKING.name, "")


@pytest.mark.parametrize("path", sorted(ROUTES.keys() - {STREAMS}))
def test_every_listed_route_exists_and_reads_every_listed_field(house, told, path):
    schema = house.client.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]["content"]
    fields = schema["application/json"]["schema"]["properties"]
    route = told["routes"][path]
    assert {setting["field"] for setting in route["settings"]} <= fields.keys()
    for setting in route["settings"]:
        parameter = next(p for p in tasks.TASKS[route["task"]].parameters if p.name == setting["name"])
        assert setting["default"] == parameter.default
        assert setting["start"] is None or parameter.check(setting["start"]) == setting["start"]


def test_every_task_has_a_route_and_every_route_is_known_to_the_page():
    assert {route_of(task, "") for task in tasks.TASKS} | {
        route_of("", "Grounding DINO"), route_of("", "YOLO-World"), route_of(tasks.EMBEDDING.name, "", False),
    } == ROUTES.keys()  # fmt: skip
    questions = (PAGE / "questions.js").read_text()
    assert set(re.findall(r'^  "(/[^"]+)":', questions, re.MULTILINE)) == ROUTES.keys()
    assert route_of("no such task", "") is None


def test_what_is_followed_is_asked_on_the_socket_of_its_model(house):
    with house.client.websocket_connect(f"{STREAMS}/{DETECTOR}") as socket:
        socket.send_text("no message")
        assert socket.receive_json()["error"]


def test_an_embedder_is_asked_for_texts_only_where_it_reads_them(house, told):
    towers = house.engine.repository.get("clip/ViT-B-32")
    for name, roles in (("towers/1", towers.roles), ("pictures/1", ("",))):
        folder = house.engine.repository.root / name.replace("/", "__")
        folder.mkdir()
        (folder / "manifest.json").write_text(replace(towers, id=name, roles=roles).to_json())
    listed = {model["id"]: model["route"] for model in house.client.get("/models").json()["models"]}
    assert (listed["towers/1"], listed["pictures/1"]) == ("/clip/compare", "/infer/embeddings")
    missing = {model["id"]: model["route"] for model in told["unpublished"]}
    assert missing["dinov3-small"] == "/infer/embeddings", "its released weights know no classes"


def test_the_schema_of_the_models_is_documented_with_an_example(house):
    described = house.client.get("/openapi.json").json()
    answer = described["paths"]["/models"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert described["components"]["schemas"][answer["$ref"].rpartition("/")[2]]["example"]["models"]


def test_the_sample_is_the_photograph(house, tmp_path):
    photo = (Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png").read_bytes()
    assert house.client.get(f"{routes.STATIC}/sample.png").content == photo
