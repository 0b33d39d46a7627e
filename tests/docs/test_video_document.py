"""docs/video.md names options, formats and names that exist."""

import inspect
import re
from pathlib import Path

from tritonvision import AutoModel
from tritonvision.cli.predict import predict
from tritonvision.client.automodel.frame_results import FrameResult
from tritonvision.client.video import in_order, live, opening, writing

TEXT = (Path(__file__).parents[2] / "docs" / "video.md").read_text()


def test_its_options_are_those_of_predict():
    declared = {f"--{name.replace('_', '-')}" for name in inspect.signature(predict).parameters}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT)) - {"--no-deps"}
    assert named and named <= declared


def test_what_it_calls_a_video_is_taken_for_one_and_what_it_says_is_written_is():
    (told,) = re.findall(r"ends like one \((.*?) \.\.\.\)", TEXT)
    assert set(re.findall(r"`(\.\w+)`", told)) <= opening.ENDINGS
    (formats,) = re.findall(r"\| format \| (.*?);", TEXT)
    assert set(re.findall(r"`(\.\w+)`", formats)) == set(writing.WRITTEN)


def test_its_numbers_are_those_of_the_code():
    assert in_order.AT_ONCE == 4 and "four frames are under way" in TEXT
    assert live._PAUSE == 1 and "tried again every second" in TEXT
    assert opening._READ_SECONDS == 5 and "silent for five seconds" in TEXT
    assert writing._KEY_SECONDS == 2 and "but for the last two seconds" in TEXT


def test_the_names_of_its_python_exist():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    compile(code, "video.md", "exec")
    known = {*FrameResult.__dataclass_fields__, *vars(FrameResult)}
    assert set(re.findall(r"frame\.(\w+)", code)) <= known
    assert {"track", "max_frames"} <= inspect.signature(AutoModel.video).parameters.keys()
