"""Describe search spaces as YAML files, and load them typed. It uses neither torch nor Ray nor the experiment."""

from search_spaces.errors import SpaceError
from search_spaces.grid import combinations, grid_points
from search_spaces.loader import load_space, shipped_spaces
from search_spaces.parameters import Choice, Fixed, FloatRange, IntRange
from search_spaces.space import Objective, Space
from search_spaces.trials import RandomTrial, Trial

__all__ = [
    "Choice",
    "Fixed",
    "FloatRange",
    "IntRange",
    "Objective",
    "RandomTrial",
    "Space",
    "SpaceError",
    "Trial",
    "combinations",
    "grid_points",
    "load_space",
    "shipped_spaces",
]
