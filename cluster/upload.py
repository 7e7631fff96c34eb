"""Submit a job by Ray's own client, which packs and uploads the job's code. Only `hcl submit` imports this module."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from cluster.client import TIMEOUT_S, TokenRefused
from cluster.proxies import straight
from cluster.servers import OVERRIDES, without


class _Uploader(JobSubmissionClient):
    """Ray's client, asked straight, each time for TIMEOUT_S at most."""

    def _do_request(self, method: str, endpoint: str, **named: Any) -> requests.Response:
        return super()._do_request(method, endpoint, timeout=TIMEOUT_S, **straight(self._address), **named)


def submit_job(url: str, headers: Mapping[str, str] | None, **job: Any) -> str:
    """Submit a job and return its id.

    Args:
        job: the arguments of Ray's `JobSubmissionClient.submit_job`.

    Raises:
        TokenRefused: the server does not take the token.
        RuntimeError: the server refuses the job.
        ConnectionError, requests.RequestException: no answer.
    """
    for module in ("dashboard_sdk", "job.sdk"):  # they report every upload and closed connection
        logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.ERROR)
    try:
        with without(OVERRIDES):
            return _Uploader(url, headers=dict(headers or {})).submit_job(**job)
    except AuthenticationError as error:
        raise TokenRefused(str(error)) from error
