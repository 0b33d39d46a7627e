"""Loads of one model are one load, and a model that is published again meanwhile is loaded again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from manifests import manifest_of
from scripted_triton import ScriptedTriton

from tritonvision.engine.loader import Loader
from tritonvision.server.control import Control
from tritonvision.settings import Settings

MODEL = "eyes"


def test_who_asks_for_a_model_that_is_published_again_while_it_loads_gets_the_new_one(tmp_path):
    old = manifest_of(MODEL, "classification")
    published = {MODEL: old}

    async def main():
        async with ScriptedTriton() as triton:
            triton.can_load.add(MODEL)
            triton.hangs.clear()
            settings = Settings(repository=tmp_path, triton_url=triton.address)
            loader = Loader(settings, Control(triton.address), published.__getitem__)
            before = asyncio.create_task(loader.ensure(old))
            await asyncio.sleep(0)
            new = published[MODEL] = replace(old)
            after = [asyncio.create_task(loader.ensure(new)) for _ in range(3)]
            await asyncio.sleep(0)
            triton.hangs.set()
            await asyncio.gather(before, *after)
            assert loader.loaded_models.get(MODEL) is new and triton.loads == [MODEL, MODEL]
            await loader.close()

    asyncio.run(main())
