"""Render shell scripts: a SLURM job, and a head on a laptop for trying out submission."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from cluster.description import N_TRIAL_DRIVERS, Description
from cluster.errors import DescriptionError

_RESOURCES = shlex.quote(f'{{"trial_driver": {N_TRIAL_DRIVERS}}}')

# This prints the host's own address on the route to another one; connecting a datagram socket sends nothing.
_ADDRESS = shlex.quote(
    "import socket, sys; way = socket.socket(type=socket.SOCK_DGRAM); way.connect((sys.argv[1], 9)); "
    "print(way.getsockname()[0])"
)

# `bash -c THIS FILE COMMAND...` writes the command's exit status to the file, because `ray symmetric-run` exits with 0
# even if Ray could not start.
_LEAVING_STATUS = shlex.quote('"$@"; status=$?; echo "$status" > "$0"; exit "$status"')

# `bash -c THIS FOLDER COMMAND...` runs the command with a private folder around Ray's own, which all users can read.
# A signal reaches the command too, so that bash only has to clean up afterwards.
_IN_PRIVATE_FOLDER = shlex.quote(
    'mkdir -p -m 700 "$0" && [ -O "$0" ] || exit 1; trap : INT TERM HUP; "$@"; status=$?; rm -rf "$0"; exit "$status"'
)


def render_slurm(description: Description, command: Sequence[str]) -> str:
    """Render a script for `sbatch` that runs Ray on every node of the job, and the command on the first.

    The job takes whole nodes (`--exclusive`), because Ray stops all Ray processes of a node at its end.

    Raises:
        DescriptionError: there is no command, or there are two kinds of nodes, which one job cannot have.
    """
    if not command:
        raise DescriptionError(
            "is missing: a SLURM job ends with its command",
            where="the command",
            remedy="hcl cluster render slurm ... -- sweep EXPERIMENT --data /shared/data --runs /shared/runs",
        )
    if len(description.groups) > 1:
        raise DescriptionError(
            "both are given, and a SLURM job has nodes of one kind",
            where="gpu, cpu",
            remedy="render two: one with CPU nodes for hcl extract, one with GPU nodes for the rest",
        )
    (nodes,) = description.groups.values()
    wanted = [
        f"--job-name={description.name}",
        f"--nodes={nodes.count}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={nodes.cpus}",
        f"--mem={nodes.memory_gib}G",
        "--exclusive",
        f"--time={description.hours}:00:00",
        "--requeue",
        "--output=%x-%j.log",
    ]
    wanted += [f"--gpus-per-node={nodes.gpus}"] if nodes.gpus else []
    wanted += [f"--partition={description.partition}"] if description.partition else []
    gpus = f" --num-gpus={nodes.gpus}" if nodes.gpus else ""
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in wanted),
            "set -euo pipefail",
            "",
            "# The environment that has hcl must be active here, on every node.",
            "# A short path, for sockets; private to this user on every node: all users can read Ray's own folders.",
            'RAY_TMPDIR=$(mktemp -d "/tmp/ray-$SLURM_JOB_ID-XXXXXX")  # --temp-dir does not work here',
            "export RAY_TMPDIR",
            "export RAY_AUTH_MODE=token",
            "export RAY_AUTH_TOKEN_PATH=$HOME/.ray/job-$SLURM_JOB_ID.token  # every node sees the home folder",
            "export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300  # seconds for all nodes to join",
            "export RAY_py_gcs_connect_timeout_s=300  # the same for a node that starts before the head",
            "status=$HOME/.ray/job-$SLURM_JOB_ID.status",
            'trap \'rm -rf "$RAY_AUTH_TOKEN_PATH" "$status" "$RAY_TMPDIR"\' EXIT',
            'rm -f "$status"  # left by the same job before it was requeued',
            "(",
            "    umask 077",
            "    mkdir -p ~/.ray",
            '    python -c \'import secrets; print(secrets.token_hex(32), end="")\' > "$RAY_AUTH_TOKEN_PATH"',
            ")",
            "",
            "# The head needs an address, because its name may resolve to 127.0.1.1. HCL_HEAD_ADDRESS overrides it.",
            'names=$(scontrol show hostnames "$SLURM_JOB_NODELIST")',
            "last=$(sed -n '$p' <<< \"$names\")",
            f'head=${{HCL_HEAD_ADDRESS:-$(python -c {_ADDRESS} "$last" 2> /dev/null || sed -n 1p <<< "$names")}}',
            'export no_proxy="${no_proxy:+$no_proxy,}localhost,127.0.0.1,$head"  # the token goes to no proxy',
            'export NO_PROXY="$no_proxy"',
            "port=$((20000 + SLURM_JOB_ID % 20000))",
            f"srun --nodes={nodes.count} --ntasks-per-node=1 --cpus-per-task={nodes.cpus} --cpu-bind=none "
            f'bash -c {_IN_PRIVATE_FOLDER} "$RAY_TMPDIR" ray symmetric-run --address "$head:$port" '
            f"--min-nodes {nodes.count} --num-cpus={nodes.cpus}{gpus} --resources={_RESOURCES} "
            f'-- env RAY_ADDRESS="$head:$port" bash -c {_LEAVING_STATUS} "$status" {shlex.join(["hcl", *command])} '
            "|| true",
            'if [ ! -s "$status" ]; then',
            '    echo "the command did not run to its end: see above for a Ray that did not start, or a lost node" >&2',
            "    exit 1",
            "fi",
            'exit "$(< "$status")"',
            "",
        ]
    )


def render_laptop(description: Description) -> str:
    """Render a script that runs a head with a job server on this machine in the foreground, until Ctrl-C."""
    n_cpus = sum(nodes.count * nodes.cpus for nodes in description.groups.values())
    n_gpus = sum(nodes.count * nodes.gpus for nodes in description.groups.values())
    return "\n".join(
        [
            "#!/bin/bash",
            "# In another terminal: hcl submit --address http://127.0.0.1:8265 -- COMMAND",
            "set -euo pipefail",
            "export RAY_AUTH_MODE=token RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0",
            "[ -s ~/.ray/auth_token ] || (umask 077 && ray get-auth-token --generate > /dev/null)",
            "# mktemp makes it private (mode 0700), because all users can read Ray's own folders.",
            "RAY_TMPDIR=$(mktemp -d /tmp/ray-$UID-XXXXXXXX)",
            "# Without the second variable Ray replaces 127.0.0.1 by this machine's address, and listens there.",
            "export RAY_TMPDIR RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0",
            "# The agent takes a free port, because another Ray may use 52365.",
            "ray start --head --block --node-ip-address=127.0.0.1 --port=6379 --dashboard-host=127.0.0.1 "
            f"--dashboard-port=8265 --dashboard-agent-listen-port=0 --num-cpus={n_cpus} --num-gpus={n_gpus} "
            f"--resources={_RESOURCES} &",
            "trap 'kill \"$!\"' INT TERM HUP",
            'while status=0; wait "$!" || status=$?; kill -0 "$!" 2> /dev/null; do :; done',
            'rm -rf "$RAY_TMPDIR"',
            'exit "$status"',
            "",
        ]
    )
