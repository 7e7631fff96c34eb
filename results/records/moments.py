"""Moments as records have them, ISO times, and how long things take, in numbers and in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any


def seconds_between(started: Any, finished: Any) -> float | None:
    """Return the seconds between two ISO times; None where one is missing or written by hand."""
    try:
        return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return None


def milliseconds(moment: str) -> int | None:
    """Return the milliseconds since 1970 of an ISO time; None of anything else."""
    try:
        return int(datetime.fromisoformat(moment).timestamp() * 1000)
    except ValueError:
        return None


def shown_moment(moment: str) -> str:
    """Return an ISO time as people write it, and anything else as it is."""
    try:
        return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return moment


def duration(seconds: float) -> str:
    """Return a duration in words: `90 s`, `4.5 min`, `45 min`, `3.5 h`, `4.2 days`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
