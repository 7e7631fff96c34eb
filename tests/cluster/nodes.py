"""Run a real cluster on this machine: a head that does no work, worker nodes with one CPU, a job server, a token.

Every node is a process session of its own, so that exactly its processes can be found and killed. Every node has its
own folder, because nodes that share one would delete each other's copy of a job's code.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cluster.description import ROLES
from tests.cluster.hosts import Host

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0  # for every wait; a loaded machine takes minutes to start a node


@dataclass
class Node:
    """Run a `ray start --block` with all of its child processes."""

    process: subprocess.Popen[bytes]
    log: Path
    roles: tuple[str, ...] = ()  # role resources of the node

    def check(self) -> bool:
        """Raise if the node has ended by itself."""
        if self.process.poll() is not None:
            raise RuntimeError(f"a node ended: {self.log.read_text()[-2000:]}")
        return True

    def titles(self) -> dict[int, str]:
        """Return the command lines of the node's living processes by their ids."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with suppress(OSError):
                    if os.getsid(int(folder.name)) == self.process.pid:
                        found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return {pid: title for pid, title in found.items() if title}

    def running(self, actor: str) -> list[int]:
        """Return the processes of this node's actors of this name."""
        return [pid for pid, title in self.titles().items() if title.startswith(f"ray::{actor}")]

    def runs(self, actor: str) -> bool:
        return bool(self.running(actor))

    def kill(self) -> None:
        """Send SIGKILL to all processes of the node, like a loss of power."""
        for pid in self.titles():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.kill()


@dataclass
class LocalCluster:
    """Run a local cluster from `start` to `stop`."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="hcl", dir="/tmp")))  # short, for sockets
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    nodes: list[Node] = field(default_factory=list)
    host: Host = field(default_factory=Host)  # host of the head and of `hcl` commands

    def start(self, n_workers: int, *, head_cpus: int = 0) -> None:
        self.port, self.job_port = free_port(), free_port()
        resources = {"trial_driver": 4} | (dict.fromkeys(ROLES, 1) if head_cpus else {})
        head = [
            "--head",
            f"--port={self.port}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.job_port}",
            f"--ray-client-server-port={free_port()}",
            f"--num-cpus={head_cpus}",
            f"--resources={json.dumps(resources)}",
        ]
        self.head = self._start(head, self.host)
        wait_for(lambda: self.head.check() and self.hcl("jobs", "list").returncode == 0, "the job server")
        for index in range(n_workers):
            self.add_node(ROLES if index else ROLES[1:])  # the first worker decodes no videos

    def add_node(self, roles: tuple[str, ...] = ROLES, host: Host | None = None) -> Node:
        marks = json.dumps(dict.fromkeys(roles, 1))
        options = [f"--address={self.host.address}:{self.port}", "--num-cpus=1", f"--resources={marks}"]
        node = self._start(options, host or self.host)
        node.roles = roles
        self.nodes.append(node)
        wait_for(lambda: node.check() and any("raylet" in title for title in node.titles().values()), "a raylet")
        return node

    def replace(self, node: Node) -> None:
        """Kill a worker node, and start another."""
        self.lose(node)
        self.add_node(node.roles)

    def lose(self, node: Node) -> None:
        """Kill a worker node."""
        node.kill()
        self.nodes.remove(node)

    def stop(self) -> None:
        for node in [*self.nodes, self.head]:
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def hcl(self, *words: str | Path, token: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command line like a user on another machine."""
        return subprocess.run(
            self._command(words), env=self.environment(token), cwd=ROOT, capture_output=True, text=True, timeout=600
        )

    def begin(self, *words: str | Path, options: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start `hcl submit OPTIONS -- WORDS` in the background."""
        return subprocess.Popen(
            self._command(["submit", "--python", sys.executable, *options, "--", *words]),
            env=self.environment(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, *words: str | Path, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run `hcl submit OPTIONS -- WORDS` to its end."""
        return self.hcl("submit", "--python", sys.executable, *options, "--", *words)

    def submit_and_kill(self, actor: str, role: str, has_begun: Callable[[], object], *words: str | Path) -> None:
        """Submit, kill a node with an actor of this name after work has begun, and require that the job succeeds."""
        job = self.begin(*words)

        def victim() -> Node | None:
            return next((node for node in self.nodes if node.runs(actor)), None)

        try:
            wait_for(lambda: job.poll() is not None or (has_begun() and victim()), f"{actor} at work")
            node = victim()
            assert job.poll() is None and node is not None, f"ended before the kill: {job.communicate()[0]}"
            elsewhere = [one for one in self.nodes if role not in one.roles]
            assert not any(one.runs(actor) for one in elsewhere), f"{actor} on a node that is not marked for {role}"
            self.replace(node)
            printed, _ = job.communicate(timeout=600)
            assert job.returncode == 0, printed
        finally:
            job.kill()

    def submit_and_join(self, actor: str, has_begun: Callable[[], object], *words: str | Path) -> None:
        """Submit, add a node during the work, kill it once an actor works there, and require that the job succeeds.

        The actors of the other nodes are stopped meanwhile, so that work is left for the new one.
        """
        job, joined = self.begin(*words), None
        try:
            wait_for(lambda: job.poll() is not None or has_begun(), "work")
            with standing_still(self.nodes.copy(), actor):
                joined = self.add_node()
                wait_for(lambda: job.poll() is not None or joined.runs(actor), f"{actor} on the new node")
            assert job.poll() is None, f"ended before the node had work: {job.communicate()[0]}"
            self.lose(joined)
            printed, _ = job.communicate(timeout=600)
            assert job.returncode == 0, printed
        finally:
            job.kill()
            if joined in self.nodes:
                self.lose(joined)

    def _command(self, words: list[str | Path] | tuple[str | Path, ...]) -> list[str]:
        return self.host.command(sys.executable, "-m", "orchestration", *map(str, words))

    def environment(self, token: str | None = None) -> dict[str, str]:
        """Return the environment of a user of the job server."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return kept | {
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.job_port}",
            "RAY_AUTH_TOKEN": token or self.token,
        }

    def _start(self, options: list[str], host: Host) -> Node:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_raylet_start_wait_time_s": "180",
            "RAY_health_check_period_ms": "1000",  # a lost node is noticed after seconds
            "RAY_health_check_failure_threshold": "5",
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
        }
        command = host.command(sys.executable, "-m", "ray.scripts.scripts", "start", "--block")
        command += [f"--node-ip-address={host.address}"]
        # Another Ray on this machine may use the default port of a node's agent; then no job would be accepted.
        command += [f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=100000000"]
        command += ["--disable-usage-stats", *options]
        folder = self.folder / secrets.token_hex(2)
        folder.mkdir()
        command += [f"--temp-dir={folder}"]
        path = folder / "node.log"
        with open(path, "wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        return Node(process, path)


@contextmanager
def standing_still(nodes: Sequence[Node], actor: str) -> Iterator[None]:
    """Stop each of these actors during its next call, for the duration of a block."""
    stopped: set[int] = set()
    over = threading.Event()

    def stop() -> None:
        while not over.wait(0.02):
            for node in nodes:
                for pid, title in node.titles().items():
                    if title.startswith(f"ray::{actor}.") and "__" not in title and pid not in stopped:
                        stopped.add(pid)
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGSTOP)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {PATIENCE_S:g} s")
        time.sleep(0.05)


def processes(*words: str | Path) -> list[int]:
    """Return the ids of the processes whose command line begins with the first of `words` and contains the others."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if title.startswith(str(words[0])) and all(str(word) in title for word in words):
                    found.append(int(folder.name))
    return found
