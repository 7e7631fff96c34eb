"""Test `hcl submit` to a real cluster on this machine whose nodes are killed during the work.

The cluster has a head without work, three workers with one CPU, and a job server with a token. The results must equal
those of an undisturbed job. `make test-cluster` runs it; it takes minutes, mostly for starting processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.models.checkpoint import load_checkpoint
from orchestration.training.run_files import LAST
from tests.cluster.compare import (
    assert_same_frames,
    assert_same_run,
    ended_well,
    epochs_of,
    evaluations,
    outcomes,
    untimed,
)
from tests.cluster.nodes import ROOT, LocalCluster, processes, wait_for
from tests.orchestration.conftest import tiny_experiment, write_data

pytestmark = pytest.mark.cluster

EPOCHS = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the folder that every node sees: data/, and runs of the undisturbed and of the disturbed jobs."""
    folder = tmp_path_factory.mktemp("shared")
    write_data(folder / "data")
    experiment = tiny_experiment(train__workers=2, train__epochs=EPOCHS, model__dropout=0.0)
    (folder / "tiny.yaml").write_text(to_yaml(experiment))
    return folder


def places(root: Path, runs: str) -> list[str]:
    return ["--data", str(root / "data"), "--runs", str(root / runs)]


def test_a_job_is_followed_listed_and_ends_with_the_status_of_its_command(place: LocalCluster, root: Path) -> None:
    printed = ended_well(place.submit("config", "show", root / "tiny.yaml", "--set", "seed=77"))
    assert "MB packed" in printed and re.search(r"seed +│ 77 ", printed)
    failed = place.submit("extract", "nothing", "--data", root / "data")
    assert failed.returncode == 1 and "nothing: holds no videos" in failed.stdout
    assert "failed: Job entrypoint command failed with exit code 1" in failed.stderr
    misused = place.submit("train", root / "tiny.yaml", "--set", "train.epoch=1", *places(root, "none"))
    assert misused.returncode == 2 and "did you mean `epochs`?" in misused.stdout
    listed = place.hcl("jobs", "list").stdout
    assert re.search(r"hcl-extract-nothing-\w+ +│ failed .*│ 1 +│ hcl extract nothing", listed)
    name = re.search(r"hcl-extract-nothing-\w+", listed)
    assert name and "holds no videos" in place.hcl("jobs", "logs", name[0]).stdout
    everything = printed + failed.stdout + failed.stderr + misused.stdout + listed
    assert place.token not in everything


def test_a_job_that_nobody_follows_is_stopped(place: LocalCluster, root: Path) -> None:
    words = ["extract", "waits", "--data", str(root / "data")]
    done = place.hcl("submit", "--no-wait", "--name", "waits", "--resource", "absent=1", "--", *words)
    assert done.returncode == 0 and "hcl jobs logs waits --follow" in done.stdout
    again = place.hcl("submit", "--no-wait", "--name", "waits", "--", *words)
    assert again.returncode == 1 and "the job server refuses" in again.stderr
    assert "is being stopped" in place.hcl("jobs", "stop", "waits").stdout
    unknown = place.hcl("jobs", "stop", "nobody")
    assert unknown.returncode == 1 and "knows no job nobody" in unknown.stderr


def test_a_wrong_token_is_told_without_showing_either(place: LocalCluster) -> None:
    done = place.hcl("jobs", "list", token="not-the-token")
    assert done.returncode == 1 and "does not accept the token from RAY_AUTH_TOKEN" in done.stderr
    assert place.token not in done.stderr and "not-the-token" not in done.stderr


def test_the_doctor_sees_every_node(place: LocalCluster, root: Path) -> None:
    (root / "runs").mkdir(exist_ok=True)
    printed = ended_well(place.submit("doctor", *places(root, "runs")))
    assert "nothing is wrong" in printed and printed.count("mp4, webm and avi") == 4


@pytest.fixture(scope="module")
def extracted(place: LocalCluster, root: Path) -> Path:
    """Return videos and the frames of an undisturbed extraction; tests must not change them."""
    data = root / "extracted"
    ended_well(
        place.submit("data", "synth", "--domain", "plain", "--videos-per-class", "4", "--size", "64", "--data", data)
    )
    ended_well(place.submit("extract", "synth_plain", "--data", data))
    return data


def not_extracted(extracted: Path, name: str) -> Path:
    """Copy only the videos and lists."""
    return Path(shutil.copytree(extracted, extracted.parent / name, ignore=shutil.ignore_patterns("images")))


def n_begun(data: Path) -> int:
    return sum(1 for _ in (data / "images" / "synth_plain").glob("*/*/0.jpg"))


def test_a_node_killed_in_extraction_changes_no_frame(place: LocalCluster, extracted: Path) -> None:
    data = not_extracted(extracted, "killed")
    place.submit_and_kill("Extractor", "decode", lambda: n_begun(data) >= 5, "extract", "synth_plain", "--data", data)
    assert_same_frames(data, extracted)


def test_a_node_that_joins_takes_videos_and_leaves_without_loss(place: LocalCluster, extracted: Path) -> None:
    data = not_extracted(extracted, "joined")
    place.submit_and_join("Extractor", lambda: n_begun(data) >= 5, "extract", "synth_plain", "--data", data)
    assert_same_frames(data, extracted)


@pytest.fixture(scope="module")
def whole(place: LocalCluster, root: Path) -> Path:
    """Return the folder of an undisturbed run; tests must not change it."""
    ended_well(place.submit("train", root / "tiny.yaml", *places(root, "whole-runs")))
    return root / "whole-runs" / "tiny"


def test_a_node_killed_in_training_changes_no_weight(place: LocalCluster, root: Path, whole: Path) -> None:
    folder = root / "killed-runs" / "tiny"
    words = ["train", root / "tiny.yaml", *places(root, "killed-runs")]
    place.submit_and_kill("RayTrainWorker", "train", lambda: epochs_of(folder) >= 2, *words)
    assert_same_run(folder, whole)
    provenance = results.read_provenance(folder)
    assert provenance.revision and place.token not in (folder / "provenance.json").read_text()


def test_a_driver_that_was_killed_is_submitted_again_and_goes_on(place: LocalCluster, root: Path, whole: Path) -> None:
    words = ["train", root / "tiny.yaml", *places(root, "driver-runs")]
    folder = root / "driver-runs" / "tiny"
    job = place.begin(*words)
    wait_for(lambda: epochs_of(folder) >= 2, "two epochs")
    (pid,) = processes(f"{sys.executable} -m orchestration train", root / "driver-runs")
    os.kill(pid, signal.SIGKILL)
    printed, _ = job.communicate(timeout=600)
    assert job.returncode == 128 + signal.SIGKILL, printed
    assert epochs_of(folder) < EPOCHS
    ended_well(place.submit(*words))
    assert_same_run(folder, whole)


def test_a_node_killed_in_evaluation_changes_no_record(place: LocalCluster, root: Path, whole: Path) -> None:
    options = [word for name in ("hcl", "prototype") for word in ("--method", name)]
    options += ["--dataset", "toy", "--dataset", "other", "--set", "evaluation.views=8"]
    for name in ("whole-answers", "killed-answers"):
        shutil.copytree(whole, root / name / "tiny")
    ended_well(place.submit("evaluate", "tiny", *options, *places(root, "whole-answers")))
    begun = lambda: any((root / "killed-answers" / "cache" / "features").glob("*/*"))  # noqa: E731
    place.submit_and_kill("Scorer", "encode", begun, "evaluate", "tiny", *options, *places(root, "killed-answers"))
    found, expected = (evaluations(root / name / "tiny") for name in ("killed-answers", "whole-answers"))
    assert found == expected and len(found) == 8


def test_a_node_killed_in_a_sweep_changes_no_trial(place: LocalCluster, root: Path) -> None:
    """Run only trials that the sampler draws at random: later ones depend on the order in which others end."""
    words = ["sweep", root / "tiny.yaml", "--trials", "4", "--stop", "none", "--set", f"train.epochs={EPOCHS}"]
    words += ["--set", "name=study", "--workers", "1"]
    ended_well(place.submit(*words, *places(root, "whole-studies")))
    trials = root / "killed-studies" / "study" / "trials"
    begun = lambda: any(trials.glob("*/metrics.parquet"))  # noqa: E731
    place.submit_and_kill("ImplicitFunc", "train", begun, *words, *places(root, "killed-studies"))
    found, expected = (outcomes(root / name / "study") for name in ("killed-studies", "whole-studies"))
    assert found == expected and len(found) == 4


def test_a_run_goes_on_with_fewer_workers_when_nodes_do_not_come_back(
    place: LocalCluster, root: Path, whole: Path
) -> None:
    """Leave one of three nodes. The weights must equal those of two workers, up to rounding."""
    folder = root / "fewer-runs" / "tiny"
    words = ["train", root / "tiny.yaml", "--set", "train.min_workers=1", *places(root, "fewer-runs")]
    job = place.begin(*words, options=["--env", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=30"])
    try:
        wait_for(lambda: job.poll() is not None or epochs_of(folder) >= 2, "two epochs")
        assert job.poll() is None
        for node in place.nodes[:2]:
            place.lose(node)
        printed, _ = job.communicate(timeout=300)
    finally:
        job.kill()
        while len(place.nodes) < 3:
            place.add_node()
    assert job.returncode == 0 and "tiny: 1 of 2 workers" in printed, printed
    for ours, theirs in zip(untimed(folder), untimed(whole), strict=True):
        assert ours["loss_total"] == pytest.approx(theirs["loss_total"], rel=1e-3)
    found, expected = (load_checkpoint(one / LAST)["model"] for one in (folder, whole))
    for name, values in expected.items():  # AdamW amplifies rounding of tiny gradients
        torch.testing.assert_close(found[name], values, rtol=1e-2, atol=2e-3)


def test_a_node_that_joins_takes_trials_and_leaves_without_loss(place: LocalCluster, root: Path) -> None:
    words = ["sweep", root / "tiny.yaml", "--trials", "6", "--stop", "none", "--set", f"train.epochs={EPOCHS}"]
    words += ["--set", "name=growing", "--workers", "1", *places(root, "growing-studies")]
    folder = root / "growing-studies" / "growing"
    place.submit_and_join("ImplicitFunc", lambda: any(folder.glob("trials/*/metrics.parquet")), *words)
    assert [state for _, _, state, _ in outcomes(folder)] == ["complete"] * 6


def test_rays_own_client_runs_the_program_that_the_nodes_have(place: LocalCluster, root: Path, tmp_path: Path) -> None:
    """Run `ray job submit -- hcl sweep` with the package installed by pip and without sending code."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    archive = subprocess.run(["git", "-C", ROOT, "archive", "HEAD"], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        installed,
    ]
    subprocess.run([*pip, source], check=True, capture_output=True)
    variables = {"PYTHONPATH": str(installed), "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}
    ray = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
    words = ["sweep", root / "tiny.yaml", "--trials", "1", "--set", "name=plain", "--set", "train.epochs=1"]
    words += ["--workers", "1", *places(root, "plain-runs")]
    done = subprocess.run(
        [*ray, "--runtime-env-json", json.dumps({"env_vars": variables}), "--", "hcl", *words],
        env=place.environment() | {"RAY_AUTH_MODE": "token"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [state for *_, state, _ in outcomes(root / "plain-runs" / "plain")] == ["complete"]
    assert place.token not in done.stdout + done.stderr


def test_a_head_that_dies_is_begun_anew_and_the_job_goes_on(place: LocalCluster, root: Path, whole: Path) -> None:
    """Kill the head. This test is the last of the module, because the nodes end without their head and are replaced."""
    words = ["train", root / "tiny.yaml", *places(root, "head-runs")]
    folder = root / "head-runs" / "tiny"
    job, nodes = place.begin(*words), place.nodes
    try:
        wait_for(lambda: job.poll() is not None or epochs_of(folder) >= 2, "two epochs")
        assert job.poll() is None
        for driver in processes(f"{sys.executable} -m orchestration train", root / "head-runs"):
            os.kill(driver, signal.SIGKILL)
        place.head.kill()
        printed, _ = job.communicate(timeout=180)
        assert job.returncode == 1 and "error" in printed and "Traceback" not in printed, printed
        place.nodes = []
        place.start(3)
        ended_well(place.submit(*words))
    finally:
        job.kill()
        for node in nodes:
            node.stop()
    assert_same_run(folder, whole)
