"""The dependency rules hold, and the rules themselves can fail."""

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
    command = [sys.executable, "-c", program]  # -c puts the working folder first on the path
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={})


def test_the_dependency_rules_hold() -> None:
    outcome = lint_imports(ROOT)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "0 broken" in outcome.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("hcl/model.py", "import ray"),
        ("hcl/model.py", "import results"),
        ("hcl/model.py", "import orchestration"),
        ("hcl/errors.py", "import hcl.config"),
        ("hcl/config/experiment.py", "import hcl.model"),
        ("hcl/similarity.py", "import hcl.training"),
        ("hcl/encoder.py", "def f():\n    import hcl.tuples"),
        ("results/records.py", "import hcl.config"),
        ("results/records.py", "import torch"),
        ("search_spaces/space.py", "import ray.tune"),
        ("cluster/slurm.py", "from torch import nn"),
    ],
)
def test_a_forbidden_import_breaks_a_rule(tmp_path: Path, module: str, line: str) -> None:
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    modules = [f"{package}/__init__.py" for package in PACKAGES]
    modules.append("hcl/config/__init__.py")
    modules += [f"hcl/{name}.py" for name in ("errors", "encoder", "model", "similarity", "training", "tuples")]
    for path in modules:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert lint_imports(tmp_path).returncode == 0
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
    """No absolute path of anybody's machine in what is shipped."""
    suffixes = {".py", ".yaml", ".md", ".toml", ".txt", ".j2"}
    files = [p for package in PACKAGES for p in (ROOT / package).rglob("*") if p.suffix in suffixes]
    files += [ROOT / name for name in ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run", ".gitignore")]
    homes = re.compile(r"(?<![\w.])/(home|root|Users|work)/\w")
    assert not [str(path.relative_to(ROOT)) for path in files if homes.search(path.read_text())]
