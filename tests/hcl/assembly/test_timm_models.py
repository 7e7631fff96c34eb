"""Test HCL on networks of timm: levels, gradients, precision, compiling, memory, several workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hcl.assembly import arguments, models
from hcl.clips.batches import Batch
from hcl.config import Experiment
from hcl.config.resolve import resolve
from hcl.errors import BackboneError, ConfigError
from hcl.models.inference import for_inference
from hcl.training.epoch import train_step
from hcl.training.losses import contrastive_terms, neighbouring_pairs
from hcl.training.memory import Peak, StepMemory, dry_step, without_content
from hcl.training.process_group import ProcessGroup, SingleProcess
from tests.architecture.pages import ROOT, read_page
from tests.hcl.training.process_groups import computed

pytest.importorskip("timm", reason="the extra `vit` is not installed")

SMALL: dict[str, Any] = {
    "clips.size": 48,
    "clips.n_frames": 3,
    "model.backbone": "timm:test_vit",
    "model.weights": "none",
    "model.d_model": 16,
    "model.n_heads": 2,
    "model.dim_feedforward": 16,
    "model.dropout": 0.0,
    "matching.top_tuples": 2,
    "matching.top_patches": 5,
    "matching.zoom_ranks_test": 2,
    "train.classes_per_batch": 4,
    "optim.backbone_lr_factor": 1.0,
}


def experiment(**changes: Any) -> Experiment:
    return resolve(None, SMALL | {path.replace("__", "."): value for path, value in changes.items()}).experiment


def clips(n: int = 8) -> Tensor:
    return torch.randint(0, 256, (n, 3, 3, 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def batch(first: int = 0, last: int = 8) -> Batch:
    index = torch.arange(8)[first:last]
    return Batch(clips()[first:last], index // 2, np.arange(first, last), index)


def loss_of(settings: Experiment, model: nn.Module, group: ProcessGroup | None = None) -> Any:
    regime = models.make_regime(settings)
    return regime.loss(model, group=group or SingleProcess(), device="cpu", precision=settings.train.precision)


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch16_dinov3", "test_convnext"])
def test_three_levels_are_computed_and_each_reaches_the_backbone(name: str) -> None:
    settings = experiment(model__backbone=f"timm:{name}", clips__size=64)
    frames = torch.randint(0, 256, (4, 3, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    model = models.make_model(settings, 3)
    features, _ = model(frames)
    side = settings.grid_side
    assert [tuple(one.shape[1:]) for one in features.patches] == [(3, side**2, 16)]
    terms = contrastive_terms(features, features, neighbouring_pairs(0, 4), **arguments.training_matching(settings))
    assert {"global", "temporal", "spatial"} <= set(terms)
    last = [value for key, value in model.named_parameters() if key.startswith("backbone.")][-1]
    for level in ("global", "temporal", "spatial"):
        (gradient,) = torch.autograd.grad(terms[level], last, retain_graph=True)
        assert float(gradient.abs().max()) > 0, level


@pytest.mark.parametrize("frozen", [0, 1, 3, None])
@torch.no_grad()
def test_cached_stages_give_the_features_of_frames(frozen: int | None) -> None:
    change = {"model__train_backbone": False} if frozen is None else {"model__frozen_stages": frozen}
    model = models.make_model(experiment(**change), 3).eval()
    below = model.backbone.below(clips(2).flatten(0, 1), model.frozen_stages)
    if frozen == 0:
        assert below.shape[1] == 3
    cached = below.unflatten(0, (2, 3))
    expected, fast = model(clips(2)), for_inference(model, has_grids=True)
    for one in (model(cached), fast(cached)):
        torch.testing.assert_close(one[1], expected[1])


def test_bfloat16_trains_and_is_near_float32() -> None:
    values = []
    for precision in ("float32", "bfloat16"):
        settings = experiment(train__precision=precision)
        model = models.make_model(settings, 4).train()
        optimizer = models.optimizer_of(settings, model)
        loss = loss_of(settings, model)
        values.append([train_step(model, optimizer, [batch()], loss=loss, clip_norm=1.0, group=SingleProcess())
                       for _ in range(3)])  # fmt: skip
    plain, half = ([step["total"] for step in steps] for steps in values)
    assert half[0] == pytest.approx(plain[0], rel=0.03)  # later steps drift apart by rounding, on some processors more
    assert plain[-1] < plain[0] and half[-1] < half[0]


@pytest.mark.long
def test_compiled_parts_compute_the_same() -> None:
    settings = experiment(train__compile=True)
    model = models.make_model(settings, 4)
    expected = loss_of(settings, model)(batch()).total
    models.prepare_training(settings, model)
    found = loss_of(settings, model)(batch()).total
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert sum(part._compiled_call_impl is not None for part in model.backbone.body) == len(model.backbone.body)


def memory(peak: Peak, **changes: Any) -> StepMemory:
    settings = experiment(**changes)
    model = models.make_model(settings, 4).train()
    optimizer = models.optimizer_of(settings, model)
    models.prepare_training(settings, model)
    return dry_step(peak, model, optimizer, loss_of(settings, model), batch)


def test_a_dry_run_counts_what_real_tensors_take_and_recomputing_keeps_less() -> None:
    memory(Peak())  # matching keeps tables of indices from its first step on
    with Peak() as peak:
        real = memory(peak)
    kept = []
    for recompute in (False, True):
        with without_content() as peak:
            kept.append(memory(peak, train__recompute_backbone=recompute))
    for ours, theirs in zip(kept[0], real, strict=True):
        assert ours == pytest.approx(theirs, rel=0.03)
    assert kept[1].backbone < 0.5 * kept[0].backbone
    with without_content() as peak:
        assert 0 < memory(peak, model__tune="lora").peak < kept[0].peak


def gradients(group: ProcessGroup, **changes: Any) -> dict[str, Any]:
    """Return the gradients of one step, in float64."""
    settings = experiment(**changes)
    model = models.make_model(settings, 4)
    models.prepare_training(settings, model)
    model = model.double()
    single = isinstance(group, SingleProcess)
    whole = model if single else DistributedDataParallel(model)
    share = 8 // group.world_size
    result = loss_of(settings, whole, group)(batch(group.rank * share, (group.rank + 1) * share))
    result.total.backward()
    return {key: value.grad for key, value in model.named_parameters() if value.requires_grad}


def gradients_of_updates(group: ProcessGroup) -> dict[str, Any]:
    return gradients(group, model__tune="lora", model__tune_targets="all")


@pytest.mark.parametrize("compute", [gradients, gradients_of_updates])
def test_two_workers_have_the_gradients_of_one(compute: Any, tmp_path: Path) -> None:
    """Features are gathered with their gradients, and class and position tokens learn on every worker."""
    alone = compute(SingleProcess())
    assert not experiment(train__workers=2).depends_on_workers
    for found in computed(compute, (2,), tmp_path)[2]:
        assert found.keys() == alone.keys()
        for key, value in alone.items():
            # timm resizes positions in single precision
            torch.testing.assert_close(
                found[key], value, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
            )


def test_frames_that_no_patches_fill_are_refused_with_the_next_sizes() -> None:
    with pytest.raises(Exception, match="clips.size=50: model.backbone=timm:test_vit cuts frames into patches of 16"):
        experiment(clips__size=50)


def test_a_network_of_one_size_names_the_setting() -> None:
    settings = experiment(model__backbone="timm:swin_tiny_patch4_window7_224", clips__size=96)
    with pytest.raises(BackboneError, match="cannot compute frames of 96 x 96 pixels") as caught:
        models.make_model(settings, 3)
    assert "clips.size" in str(caught.value.remedy)


def test_the_example_of_the_page_runs() -> None:
    (example,) = read_page(ROOT / "hcl" / "models" / "VIT.md").python
    exec(example, {})


# --- tuning ---------------------------------------------------------------------------------------------------------


def test_every_setting_of_tuning_reaches_the_model() -> None:
    settings = experiment(
        model__tune="lora",
        model__tune_rank=5,
        model__tune_targets="mlp",
        model__frozen_stages=3,
        model__batch_norm="train",
    )
    model = models.make_model(settings, 3)
    learning = {key: value.shape for key, value in model.backbone.named_parameters() if value.requires_grad}
    assert {key.split(".")[-3] for key in learning} == {"fc1", "fc2"} and len(learning) == 12
    assert {key.split(".")[1] for key in learning} == {"3", "4"}
    assert all(shape[0] == 5 for key, shape in learning.items() if key.endswith("down.weight"))
    assert model.batch_norm == "frozen"
    adapters = models.make_model(experiment(model__tune="adapters"), 3)
    assert any("attn.down" in key for key in adapters.state_dict())
    named = {parameter for group in models.optimizer_of(settings, model).param_groups for parameter in group["params"]}
    assert {id(value) for value in named} == {id(value) for value in model.parameters() if value.requires_grad}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__tune": "lora", "model__train_backbone": False}, "tune=lora learns in the backbone"),
        ({"model__tune": "all", "model__frozen_stages": 2}, "tune=all contradicts frozen_stages=2"),
        ({"model__tune": "lora", "model__tune_rank": 0}, "at least 1"),
        ({"model__tune": "lor"}, "did you mean `lora`"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(**changes)


def test_updates_do_not_depend_on_the_number_of_workers_even_below_batch_norms() -> None:
    resnet = {"model__backbone": "resnet18", "train__workers": 2}
    assert experiment(**resnet).depends_on_workers
    assert not experiment(**resnet, model__tune="lora", model__tune_targets="all").depends_on_workers


def test_settings_of_tuning_change_the_digest_only_if_they_are_used() -> None:
    plain = experiment()
    assert experiment(model__tune="stages").digest() == plain.digest()
    assert (
        len({experiment(model__tune="lora", model__tune_rank=rank).digest() for rank in (4, 8)} - {plain.digest()}) == 2
    )


def test_low_rank_updates_learn() -> None:
    settings = experiment(model__tune="lora", optim__lr=1e-2)
    model = models.make_model(settings, 4).train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    optimizer, loss = models.optimizer_of(settings, model), loss_of(settings, model)
    step = {"loss": loss, "clip_norm": 1.0, "group": SingleProcess()}
    values = [train_step(model, optimizer, [batch()], **step)["total"] for _ in range(4)]
    after = model.backbone.state_dict()
    assert values[-1] < values[0]
    assert all(torch.equal(after[key], before[key]) for key in model.backbone.given)
    assert any(not torch.equal(after[key], value) for key, value in before.items() if key.endswith("up.weight"))
