from __future__ import annotations

import hashlib
import pickle

import pytest
import torch
from torch import nn

from hcl.errors import CheckpointError, StorageError
from hcl.models.checkpoint import file_digest, load_checkpoint, load_model, save_checkpoint
from tests.hcl.models.test_hcl import pixels, tiny_model

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
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]  # no partial file is left


def test_a_save_that_fails_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, model=nn.Linear(2, 3), state={"epoch": 1})

    def interrupted(content, file):
        file.write(b"half a checkpoint")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(StorageError, match="no space") as caught:
        save_checkpoint(path, model=nn.Linear(2, 3), state={"epoch": 2})
    assert caught.value.remedy and load_checkpoint(path)["epoch"] == 1


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
    with pytest.raises(CheckpointError, match="cannot be read: it is (damaged|empty)") as caught:
        load_checkpoint(path)
    assert caught.value.where == str(path)


class Explosive:
    """Create a file when unpickled."""

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
        with pytest.raises(CheckpointError, match="holds more than tensors and plain values: (io|_io|builtins)?.?open"):
            load_checkpoint(path)
        assert not crater.exists()
    pickle.loads((tmp_path / "raw.pt").read_bytes())
    assert crater.exists()  # the malicious object works


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
