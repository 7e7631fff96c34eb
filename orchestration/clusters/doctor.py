"""Check what a cluster can do and what is missing, with a remedy, node by node: `hcl doctor`."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cluster.tokens import find_token, home_folder
from hcl.config import Experiment
from hcl.errors import HCLError
from hcl.frames.stored_dataset import DataRoot
from orchestration.clusters.node_facts import NodeFacts, node_facts
from orchestration.runtime.connect import connect
from orchestration.runtime.each_node import Answer, ask_each_node

State = Literal["ok", "note", "wrong"]

ANSWER_S = 90.0  # time limit of a node: a first import on a network file system is slow
_SKEW_S = 5.0
_MIN_RUNS_GB, _MIN_TEMP_GB, _MIN_SHM_GB = 10.0, 5.0, 1.0


@dataclass(frozen=True)
class Finding:
    """Hold one line of the table. `remedy` is empty if there is nothing to do."""

    node: str
    check: str
    state: State
    found: str
    remedy: str = ""


def examine(data: Path, runs: Path, address: str | None = None) -> list[Finding]:
    """Check every node of a cluster; without an address and outside a job, check this machine.

    Raises:
        ClusterError: if Ray cannot be started or reached.
    """
    data, runs = data.absolute(), runs.absolute()
    findings = judge_token(os.environ, home_folder() or Path())
    with connect(address), _marked(runs) as (marker, problem):
        if problem:
            findings.append(
                Finding("driver", "runs", "wrong", f"{runs}: {problem}", "use --runs with a folder of your own")
            )
        facts: dict[str, NodeFacts] = {}
        for answer in _ask(data, runs, marker):
            if answer.error is None:
                facts[answer.node] = answer.reply
                continue
            remedy = "check Ray's logs of that node, and install the same image on all"
            findings.append(Finding(answer.node, "program", "wrong", answer.problem, remedy))
    return findings + judge(facts, data, runs)


def examine_experiment(experiment: Experiment, data: Path, runs: Path, address: str | None = None) -> list[Finding]:
    """Return a finding for everything that an experiment lacks: data, episodes, weights, GPUs, disk."""
    from orchestration.planning.preflight import machine_faults, run_faults
    from orchestration.training.run import Run

    run = Run(experiment, DataRoot(data.absolute()), runs.absolute(), runs.absolute() / experiment.name)
    try:
        errors = [fault.error for fault in [*run_faults(run), *machine_faults(run, address)]]
    except HCLError as error:  # lists that cannot be read
        errors = [error]
    of = [Finding("driver", error.where or "data", "wrong", error.problem, error.remedy or "") for error in errors]
    return of or [Finding("driver", f"experiment {experiment.name}", "ok", "the data and this machine have all of it")]


def judge(facts: dict[str, NodeFacts], data: Path, runs: Path) -> list[Finding]:
    """Return the findings about the nodes, which are compared with the first one, the driver's if it is a node."""
    findings: list[Finding] = []
    for node, of_node in facts.items():
        findings += _judge_versions(node, of_node, next(iter(facts.values())))
        findings += _judge_devices(node, of_node)
        findings += _judge_storage(node, of_node, data, runs)
    return findings


def judge_token(environment: os._Environ[str] | dict[str, str], home: Path) -> list[Finding]:
    """Return the findings about this machine's token: whether it exists, is required, and is readable by others."""
    token, mode = find_token(environment, home), environment.get("RAY_AUTH_MODE", "")
    if token is None:
        remedy = "ray get-auth-token --generate, and RAY_AUTH_MODE=token where Ray is started"
        return [Finding("driver", "token", "note", "none: anybody who reaches the cluster can run code on it", remedy)]
    with suppress(OSError):
        path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token")
        if token.origin != "RAY_AUTH_TOKEN" and path.stat().st_mode & 0o077:
            return [Finding("driver", "token", "wrong", f"others can read {path}", f"chmod 600 {path}")]
    found = f"from {token.origin}"
    if mode != "token":
        return [Finding("driver", "token", "note", f"{found}, but not required by Ray", "export RAY_AUTH_MODE=token")]
    return [Finding("driver", "token", "ok", found)]


def _judge_versions(node: str, facts: NodeFacts, first: NodeFacts) -> Iterator[Finding]:
    differing = [f"{name} {version}" for name, version in facts.versions.items() if version != first.versions[name]]
    differing += [f"Python {facts.python}"] if facts.python != first.python else []
    differing += [f"code {facts.code}"] if facts.code != first.code else []
    if differing:
        remedy = f"install the same on all; {first.host} differs"
        yield Finding(node, "versions", "wrong", ", ".join(differing), remedy)
    else:
        found = (
            f"Python {facts.python}, ray {facts.versions['ray']}, torch {facts.versions['torch']}, code {facts.code}"
        )
        yield Finding(node, "versions", "ok", found)
    if facts.undecoded:
        remedy = "install opencv-python-headless: its wheels hold FFmpeg"
        yield Finding(node, "videos", "wrong", f"not decoded: {', '.join(facts.undecoded)}", remedy)
    else:
        yield Finding(node, "videos", "ok", f"mp4, webm and avi by cv2 {facts.versions['opencv-python-headless']}")

    if facts.skew_s > _SKEW_S:
        yield Finding(
            node, "clock", "wrong", f"{facts.skew_s:.0f} s off the driver's clock", "run an NTP client on each node"
        )


def _judge_devices(node: str, facts: NodeFacts) -> Iterator[Finding]:
    if facts.n_gpus_of_ray > len(facts.gpus):
        yield Finding(
            node,
            "GPUs",
            "wrong",
            f"Ray has {facts.n_gpus_of_ray}, torch sees {len(facts.gpus)}",
            "check nvidia-smi there, the container's GPU runtime, and that torch is a CUDA build",
        )
    elif not facts.gpus:
        yield Finding(node, "GPUs", "ok", "none: enough for extraction and frozen backbones")
    elif not facts.nccl:
        yield Finding(node, "GPUs", "wrong", "torch has no NCCL", "install a CUDA build of torch for Linux")
    else:
        yield Finding(node, "GPUs", "ok", f"{len(facts.gpus)} x {facts.gpus[0]}, NCCL {facts.nccl}")
    if not facts.gpus and "bfloat16" in facts.emulated:
        remedy = "train with train.precision=float32 there"
        yield Finding(node, "bfloat16", "note", "emulated by the processor: several times slower than float32", remedy)
    if facts.shm_gb is not None and facts.shm_gb < _MIN_SHM_GB:
        remedy = "give the container more: --shm-size=8g, or an emptyDir of medium Memory"
        yield Finding(node, "/dev/shm", "wrong", f"{facts.shm_gb:.1f} GB", remedy)
    elif facts.shm_gb is not None:
        yield Finding(node, "/dev/shm", "ok", f"{facts.shm_gb:.1f} GB")


def _judge_storage(node: str, facts: NodeFacts, data: Path, runs: Path) -> Iterator[Finding]:
    if facts.sees_data:
        yield Finding(node, "data", "ok", f"{data} is visible")
    else:
        yield Finding(node, "data", "wrong", f"{data} is not visible", "mount the data root there under the same path")
    if facts.runs_problem:
        remedy = "mount the runs folder there under the same path, writable"
        yield Finding(node, "runs", "wrong", f"{runs}: {facts.runs_problem}", remedy)
    else:
        yield _room(node, "runs", facts.free_runs_gb or 0.0, _MIN_RUNS_GB, "free space, or use --runs on a larger disk")
    yield _room(node, "temporary files", facts.free_temp_gb, _MIN_TEMP_GB, "free space in /tmp, or set RAY_TMPDIR")


def _room(node: str, check: str, free_gb: float, least_gb: float, remedy: str) -> Finding:
    is_short = free_gb < least_gb
    return Finding(node, check, "note" if is_short else "ok", f"{free_gb:.1f} GB free", remedy if is_short else "")


def _ask(data: Path, runs: Path, marker: str) -> Iterator[Answer]:
    """Yield the facts of each live node, or the error of asking it."""
    asked_at = time.time()
    # Ray hides GPUs from tasks that request none; the environment of the node's own process shows them all.
    shown = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    question = lambda node: (data, runs, marker, int(node["Resources"].get("GPU", 0)))  # noqa: E731
    for answer in ask_each_node(node_facts, question, env_vars=shown, answer_s=ANSWER_S):
        if answer.error is None:
            skew = max(0.0, asked_at - answer.reply.clock, answer.reply.clock - time.time())
            answer = answer._replace(reply=replace(answer.reply, skew_s=skew))
        yield answer


@contextmanager
def _marked(runs: Path) -> Iterator[tuple[str, str]]:
    """Keep a file in the runs folder for the duration of a block; yield its name, and the problem of writing it, if
    any."""
    marker, problem = f".doctor-{secrets.token_hex(4)}", ""
    try:
        (runs / marker).write_text("seen by every node?")
    except OSError as error:
        problem = error.strerror or str(error)
    try:
        yield marker, problem
    finally:
        with suppress(OSError):
            (runs / marker).unlink(missing_ok=True)
