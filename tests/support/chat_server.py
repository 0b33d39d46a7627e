"""A chat server in a thread, for the tests of ``tritonvision chat``."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tritonvision.server.process import free_port

MODEL, FINDER = "smolvlm-256m", "florence-2-base"
FOUND = "a cat<loc_249><loc_499><loc_499><loc_749>a dog<loc_0><loc_0><loc_499><loc_499>"
SLOW_WORDS = 400  # a tenth of a second each: longer than any test waits


class ChatServer:
    """A server of ``/v1/chat/completions`` that remembers what it was asked. The question says how to answer.

    ``slow``: a word every tenth of a second, until the caller hangs up. ``break``: an error after one word. ``refuse``:
    an error at once. ``wild``: what would steer a terminal, and what Unicode calls the end of a line. ``loading``: not
    before the second try. ``<OD>`` to the model that finds: two things and their places. Everything else is repeated.
    """

    def __init__(self):
        self.asked: list[dict] = []
        self.hung_up = threading.Event()

    async def add(self, request: Request) -> Response:
        name = (await request.json())["model_id"]
        task = "vlm" if name in (MODEL, FINDER) else "classification"
        return JSONResponse({"models": [{"model_id": name, "task_type": task}]})

    async def facts(self, request: Request) -> Response:
        name = request.path_params["name"]
        task = "vlm" if name in (MODEL, FINDER) else "classification"
        return JSONResponse({"id": name, "task": task, "grounding": "florence" if name == FINDER else ""})

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body | {"key": request.headers.get("authorization")})
        content = body["messages"][-1]["content"]
        question = content if isinstance(content, str) else content[-1]["text"]
        if question == "refuse":
            error = {"message": "The prompt is too long.", "type": "invalid_request_error", "code": "invalid_parameter"}
            return JSONResponse({"error": error}, 400)
        if question == "loading" and len(self.asked) == 1:
            error = {"message": "Model smolvlm-256m is currently loading.", "type": "server_error", "code": None}
            return JSONResponse({"error": error}, 503, {"Retry-After": "1"})
        return StreamingResponse(self.write(question), media_type="text/event-stream")

    async def write(self, question: str):
        yield event({"role": "assistant"})
        if question == "slow":
            try:
                for i in range(SLOW_WORDS):
                    yield event({"content": f"word{i} "})
                    await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                self.hung_up.set()
                raise
        elif question == "break":
            yield event({"content": "half "})
            error = {"message": "The inference server does not answer.", "code": "server_unavailable"}
            yield b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
            return
        elif question == "<OD>":
            for part in (FOUND[:9], FOUND[9:]):
                yield event({"content": part})
            yield event({"places": [
                {"phrase": "a cat", "boxes": [[0.25, 0.5, 0.5, 0.75]], "polygons": [], "points": []},
                {"phrase": "a dog", "boxes": [[0, 0, 0.5, 0.5]], "polygons": [], "points": []},
            ]}, "stop")  # fmt: skip
            yield b"data: [DONE]\n\n"
            return
        elif question == "wild":
            yield event({"content": "a\x1b[2Jb\u2028c\x85d"})
        else:
            for part in ("You said: ", question):
                yield event({"content": part})
        yield event({}, "length" if question == "long" else "stop")
        yield b"data: [DONE]\n\n"


def event(delta: dict, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


@contextmanager
def running() -> Iterator[ChatServer]:
    """The server on a free port, its address in ``url``."""
    chat = ChatServer()
    app = Starlette(routes=[
        Route("/v1/chat/completions", chat.complete, methods=["POST"]),
        Route("/model/add", chat.add, methods=["POST"]), Route("/model/facts/{name:path}", chat.facts),
    ])  # fmt: skip
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    chat.url = f"http://127.0.0.1:{port}"
    try:
        yield chat
    finally:
        server.should_exit = True
        thread.join()
