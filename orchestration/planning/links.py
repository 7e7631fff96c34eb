"""Link videos or folders of frames of any layout into the data root, class by class; nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hcl.datasets.folder_survey import SurveyedVideo
from hcl.errors import StorageError
from hcl.files.atomic import discard_folder, whole_folder


def write_links(folder: Path, videos: Sequence[SurveyedVideo], *, of_frames: bool) -> None:
    """Write a folder of class folders with a link to each video, whole or not at all; an existing one is replaced.

    Only the links of an earlier folder are removed, never what they lead to.

    Args:
        of_frames: the videos are folders of frames, whose links have no extension.

    Raises:
        StorageError: the folder holds something else than links, the file system has none, or the disk is full.
    """
    if other := next((path for path in folder.glob("*/*") if not path.is_symlink()), None):
        raise StorageError(
            f"holds {str(other.relative_to(folder))!r}, which is no link",
            where=str(folder),
            remedy="move it away, or choose another name for the data set",
        )
    discard_folder(folder)
    with whole_folder(folder) as partial:
        for video in videos:
            suffix = "" if of_frames else video.path.suffix
            link = partial / video.class_name / f"{video.name}{suffix}"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(video.path.absolute())
