"""Test `--json`: one document on stdout, nothing else there, numbers unrounded; every command with a table has it."""

from __future__ import annotations

import ast
import inspect
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.config.resolve import resolve
from orchestration.cli import app
from orchestration.console import add_json, json_document, key_of
from orchestration.training.run import Run
from orchestration.training.run_files import BEST
from tests.architecture.test_light_start import JobServer
from tests.orchestration.conftest import Command, Outcome
from tests.results.conftest import made

NUMBER, CI95 = 0.512345678, 0.0123456789
PRINTERS = {"print_rows", "print_frame", "print_table", "print_rich", "show_memory", "show_plan", "show_status"}
"""Functions that print a table; a command that calls one, itself or by a function of its module, has --json."""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder with two evaluated runs that differ in a term, with answers, and a study."""
    for name, sigma, p_right in (("first", 0.5, 0.8), ("second", 1.5, 0.5)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        settings = {"name": name, "loss.sigma_ce": sigma}
        (folder / "experiment.yaml").write_text(to_yaml(resolve("metaworld_cpu", settings).experiment))
        results.write_provenance(folder, results.collect_provenance(f"hcl train metaworld_cpu --set name={name}"))
        epoch = {"epoch": 1, "val_accuracy": NUMBER, "val_ci95": CI95, "train_seconds": 1.5, "val_seconds": 0.5}
        results.write_epochs(folder, [epoch])
        for method in ("hcl", "otam"):
            outcomes = made(p_right, seed=len(method))
            record = results.EvaluationRecord(
                run=name, method=method, train_dataset="metaworld", dataset="ssv2_100_otam", partition="test", way=5,
                shot=1, queries=4, episodes=300, seed=0, accuracy=float(outcomes.accuracies.mean()), ci95=CI95,
                episodes_digest="e1",
            )  # fmt: skip
            results.write_outcomes(results.write_evaluation(folder, record), outcomes)
    trial = results.TrialRecord(trial="t0", params={"optim.lr": NUMBER}, value=NUMBER)
    (tmp_path / "runs" / "study").mkdir()
    (tmp_path / "runs" / "study" / "experiment.yaml").write_text(to_yaml(resolve("metaworld_cpu").experiment))
    study = results.SweepRecord(name="study", space={}, objective="val_accuracy", n_trials=1)
    results.write_sweep(tmp_path / "runs" / "study", study, [trial])
    return tmp_path / "runs"


def document(outcome: Outcome, code: int = 0) -> dict[str, Any]:
    """Return the document of a command; anything else on stdout is a mistake."""
    assert outcome.code == code, outcome.err
    content = json.loads(outcome.out)
    assert isinstance(content, dict) and content
    return content


CASES: dict[str, dict[str, set[str]]] = {
    "results list": {"runs": {"run", "data_set", "val_percent", "started"}},
    "status": {"states": {"name", "kind", "status", "folder"}},
    "results list studies": {"studies": {"study", "best", "sampler"}},
    "results list evaluations": {"evaluations": {"run", "method", "accuracy", "ci95", "settings"}},
    "results show first": {
        "settings": {"setting", "value", "default"},
        "provenance": {"command", "versions.torch"},
        "epochs": {"epoch", "val_accuracy"},
        "evaluations": {"accuracy", "ci95", "method"},
    },
    "results show study": {"study": {"objective", "n_trials"}, "trials": {"trial", "params", "value"}},
    "results compare first second": {"differences": {"accuracy_a", "accuracy_b", "difference", "p_value", "verdict"}},
    "results classes first --method hcl --method otam": {
        "classes": {"dataset", "method", "class", "accuracy"},
        "confusions": {"dataset", "method", "class", "taken_for", "share"},
    },
    "results seeds first second": {"cells": {"method", "dataset", "runs", "mean", "sd"}},
    "results ablation": {"cells": {"run", "loss.sigma_ce", "accuracy", "difference", "p_value"}},
    "results published": {"evaluations": {"accuracy"}, "published": {"method", "source", "accuracy"}},
    "report first": {"evaluations": {"accuracy", "ci95"}},
    "config list": {},
    "config show demo": {"settings": {"path", "value", "origin", "unit", "meaning"}},
    "data list": {"datasets": {"name", "title", "partitions"}},
    "data check toy --data data": {"partitions": {"partition", "videos", "missing"} - {"videos"}},
    "cluster plan first --nodes 4": {"plan": {"concurrency", "study_s"}, "costs": {"clip_s", "pair_s"}},
    "sweep study --status": {"study": {"best_trial"}, "trials": {"value"}},
}


@pytest.mark.parametrize("command", CASES)
def test_a_command_prints_one_document(command: str, hcl: Command, runs: Path, data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(data_root)
    content = document(hcl(*command.split(), "--json"))
    for name, keys in CASES[command].items():
        rows = content[name] if isinstance(content[name], list) else [content[name]]
        assert rows and keys <= set(rows[0]), rows[0].keys()


def test_numbers_are_not_rounded_and_notes_go_to_stderr(hcl: Command, runs: Path) -> None:
    (runs / "second" / "evaluation" / "broken.json").write_text("{")
    outcome = hcl("results", "show", "second", "--json")
    content = document(outcome)
    assert content["epochs"][0]["val_accuracy"] == NUMBER and content["evaluations"][0]["ci95"] == CI95
    assert "broken.json" in outcome.err and "broken.json" not in outcome.out
    run, *_ = document(hcl("results", "list", "--json"))["runs"]
    assert run["val_percent"] == pytest.approx(100 * NUMBER, abs=1e-9)
    [row] = document(hcl("results", "compare", "first", "second", "--json"))["differences"]
    assert row["difference"] == pytest.approx(row["accuracy_a"] - row["accuracy_b"]) and row["p_value"] < 0.05
    [first, second] = document(hcl("results", "ablation", "--json"))["cells"]
    assert first["run"] == second["reference"] == "second" and first["difference"] is None
    assert second["difference"] == pytest.approx(row["difference"])


def test_a_command_that_fails_prints_no_document(hcl: Command, runs: Path) -> None:
    outcome = hcl("results", "show", "nobody", "--json")
    assert outcome.code == 2 and outcome.out == "" and "no such folder" in outcome.err
    outcome = hcl("status", "--watch", "--json")
    assert outcome.code == 2 and outcome.out == "" and "leave out one of the two" in outcome.err


def test_an_empty_list_is_a_document(hcl: Command, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert document(hcl("results", "list", "--json")) == {"runs": []}


@pytest.fixture
def server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), JobServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_jobs_are_a_document(hcl: Command, server: str) -> None:
    [job] = document(hcl("jobs", "list", "--address", server, "--json"))["jobs"]
    assert job["state"] == "succeeded" and job["command"] == "hcl train hcl" and job["exit"] is None


@pytest.mark.ray
def test_evaluating_and_training_print_one_document(
    hcl: Command, trained: Run, data_root: Path, experiment_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.folder, tmp_path / "runs" / "tiny")
    where = ("--data", data_root, "--json")
    plan = document(hcl("evaluate", "tiny", *where, "--dry-run"))["plan"]
    assert plan[0]["clips"] == 15 and plan[0]["pairs_to_score"] == 225
    outcome = hcl("evaluate", "tiny", *where)
    assert {row["shot"] for row in document(outcome)["evaluations"]} == {1, 3} and "encoded" in outcome.err
    plan = document(hcl("train", experiment_file, *where, "--set", "name=next", "--dry-run"))
    assert plan["plan"]["steps"] == 4 and {row["partition"] for row in plan["partitions"]} == {"train", "val"}
    assert plan["memory"][-1]["part"] == "peak (dry run)" and plan["memory"][-1]["bytes"] > 0
    tensors = document(hcl("checkpoint", "show", trained.folder / BEST, "--json"))["tensors"]
    assert {"tensor", "shape", "type", "sum"} <= set(tensors[0])


def commands(command: Any, path: str = "hcl") -> Iterator[tuple[str, Any]]:
    """Yield the path and the command of everything that can be run."""
    if isinstance(command, TyperGroup):
        for name, one in command.commands.items():
            yield from commands(one, f"{path} {name}")
    else:
        yield path, command


def callers(source: str) -> set[str]:
    """Return the functions of a module that print a table, themselves or by others of the module."""
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    calls = {
        name: {one.func.id for one in ast.walk(node) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}
        for name, node in functions.items()
    }
    found: set[str] = set()
    while more := {name for name, called in calls.items() if called & (PRINTERS | found)} - found:
        found |= more
    return found


def test_the_check_sees_who_prints_a_table() -> None:
    source = "def a():\n    b()\n\ndef b():\n    print_rows()\n\ndef c():\n    d()\n"
    assert callers(source) == {"a", "b"}


def test_every_command_that_prints_a_table_has_json() -> None:
    printing = set()
    for path, command in commands(typer.main.get_command(app)):
        function = inspect.unwrap(command.callback)
        if function.__name__ in callers(inspect.getsource(inspect.getmodule(function))):
            printing.add(path)
            assert any("--json" in parameter.opts for parameter in command.params), path
    assert {"hcl results list", "hcl sweep", "hcl doctor", "hcl cluster plan", "hcl predict"} <= printing


def test_values_of_numpy_and_numbers_that_are_not_finite_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with json_document():
        add_json("rows", [{"a": float("nan"), "b": (1, 2), "c": Path("x")}])
        add_json("rows", [{"a": 1.5}])
        print("progress")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"rows": [{"a": None, "b": [1, 2], "c": "x"}, {"a": 1.5}]} and err == "progress\n"
    add_json("rows", [1])  # outside of a document nothing happens
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("heading", "key"), [("data set", "data_set"), ("val %", "val_percent"), ("± classes", "half_width_classes")]
)
def test_a_heading_becomes_a_key(heading: str, key: str) -> None:
    assert key_of(heading) == key
