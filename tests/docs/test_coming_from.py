"""docs/coming-from.md names routes, commands, ids, Python names and defaults that exist, and what is not here yet."""

import ast
import base64
import dataclasses
import inspect
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer
from fastapi.testclient import TestClient
from huggingface_hub import InferenceClient
from manifests import MANIFESTS, publish
from memory_engine import MemoryEngine
from openai import OpenAI
from starlette.middleware.cors import CORSMiddleware

from tritonvision import AutoModel, catalog, cli, results, tasks
from tritonvision.client import TritonClient
from tritonvision.client.automodel.keywords import WITHOUT_MEANING
from tritonvision.engine.engine import Engine
from tritonvision.exporters import registry
from tritonvision.facade.app import create_app
from tritonvision.facade.dialects.registry import OPEN_PATHS
from tritonvision.facade.dialects.roboflow.routes.tasks import NOT_YET
from tritonvision.python_backend.postprocess import dense_boxes
from tritonvision.settings import Settings

TREE = Path(__file__).parents[2]
TEXT = (TREE / "docs" / "coming-from.md").read_text()
SECTIONS = {part.split("\n", 1)[0]: part for part in TEXT.split("\n## ")[1:]}
HERE, MISSING = TEXT[: TEXT.index("\n## Not here yet")], SECTIONS["Not here yet"]
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
YOURS = {"helmets/3", "project/3"}
SETTINGS = Settings(triton_url="127.0.0.1:1")
PHOTO = (TREE / "tritonvision" / "data" / "astronaut.png").read_bytes()
DETECTION = {p.name: p for p in tasks.OBJECT_DETECTION.parameters}


def spans(text):
    """What stands between backticks, code blocks left out."""
    return SPAN.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def tables(section):
    """Rows of cells of each table, without its title."""
    found, rows = [], None
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        if not line.startswith("|"):
            rows = None
        elif rows is None:
            found.append(rows := [])
        elif set(line) != set("|-"):
            rows.append(cells)
    return found


def calls(prefix, text):
    """The calls in backticks that begin with ``prefix``, parsed."""
    codes = [code for code in spans(text) if code.startswith(prefix)]
    return [ast.parse(code, mode="eval").body for code in codes]


@pytest.fixture(scope="module")
def app():
    return create_app(Engine(SETTINGS), SETTINGS)


@pytest.fixture
def house(tmp_path):
    """The application over an engine that answers from memory: the engine, and a client."""
    publish(tmp_path, MANIFESTS)
    engine = MemoryEngine(tmp_path)
    with TestClient(create_app(engine, Settings(repository=tmp_path))) as client:
        yield engine, client


@pytest.fixture(scope="module")
def routes(app):
    """Methods by path."""
    known = {path: {method.upper() for method in methods} for path, methods in app.openapi()["paths"].items()}
    return known | {route.path: route.methods for route in app.routes if hasattr(route, "methods")}


def test_the_tables_are_read():
    rows = {name: [len(table) for table in tables(section)] for name, section in SECTIONS.items()}
    assert rows["Ids"][0] > 10 and rows["Roboflow"][0] > 15 and rows["inference-models"][0] > 15
    assert rows["What bites"] == [4, 14]
    assert all(len(row) in (3, 4, 5) for section in SECTIONS.values() for table in tables(section) for row in table)


# ---- routes ----------------------------------------------------------------------------------------------------------


def test_every_route_is_registered_for_its_method(routes):
    named = [re.fullmatch(r"(?:(GET|POST) )?(/\S+)", code) for code in spans(HERE)]
    found = [match.groups() for match in named if match]
    assert len(found) > 40
    for method, path in found:
        assert path in routes, path
        assert method is None or method in routes[path], f"{method} {path}"


def test_no_route_of_a_dialect_is_left_out(app):
    named = {code.split()[-1] for code in spans(HERE) if re.match(r"(GET|POST) /", code)}
    dialects = {
        path.replace("/{model_id}", "")
        for path, methods in app.openapi()["paths"].items()
        for method in methods.values() if {"Roboflow", "Hugging Face"} & set(method["tags"])
    }  # fmt: skip
    assert dialects - set(NOT_YET) == named & dialects


def test_what_is_not_answered_yet_is_what_is_said(app):
    answered_501 = MISSING[MISSING.index("* These answer 501") : MISSING.index("* These are a 404")]
    assert sorted(spans(answered_501)) == sorted(NOT_YET)
    unknown = MISSING[MISSING.index("* These are a 404") : MISSING.index("* Training")]
    with TestClient(app) as client:
        assert [client.post(path, json={}).status_code for path in NOT_YET] == [501] * len(NOT_YET)
        for path in spans(unknown):
            assert client.post(path, json={}).status_code == 404, path


# ---- commands --------------------------------------------------------------------------------------------------------


def command_lines():
    return [code for code in dict.fromkeys(spans(HERE)) if code.startswith("tritonvision ")]


def parsed(line):
    """The command of a line, and its arguments and options; click refuses what the command does not know."""
    group = typer.main.get_command(cli.app)
    words = shlex.split(line)[1:]
    name, command, rest = group.resolve_command(typer.Context(group, info_name="tritonvision"), words)
    return name, command.make_context(name, rest).params


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_understood(line):
    name, params = parsed(line)
    assert name in cli.COMMANDS
    ids = params.get("model_ids") or [params.get("model_id")]
    assert all(model is None or can_be_exported(model) for model in ids)


def test_there_are_command_lines():
    assert {parsed(line)[0] for line in command_lines()} == {
        "export", "import", "serve", "predict", "chat", "models", "validate",
    }  # fmt: skip


# ---- ids -------------------------------------------------------------------------------------------------------------


def can_be_exported(name):
    """Whether the catalogue knows the id, and its family writes it. Ids that this page makes up pass."""
    if name in YOURS:
        return True
    return registry.can_export(catalog.find(name))


IDS = tables(SECTIONS["Ids"])[0]


@pytest.mark.parametrize("today,here,note", IDS, ids=[row[0] for row in IDS])
def test_the_ids_are_the_catalogues(today, here, note):
    (old,) = spans(today)
    for name in spans(here):
        if name in YOURS:
            continue
        assert name in catalog.entries()
        assert (note == "not yet") == (not can_be_exported(name))
        if not old.endswith(".pt"):
            assert catalog.canonical(old) == name
    for other in spans(note):
        assert other.startswith("tritonvision ") or catalog.canonical(other) in spans(here)


def test_models_that_calls_name_can_be_exported():
    named = re.findall(r'\bmodel(?:_id)?="(?:http://localhost:9001/models/)?([^":]+)"', HERE)
    named += re.findall(r"(?:load_model|unload_model|retrieve|infer)\(\"([^\"]+)\"", HERE)
    assert len(named) > 10
    for name in named:
        assert name in ("doctr", "easy_ocr", "trocr") or can_be_exported(name), name
    assert can_be_exported("clip/ViT-B-16")


def test_the_first_request_exports_what_is_missing():
    assert SETTINGS.export_missing


# ---- Python ----------------------------------------------------------------------------------------------------------


def test_our_types_have_what_is_named():
    named = [code.split(".") for code in spans(HERE) if "." in code and hasattr(results, code.split(".")[0])]
    assert len(named) >= 5
    for owner, name in named:
        cls = getattr(results, owner)
        assert name.removesuffix("()") in {*dir(cls), *(field.name for field in dataclasses.fields(cls))}


def test_automodel_has_what_is_named_and_is_called_as_it_can_be():
    section = SECTIONS["inference-models"]
    named = {call.func.attr for call in calls("model.", section) if isinstance(call, ast.Call)}
    named |= {code.split(".")[1] for code in spans(section) if re.fullmatch(r"model\.\w+", code)}
    assert {"embed_images", "segment_images", "prompt", "generate_masks", "backend", "class_names"} <= named
    made = inspect.signature(AutoModel.__init__).parameters | {"backend": None}
    for name in named:
        assert hasattr(AutoModel, name) or name in made, name
    for call in calls("AutoModel.", section):
        assert hasattr(AutoModel, call.func.attr), call.func.attr
    keywords = {word for code in spans(section) for word in re.findall(r"^(\w+)=", code)}
    keywords -= {"stream", "progress", "schema"}
    known = {*inspect.signature(AutoModel.from_pretrained).parameters, *WITHOUT_MEANING}
    assert len(keywords) > 5 and keywords <= known, keywords - known


def test_our_client_is_called_as_it_can_be():
    asked = calls("triton.infer(", SECTIONS["ultralytics"])
    (block,) = re.findall(r"```python\n(.*?)```", SECTIONS["ultralytics"], re.DOTALL)
    asked += [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call) and len(node.args) == 2
              and isinstance(node.func, ast.Attribute) and node.func.attr == "infer"]  # fmt: skip
    assert len(asked) == 4 and "from tritonvision.client import TritonClient\n" in block
    for call in asked:
        inspect.signature(TritonClient.infer).bind(None, *call.args)
        tasks.resolve(tasks.OBJECT_DETECTION.parameters, {
            keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords
        })  # fmt: skip


def test_hugging_faces_client_has_the_methods():
    found = calls("client.", SECTIONS["Hugging Face"])
    assert len(found) >= 3
    for call in found:
        method = getattr(InferenceClient, call.func.attr)
        inspect.signature(method).bind(None, *call.args, **{k.arg: k.value for k in call.keywords})
    assert not hasattr(InferenceClient, "depth_estimation")


def test_openais_client_has_the_methods():
    client = OpenAI(base_url="http://localhost:9001/v1", api_key="any")
    found = calls("client.", SECTIONS["OpenAI"])
    assert len(found) >= 4
    for node in found:
        steps = ast.unparse(node.func if isinstance(node, ast.Call) else node).split(".")[1:]
        target = client
        for step in steps:
            target = getattr(target, step)
        if isinstance(node, ast.Call):
            inspect.signature(target).bind(*node.args, **{k.arg: k.value for k in node.keywords})


# ---- defaults, fields and limits -------------------------------------------------------------------------------------


def fields(app, path):
    return app.openapi()["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]


def test_the_defaults_are_those_of_the_routes(app, house):
    (score, overlap, most, _), _ = tables(SECTIONS["What bites"])
    engine, client = house
    loading = client.post("/models/yolov8n-640", content=PHOTO)
    assert loading.status_code == 503 and "estimated_time" in loading.json()
    wait = {"x-wait-for-model": "true"}
    assert client.post("/models/yolov8n-640", content=PHOTO, headers=wait).status_code == 200
    box, asked = fields(app, "/infer/object_detection"), engine.asked[-1][2]
    for row, name in ((score, "confidence"), (overlap, "iou_threshold"), (most, "max_detections")):
        ours, theirs, _, command = (float(cell.removesuffix(", fixed")) for cell in row[1:])
        assert (ours, theirs, command) == (box[name]["default"], asked[name], DETECTION[name].default)


def test_a_class_filter_comes_after_suppression():
    candidates = {
        "boxes": np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float32), "scores": np.array([0.9, 0.8], np.float32),
        "class_ids": np.array([0, 1], np.int32),
    }  # fmt: skip

    def kept(**given):
        return len(dense_boxes.survivors(candidates, tasks.resolve(tasks.OBJECT_DETECTION.parameters, given)))

    assert (kept(), kept(classes=[1]), kept(classes=[1], max_detections=1)) == (2, 1, 0)
    assert kept(classes=[1], class_agnostic_nms=True) == 0


def test_thresholds_from_one_on_are_per_cent_on_the_legacy_route(house):
    engine, client = house
    body = {"content": base64.b64encode(PHOTO), "headers": {"content-type": "application/json"}}
    assert client.post("/coco/3?confidence=1&overlap=50", **body).status_code == 200
    assert (engine.asked[-1][2]["confidence"], engine.asked[-1][2]["iou_threshold"]) == (0.01, 0.5)


def test_an_array_of_one_and_a_workspace_in_front(house):
    _, client = house
    image = {"type": "base64", "value": base64.b64encode(PHOTO).decode()}
    answer = client.post("/infer/object_detection", json={"model_id": "anybody/coco/3", "image": [image]}).json()
    assert len(answer) == 1 and {"x", "y", "width", "height"} <= answer[0]["predictions"][0].keys()
    assert "detail" in client.post("/infer/object_detection", json={}).json()


def test_another_task_in_the_path_and_a_batch_over_the_limit_are_refused(house):
    _, client = house
    assert client.post("/pipeline/image-classification/yolov8n-640", content=PHOTO).status_code == 400
    image = {"type": "base64", "value": base64.b64encode(PHOTO).decode()}
    body = {"model_id": "yolov8n-640", "image": [image] * (SETTINGS.max_batch + 1)}
    too_many = client.post("/infer/object_detection", json=body)
    assert too_many.status_code == 400 and str(SETTINGS.max_batch) in too_many.text


@pytest.mark.parametrize("path,names", [
    ("/infer/instance_segmentation", ("mask_decode_mode", "class_filter")), ("/infer/classification", ("regions",)),
    ("/sam/segment_image", ("sam_version_id", "box", "multimask_output")), ("/owlv2/infer", ("training_data", "text")),
    ("/doctr/ocr", ("generate_bounding_boxes",)),
])  # fmt: skip
def test_the_fields_of_a_route_are_its_own(app, path, names):
    assert all(name in fields(app, path) and f"`{name}" in HERE.replace('`"', "`") for name in names)


def test_defaults_in_the_rows(app):
    assert fields(app, "/sam/segment_image")["sam_version_id"]["default"] == "vit_h"
    assert fields(app, "/clip/embed_image")["clip_version_id"]["default"] == "ViT-B-16"
    dino = fields(app, "/grounding_dino/infer")
    assert dino["box_threshold"]["default"] == dino["text_threshold"]["default"] == 0.5
    assert {p.name: p for p in tasks.OPEN_VOCABULARY.parameters}["confidence"].default == 0.25
    assert {p.name: p for p in tasks.VLM.parameters}["max_new_tokens"].default == 512
    legacy = app.openapi()["paths"]["/{project}/{version}"]["post"]["parameters"]
    assert "class_filter" not in {parameter["name"] for parameter in legacy}


def test_the_limits_are_the_settings():
    _, rows = tables(SECTIONS["What bites"])
    for _, default, variable, _ in rows:
        (name,) = spans(variable)
        assert float(default) == getattr(SETTINGS, name.removeprefix("TRITONVISION_").lower()), name


def test_every_variable_is_a_setting_and_takes_what_is_shown(monkeypatch):
    for code in spans(HERE):
        if code.startswith("TRITONVISION_"):
            name, _, value = code.partition("=")
            field = name.removeprefix("TRITONVISION_").lower()
            assert field in Settings.model_fields, name
            if value:
                (value,) = shlex.split(value)
                monkeypatch.setenv(name, value)
                told = getattr(Settings(), field)
                assert told == (frozenset(json.loads(value)) if value.startswith("[") else json.loads(value))


def test_keys_and_other_origins_are_as_told(app):
    assert SETTINGS.api_key is None and SETTINGS.url_timeout == 10 and SETTINGS.url_input
    assert {"/docs", "/info", "/metrics", "/healthz", "/readiness"} <= OPEN_PATHS
    assert CORSMiddleware not in [middleware.cls for middleware in app.user_middleware]
