"""Drive a headless Chromium for tests over its debugging pipe, without a port, a driver or another package."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-extensions", "--disable-sync", "--hide-scrollbars", "--mute-audio",
    "--remote-debugging-pipe", "about:blank",
)  # fmt: skip


def chromium() -> str | None:
    """Return the program, if this machine has one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """Hold one tab. `events` holds its events in order: (method, parameters)."""

    def __init__(self, folder: Path):
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        program = chromium()
        assert program is not None
        # Chromium reads commands from descriptor 3 and answers on 4
        script = f'exec "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", program, *FLAGS, f"--user-data-dir={folder}"],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._buffer, self._numbers, self.events = b"", itertools.count(1), list[tuple[str, dict[str, Any]]]()
        self._session: str | None = None
        (page,) = [one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self._session = None
        with suppress(OSError, TimeoutError):
            self.ask("Browser.close", timeout_s=5)
        self._process.terminate()
        self._process.wait(10)
        os.close(self._to)
        os.close(self._from)

    def ask(self, method: str, *, timeout_s: float = 60, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command of the DevTools protocol."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._next(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            if "method" in answer:
                self.events.append((answer["method"], answer["params"]))

    def open(self, page: Path, *, width: int = 1200, height: int = 900) -> float:
        """Load a page, draw it, and return the seconds that it took."""
        self.events.clear()
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        began = time.monotonic()
        self.ask("Page.navigate", url=page.absolute().as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            answer = self._next(began + 60)
            self.events.append((answer["method"], answer["params"]))
        self.settle()
        return time.monotonic() - began

    def settle(self) -> None:
        """Wait until pending changes have been drawn."""
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Return the exceptions, errors and warnings of the page."""
        texts = []
        for method, about in self.events:
            if method == "Runtime.exceptionThrown":
                texts.append(str(about["exceptionDetails"]))
            elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                texts.append(about["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
                texts.append(str(about["args"]))
        return texts

    def requests(self) -> list[str]:
        """Return every requested address, including the page's own; inline pictures are none."""
        urls = [about["request"]["url"] for method, about in self.events if method == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]

    def look(self, *, dark: bool = False) -> None:
        """Prefer light or dark."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", media="screen", features=features)

    def picture(self, path: Path, *, whole: bool = True) -> Path:
        """Write a PNG of the page, or of the visible part."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))
        return path

    def paper(self, path: Path) -> Path:
        """Write the page as PDF."""
        path.write_bytes(base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"]))
        return path

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise TimeoutError("the browser has gone")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
