"""The regimes, which are the ways that a run can learn, and what configuration has to know of each.

`hcl.assembly.regimes` has the other half of each: the model and the way to learn that are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from hcl.config import rivals
from hcl.config.definitions import Own


@dataclass(frozen=True)
class Traits:
    """The properties of a regime that decide which settings fit it.

    Attributes:
        is_episodic: its steps are episodes; otherwise they are pair batches.
        has_levels: it compares clips at the global, temporal and spatial level, which fusion weighs, class names guide
            and `hcl explain` draws.
        head_learns: its head has weights of its own, so that there is something to learn on a frozen backbone.
        head_has_batch_norms: its head normalises by the clips of one worker.
        grid_halvings: how often its head halves the feature grid.
    """

    is_episodic: bool = True
    has_levels: bool = False
    head_learns: bool = True
    head_has_batch_norms: bool = False
    grid_halvings: int = 0

    @property
    def smallest_grid(self) -> int:
        """Cells a side of the smallest feature grid that the head can take."""
        return 2**self.grid_halvings


REGIMES = {
    "hcl": Own("hcl.assembly.regimes:HierarchicalParts", Traits(is_episodic=False, has_levels=True)),
    "classification": Own("hcl.assembly.regimes:ClassifierParts", Traits(is_episodic=False)),
    "protonet": Own("hcl.assembly.regimes:ProtoNetParts", Traits(head_learns=False)),
    "cosine": Own("hcl.assembly.regimes:CosineParts", Traits(head_learns=False)),
    "matching": Own("hcl.assembly.regimes:MatchingParts", Traits()),
    "relation": Own("hcl.assembly.regimes:RelationParts", Traits(head_has_batch_norms=True, grid_halvings=2)),
    "otam": Own("hcl.assembly.rivals:OtamParts", Traits(head_learns=False), rivals.OtamSettings),
    "trx": Own("hcl.assembly.rivals:TrxParts", Traits(), rivals.TrxSettings),
    "hyrsm": Own("hcl.assembly.rivals:HyrsmParts", Traits(), rivals.HyrsmSettings),
    "hyrsm++": Own("hcl.assembly.rivals:HyrsmParts", Traits(), rivals.HyrsmPlusSettings),
    "molo": Own("hcl.assembly.rivals:MoloParts", Traits(), rivals.MoloSettings),
    "probe": Own("hcl.assembly.rivals:ProbeParts", Traits(is_episodic=False), rivals.ProbeSettings),
}
WITH_LEVELS = " or ".join(name for name, own in REGIMES.items() if own.traits.has_levels)
"""The regimes that have levels, as messages name them."""
