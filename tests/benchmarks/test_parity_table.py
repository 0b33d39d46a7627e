"""The table of ``make parity-all``: what was not run keeps its line, what failed is no proof, limits stand beside."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tritonvision import catalog

FILE = Path(__file__).parents[2] / "benchmarks" / "parity_table.py"
SPEC = importlib.util.spec_from_file_location("parity_table", FILE)
table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(table)
ENTRIES = catalog.entries()


def record(**changes):
    plain = {
        "head": "classes", "weights": "random", "seed": 3, "input": [224, 224], "relative": [],
        "figures": {"tensor_logits": [2e-5, 1e-4], "pipeline_scores": [0.0, 1e-5]}, "answers": {"": 4000},
        "seconds": 12.34, "machine": "a machine", "failure": "",
    }  # fmt: skip
    return plain | changes


def lines_of(text, model_id):
    return [line for line in text.splitlines() if line.startswith(f"| {model_id} |")]


def test_nothing_run_is_a_catalogue_of_missing_ids():
    text = table.render({}, {}, ENTRIES)
    assert "| **all** | **160** | **0** | **0** | **0** | **160** |" in text
    assert "## classes" not in text and "## Failed" not in text


def test_a_line_shows_every_figure_beside_its_limit():
    (line,) = lines_of(table.render({"resnet18": record()}, {}, ENTRIES), "resnet18")
    assert line == "| resnet18 | 11.7 | 224 x 224 | 3 | 4000 | 2.0e-05 / 0.0001 | 0 / 1e-05 |  |  |  | 12 | ported |"
    measured = record(peak=2_345_000_000, files=46_800_000)
    (line,) = lines_of(table.render({"resnet18": measured}, {}, ENTRIES), "resnet18")
    assert line.endswith("|  | 46.8 | 2.3 | 12 | ported |")


def test_what_float32_excuses_is_marked_and_relative_figures_say_so():
    figures = {"tensor_logits": [2e-3, 1e-4]}
    (line,) = lines_of(table.render({"resnet18": record(figures=figures, relative=["tensor_logits"])}, {}, ENTRIES),
                       "resnet18")  # fmt: skip
    assert "| 2.0e-03* / 0.0001 rel |" in line


def test_official_weights_prove_and_random_ones_port_and_a_failure_does_neither():
    assert table.status(record(weights="official")) == "proven"
    assert table.status(record()) == "ported"
    assert table.status(record(weights="official", failure="It differs.")) == table.status(None) == "missing"
    found = table.counts({"resnet18": record(), "resnet34": record(weights="official")}, ENTRIES)
    assert (found["proven"], found["ported"], found["missing"]) == (1, 1, 158)


def test_a_record_of_a_reduced_size_says_so_and_claims_no_parameters():
    assert table.status(record(reduced=True)) == "reduced"
    assert table.status(record(reduced=True, failure="It differs.")) == "missing"
    (line,) = lines_of(table.render({"resnet18": record(reduced=True, input=None)}, {}, ENTRIES), "resnet18")
    assert line.startswith("| resnet18 |  | as the picture |") and line.endswith("| reduced |")


def test_variants_that_passed_stand_in_the_line_and_what_refused_the_others_below():
    passed = {"figures": {"agreement": 0.99}, "shown": "agreement", "kept_fp32": 0}
    tried = {
        "resnet18": {"openvino-bf16": passed, "openvino-int8": passed | {"kept_fp32": 3}},
        "resnet34": {"openvino-bf16": passed | {"kept_fp32": 1}, "openvino-int8": {"refused": "0.9 of 0.95 agree."}},
        "resnet50": {"openvino-bf16": {"refused": "None agree."}},
    }  # fmt: skip
    text = table.render(dict.fromkeys([*tried, "resnet101"], record()), tried, ENTRIES)
    column = lines_of(text, "id")[0].split(" | ").index("variants")
    assert [lines_of(text, model_id)[0].split(" | ")[column] for model_id in (*tried, "resnet101")] == [
        "openvino-bf16, openvino-int8 (3 layers in fp32)", "openvino-bf16 (1 layer in fp32)", "none", "",
    ]  # fmt: skip
    refused = text.partition("## Refused variants\n\n")[2].splitlines()[:2]
    assert refused == ["* `resnet34`, openvino-int8: 0.9 of 0.95 agree.", "* `resnet50`, openvino-bf16: None agree."]


def test_variants_stay_when_the_figures_are_run_again(tmp_path):
    tried = {"resnet18": {"openvino-bf16": {"refused": "None agree."}}}
    table.write({"resnet18": record()}, tried, ENTRIES, tmp_path)
    again = table.read(tmp_path / "variants.json")
    table.write({"resnet18": record(seconds=9)}, again, ENTRIES, tmp_path)
    assert table.read(tmp_path / "variants.json") == tried
    assert (tmp_path / "PARITY.md").read_text() == table.render({"resnet18": record(seconds=9)}, tried, ENTRIES)


def test_two_runs_at_a_time_keep_what_each_of_them_found(tmp_path):
    passed, none = {"openvino-bf16": {"refused": "None agree."}}, {"openvino-int8": {"refused": "None agree."}}

    def run(model_id):
        for tried in (passed, none):
            table.add({model_id: record()}, {model_id: tried}, ENTRIES, tmp_path)

    ids = ["resnet18", "resnet34", "resnet50", "resnet101"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(run, ids))
    assert list(table.read(tmp_path / "parity.json")) == ids
    assert table.read(tmp_path / "variants.json") == dict.fromkeys(ids, passed | none)


def test_a_failure_is_told_and_has_no_line_of_figures():
    text = table.render({"resnet18": record(failure="It differs."), "resnet34": record()}, {}, ENTRIES)
    assert "* `resnet18`: It differs." in text
    assert not lines_of(text, "resnet18") and lines_of(text, "resnet34")


def test_what_was_not_run_keeps_its_old_line_and_what_was_run_gets_a_new_one(tmp_path):
    table.write({"resnet34": record(seconds=1), "resnet18": record(seconds=2)}, {}, ENTRIES, tmp_path)
    old = table.read(tmp_path / "parity.json")
    assert list(old) == ["resnet18", "resnet34"], "in the order of the catalogue"
    table.write(table.merged(old, {"resnet34": record(failure="It differs.")}), {}, ENTRIES, tmp_path)
    new = table.read(tmp_path / "parity.json")
    assert new["resnet18"] == old["resnet18"] and new["resnet34"]["failure"]
    assert (tmp_path / "PARITY.md").read_text() == table.render(new, {}, ENTRIES)


def test_each_entry_point_has_its_own_columns():
    parity = {"tensor_embeddings": 1e-6, "pipeline_answers": 4.0, "text_tensor_embeddings": 2e-6,
              "text_pipeline_answers": 6.0}  # fmt: skip
    figures, answers = table.split_answers(parity)
    assert set(figures) == {"tensor_embeddings", "text_tensor_embeddings"}
    assert answers == {"": 4, "text": 6}
    row = record(head="embeddings", figures={name: [v, 1e-3] for name, v in figures.items()}, answers=answers)
    text = table.render({"clip/RN50": row}, {}, ENTRIES)
    assert "| answers | text, answers | graph: embeddings | text, graph: embeddings |" in text


def test_pixels_that_follow_the_picture_have_no_size():
    (line,) = lines_of(table.render({"depth-anything-v2-small": record(input=None)}, {}, ENTRIES),
                       "depth-anything-v2-small")  # fmt: skip
    assert "| as the picture |" in line


def test_a_figure_that_the_gate_does_not_know_is_an_error():
    with pytest.raises(ValueError):
        table.render({"resnet18": record(figures={"speed": [1, 2]})}, {}, ENTRIES)
