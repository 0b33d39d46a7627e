"""The cost of generating text: the loop around the decoder, several streams at once, and a token's latency over HTTP.

The decoder alone runs in this process with the same session settings and the same number of cached tokens before each
step, and its keys and values stay in onnxruntime; it does no sampling, embedding or sending. Both alternate.

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import machine
import numpy as np
from served import Served

from tritonvision import tasks
from tritonvision.catalog import triton_name
from tritonvision.python_backend.generation.decoder import Decoder
from tritonvision.python_backend.generation.engine import VlmEngine
from tritonvision.python_backend.runtime.sessions import Sessions, network_files

QUESTION = "Say in a few words what a person who has never seen the sea would have to be told about it. " * 3
# The published model, except that the sampler records the time at which it chooses each token.
_TIMED = '''
import time
from tritonvision.python_backend.generation import sampling, talker
from tritonvision.python_backend.chat import TritonPythonModel

class Timed(sampling.Sampler):
    def __call__(self, logits):
        token = super().__call__(logits)
        with open({path!r}, "a") as file:
            file.write(f"{{time.monotonic_ns()}}\\n")
        return token

talker.Sampler = Timed
'''


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", default="smolvlm-256m")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine.describe('tokenizers')}; {options.model}, a question of text, {options.tokens} greedy tokens\n")
    loop(options)
    streams(options)
    way_to_the_caller(options)


def loop(options: argparse.Namespace) -> None:
    """Milliseconds per token of the whole loop and of the decoder alone."""
    folder = options.repository / triton_name(options.model) / "1"
    config = _config(options.repository / triton_name(options.model))
    sessions = Sessions(network_files(folder, config["sessions"]))
    vlm_engine = VlmEngine(sessions, config["module"], json.loads(config["options"]), _assets(folder))
    settings = tasks.resolve(tasks.VLM.parameters, {"max_new_tokens": options.tokens})
    messages = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    whole, alone = [], []
    for _ in range(options.rounds):
        times, last = [], None
        for delta in vlm_engine.talk(messages, [], settings):
            times.append((delta.usage[1], time.perf_counter()))
            last = delta
        (first, began), (count, ended) = times[0], times[-1]
        whole.append((ended - began) / (count - first) * 1000)
        alone.append(_decoder_alone(sessions, last.usage[0], count - 1))
    vlm_engine.close()
    a, b = statistics.median(whole), statistics.median(alone)
    print("| ms a token, one answer | loop | decoder alone | over it |\n|---|---|---|---|")
    print(f"| after a prompt of {last.usage[0]} tokens | {a:.1f} | {b:.1f} | {a / b - 1:+.1%} |\n", flush=True)


def _decoder_alone(sessions: Sessions, prompt: int, steps: int) -> float:
    decoder = Decoder(sessions["decoder"])
    width = next(v for v in sessions["decoder"].get_inputs() if v.name == "inputs_embeds").shape[-1]
    embeds = np.random.default_rng(0).normal(size=(1, prompt, width)).astype(np.float32)
    _, cache = decoder(decoder.empty(), embeds)
    began = time.perf_counter()
    for _ in range(steps):
        _, cache = decoder(cache, embeds[:, :1])
    return (time.perf_counter() - began) / steps * 1000


def streams(options: argparse.Namespace) -> None:
    """Tokens per second over HTTP with one caller and with four."""
    print("| callers | tokens/s | against one |\n|---|---|---|")
    with Served(options.repository, options.model) as server:
        _say(server, options, 8)
        rates: dict[int, list[float]] = {1: [], 4: []}
        for _ in range(options.rounds):
            for callers, found in rates.items():
                began = time.perf_counter()
                with ThreadPoolExecutor(callers) as pool:
                    counts = list(pool.map(partial(_say, server, options, options.tokens), range(callers)))
                found.append(sum(counts) / (time.perf_counter() - began))
    one = statistics.median(rates[1])
    for callers, found in rates.items():
        rate = statistics.median(found)
        print(f"| {callers} | {rate:.1f} | {rate / one:.2f} |")
    print(flush=True)


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


def _config(folder: Path) -> dict[str, str]:
    """The parameters of a ``config.pbtxt``."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    return {key: value.string_value for key, value in config.parameters.items()}


def _assets(folder: Path) -> dict[str, bytes]:
    return {"tokenizer.json": (folder / "tokenizer.json").read_bytes()}


if __name__ == "__main__":
    main()
