"""Test the scripts for SLURM and a laptop by running them in bash with replacements of the programs they call."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cluster.description import Description, Nodes
from cluster.errors import DescriptionError
from cluster.scripts import render_laptop, render_slurm
from tests.cluster.described import GPU, WHOLE

SAYS = """printf "%s\\n" "$@"; echo "token $(wc -c < "$RAY_AUTH_TOKEN_PATH")"
echo "mode $(stat -c %a "$RAY_AUTH_TOKEN_PATH")"; echo "umask $(umask)"; echo "waits $RAY_py_gcs_connect_timeout_s"
"""

RUNS = SAYS + 'while [ "$1" != -- ]; do shift; done; shift; "$@"; exit "${RAY_ENDS_WITH:-$?}"'


def by_bash(
    folder: Path, script: str, programs: dict[str, str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script with some programs replaced, and the folder as home."""
    (folder / "script.sh").write_text(script)
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    environment |= {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    return subprocess.run(
        ["bash", "-c", "umask 022; exec bash script.sh"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def slurm(folder: Path, srun: str, *, names: str = "node7\nnode8", **more: str) -> subprocess.CompletedProcess[str]:
    """Run a SLURM job with a given `srun`; its command prints its words and the umask, and exits with HCL_ENDS."""
    programs = {
        "scontrol": f"printf '{names}\n'",
        "srun": srun,
        "hcl": 'echo "hcl of $RAY_ADDRESS: $*"; umask; exit "${HCL_ENDS:-0}"',
    }
    script = render_slurm(Description(gpu=GPU), ["sweep", "hcl", "--space", "my space.yaml"])
    return by_bash(folder, script, programs, SLURM_JOB_ID="70123", SLURM_JOB_NODELIST="node[7-8]", **more)


def test_a_slurm_job_starts_ray_on_its_nodes_and_the_command_on_the_first(tmp_path: Path) -> None:
    """Run the script in bash with SLURM's programs replaced by ones that print their arguments."""
    done = slurm(tmp_path, RUNS)
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[words.index("--address") + 1] == "node7:30123"
    assert words[words.index("--min-nodes") + 1] == "4"
    assert words[words.index("--") :][1:3] == ["env", "RAY_ADDRESS=node7:30123"]
    assert {"--cpus-per-task=96", "--cpu-bind=none"} < {*words[: words.index("ray")]}  # else a step may get one core
    assert "hcl of node7:30123: sweep hcl --space my space.yaml" in words and "my space.yaml" in words
    assert "token 64" in words and "mode 600" in words
    assert "umask 0022" in words and words[-1] == "0022"  # the job's files keep the usual permissions
    assert "waits 300" in words
    assert not list((tmp_path / ".ray").iterdir())  # token and status are removed with the job
    script = (tmp_path / "script.sh").read_text()
    assert "#SBATCH --nodes=4" in script and "#SBATCH --gpus-per-node=8" in script


@pytest.mark.parametrize("of_ray", ["0", "1", "143"])
@pytest.mark.parametrize("of_hcl", ["0", "3"])
def test_a_slurm_job_ends_as_its_command_does(tmp_path: Path, of_hcl: str, of_ray: str) -> None:
    """Take the command's status, independent of the end of Ray's workers."""
    assert slurm(tmp_path, RUNS, HCL_ENDS=of_hcl, RAY_ENDS_WITH=of_ray).returncode == int(of_hcl)


@pytest.mark.parametrize("of_ray", [0, 1])
def test_a_slurm_job_whose_head_does_not_start_has_failed(tmp_path: Path, of_ray: int) -> None:
    """Fail although `ray symmetric-run` exits with 0, and ignore the status file of an earlier, requeued run."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "job-70123.status").write_text("0\n")
    done = slurm(tmp_path, f"echo 'Failed to start Ray' >&2; exit {of_ray}")
    assert done.returncode == 1
    assert "Failed to start Ray" in done.stderr and "the command did not run to its end" in done.stderr
    assert not list((tmp_path / ".ray").iterdir())


def test_the_head_of_a_slurm_job_is_an_address_of_its_own(tmp_path: Path) -> None:
    """Use the head's name, which /etc/hosts may map to an unreachable address, only if no address is known."""
    way = slurm(tmp_path, RUNS, names="node7\n127.0.0.1")
    assert "hcl of 127.0.0.1:30123" in way.stdout
    outcome = slurm(tmp_path, RUNS, names="node7\n127.0.0.1", HCL_HEAD_ADDRESS="10.1.2.3")
    assert "hcl of 10.1.2.3:30123" in outcome.stdout


def test_on_every_node_ray_has_a_folder_that_is_the_users_alone_and_goes_with_the_job(tmp_path: Path) -> None:
    """Use two nodes with separate /tmp; each must create the private folder, as Ray's own are open to all users."""
    on_node = 'while [ "$1" != bash ]; do shift; done; "$@"'
    srun = f'( {on_node} ); rm -rf "$RAY_TMPDIR"; {on_node}'
    ray = 'mkdir "$RAY_TMPDIR/ray"; echo "folder $RAY_TMPDIR $(stat -c "%a %u" "$RAY_TMPDIR") direct $no_proxy"'
    (tmp_path / "ray").write_text(f"#!/bin/bash\n{ray}\n")
    (tmp_path / "ray").chmod(0o755)
    done = slurm(tmp_path, srun, no_proxy="intern")
    folders = [line.split() for line in done.stdout.splitlines() if line.startswith("folder ")]
    assert len(folders) == 2, done.stderr
    assert [one[2:] for one in folders] == 2 * [["700", str(os.getuid()), "direct", "intern,localhost,127.0.0.1,node7"]]
    assert folders[0][1] == folders[1][1] and folders[0][1].startswith("/tmp/ray-70123-")
    assert not Path(folders[0][1]).exists()


def test_slurm_refuses_two_kinds_of_nodes_and_no_command() -> None:
    with pytest.raises(DescriptionError, match="nodes of one kind"):
        render_slurm(WHOLE, ["sweep", "hcl"])
    with pytest.raises(DescriptionError, match="the command: is missing"):
        render_slurm(Description(gpu=GPU), [])


def test_a_laptops_script_listens_on_the_machine_alone_and_only_its_token_is_private(tmp_path: Path) -> None:
    ray = 'echo "ray $* $(umask)"; if [ "$1" = get-auth-token ]; then mkdir ~/.ray; echo x > ~/.ray/auth_token; fi'
    script = render_laptop(Description(cpu=Nodes(cpus=2)))
    for _ in range(2):  # the second time the token exists
        done = by_bash(tmp_path, script, {"ray": ray})
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        assert line.startswith("ray start --head --block ") and line.endswith(" 0022")
        assert {"--num-cpus=2", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"} < {*line.split()}
        assert "--dashboard-agent-listen-port=0" in line.split()  # another Ray may use 52365
        assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_laptops_head_has_a_private_folder_and_ends_with_its_script(tmp_path: Path, number: int) -> None:
    """Check that the script passes a signal on, waits for Ray's end, and removes Ray's files."""
    ray = """trap 'sleep 0.3; echo ended; exit 7' TERM; mkdir -p "$RAY_TMPDIR/ray"
    echo "$RAY_TMPDIR $(stat -c %a "$RAY_TMPDIR") $RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"; while :; do sleep 0.05; done"""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    (tmp_path / "script.sh").write_text(render_laptop(Description(cpu=Nodes(cpus=2))))
    (tmp_path / "ray").write_text(f"#!/bin/bash\n{ray}\n")
    (tmp_path / "ray").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = subprocess.Popen(["bash", "script.sh"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert script.stdout is not None
    folder, mode, keeps_loopback = script.stdout.readline().split()
    assert (mode, keeps_loopback) == ("700", "0") and Path(folder, "ray").is_dir()
    script.send_signal(number)
    assert script.wait(30) == 7 and script.stdout.read() == "ended\n"
    assert not Path(folder).exists()
