"""Check that the settings of other methods are those of their heads, in both modes."""

from __future__ import annotations

import pytest

from hcl.config import REGIMES
from hcl.config.resolve import resolve
from hcl.rivals.heads import in_mode
from hcl.rivals.hyrsm import HyrsmSettings
from hcl.rivals.molo import MoloSettings
from hcl.rivals.otam import OtamSettings
from hcl.rivals.probe import ProbeSettings
from hcl.rivals.trx import TrxSettings

HEADS = {"otam": OtamSettings, "trx": TrxSettings, "hyrsm": HyrsmSettings, "molo": MoloSettings, "probe": ProbeSettings}


@pytest.mark.parametrize("mode", ["published", "corrected"])
@pytest.mark.parametrize("name", HEADS)
def test_a_section_has_the_settings_of_its_head_in_each_mode(name: str, mode: str) -> None:
    section = resolve(None, {"train.regime": name, "mode": mode, "model.pooled_from": "encoder"}).experiment.regime
    assert HEADS[name](**section.model_dump()) == in_mode(HEADS[name], mode)


def test_what_is_set_stays_in_mode_published() -> None:
    resolved = resolve(None, {"train.regime": "hyrsm", "mode": "published", "regime.scale": 2.0})
    assert resolved.experiment.regime.scale == 2.0  # type: ignore[attr-defined]
    assert resolved.experiment.regime.attention_dropout == 0.1  # type: ignore[attr-defined]
    assert resolved.origins["regime.attention_dropout"] == "mode: published"


def test_hyrsm_plus_plus_is_hyrsm_with_the_temporal_term() -> None:
    section = REGIMES["hyrsm++"].settings()
    plus = HyrsmSettings(**section.model_dump())
    assert plus == in_mode(HyrsmSettings, "corrected", temporal=0.3)
