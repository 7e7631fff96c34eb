"""Test the command line as users see it: help, dry runs, exit statuses, and a study that was trained before."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import results
from hcl.assembly.experiment_files import load_resolved
from hcl.config.resolve import resolve
from orchestration.cli.options import command_line
from orchestration.training.run import Run
from tests.orchestration.conftest import Command, tree

COMMANDS = [
    "demo",
    "extract",
    "train",
    "sweep",
    "evaluate",
    "report",
    "data synth",
    "data metaworld",
    "config list",
    "config show",
    "config validate",
    "config from-released",
]
COMMANDS += ["data pack", "data unpack", "checkpoint import", "checkpoint show", "submit", "jobs list", "jobs logs"]
COMMANDS += ["results list", "results show", "results export", "results ablation", "results published", "results track"]
COMMANDS += ["reproduce", "predict", "jobs stop", "cluster render", "doctor"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, hcl: Command, tmp_path: Path) -> None:
    for flag in ("--help", "-h"):
        code, out, err = hcl(*command.split(), flag)
        assert code == 0 and err == ""
        assert f"hcl {command}" in out
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_all_commands(hcl: Command) -> None:
    code, out, _ = hcl("--help")
    assert code == 0
    for command in {command.split()[0] for command in COMMANDS}:
        assert f" {command} " in out


def test_config_list_names_what_is_shipped(hcl: Command) -> None:
    code, out, _ = hcl("config", "list")
    assert code == 0
    for name in ("demo", "published", "sigma", "d_model"):
        assert name in out.replace("\n", " ").replace(",", " ").split()


def test_flags_of_the_release_become_an_experiment_that_validates(hcl: Command, tmp_path: Path) -> None:
    line = "--ckpt_path my.pth --method hcl --data_aug type1 --d_model 1152 --sigma_temp 0.5 --sigma_spa 0.5"
    flags = line.split()
    code, out, _ = hcl("config", "from-released", "--", *flags)
    assert code == 0 and out.startswith("# Flags of the released code: --ckpt_path my.pth") and "base: published" in out
    code, out, _ = hcl("config", "from-released", "--to", "mine.yaml", "--", *flags)
    assert code == 0
    assert "hcl checkpoint import my.pth --to runs/released_ssv2_100_otam --experiment mine.yaml" in out
    assert hcl("config", "validate", "mine.yaml")[0] == 0
    code, _, err = hcl("config", "from-released", "--to", "mine.yaml", "--", *flags)
    assert code == 2 and "mine.yaml: exists" in err


def test_config_show_prints_each_value_with_its_origin(hcl: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: demo\noptim: {lr: 0.5}\n")
    code, out, _ = hcl("config", "show", "mine.yaml", "--set", "train.epochs=7")
    assert code == 0
    rows = {cells[1].strip(): cells for line in out.splitlines() if len(cells := line.split("│")) > 4}
    assert "7" in rows["train.epochs"][2] and "--set" in rows["train.epochs"][3]
    assert "0.5" in rows["optim.lr"][2] and "mine.yaml" in rows["optim.lr"][3]
    assert "hcl/experiments/demo.yaml" in rows["model.d_model"][3]
    assert "default" in rows["loss.temperature"][3]
    code, out, _ = hcl("config", "show", "mine.yaml", "--set", "train.epochs=7", "--origin", "--set")
    assert "train.epochs" in out and "optim.lr" not in out


def test_config_validate_names_a_mistake_or_the_digest(hcl: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: demo\noptim: {lr: 0.5}\n")
    code, out, err = hcl("config", "validate", "mine.yaml", "--set", "train.epochs=7")
    assert code == 0, err
    chosen = resolve("mine.yaml", ["train.epochs=7"]).experiment
    assert f"mine.yaml: valid, digest {chosen.digest()}" in out
    (tmp_path / "mine.yaml").write_text("base: demo\noptim: {lr: -1}\n")
    code, out, err = hcl("config", "validate", "mine.yaml")
    assert code == 2 and "optim.lr" in err and "mine.yaml" in err and out == ""


def test_a_dry_run_says_what_would_run_and_leaves_nothing(
    hcl: Command, data_root: Path, experiment_file: Path, tmp_path: Path
) -> None:
    code, out, _ = hcl("train", experiment_file, "--data", data_root, "--dry-run")
    assert code == 0
    assert "train: 20 clips of 4 classes" in out and "val: 15 clips of 3 classes" in out
    assert "4 steps, 32 clips" in out and "nothing was started" in out
    assert re.search(r"weights.+0\.04", out) and re.search(r"peak \(dry run\).+0\.\d\d", out)
    code, out, _ = hcl("sweep", experiment_file, "--data", data_root, "--trials", "7", "--dry-run")
    assert code == 0 and "7 trials of 2 epochs over space sigma" in out
    options = ("--data", data_root, "--dry-run", "--lag", "1", "--concurrency", "2", "--grace-epochs", "1")
    code, out, _ = hcl("sweep", experiment_file, *options)
    assert code == 0 and "reproducible by its seed and --lag 1" in out
    assert "no trial is stopped before the end of epoch 1" in out
    assert list(tmp_path.iterdir()) == [experiment_file]


def test_a_setting_given_to_a_sweep_is_not_searched(hcl: Command, data_root: Path, experiment_file: Path) -> None:
    options = ("sweep", experiment_file, "--data", data_root, "--dry-run", "--set", "loss.sigma_ce=0.125")
    code, out, _ = hcl(*options)
    assert code == 0
    assert "loss.sigma_ce: {'type': 'fixed', 'value': 0.125}" in out or "'value': 0.125" in out


@pytest.mark.ray
def test_train_evaluate_and_report_a_run(hcl: Command, trained: Run, data_root: Path, tmp_path: Path) -> None:
    """The run is finished, so training returns at once; its cached grids exist."""
    shutil.copytree(trained.folder, tmp_path / "runs" / "tiny")
    shutil.copytree(trained.runs / "cache" / "grids", tmp_path / "runs" / "cache" / "grids")
    settings = tmp_path / "runs" / "tiny" / "experiment.yaml"
    code, out, err = hcl("train", settings, "--data", data_root)
    assert code == 0, err
    assert "next: hcl evaluate" in out
    assert load_resolved(settings) == trained.experiment

    code, out, err = hcl("evaluate", "tiny", "--data", data_root, "--set", "evaluation.shots=[1]")
    assert code == 0, err
    assert "toy" in out and "1-shot" in out
    records = list((tmp_path / "runs" / "tiny" / "evaluation").glob("*.json"))
    assert [path.name for path in records] == ["hcl-toy-test-2way-1shot.json"]
    record = results.read_evaluation(records[0])
    assert record.settings == ["evaluation.shots=[1]"] and record.command.startswith("hcl evaluate tiny --data ")

    code, out, err = hcl("report", "tiny")
    assert code == 0, err
    page = tmp_path / "runs" / "tiny" / "report" / "index.html"
    assert str(page.relative_to(tmp_path)) in out and "toy" in page.read_text()
    text = page.read_text()
    for phrase in (
        "hcl evaluate tiny --data",
        "hcl report tiny",
        "settings changed from the defaults",
        "model.backbone",
    ):
        assert phrase in text
    before = {name: content for name, content in tree(trained.folder / "checkpoints").items() if name.endswith(".pt")}
    after = tree(tmp_path / "runs" / "tiny" / "checkpoints")
    assert {name: after[name] for name in before} == before and before


def without_preflight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command begin its work although there are no data."""
    for name in ("run_faults", "machine_faults"):
        monkeypatch.setattr(f"orchestration.planning.preflight.{name}", lambda *_: [])


def test_an_interrupt_ends_with_what_to_do_next(
    hcl: Command, experiment_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestration.training.train.train", interrupted)
    without_preflight(monkeypatch)
    code, _, err = hcl("train", experiment_file)
    assert code == 130
    assert "repeat the command to resume" in err


def test_a_bug_ends_in_a_traceback(hcl: Command, experiment_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("orchestration.training.train.train", broken)
    without_preflight(monkeypatch)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        hcl("train", experiment_file)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [("config list", 0), ("config show hcl --set train.epoch=3", 2), ("extract toy --data nowhere", 1), ("--nope", 2)],
)
def test_exit_statuses_of_the_process(arguments: str, code: int, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from orchestration.cli import main; main()", *arguments.split()]
    process = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == code, process.stderr
    assert "Traceback" not in process.stderr + process.stdout
    assert (process.stderr == "") == (code == 0)
    assert list(tmp_path.iterdir()) == []


def test_the_command_that_provenance_notes_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hcl", "train", "a b.yaml", "--set", "name=x"])
    assert command_line() == "hcl train 'a b.yaml' --set name=x"


def test_packing_and_unpacking_from_the_command_line(hcl: Command, data_root: Path, tmp_path: Path) -> None:
    images = tmp_path / "data" / "images" / "toy"
    shutil.copytree(data_root / "images" / "toy", images)
    before = tree(images)
    code, out, _ = hcl("data", "pack", "toy", "--data", tmp_path / "data", "--videos-per-shard", "7")
    assert code == 0 and "videos packed" in out
    assert {path.suffix for path in images.iterdir()} <= {".tar", ".parquet", ".npz"}  # the last: digests of frames
    code, out, _ = hcl("data", "unpack", "toy", "--data", tmp_path / "data")
    assert code == 0 and "videos unpacked" in out
    assert tree(images) == before
    for arguments, problem in ((("toy",), "holds no shards"), (("other",), "there are no frames"), (("../x",), "name")):
        code, _, err = hcl("data", "unpack", *arguments, "--data", tmp_path / "data")
        assert code == 1 and problem in err and "Traceback" not in err


def test_the_demo_ends_with_how_hcl_is_called(hcl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its work is left out here: tests/cluster/test_demo.py does it."""
    monkeypatch.setattr("orchestration.demo.run_demo", lambda **places: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env" / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    last = hcl("demo").out.splitlines()[-1]
    assert "README.md" in last and ". 'my env/bin/activate'" in last and "call 'my env/bin/hcl'" in last
    (tmp_path / "hcl").touch(mode=0o755)  # the environment is active
    last = hcl("demo").out.splitlines()[-1]
    assert "README.md" in last and "activate" not in last
