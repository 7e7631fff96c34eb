"""Test that a released file, imported like `hcl checkpoint import`, gives the recorded outputs of stage 6.

The file holds the recorded run's weights under the released names and shapes, in each of its possible forms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hcl.assembly import arguments, models
from hcl.assembly.experiment_files import load_resolved
from hcl.clips.episodes import Episodes
from hcl.config import Experiment
from hcl.config.resolve import resolve
from hcl.evaluation.matcher import levels_by_shot
from hcl.evaluation.scores import fused
from hcl.models.hcl import HCL
from orchestration.training.release_import import import_published
from orchestration.training.run_files import BEST
from tests.golden.weights import deterministic_state
from tests.parity.recorded import check, check_predictions, hidden_of, load, published_name
from tests.parity.test_stage6_images import images, terms_of

STAGE = "stage 6, imported"
RECORDED_RUN: dict[str, Any] = {"model.backbone": "resnet18", "model.d_model": 48}
D_MODEL = RECORDED_RUN["model.d_model"]


def released_file(path: Path, form: str) -> Path:
    """Save the recorded run's weights like the release: with `encoder.module.`, with `module.` before all, or plain."""
    with torch.device("meta"):
        both = resolve("published", RECORDED_RUN | {"matching.tuple_sizes": [2, 3]}).experiment
        model = models.make_model(both, 76, random_weights=True)
    shapes = {published_name(key): tuple(value.shape) for key, value in model.state_dict().items()}
    shapes |= {"query_embed": (17, D_MODEL), "st_transformer_encoder.input_proj.weight": (D_MODEL, 512, 1, 1)}
    state = {name: torch.from_numpy(value) for name, value in deterministic_state(shapes).items()}
    if form == "encoder.module.":
        state = {key.replace("encoder.", form, 1) if key.startswith("encoder.") else key: v for key, v in state.items()}
    elif form == "module.":
        state = {form + key: value for key, value in state.items()}
    torch.save(state, path)
    return path


def imported(folder: Path, form: str, **settings: Any) -> tuple[Experiment, HCL]:
    """Return the experiment and the model that `hcl evaluate` reads from the run's folder."""
    changes = RECORDED_RUN | {path.replace("__", "."): value for path, value in settings.items()}
    run = folder / "released"
    import_published(released_file(folder / "released.pth", form), resolve("published", changes).experiment, run)
    experiment = load_resolved(run / "experiment.yaml")
    assert experiment.mode == "published"
    return experiment, models.trained_model(experiment, run / BEST)


@torch.no_grad()
def test_forward(tmp_path: Path) -> None:
    recorded = load("s6_forward_r18_default")
    _, model = imported(tmp_path, "encoder.module.")
    clips = images("s6_images_B3")
    features, logits = model(clips)
    check(STAGE, "values", hidden_of(model.tokens(clips)[0]), recorded, "hs")
    check(STAGE, "values", logits, recorded, "logits")
    check(STAGE, "values", terms_of(features), recorded, "contrasts")


@torch.no_grad()
@pytest.mark.parametrize(("variant", "form"), [("default", "plain"), ("full", "module.")])
def test_one_shot_episode_by_the_settings_of_published_mode(variant: str, form: str, tmp_path: Path) -> None:
    recorded = load("s6_test_r18_shot1")
    full = {"matching__tuple_sizes": [2, 3], "matching__multi_scale": True} if variant == "full" else {}
    experiment, model = imported(tmp_path, form, **full)
    tokens, rows = model.tokens(images("s6_test_r18_shot1"))
    episode = Episodes(np.arange(5)[None], np.arange(5).reshape(1, 5, 1), np.arange(5, 30).reshape(1, 5, 5))
    [levels] = levels_by_shot(model.heads, tokens, rows, [episode], arguments.test_matcher(experiment))
    for ours, released in zip(levels, ("global_sim", "temp_sims", "spa_sims"), strict=True):
        check(STAGE, "values", ours[0], recorded, f"{variant}_{released}")
    scores = fused(levels, arguments.sigmas_of_fusion(experiment))[0]
    check(STAGE, "values", scores, recorded, f"{variant}_sims")
    check_predictions(scores, recorded, f"{variant}_")
