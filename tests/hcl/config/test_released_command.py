"""Test the translation of the released code's command lines into experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcl.config import Experiment
from hcl.config.paths import nest
from hcl.config.released.command import BASES, translate
from hcl.config.released.flags import DEFAULTS, ELSEWHERE, IDLE, UNSUPPORTED
from hcl.config.resolve import changes, resolve
from hcl.config.strict_yaml import dump_yaml
from hcl.errors import ConfigError

EVALUATION = (
    "--ckpt_path models/hcl_ssv2_100_otam.pth --dataset ssv2_100_otam --method hcl --use_spatial --sigma_global 1 "
    "--sigma_temp 0.5 --sigma_spa 0.5 --data_aug type1 --enc_layers 1 --d_model 1152 --num_gpus 4 --shot 1"
)
TRAINING = (
    "--model_name HCL_SSv2_OTAM_100 --dataset ssv2_100_otam --num_epochs 15 --lr_drop 10 --scheduler_gamma 0.1 "
    "--optimizer adamw --learning_rate 1e-4 --num_train_episode 1000 --setname train_val --method hcl --topK 40 "
    "--sigma_global 1 --sigma_temp 0.5 --sigma_spa 0.5 --batch_size 24 --lr_scdler lr_drop --data_aug type1 "
    "--enc_layers 1 --d_model 1152 --num_gpus 4 --amp_opt_level O0"
)


def experiment_of(flags: str, folder: Path) -> Experiment:
    """Write the file and read it back, as `hcl train` would."""
    translation = translate(flags.split())
    path = folder / "mine.yaml"
    path.write_text(dump_yaml({"base": translation.base, **nest(translation.settings)}))
    return resolve(path).experiment


def test_the_published_evaluation_is_the_published_experiment(tmp_path: Path) -> None:
    experiment = experiment_of(EVALUATION, tmp_path)
    changed = changes(resolve("published").experiment, experiment)
    assert changed == ["evaluation.shots=[1]", "evaluation.episodes=3000"]
    assert (experiment.train.workers, experiment.train.use_gpu) == (4, True)
    assert translate(EVALUATION.split()).checkpoint == "models/hcl_ssv2_100_otam.pth"


def test_the_published_training_is_the_published_experiment(tmp_path: Path) -> None:
    experiment = experiment_of(TRAINING, tmp_path)
    changed = changes(resolve("published").experiment, experiment)
    assert changed == ["train.val_episodes=3000", "evaluation.shots=[1]", "evaluation.episodes=3000"]
    assert experiment.name == "HCL_SSv2_OTAM_100"


def test_what_is_left_out_has_the_released_default(tmp_path: Path) -> None:
    experiment = experiment_of("--method hcl --dataset hmdb51", tmp_path)
    assert experiment.data.dataset == "hmdb51" and experiment.mode == "published"
    assert (experiment.model.d_model, experiment.train.epochs, experiment.train.batches_per_epoch) == (256, 10, 200)
    assert (experiment.optim.optimizer, experiment.optim.lr, experiment.optim.weight_decay) == ("sgd", 1e-3, 5e-4)
    assert (experiment.optim.step_size, experiment.optim.gamma) == (4, 0.5)
    assert experiment.loss.sigma_temporal == experiment.fusion.sigma_spatial == 1.0
    assert (experiment.clips.flip, experiment.clips.jitter) == (False, 0.0)
    assert experiment.train.precision == "float16"


def test_switches_and_lists(tmp_path: Path) -> None:
    flags = "--method hcl --use_spa_cycle --use_spa_mscale --pre_norm --temp_set 2 3 --lr_scdler multi_step"
    experiment = experiment_of(flags, tmp_path)
    assert experiment.loss.sigma_spatial_cycle == 0.25 and experiment.matching.multi_scale
    assert experiment.matching.tuple_sizes == (2, 3) and experiment.model.pre_norm
    assert (experiment.optim.schedule, experiment.optim.gamma) == ("multi_step", 0.5)
    assert experiment.optim.milestones == (5, 8, 11, 13, 15)


@pytest.mark.parametrize(("gpus", "factor"), [(1, 1.0), (2, 0.1)])
def test_the_backbones_rate_depends_on_the_number_of_gpus(tmp_path: Path, gpus: int, factor: float) -> None:
    experiment = experiment_of(f"--method hcl --optimizer adamw --num_gpus {gpus}", tmp_path)
    assert experiment.optim.backbone_lr_factor == factor


def test_a_baseline_learns_from_episodes_and_has_no_levels(tmp_path: Path) -> None:
    flags = "--method relation --meta_learn --way 7 --shot 5 --query 3 --episode_per_batch 8"
    translation = translate(flags.split())
    assert not [path for path in translation.settings if path.startswith(("loss.", "fusion.", "matching."))]
    experiment = experiment_of(flags, tmp_path)
    train = experiment.train
    assert (train.regime, train.episode_way, train.episode_shot, train.episode_queries) == ("relation", 7, 5, 3)
    assert train.episodes_per_step == 8 and experiment.evaluation.shots == (5,)


def test_flags_without_effect_are_told() -> None:
    notes = "\n".join(translate(f"{EVALUATION} --topK 50 --max_interval 3".split()).notes)
    assert "--use_spatial, --max_interval: the release reads them and does not use them" in notes
    assert "--topK: the release fixes it at 40" in notes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--method trx", "--method: 'trx' has no counterpart here"),
        ("", "--method: '' has no counterpart here"),
        ("--method hcl --reverse", "--reverse: has no counterpart here"),
        ("--method hcl --bert_finetune", "--bert_finetune: has no counterpart"),
        ("--method hcl --data_aug auto", "--data_aug: 'auto' has no counterpart"),
        ("--method hcl --dataset diving48", "'diving48' is no data set of the release"),
        ("--method hcl --sigma_spatial 1", "'--sigma_spatial' is no flag of the release, did you mean `"),
        ("--method hcl --shot one", "argument --shot: invalid int value: 'one'"),
        ("train.py --method hcl", "'train.py' is no flag of the release"),
        ("--method hcl --d_model 17", "n_heads=8 does not divide d_model=17"),
    ],
)
def test_what_is_refused(flags: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        translate(flags.split())
    assert message in str(caught.value) and caught.value.remedy


def test_every_flag_has_one_fate() -> None:
    """A flag changes settings, or is named among those that do not; none is both or neither."""
    without_effect = [*UNSUPPORTED, *ELSEWHERE, *IDLE]
    assert len(set(without_effect)) == len(without_effect) and set(without_effect) <= set(DEFAULTS)
    plain = translate(["--method", "hcl"])
    other = {int: "3", float: "0.3", str: None, list: "3"}
    values = {
        "method": "proto", "model_name": "x", "dataset": "ucf101", "ckpt_path": "x.pth", "data_aug": "type1",
        "setname": "train", "amp_opt_level": "O0", "backbone": "resnet18", "position_embedding": "2d_sine",
        "lr_scdler": "multi_step", "optimizer": "adam", "nheads": "4", "frame_size": "64", "d_model": "64",
    }  # fmt: skip
    only_with = {
        "lr_drop": "--lr_scdler lr_drop --lr_drop 3", "sigma_spa_cycle": "--use_spa_cycle --sigma_spa_cycle 0.7",
        "episode_per_batch": "--method proto --episode_per_batch 3",
    }  # fmt: skip
    for flag, default in DEFAULTS.items():
        if flag in without_effect or flag == "dim_feedforward":  # told in a note
            continue
        value = "" if default is False else values.get(flag, other[type(default)])
        words = only_with.get(flag, f"--{flag} {value}").split()
        base = words[:2] if flag in only_with else []
        before = translate(["--method", "hcl", *base]) if flag != "sigma_spa_cycle" else translate(
            ["--method", "hcl", "--use_spa_cycle"]
        )  # fmt: skip
        after = translate(["--method", "hcl", *words])
        assert after != (before if flag in only_with else plain), flag


def test_each_data_set_has_its_published_experiment() -> None:
    for dataset, base in BASES.items():
        experiment = resolve(base).experiment
        assert (experiment.data.dataset, experiment.mode) == (dataset, "published")
