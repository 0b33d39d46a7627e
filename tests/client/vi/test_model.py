"""``ViModel`` over HTTP: pairs in the order of the call, errors returned, options that mean something or are told."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest
from pydantic import BaseModel
from vi_runs import KEY, PHRASES, RUN

from tritonvision import ViModel, errors
from tritonvision.vi.errors import (
    ViAuthenticationError,
    ViConfigurationError,
    ViConnectionError,
    ViError,
    ViMissingModelError,
    ViNotFoundError,
    ViValidationError,
)

SAID = "A cat, 猫 🐈."
USAGE = (7 + 64, 2 * 5)  # of the engine in memory: a picture, and two tokens a piece
PHOTO = Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png"
GROUNDED = '{"phrase_grounding":{"sentence":"A cat.","groundings":[{"phrase":"A cat","grounding":[[0,256,512,1024]]}]}}'
BOX = [0.0, 0.25, 0.5, 1.0]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of pictures, one of them broken."""
    pictures = tmp_path / "pictures"
    (pictures / "deep").mkdir(parents=True)
    for name in ("a.png", "c.png", "deep/d.png"):
        shutil.copy(PHOTO, pictures / name)
    (pictures / "b.jpg").write_bytes(b"no picture")
    return pictures


# ---- making one ------------------------------------------------------------------------------------------------------


def test_the_server_is_told_key_and_organization_and_the_model_knows_its_task(served):
    model = served.model(PHRASES)
    assert (model.run_id, model.task_type, served.model().task_type) == (PHRASES, "phrase-grounding", "vqa")
    assert repr(model) == f"<ViModel {PHRASES}: phrase-grounding>"
    with pytest.raises(ViAuthenticationError) as caught:
        served.model(secret_key="wrong")
    assert isinstance(caught.value, PermissionError) and caught.value.status_code == 401


def test_an_unknown_run_is_refused_at_construction(served):
    with pytest.raises(ViNotFoundError, match="nobody"):
        served.model("nobody/1")
    with pytest.raises(ViConfigurationError, match="object-detection"):
        served.model("yolov8n-640")


def test_the_environment_fills_in_what_is_not_given(served, monkeypatch):
    with pytest.raises(ViConfigurationError, match="secret_key"):
        ViModel(run_id=RUN)
    monkeypatch.setenv("DATATURE_VI_SECRET_KEY", KEY)
    with pytest.raises(ViConfigurationError, match="organization_id"):
        ViModel(run_id=RUN)
    monkeypatch.setenv("DATATURE_VI_ORGANIZATION_ID", "mine")
    monkeypatch.setenv("DATATURE_VI_API_ENDPOINT", served.endpoint)
    assert ViModel(run_id=RUN).run_id == ViModel(pretrained_model_name_or_path=RUN).run_id == RUN
    with pytest.raises(ViMissingModelError):
        ViModel()
    with pytest.raises(ViNotFoundError, match=f"{RUN}/7"):
        ViModel(run_id=RUN, ckpt="7")
    with pytest.raises(TypeError):
        ViModel(run_id=RUN, device="cuda")


def test_no_option_is_passed_over_silently(served):
    options = {"device_map": "cuda:0", "attn_implementation": "flash_attention_2", "low_cpu_mem_usage": False}
    for _ in range(2):
        served.model(**options)
    assert len([one for one in served.said if "has no effect" in one]) == 2, "each is told once"
    assert any("random" in one for one in served.said)
    served.model(dtype="float32")
    for precision in ({"load_in_8bit": True}, {"load_in_4bit": True}, {"dtype": "float16"}):
        with pytest.raises(ViConfigurationError, match=f"runs '{RUN}' in fp32.*published in fp32"):
            served.model(**precision)


def test_a_model_is_inspected_without_being_loaded(served):
    told = ViModel.inspect(
        secret_key=KEY, organization_id="mine", run_id=PHRASES, endpoint=served.endpoint
    )  # fmt: skip
    assert (told.run_id, told.task_type, told.weights) == (PHRASES, "phrase-grounding", "random")
    assert served.engine.loaded() == []


def test_a_server_that_is_not_there_is_an_error(served):
    with pytest.raises(ViConnectionError, match="No server answers"):
        served.model(endpoint="http://127.0.0.1:9")


# ---- asking it -------------------------------------------------------------------------------------------------------


def test_one_picture_is_one_pair(served):
    result, error = served.model()(PHOTO, "What is this?", {"do_sample": False, "max_new_tokens": 9})
    assert error is None and result.caption == result.result.answer == SAID
    ((_, _, pictures, settings),) = served.engine.chats
    assert pictures == [PHOTO.read_bytes()] and (settings["max_new_tokens"], settings["temperature"]) == (9, 0)


def test_the_document_s_defaults_arrive(served):
    served.model()(PHOTO, "What is this?")
    settings = served.engine.chats[0][3]
    expected = {"max_new_tokens": 512, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0}
    assert expected.items() <= settings.items()


def test_phrases_are_grounded_without_a_prompt(served):
    served.engine.pieces = [GROUNDED]
    result, error = served.model(PHRASES)(source=str(PHOTO))
    (phrase,) = result.grounded_phrases
    assert error is None and (result.caption, phrase.phrase, phrase.bbox) == ("A cat.", "A cat", BOX)
    result, _ = served.model()(PHOTO, "Where?", task_type="phrase-grounding")
    assert result.grounded_phrases[0].bbox == BOX


def test_a_folder_with_a_broken_picture_has_its_error_in_its_place(served, folder):
    pairs = served.model()(folder, "What's in this image?")
    assert [type(error) for _, error in pairs] == [type(None), ViValidationError, type(None)]
    assert [result and result.caption for result, _ in pairs] == [SAID, None, SAID]
    assert len(served.model()(folder, "What's in this image?", recursive=True)) == 4
    assert len(served.model()(folder / "deep", "Why?")) == 1, "a folder gives a list"


def test_pairs_keep_the_order_and_length_of_the_list(served, folder):
    sources = [PHOTO, "nowhere.png", folder / "b.jpg", PHOTO]
    prompts = ["One?", "Two?", "Three?", "Four?"]
    pairs = served.model()(sources, prompts)
    assert [result and result.prompt for result, _ in pairs] == ["One?", None, None, "Four?"]
    assert isinstance(pairs[1][1], FileNotFoundError) and isinstance(pairs[2][1], ValueError)
    assert len(served.engine.chats) == 2


def test_what_cannot_be_a_call_is_raised(served):
    model = served.model()
    for source, prompt in ((None, "Why?"), ([], "Why?"), ([PHOTO, PHOTO], ["Why?"]), (PHOTO, 3)):
        with pytest.raises(ValueError):
            model(source, prompt)
    assert model([PHOTO], ["Why?"])[0][0].prompt == model(PHOTO, ["Why?"])[0].prompt == "Why?"


@pytest.mark.parametrize(("options", "says"), [
    ({}, "asked a question"), ({"user_prompt": "Why?", "generation_config": {"top_q": 1}}, "top_q"),
    ({"user_prompt": "Why?", "task_type": "x"}, "no task"),
])  # fmt: skip
def test_what_does_not_fit_one_picture_is_returned(served, options, says):
    result, error = served.model()(PHOTO, **options)
    assert result is None and isinstance(error, ValueError) and says in str(error)


@pytest.mark.parametrize(("failure", "builtin", "says"), [
    (errors.NoRoom(errors.OUT_OF_MEMORY), MemoryError, "out of memory"),
    (errors.DeadlineExceeded(), TimeoutError, "not ready in time"),
    (errors.ServerUnavailable(), ConnectionError, "does not answer"),
])  # fmt: skip
def test_an_error_of_the_server_is_returned_as_python_s(served, failure, builtin, says):
    served.engine.failure = failure
    result, error = served.model()(PHOTO, "Why?")
    assert result is None and isinstance(error, builtin) and says in str(error)


def test_an_answer_may_follow_a_schema_of_the_caller_s(served):
    class Summary(BaseModel):
        summary: str

    served.engine.pieces = ['{"summary":', '"A cat."}']
    result, _ = served.model(PHRASES)(PHOTO, "Why?", response_format=Summary)
    assert Summary.model_validate_json(result.result).summary == "A cat."
    assert served.engine.chats[0][3]["schema"] == Summary.model_json_schema()
    with pytest.raises(ValueError, match="response_format"):
        served.model()(PHOTO, "Why?", response_format=3)


def test_addresses_and_data_urls_are_asked_about(served, folder):
    url = f"data:image/png;base64,{base64.b64encode(PHOTO.read_bytes()).decode()}"
    (good, _), (_, error) = served.model()([url, "http://127.0.0.1:9/a.png"], "Why?")
    assert good.caption == SAID and isinstance(error, ValueError)


def test_the_bar_is_on_standard_error_alone_and_only_if_wanted(served, folder, capfd):
    model = served.model()
    model(folder, "Why?")
    said = capfd.readouterr()
    assert said.out == "" and "3/3" in said.err
    model(PHOTO, "Why?")
    said = capfd.readouterr()
    assert said.out == "" and "astronaut.png" in said.err
    model(folder, "Why?", show_progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_stream_gives_the_text_and_then_the_result(served):
    stream = served.model()(PHOTO, "Why?", stream=True)
    assert list(stream) == served.engine.pieces
    whole = stream.get_final_completion()
    assert (whole.caption, whole.finish_reason, whole.usage) == (SAID, "stop", USAGE)
    assert served.model()(PHOTO, "Why?", stream=True).get_final_completion().caption == SAID
    with pytest.raises(ValueError, match="one picture"):
        served.model()([PHOTO], "Why?", stream=True)
    with pytest.raises(FileNotFoundError):
        served.model()("nowhere.png", "Why?", stream=True)
    served.engine.late_failure = errors.ServerUnavailable()
    with pytest.raises(ViConnectionError):
        list(served.model()(PHOTO, "Why?", stream=True))


@pytest.mark.parametrize("when", ["failure", "late_failure"])
def test_a_stream_that_failed_has_no_result(served, when):
    stream = served.model()(PHOTO, "Why?", stream=True)
    setattr(served.engine, when, errors.ServerUnavailable())
    with pytest.raises(ViConnectionError):
        list(stream)
    with pytest.raises(ViError, match="not written to its end"):
        stream.get_final_completion()


def test_a_stream_that_is_left_has_no_result(served):
    stream = served.model()(PHOTO, "Why?", stream=True)
    for _ in stream:
        break
    with pytest.raises(ViError, match="not written to its end"):
        stream.get_final_completion()
