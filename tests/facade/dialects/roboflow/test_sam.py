"""``/sam/*``: a picture is sent once, prompts many times, and callers do not see each other's pictures."""

import base64
import io

import numpy as np
import orjson
import pytest
from PIL import Image
from pycocotools import mask as coco
from starlette.testclient import TestClient

from tritonvision import tasks
from tritonvision.errors import InvalidPicture
from tritonvision.facade.app import create_app
from tritonvision.facade.dialects.roboflow.kept_pictures import EncodingCache
from tritonvision.publication import MANIFEST, Manifest
from tritonvision.results import InstancesRLEMasks, SAMImageEmbeddings, SAMPrediction
from tritonvision.settings import Settings

WIDTH, HEIGHT = 40, 30
SEGMENT, EMBED = "/sam/segment_image", "/sam/embed_image"
OUTLINE = [[5, 5], [5, 9], [20, 9], [20, 5]]


def manifest_of(model):
    return Manifest(
        id=model, family="SAM", task=tasks.PROMPTABLE.name, head="promptable-masks", weights="random", source="seed 0",
        sha256="0", license="Apache-2.0", precision="fp32", labels=(), input_size=(1024, 1024), steps=(),
    )  # fmt: skip


def jpeg(size=(WIDTH, HEIGHT)):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def b64(data):
    return base64.b64encode(data).decode()


def embeddings():
    return np.linspace(-1, 1, 256 * 64 * 64, dtype=np.float32).reshape(256, 64, 64)


def dense():
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:10, 5:21] = 1
    return mask


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture
def sam_engine(memory_engine):
    """The class of an engine that always selects one rectangle and records the requests."""

    class SamEngine(memory_engine):
        async def ask(self, model, samples, parameters, *, role="", outputs=(), wait=True):
            manifest = await self.load(model.id, wait=wait)
            (sample,) = samples
            settings = tasks.resolve(tasks.PROMPTABLE.parameters, parameters)
            self.samples.append((manifest.id, sample, settings))
            if "embeddings" in outputs:
                return manifest, [SAMImageEmbeddings(embeddings(), (HEIGHT, WIDTH))]
            logits = np.full((1, 256, 256), -3.0, np.float32)
            logits[0, 100:121, 50:81] = len(self.samples)
            result = SAMPrediction(np.float32([0.9]), None, None, logits, {"height": HEIGHT, "width": WIDTH})
            if settings["mask_format"] == "polygon":
                result.polygons = [np.array(OUTLINE, np.int32)]
            else:
                result.masks = InstancesRLEMasks((HEIGHT, WIDTH), [coco.encode(np.asfortranarray(dense()))["counts"]])
            return manifest, [result]

        @property
        def last_sample(self):
            return self.samples[-1]

    return SamEngine


def test_the_engine_of_these_tests_keeps_the_contract(sam_engine, keeps_the_contract):
    keeps_the_contract(sam_engine)


@pytest.fixture
def open_house(tmp_path, sam_engine):
    clients = []

    def make(**options):
        for name in ("sam-vit_b", "sam-vit_h"):
            manifest = manifest_of(name)
            (tmp_path / manifest.triton_name).mkdir()
            (tmp_path / manifest.triton_name / MANIFEST).write_text(manifest.to_json())
        engine = sam_engine(tmp_path)
        client = TestClient(create_app(engine, Settings(repository=tmp_path, **options)), raise_server_exceptions=False)
        clients.append(client.__enter__())
        return engine, client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def house(open_house):
    return open_house()


def image(data=None):
    return {"type": "base64", "value": b64(data or jpeg())}


def segment(client, status=200, **body):
    response = client.post(SEGMENT, json={"sam_version_id": "vit_b", **body})
    assert response.status_code == status, response.text
    return response.json() if response.headers["content-type"] == "application/json" else response


def test_an_outline_a_mask_in_picture_pixels_and_one_on_the_small_grid(house):
    engine, client = house
    answer = segment(client, image=image(), point_coords=[[10, 7]], point_labels=[1])
    assert answer["masks"] == [OUTLINE]
    assert answer["low_res_masks"] == [[[50, 100], [50, 120], [80, 120], [80, 100]]]
    assert set(answer) == {"masks", "low_res_masks", "scores", "time"} and answer["time"] > 0
    model, sample, settings = engine.last_sample
    assert model == "sam-vit_b" and sample["image"] == jpeg() and "mask_input" not in sample
    assert (settings["points"], settings["point_labels"]) == ([[10, 7]], [1])
    assert settings["multimask"] is False


def test_without_a_version_the_largest_model_is_asked(house):
    engine, client = house
    assert client.post(SEGMENT, json={"image": image()}).status_code == 200
    assert engine.last_sample[0] == "sam-vit_h"
    assert (engine.last_sample[2]["points"], engine.last_sample[2]["point_labels"]) == (None, None)


def test_binary_answers_hold_masks_and_logits(house):
    _, client = house
    response = segment(client, image=image(), format="binary")
    assert response.headers["content-type"] == "application/octet-stream"
    with np.load(io.BytesIO(response.content), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["masks"], dense()[None])
        assert arrays["low_res_masks"].shape == (1, 256, 256) and arrays["low_res_masks"].dtype == np.float32


def test_embeddings_come_as_numbers_or_as_an_array(house):
    _, client = house
    body = {"image": image(), "sam_version_id": "vit_b"}
    numbers = client.post(EMBED, json=body)
    assert np.array_equal(np.array(orjson.loads(numbers.content)["embeddings"], np.float32), embeddings()[None])
    array = client.post(EMBED, json={**body, "format": "binary"})
    assert array.headers["content-type"] == "application/octet-stream"
    assert np.array_equal(np.load(io.BytesIO(array.content), allow_pickle=False), embeddings()[None])


@pytest.mark.parametrize("form", ["json", "binary"])
def test_embeddings_stand_for_the_picture(house, form):
    engine, client = house
    value = embeddings()[None].tolist() if form == "json" else npy(embeddings())
    segment(client, embeddings=value, embeddings_format=form, orig_im_size=[HEIGHT, WIDTH])
    _, sample, settings = engine.last_sample
    assert set(sample) == {"embeddings"} and np.array_equal(sample["embeddings"], embeddings())
    assert settings["image_size"] == [HEIGHT, WIDTH]


def test_embeddings_without_the_size_of_their_picture_are_refused(house):
    _, client = house
    answer = segment(client, 400, embeddings=npy(embeddings()), embeddings_format="binary")
    assert "orig_im_size" in answer["message"]


@pytest.mark.parametrize("form", ["json", "binary"])
def test_an_earlier_mask_reaches_the_model(house, form):
    engine, client = house
    mask = np.arange(65536, dtype=np.float32).reshape(1, 256, 256)
    value = mask[0].tolist() if form == "json" else npy(mask.astype(np.float64))
    segment(client, image=image(), has_mask_input=True, mask_input=value, mask_input_format=form)
    assert np.array_equal(engine.last_sample[1]["mask_input"], mask[0])
    segment(client, image=image(), mask_input=value, mask_input_format=form)
    assert "mask_input" not in engine.last_sample[1], "it counts only when it is said to"


def pickled():
    stream = io.BytesIO()
    np.save(stream, np.array([print], dtype=object), allow_pickle=True)
    return base64.b64encode(stream.getvalue()).decode()


def forged(shape):
    """An array whose header states more data than there is."""
    data = base64.b64decode(npy(np.zeros((256, 256), np.float32)))
    return base64.b64encode(data.replace(b"(256, 256), }", f"{shape}, }}".encode().ljust(13))).decode()


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (npy(np.zeros((3, 3), np.float32)), "binary"), (npy(np.zeros((256, 256), np.int32)), "binary"),
        (npy(np.full((256, 256), np.nan)), "binary"), (pickled(), "binary"), (forged("(9**9, 9)"), "binary"),
        (forged("(99999999, )"), "binary"), ("!", "binary"), (b64(b"\x93NUMPY\x03\x00"), "binary"), (17, "binary"),
        ([[1, 2], [3]], "json"), ([["x"]], "json"), ("text", "json"), ([[1, 2]], "json"), ({"a": 1}, "json"),
        (np.zeros((2, 256, 256)).tolist(), "json"),
    ],
)  # fmt: skip
def test_an_invalid_mask_is_refused(house, value, form):
    engine, client = house
    answer = segment(client, 400, image=image(), has_mask_input=True, mask_input=value, mask_input_format=form)
    assert answer["message"] == "'mask_input' must be 256 x 256 finite numbers."
    assert engine.samples == []


def test_a_picture_is_sent_once_and_then_named_by_its_id(house):
    engine, client = house
    other = jpeg((50, 20))
    assert client.post(EMBED, json={"image": image(), "image_id": "a", "sam_version_id": "vit_b"}).status_code == 200
    segment(client, image=image(other), image_id="b")
    segment(client, image_id="a")
    assert engine.last_sample[1]["image"] == jpeg()
    segment(client, image_id="b")
    assert engine.last_sample[1]["image"] == other
    segment(client, image=image(other), image_id="a")
    segment(client, image_id="a")
    assert engine.last_sample[1]["image"] == other


def test_the_last_mask_of_a_kept_picture_can_be_refined(house):
    engine, client = house
    answer = segment(client, 400, image=image(), has_mask_input=True)
    assert "no earlier mask" in answer["message"]
    segment(client, image=image(), image_id="a")
    segment(client, image_id="a", has_mask_input=True)
    assert engine.last_sample[1]["mask_input"].max() == 1
    segment(client, image_id="a", has_mask_input=True)
    assert engine.last_sample[1]["mask_input"].max() == 2
    segment(client, 400, image_id="a", has_mask_input=True, use_mask_input_cache=False)
    segment(client, 400, image_id="a", has_mask_input=True, sam_version_id="vit_h")
    segment(client, image=image(jpeg((50, 20))), image_id="a")
    segment(client, image_id="a", has_mask_input=True)
    assert engine.last_sample[1]["mask_input"].max() == 4, "of the new picture, not of the old one"


def test_pictures_kept_under_one_key_are_invisible_to_others(house):
    _, client = house
    segment(client, image=image(), image_id="a", api_key="one")
    segment(client, image_id="a", api_key="one")
    for key in ("two", None):
        answer = segment(client, 400, image_id="a", api_key=key)
        assert "No picture is kept" in answer["message"]


def test_an_unknown_image_id_and_a_missing_picture_are_refused(house):
    _, client = house
    assert "image_id" in segment(client, 400, image_id="x")["message"]
    assert "no picture" in segment(client, 400)["message"]
    assert client.post(EMBED, json={"sam_version_id": "vit_b"}).status_code == 400


def test_prompts_of_another_shape_are_refused(house):
    _, client = house
    segment(client, 422, image=image(), point_coords="here")
    segment(client, 400, image=image(), point_coords=[[1, 2, 3]])
    segment(client, 422, image=image(), format="yaml")
    segment(client, 404, image=image(), sam_version_id="vit_z")


def test_a_missing_key_is_refused(open_house):
    _, client = open_house(api_key="k")
    segment(client, 401, image=image())
    segment(client, image=image(), api_key="k")


def test_kept_pictures_are_bounded_in_number_and_bytes():
    shelf = EncodingCache(most=2, most_bytes=100)
    for name in "abc":
        shelf.put(None, name, b"x" * 10)
    shelf.get(None, "b")
    shelf.put(None, "d", b"x" * 10)
    for gone in "ac":
        with pytest.raises(InvalidPicture):
            shelf.get(None, gone)
    shelf.put(None, "e", b"x" * 95)
    with pytest.raises(InvalidPicture):
        shelf.get(None, "b")
    shelf.put(None, "f", b"x" * 101)
    with pytest.raises(InvalidPicture):
        shelf.get(None, "f")
