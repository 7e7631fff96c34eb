"""Submit, follow, list and stop commands on a cluster's job server; all waiting has a time limit."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from cluster.client import SUCCEEDED, Client, Job, TokenRefused, UnknownAnswer
from cluster.errors import JobError
from cluster.proxies import is_loopback
from cluster.servers import token_for, url_of
from cluster.tokens import PLACES

STOP_S = 30.0
"""Seconds from the request to stop a job until it is killed; Ray's default of three is too short for a Ray job."""
_QUIET_S = 20.0  # without new log lines, before the job's status is requested
_PATIENCE_S = 60.0  # without an answer of the server, while a job is followed
_READY_S = 180.0  # in which a cluster that has just started may have no node for jobs
_AGENT_S = 60.0  # in which a node's agent must start
_NOT_READY = "No available agent"


@dataclass(frozen=True)
class Resources:
    """Hold the resources of the job's own process, without its workers; with none it runs on the head."""

    cpus: float = 0.0
    gpus: float = 0.0
    custom: Mapping[str, float] = field(default_factory=dict)


class JobServer:
    """Talk to a job server that has answered, with the token that it requires.

    Args:
        address: `http://HOST:8265`, `https://...` or `HOST:8265`; None: RAY_API_SERVER_ADDRESS or RAY_ADDRESS.

    Raises:
        JobError: there is no address or no job server there, or the token is missing or wrong.
    """

    def __init__(self, address: str | None = None):
        self.url = url_of(address)
        self.token = token_for(self.url)
        self._headers = self.token.header() if self.token else {}
        self._client = Client(self.url, self._headers)

    @property
    def sends_token_in_clear(self) -> bool:
        """Return true if the token is sent unencrypted to another machine."""
        return self.token is not None and self.url.startswith("http://") and not is_loopback(self.url)

    def submit(
        self,
        entrypoint: str,
        *,
        package: Path | None = None,
        resources: Resources | None = None,
        environment: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        job_id: str | None = None,
    ) -> str:
        """Start a shell command as a job, and return its id.

        Args:
            package: a zip file, unpacked into the working folder of the job and of its workers.
            environment: variables of the job and of its workers; the dashboard shows them.
            job_id: an id that no other job of this cluster has; with None the server generates one.

        In a cluster that has just started, the server answers before a node can run jobs; this waits for the node.
        """
        from cluster.upload import submit_job

        resources = resources or Resources()
        runtime: dict[str, Any] = {"env_vars": dict(environment or {})}
        if package is not None:
            runtime["working_dir"] = str(package)
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                with _as_job_error(self):
                    return submit_job(
                        self.url,
                        self._headers,
                        entrypoint=entrypoint,
                        runtime_env=runtime,
                        metadata=dict(metadata or {}),
                        submission_id=job_id,
                        entrypoint_num_cpus=resources.cpus or None,
                        entrypoint_num_gpus=resources.gpus or None,
                        entrypoint_resources=dict(resources.custom) or None,
                    )
            except JobError as error:
                if _NOT_READY not in error.problem or time.monotonic() > deadline:
                    raise
                if (age := self._client.head_age()) is not None and age > _AGENT_S:
                    raise JobError(
                        f"its head takes no jobs: no agent answers there, {age:.0f} s after the node has started",
                        where=self.url,
                        remedy="another Ray of that machine may hold the agent's port 52365: end it, or start this one "
                        "with --dashboard-agent-listen-port=0; else dashboard_agent.log of the head's session says why",
                    ) from error
            time.sleep(2.0)

    def details(self, job_id: str) -> Job:
        """Return the facts of a job. Raises JobError for an unknown one."""
        with _as_job_error(self, job_id):
            return self._client.details(job_id)

    def jobs(self) -> list[Job]:
        """Return all submitted jobs, the latest first."""
        with _as_job_error(self):
            submitted = [job for job in self._client.jobs() if job.submission_id]
        return sorted(submitted, key=lambda job: job.start_time or 0, reverse=True)

    def logs(self, job_id: str) -> str:
        """Return the log of a job so far."""
        with _as_job_error(self, job_id):
            return self._client.logs(job_id)

    def stop(self, job_id: str) -> bool:
        """Ask a job to end; one of `hcl submit` is killed after STOP_S. Return False if it had already ended."""
        with _as_job_error(self, job_id):
            return self._client.stop(job_id)

    def follow(self, job_id: str, write: Callable[[str], object]) -> Job:
        """Hand on the log of a job, as it comes, until the job has ended; a connection that breaks is made again.

        Raises:
            JobError: the server has not answered for a minute; the job may still be running.
        """
        n_shown, silent_since = 0, None
        while True:
            try:
                n_shown = asyncio.run(self._tail(job_id, n_shown, write))
                details = self.details(job_id)
                if details.has_ended:
                    return details
                silent_since = None
            except _Broken as broken:
                n_shown = broken.n_shown
                with suppress(JobError):
                    self.details(job_id)
                    silent_since = None
                    continue
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > _PATIENCE_S:
                    raise JobError(
                        f"the job server has not answered for {_PATIENCE_S:g} s: {broken}; job {job_id} may be running",
                        where=self.url,
                        remedy=f"once it answers: hcl jobs logs {shlex.quote(job_id)}; a job whose head has died must "
                        "be submitted again and resumes where it stopped",
                    ) from broken
            time.sleep(1.0)

    async def _tail(self, job_id: str, n_shown: int, write: Callable[[str], object]) -> int:
        """Write the log from its n-th character on, until the server closes it; return how many are shown then."""
        import aiohttp

        chunks = self._client.tail(job_id)
        position = 0  # a new connection begins with the log's first line
        pending: asyncio.Task[str] | None = None
        has_ended = False
        try:
            while True:
                pending = pending or asyncio.ensure_future(anext(chunks))
                done, _ = await asyncio.wait({pending}, timeout=_QUIET_S)
                if not done:  # the job may be quiet, or the connection lost
                    if has_ended:  # since the last check: the server sends no more, but does not close
                        log = await asyncio.to_thread(self.logs, job_id)
                        write(log[n_shown:])
                        return max(n_shown, len(log))
                    has_ended = (await asyncio.to_thread(self.details, job_id)).has_ended
                    continue
                chunk, pending = pending.result(), None
                write(chunk[max(0, n_shown - position) :])
                position += len(chunk)
                n_shown = max(n_shown, position)
        except StopAsyncIteration:
            return n_shown
        except (aiohttp.ClientError, RuntimeError, OSError, JobError) as error:
            raise _Broken(str(error) or type(error).__name__, n_shown) from error
        finally:
            if pending is not None:
                pending.cancel()


def exit_status(job: Job) -> int:
    """Return the exit status of the job's command, as a shell would give it; 1 where a job ended without one."""
    if job.status == SUCCEEDED:
        return 0
    code = job.driver_exit_code
    if not code:
        return 1
    return code if code > 0 else 128 - code  # ended by a signal


def outcome(job: Job) -> str:
    """Return in one line how a job ended; its log, which the server repeats, is left out."""
    reason = " ".join((job.message or "").partition(", last available logs")[0].split())
    state = job.status.lower()
    return state if job.status == SUCCEEDED else f"{state}: {reason}"


class _Broken(Exception):
    def __init__(self, reason: str, n_shown: int):
        super().__init__(reason)
        self.n_shown = n_shown


@contextmanager
def _as_job_error(server: JobServer, job_id: str | None = None) -> Iterator[None]:
    """Convert exceptions of Ray's client to JobError."""
    try:
        yield
    except TokenRefused as error:
        raise JobError(
            "the cluster no longer accepts the token", where=server.url, remedy=f"renew it in {PLACES}"
        ) from error
    except (requests.RequestException, ConnectionError) as error:
        raise JobError(
            "the job server does not answer", where=server.url, remedy="check that the cluster runs"
        ) from error
    except UnknownAnswer as error:
        raise JobError(
            "the job server gives an answer that this program does not know",
            where=server.url,
            remedy="check its version of Ray: see `hcl doctor` there",
        ) from error
    except RuntimeError as error:
        if job_id and "status code 404" in str(error):
            raise JobError(f"knows no job {job_id}", where=server.url, remedy="hcl jobs list") from error
        raise JobError(
            f"the job server refuses: {_last_line(error)}", where=server.url, remedy="hcl jobs list shows its jobs"
        ) from error


def _last_line(error: Exception) -> str:
    """Return the last line of the server's answer, which may be a traceback."""
    lines = [line.strip() for line in str(error).replace("\\n", "\n").splitlines() if line.strip(" \"'.")]
    return lines[-1].rstrip("\"'.") if lines else type(error).__name__
