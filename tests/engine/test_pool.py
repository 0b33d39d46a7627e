"""Several tritonservers as one: who is asked, and what happens when one dies, hangs or is not ready."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import grpc
import pytest
from scripted_pool import MODEL, answerers, member_of, pool_of, question, until
from scripted_triton import ScriptedTriton
from tritonclient.grpc import service_pb2 as pb

from tritonvision.engine import codec, endpoints
from tritonvision.engine.endpoints import GONE, NOT_READY, READY


def test_questions_are_spread_and_the_one_with_the_least_to_do_is_asked():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            assert await answerers(pool, 10) == {a.address: 5, b.address: 5}
            a.held.clear()
            held = [asyncio.ensure_future(pool.forward(question(), 5.0)) for _ in range(2)]
            await until(lambda: len(a.asked) > 5)
            assert await answerers(pool, 4) == {b.address: 4}
            a.held.set()
            await asyncio.gather(*held)
            assert pool.width == 2

    asyncio.run(main())


def test_a_question_in_a_server_that_dies_is_asked_elsewhere_once():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            a.held.clear()
            b.held.clear()
            asked = [asyncio.ensure_future(pool.forward(question(), 5.0)) for _ in range(8)]
            await until(lambda: len(a.asked) == len(b.asked) == 4)
            b.held.set()
            await a.kill()
            assert Counter(answer.id for answer in await asyncio.gather(*asked)) == {b.address: 8}
            await until(lambda: member_of(pool, a).state == GONE)
            assert await answerers(pool, 3) == {b.address: 3} and pool.width == 1

    asyncio.run(main())


def test_a_question_in_a_server_that_hangs_is_asked_elsewhere_long_before_its_deadline():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            a.hangs.clear()
            began = time.monotonic()
            answers = await asyncio.gather(*(pool.forward(question(), 30.0) for _ in range(6)))
            assert {answer.id for answer in answers} == {b.address} and time.monotonic() - began < 20.0
            assert await answerers(pool, 3) == {b.address: 3}
            a.hangs.set()
            await until(lambda: member_of(pool, a).state == READY)
            assert await answerers(pool, 4) == {a.address: 2, b.address: 2}

    asyncio.run(main())


def test_the_only_server_is_waited_for_however_long_it_says_nothing(monkeypatch):
    monkeypatch.setattr(endpoints, "_LOOK_SECONDS", 0.1)

    async def main():
        async with ScriptedTriton(MODEL) as a, pool_of(a, "127.0.0.1:1") as pool:
            a.hangs.clear()
            asked = asyncio.ensure_future(pool.forward(question(), 30.0))
            await until(lambda: member_of(pool, a).state == GONE)
            a.hangs.set()
            assert (await asked).id == a.address

    asyncio.run(main())


def test_a_server_that_says_it_is_not_ready_gets_nothing_new_and_finishes_what_it_has():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            a.held.clear()
            running = asyncio.gather(pool.forward(question(), 9.0), pool.forward(question(), 9.0))
            await until(lambda: a.asked)
            a.is_ready = False
            await until(lambda: member_of(pool, a).state == NOT_READY)
            assert await answerers(pool, 4) == {b.address: 4}
            a.held.set()
            assert a.address in {answer.id for answer in await running}

    asyncio.run(main())


def test_servers_that_are_all_not_ready_still_answer():
    """As while each loads a model: Triton is not ready then, and answers all the same."""

    async def main():
        async with ScriptedTriton(MODEL) as a, pool_of(a, "127.0.0.1:1") as pool:
            a.is_ready = False
            await until(lambda: member_of(pool, a).state == NOT_READY)
            assert await answerers(pool, 1) == {a.address: 1}

    asyncio.run(main())


@pytest.mark.parametrize("code, details, elsewhere", [
    (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", True),
    (grpc.StatusCode.UNAVAILABLE, "Server is stopping, scheduler for model has stopped", True),
    (grpc.StatusCode.INTERNAL, "Stub process 'eyes_0' is not healthy.", True),
    (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'eyes' is not found", True),
    (grpc.StatusCode.CANCELLED, "", True),
    (grpc.StatusCode.INTERNAL, "[invalid_picture] It is none.", False),
    (grpc.StatusCode.INVALID_ARGUMENT, "unexpected inference input 'x'", False),
    (grpc.StatusCode.INTERNAL, "out of memory", False),
])  # fmt: skip
def test_what_another_server_may_answer_is_asked_there_and_nothing_else(code, details, elsewhere):
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            a.failure = b.failure = code, details
            with pytest.raises(grpc.RpcError):
                await pool.forward(question(), 5.0)
            assert len(a.asked) + len(b.asked) == (2 if elsewhere else 1)

    asyncio.run(main())


def test_of_each_server_are_told_its_calls_and_its_failures_but_not_those_of_what_was_asked():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            await answerers(pool, 2)
            a.failure = grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"
            assert await answerers(pool, 1) == {b.address: 1}
            a.failure = b.failure = grpc.StatusCode.INTERNAL, "[invalid_picture] It is none."
            with pytest.raises(grpc.RpcError):
                await pool.forward(question(), 5.0)
            a.failure = b.failure = None
            a.held.clear()
            b.held.clear()
            held = [asyncio.ensure_future(pool.forward(question(), 5.0)) for _ in range(2)]
            await until(lambda: len(a.asked) + len(b.asked) == 7)
            figures = {figure.target: figure for figure in pool.endpoints()}
            assert figures.keys() == {a.address, b.address} and all(one.healthy for one in figures.values())
            assert [figures[a.address].failures, figures[b.address].failures] == [1, 0]
            for one, server in ((figures[a.address], a), (figures[b.address], b)):
                assert (one.requests, one.outstanding) == (len(server.asked), 1)
            a.held.set()
            b.held.set()
            await asyncio.gather(*held)
            assert [one.outstanding for one in pool.endpoints()] == [0, 0]

    asyncio.run(main())


def test_a_server_that_is_gone_is_told_as_not_healthy():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            await a.kill()
            await until(lambda: member_of(pool, a).state == GONE)
            assert {one.target: one.healthy for one in pool.endpoints()} == {a.address: False, b.address: True}

    asyncio.run(main())


def test_a_model_whose_process_died_at_one_server_is_asked_at_the_other_from_then_on():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            a.failure = grpc.StatusCode.INTERNAL, "Stub process 'eyes_0' is not healthy."
            assert await answerers(pool, 6) == {b.address: 6} and len(a.asked) == 1

    asyncio.run(main())


def test_a_sequence_stays_at_its_server_for_every_facade_and_is_lost_with_it():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as one, pool_of(b, a) as other:
            numbers = [one.new_sequence(MODEL) for _ in range(40)]
            assert len(set(numbers)) == 40 and all(0 < number < 2**63 for number in numbers)
            for number in numbers[:4]:
                for pool in (one, other, one):
                    await pool.forward(question(sequence=codec.SequenceStep(number)), 5.0)
            for server in (a, b):
                assert all(server.sequences.count(number) in (0, 3) for number in numbers)
            number = next(n for n in numbers if n in a.sequences or n >> 40 == member_of(one, a).tag)
            await a.kill()
            with pytest.raises(grpc.RpcError):
                await one.forward(question(sequence=codec.SequenceStep(number)), 5.0)
            assert number not in b.sequences

    asyncio.run(main())


def test_the_same_picture_goes_to_one_server_while_it_has_room():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            found = [await answerers(pool, 3, affinity=bytes([n])) for n in range(16)]
            assert all(len(one) == 1 for one in found) and len({*map(str, found)}) == 2
            async with pool_of(b, a) as other:  # another facade
                assert [await answerers(other, 3, affinity=bytes([n])) for n in range(16)] == found
            (first,) = found[0]
            busy = a if a.address == first else b
            busy.held.clear()
            held = [asyncio.ensure_future(pool.forward(question(), 9.0, affinity=bytes([0]))) for _ in range(12)]
            await until(lambda: len(a.asked) + len(b.asked) == 108)
            assert sum(not one.done() for one in held) < 12
            busy.held.set()
            await asyncio.gather(*held)

    asyncio.run(main())


def test_an_answer_in_pieces_is_begun_elsewhere_before_its_first_piece_and_not_after():
    async def pieces(pool):
        return [piece.id async for piece in pool.responses(question(), 5.0)]

    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            a.hangs.clear()
            assert await pieces(pool) == [f"{b.address} {n}" for n in range(3)]
            assert await pieces(pool) == [f"{b.address} {n}" for n in range(3)]
            b.held.clear()
            half = asyncio.ensure_future(pieces(pool))
            await until(lambda: len(b.asked) == 3)
            a.hangs.set()
            await b.kill()
            with pytest.raises(grpc.RpcError):
                await half

    asyncio.run(main())


def test_the_figures_of_a_model_are_those_of_all_servers():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            await answerers(pool, 5)
            (told,) = await pool.times([MODEL])
            assert (told.model, told.version, told.samples, told.executions) == (MODEL, "1", 5, 5)
            config = await pool.ask("ModelConfig", pb.ModelConfigRequest(name=MODEL))
            assert isinstance(config, pb.ModelConfigResponse)
            left = len(b.asked)
            await a.kill()
            (told,) = await pool.times([MODEL])
            assert told.samples == left, "one server that was lost took the figures of the others with it"

    asyncio.run(main())
