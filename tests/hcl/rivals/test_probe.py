"""Compare the classifiers of a support with what they minimise, with least squares, and with torch's optimiser."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from hcl.rivals.heads import Targets
from hcl.rivals.minimisation import minimise
from hcl.rivals.probe import Probe, ProbeSettings
from tests.hcl.rivals.tiny import EPISODES, QUERIES, SHOT, WAY, episodes, make, noise

KINDS = ("linear", "ridge", "cosine")
LABELS = torch.arange(WAY).repeat_interleave(SHOT)


def vectors(head: Probe) -> tuple[torch.Tensor, torch.Tensor]:
    support, query = (each.detach().mean(dim=-2) for each in episodes(head))
    return functional.normalize(support, dim=-1).flatten(1, 2), functional.normalize(query, dim=-1)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_logistic_regression_is_at_its_minimum(penalty):
    """Compare with torch's L-BFGS on each episode in the whole space, from another start."""
    head = make("probe linear", penalty=penalty, steps=300)
    logits = head(*episodes(head)).logits
    support, query = vectors(head)
    for e in range(EPISODES):
        weights, biases = (torch.randn(*shape, dtype=torch.float64).requires_grad_() for shape in ((WAY, 16), (WAY,)))
        optimiser = torch.optim.LBFGS(
            [weights, biases], max_iter=1000, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
        )

        def closure(e: int = e, weights=weights, biases=biases, optimiser=optimiser) -> torch.Tensor:
            optimiser.zero_grad()
            losses = functional.cross_entropy(support[e] @ weights.T + biases, LABELS, reduction="sum")
            value = losses + penalty / 2 * weights.square().sum()
            value.backward()
            return value

        optimiser.step(closure)
        expected = (query[e] @ weights.T + biases).softmax(dim=-1)  # a shift of all biases changes nothing
        torch.testing.assert_close(logits[e].softmax(dim=-1), expected, rtol=1e-4, atol=1e-5)


def test_ridge_regression_against_least_squares():
    """Compare with the least squares of the centred points and a row for each penalised weight."""
    head = make("probe ridge", penalty=0.3)
    logits = head(*episodes(head)).logits
    support, query = vectors(head)
    wanted = functional.one_hot(LABELS).double()
    for e in range(EPISODES):
        mean = support[e].mean(dim=0)
        rows = torch.cat([support[e] - mean, 0.3**0.5 * torch.eye(16, dtype=torch.float64)])
        goal = torch.cat([wanted - wanted.mean(dim=0), torch.zeros(16, WAY, dtype=torch.float64)])
        weights = torch.linalg.lstsq(rows, goal).solution
        torch.testing.assert_close(logits[e], (query[e] - mean) @ weights + wanted.mean(dim=0))


def test_the_cosine_classifier_improves_on_the_means():
    """Check that the fit lowers the loss on the support below that of the classes' means, where it starts."""
    steps = {n: make("probe cosine", steps=n) for n in (0, 100)}
    support, _ = (each.detach() for each in episodes(steps[0]))
    clips = support.flatten(1, 2)  # the support itself as queries
    losses = {
        n: functional.cross_entropy(head(support, clips).logits.flatten(0, 1), LABELS.repeat(EPISODES))
        for n, head in steps.items()
    }
    assert losses[100] < 0.9 * losses[0]
    points, queries = vectors(steps[0])
    means = functional.normalize(points.unflatten(1, (WAY, SHOT)).mean(dim=2), dim=-1)
    expected = queries @ means.transpose(1, 2) / 0.1
    torch.testing.assert_close(steps[0](*episodes(steps[0])).logits, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_episodes_of_a_batch_do_not_meet(kind):
    head = make(f"probe {kind}")
    support, query = episodes(head)
    harder = torch.cat([support, support[:1] + 3 * noise(*support[:1].shape, seed=9)])  # needs other numbers of steps
    queries = torch.cat([query, query[:1]])
    together = head(harder, queries).logits
    alone = torch.cat([head(harder[e : e + 1], queries[e : e + 1]).logits for e in range(EPISODES + 1)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert torch.equal(head(harder, queries).logits, together)


@pytest.mark.parametrize("kind", KINDS)
def test_separable_classes_are_separated(kind):
    """Check with 20 clips a class of another width than the support's span, in single precision."""
    head = Probe(ProbeSettings(classifier=kind))
    centres = noise(1, WAY, 1, 1, 256, dtype=torch.float32)
    support = centres + 0.5 * noise(1, WAY, 20, 4, 256, seed=1, dtype=torch.float32)
    query = (centres + 0.5 * noise(1, WAY, QUERIES, 4, 256, seed=2, dtype=torch.float32)).flatten(1, 2)
    logits = head(support, query).logits
    assert logits.dtype == torch.float32
    assert (logits.argmax(dim=-1)[0] == torch.arange(WAY).repeat_interleave(QUERIES)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_support_clips_are_no_obstacle(kind):
    head = make(f"probe {kind}")
    support, query = episodes(head)
    equal = support[:, :, :1].expand(-1, -1, SHOT, -1, -1)
    assert head(equal, query).logits.isfinite().all()
    assert head(equal[:, :1].expand(-1, WAY, -1, -1, -1), query).logits.isfinite().all()


def test_the_length_of_features_counts_if_it_is_kept():
    support, query = episodes(make("probe linear"))
    unit, kept = (make("probe linear", unit_length=each)(support, query).logits for each in (True, False))
    assert not torch.allclose(unit, kept)
    torch.testing.assert_close(make("probe linear")(9 * support, 9 * query).logits, unit, rtol=1e-5, atol=1e-6)


def test_a_probe_trains_nothing():
    head = make("probe linear")
    output = head(*episodes(head))
    assert not output.logits.requires_grad and not list(head.parameters())
    assert head.losses(output, Targets(torch.zeros(EPISODES, QUERIES, dtype=torch.long))) == {} == head.weights


def test_the_minimum_of_quadratics_and_of_rosenbrocks_valley():
    """Minimise functions of known minimum whose curvatures differ by a factor of 1,000."""
    curvature, centre = torch.logspace(0, 3, 12, dtype=torch.float64), noise(3, 12)
    found = minimise(lambda x: (curvature * (x - centre).square()).sum(dim=1), torch.zeros(3, 12).double(), steps=200)
    torch.testing.assert_close(found, centre, rtol=1e-6, atol=1e-8)

    def valley(x: torch.Tensor) -> torch.Tensor:
        return 100 * (x[:, 1] - x[:, 0] ** 2) ** 2 + (1 - x[:, 0]) ** 2

    found = minimise(valley, torch.tensor([[-1.2, 1.0], [0.0, 0.0]]).double(), steps=300)
    torch.testing.assert_close(found, torch.ones(2, 2).double(), rtol=1e-5, atol=1e-6)


def test_where_no_step_lowers_the_value_the_point_stays():
    start = torch.ones(2, 3).double()

    def pit(x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1) + 9 * (x != start).any(dim=1)

    assert torch.equal(minimise(pit, start, steps=5), start)
