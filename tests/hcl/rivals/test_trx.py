"""Check TRX's chunks of tuples, its losses and what the switches of its oddities change."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from hcl.rivals.heads import in_mode
from hcl.rivals.trx import Trx, TrxSettings
from tests.hcl.rivals.tiny import CHANNELS, QUERIES, draws, episodes, make, noise, targets


@pytest.mark.parametrize("chunk_size", [1, 7, 30])
def test_chunks_change_neither_logits_nor_gradients(chunk_size):
    """Compare chunks that end within a query with the whole, where dropout acts."""
    found = []
    for size in (chunk_size, 4096):
        head = make("trx", chunk_size=size, dropout=0.2)
        support, query = episodes(head)
        logits = head(support, query, draws()).logits
        parameters = [each for each in head.parameters() if each.requires_grad]
        found.append((logits, torch.autograd.grad(logits.square().sum(), [support, query, *parameters])))
    torch.testing.assert_close(found[0], found[1])


def test_the_memory_of_chunks_is_bounded():
    """Count what a forward pass keeps for the backward pass: with chunks, no mixture of tuples."""
    kept = {}
    for size in (10, 4096):
        head, numbers = make("trx", chunk_size=size, key_dim=101), {}

        def keep(tensor, numbers=numbers):
            storage = tensor.untyped_storage()
            numbers[storage.data_ptr()] = storage.nbytes()
            return tensor

        support, query = noise(1, 31, 1, 4, CHANNELS), noise(1, 5, 4, CHANNELS, seed=1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            head(support, query)
        kept[size] = sum(numbers.values())
    assert kept[10] < kept[4096] / 3


def test_oddity_4_the_norm_that_nothing_reads_can_be_left_out():
    released, corrected = Trx(CHANNELS), Trx(CHANNELS, in_mode(TrxSettings, "corrected"))
    unused = {f"transformers.{place}.norm_v.{kind}" for place in (0, 1) for kind in ("weight", "bias")}
    assert released.state_dict().keys() - corrected.state_dict().keys() == unused
    corrected.load_state_dict(released.state_dict(), strict=False)
    support, query = episodes(released, dtype=torch.float32)
    assert torch.equal(released.eval()(support, query).logits, corrected.eval()(support, query).logits)
    assert {name for name, each in released.named_parameters() if not each.requires_grad} == unused


def test_oddity_6_the_loss_is_a_sum_or_a_mean_over_queries():
    losses = {}
    for kind in ("sum", "mean"):
        head = make("trx", loss=kind)
        output = head(*episodes(head))
        losses[kind] = head.losses(output, targets())["match"]
    rows = zip(output.logits, targets().labels, strict=True)
    each = [functional.cross_entropy(logits, labels, reduction="sum") for logits, labels in rows]
    torch.testing.assert_close(losses["sum"], sum(each) / len(each))
    torch.testing.assert_close(losses["sum"], QUERIES * losses["mean"])


def test_oddity_7_each_size_of_tuples_drops_other_features():
    head = make("trx", dropout=0.5, tuple_sizes=(2, 2), position_scale=0.0)
    clips = torch.ones(3, 4, CHANNELS, dtype=torch.float64)
    keys = torch.arange(3)
    dropped = []
    for transformer in head.transformers:
        transformer.encode = lambda frames: dropped.append(frames == 0) or frames
    head.encode(clips, keys)
    assert len(dropped) == 2 and all(0.2 < each.double().mean() < 0.8 for each in dropped)
    assert not torch.equal(*dropped)


def test_a_tuple_needs_frames_enough():
    head = make("trx")
    with pytest.raises(ValueError, match="a tuple of 3 frames needs clips of at least 3 frames"):
        head(*episodes(head, frames=2))
