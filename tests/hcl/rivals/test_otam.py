"""Check what the switches of OTAM's oddities change."""

from __future__ import annotations

import torch

from hcl.rivals.heads import in_mode
from hcl.rivals.otam import Otam, OtamSettings
from tests.hcl.rivals.tiny import episodes, make

CORRECTED = in_mode(OtamSettings, "corrected")


def test_oddity_1_opposed_clips_have_finite_logits_in_single_precision():
    support, query = episodes(make("otam"), frames=8, dtype=torch.float32)
    released, corrected = (Otam(settings)(support, -query).logits for settings in (OtamSettings(), CORRECTED))
    assert released.isinf().any() and corrected.isfinite().all()


def test_oddity_2_the_temperature_is_a_setting_and_one_half_is_the_released_sum():
    head = make("otam")
    support, query = episodes(head)
    logits = head(support, query).logits
    torch.testing.assert_close(make("otam", temperature=2.0)(support, query).logits, logits / 4)


def test_oddity_3_short_features_are_as_near_as_long_ones():
    support, query = episodes(make("otam"))
    for settings, is_same in ((OtamSettings(), False), (CORRECTED, True)):
        head = Otam(settings)
        logits = head(support, query).logits
        assert torch.allclose(head(support / 50, query / 50).logits, logits) == is_same
