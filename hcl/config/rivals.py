"""Define the settings of the regimes OTAM, TRX, HyRSM, HyRSM++ and MoLo, and of the probe: their section is `regime`.

The defaults leave out the oddities of the released codes; `mode: published` presets `PUBLISHED` of each section.
`hcl/rivals/README.md` numbers the oddities and says what is computed.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from hcl.config.section import Section, setting

_WIDE = 14.310835055998654
"""Factor of the features, the root of 2048 / 10, that HyRSM and MoLo apply to features of 2048 channels."""


class OtamSettings(Section):
    smoothing: float = setting(0.1, "temperature of the soft minimum over alignments (the paper's lambda)", gt=0)
    temperature: float = setting(
        0.5, "divides the mean cost of the two directions; 1/2 gives the released sum (oddity 2)", gt=0
    )
    cosine_offset: float = setting(0.0, "added to the product of two lengths in the cosine (oddity 3)", ge=0, le=1)
    plain_exponentials: bool = setting(False, "exponentials without a shift, which overflow in float32 (oddity 1)")

    PUBLISHED: ClassVar[dict[str, Any]] = {"cosine_offset": 0.01, "plain_exponentials": True}


class TrxSettings(Section):
    tuple_sizes: tuple[Literal[2, 3, 4], ...] = setting(
        (2, 3), "frames of a tuple of TRX; each size has its own weights", min_length=1
    )
    key_dim: int = setting(1152, "width of keys and values of TRX", ge=8, le=8192)
    position_scale: float = setting(0.1, "factor of the sines and cosines added to the features", ge=0)
    dropout: float = setting(0.1, "dropout of the features, drawn anew for each tuple size", ge=0, lt=1)
    unused_norm: bool = setting(False, "keep the weights of the released norm_v, which nothing reads (oddity 4)")
    loss: Literal["sum", "mean"] = setting(
        "sum",
        "sum: the cross entropy of an episode's queries as in the authors' code; mean: as in re-implementations, whose "
        "steps of sgd are smaller by the number of queries (oddity 6)",
    )
    chunk_size: int = setting(4096, "tuples of queries compared at a time; bounds memory", ge=1)

    PUBLISHED: ClassVar[dict[str, Any]] = {"unused_norm": True}


class _Relation(Section):
    """Settings that HyRSM and MoLo share."""

    n_heads: int = setting(8, "attention heads; divides the channels of the features", ge=1, le=64)
    position_a: float = setting(10.0, "features are multiplied by the root of channels / A, without `scale`", gt=0)
    position_b: float = setting(1.0, "factor of the position embedding", ge=0)
    temperature: float | None = setting(
        None, "divides the mean cost of a frame; empty: one over the frames, the released sum (oddity 2)", gt=0
    )
    position_dropout: float = setting(0.1, "dropout after the positions", ge=0, lt=1)
    frame_dropout: float = setting(0.2, "dropout after the attention between frames", ge=0, lt=1)


class HyrsmSettings(_Relation):
    average_shots: bool = setting(
        False, "compare with the mean of a class's shots (the released 5-shot head), not with each (its 1-shot head)"
    )
    scale: float | None = setting(
        _WIDE, "factor of the features whatever their width; empty: the root of channels / A (oddity 9)", gt=0
    )
    attention_dropout: float = setting(0.05, "dropout of the episode's attention; released 0.1 (oddity 10)", ge=0, lt=1)
    episode_dropout: float = setting(0.05, "dropout after the episode's attention", ge=0, lt=1)
    classification: float = setting(0.6, "weight of the classification of frames (alpha)", ge=0)

    PUBLISHED: ClassVar[dict[str, Any]] = {"scale": None, "attention_dropout": 0.1}


class HyrsmPlusSettings(HyrsmSettings):
    temporal: float = setting(0.3, "weight of the temporal term (gamma)", ge=0)
    window: int = setting(1, "largest distance in time of near frames (omega)", unit="frames", ge=1)
    temporal_balance: float = setting(51.0, "spread of the margin of distant frames (sigma)", gt=0)
    balance: float = setting(10.0, "factor of the margin's term (beta; oddity 23)", ge=0)


class MoloSettings(_Relation):
    scale: float | None = setting(
        _WIDE, "factor of all tokens whatever their width; empty: the root of channels / A (oddity 9)", gt=0
    )
    hidden: int = setting(2048, "width inside the feed-forward networks (oddity 21)", ge=8, le=65536)
    motion_share: int = setting(8, "motion features have channels / motion_share channels", ge=1, le=256)
    motion: float = setting(0.3, "weight of the distance of motion in the scores", ge=0)
    cosine_offset: float = setting(0.0, "added to two lengths' product in MoLo's cosine (oddity 3)", ge=0, le=1)
    hidden_dropout: float = setting(0.05, "dropout at two places of the feed-forward networks", ge=0, lt=1)
    classification: float = setting(0.8, "weight of the classification of clips (alpha)", ge=0)
    contrastive: float = setting(0.05, "weight of each of the four contrastive terms", ge=0)
    reconstruction: float = setting(
        0.1,
        "weight of the reconstruction of differences of images (rho); needs frames, so 0 where all stages are cached",
        ge=0,
    )

    PUBLISHED: ClassVar[dict[str, Any]] = {"scale": None, "cosine_offset": 0.01}


class ProbeSettings(Section):
    classifier: Literal["linear", "ridge", "cosine"] = setting(
        "linear",
        "fitted on an episode's support: logistic regression, least squares in closed form, or one direction a class",
    )
    unit_length: bool = setting(True, "divide the features of a clip by their length; cosine always does")
    penalty: float = setting(1.0, "of the squared weights of linear and ridge", ge=0)
    temperature: float = setting(0.1, "divides the cosines of the cosine classifier", gt=0)
    steps: int = setting(100, "largest number of L-BFGS steps of linear and cosine", ge=1, le=10_000)

    @model_validator(mode="after")
    def _ridge_is_determined(self) -> Self:
        if self.classifier == "ridge" and self.penalty == 0:
            raise ValueError("penalty=0 leaves least squares undetermined: an episode has fewer clips than features")
        return self
