"""Generates the pages of ``docs/models/``: one for each family and an index, so that no fact is written by hand.

    python benchmarks/model_pages.py                                 (``make pages``; the serving environment)

A page is made from the catalogue (names, licences, sizes), ``parity.json`` (figures), the family's own file (reference
pipeline), ``docs/head-kinds.md`` (settings) and the template of its task, ``docs/templates/<task>.md``, or its own: a
title, a paragraph about inputs and outputs, and an example for each dialect.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import parity_table
from parity_all import OFFICIAL
from parity_table import Record, markdown

from tritonvision import catalog, tasks
from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain, EntryPoint
from tritonvision.exporters import registry
from tritonvision.exporters.contract import Family
from tritonvision.publication import FEATURES
from tritonvision.tasks import Parameter

DOCS = Path(__file__).parents[1] / "docs"
FOLDER, TEMPLATES = DOCS / "models", DOCS / "templates"
INDEX = "README.md"
# Only of families whose released weights were run: drawings of random weights' answers would mislead.
_PICTURES = {
    "MediaPipe Face": "![The photograph with the face and its six key points drawn in](../images/astronaut-faces.png)",
}
_PICTURES_ALONE = "image-embedding"
_ROOMS = {"EasyOCR": "easy_ocr"}  # what Roboflow's routes and client call a family, where that is not its module's name
_BYTES = 4  # bytes of a float32
_WIDTH = 120  # letters in a line of prose
_LICENCE = "licence of the weights"
_MEANING = {
    "proven": "it was exported with its released weights, and answers as the original does.",
    "ported": "it was exported with random weights, and answers as the original with the same weights does; its "
    "released ones have not been tried here.",
    "reduced": "a network with every part of it, but few layers, was exported with random weights, and answers as the "
    "original does; the true size does not fit into the memory of the machine that measured.",
    "by an engine": "it has too many weights for a graph, and its export is refused; Triton's own vLLM backend serves "
    "its released weights on GPUs.",
    "not measured": "it can be exported, which is when it is measured; that has not been done here.",
    "not yet": "this version has no exporter for it.",
}
_PUBLISH = """\
```bash
tritonvision export {id}                                    # the released weights
tritonvision export {id} --weights WEIGHTS --as project/1   # yours, under a name of yours
tritonvision export {id} --weights random                   # answers nonsense, of the right form
```
"""
_ONE_FILE = """\
```bash
tritonvision export {id}
```
"""


def pages() -> dict[str, str]:
    """Every page by its file name."""
    records = parity_table.read()
    by_family: dict[str, list[Entry]] = {}
    for entry in catalog.entries().values():
        by_family.setdefault(entry.family, []).append(entry)
    texts = {f"{slug(name)}.md": _page(name, entries, records) for name, entries in by_family.items()}
    return {INDEX: _index(by_family, records)} | texts


def slug(family: str) -> str:
    """``MediaPipe Face`` -> ``mediapipe-face``."""
    return registry.module_name(family).replace("_", "-")


# ---- a page ----------------------------------------------------------------------------------------------------------


def _page(name: str, entries: list[Entry], records: Mapping[str, Record]) -> str:
    title, what, examples = _template(template_of(name, entries))
    parts = [f"# {name}", f"{title}. {what}".replace("\n", " ")]
    if name not in registry.exportable():
        parts += [_not_here(name, entries), "## Ids", _ids(entries, records)]
        return _joined(parts)
    family = registry.find(name)
    parts += [_about(name), _PICTURES.get(name, "")]
    example = _example(entries, records)
    parts += [
        "## Ids", _ids(entries, records), family.license_notice, "## Publish it", _publish(example), _options(family),
        "## Ask it", _ask(example), _filled(examples, example), "## Settings", _settings(task_of(name, entries)),
        "## How close it is", _parity(family, entries, records), "## What is inside", _inside(family, example),
    ]  # fmt: skip
    return _joined(parts)


def _example(entries: list[Entry], records: Mapping[str, Record]) -> Entry:
    """The id of a page's commands: the first of true size, else the smallest that was reduced, else any for export."""
    status = {entry.id: parity_table.status(records.get(entry.id)) for entry in entries}
    whole = [entry for entry in entries if status[entry.id] in ("proven", "ported")]
    reduced = [entry for entry in entries if status[entry.id] == "reduced"]
    reduced.sort(key=lambda entry: entry.params_m or float("inf"))
    return next(iter(whole or reduced or filter(registry.can_export, entries)))


def task_of(name: str, entries: list[Entry]) -> str:
    """What a family's models do as they are exported; the catalogue's word where they are not."""
    if name not in registry.exportable():
        return entries[0].task
    return registry.find(name).entry_points(entries[0])[0].task.name


def template_of(name: str, entries: list[Entry]) -> str:
    """Name of the template of a family's page: its own, that of its task, or of embeddings without texts."""
    if (TEMPLATES / f"{slug(name)}.md").is_file():
        return slug(name)
    task = task_of(name, entries)
    alone = name in registry.exportable() and len(registry.find(name).entry_points(entries[0])) == 1
    return _PICTURES_ALONE if alone and task == tasks.EMBEDDING.name else task


def _about(name: str) -> str:
    """The family's description: the first paragraph of its module's docstring."""
    family = importlib.import_module(f"tritonvision.exporters.families.{registry.module_name(name)}")
    text = inspect.getdoc(family) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("``", "`")


def _template(task: str) -> tuple[str, str, str]:
    """Title, paragraph, and the examples under ``### `` headings."""
    text = (TEMPLATES / f"{task}.md").read_text(encoding="utf-8")
    head, _, examples = text.partition("\n## ")
    title, _, what = head.removeprefix("# ").partition("\n")
    return title, what.strip(), re.sub(r"^## ", "### ", f"## {examples}", flags=re.MULTILINE)


def _filled(text: str, entry: Entry) -> str:
    """``text`` with its placeholders replaced by the names of ``entry``."""
    names = {
        "id": entry.id, "wire_id": entry.wire_id, "version": entry.id.rpartition("/")[2],
        # a field of docTR's route; EasyOCR's tells the regions anyway
        "regions": "" if entry.family in _ROOMS else ', "generate_bounding_boxes": True',
        "room": _ROOMS.get(entry.family) or registry.module_name(entry.family),
    }  # fmt: skip
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _not_here(name: str, entries: list[Entry]) -> str:
    task = entries[0].task
    others = dict.fromkeys(e.family for e in catalog.entries().values() if e.task == task and registry.can_export(e))
    text = f"**This version does not export {name}**; `tritonvision export {entries[0].id}` says so."
    return text + (f" The same task here: {_list(_link(other) for other in others)}." if others else "")


def _ids(entries: list[Entry], records: Mapping[str, Record]) -> str:
    """The table of ids and the meaning of its last column; a licence of all ids is a line instead of a column."""
    titles = ["id", "also called", "input", "parameters, as float32", "released weights", _LICENCE, "here"]
    rows = [
        [
            f"`{entry.id}`",
            ", ".join(f"`{name}`" for name in catalog.names_of(entry.id) if name != entry.id),
            _size(entry),
            "" if entry.params_m is None else f"{entry.params_m:g} M, {entry.params_m * _BYTES:,.0f} MB",
            _released(entry),
            entry.license,
            _status(entry, records),
        ]
        for entry in entries
    ]
    known = "".join(f"* **{word}**: {_MEANING[word]}\n" for word in dict.fromkeys(row[-1] for row in rows))
    licences = {entry.license for entry in entries}
    if len(licences) > 1:
        return f"{markdown(titles, rows)}\n{known}"
    column = titles.index(_LICENCE)
    shorter = [row[:column] + row[column + 1 :] for row in (titles, *rows)]
    return f"{_LICENCE.capitalize()}: {licences.pop()}.\n\n{markdown(shorter[0], shorter[1:])}\n{known}"


def _size(entry: Entry) -> str:
    """Height and width of the network's pixels."""
    if entry.input_size is None:
        return "follows the picture"
    size = "{} x {}".format(*entry.input_size)
    if entry.family in registry.exportable() and registry.find(entry.family).entry_points(entry)[0].size is None:
        return f"follows the picture ({size})"
    return size


def _released(entry: Entry) -> str:
    """The source of the weights, or that of the most similar ones."""
    source = entry.weights_source or "none"
    near = entry.weights_source and entry.upstream_exists is False and "nearest" not in source
    return f"none of that name; nearest: {source}" if near else source


def _status(entry: Entry, records: Mapping[str, Record]) -> str:
    if entry.family not in registry.exportable():
        return "not yet"
    if entry.id in registry.find(entry.family).engine_only:
        return "by an engine"
    status = parity_table.status(records.get(entry.id))
    return "not measured" if status == "missing" else status


def _publish(entry: Entry) -> str:
    alone = entry.id in OFFICIAL
    where = "with the `mediapipe` extra, which needs no torch" if alone else "with the export packages"
    bound = [f"`{one.id}`" for one in catalog.entries().values() if one.family == entry.family and one.terms]
    accepted = (
        f" The licence of the released weights of {', '.join(bound)} has to be accepted, once: `--accept-license`."
        if bound else ""
    )  # fmt: skip
    text = _filled(_ONE_FILE if alone else _PUBLISH, entry)
    if max(map(len, text.splitlines())) > _WIDTH:  # the comments stand closer behind long names
        text = re.sub(r" +#", "  #", text)
    return text + (
        f"\nOnce, in an environment {where}: see [Bring weights](../../README.md#bring-weights). A model that differs "
        f"from its reference is not published.{accepted}"
    )


def _options(family: Family) -> str:
    """The family's own options of an export; empty where it has none."""
    if not family.choices:
        return ""
    rows = [
        [f"`{option.name}`", f"`{option.default}`" if option.default else "", option.what, _listed(option.choices)]
        for option in family.choices
    ]
    told = "Options of the authors' own pipeline, by their names there: `--option NAME=VALUE`, which may be repeated."
    return f"{told}\n\n{markdown(['option', 'default', 'what', 'values'], rows)}"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _ask(entry: Entry) -> str:
    text = "`tritonvision serve` answers on http://localhost:9001; the pictures are files of yours."
    if entry.id not in OFFICIAL:
        text += " With random weights every answer is nonsense of the right form."
    return text + (
        " `AutoModel` asks the server that `TRITONVISION_SERVER` names, or starts a tritonserver of its own; "
        "`TritonClient` asks a tritonserver of yours. What differs between the dialects: "
        "[Coming from](../coming-from.md)."
    )


def _settings(task: str) -> str:
    """The settings of the task, with their descriptions from ``docs/head-kinds.md``."""
    section = (DOCS / "head-kinds.md").read_text(encoding="utf-8").partition("\n## Settings of the tasks\n")[2]
    titles, _, *told = [[cell.strip() for cell in line.split("|")] for line in section.splitlines() if line[:1] == "|"]
    wanted = (f"`{task}`", "all")
    told = [dict(zip(titles, row, strict=True)) for row in told]
    what = {row["setting"]: row["what"] for row in told if any(name in row["tasks"] for name in wanted)}
    rows = [
        [name := f"`{p.name}`", p.kind, _default(p), _allowed(p), what.get(name, "")]
        for p in tasks.TASKS[task].parameters
    ]
    return (
        "By the names that `AutoModel`, `TritonClient` and the model in Triton take; `null` is off, unless it says "
        "otherwise. The dialects have names and defaults of their own, which http://localhost:9001/docs lists.\n\n"
        + markdown(["setting", "kind", "default", "allowed", "what"], rows)
    )


def _default(parameter: Parameter) -> str:
    return parameter.default if isinstance(parameter.default, str) else json.dumps(parameter.default)


def _allowed(parameter: Parameter) -> str:
    if parameter.shape:
        return f"[{', '.join('n' if n is None else str(n) for n in parameter.shape)}]"
    if parameter.choices:
        return ", ".join(parameter.choices)
    return "" if parameter.low is None else f"{parameter.low:g} to {parameter.high:g}"


def _parity(family: Family, entries: list[Entry], records: Mapping[str, Record]) -> str:
    measured = {e.id: records[e.id] for e in entries if parity_table.status(records.get(e.id)) != "missing"}
    tool, variants = family.reference_pipeline, parity_table.read_variants()
    if all(record["weights"] == "official" for record in measured.values()):
        weights = "The weights were the released ones."
    else:
        weights = (
            "**The weights were random** (seeded, and calibrated to carry signal): the figures say that network and "
            "steps are the reference's, not how good the released weights are."
        )
    left = [f"`{e.id}`" for e in entries if _status(e, records) == "not measured"]
    if not measured:
        return f"To be measured against {tool.package} {tool.version}: `{tool.call}`."
    return (
        f"Measured against {tool.package} {tool.version}: `{tool.call}`. {weights} Each figure is the largest "
        "difference that was found, beside its limit; what the columns mean, and every other model, stands in "
        f"[PARITY.md](../../benchmarks/PARITY.md).\n\n{parity_table.table(measured, variants, catalog.entries())}"
        + (f"\nNot measured yet: {_list(left)}.\n" if left else "")
    )


def _inside(family: Family, example: Entry) -> str:
    """A line for each entry point."""
    lines = [f"* {_point(point)}" for point in family.entry_points(example)]
    needed = dict.fromkeys(need for point in family.entry_points(example) for need in getattr(point, "needs", ()))
    if needed:
        lines.append(f"* It asks {_list(f'`{need}`' for need in needed)}, which has to be published, too.")
    return "\n".join(lines)


def _point(point: EntryPoint) -> str:
    kind = f"[`{point.name}`](../head-kinds.md#{point.name})"
    way = {"": "The model", FEATURES: f"Its features (`{FEATURES}`)"}.get(point.role, f"Its texts (`{point.role}`)")
    if isinstance(point, Chain):
        network = "the network" if point.shares is None else "the same network"
        return f"{way}: `{point.pre.triton_name}`, {network}, {kind}."
    return f"{way}: {kind} over {_list(f'`{net.role}`' if net.role else 'its network' for net in point.nets)}."


# ---- the index -------------------------------------------------------------------------------------------------------


def _index(by_family: Mapping[str, list[Entry]], records: Mapping[str, Record]) -> str:
    every = [entry for entries in by_family.values() for entry in entries]
    here = [entry for entry in every if registry.can_export(entry)]
    found = parity_table.counts(records, catalog.entries())
    rows = []
    for name, entries in by_family.items():
        ids = [f"`{entry.id}`" for entry in entries]
        count = sum(map(registry.can_export, entries))
        rows.append([
            _link(name), _template(template_of(name, entries))[0].lower(),
            ids[0] if len(ids) == 1 else f"{ids[0]} ... {ids[-1]} ({len(ids)})",
            "; ".join(dict.fromkeys(entry.license for entry in entries)),
            "not yet" if not count else "yes" if count == len(ids) else f"{count} of {len(ids)}",
        ])  # fmt: skip
    return _joined([
        "# Models",
        "A page for each family of the catalogue: what it does, its ids, its licence, how to publish it, an example "
        "for each client, its settings, and how close it comes to the original. Written by `make pages`; a test keeps "
        "the pages equal to the code.",
        f"The catalogue knows {len(every)} ids of {len(by_family)} families. This version exports {len(here)} ids of "
        f"{len(registry.exportable())} families. "
        f"Measured so far: {found['proven']} with released weights, {found['ported']} with random ones, which say that "
        f"the steps are right and nothing about the answers, and {found['reduced']} at a reduced size; "
        "see [PARITY.md](../../benchmarks/PARITY.md).",
        markdown(["family", "what it does", "ids", _LICENCE, "exported"], rows),
    ])  # fmt: skip


# ---- words -----------------------------------------------------------------------------------------------------------


def _link(family: str) -> str:
    return f"[{family}]({slug(family)}.md)"


def _list(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _joined(parts: Iterable[str]) -> str:
    """The parts as one page; prose is wrapped, examples and tables stay unchanged."""
    lines, code = [], False
    for line in "\n\n".join(part.strip("\n") for part in parts if part).split("\n"):
        code ^= line.startswith("```")
        prose = len(line) > _WIDTH and not code and line[0] != "|"
        lines.append(_wrapped(line) if prose else line)
    return "\n".join(lines) + "\n"


def _wrapped(line: str) -> str:
    indent = "  " * line.startswith("* ")
    return textwrap.fill(line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Write every page, and remove those of families that no longer exist."""
    texts = pages()
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(texts)} pages written to {FOLDER}")


if __name__ == "__main__":
    main()
