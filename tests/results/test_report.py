"""The page is whole by itself, shows names as text, and asks nobody for anything."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

import results
from results.charts import label_text
from results.report import write_report
from tests.results.conftest import HOSTILE


class Page(HTMLParser):
    """Elements with their attributes, the text outside scripts, and the scripts' texts."""

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

    def handle_endtag(self, tag):
        self.inside = None if tag == self.inside else self.inside

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside is None:
            self.text += data

    def figures(self):
        (index,) = [
            i
            for i, (_, attrs) in enumerate(e for e in self.elements if e[0] == "script")
            if attrs.get("id") == "figures"
        ]
        return json.loads(self.scripts[index])


@pytest.fixture
def full(tmp_path, evaluation, sweep, trials):
    for name in ("first", "second"):
        run = tmp_path / "runs" / name
        results.write_provenance(
            run, results.finished(results.collect_provenance("hcl train x.yaml", seeds={"experiment": 5}))
        )
        (run / "experiment.yaml").write_text("name: x\n")
        for epoch in range(3):
            results.append_epoch(
                run, {"epoch": epoch, "loss.total": 2.0, "loss.global": 1.0, "val.accuracy": 0.1 * epoch}
            )
    for method in ("hcl", "prototype"):
        for dataset in ("plain", "dim"):
            for shot in (1, 5):
                record = evaluation(run="first", method=method, dataset=dataset, shot=shot, levels={"global": 0.25})
                results.write_evaluation(tmp_path / "runs" / "first", record)
    results.write_sweep(tmp_path / "runs" / "sigma", sweep, trials)
    return results.load(tmp_path / "runs")


def test_page_holds_every_part(full, tmp_path):
    path = write_report(full, tmp_path / "report", title="Five domains")
    page = Page(path.read_text())
    assert path == tmp_path / "report" / "index.html"
    assert [child.name for child in path.parent.iterdir()] == ["index.html"]
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    assert {"accuracy", "confidence", "learning", "sweeps", "runs"} <= ids and "skipped" not in ids
    expected = [
        "Five domains",
        "47.7 ± 0.9",
        "hcl train x.yaml",
        "experiment 5",
        "loss is not finite",
        "at most 0.9 points",
        "compared in 4 cells; in 4 of them",
        "2 runs, 8 evaluation records, 1 sweep, 4 trials",
    ]
    for said in expected:
        assert said in page.text
    figures = page.figures()
    assert len(figures) == len([i for i in ids if i.startswith("figure-")]) == 6
    assert [trace["name"] for trace in figures[0]["data"] if trace.get("showlegend")] == ["hcl", "prototype"]
    assert [trace["name"] for trace in figures[2]["data"]] == ["loss.total", "loss.global", "val.accuracy"]


def test_destination_may_be_a_file(full, tmp_path):
    assert write_report(full, tmp_path / "page.html") == tmp_path / "page.html"


def test_hostile_names_are_shown_as_text(hostile_results, tmp_path):
    page = Page(write_report(hostile_results, tmp_path, title=HOSTILE[0]).read_text())
    for name in HOSTILE:
        assert name in page.text
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "i", "b", "u", "iframe", "link", "object"}
    assert len(page.scripts) == 3
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]


def test_page_asks_nobody_for_anything(hostile_results, full, tmp_path):
    for found in (hostile_results, full):
        html = write_report(found, tmp_path / "r").read_text()
        page = Page(html)
        addresses = [
            v
            for _, attrs in page.elements
            for k, v in attrs.items()
            if k in ("src", "href", "srcset", "action", "data")
        ]
        assert addresses and all(address.startswith("#") for address in addresses)
        policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
        assert "default-src 'none'" in policy
        styles = "".join(re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL))
        assert "url(" not in styles and "@import" not in styles


def test_names_in_figures_have_no_markup_left(hostile_results, tmp_path):
    page = Page(write_report(hostile_results, tmp_path).read_text())
    texts = []

    def collect(node, key=""):
        if isinstance(node, dict):
            for name, value in node.items():
                collect(value, name)
        elif isinstance(node, list):
            for value in node:
                collect(value, key)
        elif isinstance(node, str) and key != "hovertemplate":
            texts.append(node)

    collect(page.figures())
    assert any("&lt;script&gt;" in text for text in texts)
    assert not [text for text in texts if "<" in text]
    assert max(map(len, texts)) < 150


@pytest.mark.parametrize("name", HOSTILE)
def test_labels_are_short_plain_and_on_one_line(name):
    label = label_text(name)
    assert "<" not in label and "\n" not in label and "\u202e" not in label
    assert len(label) < 120


def test_skipped_files_are_listed(hostile_results, tmp_path):
    page = Page(write_report(hostile_results, tmp_path).read_text())
    assert "<u>broken.json" in page.text and "is not JSON" in page.text


def test_an_empty_store_still_makes_a_page(tmp_path):
    (tmp_path / "run" / "evaluation").mkdir(parents=True)
    page = Page(write_report(results.load(tmp_path / "run"), tmp_path).read_text())
    assert "1 run ·" in page.text and "Accuracy" not in page.text and page.scripts == []


def test_a_running_sweep_and_a_single_episode_make_a_page(tmp_path, evaluation, sweep):
    pending = [results.TrialRecord(trial="t0", params={"loss.sigma_ce": 0.5}, value=None, state="running")]
    results.write_sweep(tmp_path / "s", sweep, pending)
    (tmp_path / "s" / "sweep.json").unlink()
    results.write_evaluation(tmp_path / "r", evaluation(ci95=None, episodes=1, n_classes=None))
    page = Page(write_report(results.load(tmp_path), tmp_path / "report").read_text())
    assert "1 running" in page.text and "47.7" in page.text and len(page.figures()) == 1
