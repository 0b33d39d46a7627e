"""What several facades share, with a real Redis: answers, kept pictures, rates. Without it: slower, never wrong."""

from __future__ import annotations

import asyncio
import base64
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from tritonvision.errors import InvalidPicture, SetupError, TooManyRequests
from tritonvision.facade import shared_store
from tritonvision.facade.app import create_app
from tritonvision.facade.dialects.roboflow.kept_pictures import EncodingCache, KeptPictures
from tritonvision.facade.security.limits import Rate
from tritonvision.facade.shared_store import SharedStore, name_of
from tritonvision.settings import Settings

SERVER = shutil.which("redis-server")
PATIENCE = 3.0  # seconds, where the time that Redis takes is not what is tested: tests share two cores
pytestmark = pytest.mark.skipif(SERVER is None, reason="This machine has no redis-server (Debian: redis-server).")


class Redis:
    """A redis-server on a socket in a folder."""

    def __init__(self, folder: Path):
        self.url, self._folder, self._process = f"unix://{folder}/redis", folder, None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [SERVER, "--port", "0", "--unixsocket", f"{self._folder}/redis", "--save", "", "--dir", str(self._folder)],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        give_up = time.monotonic() + 10
        while not (self._folder / "redis").exists():
            assert time.monotonic() < give_up, "redis-server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        (self._folder / "redis").unlink(missing_ok=True)

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture
def redis(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.go_on()
    server.stop()


@pytest.fixture
def two(house, redis):
    """The clients of two facades over one engine and one Redis; a count of questions tells who computed."""
    settings = Settings(repository=house.settings.repository, redis_url=redis.url, redis_timeout=PATIENCE)
    apps = [create_app(house.engine, settings) for _ in range(2)]
    with TestClient(apps[0]) as one, TestClient(apps[1]) as other:
        yield one, other


def run(work):
    async def main():
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(main())


# ---- answers ---------------------------------------------------------------------------------------------------------


def ask(client, picture: bytes):
    answer = client.post("/models/yolov8n-640", content=picture, headers={"x-wait-for-model": "true"})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-cache"], answer.json()


def written(client) -> None:
    """Return when what is written beside answers is written."""
    store = client.app.state.service.store
    give_up = time.monotonic() + 5
    while store._writes:
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_an_answer_of_one_facade_is_known_to_the_other(house, two, picture):
    one, other = two
    first = ask(one, picture)
    written(one)
    assert first[0] == "miss" and ask(other, picture) == ("hit", first[1]) and len(house.engine.asked) == 1


def test_a_model_that_is_published_again_has_no_answers_from_before_anywhere(house, two, picture):
    one, other = two
    ask(one, picture)
    written(one)
    path = house.settings.repository / "yolov8n-640" / "manifest.json"
    path.write_text(path.read_text().replace('"sha256": "0"', '"sha256": "1"'))
    assert ask(other, picture)[0] == "miss" and len(house.engine.asked) == 2


def test_answers_are_given_while_redis_hangs_is_gone_and_is_back(house, two, redis, picture):
    one, other = two
    right = ask(one, picture)[1]
    written(one)
    redis.hang()
    began = time.monotonic()
    assert ask(other, picture)[1] == right
    assert time.monotonic() - began < 20
    left_alone_until = other.app.state.service.store._left_alone_until
    assert left_alone_until > began
    assert ask(other, picture + b"\0")[1] == right
    assert other.app.state.service.store._left_alone_until == left_alone_until  # not asked again
    redis.go_on()
    redis.stop()
    other.app.state.service.store._left_alone_until = 0.0
    assert ask(other, picture + b"\0\0")[1] == right
    redis.start()
    for client in two:
        client.app.state.service.store._left_alone_until = 0.0
    ask(one, picture + b"\0\0\0")
    written(one)
    assert ask(other, picture + b"\0\0\0") == ("hit", right)


# ---- kept pictures ---------------------------------------------------------------------------------------------------


def kept_by(store: SharedStore) -> KeptPictures:
    return KeptPictures(EncodingCache(2**20), store)


def test_a_picture_that_one_facade_keeps_is_found_and_replaced_by_another(redis):
    async def main():
        stores = [SharedStore(redis.url, PATIENCE) for _ in range(2)]
        one, other = map(kept_by, stores)
        mask = np.arange(256 * 256, dtype=np.float32).reshape(256, 256)
        await one.put("key", "a", b"picture", {"sam": mask})
        found = await other.get("key", "a")
        assert found.picture == b"picture" and (found.logits["sam"] == mask).all()
        await other.put("key", "a", b"picture", {"sam2": mask + 1})
        assert (await one.get("key", "a")).logits.keys() == {"sam", "sam2"}
        await other.put("key", "a", b"another picture")
        found = await one.get("key", "a")
        assert found.picture == b"another picture" and not found.logits
        for caller, name in (("another key", "a"), (None, "a"), ("key", "b"), ("", "a")):
            with pytest.raises(InvalidPicture):
                await one.get(caller, name)
        for store in stores:
            await store.close()

    run(main())


def test_without_redis_a_picture_that_may_have_been_replaced_is_not_taken_for_it(redis):
    async def main():
        store = SharedStore(redis.url, PATIENCE)
        kept = kept_by(store)
        await kept.put("key", "a", b"picture")
        redis.stop()
        with pytest.raises(InvalidPicture, match="No picture is kept") as caught:
            await kept.get("key", "a")
        assert caught.value.hint == "Send the picture with it."
        await kept.put("key", "a", b"picture")  # no error
        await store.close()

    run(main())


def test_what_redis_holds_is_checked_before_it_is_a_picture(redis):
    async def main():
        store = SharedStore(redis.url, PATIENCE)
        await kept_by(store).put(None, "a", b"picture")
        import hashlib

        await store.put(f"bytes:{hashlib.sha256(b'picture').hexdigest()}", b"something else")
        with pytest.raises(InvalidPicture):
            await kept_by(store).get(None, "a")
        await store.close()

    run(main())


def test_prompts_about_a_picture_go_to_either_facade(whole_house, redis, picture):
    settings = Settings(repository=whole_house.settings.repository, redis_url=redis.url, redis_timeout=PATIENCE)
    image = {"type": "base64", "value": base64.b64encode(picture).decode()}
    with (
        TestClient(create_app(whole_house.engine, settings)) as one,
        TestClient(create_app(whole_house.engine, settings)) as other,
    ):
        body = {"image": image, "image_id": "a", "sam_version_id": "vit_b"}
        assert one.post("/sam/embed_image", json=body).status_code == 200
        asked = {"image_id": "a", "sam_version_id": "vit_b", "point_coords": [[5, 5]], "point_labels": [1]}
        answer = other.post("/sam/segment_image", json=asked)
        assert answer.status_code == 200, answer.text
        assert whole_house.engine.samples[-1][1][0]["image"] == picture


# ---- rates -----------------------------------------------------------------------------------------------------------


def test_the_rate_of_a_key_holds_at_all_facades_together(redis):
    async def main():
        stores = [SharedStore(redis.url, PATIENCE) for _ in range(2)]
        rates = [Rate(5.0) for _ in range(2)]
        passed = 0
        for number in range(40):
            try:
                await rates[number % 2].check_with(stores[number % 2], "ours")
                passed += 1
            except TooManyRequests as error:
                assert 0 < error.retry_after <= 0.2
        assert 10 <= passed <= 13, "two seconds' worth, not twice that"
        await rates[0].check_with(stores[0], "another key")
        for store in stores:
            await store.close()

    run(main())


def test_pictures_of_a_request_are_charged_to_the_next_ones_everywhere(redis):
    async def main():
        store = SharedStore(redis.url, PATIENCE)
        one, other = Rate(5.0), Rate(5.0)
        await one.check_with(store, "ours")
        one.charge(31)
        await one.check_with(store, "ours")
        with pytest.raises(TooManyRequests) as caught:
            await other.check_with(store, "ours")
        assert 4.0 < caught.value.retry_after < 5.0
        kept = await store._redis.pttl(shared_store._PREFIX + name_of("rate", "ours", "5.0"))
        assert kept > 1000 * caught.value.retry_after, "what is owed is forgotten before it is paid"
        await store.close()

    run(main())


def test_without_redis_each_facade_holds_the_rate_by_itself(redis):
    async def main():
        redis.stop()
        store, rate, passed = SharedStore(redis.url, PATIENCE), Rate(5.0), 0
        for _ in range(40):
            try:
                await rate.check_with(store, "ours")
                passed += 1
            except TooManyRequests:
                pass
        assert 10 <= passed <= 12
        await store.close()

    run(main())


# ---- the store -------------------------------------------------------------------------------------------------------


def test_a_redis_that_does_not_answer_is_left_alone_for_some_seconds_and_then_asked_again(redis, monkeypatch, caplog):
    monkeypatch.setattr(shared_store, "_LEFT_ALONE_SECONDS", 1.0)

    async def main():
        store = SharedStore(redis.url, PATIENCE)
        assert store.well and await store.put("k", b"v") and await store.get("k") == b"v" and await store.has("k")
        redis.stop()
        assert await store.get("k") is None and not store.well and await store.put("k", b"v") is False
        assert caplog.text.count("Redis does not answer") == 1
        redis.start()
        await asyncio.sleep(1.0)
        assert store.well and await store.put("k", b"v") and await store.get("k") == b"v"
        await store.close()

    run(main())


def test_a_value_is_forgotten_after_its_time(redis):
    async def main():
        store = SharedStore(redis.url, PATIENCE)
        await store.put("k", b"v", seconds=1)
        async with asyncio.timeout(5):
            while await store.get("k") is not None:
                await asyncio.sleep(0.05)
        await store.close()

    run(main())


def test_keys_hold_nothing_that_callers_sent():
    assert name_of("a", "secret") == name_of("a", b"secret") != name_of("a", "secre", "t") != name_of("a", "", "secret")
    assert "secret" not in name_of("a", "secret") and len(name_of("a", b"x" * 10_000)) < 80


def test_what_is_no_url_of_redis_is_one_sentence():
    with pytest.raises(SetupError, match="The URL of Redis cannot be read."):
        SharedStore("http://somewhere", 0.2)
    assert not SharedStore(None, 0.2).well
