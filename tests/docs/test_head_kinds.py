"""docs/head-kinds.md says of every head kind, composition and task exactly what the code says."""

import json
import re
from pathlib import Path

import pytest

from tritonvision import catalog, results, tasks
from tritonvision.ensembles.entry_points import Chat, Composition
from tritonvision.ensembles.schemas import HEADS
from tritonvision.ensembles.tensors import IMAGE, IMAGE_SIZE, PARAMETERS
from tritonvision.exporters.families import (
    doctr,
    easyocr,
    grounding_dino,
    l2cs,
    owlv2,
    sam,
    sam2_rt,
    smolvlm,
    trocr,
    yolo_world,
)

TREE = Path(__file__).parents[2]
TEXT = (TREE / "docs" / "head-kinds.md").read_text()
SECTIONS = {part.split("\n", 1)[0]: part for part in TEXT.split("\n## ")[1:]}
(CHAT,) = smolvlm.FAMILY.entry_points(catalog.find("smolvlm-256m"))
COMPOSITIONS = {
    point.name: point
    for point in (
        sam.point(), sam2_rt.point(), l2cs.POINT, grounding_dino.point(), owlv2.point(), doctr.POINT, trocr.point(),
        CHAT, yolo_world.point(),
    )
}  # fmt: skip
COMMON = {IMAGE.name, PARAMETERS.name, IMAGE_SIZE.name}


def tables(section):
    """Rows of cells by the first title of each table."""
    found, rows = {}, None
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            rows = None
        elif rows is None:
            rows = found.setdefault(cells[0], [])
        elif set(line) != set("|-"):
            rows.append(cells)
    return found


def written(rows):
    """Tensors of a table: name, type, axes with -1 for a letter."""
    axes = [[axis.strip() for axis in row[2].strip("[]").split(",")] for row in rows]
    return {
        (row[0].strip("`"), row[1], tuple(int(a) if a.isdigit() else -1 for a in dims))
        for row, dims in zip(rows, axes, strict=True)
    }


def free_of_letters(tensors, axes):
    """The tensors with -1 where the table ``axes`` of the same names has a letter: a size that families choose."""
    named = {name: dims for name, _, dims in axes}
    return {
        (name, dtype, tuple(-1 if w == -1 else d for d, w in zip(dims, named.get(name, dims), strict=True)))
        for name, dtype, dims in tensors
    }


(RESULTS,) = tables(TEXT.split("\n## ")[0]).values()


def coded(tensors):
    """The same of the code; of a network's layers, which are alike, each kind once."""
    return {
        (re.sub(r"\.\d+\.", ".N.", tensor.name), tensor.dtype, tensor.dims)
        for tensor in tensors if tensor.name not in COMMON
    }  # fmt: skip


def test_the_sections_are_the_head_kinds_and_the_settings():
    assert set(SECTIONS) == {*HEADS, *COMPOSITIONS, "Settings of the tasks"}


@pytest.mark.parametrize("name", [*HEADS, *COMPOSITIONS])
def test_a_section_names_version_and_task(name):
    kind = HEADS.get(name) or COMPOSITIONS[name]
    assert f"Version {kind.version}, task `{kind.task.name}`" in SECTIONS[name]
    assert f"`{name}`" in "".join(row[0] for row in RESULTS)


@pytest.mark.parametrize("name", list(HEADS))
def test_a_head_kinds_tables_are_its_tensors(name):
    found = tables(SECTIONS[name])
    assert set(found) == {"the network emits", "the public model answers"}
    assert written(found["the network emits"]) == coded(HEADS[name].tensors)
    assert written(found["the public model answers"]) == coded(HEADS[name].outputs)


@pytest.mark.parametrize("name", list(COMPOSITIONS))
def test_a_compositions_tables_are_its_tensors_and_those_of_its_networks(name):
    point: Composition | Chat = COMPOSITIONS[name]
    sent = point.inputs if point is CHAT else point.extra_inputs
    wanted = {"the public model answers": point.outputs, "the caller may send": sent}
    for net in point.nets:
        spoken = f"`{net.role}`" if net.role else "the network"
        wanted |= {f"{spoken} reads": net.inputs, f"{spoken} emits": net.outputs}
    found = tables(SECTIONS[name])
    told = {title: written(rows) for title, rows in found.items()}
    wanted = {title: coded(tensors) for title, tensors in wanted.items() if tensors}
    if point is CHAT:  # its pictures are called as everybody's, but are any number; sizes are each family's own
        told["the caller may send"] = {row for row in told["the caller may send"] if row[0] not in COMMON}
        wanted = {title: free_of_letters(tensors, told[title]) for title, tensors in wanted.items()}
    assert told == wanted


@pytest.mark.parametrize("name", [*HEADS, *COMPOSITIONS])
def test_the_table_of_the_architecture_has_every_kind(name):
    assert f"\n| `{name}` " in (TREE / "docs" / "architecture.md").read_text()


def test_the_result_types_and_routes_exist():
    routes = "".join(path.read_text() for path in (TREE / "facade" / "dialects").rglob("*.py"))
    for _, types, paths in RESULTS:
        for name in re.findall(r"[A-Z]\w{2,}", types):
            assert hasattr(results, name), name
        for path in re.findall("`([^`]+)`", paths):
            assert f'"{path}"' in routes, path


def test_every_composition_of_the_server_has_a_section():
    modules = {path.stem for path in (TREE / "python_backend" / "compositions").glob("*.py")} - {"__init__"}
    points = [point for point in COMPOSITIONS.values() if point is not CHAT] + [easyocr.point()]
    assert modules == {(point.module or point.name).replace("-", "_") for point in points}


def test_another_composition_of_a_schema_stands_in_its_section():
    point, section = easyocr.point(), SECTIONS[easyocr.point().name]
    assert f"`python_backend/compositions/{point.module.replace('-', '_')}.py`" in section
    further = {tensor.name for tensor in point.outputs} - {tensor.name for tensor in doctr.POINT.outputs}
    assert further == {"polygons"} and "`polygons` FP32 [n, 4, 2]" in section


def allowed(parameter):
    if parameter.shape:
        return f"[{', '.join('n' if n is None else str(n) for n in parameter.shape)}]"
    if parameter.choices:
        return ", ".join(parameter.choices)
    return "" if parameter.low is None else f"{parameter.low:g} to {parameter.high:g}"


def default(parameter):
    return parameter.default if isinstance(parameter.default, str) else json.dumps(parameter.default)


def test_the_settings_are_those_of_the_tasks():
    (rows,) = tables(SECTIONS["Settings of the tasks"]).values()
    found = {
        (task, row[0].strip("`"), *row[1:4])
        for row in rows
        for task in (tasks.TASKS if row[4] == "all" else re.findall("`([^`]+)`", row[4]))
    }
    assert found == {
        (task.name, p.name, p.kind, default(p), allowed(p)) for task in tasks.TASKS.values() for p in task.parameters
    }
