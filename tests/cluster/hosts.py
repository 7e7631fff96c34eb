"""Simulate two hosts on one machine by network namespaces, with a virtual cable that can be unplugged."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

LINK = "hcl0"  # the network interface of each host


@dataclass(frozen=True)
class Host:
    """Name the host of a cluster's node; by default this machine without a namespace."""

    address: str = "127.0.0.1"
    namespace: str = ""

    def command(self, *words: str) -> list[str]:
        """Return a command's words for running it on the host."""
        return [*(["ip", "netns", "exec", self.namespace] if self.namespace else []), *words]

    def unplug(self) -> None:
        """Cut the host off in both directions, without closing its connections."""
        _ip(*self.command("ip", "link", "set", LINK, "down")[1:])

    def plug_in(self) -> None:
        _ip(*self.command("ip", "link", "set", LINK, "up")[1:])


class NotPermitted(Exception):
    """Report that network namespaces cannot be created here, with the reason."""


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Create two hosts joined by a cable, and remove them after the block. Raises NotPermitted."""
    hosts = [Host(f"10.77.{os.getpid() % 250}.{number}", f"hcl-{os.getpid()}-{number}") for number in (1, 2)]
    ends = [f"hcl{os.getpid() % 10**6}{end}" for end in "ab"]
    try:
        for host in hosts:
            _ip("netns", "add", host.namespace)
        _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for host, end in zip(hosts, ends, strict=True):
            _ip("link", "set", end, "netns", host.namespace, "name", LINK)
            for words in (["addr", "add", f"{host.address}/24", "dev", LINK], ["link", "set", "lo", "up"]):
                _ip("-n", host.namespace, *words)
            host.plug_in()
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            with suppress(NotPermitted):
                _ip("netns", "delete", host.namespace)  # this deletes both ends of the cable


def _ip(*words: str) -> None:
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        raise NotPermitted(f"ip: {error}") from error
    if done.returncode:
        raise NotPermitted(f"ip {' '.join(words)}: {done.stderr.strip()}")
