"""Requests that go straight to a cluster, whatever proxy the environment names for the rest of the world."""

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
    """Return the variables that have programs reach hosts, this machine and loopback without a proxy. What they name
    already is kept; there are none where no proxy is named."""
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
    """Return the arguments of a request that carries a token: whatever happens, only the server that was named sees it.

    A proxy would read what goes over http, and forward it to nobody on loopback; over https it passes on what it cannot
    read. A server may not send the request on to another one, nor does a password out of ~/.netrc replace the token.
    """
    parts = urlsplit(url)
    options: dict[str, Any] = {"allow_redirects": False, "auth": lambda request: request}
    if parts.scheme == "http" or is_loopback(url):
        options["proxies"] = {"no_proxy": parts.hostname}
    return options


def is_loopback(url: str) -> bool:
    """Tell whether what is sent there stays on this machine."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
