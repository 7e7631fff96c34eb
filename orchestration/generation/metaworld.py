"""Make the videos of the Meta-World benchmark with Ray actors; a repeated call makes only the missing ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hcl.datasets.splits import Partition, Video, write_split
from hcl.errors import ConfigError
from hcl.files.atomic import write_lines
from hcl.files.disk_errors import storing
from hcl.synthetic.claims import claim, is_claimed
from hcl.synthetic.metaworld.actions import ACTIONS, ACTIONS_OF
from hcl.synthetic.metaworld.facts import VideoFacts, video_name
from hcl.synthetic.metaworld.files import append_facts, discard_partials, read_facts, video_path, write_facts
from hcl.synthetic.metaworld.requirements import check_requirements
from orchestration.generation.video_maker import Batch, Films, VideoMaker, studio
from orchestration.runtime.actors import map_actors
from orchestration.runtime.connect import actor_of, connect, n_workers_available
from orchestration.runtime.progress import progress
from orchestration.storage.locks import held, lock_of

DATASET = "metaworld"

_REVISION = 1  # raise it when the same options give other frames, so that older files are refused
_BATCH = 6  # videos of one action that an actor makes in one call


@dataclass(frozen=True)
class MetaworldSummary:
    """Hold the size of the data set after a call, and what the call did.

    Attributes:
        n_written: videos that this call has written.
        failed: the requested videos of which every attempt was rejected.
    """

    videos: Path
    splits: Path
    n_classes: int
    n_videos: int
    n_written: int
    failed: tuple[VideoFacts, ...]


def make_metaworld(
    data_root: Path,
    *,
    actions: Sequence[str] = tuple(ACTIONS),
    videos_per_class: int = 24,
    seed: int = 1,
    actors: int | None = None,
    overwrite: bool = False,
    address: str | None = None,
    make_studio: Callable[[str], Films] = studio,
) -> MetaworldSummary:
    """Write the videos that are missing, then the lists of all videos that are there.

    A video is a function of the seed, its class and its number: neither the number of actors nor an interruption nor
    `videos_per_class` changes its frames. Encoders may write other bytes on another processor.

    Args:
        data_root: receives videos/metaworld/<class>/<video>.<container>, splits/metaworld/ with the lists and
            videos.jsonl (what was drawn for each video), and embeddings/metaworld_dirname2cls.txt.
        actors: number of videos that are made at once; None: one for each free CPU.
        overwrite: replace a data set that was made with another seed or by another program, instead of raising.
        address: address of a running cluster, which sees the data root under the same path; None: local Ray.
        make_studio: what films the videos of an action in an actor.

    Raises:
        ConfigError: an option is wrong, or packages or libraries are missing.
        DataError: another data set is in the folders, or a written file does not yield its frames.
        StorageError: the folders cannot be written, or another command works on them.
        ClusterError: Ray cannot be started or reached.
    """
    _check_options(actions, videos_per_class, seed)
    videos, splits = data_root / "videos" / DATASET, data_root / "splits" / DATASET
    stamp = json.dumps({"revision": _REVISION, "seed": seed}) + "\n"
    with held(lock_of(videos), what="making of videos"):
        is_ours = is_claimed(data_root, DATASET, stamp, overwrite=overwrite)
        list_file = splits / "videos.jsonl"
        listed = read_facts(list_file) if is_ours else {}
        known = {name: facts for name, facts in listed.items() if _is_there(videos, facts)}
        batches = _batches(actions, videos_per_class, known)
        if batches and address is None and make_studio is studio:
            check_requirements()
        with storing(videos):
            if not is_ours:
                claim(data_root, DATASET, stamp)
            discard_partials(videos)
        n_written = 0
        if batches:
            with connect(address):
                for facts in _made(batches, actors, videos, seed, make_studio):
                    append_facts(list_file, facts)
                    known |= {one.name: one for one in facts}
                    n_written += sum(bool(one.suffix) for one in facts)
        write_facts(list_file, known.values())
        _write_lists(data_root, known)
    requested = [facts for facts in known.values() if facts.action in actions and facts.number < videos_per_class]
    there = [facts for facts in known.values() if facts.suffix]
    return MetaworldSummary(
        videos,
        splits,
        n_classes=len({facts.action for facts in there}),
        n_videos=len(there),
        n_written=n_written,
        failed=tuple(facts for facts in requested if not facts.suffix),
    )


def _check_options(actions: Sequence[str], videos_per_class: int, seed: int) -> None:
    unknown = [name for name in actions if name not in ACTIONS]
    if unknown or not actions or len(set(actions)) < len(actions):
        raise ConfigError(f"got {list(actions)}", where="actions", remedy=f"name each once, from {', '.join(ACTIONS)}")
    if videos_per_class < 1:
        raise ConfigError(f"got {videos_per_class}", where="videos_per_class", remedy="give at least 1")
    if seed < 0:
        raise ConfigError(f"got {seed}", where="seed", remedy="give 0 or more")


def _is_there(videos: Path, facts: VideoFacts) -> bool:
    """Return whether nothing is left to do for a video: its file exists, or every attempt was rejected."""
    return not facts.suffix or video_path(videos, facts).is_file()


def _batches(actions: Sequence[str], videos_per_class: int, known: Mapping[str, VideoFacts]) -> list[Batch]:
    batches = []
    for action in actions:
        missing = [n for n in range(videos_per_class) if video_name(action, n) not in known]
        batches += [Batch(action, tuple(missing[i : i + _BATCH])) for i in range(0, len(missing), _BATCH)]
    return batches


def _made(
    batches: list[Batch], actors: int | None, videos: Path, seed: int, make_studio: Callable[[str], Films]
) -> Iterator[list[VideoFacts]]:
    """Yield what is known of the videos of each batch that is written. Raise what an actor raised."""
    make_actor = actor_of(VideoMaker, "decode", f"make {DATASET}")
    results = map_actors(
        lambda: make_actor(videos, seed, make_studio),
        batches,
        lambda actor, batch: actor.make.remote(batch),
        n_actors=actors or (lambda: n_workers_available("decode")),
    )
    n_missing = sum(len(batch.numbers) for batch in batches)
    with closing(results), progress(n_missing, "make videos", "videos") as advance:
        for batch, result in results:
            if isinstance(result, Exception):
                raise result
            yield result
            advance(len(batch.numbers))


def _write_lists(data_root: Path, known: Mapping[str, VideoFacts]) -> None:
    """Write the lists of the partitions and the readable names, of all videos that are there."""
    there = sorted((facts.action, facts.number) for facts in known.values() if facts.suffix)
    partitions = {}
    for name, actions in ACTIONS_OF.items():
        videos = tuple(Video(action, video_name(action, n)) for action, n in there if action in actions)
        classes = tuple(sorted({video.class_name for video in videos}))
        if classes:
            partitions[name] = Partition(DATASET, name, classes, videos)
    write_split(data_root, DATASET, partitions)
    names = [f"{action},{ACTIONS[action].title}" for action in sorted(ACTIONS)]
    write_lines(data_root / "embeddings" / f"{DATASET}_dirname2cls.txt", names)
