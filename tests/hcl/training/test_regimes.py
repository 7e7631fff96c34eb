"""Test one contract for every regime: it learns, resumes, and draws no random numbers apart from its batches' keys.

test_workers_of_regimes tests its independence of the number of workers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hcl.assembly import models
from hcl.clips.batches import Batch, EpisodeSampler, PairSampler, sampled_batches
from hcl.clips.dataset import Draw
from hcl.clips.episodes import sample_episodes, training_episode
from hcl.config import REGIMES, Experiment
from hcl.config.resolve import resolve
from hcl.errors import ConfigError, EpisodeError
from hcl.models.backbone import Backbone
from hcl.training.epoch import EpochSums, train_epoch
from hcl.training.optimisation import make_optimizer, parameter_groups
from hcl.training.process_group import ProcessGroup, SingleProcess
from hcl.training.regimes import Regime

CLASSES, CLIPS_A_CLASS, FRAMES, SIDE, CHANNELS = 5, 4, 3, 16, 8  # four patches a side, the minimum of RelationNet
LABELS = np.repeat(np.arange(CLASSES), CLIPS_A_CLASS)

SMALL: dict[str, Any] = {
    "clips.n_frames": FRAMES,
    "clips.size": 128,
    "model.d_model": 16,
    "model.n_heads": 2,
    "model.dim_feedforward": 16,
    "model.dropout": 0.0,
    "matching.top_tuples": 2,
    "matching.top_patches": 5,
    "matching.zoom_ranks_test": 2,
    "train.classes_per_batch": 4,
    "train.episode_way": 3,
    "train.episode_queries": 2,
    "train.episodes_per_step": 2,
}


class Spots(Dataset):
    """Return clips whose class determines colour and place of a square, with noise by clip and by draw."""

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, draw: Draw | int) -> Tensor:
        draw = draw if isinstance(draw, Draw) else Draw(draw)
        generator = np.random.default_rng([*draw.seeds, draw.clip])
        frames = generator.integers(0, 100, (FRAMES, 3, SIDE, SIDE), np.uint8)
        label = int(LABELS[draw.clip])
        row, column = divmod(label, 3)
        frames[:, label % 3, 8 * row : 8 * row + 8, 5 * column : 5 * column + 5] += 120 if label < 3 else 60
        return torch.from_numpy(frames)


SMALL_OF: dict[str, dict[str, Any]] = {  # in the section of a regime
    "trx": {"regime.key_dim": 16, "regime.tuple_sizes": [2]},  # an episode of one shot has one tuple of three
    "hyrsm": {"regime.scale": 1.0},
    "hyrsm++": {"regime.scale": 1.0},
    "molo": {"regime.scale": 2.0, "regime.hidden": 16},
}


def experiment_of(name: str, **changes: Any) -> Experiment:
    settings = (
        SMALL
        | SMALL_OF.get(name, {})
        | {"train.regime": name}
        | {key.replace("__", "."): value for key, value in changes.items()}
    )
    return resolve(None, settings).experiment


def tiny_backbone(*_: Any, **__: Any) -> Backbone:
    body = nn.Sequential(nn.Conv2d(3, CHANNELS, 4, stride=4), nn.Tanh())
    return Backbone(body, CHANNELS, (0.5,) * 3, (0.25,) * 3)


def make(name: str, **changes: Any) -> tuple[Regime, nn.Module]:
    """Build the regime and its model from settings, like the program, on a backbone of one layer."""
    experiment = experiment_of(name, **changes)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "backbone_of", tiny_backbone)
        return models.make_regime(experiment), models.make_model(experiment, CLASSES)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    groups = parameter_groups(model, lr=1e-2, backbone_lr_factor=1.0, weight_decay=1e-4)
    return make_optimizer(groups, name="adamw")


def train(
    regime: Regime,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    sums: EpochSums | None = None,
    group: ProcessGroup | None = None,
) -> list[dict[str, float]]:
    """The steps of an epoch from where `sums` stands."""
    group, values = group or SingleProcess(), []
    where = {"rank": group.rank, "world_size": group.world_size, "first_step": sums.steps if sums else 0}
    train_epoch(
        model,
        optimizer,
        sampled_batches(regime.sampler, Spots(), LABELS, steps=steps, epoch=0, **where),
        batches_per_step=regime.sampler.batches_per_step(group.world_size),
        sums=sums,
        on_step=lambda _, step: values.append(step),
        loss=regime.loss(model, group=group, device="cpu", precision="float32"),
        clip_norm=1.0,
        group=group,
    )
    return values


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REGIMES)
def test_it_learns_and_validation_sees_it(name: str) -> None:
    regime, model = make(name, model__pooled_from="encoder")
    values = train(regime, model, optimizer_of(model), steps=25)
    assert all(set(step) <= {*regime.terms, "total", "train_accuracy", "gradient_norm"} for step in values)
    totals = [step["total"] for step in values]
    assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[:5])
    lists = [sample_episodes(LABELS, way=4, shot=shot, queries=2, episodes=15, seed=3) for shot in (1, 2)]
    for accuracy in regime.validate(model, Spots(), lists, group=SingleProcess()).accuracies:
        assert accuracy.shape == (15,) and bool(((accuracy >= 0) & (accuracy <= 1)).all())
        assert accuracy.mean() > 0.4  # chance is 0.25


@pytest.mark.parametrize("name", REGIMES)
def test_an_interrupted_epoch_goes_on_bit_for_bit(name: str) -> None:
    regime, whole = make(name, model__dropout=0.2, model__pooled_from="encoder")
    expected = train(regime, whole, optimizer_of(whole), steps=4)
    _, first = make(name, model__dropout=0.2, model__pooled_from="encoder")
    optimizer, sums = optimizer_of(first), EpochSums()
    begun = train(regime, first, optimizer, steps=2, sums=sums)
    _, second = make(name, seed=1, model__dropout=0.2, model__pooled_from="encoder")
    second.load_state_dict(first.state_dict())
    resumed = optimizer_of(second)
    resumed.load_state_dict(optimizer.state_dict())
    assert begun + train(regime, second, resumed, steps=4, sums=EpochSums(**sums.state)) == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


@pytest.mark.parametrize("name", REGIMES)
def test_a_step_draws_nothing_from_torchs_generator(name: str) -> None:
    """Check this because such draws would depend on the number of workers and on resuming."""
    regime, model = make(name, model__dropout=0.3, model__pooled_from="encoder")
    before = torch.get_rng_state()
    train(regime, model, optimizer_of(model), steps=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("features", ["backbone", "encoder"])
@pytest.mark.parametrize("name", REGIMES)
def test_a_step_moves_every_weight(name: str, features: str) -> None:
    """Check this because DDP would wait for a weight without a gradient."""
    regime, model = make(name, model__pooled_from=features)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train(regime, model, optimizer_of(model), steps=1)
    assert [key for key, value in model.named_parameters() if value.grad is None] == []
    assert [key for key, value in model.named_parameters() if torch.equal(value, before[key])] == []


# --- the batches of a step ------------------------------------------------------------------------------------------

EPISODES = EpisodeSampler(way=3, shot=1, queries=2, episodes=6, seed=7)


@pytest.mark.parametrize("sampler", [EPISODES, PairSampler(3, seed=7)], ids=["episodes", "pairs"])
@pytest.mark.parametrize("world", [2, 3, 6])
def test_the_workers_shares_are_the_step_of_one(sampler: EpisodeSampler | PairSampler, world: int) -> None:
    def of(rank: int, world: int) -> list[Batch]:
        return list(sampled_batches(sampler, Spots(), LABELS, steps=2, epoch=1, rank=rank, world_size=world))

    whole, parts = of(0, 1), [of(rank, world) for rank in range(world)]
    for step in range(2):
        each = [
            part[step * sampler.batches_per_step(world) : (step + 1) * sampler.batches_per_step(world)]
            for part in parts
        ]
        one = whole[step * sampler.batches_per_step(1) : (step + 1) * sampler.batches_per_step(1)]
        joined = [batch for share in each for batch in share]
        assert np.concatenate([b.indices for b in joined]).tolist() == np.concatenate([b.indices for b in one]).tolist()
        assert torch.equal(torch.cat([b.clips for b in joined]), torch.cat([b.clips for b in one]))
        assert torch.equal(torch.cat([b.draws for b in joined]), torch.cat([b.draws for b in one]))
        keys = torch.cat([b.draws for b in one])
        assert len(keys.unique()) == len(keys), "a clip may stand in two episodes"


def test_a_training_episode_holds_support_then_queries_of_distinct_clips() -> None:
    for number in range(20):
        clips = training_episode(LABELS, way=3, shot=2, queries=2, seed=0, epoch=0, step=0, number=number)
        classes = LABELS[clips]
        assert len(set(clips.tolist())) == 12 and len(set(classes.tolist())) == 3
        assert classes[:6].tolist() == np.repeat(classes[[0, 2, 4]], 2).tolist() == classes[6:].tolist()


def test_episodes_differ_by_seed_epoch_step_and_number() -> None:
    def drawn(**where: int) -> tuple[int, ...]:
        place = {"seed": 0, "epoch": 0, "step": 0, "number": 0} | where
        return tuple(training_episode(LABELS, way=3, shot=1, queries=2, **place).tolist())

    assert drawn() == drawn()
    assert len({drawn(), *(drawn(**{name: 1}) for name in ("seed", "epoch", "step", "number"))}) == 5


def test_an_episode_that_cannot_be_drawn_names_the_class() -> None:
    with pytest.raises(EpisodeError, match="class 'jump' has 1 clips, a training episode needs 3"):
        EpisodeSampler(2, 1, 2, 1, seed=0).draw(np.array([0, 0, 0, 1]), epoch=0, step=0, class_names=["fold", "jump"])


def test_episodes_that_cannot_be_shared_evenly_are_refused() -> None:
    with pytest.raises(ConfigError, match="6 episodes cannot be shared evenly by 4 workers"):
        next(sampled_batches(EPISODES, Spots(), LABELS, steps=1, epoch=0, world_size=4))
    with pytest.raises(ConfigError, match="episodes_per_step=2 cannot be shared evenly by workers=4"):
        experiment_of("protonet", train__workers=4)


@pytest.mark.parametrize("name", [name for name, own in REGIMES.items() if own.traits.is_episodic])
def test_the_sum_of_a_steps_gradients_is_that_of_the_mean_loss(name: str) -> None:
    """Compare gradients accumulated episode by episode with those of all episodes at once."""
    regime, model = make(name)
    batches = list(sampled_batches(regime.sampler, Spots(), LABELS, steps=1, epoch=0))
    loss = regime.loss(model.train(), group=SingleProcess(), device="cpu", precision="float32")
    torch.stack([loss(batch).total for batch in batches]).mean().backward()
    together = {key: value.grad.clone() for key, value in model.named_parameters()}
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    train(regime, model, still, steps=1)
    norm = torch.cat([value.flatten() for value in together.values()]).norm()
    for key, value in model.named_parameters():
        torch.testing.assert_close(value.grad, together[key] * min(1.0, 1.0 / float(norm)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["protonet", "cosine"])
def test_a_regime_that_could_learn_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="learns nothing on a frozen backbone"):
        experiment_of(name, model__train_backbone=False)
    experiment_of(name, model__train_backbone=False, model__pooled_from="encoder")


def test_relation_needs_a_grid_that_it_can_halve_twice() -> None:
    with pytest.raises(ConfigError, match="needs 4 cells a side, clips.size=96 gives 3"):
        experiment_of("relation", clips__size=96)
