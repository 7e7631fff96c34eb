"""Send requests to a cluster directly, without the proxies that the environment names."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAMES = ("no_proxy", "NO_PROXY")


def bypassing(hosts: Iterable[str], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return variables that make programs bypass proxies for `hosts`, this machine and loopback.

    Existing values are extended; without a proxy in the environment the result is empty."""
    environment = os.environ if environment is None else environment
    if not any(
        name.lower() in ("http_proxy", "https_proxy", "all_proxy") and environment[name] for name in environment
    ):
        return {}
    named = next((environment[name] for name in _NAMES if environment.get(name)), "")
    words = [word.strip() for word in named.split(",") if word.strip()]
    value = ",".join(dict.fromkeys([*words, *LOOPBACK, socket.gethostname(), *filter(None, hosts)]))
    return dict.fromkeys(_NAMES, value)


def straight(url: str) -> dict[str, Any]:
    """Return the arguments of a request with a token, so that only the given server receives the token.

    A proxy could read http requests, and could not reach loopback; https requests are encrypted for it. Redirects to
    other servers are not followed, and a password from ~/.netrc does not replace the token.
    """
    parts = urlsplit(url)
    options: dict[str, Any] = {"allow_redirects": False, "auth": lambda request: request}
    if parts.scheme == "http" or is_loopback(url):
        options["proxies"] = {"no_proxy": parts.hostname}
    return options


def is_loopback(url: str) -> bool:
    """Return true if the address is on this machine."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
