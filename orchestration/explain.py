"""`hcl explain`: what one query's score rests on, in its episode; encoded here, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from hcl import arguments, build, inputs
from hcl.catalogue import frames_folder
from hcl.config import Experiment
from hcl.effective import effective_partition
from hcl.encoding import encode, features_of
from hcl.episodes import Episodes
from hcl.errors import ConfigError, EpisodeError
from hcl.explain import explain_pair
from hcl.frames import FrameStore
from hcl.model import HCL, ClipFeatures
from hcl.scores import Levels, fused, look_up, score_pairs
from hcl.splits import Partition, read_partition
from orchestration.drawing import Panel, draw
from orchestration.runs import BEST


@dataclass(frozen=True)
class Explained:
    """The picture of a query, and what it shows.

    Attributes:
        query: `class/video`.
        scores: of each class of the episode, best first.
    """

    picture: Path
    query: str
    scores: tuple[tuple[str, float], ...]

    @property
    def is_right(self) -> bool:
        return self.scores[0][0] == self.query.partition("/")[0]


def explain(
    folder: Path,
    experiment: Experiment,
    query: str,
    *,
    data_root: Path,
    runs: Path,
    support: Sequence[str] = (),
    shot: int = 1,
    seed: int = 0,
    to: Path | None = None,
) -> Explained:
    """Draw what was matched between a query and its own class, and the best of the other classes.

    Args:
        query: `class/video`, or the video's name where only one has it, of the partition that is evaluated.
        support: `class/video` of each support clip, as many of each class; empty: drawn by `seed`.
        to: the picture; default: below `explanations/` in the run's folder.

    Raises:
        ConfigError: no such video, support clips that make no episode, a mode whose clips mix.
    """
    folder = folder.absolute()
    if experiment.train.regime != "hcl":
        raise ConfigError(
            f"was trained as {experiment.train.regime}, which matches no tuples and patches",
            where=str(folder),
            remedy="explain a run of train.regime: hcl",
        )
    if reason := arguments.defects(experiment).reason(shot):
        raise ConfigError(f"no pair can be explained by itself: {reason}", where="mode", remedy="use mode: corrected")
    dataset = (experiment.evaluation.datasets or (experiment.data.dataset,))[0]
    partition = effective_partition(data_root, read_partition(data_root, dataset, experiment.evaluation.partition))
    asked = _video(query, partition)
    by_class = _given(support, partition, asked) if support else _drawn(partition, asked, experiment, shot, seed)
    names, clips = list(by_class), [clip for shots in by_class.values() for clip in shots]
    shot = len(clips) // len(names)
    model = cast(HCL, build.trained_model(experiment, folder / BEST))
    frames = FrameStore(frames_folder(data_root, dataset))
    dataset_clips = inputs.make_dataset(experiment, frames, partition, training=False)
    tokens, rows = encode(model, dataset_clips, [*clips, asked])
    of_names = inputs.clip_embeddings(experiment, data_root, partition)
    features = features_of(
        model.heads,
        tokens,
        rows,
        project=experiment.matching.project_at_test,
        embeddings=None if of_names is None else of_names[[*clips, asked]],
    )
    matching = arguments.test_matching(experiment)
    levels = _levels(features, len(names), shot, experiment)
    scores = fused(levels, arguments.sigmas_of_fusion(experiment))[0, 0]
    own = names.index(partition.videos[asked].class_name)
    rival = int(np.argmax(np.where(np.arange(len(names)) == own, -np.inf, scores)))
    grid = rows, tokens.shape[2] // rows
    panels = []
    for way, role in ((own, "its class"), (rival, "best other class")):
        for k in range(shot):
            place = way * shot + k
            match = explain_pair(
                features[slice(len(clips), None)],
                features[slice(place, place + 1)],
                **{name: matching[name] for name in ("tuple_sizes", "top_tuples", "top_patches", "zoom_ranks")},
            )
            panels += [
                Panel(
                    f"{role}: {partition.videos[clips[place]].key}" + (f", tuples of {size}" if len(match) > 1 else ""),
                    _figures(levels, scores, way, experiment),
                    _pictures(dataset_clips[asked]),
                    _pictures(dataset_clips[clips[place]]),
                    one,
                    grid,
                )
                for size, one in match.items()
            ]
    key = partition.videos[asked].key
    path = to or folder / "explanations" / f"{key.replace('/', '--')}.png"
    ranked = sorted(zip(names, scores.tolist(), strict=True), key=lambda one: -one[1])
    draw(panels, path, heading=f"query {key} ({len(names)}-way {shot}-shot): taken for {ranked[0][0]}")
    return Explained(path, key, tuple(ranked))


def _levels(features: ClipFeatures, way: int, shot: int, experiment: Experiment) -> Levels:
    """Of the last clip, which stands for a query of any class, and the supports before it."""
    n_support = way * shot
    episode = Episodes(
        np.arange(way)[None], np.arange(n_support).reshape(1, way, shot), np.full((1, way, 1), n_support)
    )
    matcher = arguments.test_matcher(experiment)
    table = score_pairs(features, features, **matcher.options)
    return look_up({name: one.numpy() for name, one in table.items()}, episode, **matcher.looking)


def _figures(levels: Levels, scores: np.ndarray, way: int, experiment: Experiment) -> str:
    sigmas = arguments.sigmas_of_fusion(experiment)
    terms = [
        f"{name} {sigmas[f'sigma_{name}']:.3g} x {values[0, 0, way]:.3f}"
        for name, values in zip(("global", "temporal", "spatial"), levels, strict=True)
    ]
    return f"score {scores[way]:.3f} = {' + '.join(terms)}"


def _pictures(clip: torch.Tensor) -> np.ndarray:
    return clip.permute(0, 2, 3, 1).numpy()  # to channels last, as pictures are drawn


def _video(name: str, partition: Partition) -> int:
    """The index of a video. Raises ConfigError where none or several are meant."""
    keys = [video.key for video in partition.videos]
    found = [i for i, video in enumerate(partition.videos) if name in (video.key, video.name)]
    if len(found) == 1:
        return found[0]
    near = [key for key in keys if name.partition("/")[0] in key][:3] or keys[:3]
    raise ConfigError(
        f"is no video of {partition.dataset} {partition.name}" if not found else f"{len(found)} videos have this name",
        where=name,
        remedy=f"name it as class/video, for instance {', '.join(near)}",
    )


def _given(support: Sequence[str], partition: Partition, query: int) -> dict[str, list[int]]:
    """Support clips by class, in the order given."""
    by_class: dict[str, list[int]] = {}
    for name in support:
        clip = _video(name, partition)
        if clip == query:
            raise ConfigError("is the query itself", where=name, remedy="name another video of its class")
        by_class.setdefault(partition.videos[clip].class_name, []).append(clip)
    own = partition.videos[query].class_name
    if own not in by_class or len(by_class) < 2 or len({len(clips) for clips in by_class.values()}) > 1:
        counts = ", ".join(f"{name} {len(clips)}" for name, clips in by_class.items())
        raise ConfigError(
            f"make no episode of {own!r} and others with as many clips of each class: {counts}",
            where="--support",
            remedy="name videos of the query's class and of at least one other, as many of each; or leave it to --seed",
        )
    return by_class


def _drawn(partition: Partition, query: int, experiment: Experiment, shot: int, seed: int) -> dict[str, list[int]]:
    """The query's class and others, with support clips that are not the query."""
    generator, labels = np.random.default_rng([seed, query]), partition.labels
    others = generator.permutation([c for c in range(len(partition.classes)) if c != labels[query]])
    way = min(experiment.evaluation.way, len(partition.classes))
    by_class = {}
    for index in [int(labels[query]), *others[: way - 1].tolist()]:
        clips = [clip for clip in np.flatnonzero(labels == index).tolist() if clip != query]
        if len(clips) < shot:
            raise EpisodeError(
                f"class {partition.classes[index]!r} has {len(clips)} clips beside the query, {shot} are needed",
                where="--shot",
                remedy="ask for fewer shots",
            )
        by_class[partition.classes[index]] = generator.permutation(clips)[:shot].tolist()
    return by_class
