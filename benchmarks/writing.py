"""How long a token takes from the sampler to the caller over HTTP. What generating it costs: benchmarks/generation.py.

    python benchmarks/writing.py --repository DIR     (smolvlm-256m published there; random weights will do)
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import machine
import numpy as np
from served import Served

from tritonvision.catalog import triton_name

QUESTION = "Say in a few words what a person who has never seen the sea would have to be told about it. " * 3
# The published model, except that the sampler records the time at which it chooses each token.
_TIMED = '''
import time
from tritonvision.python_backend.generation import engine, sampling
from tritonvision.python_backend.chat import TritonPythonModel

class Timed(sampling.Sampler):
    def __call__(self, logits):
        token = super().__call__(logits)
        with open({path!r}, "a") as file:
            file.write(f"{{time.monotonic_ns()}}\\n")
        return token

engine.Sampler = Timed
'''


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", default="smolvlm-256m")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine.describe('tokenizers')}; {options.model}, a question of text\n")
    way_to_the_caller(options)


def way_to_the_caller(options: argparse.Namespace) -> None:
    """Milliseconds from the sampler to the caller's event, for first tokens and for later ones."""
    with _timed(options) as (repository, moments), Served(repository, options.model) as server:
        _say(server, options, 8)
        firsts, later = [], []
        for i in range(4 * options.rounds):
            moments.write_text("")
            arrived = [at for at, event in _events(server, options, 8, i) if event["choices"]]
            chosen = np.array(moments.read_text().split(), dtype=np.int64)
            # a piece is sent right after its last token is chosen; the next token is chosen a whole step later
            delays = [(at - chosen[chosen <= at].max()) / 1e6 for at in arrived]
            firsts.append(delays[0])
            later += delays[1:]
    print("| ms from sampler to HTTP caller | median | slowest |\n|---|---|---|")
    for what, delays in {"first piece": firsts, "later pieces": later}.items():
        print(f"| {what} ({len(delays)}) | {statistics.median(delays):.1f} | {max(delays):.1f} |")


@contextmanager
def _timed(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """A repository with the model whose sampler records the time of each token, and the file of these records."""
    name = triton_name(options.model)
    with tempfile.TemporaryDirectory(dir=options.repository.parent) as folder:
        moments = Path(folder) / "moments.txt"
        repository = Path(folder) / "repository"
        shutil.copytree(options.repository / name, repository / name, copy_function=os.link)
        script = repository / name / "1" / "model.py"
        script.unlink()
        script.write_text(_TIMED.format(path=str(moments)))
        yield repository, moments


def _say(server: Served, options: argparse.Namespace, tokens: int, i: int = 0) -> int:
    """Ask one question and return the number of tokens of the answer."""
    (_, last), *_ = reversed(list(_events(server, options, tokens, i)))
    return last["usage"]["completion_tokens"]


def _events(server: Served, options: argparse.Namespace, tokens: int, i: int) -> Iterator[tuple[int, dict]]:
    """(monotonic nanoseconds, event) of every event with content, and of the last one, which has the usage."""
    body = {
        "model": options.model, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": tokens,
        "messages": [{"role": "user", "content": f"{i}. {QUESTION}"}],
    }  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    for line in answer:
        at = time.monotonic_ns()
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if event.get("usage") or event["choices"][0]["delta"].get("content"):
                yield at, event
    connection.close()


if __name__ == "__main__":
    main()
