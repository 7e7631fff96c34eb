"""Test the released format by names and shapes recorded from a checkpoint (ResNet-50, d 1152, 76 classes)."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hcl.assembly import models
from hcl.config.resolve import resolve
from hcl.errors import CheckpointError
from hcl.models.checkpoint import state_problems
from hcl.models.hcl import HCL
from hcl.models.published import fit_published, from_published, read_published, was_never_trained
from tests.hcl.models.test_hcl import tiny_model

RECORDED = json.loads((Path(__file__).parents[2] / "golden" / "s10_state_dict_hcl_ssv2_100_otam.json").read_text())
UNUSED_WITH_PAIRS = {"query_embed", "tri_linear.weight", "tri_linear.bias"}


def recorded_state(prefix: str = "encoder.", whole: str = "") -> dict[str, Tensor]:
    """Return entries without memory for their values; `prefix` precedes the backbone's own names."""
    return {
        whole + name.replace("encoder.", prefix, 1) if name.startswith("encoder.") else whole + name: torch.empty(
            shape, dtype=getattr(torch, kind), device="meta"
        )
        for name, (shape, kind) in RECORDED["plain"].items()
    }


def published_model(**settings) -> HCL:
    changes = {path.replace("__", "."): value for path, value in settings.items()}
    with torch.device("meta"):
        return models.make_model(resolve("published", changes).experiment, 76, random_weights=True)


def small_state(seed: int = 0) -> dict[str, Tensor]:
    """Return a released state of one backbone layer and the heads with real values."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: shape for name, (shape, _) in RECORDED["plain"].items() if not name.startswith("encoder.")}
    state = {name: torch.randn([min(n, 3) for n in shape], generator=generator) for name, shape in shapes.items()}
    return state | {"encoder.0.weight": torch.randn(2, 3, 1, 1, generator=generator)}


# --- names and shapes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prefix", "whole"), [("encoder.", ""), ("encoder.module.", ""), ("encoder.", "module.")])
def test_the_recorded_entries_fit_the_published_model_one_by_one(prefix: str, whole: str, tmp_path: Path) -> None:
    model, path = published_model(), tmp_path / "released.pth"
    torch.save(
        {
            name: torch.zeros((), dtype=value.dtype).expand(value.shape)
            for name, value in recorded_state(prefix, whole).items()
        },
        path,
    )  # shapes without values
    fitted = fit_published(read_published(path), model, source="file")
    assert set(fitted.ignored) == UNUSED_WITH_PAIRS
    assert state_problems(fitted.state, model.state_dict()) == []


def test_with_both_tuple_sizes_only_the_unused_embedding_is_ignored() -> None:
    model = published_model(matching__tuple_sizes=[2, 3])
    fitted = fit_published(recorded_state(), model, source="file")
    assert fitted.ignored == ("query_embed",)
    assert state_problems(fitted.state, model.state_dict()) == []


def test_a_semantic_model_wants_the_semantic_entries() -> None:
    model = published_model(matching__semantic=True)
    with pytest.raises(CheckpointError, match=r"emb_fc.bias is missing; .*\(4 differences\)"):
        fit_published(recorded_state(), model, source="file")
    extra = {
        name: torch.empty(shape, device="meta") for name, (shape, _) in RECORDED["extra_keys_with_use_semantic"].items()
    }
    fitted = fit_published(recorded_state() | extra, model, source="file")
    assert state_problems(fitted.state, model.state_dict()) == []
    with pytest.raises(CheckpointError, match="emb_fc.bias is unknown") as caught:
        fit_published(recorded_state() | extra, published_model(), source="file")
    assert "matching.semantic=true" in caught.value.remedy


def test_every_kind_of_difference_is_named_by_its_released_name() -> None:
    state = recorded_state()
    del state["temp_linear.bias"]
    state["encoder.4.0.conv1.weight"] = torch.empty(64, 64, 3, 3, device="meta")
    state["encoder.1.num_batches_tracked"] = torch.empty((), device="meta")
    state["tri_linear.weight"] = torch.empty(1152, 2304, device="meta")
    state["decoder.weight"] = torch.empty(1, device="meta")
    with pytest.raises(CheckpointError) as caught:
        fit_published(state, published_model(), source="file.pth")
    assert caught.value.where == "file.pth"
    assert caught.value.problem == (
        "does not fit the released model: decoder.weight is unknown; encoder.1.num_batches_tracked holds torch.float32 "
        "in the file and torch.int64 in the model; encoder.4.0.conv1.weight is (64, 64, 3, 3) in the file and "
        "(64, 64, 1, 1) in the model (5 differences)"
    )


def test_every_released_value_goes_where_it_belongs() -> None:
    state = {name: torch.full((1, 1), float(i)) for i, name in enumerate(RECORDED["plain"])}
    place = {name: float(i) for i, name in enumerate(RECORDED["plain"])}
    ours = {name: float(value.flatten()[0]) for name, value in from_published(state).items()}
    layer = "st_transformer_encoder.transformer_encoder.layers.0."
    for name, released in {
        "backbone.body.7.2.bn3.running_var": "encoder.7.2.bn3.running_var",
        "classifier.bias": "action_classifier.bias",
        "heads.tuple_linear.2.weight": "bi_linear.weight",
        "heads.tuple_linear.3.weight": "tri_linear.weight",
        "heads.temporal_linear.weight": "temp_linear.weight",
        "heads.spatial_linear.weight": "spa_linear.weight",
        "heads.temporal_norm.weight": "norm_temp.weight",
        "heads.spatial_norm.bias": "norm_spa.bias",
        "encoder.positions.row.weight": "st_transformer_encoder.pos_encoder.row_embed.weight",
        "encoder.positions.column.weight": "st_transformer_encoder.pos_encoder.col_embed.weight",
        "encoder.positions.temporal.weight": "st_transformer_encoder.pos_encoder.temp_embed.weight",
        "encoder.layers.0.attention.in_proj_bias": layer + "self_attn.in_proj_bias",
        "encoder.layers.0.linear2.weight": layer + "linear2.weight",
        "encoder.layers.0.norm2.bias": layer + "norm2.bias",
        "encoder.input_proj.bias": "st_transformer_encoder.input_proj.bias",
    }.items():
        assert ours[name] == place[released]
    assert len(ours) == len(state) - 1  # query_embed, which the release never uses


def test_the_1x1_convolution_becomes_a_linear_layer() -> None:
    weight = torch.randn(5, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    ours = from_published({"st_transformer_encoder.input_proj.weight": weight})["encoder.input_proj.weight"]
    grid = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        nn.functional.linear(grid.movedim(1, -1), ours), nn.functional.conv2d(grid, weight).movedim(1, -1)
    )


def test_semantic_heads_are_read_too() -> None:
    names = ("emb_fc.weight", "emb_fc.bias", "norm_emb.weight", "norm_emb.bias")
    ours = from_published({name: torch.zeros(2, 2) for name in names})
    assert ours.keys() == {
        f"heads.semantic_{part}.{leaf}" for part in ("linear", "norm") for leaf in ("weight", "bias")
    }
    assert ours.keys() <= tiny_model(embedding_dim=5).state_dict().keys()


@pytest.mark.parametrize("key", ["decoder.weight", "temp_linears.weight", "my_encoder.0.weight", "query_embed2"])
def test_an_unknown_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(CheckpointError, match=f"key '{key}' is not one of the released model's"):
        from_published({key: torch.zeros(1)})


# --- files ----------------------------------------------------------------------------------------------------------


def prefixed(state: dict[str, Tensor], form: str) -> dict[str, Tensor]:
    if form == "module.":
        return {f"module.{key}": value for key, value in state.items()}
    if form == "encoder.module.":
        return {key.replace("encoder.", form, 1) if key.startswith("encoder.") else key: v for key, v in state.items()}
    return state


@pytest.mark.parametrize("form", ["plain", "encoder.module.", "module."])
def test_a_file_is_read_in_each_form(form: str, tmp_path: Path) -> None:
    path, state = tmp_path / "released.pth", small_state()
    torch.save(prefixed(state, form), path)
    found = read_published(path)
    assert list(found) == list(state)
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_an_entry_in_both_forms_is_refused(tmp_path: Path) -> None:
    state = small_state()
    torch.save(state | {"encoder.module.0.weight": state["encoder.0.weight"]}, tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match="1 entries both with and without `module.`"):
        read_published(tmp_path / "released.pth")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"epoch": 3, "bi_linear.bias": torch.zeros(1)}, "entry 'epoch' is no tensor"),
        ({"history": {"bi_linear.bias": torch.zeros(1)}}, "entry 'history' is no tensor but a dict"),
        ({}, "it is empty"),
    ],
)
def test_anything_but_tensors_is_refused(content: dict, what: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match=what) as caught:
        read_published(tmp_path / "released.pth")
    assert "hcl checkpoint show" in caught.value.remedy


class Explosive:
    """Create a file when unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_released_file_is_refused_and_not_executed(tmp_path: Path) -> None:
    path, crater = tmp_path / "released.pth", tmp_path / "crater"
    torch.save(small_state() | {"bomb": Explosive(str(crater))}, path)
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        read_published(path)
    assert not crater.exists()
    pickle.loads(pickle.dumps(Explosive(str(crater))))
    assert crater.exists()  # the malicious object works


# --- was temp_linear trained? ---------------------------------------------------------------------------------------


def test_a_fresh_linear_layer_was_never_trained_and_a_moved_one_was() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(1152, 1152).requires_grad_(False)
    assert was_never_trained(layer.weight)
    layer.weight[3, 5] = 1 / math.sqrt(1152)
    assert float(layer.weight[3, 5]) == pytest.approx(0.02946, abs=5e-6)  # the bound in METHOD
    assert was_never_trained(layer.weight)
    layer.weight[3, 5] *= 1.001
    assert not was_never_trained(layer.weight)
