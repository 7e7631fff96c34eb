"""Test the tags and the note of a run: kept in its folder, read with the records, shown on the page."""

from __future__ import annotations

from pathlib import Path

import pytest

import results
from results.errors import RecordError
from results.page.report import write_report
from results.records.labels import LABELS, MOST_CHARACTERS, Labels, noted, read_labels, tagged, write_labels
from results.tables.listing import LISTINGS
from tests.results.conftest import HOSTILE


@pytest.fixture
def kept(tmp_path: Path, sweep: results.SweepRecord, trials: list[results.TrialRecord]) -> Path:
    """Return a folder with a run and a study."""
    results.append_epoch(tmp_path / "runs" / "run", {"epoch": 1, "val_accuracy": 0.5})
    results.write_sweep(tmp_path / "runs" / "study", sweep, trials)
    return tmp_path / "runs"


def test_tags_are_added_and_removed_and_kept_sorted(tmp_path: Path) -> None:
    assert read_labels(tmp_path) == Labels()
    labels = tagged(Labels(note="kept"), ["good", "at-5.0", "good"], ["absent"])
    write_labels(tmp_path, labels)
    assert read_labels(tmp_path) == Labels(tags=["at-5.0", "good"], note="kept")
    assert tagged(labels, ["new"], ["good"]).tags == ["at-5.0", "new"]


@pytest.mark.parametrize("tag", ["", "two words", "-minus", "a,b", "ü", "x" * 51, "<b>"])
def test_what_is_no_word_is_no_tag(tag: str) -> None:
    with pytest.raises(RecordError, match="is not a tag"):
        tagged(Labels(), [tag], [])


def test_a_tag_is_not_added_and_removed_at_once() -> None:
    with pytest.raises(RecordError, match="'a' is to be added and removed"):
        tagged(Labels(), ["a"], ["a"])


def test_a_note_is_replaced_removed_and_bounded() -> None:
    assert noted(Labels(tags=["a"], note="old"), " new\nlines ") == Labels(tags=["a"], note="new\nlines")
    assert noted(Labels(note="old"), "") == Labels()
    with pytest.raises(RecordError, match="has 2,001 characters"):
        noted(Labels(), "x" * (MOST_CHARACTERS + 1))


def test_records_lists_and_the_page_show_them(kept: Path, tmp_path: Path) -> None:
    run, study = kept / "run", kept / "study"
    for folder in (run, study):
        write_labels(folder, Labels(tags=["best", "final"], note=f"a note {HOSTILE[0]}"))
    loaded = results.load(kept)
    assert not loaded.skipped
    of_run = loaded.runs[loaded.runs["path"] == str(run)].iloc[0]
    assert (of_run["tags"], of_run["note"]) == ("best final", f"a note {HOSTILE[0]}")
    for kind, frame in (("runs", loaded.runs), ("studies", loaded.sweeps)):
        table = LISTINGS[kind](loaded)
        assert "best final" in set(table["tags"]) and len(table) == len(frame)
    page = write_report(loaded, tmp_path / "page").read_text()
    assert "#<bdi>final</bdi>" in page and "a note &lt;script&gt;" in page


def test_damaged_labels_are_left_out_and_named(kept: Path) -> None:
    run = kept / "run"
    write_labels(run, Labels(tags=["best"]))
    (run / LABELS).write_text((run / LABELS).read_text().replace("best", "bust"))
    loaded = results.load(kept)
    assert [Path(file.file).name for file in loaded.skipped] == [LABELS]
    assert loaded.runs["tags"].isna().all()
