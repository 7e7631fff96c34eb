"""Turn what is asked of a prediction into the setup of its actors, and check it before work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hcl.assembly import backbones, inputs
from hcl.config import Experiment
from hcl.datasets.splits import Partition
from hcl.errors import ConfigError, DataError, HCLError
from hcl.evaluation.methods import HierarchicalMatching
from hcl.files.names import some
from hcl.frames.decoding import FrameOptions
from hcl.frames.extraction import DEFAULT_OPTIONS, recorded_options
from hcl.frames.loose_clips import LooseClip
from hcl.frames.stored_dataset import DataRoot
from hcl.models.checkpoint import check_checkpoint
from orchestration.evaluation.tables import digest_of, encoding_of
from orchestration.prediction.predictor import Setup
from orchestration.prediction.run_calibration import Reliability
from results.records.weights import read_digest

_N_READERS = 8  # threads: reading waits for the disk, and hashing releases the GIL


@dataclass(frozen=True)
class Asked:
    """Describe a prediction.

    Attributes:
        experiment: the run's experiment, with changed evaluation settings.
        support: the clips of each class.
        options: the frames to make of videos; None: as the run's data set was extracted.
        n_pictures: number of queries, from the first, of which pictures are made.
        calibrated_on: where confidences are measured; None: no calibration.
    """

    folder: Path
    experiment: Experiment
    checkpoint: Path
    data: DataRoot
    runs: Path
    support: Mapping[str, Sequence[LooseClip]]
    queries: Sequence[LooseClip]
    options: FrameOptions | None = None
    n_pictures: int = 50
    calibrated_on: Reliability | None = "test"
    time_limit_s: float = 600.0

    @property
    def shots(self) -> tuple[int, ...]:
        """Return the number of clips of each class."""
        return tuple(len(clips) for clips in self.support.values())

    @property
    def support_clips(self) -> list[LooseClip]:
        """Return all support clips, class by class."""
        return [clip for clips in self.support.values() for clip in clips]

    @property
    def class_of_each(self) -> list[str]:
        """Return the class of each support clip."""
        return [name for name, clips in self.support.items() for _ in clips]


def check(asked: Asked) -> None:
    """Raise ConfigError if the run cannot classify single queries with this support."""
    shots, regime = asked.shots, asked.experiment.regime_name
    how = Setup(asked.experiment, Path(), "", (), (), shots, None, DEFAULT_OPTIONS, asked.runs).how
    if isinstance(how, HierarchicalMatching):
        if reason := how.reason(max(shots)):
            raise ConfigError(
                f"a query cannot be classified by itself: {reason}",
                where=str(asked.folder),
                remedy="use a run of mode: corrected",
            )
    elif len(set(shots)) > 1:
        counts = ", ".join(f"{name} {shot}" for name, shot in zip(asked.support, shots, strict=True))
        raise ConfigError(
            f"{regime} needs the same number of clips of each class: {counts}",
            where="--support",
            remedy="leave out some clips, or use a run of regime hcl",
        )


def setup_of(asked: Asked) -> tuple[Setup, list[str]]:
    """Return the setup of the actors, and the digest of each support clip's content."""
    experiment, stored = asked.experiment, asked.data.dataset(asked.experiment.data.dataset)
    check_checkpoint(asked.checkpoint)
    clips = asked.support_clips
    digests, unreadable = content_digests(clips)
    if unreadable:
        raise unreadable_support([clips[index] for index in unreadable], list(unreadable.values()))
    _check_labels(asked, digests)
    classes = tuple(asked.support)
    embeddings = inputs.class_embeddings(experiment, stored, Partition(stored.name, "support", classes, ()))
    setup = Setup(
        experiment,
        asked.checkpoint,
        read_digest(asked.checkpoint),
        classes,
        (),
        asked.shots,
        embeddings,
        asked.options or _options(asked),
        asked.runs,
    )
    encoding = [*_encoding(setup).items(), ("embeddings", inputs.embeddings_identity(experiment, stored))]
    places = tuple(
        cache_folder(asked.runs) / "support" / f"{digest_of({**dict(encoding), 'clip': digest, 'class': name})}.npz"
        for digest, name in zip(digests, asked.class_of_each, strict=True)
    )
    return replace(setup, support=places), digests


def _check_labels(asked: Asked, digests: Sequence[str]) -> None:
    """Raise DataError for a clip of two classes; their scores would always be equal for it."""
    seen: dict[str, tuple[LooseClip, str]] = {}
    for clip, digest, name in zip(asked.support_clips, digests, asked.class_of_each, strict=True):
        first, label = seen.setdefault(digest, (clip, name))
        if label != name:
            raise DataError(
                f"has the content of {first.name}, but it is labelled {name!r} and that one {label!r}",
                where=clip.name,
                remedy="leave the clip in one class",
            )


def _options(asked: Asked) -> FrameOptions:
    """Return the options with which the run's data set was extracted, or the default ones."""
    try:
        records = asked.data.dataset(asked.experiment.data.dataset).records
    except HCLError:
        return DEFAULT_OPTIONS
    return recorded_options(records.values()) or DEFAULT_OPTIONS


def _encoding(setup: Setup) -> dict[str, Any]:
    experiment = setup.experiment
    weights = backbones.weights_digest(experiment) if backbones.caches_grids(experiment) else ""
    return {
        **encoding_of(experiment, setup.how, setup.checkpoint_digest, weights=weights),
        "frames": setup.options.digest,
    }


def meaning_of(asked: Asked, setup: Setup, digests: Sequence[str]) -> dict[str, Any]:
    """Return everything that the scores of a query depend on, besides the query."""
    how = setup.how
    fusion = {**how.matcher.looking, "sigmas": dict(how.sigmas)} if isinstance(how, HierarchicalMatching) else {}
    return {
        **_encoding(setup),
        "pairs": dict(how.of_pairs),
        "fusion": fusion,
        "support": [list(pair) for pair in zip(asked.class_of_each, digests, strict=True)],
        "files": [path.name for path in setup.support],
    }


def content_digests(clips: Sequence[LooseClip]) -> tuple[list[str], dict[int, str]]:
    """Return the digest of each clip's content, and the reason for each that cannot be read, by index."""

    def read(clip: LooseClip) -> tuple[str, str]:
        try:
            return clip.digest(), ""
        except DataError as error:
            return "", error.problem

    with ThreadPoolExecutor(_N_READERS) as readers:
        pairs = list(readers.map(read, clips))
    return [digest for digest, _ in pairs], {index: reason for index, (_, reason) in enumerate(pairs) if reason}


def unreadable_support(clips: Sequence[LooseClip], reasons: Sequence[str]) -> DataError:
    return DataError(
        f"{len(clips)} clip(s) of the support cannot be read: {some([clip.name for clip in clips], 3)}; "
        f"the first: {reasons[0]}",
        where="--support",
        remedy="repair them or take them out; a class may have any number of clips from one",
    )


def cache_folder(runs: Path) -> Path:
    """Return the folder of support features and finished queries."""
    return Path(runs) / "cache" / "predictions"


def default_folder(folder: Path, support: Path, queries: Sequence[Path]) -> Path:
    """Return where the predictions of some queries are written by default: a folder of the run, named after them."""
    places = [str(path.absolute()) for path in (support, *queries)]
    name = queries[0].stem if len(queries) == 1 else "queries"
    return folder / "predictions" / f"{name[:60] or 'queries'}-{digest_of({'places': places})[:6]}"
