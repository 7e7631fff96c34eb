"""Test that the page is self-contained, shows names as text, and makes no requests."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import results
from results.page.overview import Setting
from results.page.report import write_report
from results.records.explanations import ExplanationRecord, read_explanations, write_explanation
from tests.results.conftest import HOSTILE, WEBP


class Page(HTMLParser):
    """Collect elements with their attributes, the text outside scripts, and the scripts' texts."""

    def __init__(self, html: str):
        super().__init__()
        self.elements, self.text, self.scripts = [], "", []
        self.inside = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = tag
            self.scripts += [""] if tag == "script" else []

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.inside = None if tag == self.inside else self.inside

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside is None:
            self.text += data

    def ids(self):
        return {attrs["id"] for _, attrs in self.elements if "id" in attrs}

    def charts(self):
        return [attrs["aria-label"] for tag, attrs in self.elements if tag == "svg" and attrs.get("role") == "img"]


def page_of(loaded, folder, **options):
    return Page(write_report(loaded, folder, **options).read_text())


def test_page_holds_every_part(full, tmp_path):
    path = write_report(full, tmp_path / "report", title="Five domains", command="hcl report runs/*")
    page = Page(path.read_text())
    assert path == tmp_path / "report" / "index.html"
    assert [child.name for child in path.parent.iterdir()] == ["index.html"]
    expected = {"answer", "confidence", "classes", "examples", "learning", "sweeps", "runs", "failures"}
    assert expected <= page.ids() and "skipped" not in page.ids()
    best = f"{100 * full.evaluations['accuracy'].max():.1f}"
    for text in (
        "Five domains", best, "hcl evaluate first", "hcl train x.yaml", "experiment 5", "loss is not finite",
        "at most 0.9 points", "compared in 4 cells; in 4 of them", "2 runs, 8 evaluation records, 1 study, 4 trials",
        "hen/hen_1", "taken for", "hcl explain first --examples 1", "sigma, trial t3", "hcl report runs/*",
        "It leads the second, t2, by 7.0 points", "hcl sweep --confirm 2",
    ):  # fmt: skip
        assert text in page.text, text
    text = " ".join(page.charts())
    for chart in ("Accuracy over shots on plain", "Confusions of hcl", "Loss terms of first", "val.accuracy of 2 runs"):
        assert chart in text
    for chart in ("val.accuracy of 3 trials", "Parallel coordinates of 3 trials", "against loss.sigma_ce"):
        assert chart in text


def test_the_order_is_answer_then_how_sure_then_why(full, tmp_path):
    html = write_report(full, tmp_path / "r").read_text()
    places = [html.index(f'<section id="{name}"') for name in ("answer", "confidence", "classes", "learning", "runs")]
    assert places == sorted(places)


def test_the_best_leads_and_the_lead_is_judged(full, tmp_path):
    html = write_report(full, tmp_path / "r").read_text()
    tile = html[html.index('class="tile"') :].partition("</li>")[0]
    assert "hcl" in tile and "points ahead of" in tile and "prototype" in tile


def test_every_figure_says_how_it_was_made(full, tmp_path):
    html = write_report(full, tmp_path / "r").read_text()
    figures = html.count("<figure")
    assert figures >= 8
    for part in html.split("<figure")[1:]:
        assert "How this was made" in part.partition("</figure>")[0]


def test_settings_off_their_defaults_are_shown_with_their_meaning(full, tmp_path):
    folder = full.runs["path"].iloc[0]
    changed = {folder: [Setting("train.epochs", "3 epochs", "15 epochs", "how long")]}
    page = page_of(full, tmp_path / "r", changed=changed)
    assert "1 setting changed from the default" in page.text and "15 epochs" in page.text and "how long" in page.text


def test_the_cost_is_told(full, tmp_path):
    page = page_of(full, tmp_path / "r")
    assert "training: 0.0033 CPU-hours, 0.0033 GPU-hours" in page.text  # 3 epochs of 2 s on two CPUs and two GPUs


def test_destination_may_be_a_file(full, tmp_path):
    assert write_report(full, tmp_path / "page.html") == tmp_path / "page.html"


def test_hostile_names_are_shown_as_text(hostile_results, tmp_path):
    page = page_of(hostile_results, tmp_path, title=HOSTILE[0])
    for name in HOSTILE:
        assert name in page.text
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"i", "u", "iframe", "link", "object"}
    assert not [text for text in page.scripts if "alert" in text and "<" in text]
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert all(attrs["src"].startswith("data:image/webp;base64,") for tag, attrs in page.elements if tag == "img")
    tips = json.loads(next(text for text in page.scripts if text.startswith("[")))
    assert any(HOSTILE[0] in tip for tip in tips)


def test_page_asks_nobody_for_anything(hostile_results, full, tmp_path):
    for loaded in (hostile_results, full):
        html = write_report(loaded, tmp_path / "r").read_text()
        addresses = [
            value
            for _, attrs in Page(html).elements
            for key, value in attrs.items()
            if key in ("src", "href", "srcset", "action", "data", "xlink:href")
        ]
        assert addresses and all(address.startswith(("#", "data:image/webp;base64,")) for address in addresses)
        policy = next(a["content"] for t, a in Page(html).elements if t == "meta" and "http-equiv" in a)
        assert "default-src 'none'" in policy
        styles = "".join(re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL))
        assert "url(" not in styles and "@import" not in styles


def test_every_table_and_region_has_a_name(full, hostile_results, tmp_path):
    for loaded in (full, hostile_results):
        html = write_report(loaded, tmp_path / "r").read_text()
        assert html.count("<table") == html.count("<caption")
        page = Page(html)
        regions = [attrs for _, attrs in page.elements if attrs.get("role") == "region"]
        assert regions and all(attrs["aria-label"] and attrs["tabindex"] == "0" for attrs in regions)
        assert all(attrs["alt"] for tag, attrs in page.elements if tag == "img")
        headers = [attrs for tag, attrs in page.elements if tag == "th"]
        assert headers and all(attrs.get("scope") in ("col", "row") for attrs in headers)
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_skipped_files_are_listed(hostile_results, tmp_path):
    page = page_of(hostile_results, tmp_path)
    assert "<u>broken.json" in page.text and "is not JSON" in page.text


def test_an_empty_store_still_makes_a_page(tmp_path):
    (tmp_path / "run" / "evaluation").mkdir(parents=True)
    page = page_of(results.load(tmp_path / "run"), tmp_path)
    assert "1 run," in page.text and "answer" not in page.ids() and page.charts() == []


def test_a_running_sweep_and_a_single_episode_make_a_page(tmp_path, evaluation, sweep):
    pending = [results.TrialRecord(trial="t0", params={"loss.sigma_ce": 0.5}, value=None, state="running")]
    results.write_sweep(tmp_path / "s", sweep, pending)
    (tmp_path / "s" / "sweep.json").unlink()
    results.write_evaluation(tmp_path / "r", evaluation(ci95=None, episodes=1, n_classes=None))
    page = page_of(results.load(tmp_path), tmp_path / "report")
    assert "1 running" in page.text and "47.7" in page.text and len(page.charts()) == 1


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ({"reproducible": True, "lag": 4, "seed": 3}, "Reproducible by seed 3 and lag 4."),
        ({"reproducible": True, "seed": 3}, "Reproducible by seed 3."),
        ({"reproducible": False, "seed": 3}, "Not reproducible: its trials were chosen and stopped as results came."),
        ({}, None),
    ],
)
def test_a_study_says_whether_it_can_be_repeated(order, text, tmp_path, sweep, trials):
    results.write_sweep(tmp_path / "s", replace(sweep, **order), trials)
    page = page_of(results.load(tmp_path), tmp_path / "report").text
    assert text in page if text else "eproducible" not in page


def test_a_damaged_explanation_is_left_out(tmp_path):
    folder = tmp_path / "explanations"
    write_explanation(folder / "a.json", ExplanationRecord(query="hen/a", scores={"hen": 1.0}), WEBP)
    write_explanation(folder / "b.json", ExplanationRecord(query="hen/b", scores={"hen": 1.0}), b"<svg onload=x>")
    (folder / "c.json").write_text("{")
    write_explanation(folder / "d.json", ExplanationRecord(query="hen/d", scores={"hen": 1.0}), WEBP)
    (folder / "d.webp").unlink()
    assert [record.query for record, _ in read_explanations(tmp_path)] == ["hen/a"]


def test_runs_that_left_word_of_their_failure_are_named(tmp_path):
    for name, file, content in (
        ("a", "failed.json", {"problem": "no room on the disk"}),
        ("b", "non_finite.json", {"epoch": 2, "step": 7}),
    ):
        results.write_provenance(tmp_path / name, results.collect_provenance("hcl train"))
        (tmp_path / name / file).write_text(json.dumps(content))
    page = page_of(results.load(tmp_path), tmp_path / "r")
    assert "2 trials or runs failed" in page.text
    assert "no room on the disk" in page.text and "epoch 2, step 7" in page.text


@pytest.mark.parametrize("printed", [True, False])
def test_printed_figures_stand_beside_ours_on_the_same_split(tmp_path, evaluation, printed):
    dataset = "ssv2_100_otam" if printed else "plain"
    results.write_evaluation(tmp_path / "r", evaluation(dataset=dataset))
    page = page_of(results.load(tmp_path / "r"), tmp_path / "report")
    assert ("HCL (released checkpoint) †‡, published" in page.text) == printed
    assert ("README of github.com/zhengsipeng/HCL-FSAR" in page.text) == printed


def test_a_caution_stands_below_the_heading(full, tmp_path):
    page = write_report(full, tmp_path / "a.html", caution="<b>not</b> for quoting").read_text()
    assert '<p class="alert">&lt;b&gt;not&lt;/b&gt; for quoting</p>' in page
    assert "for quoting" not in write_report(full, tmp_path / "b.html").read_text()
