"""Define the settings of evaluation episodes and of the fusion of the levels."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hcl.config.definitions import Named
from hcl.config.section import Section, setting

MAX_WAY = 256
"""Maximum number of classes of an episode: an answer is stored in one byte."""


class Evaluation(Section):
    datasets: tuple[str, ...] = setting((), "data sets evaluated; empty: the training data set only")
    partition: Literal["val", "test"] = setting("test", "partition from which episodes are drawn")
    way: int = setting(5, "classes of an episode", ge=2, le=MAX_WAY)
    shots: tuple[Annotated[int, Field(ge=1)], ...] = setting((1, 2, 3, 4, 5), "labelled clips a class", min_length=1)
    queries: int = setting(5, "clips to classify, a class", ge=1)
    episodes: int = setting(1000, "episodes of each cell", unit="episodes", ge=1)
    seed: int = setting(0, "seed of the episodes", ge=0)
    overlapping: bool = setting(
        False, "draw support and query independently, with replacement, never class 0, as released (deviations 9, 10)"
    )
    views: int = setting(
        1,
        "views of each clip over which similarities are averaged; 1 uses clips.test_sampling, more are random",
        unit="views",
        ge=1,
        le=64,
    )
    precision: Literal["float32", "bfloat16"] = setting(
        "float32",
        "bfloat16 stores patches in half precision and chooses them by rounded products: faster with AMX, slower "
        "without; means stay in float32",
    )
    keep_features: bool = setting(
        True, "keep the encoded features under runs/cache after all pairs are scored, for later evaluations"
    )
    method: Annotated[str, Named("method")] = setting(
        "none",
        "your own method of comparison, under its class's name; the section `method` holds its settings",
    )
    protocol: Literal["standard", "published"] = setting(
        "standard", "`published` evaluates like the printed results (`--protocol published`), and tables mark it"
    )


class Fusion(Section):
    sigma_global: float = setting(1.0, "weight of the global similarity", ge=0)
    sigma_temporal: float = setting(0.5, "weight of the temporal similarity", ge=0)
    sigma_spatial: float = setting(0.5, "weight of the spatial similarity", ge=0)
    triples: float = setting(
        0.5, "weight of tuples of three if both tuple sizes are matched; 0.5 is the mean of both", ge=0, le=1
    )
    over_shots: Literal["mean", "max"] = setting(
        "mean", "similarity to a class from those to its shots: their mean, or their maximum"
    )

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.sigma_global + self.sigma_temporal + self.sigma_spatial == 0:
            raise ValueError("all three sigmas are 0, so that no level would be compared")
        return self
