"""Extend Ray's client of a job server by timeouts and requests that bypass proxies."""

from __future__ import annotations

from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from cluster.proxies import straight

TIMEOUT_S = 20.0
"""Timeout of one request; Ray itself sets none."""


class Client(JobSubmissionClient):
    """Send requests to a job server without a proxy and with a timeout."""

    def _do_request(self, method: str, endpoint: str, **named: Any) -> requests.Response:
        return super()._do_request(method, endpoint, timeout=TIMEOUT_S, **straight(self._address), **named)

    def head_age(self) -> float | None:
        """Return the seconds since the head node started, by the server's clock; None if they are unknown."""
        unknown = (requests.RequestException, AuthenticationError, ValueError, LookupError, TypeError)
        with suppress(*unknown):
            answer = self._do_request("GET", "/api/v0/nodes?detail=1")
            nodes = answer.json()["data"]["result"]["result"]
            began = [node["start_time_ms"] for node in nodes if node["is_head_node"] and node["state"] == "ALIVE"]
            return parsedate_to_datetime(answer.headers["Date"]).timestamp() - max(began) / 1000
        return None
