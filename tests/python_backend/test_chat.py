"""The step of a model that writes: what becomes of a request, and that each gets exactly one last response."""

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from tritonvision.errors import InvalidParameter, InvalidPicture, PictureTooLarge
from tritonvision.python_backend import chat
from tritonvision.python_backend.generation.scheduler import Cancelled
from tritonvision.results import Delta


class Engine:
    """Does with each answer what the test says."""

    def __init__(self):
        self.asked, self.behave = [], lambda answer: None

    def start(self, messages, pictures, settings, emit, failed, cancelled):
        self.asked.append((messages, pictures, settings))
        self.behave(emit, failed, cancelled)

    def close(self):
        self.closed = True


@pytest.fixture
def model(triton):
    made = chat.TritonPythonModel()
    made.name, made.vlm_engine, made.detailed = "m", Engine(), True
    made.vlm_engine.behave = lambda emit, failed, cancelled: emit(Delta("hi", np.array([7, 8]), "stop", (5, 2)))
    return made


def column(*values):
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def asked(triton, model, images=(), parameters=None, **sent):
    """The responses to one request."""
    inputs = {name: column(value if isinstance(value, bytes) else value.encode()) for name, value in sent.items()}
    if images:
        inputs["image"] = column(*images)
    if parameters is not None:
        inputs["parameters"] = column(parameters if isinstance(parameters, bytes) else json.dumps(parameters).encode())
    request = triton.Request(inputs, [])
    assert model.execute([request]) is None, "a decoupled model returns nothing"
    return request.sender.wait()


def refusal(responses):
    (response,) = responses
    return response.error().message()


def png(width=6, height=4, **more):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (10, 20, 30)).save(stream, "PNG", **more)
    return stream.getvalue()


def test_a_prompt_is_a_question_about_all_the_pictures_and_its_answer_is_sent(triton, model):
    (response,) = asked(triton, model, [png(), png()], {"max_new_tokens": 9}, prompt="What?")
    ((messages, pictures, settings),) = model.vlm_engine.asked
    image = {"type": "image"}
    assert messages == [{"role": "user", "content": [image, image, {"type": "text", "text": "What?"}]}]
    assert [picture.size() for picture in pictures] == [(4, 6), (4, 6)] and settings["max_new_tokens"] == 9
    assert pictures[0].decode().shape == (4, 6, 3) and pictures[0].decode()[0, 0].tolist() == [10, 20, 30]
    assert response.tensors["text"].tolist() == [b"hi"] and response.tensors["token_ids"].tolist() == [7, 8]
    assert response.tensors["finish_reason"].tolist() == [b"stop"] and response.tensors["usage"].tolist() == [5, 2]


def test_what_is_told_besides_travels_as_json_where_the_published_model_declares_it(triton, model):
    told = {"token": "hi", "bytes": [104, 105], "logprob": -0.5, "top_logprobs": []}
    piece = Delta("hi", np.array([7]), "stop", (5, 1), cached_tokens=4, logprobs=(told,))
    model.vlm_engine.behave = lambda emit, failed, cancelled: emit(piece)
    (response,) = asked(triton, model, parameters={"top_logprobs": 0}, prompt="x")
    assert json.loads(response.tensors["details"][0]) == {"cached_tokens": 4, "logprobs": [told]}
    model.detailed = False
    (response,) = asked(triton, model, prompt="x")
    assert "details" not in response.tensors
    assert "publish it again" in refusal(asked(triton, model, parameters={"top_logprobs": 0}, prompt="x"))


def test_the_bytes_of_a_picture_and_its_turning_are_what_it_is_known_by():
    first, other, turned = (chat.picture(*given) for given in ((b"a", True), (b"b", True), (b"a", False)))
    assert first.digest() == chat.picture(b"a", True).digest()
    assert len({one.digest() for one in (first, other, turned)}) == 3


def test_only_the_piece_that_ends_the_answer_is_the_last_response(triton, model):
    def write(emit, failed, cancelled):
        for reason in ("", "", "length"):
            emit(Delta("a", np.array([1]), reason, (1, 1)))

    model.vlm_engine.behave = write
    responses = asked(triton, model, prompt="x")
    assert [response.tensors["finish_reason"][0] for response in responses] == [b"", b"", b"length"]


def test_messages_are_read_as_they_are(triton, model):
    sent = [{"role": "system", "content": [{"type": "text", "text": "Größe 🙂"}]}, {"role": "user", "content": []}]
    asked(triton, model, messages=json.dumps(sent))
    assert model.vlm_engine.asked[0][0] == sent


def test_a_picture_is_no_matter_of_the_step_until_the_engine_asks(triton, model):
    asked(triton, model, [b"no picture"], prompt="x")
    (picture,) = model.vlm_engine.asked[0][1]
    with pytest.raises(InvalidPicture):
        picture.size()


def test_the_header_of_a_picture_that_is_too_large_is_refused_without_decoding(monkeypatch):
    monkeypatch.setattr(chat, "decode", lambda *_: pytest.fail("it was decoded"))
    stream = io.BytesIO()
    Image.new("1", (8000, 7000)).save(stream, "PNG")
    with pytest.raises(PictureTooLarge):
        chat.picture(stream.getvalue(), True).size()


def text(value):
    return [{"role": "user", "content": [{"type": "text", "text": value}]}]


@pytest.mark.parametrize(("sent", "sentence"), [
    ({}, "either a prompt or messages"),
    ({"prompt": "a", "messages": "[]"}, "either a prompt or messages"),
    ({"prompt": b"\xff"}, "not UTF-8"),
    ({"messages": b"\xff"}, "not UTF-8"),
    ({"messages": "no"}, "'messages' is not JSON"),
    ({"messages": "[" * 200_000}, "'messages' is nested too deeply"),
    ({"messages": '{"role":' * 100_000}, "'messages' is nested too deeply"),
    ({"messages": "[]"}, "list of roles and contents"),
    ({"messages": json.dumps([{"role": ["user"], "content": []}])}, "list of roles and contents"),
    ({"messages": json.dumps(text(3))}, "list of roles and contents"),
    ({"messages": json.dumps(text("\ud83d"))}, "list of roles and contents"),
    ({"prompt": "a", "parameters": b"[" * 200_000}, "'parameters' is nested too deeply"),
    ({"prompt": "a", "parameters": {"loudness": 1}}, "'loudness'"),
    ({"prompt": "a", "images": [b"x"] * 33}, "may hold 32 pictures, not 33"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_in_a_sentence(triton, model, sent, sentence):
    said = refusal(asked(triton, model, **sent))
    assert said.startswith("[invalid_parameter] ") and sentence in said
    assert model.vlm_engine.asked == [] and triton.log == []


def test_a_fault_goes_to_the_log_and_the_caller_learns_that_there_was_one(triton, model):
    def fail(emit, failed, cancelled):
        raise RuntimeError("/home/somebody/secret.py")

    model.vlm_engine.behave = fail
    assert refusal(asked(triton, model, prompt="x")) == "[internal] The model failed on this input."
    model.vlm_engine.behave = lambda emit, failed, cancelled: failed(ZeroDivisionError("secret"))
    assert refusal(asked(triton, model, prompt="x")) == "[internal] The model failed on this input."
    assert "RuntimeError" in triton.log[0] and "ZeroDivisionError" in triton.log[1] and triton.log[0].startswith("m: ")


def test_a_refusal_of_the_engine_is_its_sentence(triton, model):
    model.vlm_engine.behave = lambda emit, failed, cancelled: failed(InvalidParameter("Too long."))
    assert refusal(asked(triton, model, prompt="x")) == "[invalid_parameter] Too long."


def test_a_request_that_was_cancelled_is_ended(triton, model):
    model.vlm_engine.behave = lambda emit, failed, cancelled: failed(Cancelled())
    (response,) = asked(triton, model, prompt="x")
    assert response.error().code == "CANCELLED" and triton.log == []


def test_the_engine_can_ask_whether_a_caller_left(triton, model):
    found = []
    model.vlm_engine.behave = lambda emit, failed, cancelled: found.append(cancelled)
    request = triton.Request({"prompt": column(b"x")}, [])
    model.execute([request])
    assert found[0]() is False
    request.sender.cancelled = True
    assert found[0]() is True


def test_a_bad_request_does_not_touch_the_ones_beside_it_even_if_it_cannot_be_told(triton, model):
    bad, good = triton.Request({}, []), triton.Request({"prompt": column(b"x")}, [])

    def gone(response, flags=0):
        raise OSError("the sender is gone")

    bad.sender.send = gone
    model.execute([bad, good])
    assert good.sender.wait()[0].tensors["text"].tolist() == [b"hi"]
    assert "could not be ended" in triton.log[0]


def test_the_model_is_opened_from_its_config_and_closed_when_it_is_unloaded(triton, tmp_path, monkeypatch):
    opened = {}

    class Recorder(Engine):
        def __init__(self, *given):
            opened["engine"] = given

    monkeypatch.setattr(chat, "Sessions", lambda files: files)
    monkeypatch.setattr(chat, "open_engine", Recorder)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "tokenizer.json").write_bytes(b"{}")
    (tmp_path / "manifest.json").write_text("published")
    monkeypatch.setenv("TRITONVISION_KEPT_PROMPTS", "12345")
    model = chat.TritonPythonModel()
    model.initialize(triton.args(tmp_path, {
        "sessions": '{"vision": "vision.onnx"}', "assets": '["tokenizer.json"]', "options": '{"tile": 3}',
        "module": "smolvlm",
    }))  # fmt: skip
    files, module, options, assets, working, identity, kept = opened["engine"]
    assert identity.startswith("m ") and hashlib.sha256(b"published").hexdigest() in identity and kept == 12345
    assert model.detailed is False, "a config of before has no output for details"
    assert files == {"vision": tmp_path / "1" / "vision.onnx"} and module == "smolvlm" and options == {"tile": 3}
    assert assets == {"tokenizer.json": b"{}"} and working() is model.heart
    model.finalize()
    assert model.vlm_engine.closed
