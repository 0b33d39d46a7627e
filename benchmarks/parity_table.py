"""Reads and writes ``parity.json`` and ``PARITY.md``: figures of the parity gate for every id of the catalogue.

The JSON maps an id to its record: ``head``, ``weights``, ``seed``, ``input`` ([height, width] or null where it follows
the picture), ``figures`` (name of the gate -> [difference, limit]), ``relative`` (names that count relative to the
largest value), ``answers`` (entry point -> how many were compared), ``seconds``, ``peak`` (bytes of memory of the
exporting process, mapped files left out), ``files`` (bytes of its graphs), ``machine``, and ``failure``, a sentence
that is empty when the gate let the model through. Records of older runs have neither ``peak`` nor ``files``;
``reduced`` is there, and true, where the network had every part of the id's at a size for tests.

``variants.json`` maps an id to the variants that were tried: name -> ``figures`` of the precision gate, ``shown`` (by
what) and ``kept_fp32`` (layers in fp32), or ``refused``, a sentence. It is a file of its own, so that a later run of
the figures keeps what a longer run of the variants found.
"""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tritonvision.catalog import Entry

Record = Mapping[str, Any]
Tried = Mapping[str, Mapping[str, Any]]  # what became of each variant of an id

FOLDER = Path(__file__).parent
JSON, MARKDOWN, VARIANTS = FOLDER / "parity.json", FOLDER / "PARITY.md", FOLDER / "variants.json"
STATUSES = ("proven", "ported", "reduced", "missing")
_ANSWERS = "pipeline_answers"

_HEADER = """\
# Parity

Written by `make parity-all` (`benchmarks/parity_all.py`), which exports every id at its real input through the whole
pipeline, one process a model; an id that was not run keeps the line of its last run, from `parity.json`. Each figure is
the largest difference found by the gate, next to its limit.

* **answers**: public answers of our pipeline compared with those of the family's reference pipeline on pictures and
texts.
* **graph** columns: the ONNX graph against the reference network, in the tensor's own unit (`rel`: of its largest
  value), on one sample, another and both in a batch. `*`: over the limit, and let through because it is within three
  times what float32 itself is off by against a float64 run of the reference; a class, because that run names it, too.
* **answer** columns: pixels; scores; masks as 1 - IoU; map as a share of its largest value; embeddings as a share of
  their spread between samples; degrees. `*`: over the limit, and within three times what the answers with the reference
  network move by when it runs in float64.
* **variants**: which of OpenVINO's bf16 and int8 passed the precision gate with these random weights, and how many
  layers stay in fp32 for it; what was refused stands at the end. Empty: not tried.
* **peak**: the most memory that the exporting process had at once, the network that it compares with included. Files
  that it maps are left out: the system drops them where memory is short.
* **proven**: official weights were loaded and gated. **ported**: the true architecture was gated with seeded random
  weights, calibrated to carry signal. **reduced**: so was a network with every part of the id's, but few layers and
  narrow ones, because the true size does not fit into the machine's memory. **missing**: none of these, so far.
"""


def read(path: Path = JSON) -> dict[str, Record]:
    """All records by id; empty where nothing was run yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_variants() -> dict[str, Tried]:
    """What became of the variants by id; empty where none was tried yet."""
    return read(VARIANTS)


def write(
    records: Mapping[str, Record], variants: Mapping[str, Tried], entries: Mapping[str, Entry], folder: Path = FOLDER
) -> None:
    """Write all three files."""
    for name, found in ((JSON.name, records), (VARIANTS.name, variants)):
        in_order = {model_id: found[model_id] for model_id in entries if model_id in found}
        lines = [f"{json.dumps(i)}: {json.dumps(record, ensure_ascii=False)}" for i, record in in_order.items()]
        (folder / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    (folder / MARKDOWN.name).write_text(render(records, variants, entries), encoding="utf-8")


def add(
    records: Mapping[str, Record], variants: Mapping[str, Tried], entries: Mapping[str, Entry], folder: Path = FOLDER
) -> None:
    """Add records and variants to those of the files, which several runs at a time may do, and write all three."""
    (folder / JSON.name).touch()
    with (folder / JSON.name).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # until it is closed
        text = held.read()
        known = json.loads(text) if text else {}
        tried = read(folder / VARIANTS.name)
        variants = {model_id: {**tried.get(model_id, {}), **found} for model_id, found in variants.items()}
        write(merged(known, records), merged(tried, variants), entries, folder)


def merged(records: Mapping[str, Record], fresh: Mapping[str, Record]) -> dict[str, Record]:
    """The records after a run: those of other ids stay unchanged, and a failure replaces an older success."""
    return {**records, **fresh}


def status(record: Record | None) -> str:
    """One of :data:`STATUSES`."""
    if record is None or record["failure"]:
        return "missing"
    if record.get("reduced"):
        return "reduced"
    return "proven" if record["weights"] == "official" else "ported"


def counts(records: Mapping[str, Record], entries: Mapping[str, Entry]) -> Counter[str]:
    """The number of ids of the catalogue by status."""
    return Counter(status(records.get(model_id)) for model_id in entries)


def render(records: Mapping[str, Record], variants: Mapping[str, Tried], entries: Mapping[str, Entry]) -> str:
    """The Markdown: the summary, one table for each head kind, the failures and the variants that were refused."""
    parts = [_HEADER, _summary(records, entries)]
    heads = dict.fromkeys(records[model_id]["head"] for model_id in entries if model_id in records)
    for head in heads:
        rows = {
            model_id: records[model_id]
            for model_id in entries
            if model_id in records and records[model_id]["head"] == head and not records[model_id]["failure"]
        }
        if rows:
            parts.append(f"## {head}\n\n{table(rows, variants, entries)}")
    failed = [
        f"* `{model_id}`: {records[model_id]['failure']}"
        for model_id in entries
        if model_id in records and records[model_id]["failure"]
    ]
    if failed:
        parts.append("## Failed\n\n" + "\n".join(failed) + "\n")
    refused = [
        f"* `{model_id}`, {name}: {tried['refused']}"
        for model_id in entries
        for name, tried in variants.get(model_id, {}).items()
        if "refused" in tried
    ]
    if refused:
        parts.append("## Refused variants\n\n" + "\n".join(refused) + "\n")
    machines = dict.fromkeys(records[model_id]["machine"] for model_id in entries if model_id in records)
    parts.append("Seconds are of a whole export, its process included, on:\n\n" + "".join(f"* {m}\n" for m in machines))
    return "\n".join(parts)


def _summary(records: Mapping[str, Record], entries: Mapping[str, Entry]) -> str:
    """The number of ids of each family by status."""
    families: dict[str, Counter[str]] = {}
    for entry in entries.values():
        families.setdefault(entry.family, Counter())[status(records.get(entry.id))] += 1
    whole = counts(records, entries)
    rows = [[name, str(found.total()), *(str(found[s] or "") for s in STATUSES)] for name, found in families.items()]
    rows.append(["**all**", *(f"**{n}**" for n in (whole.total(), *(whole[s] for s in STATUSES)))])
    return f"## The catalogue\n\n{markdown(['family', 'ids', *STATUSES], rows)}"


def table(rows: Mapping[str, Record], variants: Mapping[str, Tried], entries: Mapping[str, Entry]) -> str:
    """One row for each record of ``rows``, which have passed the gate."""
    roles = list(dict.fromkeys(role for record in rows.values() for role in record["answers"]))
    figures = list(dict.fromkeys(name for record in rows.values() for name in record["figures"]))
    titles = ["id", "params, M", "input", "seed", *(_spoken(role, "answers") for role in roles)]
    titles += [*map(_title, figures), "variants", "graphs, MB", "peak, GB", "seconds", "status"]
    lines = []
    for model_id, record in rows.items():
        params, size = entries[model_id].params_m, record["input"]
        lines.append([
            model_id,
            "" if params is None or record.get("reduced") else f"{params:g}",
            "as the picture" if size is None else f"{size[0]} x {size[1]}",
            "" if record["weights"] == "official" else str(record["seed"]),
            *(str(record["answers"].get(role, "")) for role in roles),
            *(_cell(record, name) for name in figures),
            _passed(variants.get(model_id, {})),
            f"{record['files'] / 1e6:.1f}" if record.get("files") else "",
            f"{record['peak'] / 1e9:.1f}" if record.get("peak") else "",
            f"{record['seconds']:.0f}",
            status(record),
        ])  # fmt: skip
    return markdown(titles, lines)


def _cell(record: Record, name: str) -> str:
    """``2.3e-06 / 1e-05``."""
    if name not in record["figures"]:
        return ""
    value, limit = record["figures"][name]
    star = "" if value <= limit else "*"
    relative = " rel" if name in record["relative"] else ""
    return f"{value:.1e}{star} / {limit:g}{relative}" if value else f"0 / {limit:g}{relative}"


def _passed(tried: Tried) -> str:
    """``openvino-bf16, openvino-int8 (3 layers in fp32)``; ``none`` where all were refused."""
    passed = {name: found["kept_fp32"] for name, found in tried.items() if "refused" not in found}
    said = [f"{name} ({kept} layer{'s' * (kept != 1)} in fp32)" if kept else name for name, kept in passed.items()]
    return ", ".join(said) or ("none" if tried else "")


def _title(name: str) -> str:
    """``text_tensor_embeddings`` -> ``text, graph: embeddings``."""
    for key, word in (("tensor_", "graph"), ("pipeline_", "answer")):
        role, found, figure = name.partition(key)
        if found:
            return _spoken(role.rstrip("_"), f"{word}: {figure}")
    raise ValueError(f"no figure of the gate: {name}")


def _spoken(role: str, what: str) -> str:
    return f"{role}, {what}" if role else what


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def split_answers(parity: Mapping[str, float]) -> tuple[dict[str, float], dict[str, int]]:
    """Figures of a manifest without the counts of answers, and these by entry point."""
    answers = {name.removesuffix(_ANSWERS).rstrip("_"): int(n) for name, n in parity.items() if name.endswith(_ANSWERS)}
    return {name: value for name, value in parity.items() if not name.endswith(_ANSWERS)}, answers
