from __future__ import annotations

import hashlib
import pickle

import pytest
import torch
from torch import Tensor, nn

from hcl.backbone import make_backbone
from hcl.checkpoint import file_digest, from_published, load_checkpoint, load_model, save_checkpoint
from hcl.encoder import Encoder
from hcl.errors import CheckpointError
from hcl.model import HCL, MatchingHeads
from tests.hcl.test_model import pixels, tiny_model

# --- files ----------------------------------------------------------------------------------------------------------


def test_a_model_and_its_state_come_back(tmp_path):
    path, model = tmp_path / "last.pt", tiny_model(seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(pixels())[1].sum().backward()
    optimizer.step()
    save_checkpoint(path, model=model, state={"epoch": 3, "optimizer": optimizer.state_dict(), "best": {"val": 0.5}})
    content = load_checkpoint(path)
    other = tiny_model(seed=2)
    load_model(other, content["model"], source=str(path))
    assert content["epoch"] == 3 and content["best"] == {"val": 0.5}
    assert torch.equal(other.eval()(pixels())[1], model.eval()(pixels())[1])
    assert content["optimizer"]["state"][0].keys() == optimizer.state_dict()["state"][0].keys()
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]  # nothing partial is left


def test_a_save_that_fails_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, model=nn.Linear(2, 3), state={"epoch": 1})

    def interrupted(content, file):
        file.write_bytes(b"half a checkpoint")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, model=nn.Linear(2, 3), state={"epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such file") as caught:
        load_checkpoint(tmp_path / "last.pt")
    assert caught.value.where == str(tmp_path / "last.pt") and "checkpoints/" in caught.value.remedy


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "last.pt"
    save_checkpoint(path, model=tiny_model(), state={})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match="cannot be read: it is damaged") as caught:
        load_checkpoint(path)
    assert caught.value.where == str(path)


class Explosive:
    """Unpickling it creates a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_checkpoint_is_refused_and_not_executed(tmp_path):
    bomb, crater = Explosive(str(tmp_path / "crater")), tmp_path / "crater"
    for name, save in (
        ("zip.pt", torch.save),
        ("raw.pt", lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))),
    ):
        path = tmp_path / name
        save({"format": "hcl-checkpoint-1", "model": {}, "epoch": bomb}, path)
        with pytest.raises(CheckpointError, match="damaged or holds more than tensors and plain values"):
            load_checkpoint(path)
        assert not crater.exists()
    pickle.loads((tmp_path / "raw.pt").read_bytes())
    assert crater.exists()  # it would have gone off


@pytest.mark.parametrize(
    "content", [{"weight": torch.zeros(3)}, {"format": "hcl-checkpoint-9"}, [1, 2], torch.zeros(2)]
)
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="is not a checkpoint of this program"):
        load_checkpoint(path)


def test_a_digest_names_the_content(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"content")
    other.write_bytes(b"content")
    assert file_digest(one) == file_digest(other) == hashlib.sha256(b"content").hexdigest()[:12]
    other.write_bytes(b"contents")
    assert file_digest(one) != file_digest(other)


# --- fit ------------------------------------------------------------------------------------------------------------


def test_wrong_shapes_missing_and_unknown_keys_are_named():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    state = model.state_dict()
    state["0.weight"] = torch.zeros(3, 7)
    state["2.weight"] = torch.zeros(1)
    del state["1.bias"]
    with pytest.raises(CheckpointError) as caught:
        load_model(model, state, source="runs/x/checkpoints/best.pt")
    for part in ("0.weight is (3, 7) in the file and (3, 2) in the model", "1.bias is missing", "2.weight is unknown"):
        assert part in str(caught.value)
    assert "(3 differences)" in str(caught.value) and caught.value.where == "runs/x/checkpoints/best.pt"


def test_only_the_first_differences_are_listed_and_nothing_is_loaded():
    model, other = tiny_model(), tiny_model(tuple_sizes=(3,), seed=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = {key: value for key, value in other.state_dict().items() if not key.startswith("encoder.layers")}
    with pytest.raises(CheckpointError, match=r"\(14 differences\)") as caught:
        load_model(model, state, source="file")
    assert caught.value.problem.count("is missing") == 3
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# --- the released checkpoint ----------------------------------------------------------------------------------------

# Recorded: how many entries the released state dict has and the digest of their names and shapes, plain and with
# DataParallel's prefix on the backbone (ResNet-50, d 1152, 76 classes).
RECORDED = {"": (350, "5230b88f04add220"), "module.": (350, "6105482a6cc6884c")}

HEADS = {
    "query_embed": (17, 1152),
    "action_classifier": (76, 1152),
    "bi_linear": (1152, 2304),
    "tri_linear": (1152, 3456),
    "temp_linear": (1152, 1152),
    "spa_linear": (1152, 1152),
    "norm_temp": (1152,),
    "norm_spa": (1152,),
    "st_transformer_encoder.input_proj": (1152, 2048, 1, 1),
    "st_transformer_encoder.transformer_encoder.layers.0.self_attn.out_proj": (1152, 1152),
    "st_transformer_encoder.transformer_encoder.layers.0.linear1": (2048, 1152),
    "st_transformer_encoder.transformer_encoder.layers.0.linear2": (1152, 2048),
    "st_transformer_encoder.transformer_encoder.layers.0.norm1": (1152,),
    "st_transformer_encoder.transformer_encoder.layers.0.norm2": (1152,),
}


def released_shapes(prefix: str) -> dict[str, tuple[int, ...]]:
    """The released names and shapes; `prefix` stands between `encoder.` and the backbone's own names."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, norm: str, *shape: int) -> None:
        shapes[f"encoder.{prefix}{name}.weight"] = shape
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"encoder.{prefix}{norm}.{leaf}"] = (shape[0],)
        shapes[f"encoder.{prefix}{norm}.num_batches_tracked"] = ()

    convolution("0", "1", 64, 3, 7, 7)
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            name = f"{stage + 4}.{block}"
            convolution(f"{name}.conv1", f"{name}.bn1", width, channels, 1, 1)
            convolution(f"{name}.conv2", f"{name}.bn2", width, width, 3, 3)
            convolution(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1, 1)
            if block == 0:
                convolution(f"{name}.downsample.0", f"{name}.downsample.1", 4 * width, channels, 1, 1)
            channels = 4 * width
    for name, shape in HEADS.items():
        if name == "query_embed":
            shapes[name] = shape
        else:
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    attention = "st_transformer_encoder.transformer_encoder.layers.0.self_attn."
    shapes |= {attention + "in_proj_weight": (3456, 1152), attention + "in_proj_bias": (3456,)}
    tables = ("row_embed", "col_embed", "temp_embed")
    return shapes | {f"st_transformer_encoder.pos_encoder.{table}.weight": (10, 384) for table in tables}


def released_state(prefix: str = "") -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in released_shapes(prefix).items()}


@pytest.fixture(scope="module")
def published_model() -> HCL:
    """The model of the released checkpoint, without memory for its weights."""
    with torch.device("meta"):
        backbone = make_backbone("resnet50", "none")
        heads = MatchingHeads(1152, tuple_sizes=(2, 3))
        return HCL(backbone, Encoder(2048, d_model=1152), heads, n_classes=76)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_released_names_are_the_recorded_ones(prefix):
    listing = "\n".join(f"{name} {shape}" for name, shape in sorted(released_shapes(prefix).items()))
    count, digest = RECORDED[prefix]
    assert len(released_shapes(prefix)) == count
    assert hashlib.sha256(listing.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_released_state_dict_fits_the_model_key_by_key(prefix, published_model):
    ours = from_published(released_state(prefix))
    wanted = published_model.state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in wanted.items()}
    load_model(published_model, ours, source="released")


def test_every_released_value_goes_where_it_belongs():
    state = {name: torch.zeros(shape) for name, shape in released_shapes("").items() if not name.startswith("encoder.")}
    state = {
        name: torch.full((2, *([1] * (len(value.shape) - 1))), float(i))
        for i, (name, value) in enumerate(state.items())
    }
    place = {name: i for i, name in enumerate(state)}
    ours = {name: float(value.flatten()[0]) for name, value in from_published(state).items()}
    layer = "st_transformer_encoder.transformer_encoder.layers.0."
    for name, released in {
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


def test_the_1x1_convolution_becomes_a_linear_layer():
    weight = torch.randn(5, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    ours = from_published({"st_transformer_encoder.input_proj.weight": weight})["encoder.input_proj.weight"]
    grid = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        nn.functional.linear(grid.movedim(1, -1), ours), nn.functional.conv2d(grid, weight).movedim(1, -1)
    )


def test_semantic_heads_are_read_too():
    names = ("emb_fc.weight", "emb_fc.bias", "norm_emb.weight", "norm_emb.bias")
    ours = from_published({name: torch.zeros(2, 2) for name in names})
    expected = {f"heads.semantic_{part}.{leaf}" for part in ("linear", "norm") for leaf in ("weight", "bias")}
    assert ours.keys() == expected
    assert ours.keys() <= tiny_model(embedding_dim=5).state_dict().keys()


@pytest.mark.parametrize("key", ["decoder.weight", "temp_linears.weight", "my_encoder.0.weight", "query_embed2"])
def test_an_unknown_key_is_refused_by_name(key):
    with pytest.raises(CheckpointError, match=f"key '{key}' is not one of the released model's"):
        from_published({key: torch.zeros(1)})
