"""Names that the options of a study accept. The command line's help uses them, so nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

SamplerName = Literal["tpe", "cmaes", "gp", "random", "grid", "population"]
StopRule = Literal["asha", "median", "none"]
