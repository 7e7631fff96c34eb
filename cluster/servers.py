"""Find a job server's address, check that it is one, and find the token that it requires."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import requests

from cluster.errors import JobError
from cluster.proxies import straight
from cluster.tokens import PLACES, Token, find_token

PORT = 8265
"""Port of Ray's dashboard, which is the job server."""

OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray's client prefers them to its argument


def url_of(address: str | None) -> str:
    """Return the given address, or that of the environment, as a URL. Raises JobError."""
    named = address or next((value for name in OVERRIDES if (value := os.environ.get(name))), None)
    remedy = f"give --address http://HOST:{PORT}, or set RAY_ADDRESS to it"
    if not named:
        raise JobError("no cluster is named", where="--address", remedy=remedy)
    url = named if "://" in named else f"http://{named}"
    try:
        parts = urlsplit(url)
        _ = parts.port  # urlsplit checks the port only here
    except ValueError as error:
        raise JobError(f"is not the address of a job server: {error}", where=named, remedy=remedy) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise JobError("is not the address of a job server", where=named, remedy=remedy)
    return url.rstrip("/")


def token_for(url: str) -> Token | None:
    """Return the token that the server requires, or None if it requires none. Raises JobError without a valid one."""
    answer = _version(url, None)
    if answer.status_code != 401:
        return _check(url, answer, None)
    token = find_token()
    if token is None:
        raise JobError(
            "the cluster requires a token, and none was found", where=url, remedy=f"put its token into {PLACES}"
        )
    return _check(url, _version(url, token), token)


def _version(url: str, token: Token | None) -> requests.Response:
    try:
        headers = token.header() if token else {}
        return requests.get(f"{url}/api/version", headers=headers, timeout=5, **straight(url))
    except requests.RequestException as error:
        is_other = "BadStatusLine" in repr(error) or "RemoteDisconnected" in repr(error)
        problem = "something listens there that is not a job server" if is_other else "no job server answers there"
        raise JobError(
            problem,
            where=url,
            remedy=f"it is the dashboard's port, {PORT} unless chosen otherwise, not that of --address of the other "
            f"commands; on Kubernetes: kubectl port-forward service/NAME-head-svc {PORT}:{PORT}",
        ) from error


def _check(url: str, answer: requests.Response, token: Token | None) -> Token | None:
    if answer.status_code in (401, 403):
        raise JobError(
            f"the cluster does not accept the token from {token.origin}" if token else "the server refuses",
            where=url,
            remedy=f"put the cluster's token into {PLACES}; the first one found is used",
        )
    with suppress(ValueError, AttributeError):
        if answer.json().get("ray_version"):
            return token
    raise JobError(
        f"is not a Ray job server: it answers {answer.status_code}", where=url, remedy=f"check host and port ({PORT})"
    )


@contextmanager
def without(names: tuple[str, ...]) -> Iterator[None]:
    """Remove some variables from the environment for the duration of a block."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
