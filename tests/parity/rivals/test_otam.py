"""Compare OTAM with the recorded cases; its aligned cost is also compared with loops in tests/hcl/matching."""

from __future__ import annotations

import pytest
import torch

from hcl.rivals.otam import Otam, OtamSettings
from tests.parity.rivals.recorded import compare, run

CASES = ["otam_1shot", "otam_5shot"]
MODES = {"published": OtamSettings(), "without overflow": OtamSettings(plain_exponentials=False)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case, mode, dtype):
    compare(Otam(MODES[mode]), case, dtype)


def test_opposed_clips_need_double_precision_as_released():
    compare(Otam(), "otam_opposed", torch.float64)
    _, output, _ = run(Otam(), "otam_opposed", torch.float32)
    assert not output.logits.isfinite().all()


def test_opposed_clips_are_computed_in_single_precision_without_plain_exponentials():
    compare(Otam(MODES["without overflow"]), "otam_opposed", torch.float32)
