"""Commands import what they run: the help, the completion and commands that read records start without heavy packages.

What may not be loaded is named by command. Time and memory depend on the machine and are not asserted.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import ray

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.config.resolve import resolve
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import ExtractionJob
from orchestration.extraction.extractor import Extractor, Place

ROOT = Path(__file__).resolve().parents[2]
NEVER = frozenset({"torch", "torchvision", "ray", "cv2", "av", "scipy", "transformers", "optuna", "sqlalchemy"}) | {
    "metaworld",
    "mujoco",
}
TABLES = frozenset({"pandas", "pyarrow"})
HEAVY = NEVER | TABLES

OF_HELP = """
import sys
import typer
from typer.core import TyperGroup
from orchestration.cli import app

def commands(command, words):
    yield words
    for name, one in (command.commands.items() if isinstance(command, TyperGroup) else ()):
        yield from commands(one, [*words, name])

group, paths = typer.main.get_command(app), []
for words in list(commands(group, [])):
    try:
        group.main([*words, "--help"], "hcl")
    except SystemExit as stop:
        assert stop.code == 0, words
    paths.append(" ".join(words))
print(repr((paths, sorted(name for name in sys.modules if "." not in name))), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a run, `trained`, a study, `study`, with two trials, and the description of a cluster."""
    folder = tmp_path_factory.mktemp("runs")
    cluster = {"head": {"machine": "m6i.xlarge"}, "gpu": {"count": 1, "gpus": 2, "machine": "g5.12xlarge"}}
    (folder / "cluster.yaml").write_text(
        json.dumps(cluster | {"ami": "ami-0123456789abcdef0", "storage": {"server": "fs.example:/"}})
    )
    for name in ("trained", "study"):
        (folder / name).mkdir()
        (folder / name / "experiment.yaml").write_text(to_yaml(resolve(None, {"name": name}).experiment))
        results.write_provenance(folder / name, results.collect_provenance(f"hcl train {name}"))
    results.write_epochs(folder / "trained", [{"epoch": 1, "val_accuracy": 0.5, "val_ci95": 0.1}])
    record = results.EvaluationRecord(
        run="trained", method="hcl", train_dataset="toy", dataset="toy", partition="test", way=5, shot=1, queries=3,
        episodes=30, seed=0, accuracy=0.5, ci95=0.1,
    )  # fmt: skip
    results.write_evaluation(folder / "trained", record)
    trials = [results.TrialRecord(trial=f"trial-{n}", params={"optim.lr": n}, value=n / 9) for n in range(2)]
    sweep = results.SweepRecord(name="study", space={}, objective="val_accuracy", best_trial="trial-1", n_trials=2)
    results.write_sweep(folder / "study", sweep, trials)
    return folder


class JobServer(http.server.BaseHTTPRequestHandler):
    """Answer as a cluster's job server that has run one job."""

    JOB = {"type": "SUBMISSION", "submission_id": "one", "status": "SUCCEEDED", "entrypoint": "hcl train hcl"}  # noqa: RUF012
    ANSWERS = {  # noqa: RUF012
        "/api/version": {"version": "4", "ray_version": "2.60.0"},
        "/api/jobs/": [JOB],
        "/api/jobs/one": JOB,
        "/api/jobs/one/logs": {"logs": "epoch 1\n"},
        "/api/jobs/one/stop": {"stopped": False},
    }

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(self.ANSWERS[self.path]).encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), JobServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(*words: str, **variables: str) -> tuple[str, set[str]]:
    """Run a command as a process; return its output, and the packages and modules that it has imported."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-c",
        "import sys; sys.argv[0] = 'hcl'; from orchestration.cli import main; main()",
        *words,
    ]
    environment = {**os.environ, "COLUMNS": "200", **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert "orchestration.cli" in loaded
    return done.stdout, loaded


@pytest.mark.parametrize(
    ("words", "output", "forbidden"),
    [
        (["--help"], "evaluate", HEAVY),
        (["--version"], "revision", HEAVY),
        (["config", "list"], "metaworld_cpu", HEAVY),
        (["config", "show", "demo"], "optim.lr", HEAVY),
        (["config", "validate", "demo"], "valid, digest", HEAVY),
        (["data", "list"], "hmdb51", HEAVY),
        (["sweep", "--status", "study"], "trial-1", HEAVY - {"pyarrow"}),  # trials are kept in a Parquet file
        (["results", "list"], "trained", NEVER),
        (["results", "list", "studies"], "study", NEVER),
        (["status"], "stopped: 1 of 15 epochs", HEAVY - {"pyarrow"}),
        (["results", "show", "trained"], "50.0 ± 10.0", NEVER),
        (["results", "show", "study"], "trial-1", HEAVY - {"pyarrow"}),
        (["cluster", "render", "laptop", "--cpus", "1x2"], "ray start", HEAVY),
        (["cluster", "render", "kuberay", "--gpus", "1x2", "--image", "x/y:1", "--claim", "c"], "RayCluster", HEAVY),
        (["cluster", "render", "ray-up", "--from", "cluster.yaml"], "cluster_name", HEAVY),
        (["cluster", "render", "slurm", "--gpus", "1x2", "--", "train", "hcl"], "#SBATCH", HEAVY),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else None,
)
def test_a_command_that_reads_starts_light(runs: Path, words: list[str], output: str, forbidden: set[str]) -> None:
    where = ["--runs", str(runs)] if words[0] in ("results", "sweep", "status") else []
    words = [str(runs / word) if word == "cluster.yaml" else word for word in words]
    text, loaded = run(*words, *where)
    assert output in text
    assert not loaded & forbidden


@pytest.mark.parametrize(
    ("words", "output"), [(["list"], "succeeded"), (["logs", "one"], "epoch 1"), (["stop", "one"], "had ended")]
)
def test_jobs_are_looked_at_without_ray(server: str, words: list[str], output: str) -> None:
    text, loaded = run("jobs", *words, "--address", server)
    assert output in text
    assert not loaded & HEAVY


def test_the_shell_completes_without_heavy_packages() -> None:
    text, loaded = run(_HCL_COMPLETE="complete_bash", COMP_WORDS="hcl res", COMP_CWORD="1")
    assert text.split() == ["results"]
    assert not loaded & HEAVY


def test_the_help_of_every_command_starts_light() -> None:
    done = subprocess.run([sys.executable, "-c", OF_HELP], cwd=ROOT, capture_output=True, text=True, check=True)
    paths, loaded = eval(done.stderr.splitlines()[-1])
    assert {"", "train", "results compare", "data splits make", "cluster render"} <= set(paths) and len(paths) > 35
    assert not set(loaded) & HEAVY


@pytest.mark.parametrize("name", ["load", "mean_and_ci95", "Outcomes", "over_classes"])
def test_a_record_is_read_without_numpy_until_a_frame_is_asked_for(name: str) -> None:
    code = f"import sys, results; assert 'numpy' not in sys.modules; results.{name}; assert 'numpy' in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_public_name_of_results_can_be_imported() -> None:
    assert all(getattr(results, name) is not None for name in results.__all__)
    assert set(results._WHEN_USED) <= set(results.__all__) <= set(dir(results))
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        results.laod  # noqa: B018


@pytest.mark.ray
def test_an_extraction_actor_loads_what_it_needs_alone(local_ray: ModuleType, tmp_path: Path) -> None:
    """It takes what Ray and the decoders take: neither torch nor pandas, nor the modules of commands."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 32))
    for frame in frames:
        writer.write(frame)
    writer.release()
    actor = ray.remote(num_cpus=0)(Extractor).remote(Place(tmp_path), FrameOptions())
    record = ray.get(actor.extract.remote(ExtractionJob(tmp_path / "v.avi", "c/v.avi", tmp_path / "c" / "v")))
    loaded = set(ray.get(actor.__ray_call__.remote(lambda _: list(sys.modules))))
    assert record.n_frames == len(frames) and "orchestration.extraction.extractor" in loaded
    heavy = HEAVY - {"ray", "cv2", "av", "pyarrow"} | {"ray.data", "ray.train", "ray.tune"}  # Ray loads pyarrow itself
    commands = {"typer", "rich", "orchestration.cli", "orchestration.console"}
    assert not loaded & (heavy | commands)


@pytest.mark.ray
def test_the_driver_of_an_extraction_loads_no_torch(tmp_path: Path) -> None:
    run("data", "synth", "--data", str(tmp_path), "--videos-per-class", "2", "--size", "32", "--domain", "plain")
    text, loaded = run("extract", "synth_plain", "--data", str(tmp_path))
    assert "72 extracted" in text
    assert not loaded & {"torch", "torchvision", "scipy", "transformers", "optuna", "ray.data", "ray.train", "ray.tune"}
