"""Names that a study's options take; light, for the command line's help."""

from __future__ import annotations

from typing import Literal

SamplerName = Literal["tpe", "cmaes", "gp", "random", "grid", "population"]
StopRule = Literal["asha", "median", "none"]
