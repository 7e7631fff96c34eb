"""Ray's client of a job server, with requests that end, and that no proxy reads."""

from __future__ import annotations

from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from cluster.proxies import straight

TIMEOUT_S = 20.0
"""Of one request; Ray itself would wait for ever."""


class Client(JobSubmissionClient):
    """A job server, asked straight, each time for TIMEOUT_S at most."""

    def _do_request(self, method: str, endpoint: str, **named: Any) -> requests.Response:
        return super()._do_request(method, endpoint, timeout=TIMEOUT_S, **straight(self._address), **named)

    def head_age(self) -> float | None:
        """Return the seconds since the head's node has started, by the server's clock; None where it does not say."""
        unknown = (requests.RequestException, AuthenticationError, ValueError, LookupError, TypeError)
        with suppress(*unknown):
            answer = self._do_request("GET", "/api/v0/nodes?detail=1")
            nodes = answer.json()["data"]["result"]["result"]
            began = [one["start_time_ms"] for one in nodes if one["is_head_node"] and one["state"] == "ALIVE"]
            return parsedate_to_datetime(answer.headers["Date"]).timestamp() - max(began) / 1000
        return None
