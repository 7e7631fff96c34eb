"""Run a function on each rank of real process groups of several sizes."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from hcl.training.process_group import DistributedGroup, ProcessGroup

Compute = Callable[[ProcessGroup], dict[str, Any]]


def computed(compute: Compute, worlds: Sequence[int], folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Return the results of `compute` on each rank, by the number of workers.

    The processes are started once: all of them form the first group, and fewer the next ones.

    Args:
        compute: a function of a module, which returns tensors and plain values.
        worlds: numbers of workers in falling order.
        folder: an empty folder for the processes' results.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([compute.__module__])  # torch is imported only once
    processes = [
        context.Process(target=_work, args=(compute, rank, tuple(worlds), str(folder)), daemon=True)
        for rank in range(max(worlds))
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 300  # no time of theirs: other processes may take most of the processor
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0] * len(processes)
    paths = {world: [_path(folder, world, rank) for rank in range(world)] for world in worlds}
    return {world: [torch.load(path, weights_only=True) for path in of_world] for world, of_world in paths.items()}


def _work(compute: Compute, rank: int, worlds: tuple[int, ...], folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    for world in worlds:
        if rank >= world:
            return
        dist.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
        torch.save(compute(DistributedGroup()), _path(Path(folder), world, rank))
        dist.barrier()
        dist.destroy_process_group()


def _path(folder: Path, world: int, rank: int) -> Path:
    return folder / f"of_{world}_rank_{rank}.pt"
