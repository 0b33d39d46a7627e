"""Who can use the page: with a keyboard, on a phone, in the dark, with a key, without any other host."""

from __future__ import annotations

import pytest

FACE, BOXES, SAM, WRITER, TOWERS = (
    "mediapipe-face-detection", "yolov8n-640", "sam-vit_b", "tests/small-vlm/1", "clip/RN50",
)  # fmt: skip

CONTRAST = """() => {
    const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = numbers(getComputedStyle(at).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour;
        }
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!(own || element.matches("input, textarea")) || !element.checkVisibility() || element.closest(".aside")) continue;
        const [one, other] = [light(numbers(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
        found.push([(one + 0.05) / (other + 0.05), element.textContent.trim().slice(0, 40) || element.id]);
    }
    return found;
}"""  # noqa: E501


def test_everything_works_with_the_keyboard_alone(visit):
    here = visit()
    press = here.page.keyboard.press
    press("Tab")
    assert here.page.evaluate("document.activeElement.textContent") == "Skip to the picture"
    for _ in range(10):
        press("Tab")
        if here.page.evaluate("document.activeElement.id") == "search":
            break
    here.page.keyboard.type("mediapipe")
    press("ArrowDown")
    assert here.page.evaluate("document.activeElement.dataset.id") == FACE
    assert here.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus is seen"
    with here.page.expect_response("**/infer/keypoints_detection"):
        press("Enter")
    here.settled()
    assert here.status() == "Found: 1 face."
    for _ in range(12):  # past the unpublished ones, the picture's buttons and the number
        press("Tab")
        if here.page.evaluate("document.activeElement.type") == "range":
            break
    with here.page.expect_response("**/infer/keypoints_detection"):
        press("End")
    here.settled()
    assert here.body()["confidence"] == 1 and here.status() == "Nothing over the threshold."


def test_every_field_has_a_name_and_answers_are_announced(visit):
    here = visit(SAM)
    unnamed = here.page.evaluate(
        """() => [...document.querySelectorAll("input, textarea, select, button, summary")].filter((element) =>
            !(element.labels?.length || element.getAttribute("aria-label") || element.textContent.trim())
        ).map((element) => element.outerHTML)"""
    )
    assert unnamed == []
    assert here.page.get_attribute("#status", "aria-live") == "polite"
    assert here.page.get_attribute("html", "lang") == "en"


@pytest.mark.parametrize("model", [FACE, SAM, WRITER, TOWERS])
def test_a_narrow_phone_has_nothing_to_scroll_sideways(visit, model):
    here = visit(model, viewport={"width": 320, "height": 640}, is_mobile=True, has_touch=True)
    if model == FACE:
        here.ask()
    assert here.page.evaluate("document.documentElement.scrollWidth") == 320
    here.page.click("#pick")
    assert here.page.locator("#search").is_visible()
    assert here.page.evaluate("document.documentElement.scrollWidth") == 320
    here.page.fill("#search", "yolov8n-640")
    here.page.get_by_role("button", name=BOXES).click()
    assert here.page.locator("#search").is_hidden(), "the list makes room for what was picked"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("model", [BOXES, WRITER])
def test_words_stand_out_from_their_ground(visit, scheme, model):
    here = visit(model, color_scheme=scheme)
    if model == BOXES:
        here.ask()
    here.page.locator("#key-box summary").click()
    contrasts = here.page.evaluate(CONTRAST)
    assert len(contrasts) > 40
    assert min(contrasts)[0] >= 4.5, min(contrasts)


def test_nothing_moves_for_those_who_want_no_motion(visit):
    here = visit(FACE, reduced_motion="reduce")
    motions = here.page.evaluate("getComputedStyle(document.getElementById('busy'), '::after').animationName")
    assert motions == "none"


def test_a_server_with_a_key_asks_for_it_and_the_page_keeps_it_for_the_tab(visit, serve_with):
    with serve_with("--api-key", "s3cret") as locked:
        here = visit(server=locked)
        assert here.page.inner_text("#error").startswith("An API key is required.")
        assert here.page.evaluate("document.activeElement.id") == "key"
        here.page.keyboard.type("wrong")
        here.page.keyboard.press("Enter")
        here.page.get_by_text("Unauthorized api_key").wait_for()
        here.page.click("#key-box summary") if here.page.locator("#key").is_hidden() else None
        here.page.fill("#key", "s3cret")
        here.page.keyboard.press("Enter")
        here.page.get_by_role("button", name=FACE).click()
        here.page.get_by_text("Found: 1 face.").first.wait_for()
        assert here.questions()[-1].headers["authorization"] == "Bearer s3cret"
        assert here.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]
        code = here.page.inner_text("#curl") + here.page.inner_text("#python")
        assert "s3cret" not in code and "$TRITONVISION_API_KEY" in code
        assert "s3cret" not in here.page.url


@pytest.mark.parametrize(("path", "shown"), [("/docs", "/infer/object_detection"), ("/redoc", "Roboflow")])
def test_the_documentation_of_the_routes_needs_no_other_host(visit, path, shown):
    here = visit(path=path)
    here.page.get_by_text(shown).first.wait_for()
    here.page.wait_for_load_state("networkidle")
    # ReDoc would fetch its maker's logo; the policy of the page keeps that request inside the browser
    here.complaints = [told for told in here.complaints if "redoc/logo" not in told]
    assert not here.strangers() and len(here.asked) > 3
