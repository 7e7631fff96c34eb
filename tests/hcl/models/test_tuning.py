"""Test low-rank updates and adapters: they start at nothing, learn alone, and merged layers compute the same."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hcl.config.section import NoSettings
from hcl.errors import BackboneError, CheckpointError
from hcl.models.backbone import Backbone, OnBackbone, make_backbone
from hcl.models.checkpoint import learnt_state, load_checkpoint, load_model, save_checkpoint
from hcl.models.inference import fast_backbone
from hcl.models.recomputing import recompute_blocks
from hcl.models.timm_backbone import TimmBackbone
from hcl.models.tuning import Adapter, LowRank, adapt, base_digest

pytest.importorskip("timm", reason="the extra `vit` is not installed")

FRAMES = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
KINDS = ("lora", "adapters")
CASES = [
    ("timm:test_vit", "lora", "attention"),
    ("timm:test_vit", "lora", "mlp"),
    ("timm:test_vit", "lora", "all"),
    ("timm:test_vit", "adapters", "attention"),
    ("timm:test_vit", "adapters", "all"),
    ("timm:vit_small_patch16_dinov3", "lora", "attention"),
    ("timm:test_convnext", "adapters", "mlp"),
    ("timm:test_convnext", "lora", "all"),
    ("resnet18", "lora", "all"),
]
cases = pytest.mark.parametrize(("name", "kind", "targets"), CASES)


def plain(name: str, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    if name.startswith("timm:"):
        return TimmBackbone(name.removeprefix("timm:")).make("none", NoSettings())
    return make_backbone(name, "none")


def adapted(
    backbone: Backbone, kind: str = "lora", targets: str = "attention", *, frozen: int = 0, rank: int = 3
) -> Backbone:
    torch.manual_seed(1)
    adapt(backbone, kind=kind, rank=rank, targets=targets, frozen_stages=frozen, size=64)
    return backbone


def moved(backbone: Backbone) -> Backbone:
    """Give the new layers values, as training would."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in (value for value in backbone.parameters() if value.requires_grad):
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return backbone


@cases
@torch.no_grad()
def test_at_first_the_features_are_those_of_the_backbone(name: str, kind: str, targets: str) -> None:
    backbone = plain(name).eval()
    expected = backbone(FRAMES)
    assert torch.equal(adapted(copy.deepcopy(backbone), kind, targets)(FRAMES), expected)
    assert not torch.allclose(moved(adapted(backbone, kind, targets))(FRAMES), expected)


@cases
def test_only_new_weights_learn_and_every_one_of_them(name: str, kind: str, targets: str) -> None:
    """Data parallelism waits for a gradient of each; a layer whose update has no effect would get none."""
    backbone = moved(adapted(plain(name), kind, targets))
    model = OnBackbone(backbone, batch_norm="frozen").train()
    model.grids(FRAMES[None]).square().mean().backward()
    learning = {key for key, value in backbone.named_parameters() if value.grad is not None and value.grad.abs().sum()}
    assert learning == {key for key, value in backbone.named_parameters() if value.requires_grad}
    assert learning and {key.split(".")[-2] for key in learning} == {"down", "up"}
    assert learning.isdisjoint(backbone.given) and learning | set(backbone.given) == set(backbone.state_dict())


@cases
@torch.no_grad()
def test_merged_layers_compute_the_same_and_leave_the_original(name: str, kind: str, targets: str) -> None:
    backbone = moved(adapted(plain(name), kind, targets)).eval().double()
    expected, before = backbone(FRAMES), copy.deepcopy(backbone.state_dict())
    fast = fast_backbone(backbone)
    assert float((fast(FRAMES) - expected).abs().max() / expected.abs().max()) < 1e-9
    assert not [module for module in fast.modules() if isinstance(module, LowRank)]
    if kind == "lora":
        original = fast_backbone(plain(name))
        assert [key for key, _ in fast.named_modules()] == [key for key, _ in original.named_modules()]
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_stages_get_no_new_weights(kind: str) -> None:
    backbone = adapted(plain("timm:test_vit"), kind, "all", frozen=3)
    stages = {key.split(".")[1] for key, value in backbone.named_parameters() if value.requires_grad}
    assert stages == {"3", "4"}  # the third and fourth group of blocks


@pytest.mark.parametrize(("targets", "n_layers"), [("attention", 12), ("mlp", 12), ("all", 25)])
def test_the_targets_name_the_layers_of_six_blocks(targets: str, n_layers: int) -> None:
    """All: four linear layers a block, and the convolution that cuts out patches."""
    backbone = adapted(plain("timm:test_vit"), "lora", targets)
    layers = [module for module in backbone.modules() if isinstance(module, LowRank)]
    assert len(layers) == n_layers and {layer.down.weight.shape[0] for layer in layers} == {3}
    parts = [m for m in adapted(plain("timm:test_vit"), "adapters", targets).modules() if isinstance(m, Adapter)]
    assert len(parts) == (12 if targets == "all" else 6)


def test_a_layer_that_the_network_reads_without_calling_it_is_left_out() -> None:
    """EVA-02 of the tiny size multiplies by the weight of its joint projection itself."""
    backbone = plain("timm:eva02_tiny_patch14_224")
    adapt(backbone, kind="lora", rank=3, targets="attention", frozen_stages=0, size=56)
    layers = {name.split(".")[-1] for name, module in backbone.named_modules() if isinstance(module, LowRank)}
    moved(backbone)(FRAMES[..., :56, :56]).square().mean().backward()
    assert layers == {"proj"} and hasattr(backbone.body[1].blocks[0].attn, "qkv")  # type: ignore[index, union-attr]
    assert all(value.grad.abs().sum() for value in backbone.parameters() if value.requires_grad)


def test_a_backbone_without_such_layers_is_refused() -> None:
    with pytest.raises(
        BackboneError, match="no layers for model.tune=lora with model.tune_targets=attention"
    ) as caught:
        adapted(plain("resnet18"))
    assert "model.tune_targets=all" in str(caught.value.remedy)
    with pytest.raises(BackboneError, match="no layers for model.tune=adapters"):
        adapted(plain("resnet18"), "adapters", "all")


@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_blocks_give_the_same_gradients(kind: str) -> None:
    gradients: list[dict[str, Tensor | None]] = []
    for recompute in (False, True):
        backbone = moved(adapted(plain("timm:test_vit"), kind, "all")).train()
        if recompute:
            recompute_blocks(backbone)
        backbone(FRAMES).square().mean().backward()
        gradients.append({key: value.grad for key, value in backbone.named_parameters() if value.requires_grad})
    assert gradients[0] and all(torch.equal(gradients[1][key], value) for key, value in gradients[0].items())


# --- checkpoints ----------------------------------------------------------------------------------------------------


class Headed(OnBackbone):
    """A backbone and one layer above it."""

    def __init__(self, backbone: Backbone):
        super().__init__(backbone, batch_norm="frozen")
        self.head = nn.Linear(3, 2)


def test_a_checkpoint_holds_what_was_learnt_and_names_the_rest(tmp_path: Path) -> None:
    whole, small = tmp_path / "whole.pt", tmp_path / "small.pt"
    save_checkpoint(whole, model=Headed(plain("timm:test_vit")), state={})
    model = Headed(moved(adapted(plain("timm:test_vit"))))
    save_checkpoint(small, model=model, state={})
    content = load_checkpoint(small)
    assert content["base"] == base_digest(model.backbone) and len(content["base"]) == 12
    assert "base" not in load_checkpoint(whole)
    assert set(content["model"]) == set(learnt_state(model))
    assert {key.split(".")[0] for key in content["model"]} == {"backbone", "head"}
    assert not any(key.endswith("base.weight") for key in content["model"])
    assert small.stat().st_size < 0.25 * whole.stat().st_size
    other = Headed(adapted(plain("timm:test_vit")))
    load_model(other, content["model"], source="small.pt", base=content["base"])
    assert all(torch.equal(other.state_dict()[key], value) for key, value in model.state_dict().items())


def test_other_weights_under_a_checkpoint_are_refused() -> None:
    model, other = Headed(adapted(plain("timm:test_vit"))), Headed(adapted(plain("timm:test_vit", seed=9)))
    state, base = learnt_state(model), base_digest(model.backbone)
    with pytest.raises(CheckpointError, match="learnt on other weights of the backbone") as caught:
        load_model(other, state, source="best.pt", base=base)
    assert "model.weights" in str(caught.value.remedy)
    load_model(model, state, source="best.pt", base=base)


def test_another_rank_does_not_fit() -> None:
    model, other = (Headed(adapted(plain("timm:test_vit"), rank=rank)) for rank in (3, 5))
    with pytest.raises(CheckpointError, match=r"down\.weight is \(3, 64\) in the file and \(5, 64\) in the model"):
        load_model(other, learnt_state(model), source="best.pt", base=base_digest(model.backbone))
