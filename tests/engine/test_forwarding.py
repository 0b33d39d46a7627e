"""Requests in Triton's own protocol, over real gRPC: what the real server refuses, and what is lost on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from manifests import manifest_of
from own_engine import with_engine
from scripted_triton import ScriptedTriton
from tritonclient.grpc import service_pb2 as pb

from tritonvision import stages
from tritonvision.engine import codec
from tritonvision.engine.engine import Engine
from tritonvision.errors import InvalidParameter, NotSupported, ServerUnavailable
from tritonvision.publication import MANIFEST
from tritonvision.settings import Settings

FACE = "mediapipe-face-detection"
EYES, WRITER = manifest_of("eyes", "classification"), manifest_of("writer", "vlm")


def message(pictures: list[bytes], **tensor) -> pb.ModelInferRequest:
    """A request with the id ``mine`` and one tensor, by default as many pictures as it should be."""
    asked = pb.ModelInferRequest(id="mine")
    asked.inputs.add(**{"name": "image", "datatype": "BYTES", "shape": (len(pictures), 1), **tensor})
    asked.raw_input_contents.append(b"".join(len(one).to_bytes(4, "little") + one for one in pictures))
    return asked


def wanting(asked: pb.ModelInferRequest, output: str) -> pb.ModelInferRequest:
    asked.outputs.add(name=output)
    return asked


def test_what_triton_refuses_of_a_request_is_its_caller_s_error_and_no_failure_of_the_server(
    settings, embedded, photo
):
    refused = {
        "another name": message([photo], name="picture"), "another type": message([photo], datatype="FP32"),
        "another shape": message([photo], shape=(1, 1, 1)), "too many": message([photo] * 9),
        "another output": wanting(message([photo]), "nothing"), "none": message([], shape=(0, 1)),
    }  # fmt: skip

    async def work(engine: Engine):
        face = engine.published.resolve(FACE)
        answer = await engine.forwarding.infer(face, "", message([photo]), photo)
        assert answer.id == "mine" and {output.name for output in answer.outputs} >= {"boxes", "keypoints"}
        pieces = [piece.id async for piece in engine.forwarding.responses(face, "", message([photo]))]
        assert pieces == ["mine"]
        for what, asked in refused.items():
            with pytest.raises(InvalidParameter):
                await engine.forwarding.infer(face, "", asked, photo)
                pytest.fail(what)
        with pytest.raises(InvalidParameter):
            async for _ in engine.forwarding.responses(face, "", message([photo], datatype="FP32")):
                pass

    with_engine(settings, embedded, work)


class FailsOnce(ScriptedTriton):
    """Its first answer to a request is a failure that another process would not have; then it repeats the id."""

    async def ModelInfer(self, request, context):
        self.asked.append(request.id)
        if len(self.asked) == 1:
            await context.abort(grpc.StatusCode.INTERNAL, "[internal] The model failed on this input.")
        return pb.ModelInferResponse(model_name=request.model_name, id=request.id)


async def engine_of(server: ScriptedTriton, root: Path) -> Engine:
    """A started engine on ``server``, with both models published."""
    for manifest in (EYES, WRITER):
        (root / manifest.id).mkdir()
        (root / manifest.id / MANIFEST).write_text(manifest.to_json())
        server.can_load.add(manifest.id)
    engine = Engine(Settings(repository=root, triton_url=server.address))
    await engine.start()
    return engine


def test_the_answer_has_the_caller_s_id_also_where_it_came_with_a_second_try(tmp_path):
    async def main():
        async with FailsOnce() as server:
            engine = await engine_of(server, tmp_path)
            with stages.measured(stages.Timeline()):
                answer = await engine.forwarding.infer(EYES, "", message([b"picture"]), b"picture")
            assert answer.id == "mine" and len(set(server.asked)) == 2 and "mine" not in server.asked
            await engine.close()

    asyncio.run(main())


def test_a_model_that_writes_is_not_asked_for_one_answer(tmp_path):
    async def main():
        async with ScriptedTriton() as server:
            engine = await engine_of(server, tmp_path)
            with pytest.raises(NotSupported):
                await engine.forwarding.infer(WRITER, "", message([b"picture"]), b"picture")
            assert server.asked == []
            await engine.close()

    asyncio.run(main())


def test_a_stream_whose_process_is_lost_ends_at_once_and_not_when_it_has_idled(tmp_path):
    async def main():
        async with ScriptedTriton() as server:
            engine = await engine_of(server, tmp_path)
            lost = False
            engine.forwarding._loses = lambda model: lambda: lost
            server.held.clear()  # after the first piece
            with pytest.raises(ServerUnavailable):
                async for _ in engine.forwarding.responses(WRITER, "", codec.encode_chat("", [b"picture"], [], {})):
                    lost = True
            server.held.set()
            await engine.close()

    asyncio.run(main())
