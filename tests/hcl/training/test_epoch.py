from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.utils.data import Dataset

from hcl.clips.batches import Batch, PairSampler, draw_key, sampled_batches
from hcl.clips.dataset import Draw
from hcl.clips.episodes import pair_batch
from hcl.errors import ConfigError, EpisodeError, TrainingError
from hcl.training.epoch import EpochSums, train_epoch, train_step
from hcl.training.losses import TERMS, classification_loss, contrastive_terms, neighbouring_pairs
from hcl.training.optimisation import make_optimizer, parameter_groups
from hcl.training.regimes import PairLoss
from tests.hcl.models.test_hcl import FRAMES, HEIGHT, WIDTH, tiny_model

LABELS = np.repeat(np.arange(4), 5)
SIGMAS = {"ce": 1.0, "global": 1.0, "temporal": 0.5, "temporal_cycle": 0.25, "spatial": 0.5, "spatial_cycle": 0.25}
MATCHING: dict[str, Any] = {
    "tuple_sizes": (2, 3),
    "top_tuples": 3,
    "top_patches": 5,
    "spatial_cycle": True,
    "chunk_size": 3,
}
BATCHES: dict[str, Any] = {"classes_per_batch": 3, "batches": 10, "seed": 0, "epoch": 0}


class Stripes(Dataset):
    """Clips that tell their class by the place of a bright column, with noise of their own and of their draw."""

    def __getitem__(self, draw: Draw | int) -> Tensor:
        draw = draw if isinstance(draw, Draw) else Draw(draw)
        generator = np.random.default_rng([*draw.seeds, draw.clip])
        frames = generator.integers(0, 120, (FRAMES, 3, HEIGHT, WIDTH), np.uint8)
        frames[..., 3 * LABELS[draw.clip] : 3 * LABELS[draw.clip] + 3] += 130
        return torch.from_numpy(frames)

    def __len__(self) -> int:
        return len(LABELS)


def pair_batches(
    dataset: Dataset, labels: np.ndarray, *, classes_per_batch: int, batches: int, seed: int, epoch: int, **reading: Any
) -> Iterator[Batch]:
    """One epoch of pair batches; `reading` as in `sampled_batches`."""
    sampler = PairSampler(classes_per_batch, seed)
    return sampled_batches(sampler, dataset, labels, steps=batches, epoch=epoch, **reading)


def optimizer_of(model, lr: float = 3e-3) -> torch.optim.Optimizer:
    return make_optimizer(parameter_groups(model, lr=lr, backbone_lr_factor=0.1, weight_decay=1e-4), name="adamw")


def one_batch(**changes) -> Batch:
    return next(pair_batches(Stripes(), LABELS, **(BATCHES | {"batches": 1} | changes)))


def step(model, optimizer=None, batch: Batch | None = None, **changes) -> dict[str, float]:
    settings: dict[str, Any] = {"clip_norm": 0.1} | {k: changes.pop(k) for k in ("clip_norm", "scaler") if k in changes}
    loss = loss_of(model, **changes)
    return train_step(model, optimizer or optimizer_of(model), [batch or one_batch()], loss=loss, **settings)


def loss_of(model, **changes) -> PairLoss:
    return PairLoss(model, **{"sigmas": SIGMAS, "matching": MATCHING} | changes)


# --- batches --------------------------------------------------------------------------------------------------------


def test_batches_are_the_pair_batches_of_their_steps():
    batches = list(pair_batches(Stripes(), LABELS, **BATCHES))
    assert len(batches) == 10
    for number, batch in enumerate(batches):
        expected = pair_batch(LABELS, classes_per_batch=3, seed=0, epoch=0, step=number)
        assert batch.indices.tolist() == expected.tolist()
        assert batch.labels.tolist() == LABELS[expected].tolist()
        for clip, index in zip(batch.clips, expected, strict=True):
            assert torch.equal(clip, Stripes()[Draw(int(index), (0, 0, number))])


@pytest.mark.parametrize("world", [2, 3, 6])  # 3 gives each worker a pair, 2 and 6 tear pairs apart
def test_the_shares_of_the_workers_are_the_batch_of_one(world):
    whole = list(pair_batches(Stripes(), LABELS, **BATCHES))
    shares = [list(pair_batches(Stripes(), LABELS, rank=rank, world_size=world, **BATCHES)) for rank in range(world)]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert torch.equal(torch.cat([part.clips for part in parts]), batch.clips)
        assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
        assert np.array_equal(np.concatenate([part.indices for part in parts]), batch.indices)
        assert torch.equal(torch.cat([part.draws for part in parts]), batch.draws)


def test_what_drops_out_of_a_clip_is_named_by_seed_epoch_step_and_its_place_in_the_batch():
    first, second = list(pair_batches(Stripes(), LABELS, **BATCHES | {"batches": 2}))
    assert second.draws.tolist() == [draw_key(0, 0, 1, place) for place in range(6)]
    others = [one_batch(seed=1), one_batch(epoch=1), first, second]
    assert len(torch.cat([batch.draws for batch in others]).unique()) == 24


def test_loader_processes_change_no_batch():
    one, other = (list(pair_batches(Stripes(), LABELS, processes=n, **BATCHES | {"batches": 2})) for n in (0, 2))
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.clips, second.clips) and torch.equal(first.labels, second.labels)
        assert torch.equal(first.draws, second.draws)


def test_an_epoch_can_begin_at_any_step():
    whole, rest = (list(pair_batches(Stripes(), LABELS, first_step=first, **BATCHES)) for first in (0, 7))
    assert len(rest) == 3
    for ours, expected in zip(rest, whole[7:], strict=True):
        assert torch.equal(ours.clips, expected.clips) and np.array_equal(ours.indices, expected.indices)
        assert torch.equal(ours.draws, expected.draws)


@pytest.mark.parametrize("processes", [0, 2])
def test_reading_batches_draws_nothing_from_the_generator_of_the_process(processes):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one_batch(processes=processes)
    assert torch.equal(torch.rand(3), expected)


def test_workers_that_cannot_take_equal_shares_are_refused():
    with pytest.raises(ConfigError, match="3 classes cannot be shared evenly by 4 workers") as caught:
        one_batch(world_size=4)
    assert caught.value.where == "train.classes_per_batch"


def test_epochs_and_seeds_have_batches_of_their_own():
    drawn = [tuple(one_batch(seed=seed, epoch=epoch).indices) for seed in range(2) for epoch in range(3)]
    assert len(set(drawn)) == 6


def test_a_batch_that_cannot_be_drawn_names_the_class():
    labels = np.array([0, 0, 1, 2, 2])
    with pytest.raises(EpisodeError, match="class 'jump' has 1 clips"):
        next(pair_batches(Stripes(), labels, **BATCHES, class_names=["fold", "jump", "lift"]))


# --- one step -------------------------------------------------------------------------------------------------------


def test_a_step_returns_every_term_their_weighted_total_and_the_accuracy():
    model = tiny_model().train()
    batch = one_batch()
    _, logits = model(batch.clips)
    values = step(model, batch=batch)
    assert set(values) == {*TERMS, "total", "train_accuracy", "gradient_norm"}
    assert values["total"] == pytest.approx(sum(SIGMAS[name] * values[name] for name in TERMS), rel=1e-6)
    assert values["train_accuracy"] == pytest.approx(float((logits.argmax(-1) == batch.labels).float().mean()))


def test_a_step_moves_every_parameter_that_learns():
    model = tiny_model().train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step(model)
    unmoved = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert unmoved == []


def test_a_frozen_backbone_does_not_move():
    model = tiny_model(frozen_stages=None).train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    step(model)
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())


@pytest.mark.parametrize("clip_norm", [0.1, 0.0, 1e6])
def test_the_gradient_is_clipped_to_its_norm_and_0_does_not_clip(clip_norm):
    model = tiny_model().train()
    norm = step(model, clip_norm=clip_norm)["gradient_norm"]
    after = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert norm > 1
    assert after == pytest.approx(0.1 if clip_norm == 0.1 else norm, rel=1e-4)


def test_gradients_do_not_add_up_over_steps():
    model, batch = tiny_model().train(), one_batch()
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    first = step(model, still, batch)
    assert step(model, still, batch) == first


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_ends_with_the_tokens(precision):
    """Heads, matching and losses are what they are of the rounded tokens in float32; tokens alone differ."""
    model, batch = tiny_model(embedding_dim=5).train(), one_batch()
    names = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=getattr(torch, precision)):
        rounded, rows = model.tokens(batch.clips)
    assert rounded.dtype == getattr(torch, precision)
    assert not torch.equal(rounded.float(), model.tokens(batch.clips)[0])
    tokens = rounded.float()
    features = model.heads(tokens, rows, embeddings=names[batch.labels])
    expected = {"ce": classification_loss(model.classifier(tokens.mean(dim=(1, 2))), batch.labels)}
    expected |= contrastive_terms(features, features, neighbouring_pairs(0, len(features)), **MATCHING)
    result = loss_of(model, precision=precision, embeddings=names)(batch)
    assert result.terms.keys() == expected.keys()
    for name, value in expected.items():
        assert result.terms[name].dtype == torch.float32
        assert torch.equal(result.terms[name], value), name
    assert result.total.dtype == torch.float32


def test_bfloat16_stays_close():
    exact, rough = (step(tiny_model().train(), precision=p) for p in ("float32", "bfloat16"))
    assert exact["total"] != rough["total"]
    assert rough["global"] == pytest.approx(exact["global"], rel=0.05)


def test_float16_scales_the_loss_and_not_the_gradients():
    exact = step(tiny_model().train())
    rough = step(tiny_model().train(), precision="float16", scaler=GradScaler("cpu", init_scale=256.0))
    assert rough["total"] == pytest.approx(exact["total"], rel=0.02)
    assert rough["gradient_norm"] == pytest.approx(exact["gradient_norm"], rel=0.05)


def test_a_step_whose_scaled_gradients_overflow_is_left_out_and_the_scale_falls():
    model, scaler = tiny_model().train(), GradScaler("cpu", init_scale=2.0**127)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    values = step(model, precision="float16", scaler=scaler)
    assert math.isfinite(values["total"]) and "gradient_norm" not in values
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert scaler.get_scale() == 2.0**126


def test_a_loss_that_is_not_finite_names_its_term_and_clips_and_changes_nothing():
    model, batch = tiny_model().train(), one_batch()
    with torch.no_grad():
        model.classifier.weight.fill_(float("nan"))
    before = {name: value.clone() for name, value in model.heads.state_dict().items()}
    with pytest.raises(TrainingError, match=r"the loss is not finite: ce \(clips") as caught:
        step(model, batch=batch)
    assert str(batch.indices.tolist()) in str(caught.value) and "optim.lr" in caught.value.remedy
    assert all(torch.equal(value, before[name]) for name, value in model.heads.state_dict().items())


def test_broken_features_name_the_contrastive_terms():
    model = tiny_model().train()
    with torch.no_grad():
        model.heads.spatial_norm.bias.fill_(float("inf"))
    with pytest.raises(TrainingError, match="not finite: global, spatial, spatial_cycle "):
        step(model)


def test_a_total_that_overflows_is_told_from_its_terms():
    with pytest.raises(TrainingError, match="not finite: total"):
        step(tiny_model().train(), sigmas=SIGMAS | {"ce": float("inf")})


def test_a_batch_is_trained_with_the_names_of_its_own_classes():
    names = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    model, batch = tiny_model(embedding_dim=5).train(), one_batch()
    before = model.heads.semantic_linear.weight.detach().clone()
    features, _ = model(batch.clips, names[batch.labels])
    pairs = neighbouring_pairs(0, len(features))
    expected = contrastive_terms(features, features, pairs, **MATCHING)
    values = step(model, batch=batch, embeddings=names)
    assert values["spatial"] == pytest.approx(float(expected["spatial"]), rel=1e-5)
    assert values["spatial"] != pytest.approx(step(tiny_model(), batch=batch)["spatial"], rel=1e-5)
    assert not torch.equal(model.heads.semantic_linear.weight, before)  # through the spatial cycle term


# --- an epoch in parts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [0, 2])
def test_an_epoch_in_two_parts_is_the_epoch(processes):
    """With dropout: what drops out follows from the step, not from what was drawn before."""

    def train(parts: list[tuple[int, int]]) -> tuple[dict[str, Tensor], dict[str, float]]:
        model, sums = tiny_model(dropout=0.3).train(), EpochSums()
        optimizer, means = optimizer_of(model), {}
        for first, last in parts:
            torch.manual_seed(first)  # another process has drawn other numbers
            sums = EpochSums(**sums.state)
            settings = BATCHES | {"batches": last, "first_step": first, "processes": processes}
            means = train_epoch(
                model,
                optimizer,
                pair_batches(Stripes(), LABELS, **settings),
                sums=sums,
                loss=loss_of(model),
                clip_norm=0.1,
            )
        return model.state_dict(), means

    weights, means = train([(0, 5)])
    in_parts, means_in_parts = train([(0, 2), (2, 5)])
    assert all(torch.equal(in_parts[name], value) for name, value in weights.items())
    timed = {"clips_per_second", "data_wait", "train_seconds"}
    assert {k: v for k, v in means.items() if k not in timed} == {
        k: v for k, v in means_in_parts.items() if k not in timed
    }


def test_a_mean_is_over_the_steps_that_have_the_value():
    sums = EpochSums(steps=2, clips=12, seconds=3.0, waited=1.5)
    sums.add({"total": 1.0, "gradient_norm": 5.0})
    sums.add({"total": 3.0})  # a step that was left out
    means = sums.means()
    assert (means["total"], means["gradient_norm"]) == (2.0, 5.0)
    assert (means["clips_per_second"], means["data_wait"], means["train_seconds"]) == (4.0, 0.5, 3.0)


# --- ten steps ------------------------------------------------------------------------------------------------------

GOLDEN = [5.6830, 5.7515, 5.6549, 5.5409, 4.7533, 4.5106, 4.1250, 4.3044, 4.1566, 3.5707]
"""Totals of ten steps, recorded in float32; weights off by 1e-6 change them by 2e-6."""


def ten_steps(**changes) -> list[float]:
    model, totals = tiny_model().train(), []
    train_epoch(
        model,
        optimizer_of(model, lr=1e-2),
        pair_batches(Stripes(), LABELS, **BATCHES | changes),
        on_step=lambda sums, values: totals.append(values["total"]),
        loss=loss_of(model),
        clip_norm=1.0,
    )
    return totals


def test_ten_steps_follow_the_recorded_curve_and_learn():
    totals = ten_steps()
    assert totals == pytest.approx(GOLDEN, rel=1e-4)
    assert np.mean(totals[-3:]) < 0.75 * np.mean(totals[:3])


def test_ten_steps_can_be_repeated_exactly():
    assert ten_steps() == ten_steps()


def test_an_epoch_gives_the_means_of_its_steps():
    seen: list[tuple[int, dict[str, float]]] = []
    model = tiny_model().eval()
    means = train_epoch(
        model,
        optimizer_of(model),
        pair_batches(Stripes(), LABELS, **BATCHES | {"batches": 3}),
        on_step=lambda sums, values: seen.append((sums.steps, values)),
        loss=loss_of(model),
        clip_norm=0.1,
    )
    assert model.training
    assert [number for number, _ in seen] == [1, 2, 3]
    for name in (*TERMS, "total", "train_accuracy", "gradient_norm"):
        assert means[name] == pytest.approx(np.mean([values[name] for _, values in seen]))
    assert means["clips_per_second"] == pytest.approx(18 / means["train_seconds"])
    assert 0 < means["data_wait"] < 1
