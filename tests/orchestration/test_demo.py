"""Test the plans of the demo, and run the quick one: the same way on fewer videos, with a page that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hcl.frames.stored_dataset import DataRoot
from hcl.synthetic.benchmark import ACTIONS, DOMAINS, make_benchmark
from orchestration.demo import FULL, QUICK, DemoPlan
from orchestration.evaluation.methods import METHODS
from tests.orchestration.conftest import Command

PLANS = {"full": FULL, "quick": QUICK}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_videos_suffice_for_the_episodes_and_batches_of_a_plan(plan: DemoPlan, tmp_path: Path) -> None:
    experiment = plan.experiment(0)
    evaluation = experiment.evaluation
    assert set(plan.domains) <= set(DOMAINS) and set(plan.methods) <= set(METHODS)
    assert evaluation.datasets == tuple(f"synth_{domain}" for domain in plan.domains)
    assert experiment.data.dataset == evaluation.datasets[0]
    assert max(evaluation.shots) + evaluation.queries <= plan.videos_per_class
    assert experiment.train.classes_per_batch % 2 == 0, "two workers share a batch"
    make_benchmark(tmp_path, domains=plan.domains[:1], videos_per_class=2, size=32, workers=1)
    split = DataRoot(tmp_path).dataset(experiment.data.dataset).split
    sizes = {name: len(partition.classes) for name, partition in split.partitions.items()}
    assert sum(sizes.values()) == len(ACTIONS)
    assert min(sizes["val"], sizes["test"]) >= evaluation.way and sizes["train"] >= experiment.train.classes_per_batch


def test_the_quick_demo_does_less_of_everything() -> None:
    quick, full = QUICK.experiment(0), FULL.experiment(0)
    n_videos = [len(plan.domains) * plan.videos_per_class for plan in (QUICK, FULL)]
    n_clips = [
        one.train.batches_per_epoch * (plan.trials * one.train.epochs + plan.train_epochs)
        for plan, one in ((QUICK, quick), (FULL, full))
    ]
    assert n_videos[0] < n_videos[1] / 5 and n_clips[0] < n_clips[1] / 20
    assert quick.evaluation.episodes < full.evaluation.episodes
    assert QUICK.caution and not FULL.caution
    assert quick.model == full.model.model_copy(update={"cached_views": quick.model.cached_views}), "the same model"


@pytest.mark.parametrize(
    ("words", "plan", "runs", "data"),
    [
        ([], FULL, "runs/demo", "runs/demo/data"),
        (["--quick"], QUICK, "runs/demo-quick", "runs/demo-quick/data"),
        (["--quick", "--data", "d"], QUICK, "runs/demo-quick", "d"),
        (["--quick", "--runs", "r"], QUICK, "r", "runs/demo-quick/data"),
    ],
)
def test_the_option_chooses_plan_and_folders(
    words: list[str], plan: DemoPlan, runs: str, data: str, hcl: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("orchestration.demo.run_demo", given.update)
    assert hcl("demo", *words).code == 0
    assert (given["plan"], given["runs"], given["data"]) == (plan, Path(runs), Path(data))


@pytest.mark.ray
@pytest.mark.long
def test_the_quick_demo_goes_from_videos_to_a_page(hcl: Command, local_ray: object, tmp_path: Path) -> None:
    code, out, err = hcl("demo", "--quick")
    assert code == 0, err
    assert out.count(QUICK.caution) == 2 and "2 data sets x 2 shots" in out
    run = tmp_path / "runs" / "demo-quick" / "demo-quick"
    page = (run / "report" / "index.html").read_text()
    assert "Its accuracies mean nothing" in page
    assert len(list((run / "evaluation").glob("*.json"))) == 2 * 2 * len(QUICK.methods)
    assert "synth_cluttered" in page and "prototype" in page
    again = hcl("demo", "--quick")
    assert again.code == 0 and "432 there already" not in again.out and "216 there already" in again.out
