"""Test hostile folders of studies and searches: journals, study.yaml, fusion.yaml, the record of a fusion search."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from hcl.config.resolve import override, resolve
from hcl.errors import StorageError
from orchestration.evaluation.fuse import _repeated, chosen_fusion
from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.storage.database import without_password
from orchestration.sweeps.storage.optuna_storage import open_storage
from orchestration.sweeps.study import STUDY, _description, n_trials_of
from orchestration.training.run import write_fusion
from orchestration.training.run_files import FUSION
from search_spaces import load_space
from tests.fuzz.hostile import altered, contained, fuzzed, mutated, texts

SEARCH = {
    "asked": {"seed": 1, "n_trials": 5},
    "found": {"settings": {"fusion.sigma_global": 0.5}, "value": 0.5, "published": 0.4, "n_trials": 5, "seconds": 1.0},
}


def ledger(folder: Path) -> Ledger:
    return Ledger("s", open_storage(folder, None), load_space("sigma"), n_trials=3, sampler="random", seed=1)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("study")
    made = ledger(folder)
    first, _ = made.ask(), made.ask()
    assert first is not None
    made.report(first.name, 1, 0.4)
    made.finish(first.name, (0.5,))
    return (folder / "optuna.journal").read_bytes()


def go_on(folder: Path) -> None:
    opened = ledger(folder)
    for _ in range(4):
        opened.ask()


@fuzzed(12)
@given(st.data())
def test_damaged_journals(tmp_path: Path, journal: bytes, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "study", ignore_errors=True)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "optuna.journal").write_bytes(data.draw(mutated([journal])))
    with contained(tmp_path, reads_only=False):
        go_on(tmp_path / "study")


@fuzzed(12)
@given(st.data())
def test_journals_with_other_values(tmp_path: Path, journal: bytes, data: st.DataObject) -> None:
    lines = journal.decode().splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = json.dumps(data.draw(altered(json.loads(lines[at]), n_most=1)))
    shutil.rmtree(tmp_path / "study", ignore_errors=True)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "optuna.journal").write_text("\n".join(lines) + "\n")
    with contained(tmp_path, reads_only=False):
        go_on(tmp_path / "study")


@pytest.mark.parametrize("line", [b"{1:30}", b"\xff", b"", b"[" * 100_000])
def test_a_line_that_is_none_is_told_at_once(tmp_path: Path, journal: bytes, line: bytes) -> None:
    for content in (journal + line + b"\n", line + b"\n", line + b"\n" + journal):
        (tmp_path / "optuna.journal").write_bytes(content)
        with pytest.raises(StorageError, match="not a study's journal"):
            go_on(tmp_path)
        assert (tmp_path / "optuna.journal").read_bytes() == content


@pytest.mark.parametrize("name", ["../../../out", "trial-1", 7])
def test_a_journal_cannot_name_a_folder_elsewhere(tmp_path: Path, journal: bytes, name: object) -> None:
    (tmp_path / "optuna.journal").write_bytes(journal.replace(b'"trial-0001"', json.dumps(name).encode()))
    with pytest.raises(StorageError, match="holds a trial with the name"):
        go_on(tmp_path)


@fuzzed(40)
@given(mutated([yaml.safe_dump({"experiment": "a", "data": {"val": "b"}, "n_trials": 5}).encode()]))
@example(b"n_trials: x")
@example(b"[1, 2]")
@example(b"")
def test_descriptions_of_a_study(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STUDY).write_bytes(content)
    with contained(tmp_path):
        assert isinstance(n_trials_of(tmp_path), int)
    with contained(tmp_path):
        _description(tmp_path / STUDY)


@fuzzed(60)
@given(mutated([b"fusion:\n  sigma_global: 0.5\n  sigma_spatial: 1.0\n"]))
@example(b"- a")
@example(b"")
@example(b"data: {dataset: ../..}")
def test_chosen_fusions(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FUSION).write_bytes(content)
    with contained(tmp_path):
        override(resolve("demo").experiment, chosen_fusion(tmp_path))


def test_a_fusion_that_was_written_is_read(tmp_path: Path) -> None:
    write_fusion(tmp_path, {"fusion.sigma_global": 1e-5, "fusion.sigma_spatial": 1.0}, "by hand")
    assert chosen_fusion(tmp_path) == {"fusion.sigma_global": 1e-5, "fusion.sigma_spatial": 1.0}


@fuzzed(40)
@given(altered(SEARCH))
def test_records_of_a_search_of_fusions(tmp_path: Path, content: Any) -> None:
    (tmp_path / "search.yaml").write_text(json.dumps(content))
    with contained(tmp_path):
        _repeated(tmp_path / "search.yaml", {**SEARCH["asked"], "weights": "0123456789ab"})


@fuzzed(40)
@given(texts, texts)
@example("/etc/passwd", "x")
def test_urls_of_databases_lose_their_passwords(tmp_path: Path, name: str, password: str) -> None:
    """Check that a URL's password is never shown, for arbitrary other parts."""
    secret = f"secret{len(password)}"
    with contained(tmp_path):
        assert secret not in (without_password(f"postgresql://{name}:{secret}@host/db") or "")
