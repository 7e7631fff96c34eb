"""Train and evaluate on a vision transformer of timm, with frozen stages whose tokens are cached, and its weights from
a file."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.frames.stored_dataset import DataRoot
from hcl.models.checkpoint import file_digest, load_checkpoint
from orchestration.training.run import Run
from orchestration.training.run_files import LAST
from orchestration.training.train import train
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import Command, tiny_experiment

timm = pytest.importorskip("timm", reason="the extra `vit` is not installed")

VIT: dict[str, Any] = {
    "model__backbone": "timm:test_vit",
    "model__train_backbone": True,
    "model__frozen_stages": 3,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.manual_seed(3)
    torch.save(timm.create_model("test_vit").state_dict(), path)
    return path


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_train_on_cached_tokens_like_one_and_are_evaluated(
    local_ray: ModuleType, data_root: Path, weights: Path, tmp_path: Path, hcl: Command
) -> None:
    experiment = tiny_experiment(**VIT, model__weights=str(weights), train__workers=2)
    run = train(experiment, data=DataRoot(data_root), runs=tmp_path / "runs", command="hcl train vit")
    assert results.read_provenance(run.folder).digests["weights"] == file_digest(weights)
    jobs = run.grid_jobs()
    assert [job.clip_shape() for job in jobs] == [(4, 64, 10, 1)] * 2
    assert [job.store(run.runs).read(0).shape for job in jobs] == [(4, 64, 10, 1)] * 2
    alone = Run(tiny_experiment(**VIT, model__weights=str(weights)), DataRoot(data_root), run.runs, tmp_path / "alone")
    run_epochs(alone)
    assert alone.experiment.digest() == run.experiment.digest()
    states = [load_checkpoint(one.folder / LAST)["model"] for one in (run, alone)]
    for name, value in states[0].items():
        torch.testing.assert_close(
            states[1][name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: name + text
        )
    initial = timm.create_model("test_vit", pretrained=True, pretrained_cfg_overlay={"file": str(weights)})
    body = "backbone.body"
    assert torch.equal(states[0][f"{body}.2.blocks.0.mlp.fc1.weight"], initial.blocks[2].mlp.fc1.weight)  # frozen
    assert not torch.equal(states[0][f"{body}.3.blocks.0.mlp.fc1.weight"], initial.blocks[3].mlp.fc1.weight)
    outcome = hcl("evaluate", run.folder, "--data", data_root, "--runs", run.runs, "--method", "hcl")
    assert outcome.code == 0, outcome.err
    assert set(results.load(run.folder).evaluations["shot"]) == {1, 3}


def test_a_dry_run_names_the_memory(data_root: Path, weights: Path, tmp_path: Path, hcl: Command) -> None:
    file = tmp_path / "vit.yaml"
    file.write_text(to_yaml(tiny_experiment(**VIT, model__weights=str(weights))))
    outcome = hcl("train", file, "--data", data_root, "--dry-run")
    assert outcome.code == 0 and "memory" in outcome.out, outcome.err
    weights_gone = hcl("train", file, "--data", data_root, "--dry-run", "--set", "model.weights=gone.safetensors")
    assert weights_gone.code == 1 and "no such file" in weights_gone.err
