"""The reference of packages shares no code with what it is the measure of."""

import ast
from pathlib import Path

from tritonvision.exporters import packages

JUDGED = {"heads", "layouts", "pipeline", "onnx_file"}


def test_it_imports_nothing_of_what_tells_outputs_apart_or_serves_them():
    tree = ast.parse((Path(packages.__file__).parent / "reference.py").read_text())
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in found if module.split(".")[-1] in JUDGED or "python_backend" in module}
    assert not {module for module in found if module.startswith("tritonvision.ensembles")}
