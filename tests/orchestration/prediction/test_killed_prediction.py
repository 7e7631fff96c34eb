"""Test kill -9 of `hcl predict` after any answer: a repeated command does only the missing queries.

`make test-long` runs it. The command runs in a process of its own with a Ray of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.orchestration.extraction.test_killed_extraction import Run
from tests.orchestration.prediction.conftest import MakeRun, write_video
from tests.orchestration.prediction.test_predict import asked, place, scores_of

pytestmark = [pytest.mark.ray, pytest.mark.long]

N_QUERIES = 400
PREDICT = (
    "from orchestration.cli import main; sys.argv = ['hcl', 'predict', 'tiny', '--support', sys.argv[1] + '/support', "
    "'--query', sys.argv[1] + '/queries', '--runs', sys.argv[1] + '/runs', '--no-calibration', '--pictures', '0', "
    "'--data', sys.argv[1] + '/data', '--to', sys.argv[1] + '/results']; main()"
)


def test_a_killed_command_does_what_is_missing(
    make_run: MakeRun, video_root: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from orchestration.prediction.predict import predict

    folder, experiment = make_run()
    support, queries = place(video_root, tmp_path)
    (tmp_path / "data").symlink_to(video_root)
    rng = np.random.default_rng(0)
    for index in range(N_QUERIES):
        write_video(queries / f"more-{index}.avi", index % 200, rng)
    command = Run(tmp_path, PREDICT)

    def n_lines() -> int:
        files = list(folder.parent.glob("cache/predictions/*/answers.jsonl"))
        return files[0].read_bytes().count(b"\n") if files else 0

    assert command.wait_until(lambda: n_lines() > 20)
    command.kill("ray")
    n_kept = n_lines()
    assert 20 < n_kept < N_QUERIES, f"{sys.executable} was not killed in time"
    request.getfixturevalue("local_ray")
    work = asked(folder, experiment, video_root, support, queries)
    found = predict(work)
    assert found.n_new == len(work.queries) - n_kept
    assert not [outcome for outcome in found.outcomes if "reason" in outcome]
    request.getfixturevalue("inline")
    (lines,) = folder.parent.glob("cache/predictions/*/answers.jsonl")
    lines.unlink()
    np.testing.assert_allclose(scores_of(predict(work)), scores_of(found), rtol=1e-4, atol=1e-5)
