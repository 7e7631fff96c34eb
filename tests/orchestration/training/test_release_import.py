"""Test `hcl checkpoint`: a released file becomes a run that can be evaluated, files are listed, others refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import results
from hcl.assembly import models
from hcl.assembly.experiment_files import load_resolved, to_yaml
from hcl.config.resolve import resolve
from hcl.errors import CheckpointError, ConfigError, StorageError
from hcl.models.checkpoint import file_digest, load_checkpoint
from orchestration.training.release_import import import_published
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, IMPORTED, LAST
from tests.orchestration.conftest import TINY, Command, prepare, tree
from tests.parity.recorded import published_name

N_CLASSES = 7
RELEASED = {key: value for key, value in TINY.items() if key not in ("name", "clips.resize")} | {
    "mode": "published",
    "model.train_backbone": True,
    "evaluation.shots": [1, 2],
}


def released_state(d_model: int = 24, **settings: object) -> dict[str, Tensor]:
    """Return what the release would save of the tiny model: both tuple sizes and the unused embedding."""
    changes = RELEASED | {"model.d_model": d_model, "matching.tuple_sizes": [2, 3], **settings}
    model = models.make_model(resolve(None, changes).experiment, N_CLASSES)
    state = {published_name(key): value for key, value in model.state_dict().items()}
    state["st_transformer_encoder.input_proj.weight"] = state["st_transformer_encoder.input_proj.weight"][
        ..., None, None
    ]
    return state | {"query_embed": torch.zeros(17, d_model)}


@pytest.fixture
def released(tmp_path: Path) -> Path:
    path = tmp_path / "released.pth"
    torch.save(released_state(), path)
    return path


@pytest.fixture
def released_experiment(tmp_path: Path) -> Path:
    path = tmp_path / "of_the_release.yaml"
    path.write_text(to_yaml(resolve(None, RELEASED).experiment))
    return path


@pytest.mark.ray
@pytest.mark.long
def test_an_imported_file_is_evaluated_in_published_mode(
    released: Path,
    released_experiment: Path,
    data_root: Path,
    tmp_path: Path,
    hcl: Command,
    local_ray: ModuleType,
) -> None:
    run = tmp_path / "runs" / "released"
    code, out, err = hcl("checkpoint", "import", released, "--to", run, "--experiment", released_experiment)
    assert code == 0, err
    assert f"{run}: " in out and f"a model of {N_CLASSES} classes, published mode" in out
    assert "ignored, because tuple sizes 2 do not use them: tri_linear.weight, tri_linear.bias, query_embed" in err
    assert "temp_linear was never trained" in err
    assert set(tree(run)) == {"experiment.yaml", "provenance.json", IMPORTED, BEST}
    code, out, err = hcl("evaluate", run, "--data", data_root, "--runs", tmp_path / "runs")
    assert code == 0, err
    assert "hcl on toy test: 1-shot" in out
    records = [results.read_evaluation(path) for path in (run / "evaluation").glob("*.json")]
    assert {(record.method, record.mode, record.shot, record.episodes) for record in records} == {
        ("hcl", "published", 1, 30),
        ("hcl", "published", 2, 30),
    }
    assert {record.checkpoint_digest for record in records} == {file_digest(run / BEST)}


def test_the_run_names_where_it_came_from_and_holds_the_weights(released: Path, tmp_path: Path) -> None:
    experiment = resolve(None, RELEASED).experiment
    made = import_published(released, experiment, tmp_path / "runs" / "mine", command="hcl checkpoint import")
    kept = load_resolved(made.folder / "experiment.yaml")
    assert kept.name == "mine" and kept.digest() == experiment.digest()
    content = load_checkpoint(made.folder / BEST)
    assert (content["epoch"], len(content["classes"])) == (0, N_CLASSES)
    source = torch.load(released, weights_only=True)
    assert torch.equal(content["model"]["heads.tuple_linear.2.weight"], source["bi_linear.weight"])
    assert "heads.tuple_linear.3.weight" not in content["model"]
    origin = json.loads((made.folder / IMPORTED).read_text())
    assert origin["digest"] == file_digest(released) and "tri_linear.weight" in origin["ignored"]
    assert results.read_provenance(made.folder).digests["released file"] == file_digest(released)


def test_nothing_trains_into_an_imported_run(released: Path, data_root: Path, tmp_path: Path) -> None:
    experiment = resolve(None, RELEASED | {"name": "mine"}).experiment
    made = import_published(released, experiment, tmp_path / "mine")
    before = tree(made.folder)
    for restart in (False, True):
        with pytest.raises(ConfigError, match="holds imported weights, not a run"):
            prepare(experiment, data_root=data_root, runs=tmp_path, restart=restart)
    assert tree(made.folder) == before


def test_a_folder_that_exists_is_left_alone(released: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(StorageError, match="exists already"):
        import_published(released, resolve(None, RELEASED).experiment, tmp_path / "mine")
    assert tree(tmp_path / "mine") == {}


def test_a_file_of_another_model_leaves_nothing(tmp_path: Path) -> None:
    torch.save(released_state(d_model=32), tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match=r"bi_linear.bias is \(32,\) in the file and \(24,\) in the model"):
        import_published(tmp_path / "wide.pth", resolve(None, RELEASED).experiment, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["wide.pth"]


def test_projection_at_test_needs_a_projection_that_was_trained(released: Path, tmp_path: Path) -> None:
    projecting = resolve(None, RELEASED | {"matching.project_at_test": True}).experiment
    with pytest.raises(CheckpointError, match="temp_linear was never trained") as caught:
        import_published(released, projecting, tmp_path / "mine")
    assert "matching.project_at_test=false" in caught.value.remedy
    state = torch.load(released, weights_only=True)
    state["temp_linear.weight"][0, 0] = 1.0
    torch.save(state, tmp_path / "trained.pth")
    assert import_published(tmp_path / "trained.pth", projecting, tmp_path / "mine").projection_trained


# --- show -----------------------------------------------------------------------------------------------------------


def cells(out: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    return {row[0]: row[1:] for row in rows}


def test_show_lists_the_tensors_of_a_released_file(released: Path, hcl: Command) -> None:
    code, out, _ = hcl("checkpoint", "show", released)
    assert code == 0
    assert "temporal projection: never trained: its largest weight 0.20" in out
    assert "at most the initial bound 0.20412" in out
    assert cells(out)["query_embed"] == ["17 x 24", "float32", "0"]
    assert cells(out)["encoder.1.num_batches_tracked"] == ["one number", "int64", "0"]
    total = float(torch.load(released, weights_only=True)["bi_linear.weight"].double().sum())
    assert float(cells(out)["bi_linear.weight"][2]) == pytest.approx(total, rel=1e-5)


@pytest.mark.ray
def test_show_tells_of_a_run_its_epoch_and_settings(trained: Run, hcl: Command) -> None:
    code, out, _ = hcl("checkpoint", "show", trained.folder / LAST)
    assert code == 0
    assert "epoch: 3" in out and f"settings digest: {trained.experiment.digest()}" in out and "classes: 4" in out
    assert "temporal projection: trained" in out
    assert cells(out)["heads.tuple_linear.2.weight"][:2] == ["24 x 48", "float32"]
    assert not [name for name in cells(out) if name.startswith("optimizer")]


def test_show_names_what_is_no_file_of_tensors(tmp_path: Path, hcl: Command) -> None:
    (tmp_path / "notes.pth").write_text("no tensors")
    code, _, err = hcl("checkpoint", "show", tmp_path / "notes.pth")
    assert code == 1 and "notes.pth: cannot be read" in err
