"""Extend Ray's client of a job server by timeouts and requests that bypass proxies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TypeVar

import requests
from pydantic import BaseModel, TypeAdapter, ValidationError

from cluster.proxies import straight

TIMEOUT_S = 20.0
"""The limit of one request; Ray's client would wait for ever."""

SUCCEEDED = "SUCCEEDED"
_ENDED = (SUCCEEDED, "FAILED", "STOPPED")


class TokenRefused(RuntimeError):
    """The server wants a token, or another one."""


class UnknownAnswer(RuntimeError):
    """The server's answer is none that this program knows."""


class Job(BaseModel):
    """The facts of a job that the server tells and that commands show. Times are milliseconds since 1970.

    Attributes:
        submission_id: None for a driver that was connected without being submitted.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
    """

    status: str
    entrypoint: str
    submission_id: str | None = None
    message: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    metadata: dict[str, str] | None = None
    driver_exit_code: int | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED


class _Log(BaseModel):
    logs: str


class _Stop(BaseModel):
    stopped: bool


_JOB, _JOBS, _LOG, _STOP = TypeAdapter(Job), TypeAdapter(list[Job]), TypeAdapter(_Log), TypeAdapter(_Stop)

T = TypeVar("T")


class Client:
    """A job server, asked straight, each time for TIMEOUT_S at most.

    The methods raise TokenRefused, UnknownAnswer, RuntimeError for what the server refuses, and what `requests` raises.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None):
        self._url, self._headers = url, dict(headers or {})

    def request(self, method: str, endpoint: str) -> requests.Response:
        """Return the server's answer, whatever its status. Raises TokenRefused."""
        answer = requests.request(
            method, f"{self._url}{endpoint}", headers=self._headers, timeout=TIMEOUT_S, **straight(self._url)
        )
        if answer.status_code in (401, 403):
            raise TokenRefused(f"status code {answer.status_code}")
        return answer

    def details(self, job_id: str) -> Job:
        return self._answer("GET", f"/api/jobs/{job_id}", _JOB)

    def jobs(self) -> list[Job]:
        """Return all jobs of the cluster, with the drivers that nobody submitted."""
        return self._answer("GET", "/api/jobs/", _JOBS)

    def logs(self, job_id: str) -> str:
        return self._answer("GET", f"/api/jobs/{job_id}/logs", _LOG).logs

    def stop(self, job_id: str) -> bool:
        """Ask a job to end; False where it had ended."""
        return self._answer("POST", f"/api/jobs/{job_id}/stop", _STOP).stopped

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        """Yield a job's log from its first line on, as it is printed, until the server closes the connection.

        Raises:
            RuntimeError: the connection broke.
            aiohttp.ClientError: there is no connection.
        """
        import aiohttp

        async with (
            aiohttp.ClientSession(headers=self._headers) as session,
            session.ws_connect(f"{self._url}/api/jobs/{job_id}/logs/tail") as socket,
        ):
            while (message := await socket.receive()).type != aiohttp.WSMsgType.CLOSED:
                if message.type == aiohttp.WSMsgType.ERROR:
                    raise RuntimeError(f"the connection broke: {socket.exception()}")
                if message.type == aiohttp.WSMsgType.TEXT:
                    yield message.data
            if socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
                raise RuntimeError("the connection was closed without a farewell")

    def head_age(self) -> float | None:
        """Return the seconds since the head's node has started, by the server's clock; None where it does not say."""
        with suppress(requests.RequestException, RuntimeError, ValueError, LookupError, TypeError):
            answer = self.request("GET", "/api/v0/nodes?detail=1")
            nodes = answer.json()["data"]["result"]["result"]
            began = [node["start_time_ms"] for node in nodes if node["is_head_node"] and node["state"] == "ALIVE"]
            return parsedate_to_datetime(answer.headers["Date"]).timestamp() - max(began) / 1000
        return None

    def _answer(self, method: str, endpoint: str, form: TypeAdapter[T]) -> T:
        """Return the server's answer, which must have the form. Raises RuntimeError for another status than 200."""
        answer = self.request(method, endpoint)
        if answer.status_code != 200:
            raise RuntimeError(f"Request failed with status code {answer.status_code}: {answer.text}.")
        try:
            return form.validate_json(answer.content)
        except ValidationError as error:
            raise UnknownAnswer(str(error)) from error
