"""Test autocast in training and at test: tokens are rounded, and all later steps are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hcl.clips.batches import sampled_batches
from hcl.config import REGIMES
from hcl.evaluation.head_methods import PooledHead
from hcl.evaluation.matcher import Matcher
from hcl.evaluation.methods import HierarchicalMatching
from hcl.models.encoding import encode, features_of
from hcl.models.features import unpack
from hcl.models.precision import autocast, emulated_on_cpu, in_full_precision, set_convolutions
from hcl.rivals.model import HeadModel
from hcl.training.process_group import SingleProcess
from tests.hcl.evaluation.test_matcher import SIGMAS, Clips
from tests.hcl.models.test_hcl import pixels, tiny_model
from tests.hcl.training.test_regimes import LABELS, Spots, make


def test_the_forward_pass_is_rounded_where_asked_for() -> None:
    layer, x = nn.Linear(3, 2), torch.ones(1, 3)
    for precision, dtype in [("bfloat16", torch.bfloat16), ("float32", torch.float32), ("tf32", torch.float32)]:
        with autocast("cpu", precision):
            assert layer(x).dtype == dtype
            with in_full_precision("cpu"):
                assert layer(x).dtype == torch.float32
            assert layer(x).dtype == dtype


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_training_and_test_match_the_same_features(precision: str) -> None:
    """Check that training, validation and evaluation compare the same features bit for bit."""
    model, clips = tiny_model().eval(), pixels(6)
    with torch.no_grad(), autocast("cpu", precision):
        trained, _ = model(clips)
    tokens, rows = encode(model, Clips(clips), range(6), precision=precision)
    tested = features_of(model.heads, tokens, rows, project=True)
    method = HierarchicalMatching(Matcher("auto", True, {}), SIGMAS)
    kept = unpack(method.keep(model, clips, None, precision=precision))  # as in `hcl evaluate`
    assert torch.equal(kept.patches[0], tested.patches[0]) and torch.equal(kept.tuples[1], tested.tuples[1])
    for name in ("patches", "tuples"):
        for ours, theirs in zip(getattr(trained, name), getattr(tested, name), strict=True):
            assert ours.dtype == theirs.dtype == torch.float32 and torch.equal(ours, theirs)
    assert torch.equal(trained.clip, tested.clip)
    assert not torch.equal(tested.clip, model(clips)[0].clip)  # because tokens are rounded


@pytest.mark.parametrize("name", [name for name in REGIMES if name != "hcl"])
def test_the_heads_of_the_regimes_compare_the_same_rounded_features(name: str) -> None:
    """Check that in training and at test the compared features are rounded, and the comparison is not."""
    _, model = make(name, model__pooled_from="encoder")
    model = model.eval()
    clips = torch.stack([Spots()[clip] for clip in range(6)])
    kept = PooledHead().keep(model, clips, None, precision="bfloat16")["pooled"]
    episode = () if name in ("classification", "probe") else (3, 1)
    with torch.no_grad(), autocast("cpu", "bfloat16"):
        rounded = model.frames if isinstance(model, HeadModel) else model.tokens
        assert rounded(clips)[0].dtype == torch.bfloat16
        trained = model(clips, *episode)
    trained = trained.logits[0] if isinstance(model, HeadModel) else trained
    with torch.no_grad():
        tested = model.scores(kept, *episode) if episode else model.head.classify(kept)
    assert trained.dtype == tested.dtype == torch.float32
    assert torch.equal(trained, tested)


@pytest.mark.parametrize("name", REGIMES)
def test_every_loss_is_computed_in_float32(name: str) -> None:
    regime, model = make(name, model__pooled_from="encoder")
    batch = next(sampled_batches(regime.sampler, Spots(), LABELS, steps=1, epoch=0))
    model.train()
    heads: set[torch.dtype] = set()
    for part in model.head.modules() if hasattr(model, "head") else model.heads.modules():
        part.register_forward_hook(lambda module, inputs, output: heads.update(_dtypes(output)))
    loss = regime.loss(model, group=SingleProcess(), device="cpu", precision="bfloat16")(batch)
    assert loss.total.dtype == torch.float32 and {value.dtype for value in loss.terms.values()} == {torch.float32}
    assert heads <= {torch.float32}, "a part of the head ran under autocast"


def _dtypes(output: object) -> set[torch.dtype]:
    if isinstance(output, torch.Tensor):
        return {output.dtype} if output.is_floating_point() else set()
    if isinstance(output, tuple):
        return {dtype for one in output for dtype in _dtypes(one)}
    return set()


def test_float32_convolutions_are_rounded_on_a_gpu_for_tf32_alone() -> None:
    conv, products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    try:
        for precision, expected in [("tf32", "tf32"), ("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")]:
            set_convolutions(precision)
            assert (conv.fp32_precision, products.fp32_precision) == (expected, "ieee")
            assert torch.backends.cudnn.rnn.fp32_precision == "ieee"
            nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3))  # torch checks the flags together
    finally:
        set_convolutions("float32")


@pytest.mark.parametrize(
    ("flags", "emulated"),
    [
        ({}, ("bfloat16", "float16")),
        ({"avx512_bf16": True}, ("float16",)),
        ({"amx_bf16": True, "amx_fp16": True}, ()),
        ({"architecture": "aarch64"}, ()),
    ],
)
def test_a_processor_without_the_instructions_emulates(
    flags: dict[str, object], emulated: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"} | flags)
    assert emulated_on_cpu() == emulated
