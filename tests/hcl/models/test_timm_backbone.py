"""Test backbones of timm with random weights: grids are the library's own features, and its files are read.

No pretrained weights are downloaded here. Files are saved by the library, with every weight drawn anew, so that layer
scales and class tokens that start near zero count too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hcl.config.extensions import find
from hcl.config.section import NoSettings
from hcl.errors import BackboneError, ConfigError
from hcl.models import timm_weights
from hcl.models.backbone import Backbone
from hcl.models.checkpoint import file_digest
from hcl.models.inference import fast_backbone
from hcl.models.recomputing import recompute_blocks
from hcl.models.timm_backbone import TimmBackbone

timm = pytest.importorskip("timm", reason="the extra `vit` is not installed")

TRANSFORMERS = {  # one of each family of hcl/models/VIT.md, with the pixels of two or three cells
    "test_vit": 48,
    "vit_small_patch14_dinov2": 42,
    "vit_small_patch14_reg4_dinov2": 28,
    "vit_small_patch16_dinov3": 48,
    "vit_xsmall_patch16_clip_224": 48,
    "vit_base_patch32_siglip_256": 64,
    "vit_base_patch16_224.mae": 32,
    "eva02_tiny_patch14_224": 42,
    "deit_tiny_distilled_patch16_224": 32,
}
PYRAMIDS = {
    "resnet26": [2, 4, 8, 16, 32],
    "test_resnet": [2, 4, 8, 16, 32],
    "test_convnext": [4, 8, 16, 32],
    "convnext_atto": [4, 8, 16, 32],
    "test_efficientnet": [2, 4, 8, 16, 32],
    "mobilenetv3_small_050": [2, 4, 8, 16, 32],
}


def frames(side: int, n: int = 2) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def redrawn(network: nn.Module) -> nn.Module:
    """Draw every weight, so that none has the value of its initialisation."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(0.08 * torch.randn(value.shape, generator=generator) + name.endswith("norm.weight"))
    return network


def saved(name: str, folder: Path, *, change: Any = dict) -> Path:
    """Save a whole network of the library, with its classifier, as safetensors."""
    from safetensors.torch import save_file

    path = folder / "model.safetensors"
    state = redrawn(timm.create_model(name)).state_dict()
    save_file({key: value.contiguous() for key, value in change(state).items()}, path)
    return path


def made(name: str, weights: str | Path = "none") -> Backbone:
    torch.manual_seed(0)
    return TimmBackbone(name).make(str(weights), NoSettings()).eval()


def library(name: str, path: Path, **options: Any) -> nn.Module:
    """Return the network as the library loads it from a file."""
    network: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options)
    return network.eval()


# --- grids ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_the_grid_of_a_vision_transformer_is_the_librarys_last_features(name: str, tmp_path: Path) -> None:
    side = TRANSFORMERS[name]
    path = saved(name, tmp_path)
    backbone = made(name, path)
    network = library(name, path, num_classes=0, dynamic_img_size=True)
    inputs = backbone.below(frames(side), 0)
    expected = network.forward_intermediates(inputs, indices=1, norm=True, intermediates_only=True)[0]
    grid = backbone(frames(side))
    traits = TimmBackbone(name).traits
    assert grid.shape == (2, backbone.channels, traits.side(side), traits.side(side))
    assert torch.equal(grid, expected) and expected.std() > 0.01
    tokens = network.forward_features(inputs)[:, network.num_prefix_tokens :]
    assert torch.equal(grid.flatten(2).transpose(1, 2), tokens)


@pytest.mark.parametrize("name", PYRAMIDS)
@torch.no_grad()
def test_the_stages_of_a_pyramid_are_the_librarys_levels(name: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)
    backbone, network = made(name, path), library(name, path, features_only=True)
    levels = network(backbone.below(frames(96), 0))
    stages = [backbone.below(frames(96), stage) for stage in range(1, backbone.n_stages + 1)]
    assert [96 // stage.shape[-1] for stage in stages] == PYRAMIDS[name]
    assert all(torch.equal(stage, level) for stage, level in zip(stages, levels, strict=True))
    assert backbone.channels == levels[-1].shape[1] and float(levels[-1].std()) > 0


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch14_dinov2", "vit_small_patch16_dinov3", "test_convnext"])
@torch.no_grad()
def test_stages_follow_each_other(name: str) -> None:
    """The output of frozen stages is cached, so that the stages above must need nothing else."""
    backbone, traits = made(name), TimmBackbone(name).traits
    grid = backbone(frames(2 * traits.cell))
    assert backbone.n_stages == traits.stages
    for stage in range(backbone.n_stages + 1):
        below = backbone.below(frames(2 * traits.cell), stage)
        assert below.ndim == 4 and (below.shape[1] == 3) == (stage == 0)
        assert torch.equal(backbone.above(below, stage), grid)


def test_the_stages_of_a_vision_transformer_are_its_embedding_and_four_groups_of_blocks() -> None:
    backbone = made("vit_small_patch14_dinov2")
    counts = [len(getattr(stage, "blocks", ())) for stage in backbone.body]
    assert counts == [0, 3, 3, 3, 3, 0] and backbone.n_stages == 5


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_the_grid_is_as_large_as_its_traits_say(name: str) -> None:
    backbone, traits = made(name).to("meta"), TimmBackbone(name).traits
    for size in (32, 47, 48, 63, 64, 65, 96, 97, 128, 224):
        if not traits.whole_cells or size % traits.cell == 0:
            grid = backbone(torch.empty(1, 3, size, size, device="meta"))
            assert grid.shape[-2:] == (traits.side(size),) * 2, size


def test_normalisation_is_that_of_the_networks_pretraining() -> None:
    clip, mae = made("vit_xsmall_patch16_clip_224"), made("vit_base_patch16_224.mae")
    assert mae.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert clip.std.flatten().tolist() == pytest.approx([0.26862954, 0.26130258, 0.27577711])
    assert made("test_vit").mean.flatten().tolist() == [0.5] * 3


def test_only_transformers_and_convnexts_are_without_batch_norms() -> None:
    assert not TimmBackbone("test_vit").traits.batch_norms and not TimmBackbone("test_convnext").traits.batch_norms
    assert TimmBackbone("test_resnet").traits.batch_norms and TimmBackbone("test_vit").traits.whole_cells


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch16_dinov3", "test_resnet", "test_convnext"])
def test_a_trained_backbone_draws_nothing_and_every_weight_gets_a_gradient(name: str) -> None:
    """Draws would depend on the number of workers, and data parallelism waits for missing gradients."""
    backbone = made(name).train()
    before = torch.get_rng_state()
    backbone(frames(64)).square().mean().backward()
    assert torch.equal(torch.get_rng_state(), before)
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []


def test_frozen_stages_keep_their_weights_while_the_others_learn() -> None:
    backbone = made("test_vit").train()
    backbone.freeze(3)
    backbone(frames(48)).square().mean().backward()
    learning = {key.split(".")[1] for key, value in backbone.named_parameters() if value.grad is not None}
    assert learning == {"3", "4", "5"}  # two groups of blocks, and the last norm


@pytest.mark.parametrize(
    ("name", "block", "n_blocks"),
    [
        ("test_vit", "Block", 6),
        ("vit_small_patch16_dinov3", "EvaBlock", 12),
        ("resnet26", "Bottleneck", 8),
        ("convnext_atto", "ConvNeXtBlock", 12),
    ],
)
def test_blocks_are_found_for_recomputing(name: str, block: str, n_blocks: int) -> None:
    backbone = TimmBackbone(name).make("none", NoSettings()).to("meta")
    recompute_blocks(backbone)
    found = [type(module).__name__ for module in backbone.modules() if "forward" in vars(module)]
    assert found.count(block) == n_blocks


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_recomputing_changes_no_gradient(name: str) -> None:
    gradients = []
    for recompute in (False, True):
        backbone = made(name).train()
        if recompute:
            recompute_blocks(backbone)
        backbone(frames(64)).square().mean().backward()
        gradients.append({key: value.grad for key, value in backbone.named_parameters()})
    assert all(torch.equal(gradients[1][key], value) for key, value in gradients[0].items())


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch16_dinov3", "test_resnet", "test_efficientnet"])
@torch.no_grad()
def test_a_fast_copy_computes_the_same(name: str) -> None:
    backbone = made(name).double()
    fast = fast_backbone(backbone)
    expected = backbone(frames(64))
    assert float((fast(frames(64)) - expected).abs().max() / expected.abs().max()) < 1e-12
    if name == "test_resnet":
        assert not [module for module in fast.modules() if type(module) is nn.BatchNorm2d]


# --- weights --------------------------------------------------------------------------------------------------------


def test_a_state_dict_of_torch_is_read_as_well(tmp_path: Path) -> None:
    state = redrawn(timm.create_model("test_vit")).state_dict()
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "vit.pth")
    assert torch.equal(made("test_vit", tmp_path / "vit.pth").body[0].network.cls_token, state["cls_token"])


@torch.no_grad()
def test_the_names_of_the_networks_authors_are_converted(tmp_path: Path) -> None:
    """DINOv2's own files name the registers otherwise, and keep a position of the class token."""
    name = "vit_small_patch14_reg4_dinov2"
    expected = made(name, saved(name, tmp_path))(frames(28))

    def original(state: dict[str, Tensor]) -> dict[str, Tensor]:
        renamed = {key: value for key, value in state.items() if key not in ("reg_token", "pos_embed")}
        position = torch.full_like(state["cls_token"], 0.25)
        return renamed | {
            "register_tokens": state["reg_token"],
            "mask_token": torch.zeros(1, 384),
            "cls_token": state["cls_token"] - position,
            "pos_embed": torch.cat([position, state["pos_embed"]], dim=1),
        }

    found = made(name, saved(name, tmp_path, change=original))(frames(28))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_files_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    path = saved("test_vit", tmp_path)
    with pytest.raises(BackboneError, match="does not fit timm's VisionTransformer.*differences") as caught:
        made("vit_xsmall_patch16_clip_224", path)
    assert caught.value.where == str(path)
    short = saved("test_resnet", tmp_path, change=lambda s: {k: v for k, v in s.items() if k != "layer4.0.bn1.bias"})
    with pytest.raises(BackboneError, match=r"layer4\.0\.bn1\.bias is missing \(1 differences\)"):
        made("test_resnet", short)
    with pytest.raises(BackboneError, match="no such file"):
        made("test_vit", tmp_path / "nowhere.pth")
    torch.save(nn.Linear(2, 3), tmp_path / "module.pth")  # it would run code
    with pytest.raises(BackboneError, match="more than tensors and plain values"):
        made("test_vit", tmp_path / "module.pth")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the Hugging Face hub an empty cache, and no network."""

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    timm_weights._pretrained_file.cache_clear()
    yield tmp_path / "hub"  # type: ignore[misc]
    timm_weights._pretrained_file.cache_clear()


def test_pretrained_weights_come_from_the_cache_of_the_library(hub: Path, tmp_path: Path) -> None:
    path = saved("test_vit", tmp_path)
    place = hub / "models--timm--test_vit.r160_in1k"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "snapshots" / "abc" / "model.safetensors").write_bytes(path.read_bytes())
    local, cached = made("test_vit", path), made("test_vit", "imagenet")
    assert all(torch.equal(cached.state_dict()[key], value) for key, value in local.state_dict().items())
    identity = TimmBackbone("test_vit").weights_identity
    digest = file_digest(path)
    assert [identity(one, NoSettings()) for one in ("imagenet", str(path), "none")] == [digest, digest, "none"]


def test_pretrained_weights_of_an_address_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old networks of timm are not on the hub."""
    path = saved("test_vit", tmp_path)
    config = timm.models.PretrainedCfg(url=path.as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: config)
    timm_weights._pretrained_file.cache_clear()
    for _ in range(2):
        file = timm_weights.weights_file("test_vit", "imagenet")
        assert file.read_bytes() == path.read_bytes() and file.is_relative_to(tmp_path / "torch")
        config.url = "file:///gone/model.safetensors"  # the second time it is there
        timm_weights._pretrained_file.cache_clear()


@pytest.mark.usefixtures("hub")
def test_pretrained_weights_that_cannot_be_had_name_the_remedies() -> None:
    for call in (TimmBackbone("test_vit").make, TimmBackbone("test_vit").weights_identity):
        with pytest.raises(BackboneError, match="neither here nor can they be downloaded from timm/test_vit") as caught:
            call("imagenet", NoSettings())
        assert "--set model.weights=/path/to/model.safetensors" in str(caught.value.remedy)


def test_a_network_without_pretrained_weights_says_so() -> None:
    with pytest.raises(BackboneError, match="timm has no pretrained weights of convnext_atto_rms") as caught:
        made("convnext_atto_rms", "imagenet")
    assert "model.weights=none" in str(caught.value.remedy)


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_wrong_name_is_answered_with_a_similar_one() -> None:
    with pytest.raises(ConfigError, match="did you mean `vit_small_patch14_dinov2") as caught:
        find("backbone", "timm:vit_smal_patch14_dinov2")
    assert caught.value.where == "model.backbone=timm:vit_smal_patch14_dinov2"
    with pytest.raises(ConfigError, match=r"did you mean `vit_small_patch14_dinov2\.lvd142m`"):
        find("backbone", "timm:vit_small_patch14_dinov2.lvd142")


def test_a_network_whose_levels_are_read_by_hooks_is_refused() -> None:
    with pytest.raises(BackboneError, match="by hooks"):
        find("backbone", "timm:xception41")


def test_without_timm_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BackboneError, match="need the package timm") as caught:
        find("backbone", "timm:test_vit")
    assert caught.value.remedy == "pip install 'hcl-orchestrator[vit]'"
