"""Test the demo as jobs of a cluster: videos, frames, a sweep whose best trial is trained, 5 data sets x 5 shots.

The jobs run once undisturbed, and once with a node killed in each: frames, trials, weights and records must be equal.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import results
from hcl.synthetic.benchmark import DOMAINS, dataset_name
from tests.cluster.compare import assert_same_frames, assert_same_run, ended_well, evaluations, outcomes
from tests.cluster.nodes import LocalCluster

pytestmark = pytest.mark.cluster

TRIALS, VIDEOS = 6, 14
BEST = "demo-best"


Submit = Callable[..., object]
"""Function (actor, role, has_begun, *words) that runs a command as a job, and may disturb it after it has begun."""


def run_demo(place: LocalCluster, root: Path, submit: Submit) -> Path:
    """Run the demo, and return the root with its data/ and runs/."""
    data, images, runs = root / "data", root / "data" / "images", root / "runs"
    ended_well(place.submit("data", "synth", "--videos-per-class", str(VIDEOS), "--size", "96", "--data", data))
    extract = ["--short-side", "96", "--data", data]
    first, *others = map(dataset_name, DOMAINS)
    submit("Extractor", "decode", lambda: len(list((images / first).glob("*/*"))) > 10, "extract", first, *extract)
    for dataset in others:
        ended_well(place.submit("extract", dataset, *extract))
    places = ["--data", data, "--runs", runs]
    sweep = ["sweep", "demo", "--space", "sigma", "--trials", str(TRIALS), "--stop", "none", "--then-train", *places]
    trials = runs / "demo" / "trials"
    submit("ImplicitFunc", "train", lambda: any(trials.glob("*/metrics.parquet")), *sweep)
    methods = ["--method", "hcl", "--method", "prototype"]
    evaluate = ["evaluate", BEST, *methods, "--set", "evaluation.shots=[1,2,3,4,5]", *places]
    submit("Scorer", "encode", lambda: any((runs / "cache" / "features").glob("*/*")), *evaluate)
    return root


@pytest.fixture(scope="module")
def whole(place: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of undisturbed jobs; tests must not change them."""
    root = tmp_path_factory.mktemp("whole")
    return run_demo(place, root, lambda actor, role, has_begun, *words: ended_well(place.submit(*words)))


def test_the_demo_on_a_cluster_is_the_same_when_nodes_die_in_every_part(
    place: LocalCluster, whole: Path, tmp_path: Path
) -> None:
    killed = run_demo(place, tmp_path, place.submit_and_kill)
    assert_same_frames(killed / "data", whole / "data", dataset_name(DOMAINS[0]))
    studies = [outcomes(root / "runs" / "demo") for root in (killed, whole)]
    assert studies[0] == studies[1] and len(studies[0]) == TRIALS
    assert_same_run(killed / "runs" / BEST, whole / "runs" / BEST)
    # Checkpoints of two trainings hold the same weights but different times.
    records = [evaluations(root / "runs" / BEST, "checkpoint_digest") for root in (killed, whole)]
    assert records[0] == records[1] and len(records[0]) == len(DOMAINS) * 5 * 2
    best = {record["dataset"]: record for record in records[0] if (record["method"], record["shot"]) == ("hcl", 5)}
    assert best["synth_plain"]["accuracy"] > 0.4, "it has learnt next to nothing"
    study = results.read_sweep(killed / "runs" / "demo")
    assert study.best_trial and place.token not in (killed / "runs" / "demo" / "sweep.json").read_text()
