"""Translate a command line of the released HCL code into settings of an experiment.

A flag that is not given has its released default, except that an evaluation (`--ckpt_path`) keeps the training settings
of the published run, because it does not train.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hcl.config.paths import flatten
from hcl.config.released.flags import DEFAULTS, ELSEWHERE, IDLE, UNSUPPORTED
from hcl.config.resolve import resolve
from hcl.errors import ConfigError, did_you_mean

BASES = {
    "ssv2_100_otam": "published",
    "ssv2_100": "published_ssv2_100",
    "kinetics100": "published_kinetics100",
    "hmdb51": "published_hmdb51",
    "ucf101": "published_ucf101",
}
"""The shipped experiment for each data set of the release."""


@dataclass(frozen=True)
class Translation:
    """Hold an experiment file's content.

    Attributes:
        base: the shipped experiment that it starts from.
        settings: the values that differ from the base's, by dotted path, with the experiment's name.
        notes: what a reader has to know of flags that have no setting.
        checkpoint: the path given by `--ckpt_path`; empty if none was.
    """

    base: str
    settings: dict[str, Any]
    notes: tuple[str, ...]
    checkpoint: str


def translate(words: Sequence[str]) -> Translation:
    """Translate the flags of the released `train.py` or `eval.py`, without the script's name.

    Raises:
        ConfigError: a flag or value that the release does not know, or one whose effect this program cannot give.
    """
    given = _parse(words)
    flags = argparse.Namespace(**(DEFAULTS | given))
    if flags.dataset not in BASES:
        raise ConfigError(
            f"{flags.dataset!r} is no data set of the release, which has {', '.join(BASES)}"
            f"{did_you_mean(flags.dataset, BASES)}",
            where="--dataset",
            remedy="write an experiment with data.dataset of your own instead",
        )
    for flag, remedy in UNSUPPORTED.items():
        if getattr(flags, flag):
            raise ConfigError("has no counterpart here", where=f"--{flag}", remedy=remedy)
    regime = _among(_REGIMES, flags.method, "method")
    settings = {"train.regime": regime} | _of_evaluation(flags) | _of_clips(flags)
    settings |= _of_levels(flags) if regime == "hcl" else {}
    if not flags.ckpt_path:
        settings |= _of_training(flags) | _of_optimisation(flags)
        settings |= {} if regime == "hcl" else _of_episodes(flags)
    base = BASES[flags.dataset]
    before, after = _values(base, {}), _values(base, settings)
    changed = {path: after[path] for path in settings if after[path] != before[path]}
    name = flags.model_name or f"released_{flags.dataset}"
    return Translation(base, {"name": name, **changed}, tuple(_notes(flags, given)), flags.ckpt_path)


def _values(base: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return every value of an experiment by dotted path, in the form of a file."""
    return flatten(resolve(base, settings).experiment.model_dump(mode="json"), "experiment")


def _of_evaluation(flags: argparse.Namespace) -> dict[str, Any]:
    return {
        "evaluation.way": flags.way,
        "evaluation.shots": [flags.shot],
        "evaluation.queries": flags.query,
        "evaluation.episodes": flags.num_val_episode,
        "model.backbone": flags.backbone,
        "train.workers": flags.num_gpus,
        "train.use_gpu": True,
    }


def _of_levels(flags: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of HCL: its encoder, matching, and weights, which are the same in the loss and in fusion."""
    return {
        "model.d_model": flags.d_model,
        "model.n_layers": flags.enc_layers,
        "model.n_heads": flags.nheads,
        "model.dropout": flags.tf_dropout,
        "model.pre_norm": flags.pre_norm,
        "model.position_embedding": flags.position_embedding,
        "matching.tuple_sizes": flags.temp_set,
        "matching.multi_scale": flags.use_spa_mscale,
        "matching.semantic": flags.use_semantic,
        "loss.temperature": flags.temp,
        "loss.sigma_ce": flags.sigma_ce,
        "loss.sigma_global": flags.sigma_global,
        "loss.sigma_temporal": flags.sigma_temp,
        "loss.sigma_spatial": flags.sigma_spa,
        "loss.sigma_temporal_cycle": flags.sigma_temp_cycle,
        "loss.sigma_spatial_cycle": flags.sigma_spa_cycle if flags.use_spa_cycle else 0.0,
        "fusion.sigma_global": flags.sigma_global,
        "fusion.sigma_temporal": flags.sigma_temp,
        "fusion.sigma_spatial": flags.sigma_spa,
    }


def _of_clips(flags: argparse.Namespace) -> dict[str, Any]:
    clips = {"clips.n_frames": flags.sequence_length, "clips.size": flags.frame_size}
    return clips if flags.ckpt_path else clips | _among(_AUGMENTATIONS, flags.data_aug, "data_aug")


def _of_training(flags: argparse.Namespace) -> dict[str, Any]:
    return {
        "data.train_partitions": _among(_PARTITIONS, flags.setname, "setname"),
        "train.epochs": flags.num_epochs,
        "train.batches_per_epoch": flags.num_train_episode,
        "train.classes_per_batch": flags.batch_size,
        "train.val_episodes": flags.num_val_episode,
        "train.val_shot": flags.shot,
        "train.precision": "float32" if flags.amp_opt_level == "O0" else "float16",
        "optim.clip_norm": flags.clip_max_norm,
    }


def _of_episodes(flags: argparse.Namespace) -> dict[str, Any]:
    return {
        "train.episodes_per_step": flags.episode_per_batch,
        "train.episode_way": flags.way,
        "train.episode_shot": flags.shot,
        "train.episode_queries": flags.query,
    }


def _of_optimisation(flags: argparse.Namespace) -> dict[str, Any]:
    """Return the optimiser, with the values that the release fixes for each kind.

    The backbone learns at a tenth of the rate with AdamW and several GPUs only: the release finds its weights by the
    name that DataParallel gives them.
    """
    is_slower = flags.optimizer == "adamw" and flags.num_gpus > 1
    settings: dict[str, Any] = {
        "optim.optimizer": flags.optimizer,
        "optim.lr": flags.learning_rate,
        "optim.backbone_lr_factor": 0.1 if is_slower else 1.0,
        "optim.weight_decay": _among(_WEIGHT_DECAYS, flags.optimizer, "optimizer"),
    }
    schedules: dict[str, dict[str, Any]] = {
        "default": {"optim.step_size": flags.scheduler_epoch_size, "optim.gamma": flags.scheduler_gamma},
        "lr_drop": {"optim.step_size": flags.lr_drop, "optim.gamma": flags.scheduler_gamma},
        "multi_step": {"optim.schedule": "multi_step", "optim.gamma": 0.5},
    }
    return settings | {"optim.schedule": "step"} | _among(schedules, flags.lr_scdler, "lr_scdler")


def _notes(flags: argparse.Namespace, given: dict[str, Any]) -> list[str]:
    notes = []
    if idle := [f"--{flag}" for flag in given if flag in IDLE]:
        notes.append(f"{', '.join(idle)}: the release reads them and does not use them")
    if elsewhere := [flag for flag in given if flag in ELSEWHERE]:
        notes += [f"--{flag}: {ELSEWHERE[flag]}" for flag in elsewhere]
    if not flags.ckpt_path and "amp_opt_level" not in given:
        notes.append("--amp_opt_level was not given; the release then trains in mixed precision (O1)")
    if flags.dim_feedforward != DEFAULTS["dim_feedforward"]:
        notes.append("--dim_feedforward: the release also takes it as the backbone's channels, which is done always")
    if not flags.ckpt_path and flags.data_aug == "default":
        notes.append("--data_aug default squashes training frames; here wide ones lose their sides (clips.crop_scale)")
    return notes


def _among(values: dict[str, Any], name: str, flag: str) -> Any:
    if name not in values:
        known = ", ".join(repr(one) for one in values)
        raise ConfigError(
            f"{name!r} has no counterpart here{did_you_mean(name, values)}",
            where=f"--{flag}",
            remedy=f"give one of {known}, or write the settings",
        )
    return values[name]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(
            message,
            where="flags of the release",
            remedy="give the flags of its train.py or eval.py, without the script",
        )


def _parse(words: Sequence[str]) -> dict[str, Any]:
    """Return the given flags with their values. Raises ConfigError."""
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    for flag, default in DEFAULTS.items():
        if default is False:
            parser.add_argument(f"--{flag}", action="store_true")
        elif isinstance(default, list):
            parser.add_argument(f"--{flag}", type=type(default[0]), nargs="+")
        else:
            parser.add_argument(f"--{flag}", type=type(default))
    found, rest = parser.parse_known_args(list(words))
    if rest:
        hint = did_you_mean(rest[0].lstrip("-").partition("=")[0], DEFAULTS)
        raise ConfigError(
            f"{rest[0]!r} is no flag of the release{hint}",
            where="flags of the release",
            remedy="give the flags of its train.py or eval.py, without the script",
        )
    return vars(found)


_REGIMES = {
    "hcl": "hcl",
    "proto": "protonet",
    "cosine": "cosine",
    "match": "matching",
    "relation": "relation",
}
_PARTITIONS = {"train": ["train"], "val": ["val"], "train_val": ["train", "val"]}
_WEIGHT_DECAYS = {"sgd": 5e-4, "adam": 0.0, "adamw": 1e-4}
_AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "type1": {"clips.crop_scale": [0.2, 1.0], "clips.flip": True, "clips.jitter": 0.8, "clips.grey": 0.2},
    "default": {"clips.crop_scale": [1.0, 1.0], "clips.flip": False, "clips.jitter": 0.0, "clips.grey": 0.0},
}
