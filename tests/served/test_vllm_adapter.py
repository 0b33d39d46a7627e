"""The adapter before a vLLM engine, on the real tritonserver: in the engine's place stands a model with its tensors.

It answers with what it was asked, so every mapping shows: the prompt, the pictures, the settings.
"""

from __future__ import annotations

import io
import json
import shutil
from functools import partial

import numpy as np
import pytest
from own_engine import with_engine
from PIL import Image

from tritonvision.errors import BrokenModel, InvalidParameter, InvalidPicture, NotSupported, ServerUnavailable
from tritonvision.exporters import vllm
from tritonvision.publication import Repository
from tritonvision.server import Embedded
from tritonvision.settings import Settings

MODEL, ENGINE = "mine/7", "engine--mine__7"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}<end>\n{% endfor %}"
    "{% if messages[-1].role == 'assistant' %}{{ raise_exception('nobody asks') }}{% endif %}assistant: "
)
# The tensors of Triton's vLLM backend. "fail" and "slow" in a prompt say how it behaves.
FAKE = '''
import base64, io, json, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.answer, args=(request, request.get_response_sender())).start()

    def answer(self, request, sender):
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        flags = [name for name in given if given[name].dtype == bool and given[name][0]]
        prompt = given["text_input"][0].decode()
        if "fail" in prompt:
            response = pb_utils.InferenceResponse(error=pb_utils.TritonError("engine /secret/path died"))
            sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            return
        pictures = [Image.open(io.BytesIO(base64.b64decode(one))) for one in given.get("image", [])]
        seen = [[picture.format, *picture.size, *picture.convert("RGB").getpixel((0, 0))] for picture in pictures]
        told = {"prompt": prompt, "pictures": seen, "flags": sorted(flags),
                "sampling": json.loads(given["sampling_parameters"][0])}
        pieces = [prompt[:1]] * 400 if "slow" in prompt else [json.dumps(told), "!"]
        for n, text in enumerate(pieces, 1):
            last = n == len(pieces)
            sender.send(pb_utils.InferenceResponse([
                pb_utils.Tensor("text_output", np.array([text.encode()], dtype=object)),
                pb_utils.Tensor("finish_reason", np.array([b"stop" if last else b"None"], dtype=object)),
                pb_utils.Tensor("num_input_tokens", np.asarray([11], dtype=np.uint32)),
                pb_utils.Tensor("num_output_tokens", np.asarray([2], dtype=np.uint32)),
            ]))
            if "slow" in prompt:
                time.sleep(0.05)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
'''
TENSORS = """
max_batch_size: 0
backend: "python"
model_transaction_policy { decoupled: true }
input [
  { name: "text_input", data_type: TYPE_STRING, dims: [1] }, { name: "image", data_type: TYPE_STRING, dims: [-1], optional: true },
  { name: "stream", data_type: TYPE_BOOL, dims: [1], optional: true },
  { name: "sampling_parameters", data_type: TYPE_STRING, dims: [1], optional: true },
  { name: "exclude_input_in_output", data_type: TYPE_BOOL, dims: [1], optional: true },
  { name: "return_finish_reason", data_type: TYPE_BOOL, dims: [1], optional: true },
  { name: "return_num_input_tokens", data_type: TYPE_BOOL, dims: [1], optional: true },
  { name: "return_num_output_tokens", data_type: TYPE_BOOL, dims: [1], optional: true }
]
output [
  { name: "text_output", data_type: TYPE_STRING, dims: [-1] }, { name: "finish_reason", data_type: TYPE_STRING, dims: [-1] },
  { name: "num_input_tokens", data_type: TYPE_UINT32, dims: [1] }, { name: "num_output_tokens", data_type: TYPE_UINT32, dims: [-1] }
]
instance_group [ { kind: KIND_CPU } ]
"""  # noqa: E501


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "<end>"}))
    added = [{"content": token, "special": True} for token in ("<s>", "<end>", "<image>")]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [*added, {"content": "a", "special": False}]}))
    return folder


@pytest.fixture(scope="module")
def root(weights, tmp_path_factory):
    """A repository with the model; in the engine's folder stands the fake one."""
    root = tmp_path_factory.mktemp("repository")
    vllm.publish_engine(root, "smolvlm-256m", weights, MODEL, {"enforce_eager": True})
    published = root / ENGINE
    config, arguments = (published / "config.pbtxt").read_text(), json.loads((published / "1/model.json").read_text())
    assert 'backend: "vllm"' in config and "KIND_MODEL" in config
    assert arguments == {
        "model": str(weights.resolve()), "limit_mm_per_prompt": {"image": 32}, "enforce_eager": True,
    }  # fmt: skip
    (published / "config.pbtxt").write_text(f'name: "{ENGINE}"\n{TENSORS}')
    (published / "1" / "model.py").write_text(FAKE)
    return root


@pytest.mark.parametrize(("model", "arguments", "grounding"), [
    ("smolvlm-256m", {}, ("", None)), ("qwen3-vl-2b", {}, ("qwen3", None)),
    ("qwen2.5-vl-7b", {}, ("qwen2_5", (28, 3136, 12845056))),
    ("cosmos-reason1", {"mm_processor_kwargs": {"max_pixels": 501760}}, ("qwen2_5", (28, 3136, 501760))),
])  # fmt: skip
def test_places_are_read_as_the_family_writes_them(weights, tmp_path, model, arguments, grounding):
    folder = tmp_path / "weights"
    shutil.copytree(weights, folder)
    own = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "merge_size": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    manifest = vllm.publish_engine(tmp_path / "repository", model, folder, engine=arguments)
    assert (manifest.grounding, manifest.grounding_pixels) == grounding
    assert Repository(tmp_path / "repository").get(manifest.id).grounding_pixels == grounding[1]


def test_what_is_published_and_cannot_be_read_is_replaced_only_with_force(weights, tmp_path):
    (tmp_path / "smolvlm-256m").mkdir()
    (tmp_path / "smolvlm-256m" / "manifest.json").write_text("{}")
    with pytest.raises(BrokenModel):
        vllm.publish_engine(tmp_path, "smolvlm-256m", weights)
    assert vllm.publish_engine(tmp_path, "smolvlm-256m", weights, force=True).id == "smolvlm-256m"


def test_the_conventions_are_those_of_our_own_graphs(served_repository):
    published = {manifest.family: manifest.grounding for manifest in Repository(served_repository)}
    shared = published.keys() & vllm.CONVENTIONS.keys()
    assert len(shared) >= 4 and all(published[family] == vllm.CONVENTIONS[family] for family in shared)


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    settings = Settings(repository=root, log_dir=tmp_path_factory.mktemp("log"), export_missing=False)
    with_server = Embedded(settings)
    with_server.start()
    yield settings, with_server
    with_server.stop()


@pytest.fixture
def run(server):
    """Runs ``work(engine)`` in an event loop of its own."""
    return partial(with_engine, *server)


def asks(text, pictures=0):
    return [{"role": "user", "content": [*[{"type": "image"}] * pictures, {"type": "text", "text": text}]}]


async def whole(engine, messages, pictures=(), **settings):
    return [delta async for delta in engine.chat(MODEL, messages, pictures, settings)]


def turned(colour=(200, 10, 20)):
    """A JPEG of 30 by 20 whose header says that it lies on its side."""
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20), colour).save(stream, "JPEG", exif=exif, quality=95)
    return stream.getvalue()


def test_the_engine_is_asked_in_its_own_tensors_and_its_answer_comes_in_ours(run):
    schema = {"type": "object"}
    deltas = run(lambda engine: whole(
        engine, asks("Größe?", 2), [turned(), turned((1, 2, 250))], max_new_tokens=9, temperature=0.5, top_k=4, seed=3,
        stop=["x"], schema=schema,
    ))  # fmt: skip
    text = "".join(delta.text for delta in deltas)
    told = json.loads(text.removesuffix("!"))
    assert told["prompt"] == "<s>user: <image><image>Größe?<end>\nassistant: "
    assert [picture[:3] for picture in told["pictures"]] == [["PNG", 20, 30]] * 2, "upright"
    np.testing.assert_allclose([picture[3:] for picture in told["pictures"]], [[200, 10, 20], [1, 2, 250]], atol=4)
    assert json.loads(told["sampling"].pop("guided_decoding")) == {"json": schema}
    assert told["sampling"] == {
        "max_tokens": 9, "temperature": 0.5, "top_p": 1.0, "top_k": 4, "repetition_penalty": 1.0, "seed": 3,
        "stop": ["x"],
    }  # fmt: skip
    assert {"stream", "exclude_input_in_output", "return_finish_reason"} <= set(told["flags"])
    assert [delta.finish_reason for delta in deltas] == ["", "stop"] and deltas[-1].usage == (11, 4)


def test_greedy_without_a_picture(run):
    told = json.loads(run(lambda engine: whole(engine, asks("Hello")))[0].text)
    assert told["pictures"] == [] and told["sampling"]["temperature"] == 0 and "top_k" not in told["sampling"]


SAID = [{"role": "assistant", "content": [{"type": "text", "text": "x"}]}]


@pytest.mark.parametrize(("messages", "pictures", "settings", "error", "words"), [
    (asks("say <image> please"), [], {}, InvalidParameter, "<image>"),
    (asks("x", 1), [b"no picture"], {}, InvalidPicture, ""),
    (SAID, [], {}, InvalidParameter, "user's"),
    ([*asks("x"), *SAID], [], {}, InvalidParameter, "no place"),
    (asks("x"), [], {"top_logprobs": 1}, NotSupported, "likelihoods"),
    (asks("please fail"), [], {}, ServerUnavailable, "does not answer"),
])  # fmt: skip
def test_what_cannot_be_asked_is_refused_in_a_sentence(run, messages, pictures, settings, error, words):
    with pytest.raises(error) as refused:
        run(lambda engine: whole(engine, messages, pictures, **settings))
    assert words in refused.value.message and "secret" not in refused.value.message


def test_answers_are_written_side_by_side_and_a_caller_may_leave(run):
    async def work(engine):
        slow = engine.chat(MODEL, asks("slow"), [], {})
        first = await anext(slow)
        beside = await whole(engine, asks("Hello"))
        await slow.aclose()
        return first.text, beside[-1].finish_reason

    assert run(work) == ("<", "stop")


def test_a_png_travels_as_its_pixels(run):
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (9, 8, 7)).save(stream, "PNG")
    told = json.loads(run(lambda engine: whole(engine, asks("x", 1), [stream.getvalue()]))[0].text)
    assert told["pictures"] == [["PNG", 3, 2, 9, 8, 7]]
