"""The queue in front of one Triton model: places, order, leaving, refusals."""

from __future__ import annotations

import asyncio

import pytest

from tritonvision.engine.model_queue import ModelQueue
from tritonvision.errors import Overloaded


class Model:
    """Answers when it is told to; counts what runs in it."""

    def __init__(self):
        self.running: list[asyncio.Future] = []
        self.begun = 0

    async def ask(self):
        self.begun += 1
        answer = asyncio.get_running_loop().create_future()
        self.running.append(answer)
        try:
            return await answer
        finally:
            self.running.remove(answer)

    def answer(self, count=1):
        for future in self.running[:count]:
            future.set_result("answer")


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def callers(queue: ModelQueue, model: Model, count: int, longest: float = 30.0) -> list[asyncio.Task]:
    return [asyncio.create_task(queue.run(model.ask, longest)) for _ in range(count)]


def measured(queue: ModelQueue, seconds: float, interval: float) -> ModelQueue:
    """The queue as it is after many answers that took ``seconds``, ``interval`` apart."""
    queue._seconds, queue._interval = seconds, interval
    return queue


def test_no_more_than_the_places_are_in_triton_and_the_others_follow_in_order():
    async def main():
        queue, model, order = ModelQueue(1, 3, 30.0), Model(), []
        tasks = callers(queue, model, 7)
        for i, task in enumerate(tasks):
            task.add_done_callback(lambda _, i=i: order.append(i))
        await settle()
        while not all(task.done() for task in tasks):
            assert len(model.running) <= 3
            model.answer()
            await settle()
        assert order == list(range(7)) and model.begun == 7

    asyncio.run(main())


def test_a_queue_is_as_wide_as_the_model_is_now_and_keeps_what_it_measured():
    async def main():
        queue, model = measured(ModelQueue(1, 2, 30.0), 0.2, 0.1), Model()
        queue.resize(2, 4)
        tasks = callers(queue, model, 5)
        await settle()
        assert model.begun == 4 and queue.expected_wait(1) == pytest.approx(0.2)
        queue.resize(1, 1)
        model.answer(3)
        await settle()
        assert model.begun == 4  # one is in Triton still, and there is room for one
        model.answer(1)
        await settle()
        assert model.begun == 5
        model.answer(1)
        assert await asyncio.gather(*tasks) == ["answer"] * 5

    asyncio.run(main())


def test_a_request_cancelled_in_the_queue_never_reaches_triton():
    async def main():
        queue, model = ModelQueue(1, 2, 30.0), Model()
        tasks = callers(queue, model, 60)
        await settle()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        model.answer(2)
        await settle()
        assert all(task.cancelled() for task in tasks) and model.begun == 2 and not model.running

    asyncio.run(main())


def test_abandoned_work_keeps_its_place_until_triton_has_done_it():
    async def main():
        queue, model = ModelQueue(1, 2, 30.0), Model()
        for task in (first := callers(queue, model, 2)):
            await settle()
            task.cancel()
        await asyncio.wait(first)
        (late,) = callers(queue, model, 1)
        await settle()
        assert model.begun == 2 and not late.done()
        model.answer(1)
        await settle()
        assert model.begun == 3
        model.answer(2)
        assert await late == "answer"

    asyncio.run(main())


def test_leaving_in_the_moment_of_the_turn_loses_no_place():
    async def main():
        queue, model = ModelQueue(1, 1, 30.0), Model()
        first, second, third = callers(queue, model, 3)
        await settle()
        model.answer()
        first.add_done_callback(lambda _: second.cancel())  # its turn has come, and it has not yet begun
        await settle()
        if model.running:
            model.answer()
        await settle()
        model.answer()
        assert await third == "answer"

    asyncio.run(main())


def test_a_wait_that_is_too_long_is_refused_with_retry_after():
    async def main():
        queue, model = measured(ModelQueue(1, 1, 30.0), 3.0, 3.0), Model()
        (first,) = callers(queue, model, 1)
        await settle()
        with pytest.raises(Overloaded) as refused:
            await queue.run(model.ask, 0.01)
        assert refused.value.retry_after == 3.0 and model.begun == 1
        model.answer()
        await first

    asyncio.run(main())


def test_a_wait_over_half_a_deadline_is_refused_at_once_with_the_measured_rate():
    async def main():
        queue, model = measured(ModelQueue(2, 6, 30.0), 6.0, 1.0), Model()
        tasks = callers(queue, model, 6 + 14)
        await settle()
        queue.check_room()  # the 15th in line waits 15 s
        tasks += callers(queue, model, 3)
        await settle()
        with pytest.raises(Overloaded) as refused:
            queue.check_room()
        assert refused.value.retry_after == pytest.approx(3.0)
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def test_an_idle_model_takes_a_request_however_slow_it_is():
    async def main():
        queue = measured(ModelQueue(1, 3, 30.0), 90.0, 90.0)
        queue.check_room()
        queue.check_room(8)

    asyncio.run(main())


def test_a_slow_model_gets_fewer_requests_so_that_the_last_of_them_is_in_time():
    async def main():
        queue, model = measured(ModelQueue(2, 6, 30.0), 10.0, 5.0), Model()
        tasks = callers(queue, model, 6)
        await settle()
        assert model.begun == 3  # three answers, 5 s apart, take half a deadline
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def test_the_rate_is_measured_from_answers_and_not_from_quick_refusals():
    async def main():
        queue = ModelQueue(1, 1, 30.0)
        assert queue.expected_wait(5) == 0.0
        await queue.run(lambda: asyncio.sleep(0.05), 1.0)
        model = Model()
        (busy,) = callers(queue, model, 1)
        await settle()
        one = queue.expected_wait()
        assert one > 0.04 and queue.expected_wait(4) == pytest.approx(4 * one)
        model.answer()
        await busy

        async def refuse():
            raise ValueError

        before = queue._interval
        with pytest.raises(ValueError):
            await queue.run(refuse, 1.0)
        assert queue._interval == before

    asyncio.run(main())


def test_a_place_lasts_as_long_as_its_block_and_comes_back_after_a_failure():
    async def main():
        queue, model = ModelQueue(1, 1, 30.0), Model()
        with pytest.raises(ValueError):
            async with queue.place(1.0):
                with pytest.raises(Overloaded):
                    await queue.run(model.ask, 0.01)
                raise ValueError
        task = asyncio.create_task(queue.run(model.ask, 1.0))
        await settle()
        model.answer()
        assert await task == "answer"

    asyncio.run(main())
