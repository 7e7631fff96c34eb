"""Train and evaluate on a vision transformer of timm, with frozen stages whose tokens are cached, and its weights from
a file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.assembly.models import trained_model
from hcl.config.resolve import override, resolve
from hcl.errors import CheckpointError
from hcl.frames.stored_dataset import DataRoot
from hcl.models.checkpoint import file_digest, load_checkpoint
from hcl.models.inference import for_inference
from hcl.models.tuning import LowRank
from orchestration.training.grids import ensure_grids
from orchestration.training.memory import estimate_memory
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, LAST
from orchestration.training.train import train
from orchestration.training.worker import run_epochs
from tests.architecture.pages import ROOT
from tests.orchestration.conftest import Command, prepare, tiny_experiment

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
@pytest.mark.long
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
    assert torch.equal(states[0][f"{body}.2.blocks.0.mlp.fc1.weight"], initial.blocks[1].mlp.fc1.weight)  # frozen
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


def test_the_memory_on_the_page_is_that_of_a_dry_run(tmp_path: Path) -> None:
    page = (ROOT / "hcl" / "models" / "VIT.md").read_text()
    rows = re.findall(r"^\| (.*) \| ([\d.]+) GB \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for settings, memory in rows:
        changes = re.findall(r"`(\w+\.\w+=\w+)`", settings)
        experiment = resolve("vit_small", changes).experiment
        estimate = estimate_memory(Run(experiment, DataRoot(tmp_path), tmp_path, tmp_path / "run"), 64)
        assert f"{estimate.peak / 1e9:.1f}" == memory, settings


LORA: dict[str, Any] = {"model__frozen_stages": 2, "model__tune": "lora", "model__tune_rank": 4}


def lora_run(data_root: Path, weights: Path, runs: Path, **changes: Any) -> Run:
    experiment = tiny_experiment(**VIT | LORA | changes, model__weights=str(weights))
    return prepare(experiment, data_root=data_root, runs=runs)


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_with_low_rank_updates_is_resumed_and_evaluated(
    local_ray: ModuleType, data_root: Path, weights: Path, tmp_path: Path, hcl: Command
) -> None:
    whole = lora_run(data_root, weights, tmp_path / "whole")
    ensure_grids(whole.grid_jobs(), whole.runs)
    run_epochs(whole)
    assert [job.clip_shape() for job in whole.grid_jobs()] == [(4, 64, 10, 1)] * 2

    halted = lora_run(data_root, weights, tmp_path / "halted")
    shutil.copytree(whole.runs / "cache", halted.runs / "cache")
    run_epochs(halted, on_epoch=lambda row: True)  # the first epoch
    assert load_checkpoint(halted.folder / LAST)["epoch"] == 1
    run_epochs(halted)
    first, other = (load_checkpoint(run.folder / LAST) for run in (whole, halted))
    assert first["epoch"] == other["epoch"] == 2 and first["base"] == other["base"]
    assert all(torch.equal(other["model"][name], value) for name, value in first["model"].items())

    learnt = {name for name in first["model"] if name.startswith("backbone.")}
    assert learnt == {
        f"backbone.body.{group}.blocks.{block}.attn.{layer}.{end}.weight"
        for group, blocks in ((2, 2), (3, 1), (4, 2))
        for block in range(blocks)
        for layer in ("qkv", "proj")
        for end in ("down", "up")
    }
    assert any(first["model"][name].abs().max() > 0 for name in learnt if name.endswith("up.weight"))

    outcome = hcl("evaluate", whole.folder, "--data", data_root, "--runs", whole.runs)
    assert outcome.code == 0, outcome.err
    trained = trained_model(whole.experiment, whole.folder / BEST)
    fast = for_inference(trained)
    assert not [module for module in fast.modules() if isinstance(module, LowRank)]
    frames = torch.randint(0, 256, (1, 4, 3, 48, 48), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(fast(frames)[1], trained(frames)[1], rtol=1e-4, atol=1e-5)
    torch.manual_seed(4)
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "other.pth")
    elsewhere = override(whole.experiment, {"model.weights": str(tmp_path / "other.pth")})
    with pytest.raises(CheckpointError, match="other weights of the backbone"):
        trained_model(elsewhere, whole.folder / BEST)
