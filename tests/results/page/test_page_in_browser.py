"""The page in a real browser: nothing complains, nothing is asked for, nothing sticks out, and a long study is fast."""

from __future__ import annotations

import math
import random

import pytest

import results
from results.page.report import write_report
from tests.results.conftest import HOSTILE
from tests.results.page.browser import Browser, chromium

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
MOST_SECONDS = 8.0  # a page of 500 trials takes half a second; a loaded machine more


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


def test_a_whole_page_loads_without_complaint_or_request(browser, full, tmp_path):
    page = write_report(full, tmp_path / "page.html")
    for width in (1200, 400):
        browser.look(dark=width == 400)
        browser.open(page, width=width)
        assert browser.complaints() == [] and browser.requests() == [page.as_uri()]
        assert browser.value(SIDEWAYS) <= 0
    assert browser.value("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")


def test_hostile_names_run_nothing_and_widen_nothing(browser, hostile_results, tmp_path):
    page = write_report(hostile_results, tmp_path / "page.html", title=HOSTILE[0])
    for width in (1200, 400):
        browser.open(page, width=width)
        browser.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert browser.complaints() == [] and browser.requests() == [page.as_uri()]
        assert browser.value(SIDEWAYS) <= 0
    assert browser.value("document.querySelector('h1').textContent") == HOSTILE[0]
    assert browser.value("document.scripts.length") == 2  # a study's tips, and the page's own


def test_dark_light_and_paper_have_colours_of_their_own(browser, full, tmp_path):
    page = write_report(full, tmp_path / "page.html")
    papers = []
    for dark in (False, True):
        browser.look(dark=dark)
        browser.open(page)
        papers.append(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(255, 255, 255)", "rgb(17, 22, 28)"]
    assert browser.paper(tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    browser.ask("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_text_can_be_told_from_its_paper(browser, full, tmp_path):
    """Contrast of at least 4.5 to 1, as WCAG asks of text."""
    page = write_report(full, tmp_path / "page.html")
    for dark in (False, True):
        browser.look(dark=dark)
        browser.open(page)
        for kind in ("h1", "p.note", "thead th", ".tile .rival", "nav a", "svg text", "figcaption", "footer p"):
            colour = browser.value(
                "((one) => one.ownerSVGElement ? getComputedStyle(one).fill : getComputedStyle(one).color)"
                f"(document.querySelector({kind!r}))"
            )
            paper = browser.value("getComputedStyle(document.body).backgroundColor")
            assert contrast(colour, paper) >= 4.5, (kind, dark, colour)


def test_the_keyboard_gets_everywhere(browser, full, tmp_path):
    browser.open(write_report(full, tmp_path / "page.html"))
    key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    reached = []
    for _ in range(60):
        browser.ask("Input.dispatchKeyEvent", type="keyDown", **key)
        browser.ask("Input.dispatchKeyEvent", type="keyUp", **key)
        reached.append(browser.value("document.activeElement.className || document.activeElement.tagName"))
    assert reached[0] == "skip"
    assert {"A", "SUMMARY", "scroll"} <= set(reached)


def test_pointing_at_a_trial_finds_it_in_every_figure(browser, full, tmp_path):
    browser.look()
    browser.open(write_report(full, tmp_path / "page.html"))
    place = browser.value(
        "((mark) => { mark.scrollIntoView({block: 'center', behavior: 'instant'});"
        " const box = mark.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })"
        "(document.querySelector('.study .mark[data-k=\"1\"]'))"
    )
    browser.settle()  # scrolling hides what is said
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    assert browser.value("document.querySelector('#tip').textContent").startswith("t1: val.accuracy 0.47")
    assert browser.value("document.querySelectorAll('.study .on').length") == 4  # history, two slices, a line


def test_five_hundred_trials_load_fast(browser, tmp_path):
    study = long_study(tmp_path / "study", 500)
    page = write_report(study, tmp_path / "page.html")
    assert page.stat().st_size < 2_000_000
    assert browser.open(page) < MOST_SECONDS
    assert browser.complaints() == [] and browser.value(SIDEWAYS) <= 0
    assert browser.value("document.querySelectorAll('.trial').length") == 500


def long_study(folder, n):
    rng = random.Random(3)
    trials = []
    for index in range(n):
        params = {"optim.lr": 10 ** rng.uniform(-5, -2), "matching.metric": rng.choice(["cosine", "euclidean"])}
        params |= {f"loss.sigma_{name}": rng.uniform(0, 2) for name in "abcdef"}
        values = {"val_accuracy": rng.random(), "train_seconds": rng.uniform(10, 60)}
        trials.append(
            results.TrialRecord(
                trial=f"trial-{index}", params=params, value=values["val_accuracy"], values=values, seconds=1.0
            )
        )
    record = results.SweepRecord(
        name="long", space={}, objective="val_accuracy", pareto=["trial-1", "trial-2"], importances={"optim.lr": 1.0}
    )
    results.write_sweep(folder, record, trials)
    return results.load(folder)


def contrast(*colours):
    """Of two CSS colours `rgb(...)`."""
    lights = []
    for colour in colours:
        shares = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
        red, green, blue = (one / 12.92 if one <= 0.03928 else math.pow((one + 0.055) / 1.055, 2.4) for one in shares)
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)
