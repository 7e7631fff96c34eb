from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hcl.errors import ConfigError
from hcl.models.baselines import (
    CosineNet,
    MatchingNet,
    ProtoNet,
    RelationNet,
    clip_maps,
    clip_vectors,
    cosine_scores,
    prototype_scores,
)

QUERIES, WAY, SHOT, DIM = 7, 3, 2, 16
GRID = (5, 4)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64)


def vectors(shot: int = SHOT) -> tuple[Tensor, Tensor]:
    return noise(QUERIES, DIM), noise(WAY, shot, DIM, seed=1)


def maps(shot: int = SHOT) -> tuple[Tensor, Tensor]:
    return noise(QUERIES, DIM, *GRID), noise(WAY, shot, DIM, *GRID, seed=1)


def seeded(module, **settings):
    torch.manual_seed(0)
    return module(DIM, **settings).double().eval()


def test_pooling():
    features = noise(2, 3, 7, 5, 4)
    assert clip_vectors(features).shape == (2, 7)
    assert clip_maps(features).shape == (2, 7, 5, 4)
    for clip in range(2):
        for channel in range(7):
            assert clip_vectors(features)[clip, channel] == pytest.approx(float(features[clip, :, channel].mean()))
            cell = sum(float(features[clip, frame, channel, 2, 3]) for frame in range(3)) / 3
            assert clip_maps(features)[clip, channel, 2, 3] == pytest.approx(cell)


# --- a naive loop beside each method: one pair at a time, in plain Python -----------------------------------------


def naive_prototype(query: Tensor, support: Tensor) -> Tensor:
    def score(q: Tensor, shots: Tensor) -> Tensor:
        prototype = sum(shots) / len(shots)
        return -sum((q[axis] - prototype[axis]) ** 2 for axis in range(len(q)))

    return by_pair(query, support, score)


def naive_cosine(query: Tensor, support: Tensor) -> Tensor:
    return by_pair(query, support, lambda q, shots: sum(cosine(q, s) for s in shots) / len(shots))


def naive_matching(net: MatchingNet, query: Tensor, support: Tensor) -> Tensor:
    read, state = net.lstm(support.reshape(-1, 1, support.shape[-1]))
    rows = []
    for q in query:
        query_read, _ = net.lstm(q[None, None], state)
        weights = [torch.exp((query_read[0, 0] * s).sum() / torch.sqrt((s * s).sum())) for s in read[:, 0]]
        shot = support.shape[1]
        rows.append(torch.stack([sum(weights[c * shot : (c + 1) * shot]) / sum(weights) for c in range(len(support))]))
    return torch.stack(rows)


def naive_relation(net: RelationNet, query: Tensor, support: Tensor) -> Tensor:
    def relation(q: Tensor, s: Tensor) -> Tensor:
        pair = F.conv2d(torch.cat([q, s])[None], net.conv1.weight, net.conv1.bias, padding=1)
        pair = F.max_pool2d(F.relu(net.norm1(pair)), 2)
        pair = F.max_pool2d(F.relu(net.norm2(net.conv2(pair))), 2)
        return torch.sigmoid(net.out(F.relu(net.hidden(pair.mean((2, 3))))))[0, 0]

    return by_pair(query, support, lambda q, shots: torch.stack([relation(q, s) for s in shots]).max())


def by_pair(query: Tensor, support: Tensor, score) -> Tensor:
    return torch.stack([torch.stack([score(q, shots) for shots in support]) for q in query])


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / torch.sqrt((a * a).sum() * (b * b).sum())


def cases(shot: int = SHOT):
    """Return each method with its oracle and inputs."""
    matching, relation = seeded(MatchingNet), seeded(RelationNet, chunk_size=3)
    relation.norm1.running_mean.copy_(noise(DIM // 2) / 5)  # a new batch norm would be nearly the identity
    relation.norm1.running_var.copy_(noise(DIM // 2).exp())
    return {
        "prototype": (prototype_scores, naive_prototype, vectors(shot)),
        "cosine": (cosine_scores, naive_cosine, vectors(shot)),
        "matching": (matching, lambda q, s: naive_matching(matching, q, s), vectors(shot)),
        "relation": (relation, lambda q, s: naive_relation(relation, q, s), maps(shot)),
    }


NAMES = list(cases())


@pytest.mark.parametrize("shot", [1, SHOT, 5])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_naive_loop_in_values_and_gradients(name, shot):
    scores, oracle, inputs = cases(shot)[name]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    ours, theirs = scores(*inputs), oracle(*inputs)
    assert ours.shape == (QUERIES, WAY)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    weights = noise(QUERIES, WAY, seed=2)
    for mine, right in zip(gradients(ours, weights, inputs), gradients(theirs, weights, inputs), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_shots_and_queries(name):
    scores, _, (query, support) = cases()[name]
    order = torch.randperm(QUERIES, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scores(query[order], support), scores(query, support)[order])
    if name != "matching":  # it depends on the order of the support
        torch.testing.assert_close(scores(query, support.flip(1)), scores(query, support))
        torch.testing.assert_close(scores(query, support.flip(0)), scores(query, support).flip(1))


@pytest.mark.parametrize("name", NAMES)
def test_a_query_alone_scores_as_in_company(name):
    scores, _, (query, support) = cases()[name]
    torch.testing.assert_close(scores(query[4:5], support), scores(query, support)[4:5])


@pytest.mark.parametrize("scores", [prototype_scores, cosine_scores])
def test_a_class_finds_its_own_clips(scores):
    support = noise(WAY, SHOT, DIM)
    assert scores(support.mean(dim=1), support).argmax(dim=1).tolist() == list(range(WAY))


def test_gradient_of_a_distance_of_zero_is_zero():
    query = noise(1, DIM).requires_grad_()
    prototype_scores(query, query.detach()[None]).sum().backward()
    assert torch.equal(query.grad, torch.zeros_like(query))


def test_matching_gives_probabilities():
    scores = seeded(MatchingNet)(*vectors())
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(QUERIES, dtype=torch.float64))
    assert bool((scores > 0).all())


@pytest.mark.parametrize("chunk_size", [1, 2, 100])
def test_chunks_change_nothing(chunk_size):
    whole, chunked = seeded(RelationNet, chunk_size=QUERIES), seeded(RelationNet, chunk_size=chunk_size)
    torch.testing.assert_close(chunked(*maps()), whole(*maps()))


def test_chunks_do_not_split_the_statistics_of_training():
    whole, chunked = seeded(RelationNet, chunk_size=QUERIES).train(), seeded(RelationNet, chunk_size=2).train()
    torch.testing.assert_close(chunked(*maps()), whole(*maps()))
    torch.testing.assert_close(chunked.norm1.running_mean, whole.norm1.running_mean)


def test_relation_refuses_a_grid_that_it_cannot_halve_twice():
    with pytest.raises(ConfigError, match="needs 4 cells a side, got 5 x 3") as caught:
        seeded(RelationNet)(noise(1, DIM, 5, 3), noise(2, 1, DIM, 5, 3))
    assert "128" in str(caught.value)


@pytest.mark.parametrize(("module", "inputs"), [(MatchingNet, vectors), (RelationNet, maps)])
def test_a_few_steps_learn_an_episode(module, inputs):
    query, support = inputs(1)
    labels = torch.arange(QUERIES) % WAY
    net = seeded(module).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = net.loss(net(query, support), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_losses_are_those_of_their_definitions():
    scores, target = noise(QUERIES, WAY), torch.arange(QUERIES) % WAY
    rows = range(QUERIES)
    of_softmax = [-scores[q].log_softmax(0)[target[q]] for q in rows]
    assert float(ProtoNet().loss(scores, target)) == pytest.approx(float(sum(of_softmax)) / QUERIES)
    sharper = [-(scores[q] / 0.1).log_softmax(0)[target[q]] for q in rows]
    assert float(CosineNet(0.1).loss(scores, target)) == pytest.approx(float(sum(sharper)) / QUERIES)
    probabilities = scores.softmax(dim=1)
    assert float(seeded(MatchingNet).loss(probabilities, target)) == pytest.approx(float(sum(of_softmax)) / QUERIES)
    squares = [(scores[q, c] - float(target[q] == c)) ** 2 for q in rows for c in range(WAY)]
    assert float(seeded(RelationNet).loss(scores, target)) == pytest.approx(float(sum(squares)) / len(squares))


def test_a_class_without_probability_costs_much_and_not_everything():
    scores = torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = seeded(MatchingNet).loss(scores, torch.tensor([0]))
    loss.backward()
    assert 50 < float(loss) < 100 and bool(torch.isfinite(scores.grad).all())


def gradients(scores: Tensor, weights: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad((scores * weights).sum(), inputs)
