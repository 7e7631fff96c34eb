"""Tell what answering questions takes before it starts: `hcl evaluate --dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from orchestration.evaluation.questions import Question


class Work(NamedTuple):
    """Hold the work that answering the questions of one cell takes; `feature_bytes` are those of all its clips."""

    method: str
    dataset: str
    partition: str
    clips: int
    views: int
    views_to_encode: int
    feature_bytes: int
    pairs_to_score: int
    episodes: int

    def text(self) -> str:
        """Return the work in a line."""
        return (
            f"{self.method} on {self.dataset} {self.partition}: {self.clips:,} clips x {self.views} view(s), "
            f"{self.views_to_encode:,} to encode ({self.feature_bytes / 1e9:.2f} GB of features), "
            f"{self.pairs_to_score:,} pairs to score, {self.episodes:,} episodes to answer; nothing was started"
        )


def plan(questions: Sequence[Question], runs: Path) -> list[Work]:
    """Return the work that answering takes, cell by cell."""
    works = []
    for cell in dict.fromkeys(question.cell for question in questions):
        of_cell = [question for question in questions if question.cell == cell]
        pairwise, n_pairs = any(not question.reason() for question in of_cell), 0
        if pairwise:
            n_pairs = sum(tile.n_pairs for tile in cell.table(Path(runs).absolute()).missing()) * cell.views
        is_encoded = n_pairs == 0 and all(not question.reason() for question in of_cell)
        missing = [] if is_encoded else cell.features(Path(runs).absolute()).missing()
        works.append(
            Work(
                cell.method,
                cell.partition.dataset,
                cell.partition.name,
                cell.n_clips,
                cell.views,
                sum(stop - start for start, stop in missing) * cell.views,
                cell.feature_bytes(),
                n_pairs,
                sum(len(question.asked.episodes) for question in of_cell),
            )
        )
    return works
