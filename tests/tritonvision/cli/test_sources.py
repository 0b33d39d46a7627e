"""An engine answers the commands the same with HTTP in between and without: the real facade, answers from memory."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest
import uvicorn

from tritonvision.cli import chat_sources, sources
from tritonvision.cli.answers import lines
from tritonvision.cli.chat_sources import EmbeddedChat, FacadeChat
from tritonvision.cli.question import ask
from tritonvision.cli.sources import EmbeddedSource, FacadeSource
from tritonvision.engine.golden_check import Verdict
from tritonvision.engine.loaded_models import Memory
from tritonvision.engine.model_times import ModelTimes
from tritonvision.errors import InvalidParameter, UnknownModel
from tritonvision.facade.app import create_app
from tritonvision.publication import MANIFEST, Manifest, Repository
from tritonvision.results import Delta, Detections
from tritonvision.server.process import free_port
from tritonvision.settings import Settings
from tritonvision.tasks import TASKS, VLM, resolve

SIZE = {"height": 512, "width": 512}
TASK_OF = {
    "grounding-dino-tiny": "open-vocabulary-object-detection", "owlv2-base-patch14": "open-vocabulary-object-detection",
    "my/finder/1": "open-vocabulary-object-detection", "doctr-db_mobilenet_v3": "structured-ocr",
    "trocr-base-printed": "text-only-ocr", "smolvlm-256m": "vlm", "florence-2-base": "vlm",
    "my/talker/1": "vlm", "resnet18": "classification", "qwen3-vl-2b": "vlm", "moondream2": "vlm",
    "paligemma-3b-mix-224": "vlm",
}  # fmt: skip
PLACES = ("TOTAL<loc_0><loc_0><loc_99><loc_0><loc_99><loc_49><loc_0><loc_49>",)
GROUNDING = {
    "florence-2-base": "florence", "qwen3-vl-2b": "qwen3", "moondream2": "moondream",
    "paligemma-3b-mix-224": "paligemma",
}  # fmt: skip
CODES = "".join(f"<seg{code:03}>" for code in range(16))
SAID = {  # by what is asked
    "<OCR_WITH_REGION>": PLACES,
    "locate": ("```json\n[", '{"bbox_2d": [250, 500, 500, 750], "label": "cat"}', "]\n```"),
    "point: nose": ('{"object": "nose", "points": ', '[{"x": 0.25, "y": 0.5}]}'),
    "segment cat": ("<loc0512><loc0256><loc0768><loc0512>", CODES, " cat"),
    "look": ("I see a cat ", '{"bbox_2d": [250, 500, 500, 750], "label": "cat"}'),
}
PIECES = ("A\u2028man ", "with", " a\x85helm", "et.")


class MemoryEngine:
    """Keeps the engine's contract and remembers the settings of what it was asked."""

    server_id = "5b0c9a0e-0000-4000-8000-000000000000"

    def __init__(self, repository: Repository):
        self.repository = repository
        self.asked: list = []

    async def infer(self, model, pictures, parameters, *, wait=True, regions=None):
        manifest = await self.load(model) if isinstance(model, str) else model
        settings = resolve(TASKS[manifest.task].parameters, parameters)
        self.asked.append(settings)
        return manifest, [self._result(manifest.task, settings) for _ in pictures]

    async def ask(self, model, samples, parameters, *, role="", outputs=(), wait=True):
        return await self.infer(model, [sample["image"] for sample in samples], parameters)

    async def chat(self, model, messages, pictures, parameters, *, wait=True):
        self.asked.append((messages, list(pictures), resolve(VLM.parameters, parameters)))
        pieces = SAID.get(messages[-1]["content"][-1]["text"], PIECES)
        masks = np.full((1, 64, 64), 255, dtype=np.uint8) if CODES in pieces else None
        for count, text in enumerate(pieces, 1):
            await asyncio.sleep(0)
            ended = count == len(pieces)
            yield Delta(text, np.array([count]), "length" if ended else "", (70, count), masks if ended else None)

    async def generate_masks(self, model, picture, parameters, *, wait=True):
        for nothing in ():  # the command line does not ask for it
            yield nothing

    async def load(self, name, *, wait=True):
        return self.repository.resolve(name)

    async def verify(self, name: str) -> Verdict:
        return Verdict(self.repository.resolve(name).id, "onnxruntime-fp32", asked=False)

    async def times(self, name: str) -> tuple[Manifest, list[ModelTimes]]:
        return self.repository.resolve(name), []

    async def statistics(self) -> list[ModelTimes]:
        return []

    async def why_model_not_ready(self, manifest) -> str:
        return ""

    async def unload(self, name):
        pass

    def loaded(self):
        return list(self.repository)

    def memory(self):
        return Memory({}, {})

    def check_room(self, manifest, requests=1, role=""):
        pass

    async def ready(self, manifest=None):
        return True

    def endpoints(self):
        return []

    def losses(self):
        return 0, 0

    def live(self):
        return True

    def why_not_ready(self, manifest=None):
        return ""

    @staticmethod
    def _result(task: str, settings):
        if task == "text-only-ocr":
            return "INVOICE 42"
        boxes = np.array([[0, 0, 300, 200], [0, 0, 300, 90.5], [1.25, 2.5, 140.75, 88], [160, 3, 299, 87]], np.float32)
        scores = np.array([0.75, 0.5, 0.25, 0.125], np.float32)
        if task == "structured-ocr":
            more = [
                {"text": "Dear Sir", "parent": -1}, {"text": "Dear Sir", "parent": 0}, {"text": "Dear", "parent": 1},
                {"text": "Sir", "parent": 1},
            ]  # fmt: skip
            return "Dear Sir", Detections(boxes, np.array([0, 1, 2, 2], np.int32), scores, SIZE, more)
        kept = scores >= settings["confidence"]
        classes = np.arange(4, dtype=np.int32) % len(settings["texts"])
        return Detections(boxes[kept], classes[kept], scores[kept], SIZE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Settings, the engine behind the facade, and the facade's address."""
    root = tmp_path_factory.mktemp("repository")
    for model, task in TASK_OF.items():
        manifest = Manifest(
            id=model, family="f", task=task, head="h", weights="random", source="s", sha256="0", license="x",
            precision="fp32", labels=("block", "line", "word") if task == "structured-ocr" else (), input_size=None,
            steps=(), grounding=GROUNDING.get(model, ""),
        )  # fmt: skip
        (root / manifest.triton_name).mkdir()
        (root / manifest.triton_name / MANIFEST).write_text(manifest.to_json())
    settings = Settings(repository=root)
    engine, port = MemoryEngine(Repository(root)), free_port()
    facade = uvicorn.Server(uvicorn.Config(create_app(engine, settings), port=port, log_level="error"))
    thread = threading.Thread(target=facade.run)
    thread.start()
    while not facade.started:
        time.sleep(0.01)
    yield settings, engine, f"http://127.0.0.1:{port}"
    facade.should_exit = True
    thread.join()


@pytest.fixture
def both(server, monkeypatch):
    """``both(kind, question)``: what is asked without HTTP, and with it."""
    settings, engine, url = server
    engine.asked.clear()

    @asynccontextmanager
    async def own_engine(_):
        yield engine

    monkeypatch.setattr(sources, "own_engine", own_engine)
    monkeypatch.setattr(chat_sources, "own_engine", own_engine)
    notes: list[str] = []

    def make(model: str, question):
        yield EmbeddedSource(settings, model, question, notes.append)
        yield FacadeSource(url, None, model, question, notes.append)

    def make_chat(model: str, pictures, writing):
        yield EmbeddedChat(settings, model, pictures, writing, notes.append)
        yield FacadeChat(url, None, model, pictures, writing, notes.append)

    make.chat, make.engine, make.notes = make_chat, engine, notes
    return make


async def asked(source, picture: bytes, hear=lambda _: None):
    async with source:
        return await source.ask(picture, hear)


@pytest.mark.parametrize(
    ("model", "texts"),
    [
        ("grounding-dino-tiny", ["a helmet", "a flag"]), ("owlv2-base-patch14", ["a helmet"]),
        ("my/finder/1", ["a flag"]), ("doctr-db_mobilenet_v3", None), ("trocr-base-printed", None),
        ("smolvlm-256m", ["Who is this?"]), ("my/talker/1", ["Who is this?"]),
        ("florence-2-base", ["<OCR_WITH_REGION>"]), ("florence-2-base", ["<CAPTION>"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("confidence", [None, 0.5], ids=["default", "half"])
def test_predict_says_the_same_of_both(both, photo, model, texts, confidence):
    own, there = (asyncio.run(asked(s, photo)) for s in both(model, ask(confidence, None, None, texts)))
    assert own.predictions(None) == there.predictions(None) != []
    assert list(lines("photo", own.predictions(None))) == list(lines("photo", there.predictions(None)))
    first, second = both.engine.asked
    assert first == second, "both sources ask with the same settings"
    assert both.notes == [f"The weights of {model} are random: its answers mean nothing."] * 2


def test_places_that_a_model_writes_are_boxes_and_outlines(both, photo):
    for source in both("florence-2-base", ask(None, None, None, ["<OCR_WITH_REGION>"])):
        found = asyncio.run(asked(source, photo))
        assert found.text == PLACES[0] and found.result.polygons[0].tolist() == [[0, 0], [51, 0], [51, 25], [0, 25]]
        told = list(lines("page.png", found.predictions(None)))
        assert told == ["page.png: 1 prediction", f"  {'TOTAL':<20} 1.0000   box 0.3, 0.3 to 50.9, 25.3"]


@pytest.mark.parametrize(("model", "text", "told"), [
    ("qwen3-vl-2b", "locate", "cat                  1.0000   box 128.0, 256.0 to 256.0, 384.0"),
    ("moondream2", "point: nose", "nose                 1.0000   at 128.0, 256.0"),
    ("paligemma-3b-mix-224", "segment cat", "cat                  1.0000   box 129.0, 257.0 to 255.0, 383.0"),
])  # fmt: skip
def test_places_are_told_and_not_the_numbers_that_they_are_written_in(both, photo, model, text, told):
    for source in both(model, ask(None, None, None, [text])):
        heard: list[str] = []
        found = asyncio.run(asked(source, photo, heard.append))
        assert heard == [] and found.text == "".join(SAID[text])
        assert list(lines("photo", found.predictions(None))) == ["photo: 1 prediction", f"  {told}"]
    assert ("polygon" in found.predictions(None)[0]) is (model == "paligemma-3b-mix-224")


def test_words_are_heard_as_they_come_also_beside_places(both, photo):
    for source in both("qwen3-vl-2b", ask(None, None, None, ["look"])):
        heard: list[str] = []
        found = asyncio.run(asked(source, photo, heard.append))
        assert "".join(heard) == "".join(SAID["look"]) and len(found.predictions(None)) == 1


def test_boxes_are_called_by_the_texts(both, photo):
    question = ask(None, None, None, ["a helmet", "a flag"])
    for source in both("grounding-dino-tiny", question):
        found = asyncio.run(asked(source, photo)).predictions(None)
        assert [f["class"] for f in found] == ["a helmet", "a flag", "a helmet"]
        assert [f["confidence"] for f in found] == [0.75, 0.5, 0.25], "0.25 is the task's own threshold, of both"


@pytest.mark.parametrize("model", ["grounding-dino-tiny", "my/finder/1", "smolvlm-256m", "my/talker/1"])
def test_what_needs_a_text_is_not_asked_without_one(both, photo, model):
    for source in both(model, ask(None, None, None, None)):
        with pytest.raises(InvalidParameter) as caught:
            asyncio.run(asked(source, photo))
        assert "--text" in caught.value.hint
    assert both.engine.asked == []


@pytest.mark.parametrize("model", ["smolvlm-256m", "my/talker/1"])
def test_chat_hears_the_same_of_both(both, photo, model):
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Who?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A man."}]},
        {"role": "user", "content": [{"type": "text", "text": "And what?"}]},
    ]
    given = {"max_new_tokens": 9, "temperature": 0.5, "top_p": 0.75, "seed": 2**40}

    async def hear(source) -> list[Delta]:
        async with source:
            return [piece async for piece in source.answer(messages)]

    for source in both.chat(model, [photo, photo[:-1]], resolve(VLM.parameters, given)):
        pieces = asyncio.run(hear(source))
        assert [piece.text for piece in pieces if piece.text] == list(PIECES)
        assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["length"]
    first, second = both.engine.asked
    assert first == second == (messages, [photo, photo[:-1]], resolve(VLM.parameters, given))


def test_chat_refuses_what_does_not_talk(both):
    async def open_and_close(source) -> None:
        async with source:
            pass

    for source in both.chat("resnet18", [], resolve(VLM.parameters, {})):
        with pytest.raises(InvalidParameter) as caught:
            asyncio.run(open_and_close(source))
        assert "predict resnet18" in caught.value.hint
    for source in both.chat("my/nobody/1", [], resolve(VLM.parameters, {})):
        with pytest.raises(UnknownModel):
            asyncio.run(open_and_close(source))


def test_the_engine_of_these_tests_keeps_the_contract(keeps_the_contract):
    keeps_the_contract(MemoryEngine)
