"""Collect facts about one machine of a cluster, which `orchestration.clusters.doctor` judges."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from hcl.models.precision import emulated_on_cpu

PACKAGES = ("ray", "torch", "torchvision", "optuna", "opencv-python-headless", "av", "numpy", "pyarrow", "pydantic")
CODECS = {"mp4v": ".mp4", "VP80": ".webm", "MJPG": ".avi"}
_SIDE, _FRAMES = 64, 5


@dataclass(frozen=True)
class NodeFacts:
    """Hold facts about one node, with sizes in GB (10^9 bytes) and times in seconds since 1970."""

    host: str
    python: str
    code: str  # digest of the program's modules on the node
    versions: dict[str, str]
    gpus: list[str]  # names, as torch sees them
    n_gpus_of_ray: int
    nccl: str  # empty if torch has none
    emulated: tuple[str, ...]  # precisions that the processor emulates
    undecoded: list[str]  # endings of videos that cv2 does not read back
    sees_data: bool
    runs_problem: str  # empty if the driver's file is visible and a file can be written
    free_runs_gb: float | None
    free_temp_gb: float
    shm_gb: float | None
    clock: float = field(default_factory=time.time)
    skew_s: float = 0.0  # deviation from the driver's time between request and reply


def node_facts(data: Path, runs: Path, marker: str, n_gpus_of_ray: int) -> NodeFacts:
    """Collect the facts of this machine.

    Args:
        marker: name of a file that the driver has just written into `runs`; this node writes its own file beside it.
    """
    return NodeFacts(
        host=platform.node(),
        python=platform.python_version(),
        code=code_digest(),
        versions={name: _version(name) for name in PACKAGES},
        gpus=[torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        n_gpus_of_ray=n_gpus_of_ray,
        nccl=_nccl(),
        emulated=emulated_on_cpu(),
        undecoded=[ending for codec, ending in CODECS.items() if not _decodes(codec, ending)],
        sees_data=data.is_dir() and os.access(data, os.R_OK | os.X_OK),
        runs_problem=_runs_problem(runs, marker),
        free_runs_gb=_free_gb(runs),
        free_temp_gb=_free_gb(Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())) or 0.0,
        shm_gb=_size_gb(Path("/dev/shm")),
    )


def code_digest() -> str:
    """Return the digest of the program's modules on this machine."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for package in ("hcl", "orchestration", "search_spaces", "cluster", "results"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _nccl() -> str:
    if not torch.cuda.is_available() or not torch.distributed.is_nccl_available():
        return ""
    return ".".join(map(str, torch.cuda.nccl.version()))


def _decodes(codec: str, ending: str) -> bool:
    """Return whether cv2 can read back all frames of a video that it writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / f"video{ending}")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*codec), 10, (_SIDE, _SIDE))
        for index in range(_FRAMES):
            writer.write(np.full((_SIDE, _SIDE, 3), 40 * index, np.uint8))
        writer.release()
        reader, n_read = cv2.VideoCapture(path), 0
        while reader.read()[0]:
            n_read += 1
        reader.release()
        return n_read == _FRAMES


def _runs_problem(runs: Path, marker: str) -> str:
    try:
        if not (runs / marker).exists():
            return "does not contain the driver's file, so another folder is mounted there"
        own = runs / f"{marker}.{platform.node()}.{os.getpid()}"
        try:
            own.write_text(platform.node())
        finally:
            own.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _free_gb(folder: Path) -> float | None:
    return shutil.disk_usage(folder).free / 1e9 if folder.is_dir() else None


def _size_gb(folder: Path) -> float | None:
    return shutil.disk_usage(folder).total / 1e9 if folder.is_dir() else None
