"""Test job servers that do not exist, are something else, or require a token; test_cluster.py tests real ones."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from aiohttp import web

from cluster.client import Job
from cluster.errors import JobError
from cluster.jobs import JobServer, exit_status, outcome

VERSION = b'{"version": "4", "ray_version": "2.60.0"}'


class Handler(http.server.BaseHTTPRequestHandler):
    """Answer like a job server with the token `right`."""

    seen: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.seen.append(given)
        status = 200 if given == "Bearer right" else 403 if given else 401
        self.send_response(status)
        self.end_headers()
        self.wfile.write(VERSION if status == 200 else b"refused")

    def log_message(self, *_: object) -> None:
        pass


class Page(Handler):
    """Answer like a web server that is no job server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nonexistent/token")
    Handler.seen.clear()
    servers = []

    def start(handler: type[http.server.BaseHTTPRequestHandler]) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_token_is_sent_only_to_a_server_that_asks(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # Ray's own client would use it
    server = JobServer(serve(Handler))
    assert server.token is not None and not server.sends_token_in_clear
    assert Handler.seen[0] is None and set(Handler.seen[1:]) == {"Bearer right"}


@pytest.mark.parametrize(("token", "text"), [(None, "none was found"), ("wrong", "token from RAY_AUTH_TOKEN")])
def test_a_missing_and_a_wrong_token_are_told_apart(
    serve, monkeypatch: pytest.MonkeyPatch, token: str | None, text: str
) -> None:
    if token:
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    with pytest.raises(JobError, match=text) as raised:
        JobServer(serve(Handler))
    assert "RAY_AUTH_TOKEN_PATH" in (raised.value.remedy or "") and "wrong" not in str(raised.value)


def test_what_is_no_job_server_is_told_within_seconds(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with pytest.raises(JobError, match="no cluster is named"):
        JobServer()
    with pytest.raises(JobError, match="is not a Ray job server: it answers 200"):
        JobServer(serve(Page))
    with socket.socket() as silent:  # it listens and never answers
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(JobError, match="no job server answers there"):
            JobServer(address)
        silent.listen()
        with pytest.raises(JobError, match="no job server answers there"):
            JobServer(address)
    for address in ("ray://head:10001", "auto://", "http://user:secret@head:8265"):
        with pytest.raises(JobError, match="is not the address of a job server"):
            JobServer(address)
    assert time.monotonic() - began < 20


class Flaky:
    """Answer like a job server whose node starts late, whose log breaks once, and whose job ends with the log."""

    def __init__(self) -> None:
        self.n_submitted = self.n_tails = 0
        self.loop = asyncio.new_event_loop()
        self.port = 0
        self.started = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        assert self.started.wait(20)

    def _serve(self) -> None:
        app = web.Application()
        app.router.add_get("/api/version", self.version)
        app.router.add_post("/api/jobs/", self.submit)
        app.router.add_get("/api/v0/nodes", self.nodes)
        app.router.add_get("/api/jobs/one", self.details)
        app.router.add_get("/api/jobs/one/logs/tail", self.tail)
        app.router.add_get("/api/jobs/one/logs", self.logs)
        asyncio.set_event_loop(self.loop)
        runner = web.AppRunner(app)
        self.loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self.loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self.started.set()
        self.loop.run_forever()

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0"})

    async def submit(self, _: web.Request) -> web.Response:
        self.n_submitted += 1
        if self.n_submitted < 3:
            return web.Response(status=500, text="No available agent to submit job, please try again later")
        return web.json_response({"job_id": "one", "submission_id": "one"})

    async def nodes(self, _: web.Request) -> web.Response:
        return web.Response(status=404)

    async def details(self, _: web.Request) -> web.Response:
        status = "SUCCEEDED" if self.n_tails > 1 else "RUNNING"
        return web.json_response({"type": "SUBMISSION", "status": status, "entrypoint": "x", "driver_exit_code": 0})

    async def logs(self, _: web.Request) -> web.Response:
        return web.json_response({"logs": "first\nsecond\nthird\n"})

    async def tail(self, request: web.Request) -> web.WebSocketResponse:
        self.n_tails += 1
        socket_ = web.WebSocketResponse()
        await socket_.prepare(request)
        await socket_.send_str("first\nsec")
        if self.n_tails == 1:
            request.transport.abort()  # type: ignore[union-attr]
            return socket_
        await socket_.send_str("ond\nthird\n")
        await socket_.close()
        return socket_


def test_a_late_node_is_waited_for_and_a_broken_log_is_taken_up_where_it_broke(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.jobs.time.sleep", lambda _: None)
    flaky, shown = Flaky(), []
    server = JobServer(f"127.0.0.1:{flaky.port}")
    assert server.submit("x") == "one" and flaky.n_submitted == 3
    details = server.follow("one", shown.append)
    assert exit_status(details) == 0 and flaky.n_tails == 2
    assert "".join(shown) == "first\nsecond\nthird\n"
    flaky.loop.call_soon_threadsafe(flaky.loop.stop)


class Agentless(Flaky):
    """Answer like a head whose agent could not start, some time ago, because its port was in use."""

    age_s = 300.0

    async def submit(self, _: web.Request) -> web.Response:
        self.n_submitted += 1
        return web.Response(status=500, text="No available agent to submit job, please try again later.")

    async def nodes(self, _: web.Request) -> web.Response:
        node = {"is_head_node": True, "state": "ALIVE", "start_time_ms": 1000 * (time.time() - self.age_s)}
        return web.json_response({"data": {"result": {"result": [node]}}})


def test_a_head_without_an_agent_is_told_at_once_and_one_that_starts_is_waited_for(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("cluster.jobs.time.sleep", waits.append)
    agentless = Agentless()
    server = JobServer(f"127.0.0.1:{agentless.port}")
    with pytest.raises(JobError, match=r"no agent answers there, (299|300|301) s after the node has started") as raised:
        server.submit("x")
    assert "port 52365" in str(raised.value.remedy) and agentless.n_submitted == 1 and not waits
    monkeypatch.setattr(Agentless, "age_s", 5.0)
    monkeypatch.setattr("cluster.jobs._READY_S", 0.5)
    with pytest.raises(JobError, match="No available agent"):
        server.submit("x")
    assert agentless.n_submitted > 2 and waits
    agentless.loop.call_soon_threadsafe(agentless.loop.stop)


class Silent(Flaky):
    """Answer like a server whose log connection was dropped by a firewall: it stays open without further output."""

    async def details(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"type": "SUBMISSION", "status": "SUCCEEDED", "entrypoint": "x", "driver_exit_code": 0}
        )

    async def logs(self, _: web.Request) -> web.Response:
        return web.json_response({"logs": "first\nsecond\n"})

    async def tail(self, request: web.Request) -> web.WebSocketResponse:
        socket_ = web.WebSocketResponse()
        await socket_.prepare(request)
        await socket_.send_str("first\n")
        await asyncio.sleep(60)
        return socket_


def test_a_connection_that_died_silently_is_not_followed_for_ever(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.jobs._QUIET_S", 0.3)
    silent, shown = Silent(), []
    details = JobServer(f"127.0.0.1:{silent.port}").follow("one", shown.append)
    assert exit_status(details) == 0 and "".join(shown) == "first\nsecond\n"
    silent.loop.call_soon_threadsafe(silent.loop.stop)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", -9, 137),
        ("FAILED", None, 1),
        ("STOPPED", None, 1),
    ],
)
def test_the_exit_status_is_that_of_the_command(status: str, code: int | None, expected: int) -> None:
    assert exit_status(Job(status=status, entrypoint="x", driver_exit_code=code)) == expected


def test_the_log_is_not_told_twice() -> None:
    message = "exit code 1, last available logs (truncated to 20,000 chars):\n a b"
    assert outcome(Job(status="FAILED", entrypoint="x", message=message)) == "failed: exit code 1"


class Odd(Handler):
    """A server whose version is a job server's, and whose other answers are none."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(VERSION if self.path == "/api/version" else b'{"jobs": [1, 2]}')


def test_an_answer_that_is_none_is_told_without_a_traceback(serve) -> None:
    server = JobServer(serve(Odd))
    for ask in (server.jobs, lambda: server.details("one"), lambda: server.logs("one")):
        with pytest.raises(JobError, match="an answer that this program does not know"):
            ask()
