"""All sections together: what must fit across them, and the digest that names an experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from hcl.config.data import Clips, Data
from hcl.config.evaluation import Evaluation, Fusion
from hcl.config.model import Matching, Model
from hcl.config.presets import ADDED, MACHINE_SETTINGS, PUBLISHED_EVALUATION
from hcl.config.regimes import WITH_LEVELS
from hcl.config.section import Section, setting
from hcl.config.training import Loss, Optim, Train

_TIMES = ("never", "once", "twice")


class Experiment(Section):
    name: str = setting("hcl", "name of the run's folder", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    mode: Literal["corrected", "published"] = setting(
        "corrected", "`published` presets every deviation of the released code"
    )
    seed: int = setting(0, "seed of weights, batches and augmentation", ge=0, lt=2**31)
    data: Data = Data()
    clips: Clips = Clips()
    model: Model = Model()
    matching: Matching = Matching()
    loss: Loss = Loss()
    fusion: Fusion = Fusion()
    optim: Optim = Optim()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        published = self.data.protocol == "published"
        peeks = self.data.selection_partition == "test" or self.data.selection_partition in self.data.train_partitions
        if peeks and not published:
            raise ValueError(
                f"data.selection_partition={self.data.selection_partition} with data.train_partitions="
                f"{self.data.train_partitions} would choose the model on classes it must not see; "
                "set data.protocol=published to do it all the same, and every table will mark it"
            )
        if self.clips.n_frames > self.model.max_positions:
            raise ValueError(
                f"clips.n_frames={self.clips.n_frames} exceeds model.max_positions={self.model.max_positions}"
            )
        side = self.grid_side
        if side > self.model.max_positions and self.model.position_embedding != "2d_sine":
            raise ValueError(
                f"clips.size={self.clips.size} gives {side} x {side} patches, more than model.max_positions="
                f"{self.model.max_positions}"
            )
        if self.clips.n_frames < max(self.matching.tuple_sizes):
            raise ValueError(f"clips.n_frames={self.clips.n_frames} is too few for tuples {self.matching.tuple_sizes}")
        if self.evaluation.protocol == "published" and (wrong := _unlike(self, PUBLISHED_EVALUATION)):
            raise ValueError(
                f"evaluation.protocol=published means {wrong[0]}={wrong[1]}, not {wrong[2]}; "
                "leave it alone, or evaluate with evaluation.protocol=standard"
            )
        if self.model.batch_norm == "sync" and not self.train.use_gpu:
            raise ValueError(
                "model.batch_norm=sync needs train.use_gpu=true: torch synchronises statistics on CUDA only"
            )
        return self

    @model_validator(mode="after")
    def _regime_can_learn(self) -> Self:
        regime, traits, model = self.train.regime, self.train.traits, self.model
        if not traits.head_learns and model.pooled_from == "backbone" and not model.train_backbone:
            raise ValueError(
                f"train.regime={regime} learns nothing on a frozen backbone: it has no weights of its own; "
                "set model.pooled_from=encoder or model.train_backbone=true"
            )
        if (side := self.grid_side) < (least := traits.smallest_grid):
            raise ValueError(
                f"train.regime={regime} halves the feature grid {_TIMES[traits.grid_halvings]} and needs {least} cells "
                f"a side, clips.size={self.clips.size} gives {side}; set clips.size={32 * least} or more"
            )
        if self.matching.semantic and not traits.has_levels:
            raise ValueError(f"matching.semantic concerns train.regime={WITH_LEVELS} alone, got {regime}")
        return self

    @model_validator(mode="after")
    def _semantics_can_be_computed(self) -> Self:
        matching = self.matching
        if not matching.semantic:
            return self
        several = len(matching.tuple_sizes) > 1
        if several and matching.reproject_per_size and self.model.d_model != self.model.embedding_dim:
            raise ValueError(
                "matching.reproject_per_size projects the embeddings once more per tuple size, which needs "
                f"model.d_model={self.model.d_model} to equal model.embedding_dim={self.model.embedding_dim} "
                "(deviation 18); set matching.reproject_per_size=false, or one of matching.tuple_sizes"
            )
        if not matching.leaking_semantics:
            return self
        if self.mode != "published":
            raise ValueError(
                "matching.leaking_semantics reads the classes of the queries: it stands in mode published only, "
                f"mode is {self.mode}"
            )
        if several:
            raise ValueError(
                f"matching.leaking_semantics cannot be computed with matching.tuple_sizes={matching.tuple_sizes}: the "
                "release raises; set matching.leaking_semantics=false, or one size"
            )
        fewest = self.evaluation.way * min(*self.evaluation.shots, *self.train.val_shots)
        if fewest < matching.zoom_ranks_test:
            raise ValueError(
                f"matching.leaking_semantics needs as many support clips as matching.zoom_ranks_test="
                f"{matching.zoom_ranks_test}, an episode has {fewest}"
            )
        return self

    @property
    def grid_side(self) -> int:
        """Cells a side of the grid that the backbone makes of a frame: a 32nd, which EfficientNet rounds down."""
        whole, rest = divmod(self.clips.size, 32)
        return whole + (1 if rest and self.model.backbone != "efficientnet_lite0" else 0)

    @property
    def learns_from_copies(self) -> bool:
        """Tell whether training and selection use videos that are copies of others, as the release does."""
        return self.data.keep_copies or self.data.protocol == "published"

    @property
    def asks_copies(self) -> bool:
        """Tell whether episodes hold videos that are copies of others, as those of the printed results."""
        return self.data.keep_copies or self.evaluation.protocol == "published"

    @property
    def depends_on_workers(self) -> bool:
        """Tell whether the number of workers shows in what is learnt, which is by batch norm alone.

        A worker normalises by its own frames, and keeps the running statistics of its own episodes. Statistics of all
        workers are those of a pair batch, which is shared; of several episodes at once one worker knows none.
        """
        traits, model = self.train.traits, self.model
        if traits.head_has_batch_norms:
            return True
        if not model.train_backbone or model.batch_norm == "frozen":
            return False
        return model.batch_norm == "train" or traits.is_episodic

    def identity(self, workers: int | None = None) -> dict[str, Any]:
        """Return the settings that say what comes out, in sections.

        The run's name and the settings of the machine are left out: more workers do not make another experiment, unless
        it depends on them.

        Args:
            workers: by which it was trained, where that is not `train.workers`.
        """
        content = self.model_dump(mode="json", exclude=MACHINE_SETTINGS)
        workers = self.train.workers if workers is None else workers
        if workers > 1 and self.depends_on_workers:  # the digest of one worker is that of earlier versions
            content["train"]["workers"] = workers
        return content

    def digest(self, workers: int | None = None) -> str:
        """Return twelve hexadecimal digits that name these settings, whatever file or option they came from.

        Args:
            workers: as in `identity`; 1 gives the digest that versions before kept for any number of workers.
        """
        return settings_digest(self.identity(workers))


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits that name settings, a mapping of JSON values a section.

    A setting of `ADDED` counts only where it has another value than the one there: digests of earlier versions stand.
    """
    content = {
        name: {key: one for key, one in value.items() if key not in ADDED.get(name, {}) or one != ADDED[name][key]}
        if isinstance(value, Mapping)
        else value
        for name, value in settings.items()
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _unlike(experiment: Experiment, values: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first of some settings that an experiment has otherwise: its path, the value given, the experiment's."""
    for path, value in values.items():
        section, field = path.split(".")
        found = getattr(getattr(experiment, section), field)
        if found != value:
            return path, value, found
    return None
