"""Test that the dependency rules hold, and that the rules themselves can fail."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["hcl", "orchestration", "search_spaces", "cluster", "results"]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    command = [sys.executable, "-c", program]  # -c puts the working directory first on the path
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={})


def test_the_dependency_rules_hold() -> None:
    outcome = lint_imports(ROOT)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "0 broken" in outcome.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("hcl/models/hcl.py", "import ray"),
        ("hcl/models/hcl.py", "import results"),
        ("hcl/models/hcl.py", "import orchestration"),
        ("hcl/errors.py", "import hcl.config"),
        ("hcl/config/experiment.py", "import hcl.models.hcl"),
        ("hcl/matching/similarity.py", "import hcl.training.epoch"),
        ("hcl/models/encoder.py", "def f():\n    import hcl.matching.zoom"),
        ("hcl/datasets/splits.py", "import hcl.videos.reader"),
        ("hcl/files/atomic.py", "import hcl.config"),
        ("hcl/new_room/__init__.py", ""),  # a package that the contract does not name
        ("results/records/records.py", "import hcl.config"),
        ("results/records/records.py", "import torch"),
        ("search_spaces/space.py", "import ray.tune"),
        ("cluster/slurm.py", "from torch import nn"),
    ],
)
def test_a_forbidden_import_breaks_a_rule(tmp_path: Path, module: str, line: str) -> None:
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
    assert lint_imports(tmp_path).returncode == 0
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text(line)
    assert lint_imports(tmp_path).returncode == 1


def test_the_method_reads_no_environment_and_no_command_line() -> None:
    forbidden = {("os", "environ"), ("os", "getenv"), ("sys", "argv")}
    found = []
    for path in (ROOT / "hcl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if (node.value.id, node.attr) in forbidden:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
            elif isinstance(node, ast.ImportFrom):
                found += [f"{path.name}:{node.lineno}" for a in node.names if (node.module, a.name) in forbidden]
    assert not found


def test_no_machine_stands_in_the_code() -> None:
    """Search the shipped files for absolute paths of a developer's machine."""
    suffixes = {".py", ".yaml", ".md", ".toml", ".txt", ".j2"}
    files = [p for package in PACKAGES for p in (ROOT / package).rglob("*") if p.suffix in suffixes]
    files += [ROOT / name for name in ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run", ".gitignore")]
    homes = re.compile(r"(?<![\w.])/(home|root|Users|work)/\w")
    assert not [str(path.relative_to(ROOT)) for path in files if homes.search(path.read_text())]


MOST_MODULES = 20


def test_no_folder_holds_more_modules_than_a_reader_takes_in() -> None:
    counts = {
        str(folder.relative_to(ROOT)): len(list(folder.glob("*.py")))
        for package in PACKAGES
        for folder in [ROOT / package, *(ROOT / package).rglob("*/")]
    }
    assert counts["hcl/models"] > 10
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_tests_lie_in_the_rooms_of_what_they_test() -> None:
    """Compare the folders of a package's tests with the folders of the package."""
    folders = {
        path.parent.relative_to(ROOT / "tests")
        for package in ("hcl", "orchestration", "results")
        for path in (ROOT / "tests" / package).rglob("test_*.py")
    }
    assert len(folders) > 20
    assert {str(folder) for folder in folders if not (ROOT / folder).is_dir()} == set()


def test_orchestration_writes_records_where_a_full_disk_is_told_as_for_other_files() -> None:
    """A function of `results` that writes is called in `storage.record_files` or in a block of `storing_records`."""
    found, places = [], 0
    for path in (ROOT / "orchestration").rglob("*.py"):
        tree = ast.parse(path.read_text())
        writing = {"append_epoch"} if path.name != "record_files.py" else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "results":
                names = [one.asname or one.name for one in node.names if one.name.startswith(("write_", "export"))]
                writing |= {name for name in names if name not in ("exporting",)}
        guarded = {
            call
            for block in ast.walk(tree)
            if isinstance(block, ast.With) and "storing_records" in ast.dump(block.items[0])
            for call in ast.walk(block)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "results":
                is_write = node.attr.startswith(("write_", "append_")) and path.name != "record_files.py"
            else:
                is_write = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in writing
            places += is_write
            if is_write and node not in guarded:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert places >= 4 and found == []
