"""Read the cards of data sets: the places of their videos, their expected counts, and their origin.

A data set's card is `DATA/datasets/<name>.yaml`, else the shipped one, else an empty card without expected counts.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from hcl.config import Section, setting
from hcl.config.strict_yaml import read_yaml
from hcl.errors import ConfigError, did_you_mean
from hcl.files.names import refuse_unsafe_name

PartitionName = Literal["train", "val", "test"]
PARTITIONS: tuple[str, ...] = get_args(PartitionName)


class Counts(Section):
    """Hold the expected counts of a partition."""

    classes: int = setting(..., "classes of the partition", ge=1)
    videos: int = setting(..., "videos of the partition", ge=1)


class DatasetCard(Section):
    """Describe a data set, apart from its lists."""

    name: str = setting(..., "its folder below splits/ and images/", min_length=1)
    title: str = setting("", "how a page calls it")
    obtain: str = setting("", "where its videos and lists come from")
    videos: tuple[Annotated[str, Field(min_length=1)], ...] = setting(
        ("videos/{dataset}/{class}/{video}",),
        "where a listed video is looked for, without its extension: the first place that has it counts; relative to "
        "the data root, or absolute",
        min_length=1,
    )
    extensions: tuple[str, ...] = setting((), "that its videos are released with: of two files of one name these count")
    flips_are_safe: bool | None = setting(None, "false: left and right are classes; empty: not known")
    readable_names: str = setting(
        "embeddings/{dataset}_dirname2cls.txt", "file of readable class names, relative to the data root"
    )
    frames_of: str = setting("", "the data set whose frames this split uses; empty: its own")
    partitions: dict[PartitionName, Counts] = setting({}, "what each should hold")

    @model_validator(mode="after")
    def _places_are_sound(self) -> Self:
        for place in self.videos:
            folder, _, stem = place.rpartition("/")
            unknown = set(_PLACEHOLDER.findall(place)) - {"dataset", "class", "video"}
            if unknown or "{video}" not in stem or "{video}" in folder:
                raise ValueError(
                    f"videos: {place!r} must end in a component with {{video}}, and may hold {{dataset}} and {{class}}"
                )
        if wrong := [name for name in self.extensions if not name.isalnum() or name != name.lower()]:
            raise ValueError(f"extensions: {wrong[0]!r} must be lower case, without a dot, such as webm")
        return self

    def places(self, class_name: str, video: str) -> list[tuple[str, str]]:
        """Return (folder, file name without extension) of each place where a video is searched."""
        values = {"dataset": self.name, "class": class_name, "video": video}
        filled = []
        for place in self.videos:
            folder, _, stem = place.rpartition("/")
            filled.append((_fill(folder, values), _fill(stem, values)))
        return filled

    def names_file(self, data_root: Path) -> Path:
        return data_root / _fill(self.readable_names, {"dataset": self.name})


def card_of(data_root: Path, dataset: str) -> DatasetCard:
    """Read the card of a data set.

    Raises:
        SplitError: the name is not valid as a folder's name.
        ConfigError: its YAML file is wrong.
    """
    refuse_unsafe_name(dataset, what="dataset name", where="dataset")
    own = Path(data_root) / "datasets" / f"{dataset}.yaml"
    if own.exists():
        return _read(own, str(own), dataset)
    if dataset in shipped_datasets():
        return _read(Path(str(_shipped() / f"{dataset}.yaml")), f"hcl/datasets/{dataset}.yaml", dataset)
    return DatasetCard(name=dataset)


def shipped_datasets() -> list[str]:
    """Return the names of the data sets whose cards come with the package."""
    return sorted(Path(entry.name).stem for entry in _shipped().iterdir() if entry.name.endswith(".yaml"))


def known_datasets(data_root: Path) -> list[str]:
    """Return the names of shipped data sets, of those with a card in the data root, and of those with lists, sorted."""
    own = [path.stem for path in (Path(data_root) / "datasets").glob("*.yaml")]
    listed = [path.parent.name for path in (Path(data_root) / "splits").glob("*/train_class.txt")]
    return sorted({*shipped_datasets(), *own, *listed})


def similar_dataset(data_root: Path, dataset: str) -> str:
    """Return `, did you mean X?` for the known data set with the most similar name; empty for a known one."""
    known = known_datasets(data_root)
    return "" if dataset in known else did_you_mean(dataset, known)


_PLACEHOLDER = re.compile(r"\{(\w*)\}")


def _fill(text: str, values: dict[str, str]) -> str:
    """Replace placeholders in one pass, so that a class called `{video}` is not replaced again."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def _read(path: Path, label: str, dataset: str) -> DatasetCard:
    content = read_yaml(path, label)
    if not isinstance(content, dict):
        raise ConfigError("is not the description of a data set", where=label, remedy=_REMEDY)
    try:
        card = DatasetCard.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            message, where=f"{label}: {field}" if field else label, remedy=f"fields: {', '.join(card_fields())}"
        ) from None
    if card.name != dataset:
        raise ConfigError(
            f"describes {card.name!r}, its file is named {dataset!r}", where=f"{label}: name", remedy="make them agree"
        )
    if card.frames_of:
        refuse_unsafe_name(card.frames_of, what="dataset name", where=f"{label}: frames_of")
    return card


_REMEDY = "see hcl/datasets/README.md for its form, or copy a shipped one"


def card_fields() -> dict[str, str]:
    """Return the fields of a card with their meanings."""
    return {name: field.description or "" for name, field in DatasetCard.model_fields.items()}


def _shipped() -> Any:
    return resources.files("hcl.datasets")
