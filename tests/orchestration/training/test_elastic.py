"""Test roles of nodes, the number of workers that fit, and runs that resume with another number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from pydantic import ValidationError
from ray.exceptions import RayActorError

from hcl.assembly.experiment_files import to_yaml
from hcl.config import Train
from hcl.errors import ClusterError, StorageError
from hcl.frames.stored_dataset import DataRoot
from hcl.models.checkpoint import load_checkpoint
from orchestration.runtime import roles
from orchestration.runtime.connect import n_workers_available
from orchestration.sweeps import concurrency
from orchestration.training import elastic, ray_train
from orchestration.training.run import Run
from orchestration.training.run_files import LAST
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import TWO, tiny_experiment
from tests.orchestration.sweeps.test_sweep import FLOAT, space_of, study_of
from tests.orchestration.training.test_train import untimed


def have(
    monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float], free: Sequence[dict[str, float]] | None = None
) -> None:
    """Pretend that the cluster has these living nodes with these free resources, and a dead one."""
    alive = [{"Alive": True, "NodeID": str(index), "Resources": resources} for index, resources in enumerate(nodes)]
    dead = {"Alive": False, "NodeID": "dead", "Resources": {"CPU": 1000.0, "train": 1.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [*alive, dead])
    left = {str(index): resources for index, resources in enumerate(nodes if free is None else free)}
    monkeypatch.setattr(roles, "available_by_node", lambda: left)
    total: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.items():
            total[name] = total.get(name, 0.0) + amount
    monkeypatch.setattr(ray, "cluster_resources", lambda: total)


HEAD: dict[str, float] = {"CPU": 0.0, "trial_driver": 64.0}
GPU: dict[str, float] = {"CPU": 16.0, "GPU": 4.0, "encode": 1.0, "train": 1.0}
CPU: dict[str, float] = {"CPU": 32.0, "decode": 1.0}


def test_work_goes_to_the_nodes_that_are_marked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, HEAD, GPU, GPU, CPU)
    assert roles.mark("train") == {"train": 0.001}
    assert roles.nodes_for("train") == [{"CPU": 16.0, "GPU": 4.0}] * 2
    assert roles.nodes_for("decode") == [{"CPU": 32.0, "GPU": 0.0}]
    have(monkeypatch, HEAD, {"CPU": 4.0}, {"CPU": 2.0})
    assert roles.mark("decode") == {} and [node["CPU"] for node in roles.nodes_for("decode")] == [0.0, 4.0, 2.0]
    have(monkeypatch, HEAD, GPU, GPU, CPU, free=({}, {"CPU": 3.0, "GPU": 1.0}, {"GPU": 4.0}, {"CPU": 20.0}))
    assert roles.free_for("train") == [{"CPU": 3.0, "GPU": 1.0}, {"CPU": 0.0, "GPU": 4.0}]
    assert (n_workers_available("encode"), n_workers_available("encode", use_gpu=True)) == (3, 1)
    assert n_workers_available("decode") == 20


def test_a_cluster_that_is_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, HEAD)
    monkeypatch.setattr(roles.time, "sleep", lambda _: have(monkeypatch, HEAD, GPU))
    roles.wait_for_nodes("train")
    monkeypatch.setattr(roles.time, "sleep", lambda _: None)
    have(monkeypatch, HEAD)
    with pytest.raises(ClusterError, match="no node with CPUs has joined within 0.01 s; there are 1 nodes"):
        roles.wait_for_nodes("train", patience_s=0.01)
    have(monkeypatch, HEAD, CPU)
    with pytest.raises(ClusterError, match="no node with GPUs has joined within 0.01 s; there are 2 nodes"):
        roles.wait_for_nodes("train", use_gpu=True, patience_s=0.01)
    have(monkeypatch, {"CPU": 2.0})
    roles.wait_for_nodes("train")
    with pytest.raises(ClusterError, match="train.use_gpu: this machine has no GPU"):  # at once
        roles.wait_for_nodes("train", use_gpu=True)


def test_workers_are_counted_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, HEAD, {"CPU": 5.0}, {"CPU": 5.0})
    assert elastic.n_that_fit(Train(workers=4, cpus_per_worker=3)) == 2
    have(monkeypatch, HEAD, GPU, CPU)
    assert elastic.n_that_fit(Train(workers=8, use_gpu=True, cpus_per_worker=6)) == 2
    assert elastic.worker_resources(Train(use_gpu=True, cpus_per_worker=6)) == {"CPU": 6.0, "GPU": 1.0, "train": 0.001}


def test_fewer_workers_share_a_batch_evenly_and_are_no_fewer_than_allowed() -> None:
    assert Train(workers=8, min_workers=2).worker_counts == (8, 6, 4, 3, 2)  # of 24 classes
    assert Train(workers=8).worker_counts == (8,)
    episodic = Train(regime="protonet", episodes_per_step=4, workers=4, min_workers=1)
    assert episodic.worker_counts == (4, 2, 1)
    with pytest.raises(ValidationError, match="min_workers=3 is more than workers=2"):
        Train(workers=2, min_workers=3)


def test_the_next_number_of_workers_is_the_largest_with_room_that_has_not_failed() -> None:
    counts = (8, 4, 2)
    assert elastic.next_count(counts, 9, {}) == 8
    assert elastic.next_count(counts, 7, {8: 1}) == 4
    assert elastic.next_count(counts, 8, {8: 1}) == 4  # eight fit, but did not start
    assert elastic.next_count(counts, 0, {8: 1}) == 2  # a node may join
    assert elastic.next_count(counts, 1, {2: 2}) == 2
    assert elastic.next_count(counts, 1, {2: 3}) is None
    assert elastic.next_count((3,), 0, {}) == 3


def test_more_workers_are_wanted_once_there_is_room_for_the_next_number(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Train(workers=8, min_workers=2, cpus_per_worker=2)
    have(monkeypatch, {"CPU": 16.0}, free=[{"CPU": 2.0}])
    assert elastic.could_be_more(settings, 3)  # four
    assert not elastic.could_be_more(settings, 4)  # six need two more
    assert not elastic.could_be_more(settings, 8)
    have(monkeypatch, *[{"CPU": 16.0}] * 4, free=[{"CPU": 1.0}] * 4)
    assert not elastic.could_be_more(settings, 3)  # no node has room for a worker


def test_trials_are_counted_by_node(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, *[{"CPU": 16.0, "GPU": 8.0}] * 5)
    space = space_of(loss__sigma_ce=FLOAT)
    two = study_of(data_root, tmp_path, space, 4, train__workers=2, train__cpus_per_worker=5, train__use_gpu=True)
    assert concurrency.room_for(two) == 7  # three workers a node
    study = study_of(data_root, tmp_path, space, 4, train__use_gpu=True)
    assert concurrency.room_for(replace(study, limits=replace(study.limits, gpu_share=0.4))) == 80  # 16 CPUs, two a GPU
    assert concurrency.room_for(replace(study, limits=replace(study.limits, gpu_share=0.6))) == 40
    have(monkeypatch, {"CPU": 16.0, "GPU": 8.0})
    many = study_of(data_root, tmp_path, space, 4, train__workers=4, train__cpus_per_worker=5, train__use_gpu=True)
    with pytest.raises(
        ClusterError, match="a trial needs 4 workers of 5 CPUs and 1 GPUs, and 3 fit on the nodes that train"
    ):
        concurrency.room_for(many)


@pytest.mark.ray
@pytest.mark.long
def test_a_run_that_began_with_one_worker_takes_a_second_and_ends_with_the_same_weights(
    trained: Run, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter((1, 2))
    monkeypatch.setattr(ray_train, "first_count", lambda settings: next(counts))
    began: list[int] = []
    make = ray_train._trainer
    monkeypatch.setattr(ray_train, "_trainer", lambda run, n, *rest: began.append(n) or make(run, n, *rest))
    run = Run(tiny_experiment(**TWO, train__min_workers=1), DataRoot(data_root), trained.runs, tmp_path)
    (tmp_path / "experiment.yaml").write_text(to_yaml(run.experiment))
    ray_train.fit(run)
    assert began == [1, 2]
    assert_nearly_the_same(run, trained)


@pytest.mark.ray
def test_a_run_whose_workers_cannot_be_started_goes_on_with_fewer(
    trained: Run, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train itself is replaced, because it takes a minute to give up."""
    began: list[int] = []

    can_start = {1}

    class Trainer:
        def __init__(self, run: Run, n_workers: int):
            began.append(n_workers)

        def fit(self) -> None:
            if began[-1] not in can_start:
                raise ray_train.ControllerError(TimeoutError("no room"))
            run_epochs(run)

    monkeypatch.setattr(ray_train, "_trainer", lambda run, n, *rest: Trainer(run, n))
    fewer = tiny_experiment(train__workers=4, train__min_workers=1, train__epochs=1)
    run = Run(fewer, DataRoot(data_root), trained.runs, tmp_path / "fewer")
    ray_train.fit(run)
    assert began == [4, 2, 1] and run.epochs_done() == 1
    began.clear()
    can_start.clear()
    with pytest.raises(ClusterError, match="training stopped: .*no room"):
        ray_train.fit(Run(fewer, DataRoot(data_root), trained.runs, tmp_path / "none"))
    assert began == [4, 2, 1, 1, 1]
    began.clear()
    fixed = Run(tiny_experiment(train__workers=2), DataRoot(data_root), trained.runs, tmp_path / "fixed")
    with pytest.raises(ClusterError, match="training stopped: .*no room"):
        ray_train.fit(fixed)
    assert began == [2]


@pytest.mark.ray
def test_nodes_may_die_as_often_as_they_like_while_a_run_gets_on(
    trained: Run, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train allows three deaths in a run's whole life."""
    n_fits = 0

    class Trainer:
        def __init__(self, run: Run, gets_on: bool):
            self.run, self.gets_on = run, gets_on

        def fit(self) -> None:
            nonlocal n_fits
            n_fits += 1
            if self.gets_on:
                run_epochs(self.run, on_epoch=lambda row: True)
            if not self.gets_on or self.run.epochs_done() < self.run.last_epoch:
                raise ray_train.WorkerGroupError("died", {0: RayActorError()})

    monkeypatch.setattr(ray_train, "_trainer", lambda run, *_: Trainer(run, True))
    run = Run(tiny_experiment(train__epochs=5), DataRoot(data_root), trained.runs, tmp_path / "on")
    ray_train.fit(run)
    assert (run.epochs_done(), n_fits) == (5, 5)
    monkeypatch.setattr(ray_train, "_trainer", lambda run, *_: Trainer(run, False))
    with pytest.raises(ClusterError, match="training stopped"):
        ray_train.fit(Run(tiny_experiment(), DataRoot(data_root), trained.runs, tmp_path / "off"))
    assert n_fits == 6


@pytest.mark.ray
def test_workers_whose_checkpoints_are_not_seen_here_are_told(
    local_ray: ModuleType, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_train, "_trainer", lambda *_: SimpleNamespace(fit=lambda: None))
    with pytest.raises(StorageError, match="but their checkpoint is not visible here"):
        ray_train.fit(Run(tiny_experiment(), DataRoot(data_root), tmp_path, tmp_path / "tiny"))


def test_a_study_waits_for_a_node_and_not_for_ever(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(concurrency.time, "monotonic", lambda: now[0])
    have(monkeypatch, HEAD, GPU, GPU)
    several: dict[str, Any] = {"train__cpus_per_worker": 3, "train__workers": 2}
    places = concurrency.Room(study_of(data_root, tmp_path, space_of(loss__sigma_ce=FLOAT), 4, **several))
    assert places.now() == 5  # of 32 CPUs, six each
    have(monkeypatch, HEAD)
    now[0] = 200.0
    assert places.now() == 5
    have(monkeypatch, HEAD, GPU)
    now[0] = 250.0
    assert places.now() == 2
    have(monkeypatch, HEAD)
    now[0] = 549.0
    assert places.now() == 2
    now[0] = 551.0
    with pytest.raises(ClusterError, match="no node has 3 CPUs for a worker, for 300 s now"):
        places.now()


def assert_nearly_the_same(run: Run, other: Run) -> None:
    """Compare up to rounding, because other numbers of workers add in another order."""
    for ours, theirs in zip(untimed(run), untimed(other), strict=True):
        assert ours["epoch"] == theirs["epoch"]
        assert ours["loss_total"] == pytest.approx(theirs["loss_total"], rel=1e-3)
    weights, expected = (load_checkpoint(either.folder / LAST)["model"] for either in (run, other))
    for name, values in expected.items():
        torch.testing.assert_close(weights[name], values, rtol=1e-3, atol=1e-4)
