"""Test scales, panels and charts: places, ticks, and escaped names."""

from __future__ import annotations

import re
import xml.dom.minidom

import pandas as pd
import pytest

import results
from results.page import charts, sweep_charts
from results.page.panels import Panel, Style, escaped, shade
from results.page.scales import Scale, categories, fitting, linear, spelled, whole
from results.tables.cells import MARKED
from tests.results.conftest import HOSTILE


def test_places_run_from_end_to_end():
    assert [Scale(2, 6).at(value) for value in (2, 3, 6)] == [0, 0.25, 1]
    assert Scale(1, 100, is_log=True).at(10) == pytest.approx(0.5)
    assert categories(["a", "b", "c"]).at(1) == 0.5


@pytest.mark.parametrize(
    ("scale", "labels"),
    [
        (Scale(0, 1), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (Scale(38, 64), ["40", "50", "60"]),
        (Scale(-0.02, 0.31), ["0", "0.1", "0.2", "0.3"]),
        (Scale(1e-5, 1e-1, is_log=True), ["1e-5", "1e-4", "0.001", "0.01", "0.1"]),
        (Scale(0.5, 20, is_log=True), ["1", "3", "10"]),
        (whole([1, 5]), ["1", "2", "3", "4", "5"]),
        (whole([0, 100]), ["0", "20", "40", "60", "80", "100"]),
        (whole([3]), ["3"]),
    ],
)
def test_ticks_are_round(scale, labels):
    assert [label for _, label in scale.ticks()] == labels


def test_an_axis_holds_its_values_whatever_they_are():
    for values in ([], [3.0], [0.0, 0.0], [float("nan"), 2.0], [-1e9, 1e9], [1e-12, 2e-12]):
        scale = linear(values)
        assert scale.low < scale.high
        assert len(scale.ticks()) <= 12
        assert all(0 <= scale.at(value) <= 1 for value in values if value == value)


def test_a_parameter_gets_the_axis_that_suits_it():
    assert fitting([1e-5, 1e-2])[0].is_log and not fitting([1e-5, 1e-2], is_log=False)[0].is_log
    assert not fitting([0.0, 5.0], is_log=True)[0].is_log  # zero has no logarithm
    scale, places = fitting(["b", "a", "b"])
    assert scale.names == ("a", "b") and places == [1, 0, 1]
    assert fitting([True, False])[0].names == ("False", "True")
    scale, places = fitting([f"name {index:02d}" for index in range(30)])
    assert len(scale.names) == 12 and scale.names[-1] == "others" and max(places) == 11


def test_numbers_are_short():
    assert [spelled(value) for value in (0, 0.25, 12_500, 1e-5, 3e9)] == ["0", "0.25", "12,500", "1e-5", "3e9"]


def test_marks_stand_at_their_places():
    panel = Panel(Scale(0, 10), Scale(0, 1), "x", width=200, height=100, margins=(20, 10, 20, 10))
    panel.mark((5, 0.5), "c0")
    assert 'cx="100.0" cy="50.0"' in panel.svg()
    panel.y_first = True
    assert panel.place((0, 1)) == ("20.0", "90.0")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_leave_their_attribute_or_element(name):
    panel = Panel(categories([name, "b"]), categories([name]), name, title=name, x_title=name, y_title=name)
    panel.mark((0, 0), "c0", tip=name)
    panel.text((0, 0), name)
    drawn = xml.dom.minidom.parseString(str(panel.svg()))
    assert {node.tagName for node in drawn.getElementsByTagName("*")} <= {"svg", "path", "text", "circle"}
    assert not re.search(r"[\u202e\n]", str(panel.svg()))
    assert len(escaped(name)) < 200 and '"' not in escaped(name)


def test_series_differ_by_colour_then_by_line():
    looks = [Style(index).classes for index in range(16)]
    assert len(set(looks)) == 16 and looks[0] == "c0 d0" and looks[8] == "c0 d1"
    assert [shade(share) for share in (0, 0.5, 1)] == ["q0", "q3", "q6"]


def test_lines_of_accuracy_are_ordered_by_it_and_share_their_axis(tmp_path, evaluation):
    for index, (method, dataset) in enumerate((m, d) for m in ("poor", "good") for d in ("a", "b")):
        record = evaluation(method=method, dataset=dataset, accuracy=0.2 * (index + 1), ci95_classes=0.1)
        results.write_evaluation(tmp_path / "r", record)
    chart = charts.accuracy_chart(results.load(tmp_path / "r").evaluations)
    assert [key.label for key in chart.legend] == ["good", "poor"]
    assert [panel.title for panel in chart.panels] == ["a test", "b test"]
    assert chart.panels[0].y == chart.panels[1].y
    assert chart.panels[0].y.low < 10 and chart.panels[0].y.high >= 90  # the intervals over classes lie within


def test_printed_figures_are_drawn_where_way_and_split_are_ours(tmp_path, evaluation):
    results.write_evaluation(tmp_path / "r", evaluation(dataset="mine"))
    evaluations = results.load(tmp_path / "r").evaluations
    theirs = {"method": "X", "shot": 1, "accuracy": 0.9, "source": "a page"}
    marks = dict.fromkeys(MARKED)
    printed = pd.DataFrame([{**theirs, "dataset": "mine", "way": way, **marks} for way in (5, 20)])
    chart = charts.accuracy_chart(evaluations, printed)
    assert [key.label for key in chart.legend] == ["hcl", "X, published"]
    assert str(chart.panels[0].svg()).count("X, published, 1-shot: 90.00%") == 1
    assert chart.notes[-1] == "Published: X: a page."


def test_a_study_of_two_objectives_has_a_front(tmp_path, sweep):
    trials = [
        results.TrialRecord(trial=f"t{i}", params={"a": i, "b": i % 2}, value=v, values={"accuracy": v, "seconds": s})
        for i, (v, s) in enumerate([(0.5, 10.0), (0.6, 30.0), (0.4, 20.0)])
    ]
    record = {**vars(sweep), "pareto": ["t0", "t1"], "importances": {"a": 0.75, "b": 0.25}}
    record["space"] = {"objective": {"metric": "accuracy", "mode": "max"}}
    record["space"]["trade_offs"] = [{"metric": "seconds", "mode": "min"}]
    results.write_sweep(tmp_path / "s", results.SweepRecord(**record), trials)
    loaded = results.load(tmp_path / "s")
    by_title = {c.title: c for c in sweep_charts.sweep_charts(loaded.sweeps.to_dict("records")[0], loaded.trials)}
    front = by_title["Pareto front"]
    assert front.notes == ["accuracy: more is better.", "seconds: less is better."]
    assert str(front.panels[0].svg()).count('class="mark c1') == 2
    assert "first is a with 75%" in by_title["Importance of parameters"].panels[0].description
    assert [panel.title for panel in by_title["val.accuracy against each parameter"].panels] == ["a", "b"]
    assert sweep_charts.tips(loaded.trials)[1] == "t1: val.accuracy 0.6\naccuracy 0.6\nseconds 30\na 1\nb 1"
