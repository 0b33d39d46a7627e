"""The house rules that a machine can check: arrows between rooms, what serving imports, what the wheel carries."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

TREE = Path(__file__).parents[1]
PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = {package: TREE / folder for package, folder in SETUPTOOLS["package-dir"].items()}
ROOMS = ("exporters", "ensembles", "python_backend", "engine", "drawing", "client", "batch", "facade")

# room -> the other rooms it may look into; "core" is everything of tritonvision/ but the command line
ARROWS = {
    "core": set(),
    "python_backend": {"core"},
    "ensembles": {"core", "python_backend"},
    "exporters": {"core", "python_backend", "ensembles"},
    "engine": {"core"},
    "drawing": {"core"},
    "client": {"core", "engine"},
    "batch": {"core", "engine", "client"},
    "facade": {"core", "engine", "drawing"},
    "cli": {"core", "engine", "drawing", "client", "batch", "facade", "python_backend", "ensembles", "exporters"},
}
EXPORTERS_ONLY = {
    "torch", "torchvision", "ultralytics", "timm", "onnx", "onnxslim", "safetensors", "flatbuffers", "nncf",
}  # fmt: skip


def package_files() -> dict[str, Path]:
    """Every Python file of the package by its dotted module name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            inner = path.relative_to(folder).with_suffix("").parts
            parts = inner[:-1] if inner[-1] == "__init__" else inner
            found[".".join([package, *parts])] = path
    return found


FILES = package_files()


def room_of(module: str) -> str:
    first = module.split(".")[1] if "." in module else ""
    if first in ROOMS:
        return first
    return "cli" if first in ("cli", "__main__") else "core"


def modules_of(room: str) -> list[str]:
    return [module for module in FILES if room_of(module) == room]


@cache
def text_of(module: str) -> str:
    return FILES[module].read_text()


@cache
def imports_in(module: str) -> list[ast.Import | ast.ImportFrom]:
    """Every import in the file of ``module``, wherever it stands."""
    return [node for node in ast.walk(ast.parse(text_of(module))) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports_of(module: str) -> set[str]:
    """Modules of tritonvision that the file of ``module`` imports."""
    found = set()
    for node in imports_in(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{module}: imports are absolute here, line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "tritonvision"}


def in_getattr_of_the_package(module: str, target: str) -> bool:
    """The one line in the core that looks up: AutoModel and ViModel are handed out by a module ``__getattr__``."""
    if module != "tritonvision":
        return False
    for node in ast.parse(text_of(module)).body:
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
            return target.split(".")[1] in ast.unparse(node)
    return False


@pytest.mark.parametrize("room", ARROWS)
def test_imports_point_one_way(room):
    for module in modules_of(room):
        for target in imports_of(module):
            allowed = room_of(target) in {room, *ARROWS[room]} or in_getattr_of_the_package(module, target)
            assert allowed, f"{module} ({room}) imports {target} ({room_of(target)})"


def test_no_file_imports_a_room_by_the_name_of_its_folder():
    for module in FILES:
        names = set()
        for node in imports_in(module):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif node.module:
                names.add(node.module.split(".")[0])
        assert not names & set(ROOMS), f"{module}: the same module would be loaded twice under two names"


def test_a_module_stays_small_enough_to_read():
    assert {module: lines for module in FILES if (lines := len(text_of(module).splitlines())) > 400} == {}


def test_only_the_settings_read_the_environment():
    readers = {
        "tritonvision.settings",
        "tritonvision.server.process",  # hands it on to tritonserver
        "tritonvision",  # turns ONNX Runtime's telemetry off
        "tritonvision.heartbeat",  # in a process of tritonserver, which has no settings
    }
    asked = {name for name in FILES if room_of(name) not in ("exporters", "cli")} - readers
    assert [module for module in asked if re.search(r"\bos\.(environ|getenv)\b", text_of(module))] == []


# what else opens pictures: our own mask in an answer, what an export makes or brings along, and depth that is in a PNG
READERS = {
    "tritonvision.client.remote.parsers", "tritonvision.exporters.parity.sample_pictures",
    "tritonvision.exporters.parity.text_pages", "tritonvision.exporters.precision.labelled",
}  # fmt: skip


def test_one_package_reads_pictures():
    decoder = r"\b(imdecode|imread|Image\.open|ImageOps|exif_transpose|getexif)\b"
    others = {module for module in FILES if not module.startswith("tritonvision.pictures.")} - READERS
    found = [module for module in others if re.search(decoder, text_of(module))]
    assert not found, "ask tritonvision.pictures: two decoders disagree about orientation, alpha and depth"


def test_one_package_reads_and_writes_videos():
    others = {module for module in FILES if not module.startswith("tritonvision.client.video")}
    found = {m for m in others if re.search(r"\bimport av\b|\bfrom av\b|VideoCapture|VideoWriter\(", text_of(m))}
    assert found <= {"tritonvision.cli.video"}, "ask tritonvision.client.video"


def test_serving_imports_nothing_of_the_exporters():
    serving = [name for name in sorted(FILES) if room_of(name) != "exporters" and not name.endswith("__main__")]
    program = f"""
import importlib, sys, types

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXPORTERS_ONLY!r} or name.startswith("tritonvision.exporters"):
            raise AssertionError(f"serving imports {{name}}")

sys.meta_path.insert(0, Forbidden())
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")  # Triton's own, in a stub
for name in {serving!r}:
    importlib.import_module(name)
heavy = {{"pyarrow", "ray", "fsspec"}} & set(sys.modules)  # extras of batches alone
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_steps_of_triton_import_no_http_and_no_command_line():
    steps = [name for name in sorted(FILES) if room_of(name) == "python_backend"]
    program = f"""
import importlib, sys, types
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
for name in {steps!r}:
    importlib.import_module(name)
heavy = {{"fastapi", "uvicorn", "typer", "rich", "pydantic", "supervision", "httpx", "grpc"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_listed_packages_are_the_tree():
    tree = set()
    for package, folder in FOLDERS.items():
        for path in folder.rglob("__init__.py"):
            tree.add(".".join([package, *path.parent.relative_to(folder).parts]))
    assert tree == set(SETUPTOOLS["packages"])


def test_folders_that_are_no_packages_hold_no_init_file():
    for folder in ("docker", "model_repository", "tests", "benchmarks", "docs"):
        assert not list((TREE / folder).rglob("__init__.py"))


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> list[str]:
    """Names of the files in the wheel, built from a copy: a build leaves folders behind."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("tritonvision", *ROOMS):
        shutil.copytree(TREE / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(TREE / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(target)]
    done = subprocess.run([*build, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = target.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_makes_nothing_but_tritonvision_importable(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tritonvision"}


def test_the_wheel_carries_every_module_and_every_data_file(wheel_names):
    wanted = set()
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".json", ".png", ".txt", ".html", ".css", ".js", ".svg"):
                wanted.add(f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}")
    assert wanted <= set(wheel_names)
    assert any(name.endswith("licenses/NOTICE") for name in wheel_names)


def test_serving_installs_no_torch_and_all_leaves_nvidias_index_alone():
    base = " ".join(PROJECT["project"]["dependencies"])
    extras = PROJECT["project"]["optional-dependencies"]
    for name in ("torch", "ultralytics", "timm", "onnx>"):
        assert name not in base + " ".join(extras["onnx-cpu"] + extras["mediapipe"][1:] + extras["client"])
    assert "tensorrt" not in " ".join(extras["all"]) and "trt10" not in extras["all"][0]


def test_every_version_in_the_constraints_is_exact_and_names_no_place_to_load_from():
    for path in TREE.glob("constraints*.txt"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert len(lines) > 20
        for line in lines:
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"{path.name}: {line}"


def test_the_type_checker_reads_every_room():
    """``make lint`` lists the rooms; an override could leave one out without a word."""
    options = PROJECT["tool"]["mypy"]
    assert "overrides" not in options and not {"exclude", "ignore_errors", "disable_error_code"} & options.keys()
    lint = (TREE / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert set(ROOMS) <= set(re.findall(r"\w+", lint)) and "-p tritonvision" in lint


def test_no_model_id_stands_twice_in_the_catalogue():
    listed = [model["id"] for model in json.loads((TREE / "tritonvision/data/catalogue.json").read_text())["models"]]
    assert len(listed) == len(set(listed)) == 160


FAMILIES = sorted(
    path.stem for path in (TREE / "exporters" / "families").iterdir() if not path.name.startswith("__")
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_states_its_tolerance_and_what_it_is_measured_against(name):
    if find_spec("onnx") is None:
        pytest.fail("this environment lacks the 'mediapipe' extra, which 'make test' installs")
    from importlib import import_module

    from tritonvision import catalog
    from tritonvision.exporters.contract import Family, kind

    family = import_module(f"tritonvision.exporters.families.{name}").FAMILY
    assert isinstance(family, Family)
    assert family.name in {entry.family for entry in catalog.entries().values()}
    assert family.tolerance.tensors and all(0 <= bar < 1 for bar in family.tolerance.tensors.values())
    entry = next(entry for entry in catalog.entries().values() if entry.family == family.name)
    nets = [net for point in family.entry_points(entry) for net in point.nets]
    emitted = {kind(tensor.name) for net in nets for tensor in net.outputs}
    if not family.refusals.head:  # with a head of the user's its network emits classes, too
        emitted |= {"logits", "scores"}
    assert set(map(kind, family.tolerance.tensors)) == emitted
    assert family.reference_pipeline.package and family.reference_pipeline.version and family.reference_pipeline.call
    golden = TREE / "exporters" / "families" / name / "golden.json"
    extras = PROJECT["project"]["optional-dependencies"]
    without_what_it_asks_for = (TREE / "Makefile").read_text()  # --no-deps, which no extra can say
    beside_the_exporter = family.reference_pipeline.package in " ".join(
        [*extras["export"], *extras["torch-cpu"], without_what_it_asks_for]
    )
    assert beside_the_exporter or golden.is_file(), "what cannot be asked at export needs recorded answers"
