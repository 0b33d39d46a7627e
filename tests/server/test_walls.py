"""What the rules of the sandbox name, whom they do not hold, and that a kernel without a wall does without it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tritonvision.server import sandbox, walls
from tritonvision.server.fixes import has_fixes
from tritonvision.server.locate import Installation
from tritonvision.server.sandbox import Rules

OURS = "from tritonvision.python_backend.composition import TritonPythonModel  # noqa: F401\n"
LOCAL = "from tritonvision.python_backend.local_code import TritonPythonModel  # noqa: F401\n"


def publish(root: Path, model: str, code: str) -> None:
    (root / model / "1").mkdir(parents=True)
    (root / model / "1" / "model.py").write_text(code)


def rules(tmp_path: Path, **environment: str) -> Rules:
    """The rules of a server that lies in ``tmp_path``."""
    installation = Installation("path", tmp_path / "triton" / "bin" / "tritonserver", tmp_path / "triton" / "backends")
    (tmp_path / "repository").mkdir(exist_ok=True)
    return walls.rules(
        installation, installation.executable, tmp_path / "repository", tmp_path / "run", environment
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "own"), [(OURS, False), (LOCAL, True), ("import torch\n", True), (f"import os\n# {OURS}", True)]
)
def test_a_model_py_that_is_not_of_ours_is_code_of_the_users(tmp_path, code, own):
    publish(tmp_path, "first", OURS)
    publish(tmp_path, "second", code)
    (tmp_path / "weights").mkdir()
    assert walls.holds_own_code(tmp_path) is own
    assert walls.is_own_code(tmp_path / "second") is own and not walls.is_own_code(tmp_path / "first")


def test_every_model_py_that_we_publish_is_ours():
    tree = Path(__file__).parents[2] / "model_repository"
    assert list(tree.glob("*/*/model.py")) and not walls.holds_own_code(tree)


@pytest.mark.attack("secrets that are told")
def test_secrets_and_our_settings_are_not_handed_on():
    kept = {"PATH": "/bin", "HOME": "/h", "TOKENIZERS_PARALLELISM": "0", "KEYBOARD": "us", "LD_LIBRARY_PATH": "/l"}
    secret = (
        "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "PGPASSWORD", "DB_PASSWORD", "API_KEYS", "api_key",
        "GOOGLE_APPLICATION_CREDENTIALS", "TRITONVISION_API_KEY", "TRITONVISION_REDIS_URL",
    )  # fmt: skip
    assert walls.environment_of(kept | dict.fromkeys(secret, "s3cret"), confined=True) == kept


@pytest.mark.attack("secrets that are told")
def test_code_of_a_users_own_gets_the_users_keys_and_none_of_ours():
    ours = ("TRITONVISION_API_KEY", "TRITONVISION_KEYS", "ROBOFLOW_API_KEY", "DATATURE_VI_SECRET_KEY")
    theirs = {"HF_TOKEN": "t", "PATH": "/bin"}
    assert walls.environment_of(theirs | dict.fromkeys(ours, "s3cret"), confined=False) == theirs


def test_what_it_runs_on_can_be_read_and_the_folders_of_people_cannot(tmp_path):
    found = rules(tmp_path, HOME="/home/me", LD_LIBRARY_PATH="/home/me/cuda:/home:/", PYTHONPATH="/home/me")
    read = set(found.read)
    assert {"/usr", "/proc", str(Path(sys.base_prefix).resolve()), "/home/me/cuda"} <= read
    assert str(tmp_path / "repository") in read and str(Path(walls.__file__).parents[1]) in read
    assert not read & {"/", "/home", "/home/me", "/root", "/tmp", "/var", "/run", "/dev", "/etc", "/etc/shadow"}
    assert found.write == (str(tmp_path / "run"), "/dev/shm", "/home/me/.nv")
    assert "/dev/null" in found.devices and not found.connect


def test_weights_that_a_link_of_the_repository_leads_to_can_be_read(tmp_path):
    (tmp_path / "repository").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "repository" / "model").symlink_to(tmp_path / "disk")
    (tmp_path / "repository" / "circle").symlink_to("circle")
    assert str(tmp_path / "disk") in rules(tmp_path).read


def test_a_gpu_that_is_shared_may_be_asked_through_its_socket(tmp_path):
    found = rules(tmp_path, CUDA_MPS_PIPE_DIRECTORY=str(tmp_path))
    assert found.connect and str(tmp_path) in found.write


@pytest.mark.parametrize("missing", ["landlock", "seccomp", "landlock and seccomp"])
def test_a_kernel_without_a_wall_does_without_it_and_the_report_says_so(tmp_path, missing):
    lacking = "import sys; sys.path.insert(0, sys.argv.pop(1)); import sandbox"
    if "landlock" in missing:
        lacking += "; sandbox._CREATE_RULESET = 100_000"  # a call that no kernel has
    if "seccomp" in missing:
        lacking += "; sandbox._MACHINES = {}"
    given = json.dumps(asdict(Rules(read=("/",), report=str(tmp_path / "report"))))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{lacking}; sandbox.main()", str(Path(sandbox.__file__).parent), given,
         "/bin/echo", "it runs"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "it runs\n", done.stderr
    assert json.loads((tmp_path / "report").read_text()) == [
        wall for wall in ("no_new_privs", "capabilities", "landlock", "seccomp") if wall not in missing
    ]


@pytest.mark.attack("secrets that are told")
def test_what_a_started_command_creates_is_for_its_user_alone(tmp_path):
    new = tmp_path / "new"
    for given in ("null", json.dumps(asdict(Rules(read=("/",), write=(str(tmp_path),))))):
        # as Triton's library does with shared memory: it creates a file, and gives it a mode past the umask
        create = f"import os; file = os.open({str(new)!r}, os.O_CREAT, 0o666); os.fchmod(file, 0o644)"
        subprocess.run(
            [sys.executable, "-I", "-S", sandbox.__file__, given, sys.executable, "-c", create], check=True
        )  # fmt: skip
        assert new.stat().st_mode & 0o777 == 0o600
        new.unlink()


@pytest.mark.attack("code that a request brings")
def test_the_sandbox_imports_nothing_that_lies_about(tmp_path):
    for name in ("ctypes", "json", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')\n")
    done = subprocess.run(
        [sys.executable, "-I", "-S", sandbox.__file__, "null", "/bin/echo", "it runs"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "it runs\n", done.stderr


@pytest.mark.parametrize(("version", "fixed"), [("2.51.0", False), ("2.70.3", False), ("2.71.0", True), ("3.0", True)])
def test_the_safe_release_line_is_26_07(version, fixed):
    assert has_fixes(version) is fixed


def test_a_version_that_is_not_told_is_not_judged():
    assert has_fixes(None) is None and has_fixes("") is None and has_fixes("unknown") is None
