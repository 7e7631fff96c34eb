"""Other methods on the frame features of a model: which there are, and their scores of many episodes.

All read the same (clip, frame, dim) features, so that what differs is the matching alone. Most compare pairs of clips,
which are scored once; MatchingNet reads an episode's support as a sequence and goes episode by episode.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hcl.alignment import score_frames
from hcl.baselines import MatchingNet
from hcl.episodes import Episodes
from hcl.scores import look_up_global

FRAME_MATCHERS = {
    "otam": "OTAM: soft-minimum alignment of the frames in order, both ways; nothing to train",
    "bimhm": "Bi-MHM: each frame to its best in the other clip, both ways; nothing to train",
    "chamfer": "Chamfer distance of the sets of frames; nothing to train",
    "protonet": "ProtoNet: squared distance of the mean frame to the mean of a class",
    "cosine": "the cosine of mean frames, averaged over shots",
    "matching": "MatchingNet: an LSTM reads the support in order; of random weights here, as nothing trained it",
}
"""Names of methods, and what they do with several shots where it is not the mean over them."""


def is_pairwise(matcher: str) -> bool:
    return matcher != "matching"


def shot_rule(matcher: str) -> str:
    """`euclidean`: the distance to a class's mean (ProtoNet); `cosine`: the mean over its shots' similarities."""
    return "euclidean" if matcher == "protonet" else "cosine"


@torch.no_grad()
def score_pairs_of_frames(
    query: Float[Tensor, "query frame dim"], support: Float[Tensor, "support frame dim"], matcher: str
) -> Float[Tensor, "query support"]:
    """The similarity of all pairs of clips; of `protonet` the inner products that distances follow from."""
    if matcher not in ("protonet", "cosine"):
        return score_frames(query, support, matcher=matcher)
    q, s = (reduce(frames, "clip frame dim -> clip dim", "mean") for frames in (query, support))
    if matcher == "cosine":
        q, s = functional.normalize(q, dim=-1), functional.normalize(s, dim=-1)
    return q @ s.T


def look_up_matcher(
    table: Float[np.ndarray, "clip clip"], episodes: Episodes, matcher: str
) -> Float[np.ndarray, "episode query way"]:
    """Scores of many episodes from all pairs of a partition's clips."""
    return look_up_global(table, episodes, shot_rule(matcher))


@torch.no_grad()
def matching_scores(
    frames: Float[Tensor, "clip frame dim"], episodes: Episodes, *, seed: int
) -> Float[np.ndarray, "episode query way"]:
    """MatchingNet's scores, episode by episode.

    Args:
        seed: of the LSTM's weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MatchingNet(frames.shape[-1]).eval()
    clips = reduce(frames, "clip frame dim -> clip dim", "mean")
    each = [
        network(clips[torch.from_numpy(query.ravel())], clips[torch.from_numpy(support)])
        for support, query in zip(episodes.support, episodes.query, strict=True)
    ]
    return torch.stack(each).numpy()
