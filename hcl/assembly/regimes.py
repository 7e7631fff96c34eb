"""The regimes: how the parts of each are made from an experiment. Nothing else asks which regime it is.

`hcl.config.regimes` lists those of this package; an extension names a class of its own (hcl/EXTENSIONS.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from hcl.assembly import arguments
from hcl.clips.batches import EpisodeSampler, PairSampler
from hcl.config import Experiment
from hcl.config.regimes import Traits
from hcl.evaluation.head_methods import PooledHead
from hcl.evaluation.methods import HierarchicalMatching, Method
from hcl.models.backbone import Backbone
from hcl.models.baselines import Classifier, CosineNet, MatchingNet, ProtoNet, RelationNet
from hcl.models.encoder import Encoder
from hcl.models.hcl import HCL, MatchingHeads
from hcl.models.pooled import PooledModel
from hcl.training.memory import matching_bytes
from hcl.training.regimes import Classification, Contrastive, Episodic, Regime

Model = HCL | PooledModel


class Parts(Protocol):
    """The parts of a regime, each made from an experiment."""

    def model(
        self, experiment: Experiment, backbone: Backbone, n_classes: int, *, frozen_stages: int, batch_norm: str
    ) -> Model:
        """Make the model around a backbone; `frozen_stages` and `batch_norm` as in `hcl.models.backbone.OnBackbone`."""
        ...

    def freeze_unused(self, experiment: Experiment, model: Any) -> None:
        """Freeze what no term of the loss reaches: one worker leaves it alone, several would wait for its gradient."""
        ...

    def regime(
        self, experiment: Experiment, *, class_embeddings: Tensor | None, val_embeddings: Tensor | None
    ) -> Regime:
        """Make the way to learn; embeddings as in `hcl.assembly.models.make_regime`."""
        ...

    def method(self, experiment: Experiment) -> Method:
        """Make the way in which the trained model answers episodes at test."""
        ...

    def matching_memory(self, experiment: Experiment, model: Any, n_clips: int) -> Callable[[], dict[str, int]]:
        """Prepare a model for a dry step; the function returned then gives the bytes of its matching, by name.

        Args:
            n_clips: of the batches of all workers together.
        """
        ...


def parts_of(experiment: Experiment) -> Parts:
    """Return the parts of an experiment's regime, ours or an extension's."""
    parts: Parts = experiment.definition("regime").implementation
    return parts


class HierarchicalParts:
    """HCL: encoder and matching heads, contrastive terms of pair batches, three levels at test."""

    def model(
        self, experiment: Experiment, backbone: Backbone, n_classes: int, *, frozen_stages: int, batch_norm: str
    ) -> HCL:
        settings, matching = experiment.model, experiment.matching
        encoder = _encoder(experiment, backbone.channels)
        heads = MatchingHeads(
            settings.d_model,
            tuple_sizes=matching.tuple_sizes,
            global_pooling=matching.global_pooling,
            multi_scale=matching.multi_scale,
            reproject_per_size=matching.reproject_per_size,
            mix_scales=matching.mix_scales,
            embedding_dim=settings.embedding_dim if matching.semantic else None,
            learn_semantics=experiment.loss.sigma_spatial_cycle > 0,
        )
        return HCL(backbone, encoder, heads, n_classes=n_classes, frozen_stages=frozen_stages, batch_norm=batch_norm)

    def freeze_unused(self, experiment: Experiment, model: HCL) -> None:
        loss = experiment.loss
        if not (loss.sigma_spatial or loss.sigma_spatial_cycle or experiment.matching.global_pooling == "mean"):
            model.heads.spatial_linear.requires_grad_(False)
            model.heads.spatial_norm.requires_grad_(False)

    def regime(
        self, experiment: Experiment, *, class_embeddings: Tensor | None, val_embeddings: Tensor | None
    ) -> Regime:
        return Contrastive(
            PairSampler(experiment.train.classes_per_batch, experiment.seed),
            loss_sigmas=arguments.sigmas_of_loss(experiment),
            matching=arguments.training_matching(experiment),
            matcher=arguments.test_matcher(experiment),
            fusion_sigmas=arguments.sigmas_of_fusion(experiment),
            candidates=arguments.candidate_fusions(experiment),
            class_embeddings=class_embeddings,
            clip_embeddings=val_embeddings,
        )

    def method(self, experiment: Experiment) -> Method:
        half = experiment.evaluation.precision == "bfloat16"
        return HierarchicalMatching(arguments.test_matcher(experiment), arguments.sigmas_of_fusion(experiment), half)

    def matching_memory(self, experiment: Experiment, model: HCL, n_clips: int) -> Callable[[], dict[str, int]]:
        matching, patches = experiment.matching, list[int]()
        model.heads.register_forward_hook(lambda module, inputs, features: patches.append(features.patches[0].shape[2]))

        def parts() -> dict[str, int]:
            size = matching_bytes(
                clips=n_clips,
                chunk_size=matching.chunk_size,
                tuple_size=max(matching.tuple_sizes),
                patches=patches[0],
                d_model=experiment.model.d_model,
            )
            return {f"matching of {matching.chunk_size} clips with all": size}

        return parts


class PooledParts:
    """A head that compares pooled features of the backbone or the encoder, trained by episodes or as a classifier.

    A regime of this kind defines `head`. An extension also has `traits` and, for settings of its own, `Settings`.
    """

    traits = Traits()
    network: type[PooledModel] = PooledModel

    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        """Make the head: a module with `pool`, `loss` and a forward pass, as those of `hcl.models.baselines`.

        Args:
            channels: of the pooled features.
            n_classes: number of training classes.
        """
        raise NotImplementedError

    def model(
        self, experiment: Experiment, backbone: Backbone, n_classes: int, *, frozen_stages: int, batch_norm: str
    ) -> PooledModel:
        encoder = _encoder(experiment, backbone.channels) if experiment.model.pooled_from == "encoder" else None
        channels = backbone.channels if encoder is None else experiment.model.d_model
        head = self.head(experiment, channels, n_classes)
        return self.network(backbone, encoder, head, frozen_stages=frozen_stages, batch_norm=batch_norm)

    def freeze_unused(self, experiment: Experiment, model: PooledModel) -> None:
        pass

    def regime(
        self, experiment: Experiment, *, class_embeddings: Tensor | None, val_embeddings: Tensor | None
    ) -> Regime:
        train, seed = experiment.train, experiment.seed
        if not train.traits.is_episodic:
            return Classification(PairSampler(train.classes_per_batch, seed))
        shape = (train.episode_way, train.episode_shot, train.episode_queries)
        return Episodic(EpisodeSampler(*shape, train.episodes_per_step, seed))

    def method(self, experiment: Experiment) -> Method:
        return PooledHead()

    def matching_memory(self, experiment: Experiment, model: PooledModel, n_clips: int) -> Callable[[], dict[str, int]]:
        return dict  # heads take next to nothing beside the model


class ClassifierParts(PooledParts):
    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return Classifier(channels, n_classes)


class ProtoNetParts(PooledParts):
    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return ProtoNet()


class CosineParts(PooledParts):
    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return CosineNet(experiment.loss.temperature)


class MatchingParts(PooledParts):
    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return MatchingNet(channels)


class RelationParts(PooledParts):
    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return RelationNet(channels, chunk_size=experiment.matching.chunk_size)


def _encoder(experiment: Experiment, channels: int) -> Encoder:
    model = experiment.model
    return Encoder(
        channels,
        d_model=model.d_model,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        dim_feedforward=model.dim_feedforward,
        dropout=model.dropout,
        pre_norm=model.pre_norm,
        position_embedding=model.position_embedding,
        max_positions=model.max_positions,
    )
