"""Commands in processes of their own end with whoever waits for them."""

import asyncio
import signal
import sys

import pytest

from tritonvision.engine.processes import running

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_the_process_of_a_block_that_fails_is_ended():
    async def main():
        with pytest.raises(ZeroDivisionError):
            async with running(SLEEPS, asyncio.subprocess.DEVNULL) as process:
                raise ZeroDivisionError
        assert process.returncode == -signal.SIGKILL

    asyncio.run(main())
