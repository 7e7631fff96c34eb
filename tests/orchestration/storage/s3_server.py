"""Run a local S3 server (moto) in a process of its own, because code that waits for a bucket's file may hold the GIL.

Buckets whose name starts with `readonly` reject writes without the header X-Test.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests

KEYS = {"AWS_ACCESS_KEY_ID": "a key", "AWS_SECRET_ACCESS_KEY": "a secret", "AWS_REGION": "us-east-1"}
_DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'


def missing() -> str:
    """Return why buckets cannot be tested here; empty if they can."""
    if find_spec("moto") is None:
        return "moto is not installed: make install"
    if not shutil.which("s3fs"):
        return "s3fs is not installed: apt-get install s3fs"
    return "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse may not be used"


@contextmanager
def s3_server(address: str = "127.0.0.1", command: Sequence[str] = ()) -> Iterator[str]:
    """Serve buckets for the duration of a block, and yield the endpoint.

    Args:
        command: prefix that runs it elsewhere, such as in a network namespace.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    words = [*command, sys.executable, "-m", "tests.orchestration.storage.s3_server", "serve", address, str(port)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n", process.stderr.read()
        yield f"http://{address}:{port}"
    finally:
        process.terminate()
        process.wait(10)


def upload(endpoint: str, bucket: str, content: dict[str, bytes]) -> None:
    """Upload objects as other tools do: without modes, owners, or objects for folders."""
    for path in ("", *content):
        answer = requests.put(f"{endpoint}/{bucket}/{path}", content.get(path), headers={"X-Test": "1"}, timeout=30)
        answer.raise_for_status()


def download(endpoint: str, bucket: str, folder: Path) -> None:
    """Download all objects of a bucket as files; keys are in the environment."""
    from pyarrow import fs

    store = fs.S3FileSystem(endpoint_override=endpoint.removeprefix("http://"), scheme="http", region="us-east-1")
    folder.mkdir()
    fs.copy_files(bucket, str(folder), source_filesystem=store)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def serve(address: str, port: int) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = DomainDispatcherApplication(create_backend_app)

    def answer(environ: dict[str, Any], start: Callable) -> Iterable[bytes]:
        writes = environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE")
        if writes and environ["PATH_INFO"].startswith("/readonly") and "HTTP_X_TEST" not in environ:
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [_DENIED]
        return server(environ, start)

    listening = make_server(address, port, answer, threaded=True)
    print("ready", file=sys.stderr, flush=True)
    listening.serve_forever()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", address, port]:
            serve(address, int(port))
        case ["upload", endpoint, bucket, folder]:
            upload(endpoint, bucket, files(Path(folder)))
        case ["download", endpoint, bucket, folder]:
            download(endpoint, bucket, Path(folder))
