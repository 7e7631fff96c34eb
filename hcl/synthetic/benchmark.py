"""Generate a synthetic benchmark of real video files whose classes differ only in motion and its order.

Five data sets, `synth_<domain>`, share one class-disjoint division, so that evaluating one domain's test classes
after training on another's train classes is a cross-domain test on unseen actions.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hcl.errors import ConfigError, DataError, StorageError
from hcl.files.atomic import write_atomically
from hcl.synthetic.actions import TWINS, Family
from hcl.synthetic.claims import claim, is_claimed
from hcl.synthetic.codecs import CONTAINERS, usable_containers, write_video
from hcl.synthetic.drawing import DOMAINS, Image, Points, filmed, scenery

ACTIONS_OF = {partition: tuple(name for twin in twins for name in twin[:2]) for partition, twins in TWINS.items()}
ACTIONS = tuple(action for actions in ACTIONS_OF.values() for action in actions)
MIN_FRAMES, MAX_FRAMES = 16, 32

_REVISION = 1  # raise it when the same options give other frames, so that older files are refused


@dataclass(frozen=True)
class SyntheticDataset:
    """Hold the size of one data set after `make_benchmark`, and the number of files that the call wrote."""

    videos: Path
    splits: Path
    n_classes: int
    n_videos: int
    n_written: int


def make_benchmark(
    data_root: Path,
    *,
    domains: Sequence[str] = DOMAINS,
    videos_per_class: int = 16,
    size: int = 96,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    on_video: Callable[[int, int], None] | None = None,
) -> dict[str, SyntheticDataset]:
    """Write the videos and split lists of each domain's data set, and keep existing complete files.

    Repeating an interrupted call resumes it.

    Args:
        data_root: receives videos/synth_<domain>/<class>/<video>.<container> and splits/synth_<domain>/.
        size: side of the square frames in pixels, an even number.
        workers: number of processes, which never changes a result; None means one for each CPU, at most eight.
        overwrite: replace data sets that were made with other options or by another program, instead of raising.
        on_video: called with (videos written so far, videos to write).

    Returns:
        The data sets by name.

    Raises:
        ConfigError: an option is out of range.
        DataError: a data set made with other options exists, or a written file does not yield its frames.
        StorageError: the folders cannot be written.
    """
    _check_options(domains, videos_per_class, size, seed, workers)
    data_root = Path(data_root)
    options = {"revision": _REVISION, "videos_per_class": videos_per_class, "size": size, "seed": seed}
    stamp = json.dumps(options) + "\n"
    try:
        names = [dataset_name(domain) for domain in domains]
        for name in [name for name in names if not is_claimed(data_root, name, stamp, overwrite=overwrite)]:
            claim(data_root, name, stamp)
        films = [_Film(domain, action, i) for domain in domains for action in ACTIONS for i in range(videos_per_class)]
        missing = [film for film in films if not film.is_written(data_root)]
        containers = usable_containers(data_root) if missing else {}
        write = partial(_write_film, data_root=data_root, size=size, seed=seed, containers=containers)
        for n_done, _ in enumerate(_each(write, missing, workers), start=1):
            if on_video:
                on_video(n_done, len(missing))
        for domain in domains:
            _write_lists(data_root / "splits" / dataset_name(domain), videos_per_class)
    except OSError as error:
        raise StorageError(
            f"the benchmark cannot be written: {error}",
            where=str(data_root),
            remedy="choose a folder that you may write",
        ) from error
    return {
        dataset_name(domain): SyntheticDataset(
            data_root / "videos" / dataset_name(domain),
            data_root / "splits" / dataset_name(domain),
            n_classes=len(ACTIONS),
            n_videos=len(ACTIONS) * videos_per_class,
            n_written=sum(film.domain == domain for film in missing),
        )
        for domain in domains
    }


def render_video(domain: str, action: str, index: int, *, seed: int = 0, size: int = 96) -> Image:
    """Return the frames of one video as a pure function: uint8 (frame, height, width, 3) in OpenCV's channel order."""
    _check_options([domain], 1, size, seed)
    for twins in TWINS.values():
        for forward, backward, family in twins:
            if action in (forward, backward):
                return _render(domain, family, action == backward, _generator(seed, domain, action, index), size)
    raise ConfigError(f"no action is called {action!r}", where="action", remedy=f"choose from {', '.join(ACTIONS)}")


def dataset_name(domain: str) -> str:
    return f"synth_{domain}"


def _check_options(
    domains: Sequence[str], videos_per_class: int, size: int, seed: int, workers: int | None = None
) -> None:
    unknown = [domain for domain in domains if domain not in DOMAINS]
    if unknown or not domains or len(set(domains)) < len(domains):
        raise ConfigError(f"got {list(domains)}", where="domains", remedy=f"name each once, from {', '.join(DOMAINS)}")
    if videos_per_class < 1:
        raise ConfigError(f"got {videos_per_class}", where="videos_per_class", remedy="give at least 1")
    if size % 2 or not 32 <= size <= 1024:  # the codecs halve the colour planes, and odd sides lose a row
        raise ConfigError(f"got {size} pixels", where="size", remedy="give an even number from 32 to 1024")
    if seed < 0:
        raise ConfigError(f"got {seed}", where="seed", remedy="give 0 or more")
    if workers is not None and workers < 1:
        raise ConfigError(f"got {workers}", where="workers", remedy="give 1 or more")


def _generator(seed: int, *names: str | int) -> np.random.Generator:
    words = [name if isinstance(name, int) else zlib.crc32(name.encode()) for name in names]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def _render(domain: str, family: Family, backwards: bool, rng: np.random.Generator, size: int) -> Image:
    n_frames = int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1))
    background, stage = scenery(domain, rng, size)
    phases = _phases(n_frames, rng)
    paint = family(stage)
    frames = np.repeat(background[None], n_frames, axis=0)
    for frame, phase in zip(frames, phases[::-1] if backwards else phases, strict=True):
        paint(frame, float(phase))
    return filmed(domain, frames, rng)


def _phases(n_frames: int, rng: np.random.Generator) -> Points:
    """Return phases from 0 to 1 with a rest at either end and random easing; the reversal has the same distribution."""
    before, after, ease = rng.uniform(0, 0.1), rng.uniform(0, 0.1), rng.uniform(0, 0.7)
    time = np.clip((np.linspace(0, 1, n_frames) - before) / (1 - before - after), 0, 1)
    return (1 - ease) * time + ease * time**2 * (3 - 2 * time)


@dataclass(frozen=True)
class _Film:
    """Name one video to write."""

    domain: str
    action: str
    index: int

    def stem(self, data_root: Path) -> Path:
        return data_root / "videos" / dataset_name(self.domain) / self.action / _video_name(self.action, self.index)

    def is_written(self, data_root: Path) -> bool:
        stem = self.stem(data_root)
        return any(stem.with_name(stem.name + suffix).is_file() for suffix in CONTAINERS)


def _write_film(film: _Film, *, data_root: Path, size: int, seed: int, containers: dict[str, str]) -> None:
    draw = _generator(seed, film.domain, film.action, film.index, "container").integers(len(CONTAINERS))
    suffix = containers[tuple(CONTAINERS)[int(draw)]]
    stem = film.stem(data_root)
    stem.parent.mkdir(parents=True, exist_ok=True)
    final, part = stem.with_name(stem.name + suffix), stem.with_name(f".part-{stem.name}{suffix}")
    if not write_video(part, render_video(film.domain, film.action, film.index, seed=seed, size=size)):
        part.unlink(missing_ok=True)
        raise DataError(
            "the written file does not yield its frames",
            where=str(final),
            remedy="free space if the disk is full, then repeat the command",
        )
    os.replace(part, final)


def _each(write: Callable[[_Film], None], films: Sequence[_Film], workers: int | None) -> Iterable[None]:
    n_workers = min(workers or min(os.cpu_count() or 1, 8), len(films))
    if n_workers <= 1:
        yield from map(write, films)
        return
    # spawn, because a fork of a process with threads (torch, Ray) can deadlock
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(write, films, chunksize=4)


def _write_lists(folder: Path, videos_per_class: int) -> None:
    for partition, actions in ACTIONS_OF.items():
        videos = [f"{action}/{_video_name(action, i)}" for action in actions for i in range(videos_per_class)]
        _write_text(folder / f"{partition}_class.txt", "".join(f"{action}\n" for action in actions))
        _write_text(folder / f"{partition}.list", "".join(f"{video}\n" for video in videos))


def _write_text(path: Path, text: str) -> None:
    if path.is_file() and path.read_bytes() == text.encode():
        return
    write_atomically(path, text.encode())


def _video_name(action: str, index: int) -> str:
    return f"{action}_{index:03d}"
