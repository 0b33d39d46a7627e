"""``tritonvision chat`` as a person or a script meets it: a process of its own, before a server that writes slowly."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chat_server import FINDER, FOUND, MODEL, SLOW_WORDS, running
from command_line import run_here

from tritonvision.server.process import free_port

PHOTO = Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png"
CTRL_C, CTRL_D = b"\x03", b"\x04"


@pytest.fixture
def chat_server():
    with running() as server:
        yield server


def command(*arguments, name: str = "chat") -> list[str]:
    return [sys.executable, "-m", "tritonvision", name, *map(str, arguments)]


def heed_ctrl_c() -> None:
    """In a new process: what a shell starts in the background, as a whole test run may be, ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def run(tmp_path):
    """Runs ``tritonvision chat`` without a terminal; ``typed`` comes through a pipe."""

    def run(*arguments, typed: str = "", **environment):
        return subprocess.run(
            command(*arguments), input=typed, capture_output=True, text=True, cwd=tmp_path,
            env=os.environ | own_settings(tmp_path) | environment, timeout=60, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def tell(tmp_path):
    """As ``run``, in this process and without a pipe: for what is refused before a word is exchanged."""
    return lambda *arguments: run_here("chat", *arguments, folder=tmp_path, **own_settings(tmp_path))


def own_settings(folder: Path) -> dict[str, str]:
    return {"TRITONVISION_REPOSITORY": str(folder / "repository"), "TRITONVISION_PORT": str(free_port())}


class Terminal:
    """A process on a terminal of its own, and what it has shown."""

    def __init__(self, *arguments):
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            heed_ctrl_c()
            os.execve(sys.executable, command(*arguments), os.environ | {"TERM": "dumb"})
        self.shown = ""
        self._seen = 0

    def type(self, keys: bytes) -> None:
        os.write(self._end, keys)

    def wait_for(self, text: str, seconds: float = 20) -> None:
        """Return once ``text`` has been shown after what was waited for before."""
        limit = time.monotonic() + seconds
        while text not in self.shown[self._seen :]:
            assert time.monotonic() < limit, f"{text!r} is not in {self.shown!r}"
            self._look()
        self._seen = self.shown.index(text, self._seen) + len(text)

    def interrupt(self, text: str) -> None:
        """Ctrl-C at the prompt, until ``text`` is shown.

        Once more after a second: readline misses the one that comes in the instant between its prompt and its waiting,
        which no person's hands can meet.
        """
        limit = time.monotonic() + 20
        while text not in self.shown[self._seen :]:
            assert time.monotonic() < limit, f"{text!r} is not in {self.shown!r}"
            self.type(CTRL_C)
            second = time.monotonic() + 1
            while text not in self.shown[self._seen :] and time.monotonic() < second:
                self._look()
        self.wait_for(text)

    def status(self, seconds: float = 20) -> int:
        """The exit code, once the process has ended."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            self._look()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"it goes on: {self.shown!r}")

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self._end)

    def _look(self) -> None:
        if select.select([self._end], [], [], 0.05)[0]:
            try:
                self.shown += os.read(self._end, 65536).decode()
            except OSError:  # nobody is left at the other end
                time.sleep(0.01)


@pytest.fixture
def terminal(chat_server):
    opened = []

    def open_terminal(*arguments) -> Terminal:
        opened.append(Terminal(MODEL, *arguments, "--url", chat_server.url))
        opened[-1].wait_for("> ")
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


# ---- scripts --------------------------------------------------------------------------------------------------------


def test_a_prompt_is_answered_alone_on_standard_output(run, chat_server):
    done = run(MODEL, PHOTO, "--prompt", "Who is this?", "--url", chat_server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "You said: Who is this?\n", "")
    (asked,) = chat_server.asked
    picture, text = asked["messages"][0]["content"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert text == {"type": "text", "text": "Who is this?"}
    assert (asked["model"], asked["stream"], asked["max_tokens"], asked["temperature"]) == (MODEL, True, 512, 0)
    assert "seed" not in asked


def test_options_become_settings_of_the_request(run, chat_server):
    options = ["--max-tokens", 7, "--temperature", 0.5, "--top-p", 0.9, "--seed", 3, "--system", "Be brief."]
    done = run(MODEL, "--prompt", "Hello", "--url", chat_server.url, "--api-key", "K", *options)
    assert done.returncode == 0, done.stderr
    (asked,) = chat_server.asked
    assert [asked[name] for name in ("max_tokens", "temperature", "top_p", "seed")] == [7, 0.5, 0.9, 3]
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert asked["key"] == "Bearer K"


def test_the_detail_of_the_pictures_is_sent_and_another_is_refused(run, chat_server):
    done = run(MODEL, PHOTO, PHOTO, "--prompt", "Compare.", "--detail", "low", "--url", chat_server.url)
    assert done.returncode == 0, done.stderr
    (asked,) = chat_server.asked
    assert [part["image_url"]["detail"] for part in asked["messages"][0]["content"][:2]] == ["low", "low"]
    refused = run(MODEL, PHOTO, "--prompt", "Compare.", "--detail", "medium", "--url", chat_server.url)
    assert refused.returncode == 2 and "'medium' is no 'detail' of a picture" in refused.stderr


def test_lines_of_a_pipe_are_one_conversation(run, chat_server):
    done = run(MODEL, PHOTO, PHOTO, "--url", chat_server.url, typed="first\n\n  second  \n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "You said: first\nYou said: second\n", "")
    messages = chat_server.asked[1]["messages"]
    assert [part["type"] for part in messages[0]["content"]] == ["image_url", "image_url", "text"]
    assert messages[1:] == [
        {"role": "assistant", "content": "You said: first"}, {"role": "user", "content": "second"}
    ]  # fmt: skip


def test_an_empty_input_sends_no_request(run, chat_server):
    done = run(MODEL, "--url", chat_server.url)
    assert (done.returncode, done.stdout, chat_server.asked) == (0, "", [])


def test_a_pipe_that_is_not_utf_8_is_read_all_the_same(chat_server):
    done = subprocess.run(command(MODEL, "--url", chat_server.url), input=b"caf\xe9\n", capture_output=True, check=True)
    assert done.stdout.decode() == "You said: caf\N{REPLACEMENT CHARACTER}\n"


def test_a_script_gets_the_text_as_it_was_written(run, chat_server):
    assert run(MODEL, "--prompt", "wild", "--url", chat_server.url).stdout == "a\x1b[2Jb\u2028c\x85d\n"


def test_places_are_told_in_pixels_and_stay_in_the_talk_as_they_were_written(run, chat_server):
    done = run(FINDER, PHOTO, "--url", chat_server.url, typed="<OD>\nagain\n")
    told = ["a cat: box 128.0, 256.0 to 256.0, 384.0", "a dog: box 0.0, 0.0 to 256.0, 256.0", "You said: again"]
    assert (done.returncode, done.stdout.splitlines()) == (0, told), done.stderr
    assert [asked.get("places") for asked in chat_server.asked] == [True, True]
    assert chat_server.asked[1]["messages"][1]["content"] == FOUND
    raw = run(FINDER, PHOTO, PHOTO, "--prompt", "locate it", "--url", chat_server.url)
    assert raw.stdout == "You said: locate it\n", "of two pictures no places are told"


def test_a_model_that_loads_is_waited_for(run, chat_server):
    done = run(MODEL, "--prompt", "loading", "--url", chat_server.url)
    assert (done.returncode, done.stdout) == (0, "You said: loading\n")
    assert done.stderr == "Note: Model smolvlm-256m is currently loading.\n"


@pytest.mark.parametrize(
    ("question", "status", "words"),
    [("refuse", 2, "The prompt is too long."), ("break", 4, "The inference server does not answer.")],
)
def test_an_error_of_the_server_ends_a_script_with_its_sentence(run, chat_server, question, status, words):
    done = run(MODEL, "--url", chat_server.url, typed=f"{question}\nnever asked\n")
    assert done.returncode == status and f"Error: {words}" in done.stderr and "Traceback" not in done.stderr
    assert len(chat_server.asked) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((MODEL, "--prompt", " "), 2, "empty"),
        ((MODEL, "--temperature", "3"), 2, "--temperature"),
        ((MODEL, "--max-tokens", "9000"), 2, "--max-tokens"),
        ((MODEL, "missing.png", "--prompt", "x"), 1, "missing.png: There is no such file."),
        ((MODEL, __file__, "--prompt", "x"), 1, "test_chat.py: "),
        ((MODEL, "--prompt", "x"), 2, "not published"),
        ((MODEL, "--prompt", "x", "--url", "http://127.0.0.1:9"), 4, "No server answers"),
    ],
)  # fmt: skip
def test_what_cannot_be_begun_is_told_in_a_sentence_and_by_the_exit_code(tell, arguments, status, words):
    done = tell(*arguments)
    assert done.returncode == status, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_a_model_that_does_not_talk_is_refused_before_anything_is_asked(run, chat_server):
    done = run("resnet18", "--prompt", "x", "--url", chat_server.url)
    assert done.returncode == 2 and "it does not talk" in done.stderr and "tritonvision predict resnet18" in done.stderr
    assert chat_server.asked == []


def test_a_published_model_that_does_not_talk_is_refused_before_a_server_starts(run, served_repository, tmp_path):
    log = tmp_path / "log"
    done = run("resnet18", "--prompt", "x", "--repository", served_repository, TRITONVISION_LOG_DIR=str(log))
    assert done.returncode == 2 and "tritonvision predict resnet18" in done.stderr
    assert not log.exists()


# ---- predict, where a text is written -------------------------------------------------------------------------------


def test_predict_shows_a_text_while_it_is_written(chat_server):
    asks = command(MODEL, PHOTO, "--text", "slow", "--max-tokens", 7, "--url", chat_server.url, name="predict")
    process = subprocess.Popen(
        asks, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )  # fmt: skip
    try:
        seen = process.stdout.read(len(f"{PHOTO}: word0 word1"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    finally:
        process.kill()
    assert seen == f"{PHOTO}: word0 word1" and process.returncode == 130
    assert chat_server.asked[0]["max_tokens"] == 7
    assert chat_server.hung_up.wait(5)


def test_predict_of_several_pictures_keeps_their_order_and_takes_a_bare_address(run, chat_server, tmp_path, photo):
    (tmp_path / "photos").mkdir()
    for name in "abcdef":
        (tmp_path / "photos" / f"{name}.png").write_bytes(photo)
    address = chat_server.url.removeprefix("http://")
    asks = command(MODEL, "photos", "missing.png", "--text", "Who?", "--url", address, name="predict")
    done = subprocess.run(asks, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.splitlines() == [f"photos/{name}.png: You said: Who?" for name in "abcdef"]
    assert done.returncode == 1 and "Error: missing.png: There is no such file." in done.stderr


@pytest.mark.parametrize("url", ["grpc://here:1", "http:/here", "http://", "a b", "https://here?x=1"])
def test_what_is_no_address_is_refused_with_the_form_of_one(tell, url):
    done = tell(MODEL, "--prompt", "x", "--url", url)
    assert done.returncode == 2 and "is no address" in done.stderr and "HOST:PORT" in done.stderr


def test_a_picture_on_standard_input_leaves_the_question_to_an_option(run, chat_server):
    done = run(MODEL, "-", "--url", chat_server.url)
    assert done.returncode == 2 and "--prompt" in done.stderr and chat_server.asked == []


# ---- people ---------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_answer_and_not_the_talk(terminal, chat_server):
    talk = terminal(PHOTO)
    talk.type(b"slow\n")
    talk.wait_for("word3")  # it appears as it is written
    talk.type(CTRL_C)
    talk.wait_for("> ")
    assert chat_server.hung_up.wait(5)
    assert f"word{SLOW_WORDS // 2}" not in talk.shown
    talk.type(b"hello\n")
    talk.wait_for("You said: hello")
    talk.wait_for("> ")
    said = chat_server.asked[1]["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "user"]
    assert re.match(r"word0 word1 word2 word3", said[1]["content"]), "what was written before the cut is part of it"
    talk.interrupt("\r\n")  # at the empty prompt
    assert talk.status() == 0


def test_ctrl_c_throws_away_what_was_typed_and_asks_on(terminal, chat_server):
    talk = terminal()
    talk.type(b"never asked")
    talk.wait_for("never asked")
    talk.interrupt("> ")
    talk.type(b"hello\n")
    talk.wait_for("You said: hello")
    talk.wait_for("> ")
    talk.type(b"/quit\n")
    assert talk.status() == 0
    assert len(chat_server.asked) == 1


def test_ctrl_d_ends_the_talk(terminal):
    talk = terminal()
    talk.type(CTRL_D)
    assert talk.status() == 0


def test_an_error_does_not_end_the_talk_and_its_question_is_forgotten(terminal, chat_server):
    talk = terminal(PHOTO)
    talk.type(b"refuse\n")
    talk.wait_for("Error: The prompt is too long.")
    talk.wait_for("> ")
    talk.type(b"hello\n")
    talk.wait_for("You said: hello")
    (message,) = chat_server.asked[1]["messages"]
    assert [part["type"] for part in message["content"]] == ["image_url", "text"]


def test_a_person_is_told_of_an_answer_that_was_cut_off(terminal):
    talk = terminal()
    talk.type(b"long\n")
    talk.wait_for("You said: long")
    talk.wait_for("--max-tokens")


def test_a_model_cannot_steer_the_terminal(terminal):
    talk = terminal()
    talk.type(b"wild\n")
    talk.wait_for("a\N{REPLACEMENT CHARACTER}[2Jb")
    talk.wait_for("> ")
    assert "\x1b[2J" not in talk.shown
