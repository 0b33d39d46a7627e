"""docs/adding-a-family.md names every declaration a family can make, as the code has it."""

import inspect
import re
from pathlib import Path

import pytest

from tritonvision.ensembles.schemas import HEADS
from tritonvision.exporters.contract import Family, Network, Tolerance
from tritonvision.python_backend.images import resize

TREE = Path(__file__).parents[2]
TEXT = (TREE / "docs" / "adding-a-family.md").read_text()
ROWS = {line.split("|")[1].strip(): line for line in TEXT.splitlines() if line.startswith("| `")}


def test_the_rules_are_those_of_the_pre_step():
    begin = TEXT.index("### Resize rules")
    rules = re.findall(r"^\| `(\w+)` \|", TEXT[begin : TEXT.index("### Head kinds")], re.MULTILINE)
    assert set(rules) == set(resize.RULES)
    for rule in rules:
        assert ("size follows the picture" in ROWS[f"`{rule}`"]) == (rule in resize.DYNAMIC)
        assert ("`valid_size`" in ROWS[f"`{rule}`"]) == (rule in resize.WITH_VALID_SIZE)


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_kind_is_named(name):
    assert f"`{name}`" in TEXT[TEXT.index("### Head kinds") : TEXT.index("### Entry points")]


@pytest.mark.parametrize("figure", list(Tolerance.DEFAULTS))
def test_every_limit_of_answers_stands_with_its_default(figure):
    assert (found := re.search(rf"`{figure}` ([\d.e-]+)", TEXT)) is not None
    assert float(found[1].rstrip(".")) == Tolerance.DEFAULTS[figure]


@pytest.mark.parametrize("contract", [Family, Network])
def test_every_method_and_attribute_of_the_contract_is_named(contract):
    public = {name for name, value in vars(contract).items() if not name.startswith("_") and inspect.isfunction(value)}
    public |= set(Family.__annotations__) if contract is Family else set()
    assert public and all(re.search(rf"`{name}[`(]", TEXT) for name in public), public


def test_the_smallest_family_is_the_one_in_the_tree():
    source = (TREE / "exporters" / "families" / "yolov11_seg.py").read_text()
    assert f"```python\n{source}```" in TEXT


def test_every_file_it_speaks_of_is_there():
    for name in re.findall(r"`((?:exporters|tests|python_backend|ensembles|tritonvision)/[\w/]+\.\w+)`", TEXT):
        assert (TREE / name).is_file(), name
