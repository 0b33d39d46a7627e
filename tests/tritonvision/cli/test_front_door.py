"""The command line as a person meets it: a process of its own, its words and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from command_line import run_here

from tritonvision.server.process import free_port

TREE = Path(__file__).parents[3]
PHOTO = TREE / "tritonvision" / "data" / "astronaut.png"
FACE = "mediapipe-face-detection"
COMMANDS = (
    "export", "import", "serve", "predict", "batch", "chat", "models", "info", "variants", "tune", "plan", "verify",
    "validate", "explain", "keys", "remove", "doctor",
)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Runs ``tritonvision`` in an empty folder and returns the finished process."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "tritonvision", *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path,
            env=os.environ | own_settings(tmp_path) | environment, timeout=120, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def tell(tmp_path):
    """As ``run``, in this process: for commands that have nothing to do but say what is wrong."""
    return lambda *arguments, **environment: run_here(
        *arguments, folder=tmp_path, **own_settings(tmp_path), **environment
    )


def own_settings(folder: Path) -> dict[str, str]:
    return {"TRITONVISION_REPOSITORY": str(folder / "repository"), "TRITONVISION_PORT": str(free_port())}


def assert_one_line_and_a_hint(done, status: int):
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    first, second = done.stderr.splitlines()[:2]
    assert first.startswith("Error: ") and second.startswith("Hint: ")


def test_help_lists_every_command_and_the_exit_codes_and_loads_none_of_them(run):
    done = run("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"  {name}" in done.stdout
    assert "Exit codes" in done.stdout
    program = "import sys, tritonvision.cli as c; c.app(['--help'], standalone_mode=False); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "cv2", "grpc", "fastapi", "pydantic", "onnx", "torch"} & set(loaded)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_and_exit_codes(tell, name):
    done = tell(name, "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout and f"tritonvision {name}" in done.stdout and "Exit codes" in done.stdout


@pytest.mark.parametrize("arguments", [("nothing",), ("predict",), ("models", "--colour"), ("serve", "--port", "0")])
def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong(run, arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert "Error" in done.stderr and "Traceback" not in done.stderr


def test_a_command_whose_package_is_missing_says_how_to_get_it_and_the_others_work(tmp_path):
    program = """
import sys
class Hide:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] == "onnx" else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Hide, sys.meta_path)
from tritonvision.cli import main
main()
"""

    def run(*arguments):
        ask = [sys.executable, "-c", program, *arguments]
        return subprocess.run(ask, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert "needs: pip install 'tritonvision[mediapipe]'" in " ".join(run("--help").stdout.split())
    assert_one_line_and_a_hint(run("export", FACE, "--repository", "here"), 3)
    others = run("models", "--json")
    assert others.returncode == 0 and len(json.loads(others.stdout)) == 160


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("predict", "nobody", PHOTO), 2), (("predict", "../etc", PHOTO), 2), (("predict", "yolov8n-640", PHOTO), 2),
        (("serve", "nobody"), 2), (("serve", "yolov8n-640"), 2), (("export", "nobody"), 2),
        (("serve", "--host", "no.such.host.invalid"), 3), (("verify", "nobody"), 2), (("explain", "nobody"), 2),
        (("verify", FACE, "--url", "http://127.0.0.1:9"), 1), (("explain", FACE, "--url", "http://127.0.0.1:9"), 4),
        (("predict", FACE, PHOTO, "--url", "http://127.0.0.1:9"), 4),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_a_hint_and_its_exit_code_tells_its_kind(tell, arguments, status):
    assert_one_line_and_a_hint(tell(*arguments), status)


def test_a_setting_of_the_environment_that_does_not_fit_is_named(run):
    done = run("models", TRITONVISION_PORT="many")
    assert_one_line_and_a_hint(done, 2)
    assert "'port'" in done.stderr and "TRITONVISION_PORT" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MEMORY_BUDGET", "plenty", "must be a size such as 8GB"),
        ("MEMORY_BUDGET", "4XB", "must be a size such as 8GB"),
        ("DEADLINE", "soon", "must be a number"), ("MAX_BATCH", "2.5", "must be a whole number"),
        ("URL_INPUT", "maybe", "must be true or false"),
    ],
)  # fmt: skip
def test_what_a_setting_must_be_is_told_in_our_words(tell, variable, value, words):
    done = tell("models", **{f"TRITONVISION_{variable}": value})
    assert_one_line_and_a_hint(done, 2)
    assert words in done.stderr


def test_debug_shows_the_traceback(run):
    done = run("--debug", "predict", "nobody", PHOTO)
    assert done.returncode == 1 and "Traceback" in done.stderr and "UnknownModel" in done.stderr


def test_a_threshold_out_of_range_never_reaches_a_server(run):
    done = run("predict", FACE, PHOTO, "--confidence", "1.5")
    assert done.returncode == 2 and "--confidence" in done.stderr


def test_serve_refuses_an_empty_key_and_names_unknown_variables(run):
    done = run("serve", "nobody", "--api-key", "")
    assert_one_line_and_a_hint(done, 2)
    assert "'api_key' must not be empty" in done.stderr
    command = [sys.executable, "-m", "tritonvision", "serve", "--host", "0.0.0.0", "--port", str(free_port())]
    server = subprocess.Popen(
        [*command, "--triton-url", "127.0.0.1:9"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TRITONVISION_MAX_BATCHES": "3"},
    )  # fmt: skip
    try:
        assert server.stdout.readline().startswith("Serving on ")
        server.terminate()
        _, err = server.communicate(timeout=30)
    finally:
        server.kill()
    assert "Warning: no setting is called TRITONVISION_MAX_BATCHES. Is TRITONVISION_MAX_BATCH meant?" in err
    assert "Warning: whoever reaches 0.0.0.0:" in err and "--api-key" in err


def test_serve_says_in_one_line_that_the_port_is_taken_and_starts_nothing(run, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--port", port, TRITONVISION_LOG_DIR=str(tmp_path / "log"))
    assert_one_line_and_a_hint(done, 3)
    assert str(port) in done.stderr
    assert not (tmp_path / "log").exists(), "a tritonserver was started"


# ---- models ---------------------------------------------------------------------------------------------------------


def test_models_lists_all_ids_with_what_a_person_chooses_by(run):
    done = run("models", "--json")
    rows = {row["id"]: row for row in json.loads(done.stdout)}
    assert len(rows) == 160
    assert rows["yolov8n-640"] == {
        "id": "yolov8n-640", "family": "YOLOv8", "task": "object-detection", "license": "AGPL-3.0", "terms": "",
        "aliases": ["coco/3"], "exportable": True, "published": False, "weights": None, "loaded": None,
    }  # fmt: skip
    table = run("models", COLUMNS="200").stdout
    assert all(model_id in table for model_id in rows)
    assert "what is loaded is not known" in table


def test_the_table_of_models_fits_a_terminal_of_80_columns_and_cuts_no_id_and_no_task(run):
    rows, table = json.loads(run("models", "--json").stdout), run("models", COLUMNS="80").stdout
    assert max(map(len, table.splitlines())) <= 80
    for row in rows:
        assert f"  {row['id']} " in table and row["task"] in table
    assert "coco/25, yolo11n-640" in table


def test_models_names_what_it_leaves_out_beside_the_list(run, tmp_path):
    (tmp_path / "models" / "yolov8n-640").mkdir(parents=True)
    (tmp_path / "models" / "yolov8n-640" / "manifest.json").write_text('{"colours_of_the_future": 3}')
    done = run("models", "--published", "--json", "--repository", "models")
    assert done.returncode == 0 and json.loads(done.stdout) == []
    assert "Warning: The folder 'yolov8n-640' holds a manifest of a newer version" in done.stderr
    info = run("info", "yolov8n-640", TRITONVISION_REPOSITORY="models")
    assert "holds a manifest of a newer version" in info.stderr and not info.stdout


def test_an_unknown_family_is_an_error_with_a_suggestion(run):
    for asked, near in (("yolov88", "YOLOv8"), ("nobody", "SmolVLM")):
        done = run("models", "--family", asked)
        assert_one_line_and_a_hint(done, 2)
        assert near in done.stderr
    assert run("models", "--family", "yolov8").stdout.startswith("\nYOLOv8")


@pytest.mark.parametrize("command", ["predict", "export", "serve", "info", "remove"])
def test_every_command_says_which_id_may_have_been_meant(tell, command):
    done = tell(command, "mediapipe-face-detectoin", *([PHOTO] if command == "predict" else []))
    assert_one_line_and_a_hint(done, 2)
    assert f"Did you mean '{FACE}'?" in done.stderr


def test_models_tells_published_from_random_weights(run, served_repository):
    rows = {row["id"]: row for row in json.loads(run("models", "--json", "--repository", served_repository).stdout)}
    assert (rows[FACE]["published"], rows[FACE]["weights"]) == (True, "official")
    assert (rows["yolov8n-640"]["published"], rows["yolov8n-640"]["weights"]) == (True, "random")
    table = run("models", "--published", "--repository", served_repository, COLUMNS="200").stdout
    assert "published (random)" in table and "mean nothing" in table


def test_models_asks_a_running_server_what_is_loaded(run, server_url, served_repository):
    port = server_url.rsplit(":", 1)[1]
    run("predict", FACE, PHOTO, "--url", server_url)
    done = run("models", "--json", "--repository", served_repository, TRITONVISION_PORT=port)
    loaded = {row["id"]: row["loaded"] for row in json.loads(done.stdout)}
    assert loaded[FACE] is True and loaded["rfdetr-base"] is False


# ---- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_finds_this_machine_fit_and_every_complaint_says_what_to_do(run):
    done = run("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    for what in ("Python", "numpy", "tritonserver", "glibc", "Python stub", "libpython", "/dev/shm", "GPU", "TensorRT"):
        assert findings[what]["status"] in ("ok", "warn")
    assert "2.51.0" in findings["tritonserver"]["found"] and "Unix socket" in findings["Triton's fixes"]["advice"]
    assert "GB free" in findings["memory"]["found"] and "GB free" in findings["disk"]["found"]
    assert all(bool(f["advice"]) == (f["status"] != "ok") for f in findings.values())


def test_doctor_fails_when_there_is_no_tritonserver(run):
    done = run("doctor", "--json", TRITONVISION_TRITONSERVER="/nowhere/tritonserver")
    (finding,) = [f for f in json.loads(done.stdout) if f["status"] == "fail"]
    assert done.returncode == 1
    assert finding["what"] == "tritonserver" and finding["advice"]


def test_doctor_asks_a_foreign_tritonserver_only_whether_it_answers(run):
    done = run("doctor", "--json", TRITONVISION_TRITON_URL="127.0.0.1:9")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert findings["tritonserver"]["status"] == "fail" and "libpython" not in findings


# ---- predict --------------------------------------------------------------------------------------------------------


def test_predict_names_the_face_and_draws_it_on_a_server_of_its_own(run, tmp_path, served_repository):
    from PIL import Image

    done = run("predict", FACE, PHOTO, "--save", "drawn", "--repository", served_repository)
    assert done.returncode == 0, done.stderr
    assert "1 prediction" in done.stdout and "face                 0.9217" in done.stdout
    for name in ("right-eye", "left-eye", "nose", "mouth", "right-ear", "left-ear"):
        assert name in done.stdout
    drawn = Image.open(tmp_path / "drawn" / f"astronaut-{FACE}.png")
    assert drawn.size == (512, 512) and drawn.tobytes() != Image.open(PHOTO).convert("RGB").tobytes()


@pytest.mark.slow  # three servers one after another; each way alone is asked by the tests around
def test_a_server_answers_what_a_server_of_its_own_answers(run, server_url, served_repository):
    for model in (FACE, "yolov8n-640", "resnet18"):
        own = run("predict", model, PHOTO, "--json", "--repository", served_repository)
        asked = run("predict", model, PHOTO, "--json", "--url", server_url)
        (here,), (there,) = json.loads(own.stdout), json.loads(asked.stdout)
        assert len(here["predictions"]) == len(there["predictions"]) > 0
        for a, b in zip(here["predictions"], there["predictions"], strict=True):
            assert (a["class"], a["class_id"]) == (b["class"], b["class_id"])
            assert a["confidence"] == pytest.approx(b["confidence"], abs=6e-5)  # HTTP rounds classes to four digits
            assert a.get("box") == pytest.approx(b.get("box"), abs=0.011)
            assert [k["class"] for k in a.get("keypoints", [])] == [k["class"] for k in b.get("keypoints", [])]


def test_the_server_on_this_machine_is_used_when_one_answers(run, server_url):
    done = run("predict", FACE, PHOTO, "--json", TRITONVISION_PORT=server_url.rsplit(":", 1)[1])
    assert done.returncode == 0, done.stderr  # the repository of this run is empty: only the server can have answered
    assert json.loads(done.stdout)[0]["predictions"][0]["class"] == "face"


def test_a_bad_picture_is_reported_and_the_others_are_answered(run, tmp_path, server_url):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    done = run("predict", FACE, "missing.jpg", PHOTO, "text.jpg", PHOTO, "empty.png", "--json", "--url", server_url)
    assert done.returncode == 1
    assert [answer["image"] for answer in json.loads(done.stdout)] == [str(PHOTO), str(PHOTO)]
    for name in ("missing.jpg", "text.jpg", "empty.png"):
        assert f"Error: {name}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_two_pictures_of_one_name_are_saved_under_two(run, tmp_path, server_url):
    done = run("predict", FACE, PHOTO, PHOTO, "--save", "drawn", "--json", "--url", server_url)
    saved = [answer["saved"] for answer in json.loads(done.stdout)]
    assert len(set(saved)) == 2 and all((tmp_path / name).is_file() for name in saved)


def test_a_folder_to_save_into_is_not_called_like_a_picture(run, tmp_path):
    done = run("predict", FACE, PHOTO, "--save", "drawn.png")
    assert done.returncode == 2 and "'drawn.png' is called like a picture" in done.stderr
    assert done.stderr.endswith("--save drawn\n") and not list(tmp_path.iterdir())


def test_confidence_is_the_lowest_score_that_counts(run, server_url):
    def scores(confidence: float) -> list[float]:
        done = run("predict", "yolov8n-640", PHOTO, "--confidence", confidence, "--json", "--url", server_url)
        return [found["confidence"] for found in json.loads(done.stdout)[0]["predictions"]]

    everything = scores(0.1)
    below, above = sorted(set(everything))[len(set(everything)) // 2 - 1 :][:2]
    middle = (below + above) / 2
    assert len(everything) > 3
    assert scores(middle) == [score for score in everything if score >= middle]
    done = run("predict", "resnet18", PHOTO, "--confidence", "0.999999", "--url", server_url)
    assert done.returncode == 0 and "nothing found" in done.stdout


def test_random_weights_are_called_random(run, served_repository):
    done = run("predict", "resnet18", PHOTO, "--repository", served_repository)
    assert "random" in done.stderr and len(done.stdout.splitlines()) == 6


# ---- serve ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_serve_prints_one_line_when_ready_and_ends_cleanly(served_repository, number):
    port = free_port()
    command = [sys.executable, "-m", "tritonvision", "serve", FACE, "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--repository", str(served_repository)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        line = server.stdout.readline()
        assert f"http://localhost:{port}" in line and "1 loaded" in line and "tritonserver 2.51.0" in line
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
        urllib.request.urlopen(f"http://localhost:{port}/info?api_key=secret").close()
        server.send_signal(number)
        out, err = server.communicate(timeout=30)
    finally:
        server.kill()
    assert server.returncode == 0 and out == ""
    (request,) = err.splitlines()  # every request is logged, and nothing else happened
    assert "INFO tritonvision.access GET /info 200 " in request and "secret" not in request
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in children.split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.split())
