"""The backbones of this package, and what configuration has to know of each.

`hcl.models.backbone` builds them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hcl.config.definitions import Own


@dataclass(frozen=True)
class Grid:
    """Describe the grid of features that a backbone makes of a frame, and the stages in which it can be frozen.

    Attributes:
        cell: pixels of the frame a side of a cell.
        rounds_up: a rest of pixels makes another cell; otherwise it is left out.
        stages: number of stages.
        whole_cells: the side of a frame must be a multiple of `cell`.
        batch_norms: it has batch norms, whose statistics can depend on the number of workers.
    """

    cell: int = 32
    rounds_up: bool = True
    stages: int = 5
    whole_cells: bool = False
    batch_norms: bool = True

    def side(self, size: int) -> int:
        """Return the cells a side of a square frame of `size` pixels."""
        whole, rest = divmod(size, self.cell)
        return whole + (1 if rest and self.rounds_up else 0)


def _own(name: str, grid: Grid) -> Own:
    return Own("hcl.models.backbone:OwnBackbone", grid, argument=name)


BACKBONES = {
    "resnet18": _own("resnet18", Grid()),
    "resnet34": _own("resnet34", Grid()),
    "resnet50": _own("resnet50", Grid()),
    "efficientnet_lite0": _own("efficientnet_lite0", Grid(rounds_up=False)),
    "timm": Own("hcl.models.timm_backbone:TimmBackbone", takes_argument=True),
}
