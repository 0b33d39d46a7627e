"""The servers of a pool: which models they have and are given, their addresses, and the setting that names them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from manifests import manifest_of
from scripted_pool import MODEL, answerers, member_of, pool_of, question, until
from scripted_triton import ScriptedTriton

from tritonvision.endpoint import TlsFiles
from tritonvision.engine import endpoints
from tritonvision.engine.endpoints import GONE, NOT_READY, endpoints_of
from tritonvision.engine.pool import PoolControl, connections
from tritonvision.errors import InvalidParameter, SetupError, TritonVisionError
from tritonvision.server.control import Control
from tritonvision.settings import Settings


def test_a_model_is_asked_where_it_is_loaded_and_loaded_where_it_is_not():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton() as b:
            async with pool_of(a, b) as pool:
                assert await answerers(pool, 3) == {a.address: 3} and not b.asked
                await until(lambda: MODEL in b.loads)
            b.can_load.add(MODEL)
            async with pool_of(a, b) as pool:
                await until(lambda: MODEL in member_of(pool, b).models)
                assert await answerers(pool, 4) == {a.address: 2, b.address: 2}

    asyncio.run(main())


def test_a_server_that_cannot_load_one_model_is_not_told_again_and_again_to_load_the_others():
    async def main():
        async with ScriptedTriton(MODEL) as a, pool_of(a, "127.0.0.1:1") as pool:
            a.can_load.add(MODEL)
            pool._members.wanted["ears"] = None
            pool._members.published["ears"] = manifest_of("ears", "classification")
            member_of(pool, a).looked_at_models = 0.0
            member_of(pool, a).wake.set()
            await until(lambda: a.loads)
            await asyncio.sleep(0.3)
            assert a.loads == ["ears"]

    asyncio.run(main())


def test_a_server_is_looked_at_again_after_a_look_that_failed_in_a_way_nobody_foresaw(monkeypatch):
    async def main():
        async with ScriptedTriton(MODEL) as a, pool_of(a, "127.0.0.1:1") as pool:
            member, ask = member_of(pool, a), member_of(pool, a).client.ask
            failures = iter([ZeroDivisionError()])

            async def fails_once(*given):
                for failure in failures:
                    raise failure
                return await ask(*given)

            monkeypatch.setattr(member.client, "ask", fails_once)
            a.is_ready = False
            member.wake.set()
            await until(lambda: member.state == NOT_READY)

    asyncio.run(main())


def test_a_server_that_comes_back_empty_is_given_its_models_and_then_questions():
    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b, pool_of(a, b) as pool:
            await a.kill()
            await until(lambda: member_of(pool, a).state == GONE)
            again = ScriptedTriton(address=a.address)
            again.can_load.add(MODEL)
            async with again:
                await until(lambda: MODEL in member_of(pool, a).models)
                assert set(await answerers(pool, 4)) == {a.address, b.address}

    asyncio.run(main())


@pytest.mark.parametrize("other", [{"serving": "openvino-int8"}, {"sha256": "of other weights"}])
def test_the_variant_and_the_weights_of_this_side_are_asked_where_somebody_has_them(other):
    ours = manifest_of(MODEL, "classification")

    async def main():
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b:
            a.models[MODEL], b.models[MODEL] = replace(ours, **other), ours
            async with pool_of(a, b) as pool:
                assert await answerers(pool, 4) == {b.address: 4}
                await b.kill()
                assert await answerers(pool, 2) == {a.address: 2}, "another variant is better than no answer"

    asyncio.run(main())


def test_a_load_is_one_everywhere_and_one_server_that_has_the_model_suffices():
    async def main():
        async with ScriptedTriton() as a, ScriptedTriton() as b, pool_of(a, b, "127.0.0.1:1") as pool:
            a.can_load.add("ears")
            pool.control.expect(manifest_of("ears", "classification"))
            await asyncio.to_thread(pool.control.load, "ears")
            assert "ears" in a.loads and "ears" in b.loads and await asyncio.to_thread(pool.control.ready, "ears")
            assert await pool.ready("ears") and await pool.ready() and not await pool.ready("nose")
            with pytest.raises(TritonVisionError):
                await asyncio.to_thread(pool.control.load, "nose")
            await asyncio.to_thread(pool.control.unload, "ears")
            assert not await pool.ready("ears")

    asyncio.run(main())


def test_a_name_of_dns_stands_for_all_of_its_addresses_and_follows_them(monkeypatch):
    monkeypatch.setattr(endpoints, "_RESOLVE_SECONDS", 0.05)
    found: list[str] = []
    fails = False

    async def resolve(host, port):
        assert (host, port) == ("tritons.local", 8001)
        if fails:
            raise OSError("no such name")
        return found

    async def main():
        nonlocal fails
        async with ScriptedTriton(MODEL) as a, ScriptedTriton(MODEL) as b:
            found[:] = [f"ipv4:{a.address}"]
            async with pool_of("dns:///tritons.local:8001", resolve=resolve) as pool:
                assert await answerers(pool, 2) == {a.address: 2}
                a.held.clear()
                running = asyncio.ensure_future(pool.forward(question(), 9.0))
                await until(lambda: len(a.asked) == 3)
                found[:] = [f"ipv4:{b.address}"]
                await until(lambda: {member.endpoint.target for member in pool._members} == {f"ipv4:{b.address}"})
                assert await answerers(pool, 3) == {b.address: 3}
                a.held.set()
                assert (await running).id == a.address, "what ran where a name does not lead any more was cut"
                fails = True
                await asyncio.sleep(0.2)
                assert await answerers(pool, 1) == {b.address: 1}, "a name server that is away changed who is asked"

    asyncio.run(main())


def test_a_real_name_is_resolved_with_its_port():
    assert asyncio.run(endpoints.addresses_of("127.0.0.1", 8001)) == ["ipv4:127.0.0.1:8001"]


def test_the_setting_names_one_server_several_or_a_name():
    def targets(url: str) -> list[str]:
        return [endpoint.target for endpoint in endpoints_of(Settings(triton_url=url))]

    assert targets("a:1, b:2,,a:1") == ["a:1", "b:2"] and targets("[::1]:8001") == ["[::1]:8001"]
    assert targets("dns:///tritons:8001") == ["dns:///tritons:8001"] and targets("unix:/run/x:1") == ["unix:/run/x:1"]
    for wrong in ("a", "a:b", "a:0", "a:70000", "http://a", ":8001", "a:1,b"):
        with pytest.raises(InvalidParameter, match="is no address of a tritonserver"):
            endpoints_of(Settings(triton_url=wrong))
    secret = Settings(triton_url="a:1", triton_token="t", triton_token_header="x-t", triton_tls=True)
    (one,) = endpoints_of(secret)
    assert one.metadata() == (("x-t", "t"),) and one.tls == TlsFiles() and "triton_token='t'" not in repr(secret)
    assert isinstance(connections(Settings(triton_url="a:1"), None)[1], Control)
    assert isinstance(connections(Settings(triton_url="a:1,b:2"), None)[1], PoolControl)
    assert isinstance(connections(Settings(triton_url="dns:///a:1"), None)[1], PoolControl)
    with pytest.raises(SetupError):
        connections(Settings(), None)
