"""Compute the logits of one query at a time, as the methods are described: the oracle of the heads, and of their speed.

Each function takes a head with its weights, the support (way, shot, frame, ...) and one query (frame, ...) of one
episode, and returns the logits of the classes and by name what else the losses need of the query. Dropout is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from hcl.rivals.hyrsm import Hyrsm
from hcl.rivals.molo import Molo
from hcl.rivals.otam import Otam
from hcl.rivals.trx import Trx

Logits = tuple[Tensor, dict[str, Tensor]]


def cosine(x: Tensor, y: Tensor, offset: float) -> Tensor:
    """Return the cosines of the rows of two matrices."""
    lengths = x.norm(dim=-1)[:, None] * y.norm(dim=-1)[None]
    return x @ y.T / (lengths + offset if offset else lengths)


# --- OTAM ---------------------------------------------------------------------------------------------------------


def otam(head: Otam, support: Tensor, query: Tensor) -> Logits:
    def cost(shot: Tensor) -> Tensor:
        distance = 1 - cosine(query, shot, head.settings.cosine_offset)
        return aligned(distance, head.settings.smoothing) + aligned(distance.T, head.settings.smoothing)

    return torch.stack([-sum(map(cost, shots)) / len(shots) for shots in support]), {}


def aligned(cost: Tensor, smoothing: float) -> Tensor:
    """Fill the table of OTAM's alignment cell by cell."""
    padded = functional.pad(cost, (1, 1))
    n_rows, n_columns = padded.shape
    total = {(0, m): padded[0, : m + 1].sum() for m in range(n_columns)}
    for row in range(1, n_rows):
        total[row, 0] = padded.new_zeros(())
        for m in range(1, n_columns):
            before = [total[row - 1, m - 1], total[row, m - 1]] + (
                [total[row - 1, m]] if m in (1, n_columns - 1) else []
            )
            total[row, m] = padded[row, m] - smoothing * torch.logsumexp(torch.stack(before) / -smoothing, dim=0)
    return total[n_rows - 1, n_columns - 1]


# --- TRX ----------------------------------------------------------------------------------------------------------


def trx(head: Trx, support: Tensor, query: Tensor) -> Logits:
    logits = []
    for size, transformer in zip(head.settings.tuple_sizes, head.transformers, strict=True):

        def tuples(clip: Tensor, size: int = size, transformer=transformer) -> tuple[Tensor, Tensor]:
            time, channel = torch.arange(len(clip))[:, None], torch.arange(clip.shape[1])
            angle = time * 10000.0 ** (-2 * (channel // 2) / clip.shape[1])
            placed = clip + 0.1 * torch.where(channel % 2 == 0, angle.sin(), angle.cos()).to(clip.dtype)
            chosen = [torch.cat([placed[t] for t in times]) for times in itertools.combinations(range(len(clip)), size)]
            joined = torch.stack(chosen)
            return transformer.norm_k(transformer.k_linear(joined)), transformer.v_linear(joined)

        query_keys, query_values = tuples(query)
        of_class = []
        for shots in support:
            parts = [tuples(clip) for clip in shots]
            keys, values = (torch.cat(part) for part in zip(*parts, strict=True))
            prototypes = (query_keys @ keys.T / math.sqrt(keys.shape[1])).softmax(dim=1) @ values
            of_class.append(-(query_values - prototypes).square().sum(dim=1).mean())
        logits.append(torch.stack(of_class))
    return sum(logits) / len(logits), {}


# --- HyRSM --------------------------------------------------------------------------------------------------------


def placed(clip: Tensor, a: float, b: float) -> Tensor:
    """Scale features and add HyRSM's positions."""
    n_frames, width = clip.shape
    table = torch.zeros(n_frames, width, dtype=torch.float64)
    for t, i in itertools.product(range(n_frames), range(width // 2)):
        table[t, 2 * i] = math.sin(t / 10000 ** (4 * i / width))
        table[t, 2 * i + 1] = math.cos(t / 10000 ** ((4 * i + 2) / width))
    return math.sqrt(width / a) * clip + b * table.to(clip.dtype)


def attention(query: Tensor, key: Tensor, value: Tensor, n_heads: int) -> Tensor:
    """Apply scaled dot-product attention head by head."""
    width = query.shape[1] // n_heads
    parts = []
    for head in range(n_heads):
        part = slice(head * width, (head + 1) * width)
        weights = (query[:, part] @ key[:, part].T / math.sqrt(width)).softmax(dim=1)
        parts.append(weights @ value[:, part])
    return torch.cat(parts, dim=1)


def attended(tokens: Tensor, module) -> Tensor:
    """Apply layer norm and attention to the tokens of one clip, and add them."""
    projected = module.fn.to_qkv(module.norm(tokens))
    return tokens + module.fn.to_out(attention(*projected.chunk(3, dim=1), module.fn.n_heads))


def hyrsm(head: Hyrsm, support: Tensor, query: Tensor) -> Logits:
    settings, relation = head.settings, head.temporal_atte

    def frames_of(clip: Tensor) -> Tensor:
        return attended(placed(clip, settings.position_a, settings.position_b), head.temporal_atte_before).relu()

    related = [[frames_of(clip) for clip in shots] for shots in support]
    items = [[sum(shots) / len(shots)] for shots in related] if settings.average_shots else related
    own = frames_of(query)
    tokens = torch.stack([item.mean(dim=0) for shots in items for item in shots] + [own.mean(dim=0)])
    mixed = attention(relation.w_qs(tokens), relation.w_ks(tokens), relation.w_vs(tokens), settings.n_heads)
    tokens = relation.layer_norm(relation.fc(mixed) + tokens).relu()

    def adapted(frames: Tensor, token: Tensor) -> Tensor:
        joined = torch.cat([frames, token.expand(len(frames), -1)], dim=1)
        return head.layer2(joined.T[None])[0].T

    query_frames = adapted(own, tokens[-1])
    of_class, adapted_items, index = [], [], 0
    for shots in items:
        distances = []
        for item in shots:
            adapted_items.append(adapted(item, tokens[index]))
            cost = 1 - cosine(query_frames, adapted_items[-1], 0)
            distances.append(cost.min(dim=1).values.sum() + cost.min(dim=0).values.sum())
            index += 1
        of_class.append(-sum(distances) / len(distances))
    aside = {}
    if settings.temporal:
        costs = [temporal_cost(each, settings) for each in adapted_items]
        aside["temporal"] = sum(costs) / len(costs) + temporal_cost(query_frames, settings)
    return torch.stack(of_class), aside


def temporal_cost(frames: Tensor, settings) -> Tensor:
    """Return HyRSM++'s cost of one clip, pair by pair."""
    cost = 1 - cosine(frames, frames, 0)
    total = []
    for a, b in itertools.product(range(len(frames)), repeat=2):
        distance = abs(a - b)
        if distance <= settings.window:
            total.append(cost[a, b] / (distance**2 + 1))
        else:
            margin = 1 - math.exp(-((distance - settings.window) ** 2) / settings.temporal_balance)
            total.append(settings.balance * (margin - cost[a, b]).relu())
    return torch.stack(total).mean()


# --- MoLo ---------------------------------------------------------------------------------------------------------


def molo(head: Molo, support: Tensor, query: Tensor) -> Logits:
    settings = head.settings

    def stream(frames: Tensor, token: Tensor, transformer) -> Tensor:
        tokens = placed(torch.cat([token[0], frames]), settings.position_a, settings.position_b)
        normed, network = transformer.layers[0]
        tokens = attended(tokens, normed)
        return (tokens + network.net["3"](functional.gelu(network.net["0"](tokens)))).relu()

    def streams(clip: Tensor) -> tuple[Tensor, Tensor]:
        frames = stream(clip.mean(dim=(2, 3)), head.class_token, head.temporal_atte_before)
        u = head.motion_reduce(clip.transpose(0, 1)[None])[0].transpose(0, 1)
        steps = [head.motion_up(head.motion_conv(u[t + 1 : t + 2]) - u[t]).relu()[0] for t in range(len(clip) - 1)]
        motion = torch.stack(steps).mean(dim=(2, 3))
        return frames, stream(motion, head.class_token_motion, head.temporal_atte_before_motion)

    queries = streams(query)
    rows: dict[str, list[Tensor]] = {name: [] for name in ("logits", "s2q", "q2s", "s2q_motion", "q2s_motion")}
    for shots in support:
        supports = [sum(parts) / len(parts) for parts in zip(*(streams(clip) for clip in shots), strict=True)]
        distances = []
        for mine, theirs, scale, ending in zip(
            queries, supports, (head.scale, head.scale_motion), ("", "_motion"), strict=True
        ):
            cost = 1 - cosine(mine[1:], theirs[1:], settings.cosine_offset)
            distances.append(cost.min(dim=1).values.sum() + cost.min(dim=0).values.sum())
            rows[f"s2q{ending}"].append(-scale[0] * (1 - cosine(theirs[1:], mine[:1], settings.cosine_offset)).sum())
            rows[f"q2s{ending}"].append(-scale[0] * (1 - cosine(mine[1:], theirs[:1], settings.cosine_offset)).sum())
        rows["logits"].append(-(distances[0] + settings.motion * distances[1]))
    stacked = {name: torch.stack(row) for name, row in rows.items()}
    return stacked.pop("logits"), stacked


NAIVE: dict[type, Callable[..., Logits]] = {Otam: otam, Trx: trx, Hyrsm: hyrsm, Molo: molo}


def loop(head, support: Tensor, query: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute a batch of episodes by loops over episodes and queries: the logits and all else, stacked."""
    naive = NAIVE[type(head)]
    rows = [[naive(head, support[e], query[e, q]) for q in range(query.shape[1])] for e in range(len(query))]
    logits = torch.stack([torch.stack([logits for logits, _ in row]) for row in rows])
    names = rows[0][0][1]
    return logits, {
        name: torch.stack([torch.stack([aside[name] for _, aside in row]) for row in rows]) for name in names
    }
