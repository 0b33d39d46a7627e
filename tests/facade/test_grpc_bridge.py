"""KServe's v2 protocol over gRPC, asked with Triton's own client: the answers, errors, keys and limits of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tritonvision import errors
from tritonvision.errors import SetupError
from tritonvision.facade import grpc_bridge
from tritonvision.facade.app import create_app
from tritonvision.settings import Settings

DETECTOR = "yolov8n-640"


@pytest.fixture
def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def bridged(house, port: int, **options):
    """A client of Triton at the engine of the house, and the application."""
    settings = Settings(repository=house.settings.repository, grpc_port=port, **options)
    app = create_app(house.engine, settings)
    async with grpc_bridge.serving(app, settings), triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client, app


def image_of(picture: bytes) -> triton.InferInput:
    image = triton.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[picture]], dtype=object))
    return image


def run(coroutine):
    async def in_time():
        async with asyncio.timeout(20):
            return await coroutine

    return asyncio.run(in_time())


def test_triton_s_client_is_answered(house, picture, free_port):
    async def main():
        async with bridged(house, free_port) as (client, app):
            assert await client.is_server_live() and await client.is_server_ready()
            assert (await client.get_server_metadata()).name == "tritonvision"
            assert await client.is_model_ready(DETECTOR)
            assert (await client.get_model_metadata(DETECTOR)).inputs[0].name == "image"
            assert (await client.get_model_config(DETECTOR)).config.name == DETECTOR
            assert (await client.get_inference_statistics(DETECTOR)).model_stats[0].inference_count == 3
            assert DETECTOR in {model.name for model in (await client.get_model_repository_index()).models}
            outputs = [triton.InferRequestedOutput("scores")]
            answer = await client.infer(DETECTOR, [image_of(picture)], request_id="7", outputs=outputs)
            assert answer.as_numpy("scores").tolist() == [[0.75, 0.5]] and answer.as_numpy("label") is None
            assert answer.get_response().id == "7"
            assert house.engine.forwarding.asked[0][2].raw_input_contents[0][4:] == picture
            assert app.state.service.admission.pictures == app.state.service.admission.bytes == 0

    run(main())


@pytest.mark.parametrize("failure, status", [
    (errors.Overloaded(retry_after=3), "UNAVAILABLE"), (errors.InvalidPicture(), "INVALID_ARGUMENT"),
    (errors.DeadlineExceeded(), "DEADLINE_EXCEEDED"), (errors.NotSupported(), "UNIMPLEMENTED"),
    (errors.NoRoom(), "RESOURCE_EXHAUSTED"), (errors.BrokenModel(), "INTERNAL"), (ValueError("secret"), "INTERNAL"),
])  # fmt: skip
def test_an_error_has_its_status_and_the_sentence_of_http(house, picture, free_port, failure, status):
    async def main():
        house.engine.failure = failure
        async with bridged(house, free_port) as (client, _):
            with pytest.raises(InferenceServerException) as caught:
                await client.infer(DETECTOR, [image_of(picture)])
            assert caught.value.status() == f"StatusCode.{status}" and "secret" not in str(caught.value)
            if isinstance(failure, errors.TritonVisionError):
                assert failure.message in caught.value.message()

    run(main())


def test_a_key_comes_in_the_metadata(house, picture, free_port):
    async def main():
        async with bridged(house, free_port, api_key="right") as (client, _):
            assert await client.is_server_live()
            for given in ({}, {"authorization": "Bearer wrong"}):
                with pytest.raises(InferenceServerException) as caught:
                    await client.infer(DETECTOR, [image_of(picture)], headers=given)
                assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
            right = {"authorization": "Bearer right"}
            assert (await client.infer(DETECTOR, [image_of(picture)], headers=right)).as_numpy("scores") is not None

    run(main())


@pytest.mark.parametrize("call", [
    lambda client: client.load_model(DETECTOR), lambda client: client.unload_model(DETECTOR),
    lambda client: client.get_system_shared_memory_status(), lambda client: client.get_cuda_shared_memory_status(),
    lambda client: client.register_system_shared_memory("x", "/x", 8), lambda client: client.get_trace_settings(),
    lambda client: client.get_log_settings(), lambda client: client.update_log_settings({"log_verbose_level": 9}),
])  # fmt: skip
def test_what_triton_offers_its_operator_is_not_served(house, free_port, call):
    async def main():
        async with bridged(house, free_port) as (client, _):
            with pytest.raises(InferenceServerException) as caught:
                await call(client)
            assert caught.value.status() == "StatusCode.UNIMPLEMENTED"

    run(main())


def test_a_request_over_the_limit_and_one_that_cannot_be_read_are_refused(house, picture, free_port):
    async def main():
        async with bridged(house, free_port, max_body_bytes=2000) as (client, _):
            with pytest.raises(InferenceServerException) as caught:
                await client.infer(DETECTOR, [image_of(bytes(5000))])
            assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
            async with grpc.aio.insecure_channel(f"127.0.0.1:{free_port}") as channel:
                call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call(b"\xff\xff\xff")
                assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    run(main())


def test_a_caller_who_hangs_up_cancels_the_work(house, picture, free_port, hold, until):
    async def main():
        async with bridged(house, free_port) as (client, app):
            held = hold(house.engine)
            asked = asyncio.ensure_future(client.infer(DETECTOR, [image_of(picture)]))
            await held.reached.wait()
            asked.cancel()
            await until(lambda: house.engine.cancelled == 1)
            await until(lambda: app.state.service.admission.pictures == 0)
            house.engine.held = hold(house.engine)
            with pytest.raises(InferenceServerException, match="Deadline"):
                await client.infer(DETECTOR, [image_of(picture)], client_timeout=0.2)
            await until(lambda: house.engine.cancelled == 2)

    run(main())


def test_a_stream_has_every_piece_and_its_errors_as_messages(house, picture, free_port):
    async def main():
        address = f"127.0.0.1:{free_port}"
        async with bridged(house, free_port) as (_, app), grpc.aio.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            message = pb.ModelInferRequest(model_name="smolvlm-256m", id="q")
            message.inputs.add(name="image", datatype="BYTES", shape=[1])
            message.raw_input_contents.append(len(picture).to_bytes(4, "little") + picture)
            unknown = pb.ModelInferRequest(model_name="nobody", inputs=message.inputs)
            unknown.raw_input_contents.extend(message.raw_input_contents)
            told = [answer async for answer in stub.ModelStreamInfer(iter([message, unknown, message]))]
            assert [bool(answer.error_message) for answer in told] == [False] * 3 + [True] + [False] * 3
            assert "nobody" in told[3].error_message and told[0].infer_response.id == "q"
            house.engine.late_failure = errors.ServerUnavailable()
            told = [answer async for answer in stub.ModelStreamInfer(iter([message]))]
            assert [bool(answer.error_message) for answer in told] == [False, True]
            assert app.state.service.admission.pictures == 0
            figures = app.state.service.metrics.text(None, lambda model: True).decode()
            assert "num_inferences_smolvlm_256m 2.0" in figures and "num_errors_smolvlm_256m 1.0" in figures

    run(main())


def test_a_stream_on_which_nothing_is_sent_ends(house, free_port):
    async def nothing():
        await asyncio.Event().wait()
        yield

    async def main():
        address = f"127.0.0.1:{free_port}"
        async with bridged(house, free_port, stream_idle_timeout=0.2), grpc.aio.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError) as ended:
                async for _ in stub.ModelStreamInfer(nothing()):
                    pass
            assert ended.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and "0.2 seconds" in ended.value.details()

    run(main())


def test_without_a_port_nothing_listens_and_a_taken_one_is_said(house, free_port):
    async def main():
        async with grpc_bridge.serving(None, Settings()):
            pass
        async with bridged(house, free_port):
            with pytest.raises(SetupError, match=f"Port {free_port} is taken") as taken:
                async with bridged(house, free_port):
                    pass
            assert "--grpc-port" in taken.value.hint

    run(main())


def test_a_successor_shares_the_port_until_the_process_before_leaves_it(house, picture, free_port):
    async def main():
        settings = Settings(repository=house.settings.repository, grpc_port=free_port)
        app = create_app(house.engine, settings)
        async with contextlib.AsyncExitStack() as after:
            client = await after.enter_async_context(triton.InferenceServerClient(f"127.0.0.1:{free_port}"))
            async with bridged(house, free_port):
                await client.infer(DETECTOR, [image_of(picture)])
                await after.enter_async_context(grpc_bridge.serving(app, settings, successor=True))
                await client.infer(DETECTOR, [image_of(picture)])
            await client.infer(DETECTOR, [image_of(picture)])

    run(main())
