"""Start one cluster for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.nodes import LocalCluster


@pytest.fixture(scope="module")
def place() -> Iterator[LocalCluster]:
    """Start a head without work, three workers with one CPU, and a job server with a token."""
    cluster = LocalCluster()
    try:
        cluster.start(3)
        yield cluster
    finally:
        cluster.stop()
