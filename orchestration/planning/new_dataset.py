"""Plan and write a data set and an experiment for a folder of videos: `hcl new`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hcl.config import Experiment
from hcl.config.resolve import resolve
from hcl.datasets.cards import DatasetCard
from hcl.datasets.copies import same_files
from hcl.datasets.folder_survey import FolderSurvey, survey_folder
from hcl.datasets.frame_copies import same_frames
from hcl.datasets.splits import Partition, Video, write_split
from hcl.files.atomic import write_atomically
from hcl.files.names import some
from hcl.frames.checking import OF_CHECK
from hcl.frames.split_making import VideoListing, card_place, without_copies
from orchestration.planning.costs import Costs, estimate_costs
from orchestration.planning.experiment_text import experiment_text
from orchestration.planning.links import write_links
from orchestration.planning.machine import Machine
from orchestration.planning.settings_proposal import OPTIMISTIC, ProposedSettings, propose_settings
from orchestration.planning.split_proposal import ProposedSplit, class_partitions, propose_split

OpenFiles = Callable[[Mapping[str, Path]], Mapping[str, str]]
"""Function that opens video files and folders of frames by key, and returns the problem of each unreadable one."""


_CAUTION = "CAUTION.txt"


@dataclass(frozen=True)
class NewDataset:
    """Hold the plan of a data set with its experiment.

    Attributes:
        survey: the videos that are used, without copies and broken ones.
        notes: everything that was left out or read in a special way.
    """

    name: str
    survey: FolderSurvey
    split: ProposedSplit
    settings: ProposedSettings
    experiment: Experiment
    costs: Costs
    notes: tuple[str, ...]

    def partitions(self) -> dict[str, Partition]:
        """Return the partitions as they are listed."""
        return {
            part: Partition(
                self.name,
                part,
                classes,
                tuple(
                    Video(video.class_name, video.name) for video in self.survey.videos if video.class_name in classes
                ),
            )
            for part, classes in self.split.classes.items()
        }


def plan_dataset(
    name: str,
    folder: Path,
    machine: Machine,
    *,
    seed: int = 0,
    class_level: int | None = None,
    open_files: OpenFiles | None = None,
) -> NewDataset:
    """Survey a folder and propose a data set and an experiment; nothing is written.

    Args:
        open_files: called with all videos, of which unreadable ones are left out; None: only empty files are.

    Raises:
        DataError: the folder's layout has several readings, or holds too few classes or videos.
    """
    survey = survey_folder(folder, class_level=class_level)
    survey = _without_broken(_without_copies(survey), open_files)
    notes = list(survey.notes)
    given = class_partitions([(video.class_name, video.part) for video in survey.videos], notes)
    split = propose_split(survey.sizes, given, seed=seed, where=str(folder))
    for class_name, reason in list(split.left_out.items())[:5]:
        notes.append(f"class {class_name!r} is left out: {reason}")
    if len(split.left_out) > 5:
        notes.append(f"{len(split.left_out) - 5:,} more classes are left out for such reasons")
    sizes = survey.sizes
    n_clips = {part: sum(sizes[one] for one in classes) for part, classes in split.classes.items()}
    n_training = n_clips["train"] + (n_clips["val"] if split.selects_on_test else 0)
    settings = propose_settings(name, split, n_training, machine)
    experiment = resolve(settings.base, settings.values()).experiment
    costs = estimate_costs(experiment, survey, n_clips, machine)
    return NewDataset(name, survey, split, settings, experiment, costs, (*notes, *split.notes))


def write_dataset(
    new: NewDataset, data_root: Path, experiment_file: Path, *, heading: list[str], commands: list[list[str]]
) -> None:
    """Write links where the layout needs them, card, lists and, last, the experiment; a repeated call replaces them.

    Raises:
        StorageError: a file cannot be written, or links cannot be made.
    """
    place = _place(new, data_root)
    for stale in (*OF_CHECK, _CAUTION):  # of lists that are replaced
        (data_root / "splits" / new.name / stale).unlink(missing_ok=True)
    partitions = new.partitions()
    content = {
        "name": new.name,
        "title": f"{new.name}: {_division(new.split)}",
        "obtain": f"made by `hcl new` from {new.survey.root.absolute()}",
        "partitions": {
            part: {"classes": len(one.classes), "videos": len(one.videos)} for part, one in partitions.items()
        },
    }
    card = DatasetCard.model_validate(content | place)
    text = yaml.safe_dump(card.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    warning = f"# CAUTION: {OPTIMISTIC}.\n" if new.split.selects_on_test else ""
    write_atomically(data_root / "datasets" / f"{new.name}.yaml", (warning + text).encode())
    write_split(data_root, new.name, partitions)
    if warning:
        write_atomically(data_root / "splits" / new.name / _CAUTION, warning.replace("# ", "").encode())
    write_atomically(experiment_file, experiment_text(new.settings, heading, commands).encode())


def _division(split: ProposedSplit) -> str:
    if split.selects_on_test:
        return "the classes of train and val are trained on, the best epoch is chosen on the test classes"
    return f"classes {split.origin}"


def _place(new: NewDataset, data_root: Path) -> dict[str, Any]:
    """Return the card's place of the videos, after linking them where no template names them."""
    survey = new.survey
    absolute = survey.root.absolute()
    if survey.of_frames:
        is_published = all(video.path.absolute() == absolute / video.class_name / video.name for video in survey.videos)
        if absolute.parent == data_root.absolute() / "images" and is_published:
            return {"frames_of": absolute.name}
        write_links(data_root / "images" / new.name, survey.videos, of_frames=True)
        return {}
    if survey.places:
        return card_place(data_root, survey.root, new.name, VideoListing({}, survey.places, ()))
    links = f"videos/{new.name}-links"
    write_links(data_root / links, survey.videos, of_frames=False)
    return {"videos": (f"{links}/{{class}}/{{video}}",)}


def _without_copies(survey: FolderSurvey) -> FolderSurvey:
    """Return the survey without all but one of each set of equal videos."""
    files = {Video(video.class_name, video.name): video.path for video in survey.videos}
    contents = same_frames(files) if survey.of_frames else same_files(files)
    notes: list[str] = []
    kept = {video.key for video in without_copies(contents, list(files), notes)}
    lost = {video.key for video in survey.videos} - kept
    return survey.without(lost, "; ".join(notes))


def _without_broken(survey: FolderSurvey, open_files: OpenFiles | None) -> FolderSurvey:
    """Return the survey without videos that cannot be opened."""
    paths = {video.key: video.path for video in survey.videos}
    broken = {key: "is empty" for key, path in paths.items() if path.is_file() and not path.stat().st_size}
    if open_files is not None:
        broken |= open_files({key: path for key, path in paths.items() if key not in broken})
    named = some([f"{key}: {problem}" for key, problem in list(broken.items())[:2]])
    more = f" and {len(broken) - 2:,} more" if len(broken) > 2 else ""
    return survey.without(set(broken), f"{len(broken):,} videos cannot be opened: left out, {named}{more}")
