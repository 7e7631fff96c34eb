"""Test answers on disk and their statistics: classes, confusions, paired comparisons, the spread over runs."""

from __future__ import annotations

import numpy as np
import pytest

import results
from results.records.outcomes import read_outcomes, write_outcomes
from results.tables.cells import ASKED_AS_PUBLISHED, DAGGER, DOUBLE_DAGGER, FOOTNOTE
from results.tables.comparison import comparison_table
from results.tables.details import class_table, confusion_table, outcomes_of, runs_table
from tests.results.conftest import NAMES, made


def test_answers_read_back(tmp_path):
    outcomes = made(0.7)
    write_outcomes(tmp_path / "cell.json", outcomes)
    from_disk = read_outcomes(tmp_path / "cell.json", "e1", outcomes.accuracies.mean())
    np.testing.assert_array_equal(from_disk.answers, outcomes.answers)
    for name in ("classes", "support", "query"):
        np.testing.assert_array_equal(getattr(from_disk.questions, name), getattr(outcomes.questions, name))
    assert from_disk.questions.class_names == NAMES
    assert read_outcomes(tmp_path / "other.json", "e1", 0.5) is None


def test_questions_lie_there_once(tmp_path):
    for name in ("one", "two"):
        write_outcomes(tmp_path / f"{name}.json", made(0.7))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["episodes-e1.npz", "one.npz", "two.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"not a zip"])
def test_damaged_answers_are_named(tmp_path, content):
    write_outcomes(tmp_path / "cell.json", made(0.7))
    (tmp_path / "cell.npz").write_bytes(content)
    with pytest.raises(results.RecordError, match="cell.npz"):
        read_outcomes(tmp_path / "cell.json", "e1", 0.7)


def test_answers_that_a_kill_left_under_the_record_of_others_are_refused(tmp_path):
    """The answers are of other episodes, or of the same by another checkpoint; digest or accuracy reveals it."""
    old, path = made(0.7), tmp_path / "cell.json"
    write_outcomes(path, old)
    write_outcomes(path, made(0.7, digest="e2"))
    with pytest.raises(
        results.RecordError, match=r"cell.npz: answers the episodes 'e2', but its record names 'e1'"
    ) as caught:
        read_outcomes(path, "e1", old.accuracies.mean())
    assert "hcl evaluate" in caught.value.remedy
    write_outcomes(path, made(0.7, seed=1))
    with pytest.raises(results.RecordError, match="answers of another evaluation") as caught:
        read_outcomes(path, "e1", old.accuracies.mean())
    assert "hcl evaluate" in caught.value.remedy


def test_answers_of_older_versions_name_no_episodes_and_read(tmp_path):
    outcomes = made(0.7)
    write_outcomes(tmp_path / "cell.json", outcomes)
    np.savez(tmp_path / "cell.npz", answers=outcomes.answers)
    from_disk = read_outcomes(tmp_path / "cell.json", "e1", outcomes.accuracies.mean())
    np.testing.assert_array_equal(from_disk.answers, outcomes.answers)
    np.savez(tmp_path / "cell.npz", answers=outcomes.answers[:20])
    with pytest.raises(results.RecordError, match="does not fit"):
        read_outcomes(tmp_path / "cell.json", "e1", outcomes.accuracies.mean())


def test_confusions_against_loops():
    outcomes = made(0.6)
    counts = np.zeros((7, 7), int)
    for classes, answers in zip(outcomes.questions.classes, outcomes.answers, strict=True):
        for way in range(3):
            for answer in answers[way]:
                counts[classes[way], classes[answer]] += 1
    np.testing.assert_array_equal(outcomes.confusion(), counts)
    np.testing.assert_allclose(outcomes.by_class(), counts.diagonal() / counts.sum(axis=1))


def test_tables_of_classes(kept):
    [(_, outcomes)] = outcomes_of(kept("one", made(0.6)))
    table = class_table([("hcl", outcomes)])
    assert set(table["class"]) == set(NAMES)
    assert list(table["hcl"].astype(float)) == sorted(table["hcl"].astype(float))
    worst = confusion_table(outcomes, n=3)
    assert len(worst) == 3 and (worst["class"] != worst["taken for"]).all()


def test_two_methods_on_the_same_episodes(kept):
    better, worse = kept("one", made(0.75, 1)), kept("two", made(0.6, 2))
    table = comparison_table(better, worse, names=("A", "B"))
    [row] = table.to_dict("records")
    assert float(row["difference"]) == pytest.approx(float(row["A"]) - float(row["B"]), abs=0.11)
    assert float(row["p"]) < 0.05 and row["verdict"] == "significant difference over classes"
    assert 0 < float(row["± classes"]) < float(row["difference"]) and row["± videos"] == "–"
    [same] = comparison_table(better, better, names=("A", "B")).to_dict("records")
    assert (same["difference"], same["p"]) == ("+0.00", "1.000")
    assert same["verdict"] == "no significant difference over classes"


def test_what_was_asked_as_published_is_marked_and_never_compared_with_the_rest(kept):
    published = {"evaluation_protocol": "published", "protocol": "published"}
    first, second = kept("one", made(0.7), **published), kept("two", made(0.6, 2), evaluation_protocol="published")
    table = comparison_table(first, second, names=("A", "B"))
    assert list(table["data set"]) == [f"{first['dataset'].iloc[0]} {DAGGER}{DOUBLE_DAGGER}"]
    assert table.attrs["footnotes"] == [FOOTNOTE, ASKED_AS_PUBLISHED]
    with pytest.raises(results.RecordError, match="no data set and shot that both"):
        comparison_table(first, kept("three", made(0.6)), names=("A", "B"))


def test_other_episodes_are_refused_with_both_digests(kept):
    first, second = kept("one", made(0.7)), kept("two", made(0.7, digest="e2"))
    with pytest.raises(results.RecordError, match=r"e1 in .*one.*, e2 in .*two"):
        comparison_table(first, second, names=("A", "B"))


def test_records_without_answers_are_named(kept, tmp_path):
    first = kept("one", made(0.7))
    for path in (tmp_path / "one" / "evaluation").glob("hcl*.npz"):
        path.unlink()
    with pytest.raises(results.RecordError, match="evaluate again"):
        comparison_table(first, first, names=("A", "B"))


def test_the_spread_over_runs(kept, tmp_path, evaluation):
    for index, accuracy in enumerate((0.5, 0.53, 0.62)):
        results.write_evaluation(tmp_path / f"r{index}", evaluation(run=f"r{index}", accuracy=accuracy))
    [row] = runs_table(results.load(tmp_path).evaluations).to_dict("records")
    assert (row["runs"], row["mean"], row["sd"]) == (3, "55.0", "6.2")
    for index in range(2):
        leaking = evaluation(run=f"r{index}", accuracy=0.99, method="names", leaks_labels=True)
        results.write_evaluation(tmp_path / f"r{index}", leaking)
    table = runs_table(results.load(tmp_path).evaluations)
    assert list(table["method"]) == ["hcl", "names §"] and len(table.attrs["footnotes"]) == 1
    with pytest.raises(results.RecordError, match="two runs"):
        runs_table(results.load(tmp_path / "r0").evaluations)
