"""Compare MoLo with the recorded case, and its inner features with the recorded sketches."""

from __future__ import annotations

import pytest
import torch

from hcl.rivals.heads import divided, joined
from hcl.rivals.molo import Molo, MoloSettings
from tests.parity.recorded import relative_error
from tests.parity.rivals.recorded import CASES, arrays, compare, episode, fill

CASE = "molo_1shot"


def head(**changes) -> Molo:
    settings = CASES[CASE]["settings"]
    weights = {name: settings[name] for name in ("classification", "contrastive", "reconstruction")}
    given = {**weights, "position_dropout": 0.0, "frame_dropout": 0.0, "hidden_dropout": 0.0, **changes}
    return Molo(CASES[CASE]["episode"]["dim"], settings["classes"], MoloSettings(**given))


DOUBLE = pytest.param(torch.float64, marks=pytest.mark.long)  # convolutions in double precision take a minute


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=str)
def test_values_and_gradients(dtype):
    compare(head(), CASE, dtype)


@torch.no_grad()
def test_evaluation_gives_the_same_logits_without_the_decoder():
    molo = head()
    fill(molo, CASE, torch.float64)
    given = episode(CASE, torch.float64)
    output = molo.eval()(given.support, given.query)
    assert output.differences is None and not output.contrastive
    assert relative_error(output.logits[0], arrays(CASE), "logits") < 1e-5


@torch.no_grad()
def test_inner_features():
    molo = head()
    fill(molo, CASE, torch.float64)
    given = episode(CASE, torch.float64)
    encoded = divided(molo.encode(joined(given.support, given.query)), given.support, given.query)
    for name, tokens in zip(("support", "query"), (encoded[0][0, :, 0], encoded[1][0]), strict=True):
        frames, motion = tokens.split([9, 8], dim=1)
        assert relative_error(frames, arrays(CASE), f"inner_frames_{name}") < 1e-5
        assert relative_error(motion, arrays(CASE), f"inner_motion_{name}") < 1e-5
