"""The table of docs/tensorrt.md is of all families, and the document names what the code does."""

from pathlib import Path

from tritonvision import plans
from tritonvision.exporters import registry
from tritonvision.exporters.tensorrt import typed

TEXT = (Path(__file__).parents[2] / "docs" / "tensorrt.md").read_text()


def test_every_family_stands_in_the_table_and_every_graph_is_parsed():
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    graphs = [row for row in rows if len(row) == 5 and row[1].startswith("`")]
    assert {row[0] for row in graphs} == registry.exportable()
    assert {row[3] for row in graphs} == {"yes"}


def test_the_precisions_and_the_parts_of_the_key_are_named():
    for precision in typed.PRECISIONS:
        assert precision in TEXT
    for words in ("graph", "TensorRT", "GPU", "compute capability", "MIG profile", "CUDA", "precision", "shapes"):
        assert words in TEXT
    assert len(plans.PlanKey.__dataclass_fields__) == 11, "a part of the key that the document does not name?"
