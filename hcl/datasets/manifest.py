"""Read and write the manifest of extraction: one record for each video, beside the frames.

`images/<dataset>/manifest.parquet` holds the records of finished runs. During a run each finished video adds a line to
`manifest.jsonl`, so that a kill loses at most the current video; both files are read together.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from hcl.errors import StorageError
from hcl.files.atomic import sync_folder, whole_file
from hcl.files.disk_errors import storing
from hcl.files.json_files import checksum
from hcl.files.names import problem_with, shown

Status = Literal["ok", "broken", "missing", "timeout"]


@dataclass(frozen=True)
class VideoRecord:
    """Hold the outcome of one video's extraction. Only `ok` has frames; width and height are of the stored frames."""

    class_name: str
    video: str
    status: Status
    n_frames: int = 0
    fps: float = 0.0  # from the container; 0: unknown
    width: int = 0
    height: int = 0
    n_bytes: int = 0  # size of all frames
    error: str = ""  # the reason for missing frames, or a note on existing ones
    source: str = ""
    source_bytes: int = 0
    source_mtime_ns: int = 0
    options_digest: str = ""
    n_decoded: int = 0  # frames of the video, of which n_frames are stored
    digest: str = ""  # of the stored frames, `hcl.videos.jpegs.frames_digest`
    codec: str = ""  # OpenCV's name, four characters
    pixel_format: str = ""  # of the video, by OpenCV's name; I420 is 8 bits with halved colour
    rotation: int = 0  # clockwise degrees of the metadata, already applied to the frames
    checksums: str = ""  # of the stored frames, CRC-32 of each in eight hexadecimal digits
    variable_rate: bool = False  # the time between frames varies: frames are counted, not timed
    decoder: str = ""  # `opencv` or `pyav`: the decoder that read the video or found it broken
    decoder_version: str = ""  # empty if an earlier version extracted it and its frames were confirmed later

    @property
    def key(self) -> str:
        return f"{self.class_name}/{self.video}"

    @property
    def is_unconfirmed(self) -> bool:
        """Return true if the record comes from a version that did not verify OpenCV's frames."""
        return self.status in ("ok", "broken") and bool(self.options_digest) and not self.decoder


def read_manifest(images_root: Path) -> dict[str, VideoRecord]:
    """Return records by `class/video` from manifest.parquet and the journal of an unfinished run; empty without both.

    Raises:
        StorageError: the manifest is damaged.
    """
    records: dict[str, VideoRecord] = {}
    path = images_root / "manifest.parquet"
    try:
        # Not read_table, which would interpret `name=value` folders in the path as partition columns.
        rows = _rows(path) if path.exists() else []
        records = {record.key: record for record in map(_record, rows)}
        journal = _journal(images_root)
        lines = journal.read_bytes().split(b"\n") if journal.exists() else []
    except (OSError, pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise StorageError(
            f"is not a manifest of frames: {error}",
            where=str(path),
            remedy=f"delete {images_root} and extract again, or restore the file from a copy",
        ) from error
    for line in lines:
        try:
            record = _record(_checked(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            continue  # incomplete after a kill: the video is extracted again
        records[record.key] = record
    return records


def begin_journal(images_root: Path) -> bool:
    """Create the journal if there is neither it nor a manifest; return true if it was created.

    Raises:
        StorageError: the disk is full, or may not be written.
    """
    journal = _journal(images_root)
    if journal.exists() or (images_root / "manifest.parquet").exists():
        return False
    with storing(journal):
        journal.touch()
    return True


def append_record(images_root: Path, record: VideoRecord) -> None:
    """Add a line to the journal. It is not synchronised to disk: a lost line means a video done again.

    Raises:
        StorageError: the disk is full, or may not be written.
    """
    path = _journal(images_root)
    with storing(path), path.open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(asdict(record) | {_CHECKSUM: checksum(asdict(record))}) + "\n")


def write_manifest(images_root: Path, records: Iterable[VideoRecord]) -> Path:
    """Write manifest.parquet, sorted by class and video, and remove the journal, whose records it now contains.

    The journal is removed after the manifest and its name are synchronised to disk, so that a crash leaves one of them.

    Raises:
        StorageError: the disk is full or not writable; then the journal stays.
    """
    rows = sorted(records, key=lambda record: (record.class_name, record.video))
    path = images_root / "manifest.parquet"
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=_SCHEMA)
    with whole_file(path) as file:
        pq.write_table(table.replace_schema_metadata({_CHECKSUM: checksum(table.to_pylist())}), file)
    with storing(path):
        sync_folder(images_root)
        _journal(images_root).unlink(missing_ok=True)
    return path


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read the manifest's rows and compare their checksum, which older versions lack. Raises ValueError."""
    table = pq.ParquetFile(io.BytesIO(path.read_bytes())).read()
    rows = table.to_pylist()
    written = (table.schema.metadata or {}).get(_CHECKSUM.encode())
    if written is not None and written != checksum(rows).encode():
        raise ValueError("it is damaged, its checksum is that of other content")
    return rows


def _checked(line: Any) -> Any:
    """Return a line of the journal without its checksum. Raises ValueError if the checksum is wrong."""
    written = line.pop(_CHECKSUM, None) if isinstance(line, dict) else None
    if written is not None and written != checksum(line):
        raise ValueError("it is damaged")
    return line


def _record(row: Any) -> VideoRecord:
    """Convert a row to a record. Raises TypeError or ValueError for values that this program does not write."""
    record = VideoRecord(**row)
    for name, value in row.items():  # of seventy thousand rows: what a row leaves out is right by itself
        given, kind = type(value), _FIELDS[name]
        if given is not kind and not (kind is float and given is int):
            raise TypeError(f"{name} of {record.class_name!r} is {value!r:.80}")
        if given is int and not 0 <= value < 2**63:
            raise ValueError(f"{name} of {record.key!r} is {value!r:.80}")
    if record.status not in get_args(Status):
        raise ValueError(f"status of {record.key!r} is {record.status!r:.80}")
    for name in (record.class_name, record.video):  # both become names of folders
        if problem := problem_with(name):
            raise ValueError(f"the name {shown(name)} {problem}")
    return record


def _journal(images_root: Path) -> Path:
    return images_root / "manifest.jsonl"


_CHECKSUM = "crc32"
_KINDS = {"str": str, "Status": str, "int": int, "float": float, "bool": bool}
_FIELDS = {field.name: _KINDS[str(field.type)] for field in fields(VideoRecord)}
_TYPES = {"str": pa.string(), "Status": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
_SCHEMA = pa.schema([pa.field(field.name, _TYPES[str(field.type)], nullable=False) for field in fields(VideoRecord)])
