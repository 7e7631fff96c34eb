"""The model: clips to features, with every learnt parameter of the method.

The steps after it are pure functions of `hcl.models.features.ClipFeatures`: `hcl.matching.similarity`,
`hcl.training.losses` and `hcl.evaluation.scores`.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional

from hcl.models.backbone import Backbone, OnBackbone
from hcl.models.encoder import Draws, Encoder
from hcl.models.features import ClipFeatures
from hcl.models.precision import in_full_precision
from hcl.models.tuples import concatenated_frames, multi_scale_patches

HEAD_NORM_EPS = 1e-12
"""Of the layer norms in the matching heads, as released."""


class MatchingHeads(nn.Module):
    """Tokens (clip, frame, patch, dim) to `ClipFeatures` (METHOD "Features" 6 and "Zoom-in matching").

    Args:
        tuple_sizes: the sizes matched; each has a linear layer of its own.
        embedding_dim: width of class-name embeddings; None leaves the semantic branch out.
        learn_semantics: false freezes the embeddings' projection, which learns through the spatial cycle term alone
            and would otherwise be waited for by data parallelism.
        temporal_projection: the older release trained without `temporal_linear`.
        global_pooling, multi_scale, reproject_per_size, mix_scales: as in `hcl.config.Matching`.
    """

    def __init__(
        self,
        d_model: int,
        *,
        tuple_sizes: Sequence[int] = (2,),
        embedding_dim: int | None = None,
        learn_semantics: bool = True,
        temporal_projection: bool = True,
        global_pooling: str = "mean",
        multi_scale: bool = False,
        reproject_per_size: bool = False,
        mix_scales: bool = False,
    ):
        super().__init__()
        self.tuple_sizes, self.global_pooling = tuple(tuple_sizes), global_pooling
        self.multi_scale, self.reproject_per_size, self.mix_scales = multi_scale, reproject_per_size, mix_scales
        self.tuple_linear = nn.ModuleDict({str(size): nn.Linear(size * d_model, d_model) for size in tuple_sizes})
        self.temporal_linear = nn.Linear(d_model, d_model) if temporal_projection else nn.Identity()
        self.temporal_norm = nn.LayerNorm(d_model, eps=HEAD_NORM_EPS)
        self.spatial_linear = nn.Linear(d_model, d_model)
        self.spatial_norm = nn.LayerNorm(d_model, eps=HEAD_NORM_EPS)
        if embedding_dim is not None:
            self.semantic_linear = nn.Linear(embedding_dim, d_model)
            self.semantic_norm = nn.LayerNorm(d_model, eps=HEAD_NORM_EPS)
            self.semantic_linear.requires_grad_(learn_semantics)
            self.semantic_norm.requires_grad_(learn_semantics)

    def forward(
        self,
        tokens: Float[Tensor, "clip frame patch dim"],
        rows: int,
        *,
        project: bool = True,
        embeddings: Float[Tensor, "clip embedding"] | None = None,
    ) -> ClipFeatures:
        """
        Args:
            rows: rows of the patch grid.
            project: apply the learnt projections; false is the release's test path (deviation 4).
        """
        patches, tuples, semantics = [], [], []
        current = tokens
        for step, size in enumerate(self.tuple_sizes):
            source = current if self.reproject_per_size else tokens
            joined = self.tuple_linear[str(size)](concatenated_frames(source.mean(dim=2), size))
            if project:
                joined = self._activate(self.temporal_linear(joined), self.temporal_norm)
            tuples.append(functional.normalize(joined, dim=-1))
            if step == 0 or self.reproject_per_size:
                if project:
                    current = self._activate(self.spatial_linear(current), self.spatial_norm)
                current = functional.normalize(current, dim=-1)
                scaled = multi_scale_patches(current, rows, mix_clips=self.mix_scales) if self.multi_scale else current
                if embeddings is not None:
                    embeddings = self._embed(embeddings)
            patches.append(scaled)
            semantics.append(embeddings)
        return ClipFeatures(
            tuple(patches),
            tuple(tuples),
            self._clip(tokens, scaled),
            tuple(e for e in semantics if e is not None) or None,
        )

    def _clip(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """What the global level compares; side by side, tokens stand in place and are not projected."""
        if self.global_pooling == "mean":
            return patches.mean(dim=(1, 2))
        placed = tokens if self.global_pooling == "patches" else tokens.mean(dim=2)
        return functional.normalize(placed.flatten(1), dim=-1)

    def _activate(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return functional.normalize(norm(functional.gelu(x)), dim=-1)

    def _embed(self, embeddings: Tensor) -> Tensor:
        return self._activate(self.semantic_linear(embeddings), self.semantic_norm)


class HCL(OnBackbone):
    """Frames to tokens, class logits and matching features.

    Args:
        backbone: see `hcl.models.backbone`.
        encoder: from the backbone's grid to tokens of width d_model.
        heads: from tokens to features.
        n_classes: training classes of the classification term.
        frozen_stages, batch_norm: see `hcl.models.backbone.OnBackbone`.
    """

    def __init__(
        self,
        backbone: Backbone,
        encoder: Encoder,
        heads: MatchingHeads,
        *,
        n_classes: int,
        frozen_stages: int | None = 0,
        batch_norm: str = "train",
    ):
        super().__init__(backbone, frozen_stages=frozen_stages, batch_norm=batch_norm)
        self.encoder, self.heads = encoder, heads
        self.classifier = nn.Linear(heads.spatial_linear.out_features, n_classes)

    def tokens(
        self, clips: Num[Tensor, "clip frame channel _height _width"], draws: Draws = None
    ) -> tuple[Float[Tensor, "clip frame patch dim"], int]:
        """The encoder's tokens, and the rows of their patch grid.

        Args:
            clips: frames (uint8, or float and normalised), or what the backbone's frozen stages have made of them.
            draws: in training with dropout.
        """
        grids = self.grids(clips)
        return self.encoder(grids, draws), grids.shape[-2]

    def forward(
        self,
        clips: Num[Tensor, "clip frame channel _height _width"],
        embeddings: Tensor | None = None,
        draws: Draws = None,
    ) -> tuple[ClipFeatures, Float[Tensor, "clip class"]]:
        """Features and logits of clips as training sees them; `clips` and `draws` as in `tokens`.

        Under autocast the tokens alone are computed in its precision, as they are at test.
        """
        tokens, rows = self.tokens(clips, draws)
        with in_full_precision(tokens.device):
            tokens = tokens.to(self.classifier.weight.dtype)
            return self.heads(tokens, rows, embeddings=embeddings), self.classifier(tokens.mean(dim=(1, 2)))
