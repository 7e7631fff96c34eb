"""Work as one actor of a prediction: encode a support clip, or classify a query."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from hcl.assembly import backbones, inputs
from hcl.assembly.regimes import parts_of
from hcl.clips.episodes import Episodes
from hcl.config import Experiment
from hcl.datasets.splits import Partition
from hcl.errors import DataError
from hcl.evaluation.methods import ByEpisode, HierarchicalMatching, Method
from hcl.evaluation.scores import LEVELS
from hcl.evaluation.single_queries import nearest_shot, query_levels, with_one_metric
from hcl.files.arrays import load_arrays, save_arrays
from hcl.frames.decoding import FrameOptions
from hcl.frames.loose_clips import VIDEO, LooseClip, opened_clip
from hcl.models.features import ClipFeatures, unpack
from hcl.models.inference import fast_backbone, for_inference
from hcl.models.precision import autocast, set_convolutions
from orchestration.evaluation.scorer import checked_model
from orchestration.prediction.pictures import write_animation, write_match
from orchestration.runtime.connect import device_of_actor
from orchestration.runtime.notices import keep_notices

_ALONE = Partition("loose", "query", (VIDEO.class_name,), (VIDEO,))
_FRAMES = "frames"
_AGAIN = "delete it and repeat the command"

Kept = dict[str, Tensor]
"""The features that the method keeps of one clip (view, 1, ...)."""


@dataclass(frozen=True)
class Setup:
    """Describe a prediction to its actors.

    Attributes:
        classes: names of the classes.
        support: file of the features of each support clip, class by class.
        shots: number of support clips of each class.
        embeddings: the embedding of each class's name, if the model reads them.
        options: the frames to make of videos.
        runs: the folder of runs, for notices.
    """

    experiment: Experiment
    checkpoint: Path
    checkpoint_digest: str
    classes: tuple[str, ...]
    support: tuple[Path, ...]
    shots: tuple[int, ...]
    embeddings: Tensor | None
    options: FrameOptions
    runs: Path

    @property
    def how(self) -> Method:
        """Return how the trained model compares clips, with one metric for all classes."""
        how = parts_of(self.experiment).method(self.experiment)
        return with_one_metric(how, self.shots) if isinstance(how, HierarchicalMatching) else how


@dataclass(frozen=True)
class SupportJob:
    """Ask for the features of the support clip of this number."""

    clip: LooseClip
    number: int


@dataclass(frozen=True)
class QueryJob:
    """Ask for the scores of a query.

    Attributes:
        animation, match: files of its pictures for the page; None without pictures.
    """

    clip: LooseClip
    digest: str
    animation: Path | None = None
    match: Path | None = None


class Predictor:
    """Encode support clips and classify queries, as an actor. The model is loaded at the first call."""

    def __init__(self, setup: Setup):
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # what FFmpeg says of damaged videos is noise in an actor's log
        keep_notices(setup.runs)
        self.setup, self.how, self.device = setup, setup.how, device_of_actor()
        self._model: Any = None
        self._support: Kept | None = None

    def work(self, job: SupportJob | QueryJob) -> dict[str, Any]:
        """Do a job, and return its outcome, which has a `reason` if the clip cannot be read."""
        try:
            return self._encode(job) if isinstance(job, SupportJob) else self._classify(job)
        except DataError as error:
            return {"reason": error.problem}

    def _encode(self, job: SupportJob) -> dict[str, Any]:
        way = int(np.searchsorted(np.cumsum(self.setup.shots), job.number, side="right"))
        names = None if self.setup.embeddings is None else self.setup.embeddings[way : way + 1]
        kept, frames, n_frames = self._kept(job.clip, names)
        path = self.setup.support[job.number]
        write_animation(path.with_suffix(".webp"), frames)
        save_arrays(path, {**{name: values.cpu().numpy() for name, values in kept.items()}, _FRAMES: frames})
        return {"n_frames": n_frames}

    def _classify(self, job: QueryJob) -> dict[str, Any]:
        query, frames, n_frames = self._kept(job.clip, None)
        if isinstance(self.how, HierarchicalMatching):
            outcome = self._levels(job, query, frames, self.how)
        else:
            scores = self._one_by_one(query, cast(ByEpisode, self.how))
            outcome = {"scores": scores.tolist(), "levels": {}}
        if not np.isfinite(outcome["scores"]).all():
            raise DataError("its scores are not finite", where=str(job.clip.path))
        if job.animation is not None:
            write_animation(job.animation, frames)
        return {**outcome, "n_frames": n_frames}

    def _levels(
        self, job: QueryJob, query: Kept, frames: UInt8[np.ndarray, "frame 3 side side"], how: HierarchicalMatching
    ) -> dict[str, Any]:
        setup, support = self.setup, self._loaded_support()
        views = range(setup.experiment.evaluation.views)
        of_query, of_support = ([_features(kept, view) for view in views] for kept in (query, support))
        levels, pairs = query_levels(of_query, of_support, setup.shots, how.matcher)
        scores = how.fuse({name: values[None, None] for name, values in zip(LEVELS, levels, strict=True)})[0, 0]
        best = int(scores.argmax())
        first = sum(setup.shots[:best])
        nearest = nearest_shot(pairs, first, setup.shots[best], how)
        if job.match is not None:
            shown = load_arrays(setup.support[nearest], remedy=_AGAIN)[_FRAMES]
            write_match(
                job.match,
                of_query[0],
                of_support[0][slice(nearest, nearest + 1)],
                (frames, shown),
                grid=self._grid(frames),
                title=f"clip {nearest - first + 1} of {setup.shots[best]} of {setup.classes[best]}",
                experiment=setup.experiment,
            )
        by_name = {name: values.tolist() for name, values in zip(LEVELS, levels, strict=True)}
        return {"scores": scores.tolist(), "levels": by_name, "nearest": nearest}

    def _one_by_one(self, query: Kept, how: ByEpisode) -> np.ndarray:
        """Return the scores of an episode with a single query, averaged over views."""
        support, way = self._loaded_support(), len(self.setup.shots)
        n_support, views = sum(self.setup.shots), self.setup.experiment.evaluation.views
        episode = Episodes(
            np.arange(way)[None], np.arange(n_support).reshape(1, way, -1), np.full((1, way, 1), n_support)
        )
        joined = {name: torch.cat([support[name], query[name]], dim=1) for name in query}
        of_views = []
        for view in range(views):
            whole = {name: values[view] for name, values in joined.items()}
            of_views.append(how.one_by_one(self._model, partial(_taken, whole), episode))
        return np.mean([how.fuse(scores)[0, 0] for scores in of_views], axis=0)

    @torch.no_grad()
    def _kept(self, clip: LooseClip, names: Tensor | None) -> tuple[Kept, UInt8[np.ndarray, "frame 3 side side"], int]:
        """Return the features of a clip in each view, the frames of its first view, and its number of frames."""
        self._load()
        experiment, views = self.setup.experiment, self.setup.experiment.evaluation.views
        with opened_clip(clip, self.setup.options) as store:
            dataset = inputs.make_dataset(experiment, store, _ALONE, training=False, random_views=views > 1)
            clips = [dataset[draw] for draw in inputs.test_draws(0, views)]
            n_frames = store.n_frames(VIDEO)
        precision = experiment.train.precision
        embeddings = None if names is None else names.to(self.device)
        of_views = [
            self.how.keep(self._model, self._entering(frames)[None], embeddings, precision=precision)
            for frames in clips
        ]
        kept = {name: torch.stack([of_view[name] for of_view in of_views]) for name in of_views[0]}
        return kept, clips[0].numpy(), n_frames

    def _entering(self, frames: Tensor) -> Tensor:
        """Return what enters the model: frames or, if grids are cached in evaluation, the same rounded grids."""
        if self._below is None:
            return frames.to(self.device)
        experiment = self.setup.experiment
        with autocast(self.device, experiment.train.precision):
            return self._below.below(frames.to(self.device), backbones.frozen_stages(experiment)).half()

    @torch.no_grad()
    def _grid(self, frames: UInt8[np.ndarray, "frame 3 side side"]) -> tuple[int, int]:
        """Return the rows and columns of patches of a frame."""
        grid = self._model.grids(self._entering(torch.from_numpy(frames[:1]))[None])
        return int(grid.shape[-2]), int(grid.shape[-1])

    def _load(self) -> None:
        if self._model is not None:
            return
        experiment = self.setup.experiment
        set_convolutions(experiment.train.precision)
        model = checked_model(experiment, self.setup.checkpoint, self.setup.checkpoint_digest)
        has_grids = backbones.caches_grids(experiment)
        self._below = fast_backbone(model.backbone).to(self.device) if has_grids else None
        self._model = for_inference(model, has_grids=has_grids).to(self.device)

    def _loaded_support(self) -> Kept:
        """Return the features of all support clips (view, clip, ...), read once."""
        if self._support is None:
            each = [load_arrays(path, remedy=_AGAIN) for path in self.setup.support]
            self._support = {
                name: torch.from_numpy(np.concatenate([arrays[name] for arrays in each], axis=1)).to(self.device)
                for name in each[0]
                if name != _FRAMES
            }
        return self._support


def _taken(whole: Kept, clips: Tensor) -> Kept:
    return {name: values[clips] for name, values in whole.items()}


def _features(kept: Mapping[str, Tensor], view: int) -> ClipFeatures:
    return unpack({name: values[view] for name, values in kept.items()})
