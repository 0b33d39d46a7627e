"""The queue in front of one Triton model: places, order, leaving, refusals."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from tritonvision.engine.model_queue import CALLER, ModelQueue
from tritonvision.errors import DeadlineExceeded, Overloaded


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


def asking(queue: ModelQueue, model: Model, order: list[str], caller: str, count: int) -> list[asyncio.Task]:
    """Requests of ``caller``, whose name is noted when each begins in Triton."""

    async def work():
        order.append(caller)
        return await model.ask()

    context = contextvars.copy_context()
    context.run(CALLER.set, caller)
    loop = asyncio.get_running_loop()
    return [loop.create_task(queue.run(work, 30.0), context=context) for _ in range(count)]


def test_callers_take_turns_however_many_requests_one_of_them_has_waiting():
    async def main():
        queue, model, order = ModelQueue(1, 1, 30.0), Model(), []
        tasks = asking(queue, model, order, "greedy", 20)
        await settle()
        tasks += asking(queue, model, order, "modest", 2) + asking(queue, model, order, "third", 1)
        await settle()
        while not all(task.done() for task in tasks):
            model.answer()
            await settle()
        assert order[:6] == ["greedy", "greedy", "modest", "third", "greedy", "modest"]
        assert order[6:] == ["greedy"] * 17

    asyncio.run(main())


def test_who_waits_for_itself_is_refused_and_the_others_are_not():
    """15 s of a deadline of 30 may be waited; the greedy one has 15 requests waiting, a second apart."""

    async def main():
        queue, model = measured(ModelQueue(1, 1, 30.0), 1.0, 1.0), Model()
        tasks = asking(queue, model, [], "greedy", 16)
        await settle()

        def wait_of(caller: str, requests: int = 1) -> float:
            context = contextvars.copy_context()
            context.run(CALLER.set, caller)
            return context.run(queue.expected_wait, requests)

        assert [wait_of("greedy"), wait_of("modest"), wait_of("modest", 3)] == [16.0, 2.0, 6.0]
        token = CALLER.set("greedy")
        with pytest.raises(Overloaded):
            queue.check_room()
        CALLER.set("modest")
        queue.check_room(7)
        CALLER.reset(token)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert not queue._waiting and wait_of("greedy") == 1.0, "one is in Triton still"

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


def test_whose_time_passes_in_the_queue_is_late_and_told_when_to_come_back():
    async def main():
        queue, model = measured(ModelQueue(1, 1, 30.0), 3.0, 3.0), Model()
        (first,) = callers(queue, model, 1)
        await settle()
        with pytest.raises(DeadlineExceeded) as refused:
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


def test_those_that_are_refused_in_one_moment_are_told_to_come_again_one_after_the_other():
    async def main():
        queue, model = measured(ModelQueue(2, 6, 30.0), 6.0, 1.0), Model()
        tasks = callers(queue, model, 6 + 17)
        await settle()
        told = []
        for _ in range(40):
            with pytest.raises(Overloaded) as refused:
                queue.check_room()
            told.append(refused.value.retry_after)
        assert told[:27] == [pytest.approx(3.0 + n, abs=0.9) for n in range(27)], "a second is an answer"
        assert told[28:] == pytest.approx([30.0] * 12, abs=0.9), "nobody is sent away for longer than a deadline"
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
                with pytest.raises(DeadlineExceeded):
                    await queue.run(model.ask, 0.01)
                raise ValueError
        task = asyncio.create_task(queue.run(model.ask, 1.0))
        await settle()
        model.answer()
        assert await task == "answer"

    asyncio.run(main())


def test_an_answer_is_overdue_after_a_third_of_its_deadline_and_later_for_a_slow_model():
    async def main():
        queue = ModelQueue(1, 1, 30.0)
        assert queue.patience(30.0) == 10.0
        await queue.run(lambda: asyncio.sleep(0.05), 1.0)
        assert queue.patience(30.0) == 10.0
        assert queue.patience(0.3) >= 10 * 0.05

    asyncio.run(main())
