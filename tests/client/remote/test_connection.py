"""What is asked over HTTP is all that was meant, or it is refused; refusals of every dialect are errors of ours."""

from __future__ import annotations

import asyncio
import base64
import io

import httpx
import numpy as np
import pytest
from callers import CLASSIFIER, DETECTOR, key
from facade_thread import facade as facade_thread
from manifests import MANIFESTS, publish

from tritonvision import errors, tasks
from tritonvision.client.remote import connection as remote_models
from tritonvision.client.remote import facade, parsers
from tritonvision.client.remote.connection import FacadeConnection
from tritonvision.engine.facts import Facts
from tritonvision.facade.inputs import arrays
from tritonvision.pictures import decode
from tritonvision.tasks import Parameter

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
# A value that is not the default, by the kind of a parameter.
OTHER = {"float": 0.0625, "int": 2, "ids": [0], "texts": ["x"], "floats": [1.0], "bool": None, "choice": None,
         "object": {"type": "object"}}  # fmt: skip
UNSAID = {
    "region", "function", "image_size", "text_threshold", "example_boxes", "example_pictures", "example_classes",
    "example_negatives", "each_point", "mask_threshold", "min_score", "min_stability", "stability_offset",
}  # fmt: skip


def other(parameter: Parameter):
    if parameter.kind == "bool":
        return not parameter.default
    return parameter.choices[0] if parameter.kind == "choice" else OTHER[parameter.kind]


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=lambda task: task.name)
def test_every_setting_of_every_task_is_sent_or_refused(task):
    """The server is not there: what is refused is refused before, and what would be sent meets nobody."""
    facts = Facts("m", task.name, labels=("cat",))

    async def ask(settings) -> None:
        connection = await FacadeConnection("http://127.0.0.1:9", None, lambda _: None).open()
        try:
            if task is tasks.VLM:
                [piece async for piece in connection.chat(facts, [], [], settings)]
            elif task is tasks.TRACKING:
                await connection.step(facts, PICTURE, settings, None)
            else:
                await connection.infer(facts, [PICTURE], settings)
        finally:
            await connection.close()

    refused = set()
    for parameter in task.parameters:
        try:
            asyncio.run(ask(tasks.resolve(task.parameters, {}) | {parameter.name: other(parameter)}))
        except errors.NotSupported as error:
            assert f"'{parameter.name}'" in error.message
            refused.add(parameter.name)
        except errors.ServerUnavailable:
            pass
    assert refused - {"auto_orient"} <= UNSAID
    assert ("auto_orient" in refused) == (task in (tasks.DEPTH_ESTIMATION, tasks.VLM))


def test_an_array_arrives_as_the_array_it_was():
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    np.save(stream, rgb)
    image = parsers.as_image(stream.getvalue(), True)
    assert image["type"] == "numpy"
    assert arrays.to_npy(arrays.read_array(base64.b64decode(image["value"]))) == stream.getvalue()
    assert parsers.as_image(b"file", False) == {"type": "base64", "value": base64.b64encode(b"file").decode()}


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (400, {"message": "Could not load input image. Cause: The JPEG is cut short."}, errors.InvalidPicture,
         "The JPEG is cut short."),
        (400, {"message": "'confidence' must lie between 0 and 1."}, errors.InvalidParameter, "'confidence'"),
        (400, {"error": "The picture cannot be decoded."}, errors.InvalidPicture, "The picture"),
        (400, {"error": {"message": "The prompt is long.", "code": "too_large"}}, errors.PictureTooLarge, "The prompt"),
        (401, {"status": 401, "message": "Unauthorized api_key"}, errors.Unauthorized, "Unauthorized"),
        (404, {"message": "No model is called 'x'."}, errors.UnknownModel, "'x'"),
        (422, {"detail": [{"msg": "Field required"}]}, errors.InvalidParameter, "refused"),
        (507, {"message": "No room."}, errors.NoRoom, "No room"),
        (500, [1], errors.TritonVisionError, "refused"),
    ],
)  # fmt: skip
def test_a_refusal_is_an_error_of_ours(status, body, kind, told):
    with pytest.raises(kind) as caught:
        facade._checked(httpx.Response(status, json=body))
    assert type(caught.value) is kind and told in caught.value.message


def test_a_large_array_goes_as_a_picture_file_and_stays_the_same_pixels(monkeypatch):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    np.save(stream, rgb)
    settings = tasks.resolve(tasks.EMBEDDING.parameters, {})
    assert remote_models._body(Facts("m", "embedding"), stream.getvalue(), settings)["image"]["type"] == "numpy"
    monkeypatch.setattr(remote_models, "_LARGE", 100)
    image = remote_models._body(Facts("m", "embedding"), stream.getvalue(), settings)["image"]
    assert image["type"] == "base64"
    np.testing.assert_array_equal(decode(base64.b64decode(image["value"])), rgb)


def test_what_is_no_server_of_ours_is_told():
    with pytest.raises(errors.ServerUnavailable) as caught:
        facade._checked(httpx.Response(200, text="<html>"))
    assert "not a tritonvision server" in caught.value.message


def test_a_key_that_may_only_ask_asks_what_is_not_loaded_and_one_for_other_models_is_told(tmp_path):
    publish(tmp_path, MANIFESTS)
    with facade_thread(tmp_path, "the-one", keys=(key("asker", models=(DETECTOR,)),)) as (engine, url, _):

        async def found():
            connection = await FacadeConnection(url, "asker", lambda _: None).open()
            try:
                facts = await connection.facts(DETECTOR)
                assert engine.loaded() == []
                with pytest.raises(errors.Forbidden, match=CLASSIFIER):
                    await connection.facts(CLASSIFIER)
                return await connection.infer(facts, [PICTURE], tasks.resolve(tasks.OBJECT_DETECTION.parameters, {}))
            finally:
                await connection.close()

        assert len(asyncio.run(found())) == 1
        assert [model.id for model in engine.loaded()] == [DETECTOR]
