"""Admission of a request: by its model's queue, and by the facade until all of its work has ended."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections import Counter

from tritonvision.errors import Overloaded
from tritonvision.facade import workers


def test_a_full_model_queue_refuses_before_a_picture_is_read_with_retry_after(house):
    house.engine.no_room = Overloaded("The model has more requests than it can answer in time.", retry_after=4.2)
    picture = {"type": "url", "value": "http://localhost:1/not-fetched.png"}
    refused = house.client.post("/infer/object_detection", json={"model_id": "yolov8n-640", "image": picture})
    assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
    assert house.engine.asked == []


def test_drawing_counts_in_the_requests_budget_and_is_cancelled_with_it(house, picture, served, until):
    image = {"type": "base64", "value": base64.b64encode(picture).decode()}
    body = {"model_id": "yolov8n-640", "image": image, "visualize_predictions": True}
    free, busy = threading.Event(), threading.Semaphore(0)

    def occupy():
        busy.release()
        free.wait()

    async def main():
        async with served(house, max_in_flight=1) as client:
            threads = workers._POOL._max_workers
            others = [asyncio.create_task(workers.in_thread(occupy)) for _ in range(threads)]
            await until(lambda: busy._value == threads)  # else one of them waits in the queue for a moment
            drawing = asyncio.create_task(client.post("/infer/object_detection", json=body))
            await until(lambda: workers._POOL._work_queue.qsize() == 1)  # the model has answered
            assert client.service.admission.pictures == 1
            assert (await client.post("/infer/object_detection", json=body)).status_code == 503
            drawing.cancel()
            await until(lambda: client.service.admission.pictures == 0)
            free.set()
            await asyncio.gather(*others)
            answer = await client.post("/infer/object_detection", json=body)
            assert answer.status_code == 200 and answer.json()["visualization"]

    try:
        asyncio.run(main())
    finally:
        free.set()


def test_a_model_that_does_not_answer_leaves_room_for_the_others(house, picture, served, until):
    image = {"type": "base64", "value": base64.b64encode(picture).decode()}
    answer = house.engine.infer

    async def main():
        free = asyncio.Event()

        async def infer(model, *given, **more):
            if model.id == "yolov8n-640":
                await free.wait()
            return await answer(model, *given, **more)

        house.engine.infer = infer
        async with served(house, max_in_flight=8) as client:

            def detect():
                return client.post("/infer/object_detection", json={"model_id": "yolov8n-640", "image": image})

            waiting = [asyncio.create_task(detect()) for _ in range(20)]
            await until(lambda: sum(task.done() for task in waiting) == 14)
            other = await client.post("/infer/classification", json={"model_id": "resnet18", "image": image})
            assert other.status_code == 200
            free.set()
            assert Counter([(await task).status_code for task in waiting]) == {200: 6, 503: 14}

    asyncio.run(main())
