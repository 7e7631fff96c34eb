"""Import a released checkpoint as a run that can be evaluated, and list the content of any file: `hcl checkpoint`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import results
from hcl.assembly import models
from hcl.assembly.experiment_files import to_yaml, write_experiment
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.errors import CheckpointError, ConfigError, StorageError
from hcl.files.atomic import whole_folder
from hcl.files.json_files import write_json
from hcl.models.checkpoint import FORMAT, file_digest, read_tensors_only, save_checkpoint, tensors_in
from hcl.models.hcl import HCL
from hcl.models.published import fit_published, read_published, was_never_trained
from hcl.models.tensor_files import state_dict_in, without_wrappers
from orchestration.storage.record_files import write_provenance
from orchestration.training.run_files import BEST, IMPORTED

_PROJECTIONS = ("temp_linear.weight", "heads.temporal_linear.weight")  # name in the release, name here


@dataclass(frozen=True)
class Import:
    """Describe a run made from a released file, its ignored tensors, and whether `temp_linear` was ever trained."""

    folder: Path
    ignored: tuple[str, ...]
    n_tensors: int
    n_classes: int
    projection_trained: bool


def import_published(file: Path, experiment: Experiment, folder: Path, *, command: str = "") -> Import:
    """Create the run `folder` from a released file. It has everything that `hcl evaluate` reads, but no epochs.

    Args:
        experiment: the settings that the file was trained with; its name becomes the folder's.

    Raises:
        ConfigError: if the experiment has another regime.
        CheckpointError: if the file does not fit the experiment, or `matching.project_at_test` needs a projection that
            was never trained.
        StorageError: if the folder exists, or cannot be written.
    """
    if folder.exists():
        raise StorageError("exists already", where=str(folder), remedy="choose a new folder with --to")
    experiment = override(experiment, {"name": folder.name})
    released = read_published(file)
    classifier = released.get("action_classifier.weight")
    n_classes = (
        1 if classifier is None or not classifier.ndim else len(classifier)
    )  # if missing, the comparison below reports it
    with torch.device("meta"):
        model_on_meta = models.make_model(experiment, n_classes, random_weights=True)
    if not isinstance(model_on_meta, HCL):
        raise ConfigError(
            f"a released checkpoint needs train.regime=hcl, got {experiment.train.regime}",
            where=experiment.name,
            remedy="import it with --experiment published, or an experiment made from it",
        )
    state, ignored = fit_published(released, model_on_meta, source=str(file))
    trained = not was_never_trained(state["heads.temporal_linear.weight"])
    if experiment.matching.project_at_test and not trained:
        raise CheckpointError(
            "its temp_linear was never trained (the older release), so projecting at test would multiply by noise",
            where=str(file),
            remedy="import it with --set matching.project_at_test=false, as --experiment published does",
        )
    digest = file_digest(file)
    origin = {"file": str(file.absolute()), "digest": digest, "ignored": list(ignored)}
    with whole_folder(folder) as partial:
        names = [f"class {index} of the released file" for index in range(n_classes)]  # it holds numbers only
        content = {
            "epoch": 0,
            "experiment": to_yaml(experiment),
            "experiment_digest": experiment.digest(),
            "classes": names,
        }
        model = model_on_meta.to_empty(device="cpu")
        model.load_state_dict(state)
        save_checkpoint(partial / BEST, model=model, state=content)
        write_experiment(partial / "experiment.yaml", experiment)
        write_json(partial / IMPORTED, origin)
        digests = {"experiment": experiment.digest(), "released file": digest}
        provenance = results.collect_provenance(command, seeds={"experiment": experiment.seed}, digests=digests)
        write_provenance(partial, results.finished(provenance))
    return Import(folder, ignored, len(state), n_classes, trained)


@dataclass(frozen=True)
class Listing:
    """Hold the content of a file of tensors: facts about it, and a row for each tensor of the model."""

    facts: list[tuple[str, str]]
    tensors: list[dict[str, Any]] = field(default_factory=list)


def list_checkpoint(file: Path) -> Listing:
    """List a checkpoint of ours, a released file or any dict of tensors. Raises CheckpointError."""
    content = read_tensors_only(file, lenient=True)
    is_ours = content.get("format") == FORMAT
    tensors = dict(tensors_in(content.get("model") if is_ours else content))
    state, under = state_dict_in(content)
    facts = [("kind", f"checkpoint of this program ({FORMAT})" if is_ours else "a dict of tensors, such as a release")]
    if is_ours:
        facts += [
            ("epoch", str(content.get("epoch"))),
            ("settings digest", str(content.get("experiment_digest"))),
            ("classes", str(len(classes)) if isinstance(classes := content.get("classes"), list) else "unknown"),
        ]
        counts = {key: len(list(tensors_in(value))) for key, value in content.items() if key != "model"}
        facts += [(f"{key}, not listed", f"{count} tensors") for key, count in counts.items() if count]
    else:
        if under:
            facts.append(("state dict", f"under {under}, which `hcl checkpoint import` looks into"))
        if bare := [str(key) for key, value in content.items() if not list(tensors_in(value))]:
            facts.append(("without tensors", ", ".join(bare[:5])))
    n_values = sum(tensor.numel() for tensor in tensors.values())
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    facts.append(("tensors", f"{len(tensors)} with {n_values:,} values, {n_bytes / 1e6:.1f} MB"))
    facts.append(("digest of the file", file_digest(file)))
    plain = {without_wrappers(str(name)): tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    for weight in (plain[name] for name in _PROJECTIONS if name in plain and plain[name].ndim == 2):
        facts.append(("temporal projection", _describe_projection(weight)))
    return Listing(facts, [_row(name, tensor) for name, tensor in tensors.items()])


def _describe_projection(weight: torch.Tensor) -> str:
    largest, bound = float(weight.abs().max()), weight.shape[1] ** -0.5
    if was_never_trained(weight):
        return f"never trained: its largest weight {largest:.5f} is at most the initial bound {bound:.5f}"
    return f"trained: its largest weight {largest:.5f} exceeds the initial bound {bound:.5f}"


def _row(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    shape = " x ".join(map(str, tensor.shape)) or "one number"
    kind = str(tensor.dtype).removeprefix("torch.")
    return {"tensor": name, "shape": shape, "type": kind, "sum": f"{float(tensor.double().sum()):.6g}"}
