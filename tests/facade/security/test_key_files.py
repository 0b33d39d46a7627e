"""Keys that come and go while the server runs, from a file, and that show up nowhere."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import pytest
from callers import CLASSIFIER, DETECTOR, ask, bearer, key

from tritonvision import api_keys
from tritonvision.api_keys import ApiKey
from tritonvision.errors import SetupError
from tritonvision.facade.security import access
from tritonvision.facade.security.access import Access
from tritonvision.settings import Settings


def test_keys_are_revoked_and_added_without_a_restart(house_with, key_file, picture, monkeypatch):
    api_keys.write(key_file, [key("old")])
    house = house_with(keys_file=key_file)
    monkeypatch.setattr(access, "_LOOK_SECONDS", 0.0)
    assert [ask(house, picture, DETECTOR, who).status_code for who in ("old", "new")] == [200, 401]
    api_keys.write(key_file, [key("new")])
    assert [ask(house, picture, DETECTOR, who).status_code for who in ("old", "new")] == [401, 200]


@pytest.mark.parametrize("what", ["broken", "gone", "twice"])
def test_a_file_that_cannot_be_read_leaves_the_keys_as_they_were_and_says_so(
    house_with, key_file, picture, monkeypatch, caplog, what
):
    api_keys.write(key_file, [key("old")])
    house = house_with(keys_file=key_file)
    monkeypatch.setattr(access, "_LOOK_SECONDS", 0.0)
    if what == "gone":
        key_file.unlink()
    else:
        key_file.write_text("no key\n" if what == "broken" else f"{key('x').line()}\n{key('x').line()}\n")
    with caplog.at_level(logging.ERROR):
        assert [ask(house, picture, DETECTOR, who).status_code for who in ("old", "new", None)] == [200, 401, 401]
    told = [record.getMessage() for record in caplog.records if "stay as they were" in record.getMessage()]
    assert len(told) == 1, "once, and not for every request"
    api_keys.write(key_file, [key("new")])
    assert [ask(house, picture, DETECTOR, who).status_code for who in ("old", "new")] == [401, 200]


def test_a_file_without_keys_lets_nobody_in(house_with, key_file, picture):
    key_file.write_text("")
    assert ask(house_with(keys_file=key_file), picture, DETECTOR, None).status_code == 401


def test_a_rate_is_not_forgotten_when_the_file_is_read_again(key_file):
    api_keys.write(key_file, [key("slow", rate=0.1), key("other", rate=0.1)])
    known = Access(Settings(keys_file=key_file))
    before = known.caller("slow").rate
    api_keys.write(key_file, [key("slow", rate=0.1), key("other", rate=0.2)])
    known.reload()
    assert known.caller("slow").rate is before and known.caller("other").rate.per_second == 0.2


@pytest.mark.parametrize("options", [
    {"keys": (key("default"),), "api_key": "k"}, {"keys": (key("a"), key("a"))},
    {"keys": (ApiKey(name="same", sha256=api_keys.digest("k")),), "api_key": "k"},
])  # fmt: skip
def test_a_name_or_a_key_twice_is_refused_at_the_start(options):
    with pytest.raises(SetupError, match="twice"):
        Access(Settings(**options))


def test_a_hangup_reads_the_keys_again(house, key_file, served, until):
    api_keys.write(key_file, [key("old")])

    async def main():
        async with served(house, keys_file=key_file) as client:
            assert (await client.get("/models", headers=bearer("old"))).status_code == 200
            api_keys.write(key_file, [key("new")])
            known = client.service.access
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: [caller.name for _, caller in known._callers] == ["new"])
            assert (await client.get("/models", headers=bearer("old"))).status_code == 401
            assert (await client.get("/models", headers=bearer("new"))).status_code == 200
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL, "afterwards it ends the process again"

    asyncio.run(main())


@pytest.mark.attack("secrets that are told")
def test_logs_and_metrics_have_the_name_of_a_key_and_never_the_key(house_with, picture, caplog):
    text = api_keys.new_key()
    house = house_with(keys=(ApiKey(name="cameras", sha256=api_keys.digest(text), models=(DETECTOR,)),))
    names = []
    with caplog.at_level(logging.DEBUG):
        for model in (DETECTOR, CLASSIFIER):
            answer = ask(house, picture, model, text)
            assert text not in answer.text + str(answer.headers)
        house.client.post("/infer/object_detection", content=b'{"api_key": "%s", "model_id": 5}' % text.encode())
        names = [record.getMessage() for record in caplog.records if record.name.startswith("tritonvision")]
    assert names and not any(text in line for line in names)
    assert text not in house.client.get("/metrics").text and text not in repr(house.settings)
    assert "the-one" not in repr(Settings(api_key="the-one", roboflow_api_key="the-one", vi_secret_key="the-one"))
