"""Evaluate other matchers on the frame features of a model, so that methods differ in the matching alone.

All read the same (clip, frame, dim) features: the mean of a frame's tokens, of which HCL's tuples consist too. Most
compare pairs of clips, which are scored once; MatchingNet reads an episode's support as a sequence and scores episode
by episode. A baseline that was trained is evaluated by `hcl.evaluation.head_methods.PooledHead` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from hcl.clips.episodes import Episodes
from hcl.evaluation.methods import SCORE, Kept, Scores, Take
from hcl.evaluation.scores import look_up_global
from hcl.matching.alignment import OTAM_TEMPERATURE, score_frames
from hcl.models.baselines import MatchingNet
from hcl.models.hcl import HCL
from hcl.models.pooled import PooledModel
from hcl.models.precision import autocast


@dataclass(frozen=True)
class FrameMatching:
    """Implement the method protocol for one of `hcl.evaluation.matcher_names.FRAME_MATCHERS`.

    Attributes:
        seed: seed of MatchingNet's weights.
    """

    matcher: str
    seed: int
    kept: str = "frames"
    reads_names: bool = False

    @property
    def of_pairs(self) -> Mapping[str, Any]:
        return {"matcher": self.matcher, "temperature": OTAM_TEMPERATURE}

    def keep(
        self,
        model: HCL | PooledModel,
        clips: Num[Tensor, "clip frame ..."],
        embeddings: Tensor | None,
        *,
        precision: str,
    ) -> dict[str, Tensor]:
        with autocast(clips.device, precision):
            grids = model.grids(clips)
            tokens = rearrange(grids, "v t d y x -> v t (y x) d") if model.encoder is None else model.encoder(grids)
        return {"frames": reduce(tokens.float(), "v t p d -> v t d", "mean")}

    def pairs(self, query: Kept, support: Kept) -> dict[str, Float[Tensor, "query support"]]:
        return {"pairs": score_pairs_of_frames(query["frames"], support["frames"], self.matcher)}

    def look_up(self, table: Mapping[str, Float[np.ndarray, "clip clip"]], episodes: Episodes) -> Scores:
        return {SCORE: look_up_global(table["pairs"], episodes, self.metric(episodes.shot))}

    def one_by_one(self, model: Any, take: Take, episodes: Episodes) -> Scores:
        return {SCORE: matching_scores(take, episodes, seed=self.seed)}

    def reason(self, shot: int) -> str | None:
        return "the network reads all supports of an episode in order" if self.matcher == "frames-matching" else None

    def metric(self, shot: int) -> str:
        """Return `euclidean` for the distance to a class's mean (ProtoNet), `cosine` for the mean over its shots."""
        return "euclidean" if self.matcher == "frames-protonet" else "cosine"

    def fuse(self, scores: Scores) -> Float[np.ndarray, "episode query way"]:
        return scores[SCORE]


@torch.no_grad()
def score_pairs_of_frames(
    query: Float[Tensor, "query frame dim"], support: Float[Tensor, "support frame dim"], matcher: str
) -> Float[Tensor, "query support"]:
    """Return the similarity of all pairs of clips; for `frames-protonet` inner products, which give the distances."""
    if matcher not in ("frames-protonet", "frames-cosine"):
        return score_frames(query, support, matcher=matcher)
    q, s = (reduce(frames, "clip frame dim -> clip dim", "mean") for frames in (query, support))
    if matcher == "frames-cosine":
        q, s = functional.normalize(q, dim=-1), functional.normalize(s, dim=-1)
    return q @ s.T


@torch.no_grad()
def matching_scores(take: Take, episodes: Episodes, *, seed: int) -> Float[np.ndarray, "episode query way"]:
    """Return MatchingNet's scores, episode by episode.

    Args:
        seed: seed of the LSTM's weights.
    """
    network, each = None, []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        clips = torch.from_numpy(np.concatenate([support.ravel(), query.ravel()]))
        means = reduce(take(clips)["frames"], "clip frame dim -> clip dim", "mean")
        network = network or _network(means.shape[-1], seed).to(means.device)
        each.append(network(means[support.size :], means[: support.size].unflatten(0, support.shape)))
    return torch.stack(each).cpu().numpy()


def _network(dim: int, seed: int) -> MatchingNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MatchingNet(dim).eval()
