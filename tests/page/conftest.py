"""A real browser, without a screen, on the page of a real server."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import numpy as np
import pytest
from PIL import Image

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SECONDS = 60  # a first answer waits for its model
HOW = "There is no chromium on the PATH, so the page is not tried: 'apt-get install -y chromium' brings one."
# What browsers say of every answer that is an error, expected or not.
_ANY_REFUSAL = "Failed to load resource"


@pytest.fixture(scope="module")  # Playwright keeps a loop in this thread: it must be gone before other tests need one
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with empty hands."""
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("TRITONVISION_NEED_BROWSER") == "1":
            pytest.fail(HOW)
        pytest.skip(HOW)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS, headless=True)
        yield browser
        browser.close()


class Visit:
    """One visit of one page, and everything it asked of anybody.

    Attributes:
        page: Playwright's.
        asked: every request that left the browser.
        complaints: what the browser or the page's own scripts complained about.
    """

    def __init__(self, browser: Any, server: str, **options: Any):
        self.server = server
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(SECONDS * 1000)
        self.page = self.context.new_page()
        self.asked: list[Any] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)

    def _console(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith(_ANY_REFUSAL):
            self.complaints.append(message.text)

    def open(self, model: str = "", path: str = "/") -> Visit:
        """Go to the page with ``model`` in sight, and wait until it stands."""
        self.page.goto(f"{self.server}{path}" + (f"#{quote(model, safe='')}" if model else ""))
        if path == "/":
            self.page.locator("main:not([aria-busy])").wait_for()
            self.settled()  # a model that is loaded is asked at once
        return self

    def ask(self) -> None:
        """Press the button, and wait for the answer."""
        with self.page.expect_response(lambda response: response.request.method == "POST"):
            self.page.click("#ask")
        self.settled()

    def settled(self) -> None:
        """Wait until nothing is being asked."""
        self.page.locator("#busy").wait_for(state="hidden")

    def status(self) -> str:
        return self.page.inner_text("#status")

    def rows(self) -> list[list[str]]:
        """Cells of the table of what was found."""
        return [row.locator("th, td").all_inner_texts() for row in self.page.locator("tbody tr").all()]

    def questions(self) -> list[Any]:
        """The requests that asked a model."""
        return [request for request in self.asked if request.method == "POST"]

    def body(self) -> dict[str, Any]:
        """Of the last of them."""
        return self.questions()[-1].post_data_json

    def strangers(self) -> list[str]:
        """Addresses of other hosts that it asked; what its own policy held back went nowhere."""
        left = [request for request in self.asked if request.failure != "csp"]
        return [r.url for r in left if not r.url.startswith((f"{self.server}/", "blob:", "data:"))]


@pytest.fixture
def visit(browser: Any, server_url: str) -> Iterator[Callable[..., Visit]]:
    """``visit("resnet18", viewport=...)``: the page with that model in sight. Nobody may complain, or ask elsewhere."""
    visits = []

    def make(model: str = "", *, server: str = server_url, path: str = "/", **options: Any) -> Visit:
        visits.append(Visit(browser, server, **options))
        return visits[-1].open(model, path)

    yield make
    for one in visits:
        print("The page says:", one.page.locator("#status, #error").all_inner_texts())  # shown where a test fails
        assert not one.complaints
        assert not one.strangers()
        one.context.close()


@pytest.fixture
def sample(tmp_path: Path, photo: bytes) -> Path:
    """The sample as a file, under the name that the page gives it."""
    path = tmp_path / "astronaut.png"
    path.write_bytes(photo)
    return path


@pytest.fixture
def film(tmp_path: Path, photo: bytes) -> Path:
    """The photograph, moved a little each frame: ten a second, of which six have a length."""
    picture = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(7):  # the last one has no length, so that the video ends where it begins
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[40:280, 8 * number :][:, :320]))
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
