"""Make the parts of the regimes OTAM, TRX, HyRSM, HyRSM++, MoLo and of the probe from an experiment."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hcl.assembly.backbones import caches_grids, frozen_stages
from hcl.assembly.regimes import ClassifierParts, PooledParts
from hcl.clips.batches import EpisodeSampler
from hcl.config import Experiment, Section
from hcl.errors import ConfigError
from hcl.evaluation.head_methods import HeadByPairs
from hcl.evaluation.methods import Method
from hcl.models.backbone import Backbone
from hcl.models.pooled import PooledModel
from hcl.rivals.hyrsm import Hyrsm, HyrsmSettings
from hcl.rivals.model import HeadModel
from hcl.rivals.molo import CONTRASTIVE, Molo, MoloSettings
from hcl.rivals.otam import Otam, OtamSettings
from hcl.rivals.probe import ProbeHead, ProbeSettings
from hcl.rivals.trx import Trx, TrxSettings
from hcl.training.heads import HeadEpisodes
from hcl.training.regimes import Regime


class HeadParts(PooledParts):
    """A head of `hcl.rivals`, trained on episodes by its own loss."""

    network = HeadModel

    def regime(
        self, experiment: Experiment, *, class_embeddings: Tensor | None, val_embeddings: Tensor | None
    ) -> Regime:
        train = experiment.train
        shape = (train.episode_way, train.episode_shot, train.episode_queries)
        sampler = EpisodeSampler(*shape, train.episodes_per_step, experiment.seed)
        terms = self.terms(experiment)
        return HeadEpisodes(sampler, terms, reconstructs="reconstruction" in terms)

    def model(
        self, experiment: Experiment, backbone: Backbone, n_classes: int, *, frozen_stages: int, batch_norm: str
    ) -> PooledModel:
        try:
            return super().model(experiment, backbone, n_classes, frozen_stages=frozen_stages, batch_norm=batch_norm)
        except ValueError as error:  # a width that the head cannot divide
            raise ConfigError(
                str(error), where=f"train.regime={experiment.train.regime}", remedy="choose another model.backbone"
            ) from error

    def terms(self, experiment: Experiment) -> tuple[str, ...]:
        """Return the names of the loss terms."""
        return ("match",)

    def check(self, experiment: Experiment) -> None:
        """Raise ConfigError for settings that cannot be trained together."""
        regime, channels = experiment.regime, _channels(experiment)
        n_heads = getattr(regime, "n_heads", 1)
        if channels is not None and channels % n_heads:
            raise ConfigError(
                f"{n_heads} heads do not divide the {channels} channels of the encoder's tokens",
                where="regime.n_heads",
                remedy="set regime.n_heads to a divisor of model.d_model",
            )


class OtamParts(HeadParts):
    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return Otam(OtamSettings(**_values(experiment.regime)))

    def method(self, experiment: Experiment) -> Method:
        return HeadByPairs(head=Otam(OtamSettings(**_values(experiment.regime))))


class TrxParts(HeadParts):
    def check(self, experiment: Experiment) -> None:
        super().check(experiment)
        sizes = TrxSettings(**_values(experiment.regime)).tuple_sizes
        if max(sizes) > experiment.clips.n_frames:
            raise ConfigError(
                f"tuples of {max(sizes)} frames from clips of {experiment.clips.n_frames}",
                where="regime.tuple_sizes",
                remedy="set smaller regime.tuple_sizes, or more frames (clips.n_frames)",
            )

    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return Trx(channels, TrxSettings(**_values(experiment.regime)))


class HyrsmParts(HeadParts):
    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return Hyrsm(channels, n_classes, HyrsmSettings(**_values(experiment.regime)))

    def terms(self, experiment: Experiment) -> tuple[str, ...]:
        temporal = ("temporal",) if getattr(experiment.regime, "temporal", 0) else ()
        return ("match", "classification", *temporal)


class MoloParts(HeadParts):
    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return Molo(channels, n_classes, MoloSettings(**_values(experiment.regime)))

    def method(self, experiment: Experiment) -> Method:
        settings = MoloSettings(**_values(experiment.regime))
        channels = settings.n_heads * settings.motion_share  # the smallest: matching reads no weights
        return HeadByPairs(head=Molo(channels, 1, settings).eval())

    def terms(self, experiment: Experiment) -> tuple[str, ...]:
        reconstruction = ("reconstruction",) if _reconstructs(experiment) else ()
        return ("match", *CONTRASTIVE, "classification", *reconstruction)

    def freeze_unused(self, experiment: Experiment, model: Any) -> None:
        if not _reconstructs(experiment):
            head = model.head
            for part in (head.up1, head.up2, head.up3, head.outc):
                part.requires_grad_(False)

    def check(self, experiment: Experiment) -> None:
        super().check(experiment)
        if _reconstructs(experiment) and caches_grids(experiment):
            raise ConfigError(
                f"reconstructs the frames, but the {frozen_stages(experiment)} frozen stages are read from a cache",
                where="regime.reconstruction",
                remedy="set regime.reconstruction=0, or model.cached_views=0, which encodes every batch",
            )


class ProbeParts(ClassifierParts):
    """A classifier of the training classes, whose features a classifier fitted on each support compares at test."""

    def head(self, experiment: Experiment, channels: int, n_classes: int) -> nn.Module:
        return ProbeHead(channels, n_classes, ProbeSettings(**_values(experiment.regime)))


def _values(section: Section) -> dict[str, Any]:
    return section.model_dump()


def _channels(experiment: Experiment) -> int | None:
    """Return the channels of the features, or None where the backbone decides."""
    return experiment.model.d_model if experiment.model.pooled_from == "encoder" else None


def _reconstructs(experiment: Experiment) -> bool:
    return bool(getattr(experiment.regime, "reconstruction", 0))
