"""Test the settings in a report: those that differ from their defaults, with their meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcl.assembly.experiment_files import to_yaml
from hcl.config.resolve import override, resolve
from hcl.errors import ConfigError
from hcl.frames.stored_dataset import DataRoot
from orchestration.reports.report import changed_settings, make_report
from orchestration.sweeps.study import Limits, Study
from search_spaces import load_space


def test_only_what_differs_from_the_defaults_is_told(tmp_path: Path) -> None:
    changes = {"name": "mine", "train.epochs": 3, "evaluation.shots": [1, 2], "model.dim_feedforward": 64}
    (tmp_path / "experiment.yaml").write_text(to_yaml(override(resolve(None).experiment, changes)))
    by_path = {setting.path: setting for setting in changed_settings(tmp_path) or []}
    assert set(by_path) == {"train.epochs", "evaluation.shots", "model.dim_feedforward"}
    assert by_path["train.epochs"].value == "3 epochs" and by_path["train.epochs"].meaning
    assert by_path["evaluation.shots"].value.startswith("1, 2")
    assert by_path["model.dim_feedforward"].default == "none"


def test_settings_that_cannot_be_read_are_not_guessed(tmp_path: Path) -> None:
    assert changed_settings(tmp_path) is None
    (tmp_path / "experiment.yaml").write_text("train: {epochs: many}\n")
    assert changed_settings(tmp_path) is None


@pytest.mark.parametrize(("workers", "gpus"), [(1, 0.25), (3, 3.0)])
def test_a_trial_of_one_worker_holds_its_share_of_a_gpu(tmp_path: Path, workers: int, gpus: float) -> None:
    experiment = override(resolve(None).experiment, {"train.use_gpu": True, "train.workers": workers})
    study = Study(experiment, load_space("sigma"), DataRoot(tmp_path), tmp_path, 1, limits=Limits(gpu_share=0.25))
    assert study.trial_resources() == {"workers": workers, "cpus": workers, "gpus": gpus}


@pytest.mark.parametrize("name", ["index.html", "results.md", "evaluations.csv"])
def test_a_page_replaces_what_a_page_has_made_and_nothing_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.yaml").write_text("name: run\n")
    to = tmp_path / "site"
    to.mkdir()
    (to / name).write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match=f"holds {name}, which `hcl report` did not make"):
        make_report([tmp_path / "run"], to)
    assert [path.name for path in to.iterdir()] == [name] and (to / name).read_text() == "<html>mine</html>"
    (to / name).unlink()
    for _ in range(2):
        make_report([tmp_path / "run"], to)
    assert (to / name).stat().st_size > 20
