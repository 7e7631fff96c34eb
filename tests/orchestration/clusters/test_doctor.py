"""Test the doctor's judgement of facts, and its table for this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestration.clusters.doctor import judge, judge_token
from orchestration.clusters.node_facts import PACKAGES, NodeFacts
from tests.orchestration.conftest import Command

DATA, RUNS = Path("/shared/data"), Path("/shared/runs")
SOUND = NodeFacts(
    host="a",
    python="3.11.7",
    code="c0de",
    versions=dict.fromkeys(PACKAGES, "1.0"),
    gpus=["H100"],
    n_gpus_of_ray=1,
    nccl="2.27.5",
    emulated=(),
    undecoded=[],
    sees_data=True,
    runs_problem="",
    free_runs_gb=500.0,
    free_temp_gb=50.0,
    shm_gb=8.0,
)


def test_two_sound_nodes_have_nothing_to_do() -> None:
    findings = judge({"a": SOUND, "b": replace(SOUND, host="b")}, DATA, RUNS)
    assert {finding.node for finding in findings} == {"a", "b"}
    assert {(finding.state, finding.remedy) for finding in findings} == {("ok", "")}


@pytest.mark.parametrize(
    ("change", "check", "state", "found"),
    [
        ({"python": "3.12.1"}, "versions", "wrong", "Python 3.12.1"),
        ({"code": "0ther"}, "versions", "wrong", "code 0ther"),
        ({"versions": {**SOUND.versions, "torch": "2.0"}}, "versions", "wrong", "torch 2.0"),
        ({"gpus": []}, "GPUs", "wrong", "Ray has 1, torch sees 0"),
        (
            {"gpus": [], "n_gpus_of_ray": 0, "emulated": ("bfloat16", "float16")},
            "bfloat16",
            "note",
            "emulated by the processor: several times slower than float32",
        ),
        ({"nccl": ""}, "GPUs", "wrong", "torch has no NCCL"),
        ({"undecoded": [".webm"]}, "videos", "wrong", "not decoded: .webm"),
        ({"sees_data": False}, "data", "wrong", "/shared/data is not visible"),
        ({"runs_problem": "Read-only file system"}, "runs", "wrong", "/shared/runs: Read-only file system"),
        ({"free_runs_gb": 1.0}, "runs", "note", "1.0 GB free"),
        ({"free_temp_gb": 1.0}, "temporary files", "note", "1.0 GB free"),
        ({"shm_gb": 0.064}, "/dev/shm", "wrong", "0.1 GB"),
        ({"skew_s": 60.0}, "clock", "wrong", "60 s off the driver's clock"),
    ],
)
def test_each_fault_is_one_line_with_a_remedy(change: dict[str, Any], check: str, state: str, found: str) -> None:
    findings = judge({"a": SOUND, "b": replace(SOUND, **change)}, DATA, RUNS)
    (fault,) = [finding for finding in findings if finding.state != "ok"]
    assert (fault.node, fault.check, fault.state, fault.found) == ("b", check, state, found)
    assert fault.remedy


def test_the_token_is_judged_by_its_place_and_never_shown(tmp_path: Path) -> None:
    (none,) = judge_token({}, tmp_path)
    assert none.state == "note" and "--generate" in none.remedy
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("sesame")
    path.chmod(0o644)
    (open_,) = judge_token({"RAY_AUTH_MODE": "token"}, tmp_path)
    assert open_.state == "wrong" and open_.remedy == f"chmod 600 {path}"
    path.chmod(0o600)
    (idle,) = judge_token({}, tmp_path)
    (good,) = judge_token({"RAY_AUTH_MODE": "token"}, tmp_path)
    assert (idle.state, good.state) == ("note", "ok")
    assert "sesame" not in f"{open_} {idle} {good}"


@pytest.mark.ray
def test_this_machine(hcl: Command, local_ray: ModuleType, data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    code, out, err = hcl("doctor", "--data", data_root)
    assert code == 0, out + err
    for text in ("mp4, webm and avi", "is visible", "GB free", "nothing is wrong"):
        assert text in out
    assert list((tmp_path / "runs").iterdir()) == []
    code, out, _ = hcl("doctor", "--data", tmp_path / "nowhere", "--runs", tmp_path / "absent")
    assert code == 1 and "is not visible" in out and "No such file or directory" in out
    assert "3 findings are wrong, each with its remedy" in out
