"""From the scores of a cell's episodes to what is kept of them: answers, figures and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import results
from hcl.clips.episode_files import EpisodeList
from orchestration.storage.record_files import write_evaluation, write_outcomes


def outcomes_of(scores: np.ndarray, asked: EpisodeList, class_names: Sequence[str]) -> results.Outcomes:
    """Each query's best class; of equal ones the first.

    Args:
        scores: (episode, query, way), the queries class by class.
        class_names: of the partition, in the order of `asked.episodes.classes`.
    """
    episodes = asked.episodes
    answers = scores.argmax(axis=-1).reshape(episodes.query.shape).astype(np.uint8)
    questions = results.Questions(
        asked.digest(), tuple(class_names), episodes.classes, episodes.support, episodes.query
    )
    return results.Outcomes(questions, answers)


def figures_of(outcomes: results.Outcomes) -> dict[str, Any]:
    """The accuracy and its intervals, as an evaluation record has them."""
    each, questions = outcomes.accuracies, outcomes.questions
    accuracy, ci95 = results.mean_and_ci95(each)
    classes = results.over_classes(each, questions.classes)
    videos = results.over_videos(outcomes.right, questions.classes, questions.support, questions.query)
    return {
        "accuracy": accuracy,
        "ci95": ci95,
        "accuracy_std": float(each.std(ddof=1)) if len(each) > 1 else None,
        "ci95_classes": classes.half_width if classes else None,
        "ci95_videos": videos.half_width if videos else None,
    }


def write(folder: Path, record: results.EvaluationRecord, outcomes: results.Outcomes) -> None:
    """Write a record and the answers behind it. The answers go first: a record that is found has them."""
    write_outcomes(results.evaluation_file(folder, record), outcomes)
    write_evaluation(folder, record)
