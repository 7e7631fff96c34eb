"""`hcl doctor`: what a cluster can do, what is missing, and what to do about it, node by node."""

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
from orchestration.clusters.node_facts import NodeFacts, node_facts
from orchestration.runtime.connect import connect
from orchestration.runtime.each_node import Answer, ask_each_node

State = Literal["ok", "note", "wrong"]

ANSWER_S = 90.0  # how long a node may take: a first import on a network file system is slow, a dead mount hangs
_SKEW_S = 5.0
_MIN_RUNS_GB, _MIN_TEMP_GB, _MIN_SHM_GB = 10.0, 5.0, 1.0


@dataclass(frozen=True)
class Finding:
    """One line of the table. `remedy` is empty where nothing has to be done."""

    node: str
    check: str
    state: State
    found: str
    remedy: str = ""


def examine(data: Path, runs: Path, address: str | None = None) -> list[Finding]:
    """Look at every node of a cluster; without an address and outside a job, at this machine.

    Raises:
        ClusterError: Ray cannot be started or reached.
    """
    data, runs = data.absolute(), runs.absolute()
    findings = judge_token(os.environ, home_folder() or Path())
    with connect(address), _marked(runs) as (marker, problem):
        if problem:
            findings.append(Finding("driver", "runs", "wrong", f"{runs}: {problem}", "give --runs a folder of yours"))
        facts: dict[str, NodeFacts] = {}
        for answer in _ask(data, runs, marker):
            if answer.error is None:
                facts[answer.node] = answer.said
                continue
            remedy = "look into Ray's logs of that node; install the same image on all"
            findings.append(Finding(answer.node, "program", "wrong", answer.problem, remedy))
    return findings + judge(facts, data, runs)


def judge(facts: dict[str, NodeFacts], data: Path, runs: Path) -> list[Finding]:
    """What the facts of the nodes mean; nodes are compared with the first, which is the driver's where it is one."""
    findings: list[Finding] = []
    for node, one in facts.items():
        findings += _judge_versions(node, one, next(iter(facts.values())))
        findings += _judge_devices(node, one)
        findings += _judge_storage(node, one, data, runs)
    return findings


def judge_token(environment: os._Environ[str] | dict[str, str], home: Path) -> list[Finding]:
    """Of this machine: is there a token, is it asked for, can others read it?"""
    token, mode = find_token(environment, home), environment.get("RAY_AUTH_MODE", "")
    if token is None:
        remedy = "ray get-auth-token --generate, and RAY_AUTH_MODE=token where Ray is started"
        return [Finding("driver", "token", "note", "none: whoever reaches the cluster can run code on it", remedy)]
    with suppress(OSError):
        path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token")
        if token.origin != "RAY_AUTH_TOKEN" and path.stat().st_mode & 0o077:
            return [Finding("driver", "token", "wrong", f"others can read {path}", f"chmod 600 {path}")]
    found = f"from {token.origin}"
    if mode != "token":
        return [Finding("driver", "token", "note", f"{found}, but not asked for", "export RAY_AUTH_MODE=token")]
    return [Finding("driver", "token", "ok", found)]


def _judge_versions(node: str, one: NodeFacts, first: NodeFacts) -> Iterator[Finding]:
    differing = [f"{name} {version}" for name, version in one.versions.items() if version != first.versions[name]]
    differing += [f"Python {one.python}"] if one.python != first.python else []
    differing += [f"code {one.code}"] if one.code != first.code else []
    if differing:
        remedy = f"install the same on all; {first.host} has other ones"
        yield Finding(node, "versions", "wrong", ", ".join(differing), remedy)
    else:
        found = f"Python {one.python}, ray {one.versions['ray']}, torch {one.versions['torch']}, code {one.code}"
        yield Finding(node, "versions", "ok", found)
    if one.undecoded:
        remedy = "install opencv-python-headless: its wheels hold FFmpeg"
        yield Finding(node, "videos", "wrong", f"not decoded: {', '.join(one.undecoded)}", remedy)
    else:
        yield Finding(node, "videos", "ok", f"mp4, webm and avi by cv2 {one.versions['opencv-python-headless']}")

    if one.skew_s > _SKEW_S:
        yield Finding(node, "clock", "wrong", f"{one.skew_s:.0f} s off the driver's", "run an NTP client on each node")


def _judge_devices(node: str, one: NodeFacts) -> Iterator[Finding]:
    if one.n_gpus_of_ray > len(one.gpus):
        yield Finding(
            node,
            "GPUs",
            "wrong",
            f"Ray has {one.n_gpus_of_ray}, torch sees {len(one.gpus)}",
            "check nvidia-smi there, the container's GPU runtime, and that torch is a CUDA build",
        )
    elif not one.gpus:
        yield Finding(node, "GPUs", "ok", "none: for extraction and frozen backbones")
    elif not one.nccl:
        yield Finding(node, "GPUs", "wrong", "torch has no NCCL", "install a CUDA build of torch for Linux")
    else:
        yield Finding(node, "GPUs", "ok", f"{len(one.gpus)} x {one.gpus[0]}, NCCL {one.nccl}")
    if one.shm_gb is not None and one.shm_gb < _MIN_SHM_GB:
        remedy = "give the container more: --shm-size=8g, or an emptyDir of medium Memory"
        yield Finding(node, "/dev/shm", "wrong", f"{one.shm_gb:.1f} GB", remedy)
    elif one.shm_gb is not None:
        yield Finding(node, "/dev/shm", "ok", f"{one.shm_gb:.1f} GB")


def _judge_storage(node: str, one: NodeFacts, data: Path, runs: Path) -> Iterator[Finding]:
    if one.sees_data:
        yield Finding(node, "data", "ok", f"{data} is seen")
    else:
        yield Finding(node, "data", "wrong", f"{data} is not seen", "mount the data root there under the same path")
    if one.runs_problem:
        remedy = "mount the runs folder there under the same path, writable"
        yield Finding(node, "runs", "wrong", f"{runs}: {one.runs_problem}", remedy)
    else:
        yield _room(node, "runs", one.free_runs_gb or 0.0, _MIN_RUNS_GB, "free space, or give --runs a larger folder")
    yield _room(node, "temporary files", one.free_temp_gb, _MIN_TEMP_GB, "free space in /tmp, or set RAY_TMPDIR")


def _room(node: str, check: str, free_gb: float, least_gb: float, remedy: str) -> Finding:
    is_short = free_gb < least_gb
    return Finding(node, check, "note" if is_short else "ok", f"{free_gb:.1f} GB free", remedy if is_short else "")


def _ask(data: Path, runs: Path, marker: str) -> Iterator[Answer]:
    """Facts of each live node, or why there are none."""
    asked_at = time.time()
    # Without a GPU of its own a task sees none: the environment of the node's own process shows them all.
    shown = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    question = lambda node: (data, runs, marker, int(node["Resources"].get("GPU", 0)))  # noqa: E731
    for answer in ask_each_node(node_facts, question, env_vars=shown, answer_s=ANSWER_S):
        if answer.error is None:
            skew = max(0.0, asked_at - answer.said.clock, answer.said.clock - time.time())
            answer = answer._replace(said=replace(answer.said, skew_s=skew))
        yield answer


@contextmanager
def _marked(runs: Path) -> Iterator[tuple[str, str]]:
    """A file in the runs folder for the duration of a block: its name, and why there is none, if there is none."""
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
