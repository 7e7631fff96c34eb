"""Define an experiment: all sections together, the checks across them, and the experiment's digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ModelWrapValidatorHandler, PrivateAttr, SerializeAsAny, ValidationInfo, model_validator

from hcl.config.data import Clips, Data
from hcl.config.definitions import Definition, Sources
from hcl.config.evaluation import Evaluation, Fusion
from hcl.config.extensions import SETTINGS, definitions_of
from hcl.config.model import Matching, Model
from hcl.config.presets import ADDED, MACHINE_SETTINGS, PUBLISHED_EVALUATION
from hcl.config.regimes import WITH_LEVELS
from hcl.config.section import NoSettings, Section, setting
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
    backbone: SerializeAsAny[Section] = NoSettings()
    regime: SerializeAsAny[Section] = NoSettings()
    method: SerializeAsAny[Section] = NoSettings()
    augmentation: SerializeAsAny[Section] = NoSettings()
    _definitions: dict[str, Definition] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _with_extensions(
        cls, content: Any, handler: ModelWrapValidatorHandler[Experiment], info: ValidationInfo
    ) -> Experiment:
        """Find what the experiment names, and read the section of each by its own class."""
        if isinstance(content, cls):
            return content
        definitions = definitions_of(content, (info.context or {}).get("sources"))
        sections = {
            kind: content[kind]
            if isinstance(content.get(kind), Section)
            else definition.settings.model_validate(content.get(kind) or {})
            for kind, definition in definitions.items()
        }
        experiment = handler({**content, **sections})
        experiment._definitions = definitions
        return experiment

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        published = self.data.protocol == "published"
        peeks = self.data.selection_partition == "test" or self.data.selection_partition in self.data.train_partitions
        if peeks and not published:
            raise ValueError(
                f"data.selection_partition={self.data.selection_partition} with data.train_partitions="
                f"{self.data.train_partitions} would select the model on classes it must not see; "
                "set data.protocol=published to do it nevertheless, and every table will mark it"
            )
        if self.clips.n_frames > self.model.max_positions:
            raise ValueError(
                f"clips.n_frames={self.clips.n_frames} exceeds model.max_positions={self.model.max_positions}"
            )
        self._check_backbone()
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
                "do not set it, or evaluate with evaluation.protocol=standard"
            )
        if self.model.batch_norm == "sync" and not self.train.use_gpu:
            raise ValueError(
                "model.batch_norm=sync needs train.use_gpu=true: torch synchronises statistics on CUDA only"
            )
        return self

    def _check_backbone(self) -> None:
        name, grid = self.model.backbone, self.definition("backbone").traits
        if self.model.frozen_stages >= grid.stages:
            raise ValueError(
                f"model.frozen_stages={self.model.frozen_stages}: model.backbone={name} has {grid.stages} stages, of "
                f"which at most {grid.stages - 1} can be frozen while it is trained; model.train_backbone=false "
                "freezes all"
            )
        if grid.whole_cells and (rest := self.clips.size % grid.cell):
            below = self.clips.size - rest
            raise ValueError(
                f"clips.size={self.clips.size}: model.backbone={name} cuts frames into patches of {grid.cell} pixels; "
                f"set clips.size={below or grid.cell} or {below + grid.cell}"
            )

    @model_validator(mode="after")
    def _regime_can_learn(self) -> Self:
        regime, traits, model = self.train.regime, self.train.traits, self.model
        if not traits.head_learns and model.pooled_from == "backbone" and not model.train_backbone:
            raise ValueError(
                f"train.regime={regime} learns nothing on a frozen backbone: it has no weights of its own; "
                "set model.pooled_from=encoder or model.train_backbone=true"
            )
        if (side := self.grid_side) < (least := traits.smallest_grid):
            cell = self.definition("backbone").traits.cell
            raise ValueError(
                f"train.regime={regime} halves the feature grid {_TIMES[traits.grid_halvings]} and needs {least} cells "
                f"a side, clips.size={self.clips.size} gives {side}; set clips.size={cell * least} or more"
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
                "matching.leaking_semantics reads the classes of the queries: it is allowed in mode published only, "
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

    def definition(self, kind: str) -> Definition:
        """Return what the setting of a kind (`hcl.config.extensions.SETTINGS`) names."""
        return self._definitions[kind]

    @property
    def regime_name(self) -> str:
        """Return the name of the regime, which is also that of its method in records: for an extension its class."""
        return self.definition("regime").title

    @property
    def sections(self) -> dict[str, type[Section]]:
        """Return the classes of the sections of what the experiment names, by kind."""
        return {kind: definition.settings for kind, definition in self._definitions.items()}

    @property
    def sources(self) -> Sources:
        """Return the text of the extension files of this experiment, by absolute path."""
        return {path: text for one in self._definitions.values() for path, text in one.source.items()}

    def __reduce__(self) -> Any:
        """Pickle the settings and the text of extension files, so that a process elsewhere finds the same code."""
        return _restored, (self.model_dump(), dict(self.sources))

    @property
    def grid_side(self) -> int:
        """Return the side of the backbone's grid in cells."""
        return self.definition("backbone").traits.side(self.clips.size)

    @property
    def learns_from_copies(self) -> bool:
        """Return true if training and selection use copies of videos, as the release does."""
        return self.data.keep_copies or self.data.protocol == "published"

    @property
    def asks_copies(self) -> bool:
        """Return true if episodes use copies of videos, as those of the printed results do."""
        return self.data.keep_copies or self.evaluation.protocol == "published"

    @property
    def depends_on_workers(self) -> bool:
        """Return true if the trained weights depend on the number of workers, which only batch norm can cause.

        A worker normalises by its own frames, and updates the running statistics by its own episodes. Synchronised
        statistics equal those of one worker for a pair batch, which workers share, but not for several episodes.
        """
        traits, model = self.train.traits, self.model
        if traits.head_has_batch_norms:
            return True
        has_norms = self.definition("backbone").traits.batch_norms
        if not has_norms or not model.train_backbone or model.is_adapted or model.batch_norm == "frozen":
            return False
        return model.batch_norm == "train" or traits.is_episodic

    def identity(self, workers: int | None = None) -> dict[str, Any]:
        """Return the settings that determine the results, in sections.

        The run's name and the settings of the machine are left out: another number of workers does not make another
        experiment, unless its results depend on it.

        Args:
            workers: number of workers of the training, if it differs from `train.workers`.
        """
        content = self.model_dump(mode="json", exclude=MACHINE_SETTINGS)
        for kind, path in SETTINGS.items():
            section, name = path.split(".")
            content[section][name] = self.definition(kind).identity
            if not content[kind]:
                del content[kind]
        workers = self.train.workers if workers is None else workers
        if workers > 1 and self.depends_on_workers:  # one worker keeps the digest of earlier versions
            content["train"]["workers"] = workers
        return content

    def identity_of(self, section: str) -> dict[str, Any]:
        """Return the settings of one section for the keys of caches, with the settings of what it names.

        As in `digest`, settings that earlier versions did not have count only if they differ from `ADDED`.
        """
        content = getattr(self, section).model_dump(mode="json")
        for kind, path in SETTINGS.items():
            if path.startswith(f"{section}."):
                content[path.partition(".")[2]] = self.definition(kind).identity
                if own := getattr(self, kind).model_dump(mode="json"):
                    content[f"{kind}_settings"] = own
        added = ADDED.get(section, {})
        return {name: value for name, value in content.items() if name not in added or value != added[name]}

    def digest(self, workers: int | None = None) -> str:
        """Return twelve hexadecimal digits that identify these settings, independent of their origin.

        Args:
            workers: as in `identity`; 1 gives the digest of earlier versions, which ignored the number of workers.
        """
        return settings_digest(self.identity(workers))


def _restored(content: dict[str, Any], sources: dict[str, str]) -> Experiment:
    return Experiment.model_validate(content, context={"sources": sources})


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits that identify settings, given as a mapping of JSON values for each section.

    A setting of `ADDED` counts only if its value differs from the one there, so that digests of earlier versions stay.
    """
    content = {
        name: {key: one for key, one in value.items() if key not in ADDED.get(name, {}) or one != ADDED[name][key]}
        if isinstance(value, Mapping)
        else value
        for name, value in settings.items()
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _unlike(experiment: Experiment, values: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """Return the first setting that differs from `values`: its path, the value there, the experiment's value."""
    for path, value in values.items():
        section, field = path.split(".")
        actual = getattr(getattr(experiment, section), field)
        if actual != value:
            return path, value, actual
    return None
