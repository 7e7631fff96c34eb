"""Make small heads and episodes with unequal axes for the tests of the rivals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hcl.rivals.heads import Draws, Targets
from hcl.rivals.hyrsm import Hyrsm, HyrsmSettings
from hcl.rivals.molo import Molo, MoloSettings
from hcl.rivals.otam import Otam, OtamSettings
from hcl.rivals.probe import Probe, ProbeSettings
from hcl.rivals.trx import Trx, TrxSettings

EPISODES, WAY, SHOT, QUERIES, FRAMES, CHANNELS, GRID, CLASSES = 2, 3, 2, 5, 4, 16, (2, 1), 7

STILL_HYRSM = {"position_dropout": 0.0, "frame_dropout": 0.0, "attention_dropout": 0.0, "episode_dropout": 0.0}
STILL_MOLO = {"position_dropout": 0.0, "frame_dropout": 0.0, "hidden_dropout": 0.0}

LEARNING = {
    "otam": lambda **more: Otam(OtamSettings(**more)),
    "trx": lambda **more: Trx(CHANNELS, TrxSettings(**{"key_dim": 11, "dropout": 0.0, **more})),
    "hyrsm": lambda **more: Hyrsm(CHANNELS, CLASSES, HyrsmSettings(**{**STILL_HYRSM, **more})),
    "hyrsm averaged": lambda **more: Hyrsm(
        CHANNELS, CLASSES, HyrsmSettings(**{**STILL_HYRSM, "average_shots": True, **more})
    ),
    "hyrsm++": lambda **more: Hyrsm(CHANNELS, CLASSES, HyrsmSettings(**{**STILL_HYRSM, "temporal": 0.3, **more})),
    "molo": lambda **more: Molo(CHANNELS, CLASSES, MoloSettings(**{**STILL_MOLO, "hidden": 13, **more})),
}
"""Makers of the heads that learn or let the backbone learn, without dropout; settings can be changed."""

HEADS = LEARNING | {
    f"probe {kind}": lambda kind=kind, **more: Probe(ProbeSettings(**{"classifier": kind, **more}))
    for kind in ("linear", "ridge", "cosine")
}


def make(name: str, dtype: torch.dtype = torch.float64, **changes) -> nn.Module:
    """Return a head in training mode with the same random weights at each call."""
    torch.manual_seed(0)
    head = HEADS[name](**changes).to(dtype).train()
    with torch.no_grad():
        for parameter in head.parameters():  # norms and biases with an effect
            parameter.add_(0.1 * torch.randn_like(parameter))
    return head


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def episodes(
    head, *, shot: int = SHOT, frames: int = FRAMES, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Return supports and queries that a head takes, as leaves with gradients."""
    clip = (frames, CHANNELS, *(GRID if head.takes_maps else ()))
    support = noise(EPISODES, WAY, shot, *clip, dtype=dtype)
    query = noise(EPISODES, QUERIES, *clip, seed=1, dtype=dtype)
    return support.requires_grad_(), query.requires_grad_()


def targets(*, shot: int = SHOT, frames: int = FRAMES, dtype: torch.dtype = torch.float64) -> Targets:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(WAY, (EPISODES, QUERIES), generator=generator)
    classes = torch.randint(CLASSES, (EPISODES, WAY * shot + QUERIES), generator=generator)
    images = noise(*classes.shape, frames, 3, 32 * GRID[0], 32 * GRID[1], seed=3, dtype=dtype)
    return Targets(labels, classes, images)


def draws(*, shot: int = SHOT, first: int = 0) -> Draws:
    n_supports = EPISODES * WAY * shot
    keys = torch.arange(first, first + n_supports + EPISODES * QUERIES) * 1_000_003
    return Draws(keys[:n_supports].view(EPISODES, WAY, shot), keys[n_supports:].view(EPISODES, QUERIES))


def total(head, output, goal: Targets) -> Tensor:
    """Return the weighted loss."""
    terms = head.losses(output, goal)
    return sum(head.weights[name] * term for name, term in terms.items())
