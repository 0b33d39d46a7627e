"""docs/models/ is what ``make pages`` writes now, and its examples name routes, fields, ids and settings that exist.

``tests/served/test_model_pages.py`` runs the examples.
"""

import ast
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer

from tritonvision import catalog, cli, tasks
from tritonvision.engine.engine import Engine
from tritonvision.exporters import registry
from tritonvision.facade.app import create_app
from tritonvision.facade.dialects.huggingface import routes as huggingface
from tritonvision.settings import Settings

TREE = Path(__file__).parents[2]
ENTRIES = list(catalog.entries().values())
SETTINGS = Settings(triton_url="127.0.0.1:1")


def generator():
    folder = str(TREE / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("model_pages")
    finally:
        sys.path.remove(folder)


PAGES = generator()
TEXTS = {path.name: path.read_text() for path in PAGES.FOLDER.glob("*.md")}
OF_FAMILIES = {name: TEXTS[f"{PAGES.slug(name)}.md"] for name in dict.fromkeys(e.family for e in ENTRIES)}
HERE = {name: text for name, text in OF_FAMILIES.items() if name in registry.exportable()}
TASK_OF = {
    name: PAGES.task_of(name, [entry for entry in ENTRIES if entry.family == name])
    for name in dict.fromkeys(entry.family for entry in ENTRIES)
}
STREAMED = {name for name, task in TASK_OF.items() if task == tasks.TRACKING.name}  # asked frame by frame
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text, language):
    return [code for kind, code in BLOCK.findall(text) if kind == language]


def called(code, name):
    """The calls of ``name`` in Python code."""
    found = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [call for call in found if ast.unparse(call.func) == name]


# ---- the pages are the generator's -----------------------------------------------------------------------------------


def test_the_pages_are_what_the_generator_writes_now():
    fresh = PAGES.pages()
    assert set(TEXTS) == set(fresh), "run: make pages"
    for name, text in fresh.items():
        assert TEXTS[name] == text, f"docs/models/{name} is out of date, run: make pages"


def test_there_is_a_page_for_each_family_and_a_line_for_each_id():
    assert len(OF_FAMILIES) == 38 == len(TEXTS) - 1
    for entry in ENTRIES:
        assert f"| `{entry.id}` |" in OF_FAMILIES[entry.family]
        assert entry.license.casefold() in " ".join(OF_FAMILIES[entry.family].split()).casefold()
        assert all(f"`{alias}`" in OF_FAMILIES[entry.family] for alias in entry.aliases)
    named = re.findall(r"^\| \[([^\]]+)\]", TEXTS["README.md"], re.MULTILINE)
    assert named == list(OF_FAMILIES), "the index is in the order of the catalogue"


def test_the_index_and_the_readme_count_what_can_be_exported():
    exported = sum(map(registry.can_export, ENTRIES))
    assert f"exports {exported} ids" in TEXTS["README.md"]
    front = " ".join((TREE / "README.md").read_text().split())
    assert f"knows {len(ENTRIES)} ids of {len(OF_FAMILIES)} families" in front
    assert re.search(r"version exports (\d+)", front)[1] == str(exported)
    for_engines = sum(entry.id in registry.find(entry.family).engine_only for entry in ENTRIES)
    assert f"; {for_engines} are too large for a graph" in front


@pytest.mark.parametrize("name", sorted(set(OF_FAMILIES) - set(HERE)))
def test_a_family_without_an_exporter_says_so_and_promises_no_call(name):
    text = OF_FAMILIES[name]
    assert "does not export" in text and not BLOCK.search(text) and "Ask it" not in text


@pytest.mark.parametrize("name", sorted(HERE))
def test_random_weights_are_said_wherever_a_figure_stands(name):
    figures = HERE[name].partition("## How close it is")[2]
    random = any(line.endswith((" ported |", " reduced |")) for line in figures.splitlines())
    assert random == ("weights were random" in " ".join(figures.split()))


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_links_lead_somewhere_and_nothing_is_left_to_fill_in(name):
    text = TEXTS[name]
    assert not re.search(r"\{(id|wire_id|room|version|family)\}", text)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (PAGES.FOLDER / path).resolve()
        assert linked.is_file(), target
        titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {title.lower().replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_lines_that_are_no_rows_of_tables_are_short(name):
    assert [line for line in TEXTS[name].splitlines() if len(line) > 120 and line[0] != "|"] == []


# ---- the examples ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def routes():
    """Of each POST route: a pattern of its paths, and the fields of its body where it reads JSON alone."""
    app, found = create_app(Engine(SETTINGS), SETTINGS), []
    for path, methods in app.openapi()["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {})
        fields = body.get("application/json", {}).get("schema", {}).get("properties")
        if "post" in methods:
            found.append((re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(path))), fields))
    return found


@pytest.mark.parametrize("name", sorted(HERE))
def test_every_url_is_of_a_route(routes, name):
    paths = re.findall(r"http://localhost:9001(/[^\s\"?`)]+)", HERE[name])
    assert len(paths) >= (1 if name in STREAMED else 2)
    for path in paths:
        assert path in ("/docs", "/v1") or any(pattern.fullmatch(path) for pattern, _ in routes), path


@pytest.mark.parametrize("name", sorted(HERE))
def test_every_field_of_a_body_is_known_to_its_route(routes, name):
    seen = 0
    for code in blocks(HERE[name], "python"):
        bodies = {}
        for node in ast.parse(code).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                bodies[ast.unparse(node.targets[0])] = [ast.literal_eval(key) for key in node.value.keys]
            for call in called(ast.unparse(node), "requests.post"):
                path = ast.literal_eval(call.args[0]).removeprefix("http://localhost:9001")
                body = next(keyword.value for keyword in call.keywords if keyword.arg == "json")
                sent = [key for name, keys in bodies.items() if name in ast.unparse(body).split() for key in keys]
                known = next(fields for pattern, fields in routes if pattern.fullmatch(path) and "{" not in path)
                assert sent and set(sent) <= set(known), (path, sent)
                seen += 1
    assert seen >= 1 or name in STREAMED


@pytest.mark.parametrize("name", sorted(HERE))
def test_settings_are_those_of_the_task_and_calls_know_no_other(name):
    known = [parameter.name for parameter in tasks.TASKS[TASK_OF[name]].parameters]
    table = HERE[name].partition("## Settings")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` ", table, re.MULTILINE)) == sorted(known)
    for code in blocks(HERE[name], "python"):
        for function in ("triton.infer", "model", "model.segment", "model.prompt"):
            for call in called(code, function):
                assert {keyword.arg for keyword in call.keywords} <= set(known)


@pytest.mark.parametrize("name", sorted(HERE))
def test_there_is_an_example_for_each_dialect_that_answers_the_task(name):
    found = set(re.findall(r"^### (.*)$", HERE[name], re.MULTILINE))
    task = TASK_OF[name]
    if name in STREAMED:
        assert found == {"AutoModel", "TritonClient", "WebSocket"}
        return
    answered = {"Roboflow", "AutoModel", "Command line"}
    answered |= {"Hugging Face"} if any(task in other.does for other in huggingface._TASKS) else set()
    answered |= {"OpenAI"} if task == tasks.VLM.name else {"TritonClient"}
    assert found == answered


@pytest.mark.parametrize("name", sorted(HERE))
def test_every_command_line_is_understood(name):
    group = typer.main.get_command(cli.app)
    lines = [line for code in blocks(HERE[name], "bash") for line in code.splitlines() if line.startswith("tritonv")]
    commands = []
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command, parser, rest = group.resolve_command(typer.Context(group, info_name="tritonvision"), words)
        params = parser.make_context(command, rest).params
        (model,) = params.get("model_ids") or [params.get("model_id")]
        assert registry.can_export(catalog.find(model))
        commands.append(command)
    assert {"export"} | (set() if name in STREAMED else {"predict"}) <= set(commands)


def test_a_family_that_was_never_measured_has_a_page_that_says_so(monkeypatch):
    for name in ("read", "read_variants"):
        monkeypatch.setattr(PAGES.parity_table, name, dict)
    text = PAGES.pages()["yolov8.md"]
    assert "To be measured against ultralytics" in text and "| not measured |" in text and " / " not in text
    assert "tritonvision export yolov8n-640" in text


def test_every_task_of_a_family_has_a_template_and_every_template_a_task():
    own = {PAGES.slug(name) for name in OF_FAMILIES}
    assert {path.stem for path in PAGES.TEMPLATES.glob("*.md")} - own == {*tasks.TASKS, "image-embedding"}
    assert set(TASK_OF.values()) == set(tasks.TASKS)
    used = {PAGES.template_of(entry.family, [entry]) for entry in ENTRIES}
    assert "image-embedding" in used and used >= set(tasks.TASKS)
