"""Test other matchers, fusion and explanations of a run, with actors in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import results
from hcl.assembly import inputs, models
from hcl.assembly.experiment_files import to_yaml
from hcl.clips.episodes import sample_episodes
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.errors import ConfigError
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from hcl.matching.similarity import LEVELS
from hcl.models.baselines import prototype_scores
from hcl.models.checkpoint import save_checkpoint
from orchestration.evaluation import evaluate as evaluating
from orchestration.evaluation import fuse, scorer, scoring
from orchestration.evaluation.evaluate import evaluate
from orchestration.evaluation.explain import Explainer
from orchestration.evaluation.fuse import FUSED, chosen_fusion, evaluate_fusion, search_fusion
from orchestration.evaluation.questions import Target, questions_of
from orchestration.reports.recorded import read_recorded, target_of
from orchestration.training import grids
from orchestration.training.run_files import BEST
from results.records.explanations import read_explanations
from results.tables.comparison import comparison_table
from search_spaces import load_space
from tests.orchestration.conftest import Command, tiny_experiment
from tests.orchestration.inline import without_ray

SHOTS = (1, 3)
METHODS = ("hcl", "otam", "bimhm", "chamfer", "frames-protonet", "frames-cosine", "frames-matching")


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return tiny_experiment(model__train_backbone=True, evaluation__episodes=40)


@pytest.fixture(scope="module")
def folder(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run whose checkpoint has its initial weights."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    (folder / BEST).parent.mkdir(parents=True)
    model = models.make_model(experiment, 4)
    save_checkpoint(folder / BEST, model=model, state={"classes": ["ant", "bee", "cat", "dog"]})
    (folder / "experiment.yaml").write_text(to_yaml(experiment))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _inline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        without_ray(patched, evaluating, fuse, grids, scorer, scoring)
        yield


@pytest.fixture(scope="module")
def records(folder: Path, experiment: Experiment, data_root: Path) -> list[results.EvaluationRecord]:
    answers = evaluate(
        questions_of([Target(folder, experiment, methods=METHODS)], DataRoot(data_root)), runs=folder.parent
    )
    assert answers.n_encoded == 2 * 15  # HCL's features, and frames once for all other matchers
    return answers.records


def test_methods_answer_the_same_episodes(records: list[results.EvaluationRecord]) -> None:
    assert {(record.method, record.shot) for record in records} == {
        (method, shot) for method in METHODS for shot in SHOTS
    }
    for shot in SHOTS:
        assert len({record.episodes_digest for record in records if record.shot == shot}) == 1
    assert {record.metric for record in records if record.method == "frames-protonet"} == {"euclidean"}


def test_protonet_on_the_encoders_frames(
    records: list[results.EvaluationRecord], folder: Path, experiment: Experiment, data_root: Path
) -> None:
    partition = StoredDataset(data_root, "toy").partition("test")
    model = models.make_model(experiment, 4).eval()
    clips = inputs.make_dataset(experiment, FrameStore(data_root / "images" / "toy"), partition, training=False)
    with torch.no_grad():
        tokens, _ = model.tokens(torch.stack([clips[index] for index in range(len(clips))]))
    vectors = tokens.mean(dim=(1, 2))
    for record in (one for one in records if one.method == "frames-protonet"):
        episodes = sample_episodes(partition.labels, way=2, shot=record.shot, queries=2, episodes=40, seed=0)
        right = [
            prototype_scores(vectors[query.ravel()], vectors[support]).argmax(dim=1).reshape(query.shape)
            == torch.arange(2)[:, None]
            for support, query in zip(episodes.support, episodes.query, strict=True)
        ]
        assert record.accuracy == pytest.approx(torch.stack(right).float().mean().item(), abs=0.02)


def test_answers_lie_beside_their_records(records: list[results.EvaluationRecord], folder: Path) -> None:
    for record in records:
        outcomes = results.read_outcomes(
            results.evaluation_file(folder, record), record.episodes_digest, record.accuracy
        )
        assert outcomes is not None
        assert outcomes.accuracies.mean() == pytest.approx(record.accuracy)
        assert record.ci95_classes is not None and record.ci95_videos is not None
    frame = results.load(folder).evaluations
    table = comparison_table(frame[frame["method"] == "hcl"], frame[frame["method"] == "otam"], names=("A", "B"))
    assert list(table["shot"]) == list(SHOTS)


def test_other_weights_are_another_method_and_leave_the_runs_own_record_alone(
    records: list[results.EvaluationRecord], folder: Path, data_root: Path, hcl: Command
) -> None:
    before = {path: path.read_bytes() for path in (folder / "evaluation").glob("*.json")}
    where = ("--runs", folder.parent, "--data", data_root)
    assert hcl("evaluate", folder, *where, "--set", "fusion.sigma_spatial=0").code == 0
    made = [path for path in (folder / "evaluation").glob("*.json") if path not in before]
    new_records = [results.read_evaluation(path) for path in made]
    assert {(record.method, record.shot) for record in new_records} == {
        ("hcl (sigma_spatial=0.0)", shot) for shot in SHOTS
    }
    assert all(path.read_bytes() == content for path, content in before.items())
    for record in new_records:
        again = target_of(read_recorded(folder), record, folder)
        assert [question.record["method"] for question in questions_of([again], DataRoot(data_root))] == [
            record.method
        ] * len(SHOTS)
    for path in made:
        path.unlink()
        path.with_suffix(".npz").unlink()


def test_a_fusion_is_chosen_on_val_and_told_on_test(folder: Path, experiment: Experiment, data_root: Path) -> None:
    where = {"data": DataRoot(data_root), "runs": folder.parent}
    options = {"space": load_space("fusion"), "n_trials": 60}
    search = search_fusion(folder, experiment, **where, **options)  # type: ignore[arg-type]
    assert search.value >= search.published
    assert chosen_fusion(folder) == search.settings
    assert search_fusion(folder, experiment, **where, **options) == search  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="another search"):
        search_fusion(folder, experiment, **where, **options, seed=1)  # type: ignore[arg-type]
    # the very same accuracy by the usual way, on the same val episodes
    on_val = override(experiment, {**search.settings, "evaluation.partition": "val"})
    again = evaluate(
        questions_of([Target(folder, on_val, label="check")], DataRoot(data_root)), runs=folder.parent
    ).records
    assert np.mean([record.accuracy for record in again]) == pytest.approx(search.value, abs=1e-6)
    by_fusion = evaluate_fusion(folder, experiment, **where)
    assert {record.partition for records in by_fusion.values() for record in records} == {"test"}
    assert list(by_fusion) == [FUSED, "hcl", "hcl published weights", *(f"hcl {x} only" for x in LEVELS)]
    for level in LEVELS:
        for only, plain in zip(by_fusion[f"hcl {level} only"], by_fusion["hcl"], strict=True):
            assert only.accuracy == pytest.approx(plain.levels[level])


def test_a_run_that_saw_val_is_not_fused_on_it(folder: Path, data_root: Path) -> None:
    seen = tiny_experiment(
        data__protocol="published", data__train_partitions=["train", "val"], data__selection_partition="test"
    )
    with pytest.raises(ConfigError, match="trained on val"):
        search_fusion(
            folder, seen, data=DataRoot(data_root), runs=folder.parent, space=load_space("fusion"), n_trials=5
        )


def test_a_query_is_drawn_with_its_class_and_a_rival(
    folder: Path, experiment: Experiment, data_root: Path, tmp_path: Path
) -> None:
    explainer = Explainer(folder, experiment, data=DataRoot(data_root))
    explained = explainer.explain("hen/hen_1", shot=2, to=tmp_path / "x.png")
    assert explained.query == "hen/hen_1" and len(explained.scores) == 2
    picture = cv2.imread(str(explained.picture))
    assert picture is not None and picture.shape[0] > 4 * 168  # two pairs of clips and more
    given = explainer.explain("hen_1", support=["hen/hen_0", "jay/jay_2"], to=tmp_path / "y.png")
    assert [name for name, _ in sorted(given.scores)] == ["hen", "jay"]


@pytest.mark.parametrize(
    ("query", "support", "message"),
    [
        ("hen/nobody", [], "is no video of toy test"),
        ("hen/hn_1", [], "is no video of toy test, did you mean `hen/hen_1`?"),
        ("hn_1", [], "is no video of toy test, did you mean `hen_1`?"),
        ("hen/hen_1", ["hen/hen_1", "jay/jay_2"], "is the query itself"),
        ("hen/hen_1", ["jay/jay_2"], "form no episode"),
        ("hen/hen_1", ["hen/hen_0", "jay/jay_2", "jay/jay_3"], "form no episode"),
    ],
)
def test_what_cannot_be_explained_is_told(
    query: str, support: list[str], message: str, folder: Path, experiment: Experiment, data_root: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        Explainer(folder, experiment, data=DataRoot(data_root)).explain(query, support=support)


def test_examples_are_queries_of_the_evaluation_with_its_verdicts(
    records: list[results.EvaluationRecord], folder: Path, data_root: Path, hcl: Command
) -> None:
    done = hcl("explain", folder, "--examples", "2", "--data", data_root)
    assert done.code == 0, done.err
    assert done.out.count("(right)") == 2 and done.out.count("(wrong)") == 2
    kept = read_explanations(folder)
    assert {record.is_right for record, _ in kept} == {True, False}
    assert all(record.command.startswith("hcl explain") and record.support for record, _ in kept)
    assert hcl("explain", folder).code != 0
    nothing = hcl("explain", folder, "--examples", "1", "--shot", "4", "--data", data_root)
    assert nothing.code != 0 and "keeps no answers of hcl on toy test at 4 shots" in nothing.err


def test_comparing_on_the_command_line(records: list[results.EvaluationRecord], folder: Path, hcl: Command) -> None:
    done = hcl("results", "compare", folder, ":otam", "--runs", folder.parent)
    assert done.code == 0 and "verdict" in done.out
    assert hcl("results", "classes", folder, "--method", "otam").code == 0
    wrong = hcl("results", "compare", folder, ":nobody")
    assert wrong.code != 0 and "holds no evaluation of 'nobody'" in wrong.err
