"""``tritonvision tune`` on the real server: what it measures, what it leaves alone, and how a model runs afterwards."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tritonvision import machine
from tritonvision.cli import app
from tritonvision.cli import tune as cli
from tritonvision.engine.engine import Engine
from tritonvision.errors import NotSupported, UnknownModel
from tritonvision.exporters import variants
from tritonvision.exporters.variants import tuning
from tritonvision.exporters.variants.search import Found, Look
from tritonvision.exporters.variants.tuning import Trial
from tritonvision.publication import Manifest, Repository
from tritonvision.server import Embedded
from tritonvision.server.process import free_port
from tritonvision.settings import Settings

MODEL = "resnet18"
NET = f"net--{MODEL}"
BASE = "onnxruntime-fp32"


@pytest.fixture
def root(publish_as, tmp_path):
    """A repository with a classifier, and its network, that a test may change."""
    root = tmp_path / "models"
    root.mkdir()
    publish_as(root, MODEL, MODEL)
    return root


def files(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def tuned(instances: int, threads: int, delay: float = 0.0, **changes):
    """A tuning as it is measured on this machine."""
    return replace(
        tuning.Tuning(("",), instances, threads, delay, machine.cpu_name(), machine.cores(), graph_bytes=1), **changes
    )


@pytest.fixture
def one_core():
    """This process, and what it starts, on one core: few settings are worth trying there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.slow
def test_settings_are_measured_on_a_server_of_its_own_and_the_repository_stays_as_it_is(root, one_core):
    before = files(root)
    done = command(MODEL, "--repository", str(root), "--seconds", "3", "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    tried = [(one["instances"], one["threads"]) for one in told["settings"]]
    assert sorted(tried) == [(1, 1), (2, 2)] and (told["today"]["instances"], told["today"]["threads"]) == (2, 2)
    for one in told["settings"]:
        assert one["variant"] == BASE and one["last_round"]
        assert 0 < one["per_second"] and 0 < one["p50"] < 60_000 and 0 < one["p99"]
    best = max(one["per_second"] for one in told["settings"])
    assert 0 < told["poisson_per_second"] and best > 0
    assert (told["chosen"]["instances"], told["chosen"]["threads"]) in tried and not told["written"]
    assert files(root) == before and not (root / ".staging").exists()


@pytest.mark.slow
def test_ctrl_c_in_the_middle_leaves_everything_as_it_was(root):
    before = files(root)
    line = [sys.executable, "-m", "tritonvision", "tune", MODEL, "--repository", str(root)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        give_up = time.monotonic() + 120
        while not list(root.glob(f".staging/*/models/{NET}/configs/trial.pbtxt")):
            assert running.poll() is None and time.monotonic() < give_up
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        said, complained = running.communicate(timeout=60)
    assert running.returncode == 130, complained
    assert "Traceback" not in complained and said == ""
    assert files(root) == before and not (root / ".staging").exists()


def test_what_was_chosen_is_written_with_its_figures_and_the_memory_that_it_takes(root, tmp_path):
    settings = Settings(repository=root, log_dir=tmp_path, port=free_port())
    planned = tuning.plan(settings, MODEL)
    assert planned.today == Trial(BASE, 2, 2) and planned.today in planned.trials
    chosen = Trial(BASE, 3, 1)
    cli._write(settings, planned, Found({chosen: Look(30.0, 20.0, 50.0, 1.0)}, (chosen,), 21.0, chosen))
    found = Repository(root).get(MODEL).tuning
    assert found.figures == {"per_second": 30.0, "p50": 20.0, "p99": 50.0} and found.networks == ("",)
    graph = (root / NET / "1" / "model.onnx").stat().st_size
    assert found.graph_bytes == planned.manifest.graph_bytes + graph
    assert found.processes == planned.manifest.processes + 1
    assert tuning.plan(settings, MODEL).today == chosen
    done = command(MODEL, "--repository", str(root), "--reset")
    assert done.exit_code == 0 and BASE in done.stdout and Repository(root).get(MODEL).tuning is None


def test_where_no_setting_keeps_the_p99_the_nearest_is_named(root, tmp_path):
    planned = tuning.plan(Settings(repository=root, log_dir=tmp_path), MODEL)
    looks = {Trial(BASE, n, 1): Look(30.0, 20.0, 50.0 / n, 1.0) for n in (1, 2)}
    error = cli._none_fits(planned, Found(looks, tuple(looks), 21.0, None), 5.0)
    assert "5 ms" in error.message and f"{BASE}, 2 processes x 1 thread, takes 25 ms" in error.message


def test_a_batching_delay_is_tried_where_requests_can_share_a_run(root, tmp_path, monkeypatch):
    settings = Settings(repository=root, log_dir=tmp_path)
    planned = tuning.plan(settings, MODEL)
    assert {trial.delay for trial in planned.trials} == {0.0} and any("delay" in note for note in planned.notes)
    monkeypatch.setattr(tuning, "native_engines", lambda installation: True)
    assert {trial.delay for trial in tuning.plan(settings, MODEL).trials} == {0.0, 1.0, 2.0}


def test_a_tuned_model_changes_over_in_a_running_server_without_a_failed_request(root, tmp_path, photo):
    """The processes that the tuning says, and those of the default where it was measured on another machine."""
    settings = Settings(repository=root, log_dir=tmp_path)

    async def work(server: Embedded) -> list[int]:
        engine = Engine(settings, server)
        await engine.start()
        done, counts = asyncio.Event(), []

        async def keep_asking():
            while not done.is_set():
                await engine.infer(MODEL, [photo], {})

        try:
            await engine.infer(MODEL, [photo], {})
            callers = [asyncio.create_task(keep_asking()) for _ in range(3)]
            for found in (tuned(3, 1), tuned(3, 1, machine="another CPU"), tuned(1, 1)):
                await asyncio.to_thread(variants.tune, root, MODEL, "", found)
                await engine.infer(MODEL, [photo], {})
                counts.append(server.instances(NET))
            done.set()
            await asyncio.gather(*callers)  # raises what failed
        finally:
            await engine.close()
        return counts

    server = Embedded(settings)
    server.start()
    try:
        assert asyncio.run(work(server)) == [3, 2, 1]
    finally:
        server.stop()


def test_what_is_tuned_is_written_into_the_configs_and_taken_back_whole(root):
    before = files(root)
    variants.tune(root, MODEL, "", tuned(3, 1, 2.0))
    config = (root / NET / "config.pbtxt").read_text()
    assert config == (root / NET / "configs" / "tuned.pbtxt").read_text()
    assert "count: 3" in config and "max_queue_delay_microseconds: 2000" in config
    assert 'key: "intra_op_thread_count"\n  value {\n    string_value: "1"' in config
    assert "count: 2" in (root / NET / "configs" / f"{BASE}.pbtxt").read_text()
    manifest = Repository(root).get(MODEL)
    assert Manifest.from_json(manifest.to_json()) == manifest and manifest.tuning.instances == 3
    variants.tune(root, MODEL, "", tuned(1, 1))
    after = variants.untune(root, MODEL)
    assert after.tuning is None and after.serving == ""
    assert files(root).keys() == before.keys()
    assert {name for name, digest in files(root).items() if digest != before[name]} <= {
        f"{MODEL}/manifest.json", f"{MODEL}/config.pbtxt", f"{NET}/config.pbtxt"
    }  # fmt: skip


def test_choosing_another_variant_drops_what_was_measured_of_the_one_before(root):
    pytest.importorskip("openvino")
    from tritonvision.variants import Variant

    variants.tune(root, MODEL, "", tuned(1, 1))
    other = Variant("openvino", "fp32", ("",))
    manifest = replace(Repository(root).get(MODEL), variants=(other,))
    (root / MODEL / "manifest.json").write_text(manifest.to_json())
    assert variants.use(root, MODEL, BASE).tuning is not None  # it serves already
    assert variants.use(root, MODEL, other.name).tuning is None
    assert not (root / NET / "configs" / "tuned.pbtxt").exists()
    after = variants.tune(root, MODEL, "", tuned(1, 2))
    assert after.serving == "" and after.tuning.before == other.name
    assert variants.untune(root, MODEL).serving == other.name


def command(*arguments: str):
    return CliRunner().invoke(app, ["tune", *arguments])


@pytest.mark.parametrize("given", ["soon", "0", "-5ms", "1e3", "1h", "61s", "ms", ""])
def test_a_p99_that_is_no_time_is_refused_before_anything_runs(root, given):
    done = command(MODEL, "--repository", str(root), f"--p99={given}")
    assert done.exit_code == 2 and "--p99" in done.stderr and "100ms" in done.stderr


@pytest.mark.parametrize("name", ["resnet50", "no-such-model"])
def test_a_model_that_is_not_published_is_refused(root, name, tmp_path):
    with pytest.raises(UnknownModel):
        tuning.plan(Settings(repository=root, log_dir=tmp_path), name)
    done = command(name, "--repository", str(root))
    assert done.exit_code == 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["tests/small-vlm/1", "tests/small-line/1"])
def test_a_model_whose_networks_are_its_own_processes_sessions_has_nothing_to_tune(served_repository, name, tmp_path):
    with pytest.raises(NotSupported, match="nothing to tune"):
        tuning.plan(Settings(repository=served_repository, log_dir=tmp_path), name)


def test_a_repository_that_cannot_be_written_is_refused_before_a_server_is_started(root, monkeypatch):
    from tritonvision import staging

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(staging.tempfile, "mkdtemp", refuse)  # rights do not stop the superuser, who runs some tests
    monkeypatch.setattr(Embedded, "start", lambda self: pytest.fail("a server was started"))
    done = command(MODEL, "--repository", str(root))
    assert done.exit_code == 3 and "cannot be written" in done.stderr


def test_reset_of_what_is_not_tuned_says_so_and_changes_nothing(root):
    before = files(root)
    done = command(MODEL, "--repository", str(root), "--reset", "--json")
    assert done.exit_code == 0 and "not tuned" in done.stdout and files(root) == before
