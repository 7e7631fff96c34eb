"""Set up all tests: the environment that Ray reads on import, shape checks, one Ray for the session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Set these before ray or torch is imported, because both read them once.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # fixes the order of sums, and limits the load of Ray's workers
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # a report blocks this long
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # avoids duplicate lines
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "30")  # an unmeetable request fails, never hangs
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it in its workers, and tables take their width from it
# Workers import the packages and the test modules from the same place as pytest.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

from hypothesis import settings  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# Use the same examples in every run, also on slow machines; a failure that is found gets a test of its own.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# The shapes in the signatures of hcl/ are checked at run time, in tests only.
CHECKED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "hcl").rglob("*.py"))
    if "jaxtyping" in path.read_text()
]
assert len(CHECKED) > 30, "the modules of hcl were not found"
install_import_hook(CHECKED, "beartype.beartype")


@pytest.hookimpl(tryfirst=True)  # before `-m 'not bench'` evaluates the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ROOT / "tests" / "bench" in item.path.parents:
            item.add_marker(pytest.mark.bench)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[ModuleType]:
    """Start one Ray with four CPUs for the session.

    The dashboard stays on, because without it stopping a Train run leaks its placement group. The driver of a trial
    with several workers takes a `trial_driver` instead of a CPU.
    """
    import ray

    ray.init(
        num_cpus=4,
        num_gpus=0,
        resources={"trial_driver": 4},
        include_dashboard=True,
        log_to_driver=False,
        object_store_memory=512 * 1024**2,
    )
    yield ray
    ray.shutdown()
