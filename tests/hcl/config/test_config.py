from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from hcl.config import ADDED, MACHINE_SETTINGS, PUBLISHED, PUBLISHED_EVALUATION, REGIMES, Experiment
from hcl.config.definitions import Named
from hcl.config.extensions import SETTINGS, names
from hcl.config.resolve import all_settings, override, resolve
from hcl.errors import ConfigError

# These settings need a value that fits others too, so that the type alone does not suffice.
OTHER: dict[str, Any] = {
    "train.min_workers": 1,
    "data.cache_dir": "/local/cache",
    "name": "another",
    "data.dataset": "hmdb51",
    "data.train_partitions": ["train", "val"],
    "data.embeddings": "names.npz",
    "clips.n_frames": 4,
    "clips.crop_scale": [0.5, 1.0],
    "model.weights": "none",
    "optim.factors": [0.5, 0.4, 0.3, 0.2, 0.1],
    "model.d_model": 64,
    "model.dim_feedforward": 64,
    "evaluation.datasets": ["hmdb51"],
}
PUBLISHED_PROTOCOL = {"data.protocol": "published"}
ALONG = {
    "train.workers": {"model.batch_norm": "frozen"},
    "clips.size": {"model.max_positions": 32},
    "data.train_partitions": PUBLISHED_PROTOCOL,
    "data.selection_partition": PUBLISHED_PROTOCOL,
    "evaluation.protocol": {
        path: value for path, value in PUBLISHED_EVALUATION.items() if path != "evaluation.protocol"
    },
}


def another_value(path: str) -> Any:
    """Return a value of the setting that is not its default."""
    field = all_settings()[path]
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    choices += [choice for extra in field.metadata if isinstance(extra, Named) for choice in names(extra.kind)]
    if path in OTHER:
        return OTHER[path]
    if choices:
        return next(choice for choice in choices if choice != field.default)
    if isinstance(field.default, bool):
        return not field.default
    if isinstance(field.default, tuple):
        return [3]
    if isinstance(field.default, int):
        return field.default * 2 or 1
    return 0.375


WITHOUT_ANOTHER = {"mode", "clips.augmentation", "evaluation.method"}  # of the last two, only users have any
OF_THE_MACHINE = {
    "name",
    "data.cache_dir",
    "data.cache_gb",
    "train.workers",
    "train.min_workers",
    "train.cpus_per_worker",
    "train.loader_processes",
    "train.prefetch",
    "train.use_gpu",
    "train.recompute_backbone",
    "train.checkpoint_every",
    "matching.chunk_size",
    "evaluation.keep_features",
}


@pytest.mark.parametrize("path", [path for path in all_settings() if path not in WITHOUT_ANOTHER])
def test_digest_changes_with_every_value_but_those_of_the_machine(path: str) -> None:
    along = ALONG.get(path, {})
    base = override(Experiment(), along)
    changed = override(Experiment(), {**along, path: another_value(path)})
    assert (changed.digest() == base.digest()) == (path in OF_THE_MACHINE)


FROZEN: dict[str, Any] = {"model.train_backbone": False, "model.pooled_from": "encoder"}


@pytest.mark.parametrize(
    ("changes", "shows"),
    [
        ({}, True),
        ({"model.batch_norm": "frozen"}, False),
        ({"model.batch_norm": "sync", "train.use_gpu": True}, False),
        ({"model.batch_norm": "sync", "train.use_gpu": True, "train.regime": "classification"}, False),
        ({"model.batch_norm": "sync", "train.use_gpu": True, "train.regime": "protonet"}, True),
        ({"model.frozen_stages": 4}, True),
        ({"model.train_backbone": False}, False),
        *[(FROZEN | {"train.regime": regime}, regime == "relation") for regime in REGIMES],
        ({"train.regime": "relation", "model.batch_norm": "frozen"}, True),
    ],
    ids=str,
)
def test_digest_sees_the_number_of_workers_where_batch_norm_makes_it_show(changes: dict[str, Any], shows: bool) -> None:
    one, two, four = (override(Experiment(), {**changes, "train.workers": count}) for count in (1, 2, 4))
    assert len({one.digest(), two.digest(), four.digest()}) == (3 if shows else 1)
    assert two.digest(workers=1) == one.digest(), "as versions before named it"
    assert one.digest(workers=4) == four.digest()


def test_digests_of_the_shipped_experiments_stay() -> None:
    """Check the digests, which identify runs of earlier versions."""
    digests = {name: resolve(name).experiment.digest() for name in ("demo", "hcl", "metaworld_cpu", "published")}
    assert digests == {
        "demo": "543f431c8f07",
        "hcl": "67fb16ef2ede",
        "metaworld_cpu": "b50eff0eae7d",
        "published": "b850ab780095",
    }


BEFORE_ITS_SEARCH = [
    "clips.size=224",
    "matching.top_tuples=10",
    "matching.top_patches=40",
    "loss={sigma_ce: 1, sigma_temporal: 0.5, sigma_temporal_cycle: 0.25, sigma_spatial: 0.5, sigma_spatial_cycle: 0}",
    "loss.temperature=0.07",
    "fusion={sigma_temporal: 0, sigma_spatial: 1}",
    "optim={lr: 5e-4, backbone_lr_factor: 0.4, weight_decay: 1e-2}",
    "train={epochs: 8, batches_per_epoch: 30, val_shot: 1}",
]


@pytest.mark.parametrize(
    ("name", "also", "digest"),
    [
        ("hcl", [], "5933bb0a6a5a"),
        (
            "metaworld_cpu",
            [*BEFORE_ITS_SEARCH, "train.precision=bfloat16", "train.channels_last=false"],
            "7f23d867d0cd",
        ),
    ],
)
def test_earlier_settings_give_the_earlier_digest(name: str, also: list[str], digest: str) -> None:
    """With the settings' earlier values a run of an earlier version is resumed and repeated."""
    assert resolve(name, ["loss.cycle_temperature=1", *also]).experiment.digest() == digest


def test_digest_changes_with_the_mode() -> None:
    assert Experiment(mode="published").digest() != Experiment().digest()


def test_settings_that_were_added_leave_digests_of_earlier_versions_alone() -> None:
    content = Experiment().model_dump(mode="json", exclude=MACHINE_SETTINGS)
    for section, added in ADDED.items():
        for name in added:
            del content[section][name]
    for section in SETTINGS:  # those of what is named, which hold nothing by default
        assert content.pop(section) == {}
    assert hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12] == Experiment().digest()


def test_digest_does_not_see_the_order_of_keys() -> None:
    content = Experiment().model_dump(mode="json")
    backwards = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(content.items())
    }
    assert json.dumps(backwards) != json.dumps(content)
    assert Experiment.model_validate(backwards).digest() == Experiment.model_validate(content).digest()


def test_digest_is_the_same_in_another_process() -> None:
    command = [sys.executable, "-c", "from hcl.config import Experiment; print(Experiment().digest())"]
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert printed == Experiment().digest()
    assert len(printed) == 12


def test_an_experiment_is_frozen() -> None:
    experiment = Experiment()
    with pytest.raises(ValidationError, match="frozen"):
        experiment.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        experiment.loss.sigma_ce = 3.0


def test_published_preset_names_settings_and_changes_each() -> None:
    for path, value in PUBLISHED.items():
        assert all_settings()[path].default != value, f"{path} is the default already"
        assert override(Experiment(), {path: value}).digest() != Experiment().digest()


LEAK = {"semantic": True, "leaking_semantics": True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": {"crop_scale": (0.9, 0.2)}}, "crop_scale must satisfy"),
        ({"model": {"d_model": 100, "n_heads": 8}}, "n_heads=8 does not divide d_model=100"),
        ({"model": {"d_model": 42, "n_heads": 2, "position_embedding": "2d_sine"}}, "multiple of 4"),
        ({"model": {"d_model": 15, "n_heads": 3, "position_embedding": "2d_learned"}}, "even d_model"),
        ({"matching": {"tuple_sizes": (2, 2)}}, "distinct"),
        ({"fusion": {"sigma_global": 0, "sigma_temporal": 0, "sigma_spatial": 0}}, "no level would be compared"),
        ({"train": {"classes_per_batch": 24, "workers": 5}}, "workers=5"),
        ({"data": {"selection_partition": "test"}}, "data.protocol=published"),
        ({"data": {"train_partitions": ("train", "val")}}, "classes it must not see"),
        ({"clips": {"n_frames": 12}}, "exceeds model.max_positions=10"),
        ({"matching": {"semantic": True, "leaking_semantics": True}}, "mode published only, mode is corrected"),
        ({"mode": "published", "matching": LEAK | {"tuple_sizes": (2, 3)}}, "the release raises"),
        ({"mode": "published", "matching": LEAK | {"zoom_ranks_test": 6}}, "test=6, an episode has 5"),
        (
            {"matching": {"semantic": True, "tuple_sizes": (2, 3), "reproject_per_size": True}},
            "d_model=1152 to equal model.embedding_dim=768",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Experiment.model_validate(changes)


def test_protocol_published_may_choose_on_test() -> None:
    data = {"protocol": "published", "train_partitions": ("train", "val"), "selection_partition": "test"}
    assert Experiment.model_validate({"data": data}).data.selection_partition == "test"


def test_the_published_protocol_is_all_of_it_or_nothing() -> None:
    preset = override(Experiment(), PUBLISHED_EVALUATION).evaluation
    assert (preset.episodes, preset.queries, preset.overlapping, preset.protocol) == (3000, 5, True, "published")
    with pytest.raises(ConfigError, match=r"protocol=published means evaluation\.episodes=3000, not 100"):
        override(Experiment(), {**PUBLISHED_EVALUATION, "evaluation.episodes": 100})
