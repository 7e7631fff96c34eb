"""Hold every head to one contract: batched equals one query at a time, episodes and queries do not meet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hcl.rivals.heads import Draws, Head, Targets, divided, in_mode, joined, pair_scores
from hcl.rivals.otam import OtamSettings
from tests.architecture.pages import ROOT, read_page
from tests.hcl.rivals.naive import loop
from tests.hcl.rivals.tiny import (
    CLASSES,
    EPISODES,
    FRAMES,
    HEADS,
    LEARNING,
    QUERIES,
    STILL_HYRSM,
    STILL_MOLO,
    WAY,
    draws,
    episodes,
    make,
    targets,
    total,
)

WITH_DROPOUT = {
    "trx": {"dropout": 0.3},
    "hyrsm": {"attention_dropout": 0.3, "episode_dropout": 0.3},
    "hyrsm++": {"position_dropout": 0.3, "frame_dropout": 0.3},
    "molo": {"position_dropout": 0.3, "frame_dropout": 0.3, "hidden_dropout": 0.3, "reconstruction": 0.0},
}
DROPOUT = {"trx": ("dropout",), "hyrsm": tuple(STILL_HYRSM), "molo": tuple(STILL_MOLO)}
BY_PAIRS = {"otam": (1, 2, 3), "trx": (1,), "molo": (1,)}


def gradients(head, value: torch.Tensor, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    named = {f"input {place}": each for place, each in enumerate(inputs)}
    named |= {name: each for name, each in head.named_parameters() if each.requires_grad}
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return {name: each for name, each in zip(named, found, strict=True) if each is not None}


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("shot", [1, 2])
def test_a_batch_of_episodes_equals_loops_over_episodes_and_queries(name, shot):
    head = make(name)
    support, query = episodes(head, shot=shot)
    output = head(support, query)
    logits, aside = loop(head, support, query)
    torch.testing.assert_close(output.logits, logits)
    found = {"logits": output.logits, **output.contrastive}
    expected = {"logits": logits, **aside}
    if output.temporal is not None:
        found["temporal"], expected["temporal"] = output.temporal, aside["temporal"].mean(dim=1)
    assert found.keys() == expected.keys()
    weights = {key: torch.rand(value.shape, dtype=value.dtype) for key, value in expected.items()}
    ours, theirs = (
        gradients(head, sum((weights[key] * value).sum() for key, value in each.items()), support, query)
        for each in (found, expected)
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours, theirs)
    assert {"input 0", "input 1"} <= ours.keys()


@pytest.mark.parametrize("name", HEADS)
def test_the_contract(name):
    head = make(name)
    assert isinstance(head, Head)
    output = head(*episodes(head))
    assert output.logits.shape == (EPISODES, QUERIES, WAY)
    terms = head.losses(output, targets())
    assert terms.keys() == head.weights.keys()
    assert all(term.shape == () and term > 0 for term in terms.values())


@pytest.mark.parametrize("name", LEARNING)
def test_losses_are_the_means_of_the_episodes(name):
    """Compare a batch with its episodes alone: terms, gradients of the sum and running statistics."""
    head, alone = make(name), make(name)
    (support, query), goal = episodes(head), targets()
    together = head.losses(head(support, query), goal)
    one_by_one = []
    for e in range(EPISODES):
        own = Targets(goal.labels[e : e + 1], goal.classes[e : e + 1], goal.images[e : e + 1])
        one_by_one.append(alone.losses(alone(support[e : e + 1], query[e : e + 1]), own))
    means = {term: sum(each[term] for each in one_by_one) / EPISODES for term in together}
    torch.testing.assert_close(together, means)
    ours = gradients(head, sum(together.values()), support, query)
    theirs = gradients(alone, sum(means.values()), support, query)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(dict(head.named_buffers()), dict(alone.named_buffers()))


@pytest.mark.parametrize("name", HEADS)
def test_a_query_depends_on_the_support_and_itself_alone(name):
    head = make(name).eval()
    support, query = episodes(head)
    whole = head(support, query).logits
    torch.testing.assert_close(head(support, query[:, 1:2]).logits, whole[:, 1:2])
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(head(support[:, order], query).logits, whole[:, :, order])
    assert not torch.allclose(head(support.flip(0), query).logits, whole)
    torch.testing.assert_close(head(support.flip(2), query).logits, whole)  # the order of a class's shots


@pytest.mark.parametrize("name", HEADS)
def test_the_two_parts_are_the_whole(name):
    head = make(name).eval()
    support, query = episodes(head)
    encoded = divided(head.encode(joined(support, query)), support, query)
    assert torch.equal(head.match(*encoded).logits, head(support, query).logits)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("shot", [1, 3])
def test_logits_follow_from_pairs_where_a_head_says_so(name, shot):
    head = make(name).eval()
    assert head.scores_by_pairs(shot) == (shot in BY_PAIRS.get(name, ()))
    support, query = episodes(head, shot=shot)
    clips, queries = head.encode(support[0].flatten(0, 1)), head.encode(query[0])
    if not head.scores_by_pairs(1):
        with pytest.raises(ValueError, match="depend on all supports"):
            pair_scores(head, queries, clips)
        return
    pairs = pair_scores(head, queries, clips, chunk_size=2)
    means = pairs.unflatten(1, (WAY, shot)).mean(dim=2)
    is_equal = torch.allclose(means, head(support, query).logits[0])
    assert is_equal == head.scores_by_pairs(shot)


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_follows_the_keys_of_the_clips(name):
    head = make(name, **WITH_DROPOUT[name])
    support, query = episodes(head)
    keys = draws()
    first = head(support, query, keys).logits
    assert torch.equal(head(support, query, keys).logits, first)
    assert not torch.allclose(head(support, query, draws(first=99)).logits, first)
    own = Draws(keys.support[1:], keys.query[1:])
    torch.testing.assert_close(head(support[1:], query[1:], own).logits, first[1:])
    single = Draws(keys.support, keys.query[:, 2:3])
    torch.testing.assert_close(head(support, query[:, 2:3], single).logits, first[:, 2:3])
    with pytest.raises(ValueError, match="needs the draws of each clip"):
        head(support, query)
    head.eval()
    assert torch.equal(head(support, query, keys).logits, head(support, query).logits)


@pytest.mark.parametrize(("name", "n_dropouts"), [("trx", 2), ("hyrsm", 4), ("molo", 8)])
def test_no_two_dropouts_draw_the_same_values(name, n_dropouts, monkeypatch):
    """Check that each dropout has a place of its own."""
    head = make(name, torch.float32, **dict.fromkeys(DROPOUT[name], 0.3))
    places = []
    monkeypatch.setattr("hcl.rivals.heads.dropped", lambda x, keys, place, rate: places.append((place, rate)) or x)
    head(*episodes(head, dtype=torch.float32), draws())
    assert sorted(places) == [(place, 0.3) for place in range(n_dropouts)]


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("mode", ["published", "corrected"])
def test_half_precision_stays_finite(name, mode):
    changes = type(make(name).settings).CORRECTED if mode == "corrected" else {}
    rates = {rate: 0.0 for rate in changes if rate.endswith("dropout")}
    head = make(name, torch.float32, **{**changes, **rates})
    support, query = episodes(head, dtype=torch.float32)
    goal = targets(dtype=torch.float32)
    exact = head(support, query).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(support, query)
        loss = total(head, output, goal)
    found = gradients(head, loss, support, query)
    assert output.logits.isfinite().all() and loss.isfinite()
    assert all(each.isfinite().all() for each in found.values())
    torch.testing.assert_close(output.logits.float(), exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", ["otam", "hyrsm", "molo"])
def test_frames_of_zeros_give_finite_logits_and_gradients(name):
    head = make(name)
    support, query = episodes(head)
    empty = (support * 0).detach().requires_grad_()
    loss = total(head, head(empty, query), targets())
    assert loss.isfinite()
    assert all(each.isfinite().all() for each in gradients(head, loss, empty, query).values())


@pytest.mark.parametrize("name", HEADS)
def test_an_episode_without_support_is_refused(name):
    """Check oddity 5: the released TRX gives a class without support the highest possible logit."""
    head = make(name)
    support, query = episodes(head)
    with pytest.raises(ValueError, match="needs a support clip of each class"):
        head(support[:, :, :0], query)


@pytest.mark.parametrize("name", ["hyrsm", "molo"])
def test_classification_needs_the_classes_of_the_clips(name):
    head = make(name)
    output = head(*episodes(head))
    n_each = (FRAMES,) if name == "hyrsm" else ()
    assert output.class_logits.shape == (EPISODES, 2 * WAY + QUERIES, *n_each, CLASSES)
    with pytest.raises(ValueError, match="needs class logits and the training class"):
        head.losses(output, replace(targets(), classes=None))


def test_a_mode_has_a_name():
    assert in_mode(OtamSettings, "published") == OtamSettings()
    assert in_mode(OtamSettings, "corrected", smoothing=0.2) == OtamSettings(
        smoothing=0.2, plain_exponentials=False, cosine_offset=0.0
    )
    with pytest.raises(ValueError, match="neither"):
        in_mode(OtamSettings, "sane")


def test_the_example_of_the_readme_runs():
    page = read_page(ROOT / "hcl/rivals/README.md")
    values: dict = {}
    exec(page.python[0], values)
    assert values["loss"].requires_grad and values["output"].logits.shape == (2, 10, 5)
