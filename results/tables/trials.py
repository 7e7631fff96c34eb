"""State by how much a study's best trial leads the second, which says how far its choice can be relied on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from results.tables.accuracy import number


class TrialLead(NamedTuple):
    """Hold the second-best trial of a study, and the lead of the best over it.

    Attributes:
        lead: difference of the objective, 0 or more, in its own unit.
    """

    second: str
    lead: float


def lead_of_best(values: Mapping[str, float], mode: str = "max") -> TrialLead | None:
    """Return the second-best trial and the best one's lead over it; None for fewer than two trials.

    Args:
        values: the objective by trial, in order of the trials: the first of equal ones is better.
        mode: `max` or `min`.
    """
    if len(values) < 2:
        return None
    sign = -1 if mode == "max" else 1
    best, second = sorted(values, key=lambda trial: sign * values[trial])[:2]
    return TrialLead(second, abs(values[best] - values[second]))


def lead_text(lead: TrialLead, objective: str) -> str:
    """Return one sentence about a lead; accuracies are in points of percent."""
    amount = f"{100 * lead.lead:.1f} points" if "accuracy" in objective else number(lead.lead)
    return f"It leads the second, {lead.second}, by {amount}; in the study, each was trained with one seed."
