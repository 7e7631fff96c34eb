"""Measure the fast copy of a backbone against the original; `make bench` prints CPU time as ratios in one run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hcl.models.backbone import Backbone, make_backbone
from hcl.models.inference import fast_backbone
from hcl.models.precision import autocast
from tests.bench.test_bench_scoring import seconds, tell

N_FRAMES = 8  # of one clip


@pytest.mark.parametrize("side", [96, 224])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50"])
@torch.inference_mode()
def test_frozen_stages(name: str, side: int, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = make_backbone(name, "none").eval()
    fast = fast_backbone(backbone)
    frames = torch.randint(0, 256, (N_FRAMES, 3, side, side), dtype=torch.uint8)

    def encode(network: Backbone, precision: str) -> Callable[[], object]:
        def work() -> object:
            with autocast("cpu", precision):
                return network.below(frames, 4)

        return work

    before = seconds(encode(backbone, "float32"))
    ratios = {precision: before / seconds(encode(fast, precision)) for precision in ("float32", "bfloat16")}
    told = ", ".join(f"{precision} {ratio:.2f}x" for precision, ratio in ratios.items())
    tell(capsys, f"{name} at {side} pixels, 4 stages: {1000 * before / N_FRAMES:.1f} ms a frame; fast copy {told}")
    assert ratios["float32"] > 1.2
