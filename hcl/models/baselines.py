"""Classify the clips of an episode with baselines on the same frame features (METHOD, section Baselines).

Each takes the query clips and the support clips of one episode, for any way, shot and number of queries, and returns
a score for each (query, class); larger is likelier. The modules are heads of `hcl.models.pooled.PooledModel`:
`pool` reduces a clip to the features that they compare, `loss` is minimised in training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn

from hcl.errors import ConfigError

SMALLEST_GRID = 4  # RelationNet halves the grid twice


def clip_vectors(frames: Float[Tensor, "clip frame channel row column"]) -> Float[Tensor, "clip channel"]:
    """Average over time and space, for ProtoNet, cosine and MatchingNet."""
    return reduce(frames, "clip frame channel row column -> clip channel", "mean")


def clip_maps(
    frames: Float[Tensor, "clip frame channel row column"],
) -> Float[Tensor, "clip channel row column"]:
    """Average over time, for RelationNet."""
    return reduce(frames, "clip frame channel row column -> clip channel row column", "mean")


def prototype_scores(
    query: Float[Tensor, "query dim"], support: Float[Tensor, "way shot dim"]
) -> Float[Tensor, "query way"]:
    """Return ProtoNet's scores: the negative squared Euclidean distance to the mean of a class's support clips."""
    return _negative_squared_distance(query, support.mean(dim=1))


def cosine_scores(
    query: Float[Tensor, "query dim"], support: Float[Tensor, "way shot dim"]
) -> Float[Tensor, "query way"]:
    """Return the cosine to each support clip, averaged over a class's shots."""
    # The mean of inner products is the inner product with the mean.
    return F.normalize(query, dim=-1) @ F.normalize(support, dim=-1).mean(dim=1).T


class ProtoNet(nn.Module):
    """Classify by the distance to prototypes, without parameters of its own."""

    def pool(self, frames: Float[Tensor, "clip frame channel row column"]) -> Float[Tensor, "clip channel"]:
        return clip_vectors(frames)

    def forward(
        self, query: Float[Tensor, "query dim"], support: Float[Tensor, "way shot dim"]
    ) -> Float[Tensor, "query way"]:
        return prototype_scores(query, support)

    def loss(self, scores: Float[Tensor, "query way"], target: Int[Tensor, "query"]) -> Float[Tensor, ""]:
        return F.cross_entropy(scores, target)


class CosineNet(nn.Module):
    """Classify by cosines; the loss divides them by a temperature, because cosines differ by 2 at most.

    Args:
        temperature: temperature of the softmax in the loss; it changes no decision.
    """

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def pool(self, frames: Float[Tensor, "clip frame channel row column"]) -> Float[Tensor, "clip channel"]:
        return clip_vectors(frames)

    def forward(
        self, query: Float[Tensor, "query dim"], support: Float[Tensor, "way shot dim"]
    ) -> Float[Tensor, "query way"]:
        return cosine_scores(query, support)

    def loss(self, scores: Float[Tensor, "query way"], target: Int[Tensor, "query"]) -> Float[Tensor, ""]:
        return F.cross_entropy(scores / self.temperature, target)


class Classifier(nn.Module):
    """Learn a linear classifier of the training classes, and classify new classes by the cosine of its input features.

    Args:
        channels: width of the pooled features.
        n_classes: number of training classes.
    """

    def __init__(self, channels: int, n_classes: int):
        super().__init__()
        self.linear = nn.Linear(channels, n_classes)

    def pool(self, frames: Float[Tensor, "clip frame channel row column"]) -> Float[Tensor, "clip channel"]:
        return clip_vectors(frames)

    def classify(self, vectors: Float[Tensor, "clip channel"]) -> Float[Tensor, "clip class"]:
        return self.linear(vectors)

    def forward(
        self, query: Float[Tensor, "query dim"], support: Float[Tensor, "way shot dim"]
    ) -> Float[Tensor, "query way"]:
        return cosine_scores(query, support)


class MatchingNet(nn.Module):
    """Classify with an LSTM that reads the support set and then each query, starting from its final state.

    As released, the support is read as one sequence, class after class, so that the order of the classes matters a
    little, and only the support side of the similarity is normalised.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(dim, dim // 4, bidirectional=True)

    def pool(self, frames: Float[Tensor, "clip frame channel row column"]) -> Float[Tensor, "clip channel"]:
        return clip_vectors(frames)

    def forward(
        self, query: Float[Tensor, "query dim"], support: Float[Tensor, "way shot dim"]
    ) -> Float[Tensor, "query way"]:
        """Return probabilities: a softmax over all support clips, summed over each class's shots."""
        way, shot, _ = support.shape
        read, (hidden, cell) = self.lstm(rearrange(support, "way shot dim -> (way shot) 1 dim"))
        # The queries are a batch of sequences of length 1; each starts from its own copy of the state.
        state = tuple(part.expand(-1, len(query), -1).contiguous() for part in (hidden, cell))
        query_read, _ = self.lstm(rearrange(query, "query dim -> 1 query dim"), state)
        similarity = query_read[0] @ F.normalize(read[:, 0], dim=-1).T
        return reduce(similarity.softmax(dim=-1), "query (way shot) -> query way", "sum", way=way, shot=shot)

    def loss(self, scores: Float[Tensor, "query way"], target: Int[Tensor, "query"]) -> Float[Tensor, ""]:
        """Return the negative log likelihood; the scores are probabilities already."""
        return F.nll_loss(scores.clamp_min(torch.finfo(scores.dtype).tiny).log(), target)


class RelationNet(nn.Module):
    """Compute the similarity of a query's and a support clip's feature maps with a small convolutional network.

    Args:
        channels: channels of the feature maps, a multiple of 8.
        chunk_size: query clips compared at a time in evaluation; it bounds memory and never changes a result. In
            training all pairs pass at once, because batch norm takes its statistics from them.
    """

    def __init__(self, channels: int, *, chunk_size: int = 16):
        super().__init__()
        self.chunk_size = chunk_size
        self.conv1 = nn.Conv2d(2 * channels, channels // 2, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels // 2)
        self.conv2 = nn.Conv2d(channels // 2, channels // 8, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels // 8)
        self.hidden = nn.Linear(channels // 8, channels // 8)
        self.out = nn.Linear(channels // 8, 1)

    def pool(self, frames: Float[Tensor, "clip frame channel row column"]) -> Float[Tensor, "clip channel row column"]:
        return clip_maps(frames)

    def forward(
        self,
        query: Float[Tensor, "query channel row column"],
        support: Float[Tensor, "way shot channel row column"],
    ) -> Float[Tensor, "query way"]:
        """Return values in (0, 1): the maximum over a class's shots.

        Raises:
            ConfigError: the feature grid is too small to be halved twice.
        """
        _check_grid(query.shape[-2], query.shape[-1])
        way, shot = support.shape[:2]
        # A convolution of concatenated maps is the sum of two: each clip passes once instead of once a pair.
        for_query, for_support = self.conv1.weight.chunk(2, dim=1)
        queries = F.conv2d(query, for_query, self.conv1.bias, padding=1)
        supports = F.conv2d(rearrange(support, "way shot c y x -> (way shot) c y x"), for_support, padding=1)
        chunks = [queries] if self.training else queries.split(self.chunk_size)
        relations = torch.cat([self._relations(chunk, supports) for chunk in chunks])
        return reduce(relations, "query (way shot) -> query way", "max", way=way, shot=shot)

    def loss(self, scores: Float[Tensor, "query way"], target: Int[Tensor, "query"]) -> Float[Tensor, ""]:
        """Return the mean squared error to 1 for the right class and 0 for others (Sung et al. 2018, equation 2)."""
        return F.mse_loss(scores, F.one_hot(target, scores.shape[1]).to(scores.dtype))

    def _relations(
        self,
        queries: Float[Tensor, "query channel row column"],
        supports: Float[Tensor, "support channel row column"],
    ) -> Float[Tensor, "query support"]:
        pairs = rearrange(queries[:, None] + supports, "query support c y x -> (query support) c y x")
        pairs = F.max_pool2d(self.norm1(pairs).relu(), 2)
        pairs = F.max_pool2d(self.norm2(self.conv2(pairs)).relu(), 2)
        values = self.out(self.hidden(pairs.mean(dim=(-2, -1))).relu()).sigmoid()
        return rearrange(values, "(query support) 1 -> query support", query=len(queries))


def _negative_squared_distance(
    points: Float[Tensor, "point dim"], others: Float[Tensor, "other dim"]
) -> Float[Tensor, "point other"]:
    # |a|^2 - 2ab + |b|^2 would lose digits between near points, and the gradient of a root at 0 is infinite.
    return -(points[:, None] - others).square().sum(dim=-1)


def _check_grid(rows: int, columns: int) -> None:
    if min(rows, columns) < SMALLEST_GRID:
        raise ConfigError(
            f"RelationNet halves the feature grid twice and needs {SMALLEST_GRID} cells a side, got {rows} x {columns}",
            where="clips.size",
            remedy=f"use larger frames: a ResNet's grid has a cell every 32 pixels, so at least {32 * SMALLEST_GRID}",
        )
