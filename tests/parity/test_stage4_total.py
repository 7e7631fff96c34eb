import pytest
import torch

from hcl.training.losses import TERMS, classification_loss, weighted_total
from tests.parity.recorded import CASES, check, load, tensor

RELEASED = ("sigma_ce", "sigma_global", "sigma_temp", "sigma_temp_cycle", "sigma_spa", "sigma_spa_cycle")


@pytest.mark.parametrize("setting", range(4))
def test_weighted_total(setting):
    sigmas, recorded = CASES["s4_loss"][setting], load("s4_loss")
    ce = classification_loss(tensor(recorded["logits"]), torch.from_numpy(recorded["labels"]))
    check("stage 4, weighted total", "values", sigmas["sigma_ce"] * ce, recorded, f"ce_{setting}")
    terms = dict(zip(TERMS, [ce, *tensor(recorded["contrasts"])], strict=True))
    total = weighted_total(terms, {ours: sigmas[released] for ours, released in zip(TERMS, RELEASED, strict=True)})
    check("stage 4, weighted total", "values", total.reshape(1), recorded, f"loss_{setting}")
