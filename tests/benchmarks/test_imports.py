"""What a benchmark takes of another one is there: most run by hand only, and would tell nobody."""

import ast
from pathlib import Path

import pytest

FILES = {path.stem: ast.parse(path.read_text()) for path in (Path(__file__).parents[2] / "benchmarks").glob("*.py")}


def defined(tree: ast.Module) -> set[str]:
    """Names that a module has at its top level."""
    names = {node.id for top in tree.body for node in ast.walk(top) if isinstance(node, ast.Name)}
    names |= {top.name for top in tree.body if isinstance(top, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)}
    return names


@pytest.mark.parametrize("name", FILES)
def test_what_a_benchmark_takes_of_another_one_is_there(name):
    nodes = [*ast.walk(FILES[name])]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names} & FILES.keys()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module in FILES:
            assert {alias.name for alias in node.names} <= defined(FILES[node.module]), node.module
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
            assert node.attr in defined(FILES[node.value.id]), f"{node.value.id}.{node.attr}"
