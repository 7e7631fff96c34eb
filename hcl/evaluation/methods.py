"""Define one protocol for all methods that score episodes: features kept of a clip, and scores from these features.

The code that encodes clips and fills score tables works with every method and does not depend on its class.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn import functional

from hcl.clips.episodes import Episodes
from hcl.evaluation.matcher import Matcher, levels_one_by_one
from hcl.evaluation.scores import LEVELS, Levels, fused, look_up, look_up_global, metric_of, score_pairs
from hcl.models.encoding import features_of
from hcl.models.features import ClipFeatures, pack, unpack
from hcl.models.hcl import HCL
from hcl.models.precision import autocast

Kept = Mapping[str, Tensor]
"""Features kept of some clips: named tensors (clip, ...)."""

Take = Callable[[Int[Tensor, "clip"]], Kept]
"""Function that returns the kept features of clips by index, in the given order."""

Scores = dict[str, Float[np.ndarray, "episode query way"]]
"""Scores by level; a method without levels has only `SCORE`."""

SCORE = "score"


class Method(Protocol):
    """Define the interface of every method; it is also `Pairwise` if it compares pairs, otherwise `ByEpisode`."""

    @property
    def kept(self) -> str:
        """Return the name of the kept features: methods of a model with the same name read the same files."""
        ...

    @property
    def of_pairs(self) -> Mapping[str, Any]:
        """Return the settings that determine similarities of pairs, besides the kept features."""
        ...

    @property
    def reads_names(self) -> bool:
        """Return true if class-name embeddings of the clips can change the kept features."""
        ...

    def keep(
        self,
        model: Any,
        clips: Num[Tensor, "clip frame ..."],
        embeddings: Float[Tensor, "clip embedding"] | None,
        *,
        precision: str,
    ) -> dict[str, Tensor]:
        """Compute the kept features of each clip; `precision` is that of the model's forward pass."""
        ...

    def reason(self, shot: int) -> str | None:
        """Explain why each episode must be scored by itself; return None if a table of pairs suffices."""
        ...

    def metric(self, shot: int) -> str:
        """Return the metric of the similarities; empty for a method with a comparison of its own."""
        ...

    def fuse(self, scores: Scores) -> Float[np.ndarray, "episode query way"]:
        """Return the final scores; the class with the highest score is the answer."""
        ...


class Pairwise(Method, Protocol):
    """Define the interface of a method whose scores follow from similarities of pairs of clips."""

    def pairs(self, query: Kept, support: Kept) -> dict[str, Float[Tensor, "query support"]]:
        """Return the similarities of every query clip and support clip, by name."""
        ...

    def look_up(self, table: Mapping[str, Float[np.ndarray, "clip clip"]], episodes: Episodes) -> Scores:
        """Return the scores of many episodes from the `pairs` of all clips with all clips."""
        ...


class ByEpisode(Method, Protocol):
    """Define the interface of a method that needs all clips of an episode together."""

    def one_by_one(self, model: Any, take: Take, episodes: Episodes) -> Scores: ...


@dataclass(frozen=True)
class HierarchicalMatching:
    """Score by HCL's three levels, pairwise unless a defect of the release mixes the clips of an episode.

    Attributes:
        sigmas: weights of the levels.
        half: keep patches in half precision.
    """

    matcher: Matcher
    sigmas: Mapping[str, float]
    half: bool = False
    reads_names: bool = True

    @property
    def kept(self) -> str:
        return "tokens" if self.matcher.defects.mix_scales else "features"

    @property
    def of_pairs(self) -> Mapping[str, Any]:
        return {name: self.matcher.options[name] for name in ("top_tuples", "top_patches", "zoom_ranks", "renormalise")}

    def keep(
        self,
        model: HCL,
        clips: Num[Tensor, "clip frame ..."],
        embeddings: Float[Tensor, "clip embedding"] | None,
        *,
        precision: str,
    ) -> dict[str, Tensor]:
        with autocast(clips.device, precision):
            hidden, rows = model.tokens(clips)
        tokens = hidden.float()
        if not self.matcher.defects.mix_scales:
            project = self.matcher.project
            return pack(features_of(model.heads, tokens, rows, project=project, embeddings=embeddings), half=self.half)
        kept = {"tokens": tokens, "rows": torch.full((len(tokens),), rows, device=tokens.device)}
        return kept if embeddings is None else {**kept, "embeddings": embeddings}

    def pairs(self, query: Kept, support: Kept) -> dict[str, Float[Tensor, "query support"]]:
        return score_pairs(unpack(query), unpack(support), **self.matcher.options)

    def look_up(self, table: Mapping[str, Float[np.ndarray, "clip clip"]], episodes: Episodes) -> Scores:
        return _by_level(look_up(table, episodes, **self.matcher.looking))

    def one_by_one(self, model: HCL, take: Take, episodes: Episodes) -> Scores:
        def features(clips: Int[Tensor, "clip"]) -> ClipFeatures:
            kept = take(clips)
            if "tokens" not in kept:
                return unpack(kept)
            rows, embeddings = int(kept["rows"][0]), kept.get("embeddings")
            return model.heads(kept["tokens"], rows, project=self.matcher.project, embeddings=embeddings)

        return _by_level(levels_one_by_one(episodes, features, self.matcher))

    def reason(self, shot: int) -> str | None:
        return self.matcher.defects.reason(shot)

    def metric(self, shot: int) -> str:
        return metric_of(self.matcher.metric, shot)

    def fuse(self, scores: Scores) -> Float[np.ndarray, "episode query way"]:
        return fused(Levels(*(scores[level] for level in LEVELS)), self.sigmas)


class BySimilarity:
    """Score a query and a class by the mean similarity to the class's clips; a base of methods of one similarity.

    A subclass defines `keep`, as in `Method`, and `similarity`. It can have `Settings`, a section whose values are in
    `settings`, and `reads_checkpoint`: false compares the features of the untrained model.
    """

    kept = "clips"
    of_pairs: Mapping[str, Any] = {}
    reads_names = False
    reads_checkpoint = True
    settings: Any = None

    def make(self, settings: Any) -> BySimilarity:
        """Return the method with the values of its own section."""
        made = copy.copy(self)
        made.settings = settings
        return made

    def similarity(self, query: Kept, support: Kept) -> Float[Tensor, "query support"]:
        """Return the similarity of each query clip and each support clip; larger is likelier."""
        raise NotImplementedError

    def pairs(self, query: Kept, support: Kept) -> dict[str, Float[Tensor, "query support"]]:
        return {"similarity": self.similarity(query, support)}

    def look_up(self, table: Mapping[str, Float[np.ndarray, "clip clip"]], episodes: Episodes) -> Scores:
        return {SCORE: look_up_global(table["similarity"], episodes, "cosine")}

    def reason(self, shot: int) -> str | None:
        return None

    def metric(self, shot: int) -> str:
        return ""

    def fuse(self, scores: Scores) -> Float[np.ndarray, "episode query way"]:
        return scores[SCORE]


@dataclass(frozen=True)
class OrderedPrototype:
    """Score by the distance to class means of the backbone's frame means, concatenated in order; nothing is learnt."""

    kept: str = "prototype"
    of_pairs: Mapping[str, Any] = field(default_factory=dict)
    reads_names: bool = False

    def keep(
        self, model: Any, clips: Num[Tensor, "clip frame ..."], embeddings: Tensor | None, *, precision: str
    ) -> dict[str, Tensor]:
        with autocast(clips.device, precision):
            grids = model.grids(clips)
        return {"clip": functional.normalize(grids.float().mean(dim=(-1, -2)).flatten(1), dim=-1)}

    def pairs(self, query: Kept, support: Kept) -> dict[str, Float[Tensor, "query support"]]:
        return {"inner": query["clip"] @ support["clip"].T}

    def look_up(self, table: Mapping[str, Float[np.ndarray, "clip clip"]], episodes: Episodes) -> Scores:
        return {SCORE: look_up_global(table["inner"], episodes, "euclidean")}

    def reason(self, shot: int) -> str | None:
        return None

    def metric(self, shot: int) -> str:
        return "euclidean"

    def fuse(self, scores: Scores) -> Float[np.ndarray, "episode query way"]:
        return scores[SCORE]


def _by_level(levels: Levels) -> Scores:
    return dict(zip(LEVELS, levels, strict=True))
