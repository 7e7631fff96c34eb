"""Test that a token reaches only the given server, and neither a proxy nor another server."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from cluster.client import Client
from cluster.errors import JobError
from cluster.jobs import JobServer
from cluster.proxies import bypassing, straight

VERSION = b'{"version": "4", "ray_version": "2.60.0"}'


class Server(http.server.BaseHTTPRequestHandler):
    """Answer like a job server that requires a token; with a target set, it redirects every request there."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.server.seen.append(given)  # type: ignore[attr-defined]
        onward = self.server.onward  # type: ignore[attr-defined]
        status = 401 if given is None else 302 if onward else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{onward}{self.path}")
        self.end_headers()
        self.wfile.write(VERSION if status == 200 else b"")

    def log_message(self, *_: object) -> None:
        pass


class Place:
    """Hold a server, its port, and the tokens that it received."""

    def __init__(self) -> None:
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        self.seen: list[str | None] = []
        self.server.seen, self.server.onward = self.seen, ""  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    """Start a server, and another one that the environment names as proxy; ~/.netrc has a password."""
    server, other = Place(), Place()
    for name in ("no_proxy", "NO_PROXY", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, other.url)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield server, other
    for place in (server, other):
        place.server.shutdown()
        place.server.server_close()


def test_a_job_server_on_this_machine_is_reached_without_the_proxy(places: tuple[Place, Place]) -> None:
    server, proxy = places
    JobServer(server.url)
    assert not proxy.seen
    assert server.seen[0] is None and set(server.seen[1:]) == {"Bearer secret"}


def test_a_server_cannot_have_the_token_sent_to_another(places: tuple[Place, Place]) -> None:
    server, other = places
    server.server.onward = other.url  # type: ignore[attr-defined]
    with pytest.raises(JobError, match="it answers 302"):
        JobServer(server.url)
    server.server.onward = ""  # type: ignore[attr-defined]
    client = Client(server.url, headers={"Authorization": "Bearer secret"})
    server.server.onward = other.url  # type: ignore[attr-defined]
    assert client.request("GET", "/api/jobs/").status_code == 302
    assert not other.seen


def test_only_https_to_another_machine_may_go_through_a_proxy(places: tuple[Place, Place]) -> None:
    session = requests.Session()
    ways = {}
    for url in ("http://head:8265", "http://[::1]:8265", "https://localhost:8265", "https://head:8265"):
        options = straight(url).get("proxies", {})
        ways[url] = session.merge_environment_settings(url, dict(options), None, None, None)["proxies"].get("all")
    assert [url for url, proxy in ways.items() if proxy] == ["https://head:8265"]


def test_programs_that_are_started_reach_the_cluster_without_a_proxy() -> None:
    assert bypassing(["10.1.2.3"], {"PATH": "/bin"}) == {}
    found = bypassing(["10.1.2.3"], {"https_proxy": "http://proxy:3128", "NO_PROXY": "intern, localhost"})
    assert found["no_proxy"] == found["NO_PROXY"]
    words = found["no_proxy"].split(",")
    assert words[0] == "intern" and {"localhost", "127.0.0.1", "::1", "10.1.2.3"} < {*words}
    assert len(words) == len({*words})
