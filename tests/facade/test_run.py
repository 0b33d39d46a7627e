"""The application on a real port: limits on incoming bytes, disconnects, shutdown, one sentence for a taken port."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import signal
import socket

import httpx
import pytest

from tritonvision.errors import SetupError
from tritonvision.facade import run
from tritonvision.facade.app import create_app
from tritonvision.settings import Settings

DETECTOR = "yolov8n-640"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(picture: bytes) -> dict:
    return {"model_id": DETECTOR, "image": {"type": "base64", "value": base64.b64encode(picture).decode()}}


def test_a_picture_over_http(house, picture, served):
    async def main():
        async with served(house) as client:
            answer = await client.post("/infer/object_detection", json=ask(picture))
            assert answer.status_code == 200 and "server" not in answer.headers
            assert client.service.admission.bytes == client.service.admission.pictures == 0

    asyncio.run(main())


def test_a_body_over_the_limit_is_a_413_and_the_server_goes_on(house, picture, served):
    async def pieces(n: int):
        for _ in range(n):
            yield bytes(50_000)

    async def main():
        async with served(house, max_body_bytes=100_000) as client:
            announced = await client.post("/infer/object_detection", content=bytes(5_000_000))
            streamed = await client.post(f"/models/{DETECTOR}", content=pieces(40))
            assert (announced.status_code, streamed.status_code) == (413, 413)
            assert "0.0954 MB" in announced.json()["message"] and isinstance(streamed.json()["error"], str)
            assert client.service.admission.bytes == 0
            assert (await client.post("/infer/object_detection", json=ask(picture))).status_code == 200

    asyncio.run(main())


def test_request_bytes_of_all_callers_are_limited(house, picture, served, until):
    async def main():
        async with served(house, max_in_flight_bytes=4_000) as client:
            house.engine.held = asyncio.Event()
            first = asyncio.create_task(client.post("/infer/object_detection", json=ask(picture)))
            await until(lambda: house.engine.asked)
            second = await client.post("/infer/object_detection", json=ask(picture) | {"padding": "x" * 2_000})
            assert second.status_code == 503 and second.headers["retry-after"] == "1"
            house.engine.held.set()
            assert (await first).status_code == 200

    assert 1_000 < len(json.dumps(ask(picture))) < 4_000
    asyncio.run(main())


def test_pictures_over_the_budget_are_refused_at_once(house, picture, served, until):
    async def main():
        async with served(house, max_in_flight=2) as client:
            house.engine.held = asyncio.Event()
            tasks = [asyncio.create_task(client.post("/infer/object_detection", json=ask(picture))) for _ in range(2)]
            await until(lambda: len(house.engine.asked) == 2)
            refused = await client.post("/infer/object_detection", json=ask(picture))  # while the others are held
            assert refused.status_code == 503 and refused.headers["retry-after"]
            assert (await client.get("/healthz")).status_code == 200
            house.engine.held.set()
            assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [200, 200]

    asyncio.run(main())


def test_a_client_that_expects_100_continue_is_refused_before_it_sends(house, served):
    async def main():
        async with served(house, max_body_bytes=1000) as client:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            writer.write(
                b"POST /infer/object_detection HTTP/1.1\r\nhost: localhost\r\n"
                b"content-length: 5000\r\nexpect: 100-continue\r\n\r\n"
            )
            async with asyncio.timeout(1):
                assert (await reader.readline()).startswith(b"HTTP/1.1 413")
            writer.close()

    asyncio.run(main())


@pytest.mark.attack("many pictures in one request")
def test_pictures_come_from_urls_in_every_dialect(house, picture, served):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + picture)
        await writer.drain()
        writer.close()

    async def main():
        pictures = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{pictures.sockets[0].getsockname()[1]}/a.jpg"
        image = {"type": "url", "value": url}
        await house.engine.load(DETECTOR)
        async with served(house, allow_http_url_hosts=frozenset({"127.0.0.1"})) as client:
            answers = [
                await client.post("/infer/object_detection", json={"model_id": DETECTOR, "image": image}),
                await client.post("/infer/object_detection", json={"model_id": DETECTOR, "image": [image] * 3}),
                await client.get("/coco/3", params={"image": url}),
                await client.post("/coco/3", params={"image": url}),
                await client.post(f"/models/{DETECTOR}", json={"inputs": url}),
            ]
            assert [a.status_code for a in answers] == [200] * 5
            assert client.service.admission.bytes == 0
        assert all(sent == picture for _, pictures, _, _ in house.engine.asked for sent in pictures)
        async with served(house, allow_http_url_hosts={"127.0.0.1"}, max_body_bytes=len(picture) + 500) as client:
            body = {"model_id": DETECTOR, "image": [image] * 3}
            assert (await client.post("/infer/object_detection", json=body)).status_code == 413
        pictures.close()

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/infer/object_detection", f"/models/{DETECTOR}", "/coco/3"])
def test_disconnecting_on_a_port_cancels_the_work(house, picture, path, served, until):
    async def main():
        async with served(house) as client:
            await house.engine.load(DETECTOR)
            house.engine.held = asyncio.Event()
            content = json.dumps(ask(picture)).encode() if "infer" in path else picture
            content = base64.b64encode(picture) if path == "/coco/3" else content
            kind = {"content-type": "text/plain"}
            call = asyncio.create_task(client.post(path, content=content, headers=kind))
            await until(lambda: house.engine.asked)
            call.cancel()
            await until(lambda: house.engine.cancelled == 1)
            await until(lambda: client.service.admission.pictures == 0 and client.service.admission.bytes == 0)
            house.engine.held = None
            assert (await client.post("/infer/object_detection", json=ask(picture))).status_code == 200

    asyncio.run(main())


def test_a_caller_that_stops_sending_leaks_nothing(house, served, until):
    async def main():
        async with served(house) as client:
            _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            head = b"POST /infer/object_detection HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n"
            writer.write(head + bytes(500))
            await until(lambda: client.service.admission.bytes == 500)
            writer.close()
            await until(lambda: client.service.admission.bytes == 0)
            assert 'status="499"' in (await client.get("/metrics")).text

    asyncio.run(main())


@pytest.fixture
def caught():
    """Signals that uvicorn raised again at its end."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_a_signal_ends_it_and_lets_requests_finish(house, picture, served, until, hold, caught):
    async def main():
        held = hold(house.engine)
        async with served(house) as client:
            call = asyncio.create_task(client.post("/infer/object_detection", json=ask(picture)))
            await held.reached.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: client.service.requests.draining)
            held.set()
            assert (await call).status_code == 200
            await until(lambda: caught)

    asyncio.run(main())


def test_readiness_fails_first_while_the_port_still_answers(house, served, until, caught):
    async def main():
        async with served(house, drain=1.0) as client:
            assert (await client.get("/readiness")).status_code == 200
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: client.service.requests.draining)
            answers = [await client.get(path) for path in ("/readiness", "/v1/health/ready", "/health", "/healthz")]
            assert [answer.status_code for answer in answers] == [503, 503, 503, 200]
            assert answers[0].json() == {"status": "not ready", "reason": "The server is shutting down."}
            info = await client.get("/info")
            assert info.status_code == 200 and info.headers["connection"] == "close"
            await until(lambda: caught)

    asyncio.run(main())


def test_shutdown_ends_slow_requests_with_an_error(house, picture, served, until, hold, caught, monkeypatch, caplog):
    monkeypatch.setattr(run, "_FINISH_SECONDS", 0.2)
    chat = {"model": "smolvlm-256m", "stream": True, "messages": [{"role": "user", "content": "go on"}]}

    async def main():
        hold(house.engine)
        async with served(house) as client:
            call = asyncio.create_task(client.post("/infer/object_detection", json=ask(picture)))
            stream = asyncio.create_task(client.post("/v1/chat/completions", json=chat))
            await until(lambda: house.engine.asked and house.engine.chats)
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await call).status_code == 503 and "shutting down" in (await call).text
            *_, last = (await stream).text.strip().split("\n\n")
            assert json.loads(last.removeprefix("data: "))["error"]["message"] == "The server is shutting down."
            await until(lambda: caught)

    asyncio.run(main())
    assert house.engine.cancelled == 2 and not [record for record in caplog.records if record.exc_info]


def test_a_port_that_was_handed_on_is_left_connection_by_connection(house, picture, until, hold):
    """The answer under way and the next one on an idle connection come, say that they are the last, and it ends."""
    handed_on = []

    async def hand_on(listener: socket.socket) -> bool:
        handed_on.append(listener.dup())
        return True

    async def main():
        settings, up = Settings(repository=house.settings.repository, port=free_port()), asyncio.Event()
        app = create_app(house.engine, settings)
        serving = asyncio.create_task(run.run(app, settings, ready=up.set, hand_on=hand_on))
        await up.wait()
        url = f"http://127.0.0.1:{settings.port}"
        async with httpx.AsyncClient(base_url=url) as busy, httpx.AsyncClient(base_url=url) as idle:
            assert "connection" not in (await idle.get("/info")).headers
            held = hold(house.engine)
            call = asyncio.create_task(busy.post("/infer/object_detection", json=ask(picture)))
            await held.reached.wait()
            os.kill(os.getpid(), signal.SIGUSR2)
            await until(lambda: handed_on)
            await asyncio.sleep(0)
            held.set()
            for answer in (await call, await idle.get("/readiness")):
                assert answer.status_code == 200 and answer.headers["connection"] == "close"
            await asyncio.wait_for(serving, 10)
        with socket.create_connection(("127.0.0.1", settings.port), 1):
            handed_on[0].accept()[0].close()  # whoever comes now meets the other process

    asyncio.run(main())
    handed_on[0].close()


def test_a_port_that_nobody_takes_over_is_kept(house, until):
    asked = []

    async def nobody(_: socket.socket) -> bool:
        asked.append(True)
        return False

    async def main():
        settings, up = Settings(repository=house.settings.repository, port=free_port()), asyncio.Event()
        app = create_app(house.engine, settings)
        serving = asyncio.create_task(run.run(app, settings, ready=up.set, hand_on=nobody))
        await up.wait()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}") as client:
            for times in (1, 2):
                os.kill(os.getpid(), signal.SIGUSR2)
                await until(lambda: len(asked) == times)  # noqa: B023
                assert "connection" not in (await client.get("/info")).headers
        serving.cancel()
        await asyncio.wait((serving,))

    asyncio.run(main())


def test_as_many_files_may_be_open_as_there_may_be_connections(house, served):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, limits[1]))

        async def main():
            async with served(house, max_connections=400) as client:
                assert (await client.get("/info")).status_code == 200

        asyncio.run(main())
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 900
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.attack("many connections")
def test_connections_over_the_bound_are_refused(house, served):
    async def main():
        async with served(house, max_connections=3) as client:
            open_ones = [await asyncio.open_connection("127.0.0.1", client.base_url.port) for _ in range(3)]
            assert (await client.get("/info")).status_code == 503
            for _, writer in open_ones:
                writer.close()

    asyncio.run(main())


def test_a_taken_port_is_one_sentence():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=f"^Port {port} is taken.$"):
            run.listen("127.0.0.1", port)


def test_an_unusable_address_is_one_sentence():
    for host in ("192.0.2.1", "no such host", "x" * 300):
        with pytest.raises(SetupError):
            run.listen(host, free_port())


def test_a_port_can_be_used_again_at_once():
    port = free_port()
    for _ in range(2):
        run.listen("127.0.0.1", port).close()
