"""Moments and durations, as every command and page reads and prints them."""

from __future__ import annotations

import pytest

from results.records.moments import duration, milliseconds, seconds_between, shown_moment


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (90, "90 s"),
        (119.4, "119 s"),
        (120, "2.0 min"),
        (270, "4.5 min"),
        (2700, "45 min"),
        (12_600, "3.5 h"),
        (363_000, "4.2 days"),
    ],
)
def test_a_duration_has_one_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_moments_are_read_or_passed_over() -> None:
    began, ended = "2026-01-01T00:00:00+00:00", "2026-01-01T01:00:30+00:00"
    assert seconds_between(began, ended) == 3630
    assert milliseconds(ended) == 1_767_229_230_000
    assert shown_moment(ended) == "2026-01-01 01:00 UTC"
    for other in ("", "soon"):
        assert seconds_between(began, other) is None and milliseconds(other) is None and shown_moment(other) == other
    assert seconds_between(None, float("nan")) is None
