"""Extract a folder of real, odd and broken files, and compare each result with its description.

HCL_CODECS names the folder: videos in `real/`, `made/` and `broken/`, and `manifest.json` with the results of OpenCV
and PyAV (`cv2`, `av`: number of frames, size as shown) and the metadata (`ffprobe`: rotation).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from hcl.datasets.manifest import read_manifest
from hcl.datasets.splits import Video
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import StoredDataset
from orchestration.extraction.extract import extract_dataset

CODECS = os.environ.get("HCL_CODECS")

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not CODECS, reason="HCL_CODECS does not name a folder of odd and broken videos"),
]


@pytest.mark.parametrize("n_frames", [None, 8])
def test_every_file_ends_as_described(local_ray: ModuleType, tmp_path: Path, n_frames: int | None) -> None:
    expected = json.loads((Path(str(CODECS)) / "manifest.json").read_text())
    videos, images = tmp_path / "videos" / "codecs", tmp_path / "images" / "codecs"
    for name in expected:  # one folder each, because some differ only in their ending
        folder = videos / name.replace("/", " ")
        folder.mkdir(parents=True)
        shutil.copy(Path(str(CODECS)) / name, folder / f"v{Path(name).suffix}")
    summary = extract_dataset(StoredDataset(tmp_path, "codecs"), actors=2, n_frames=n_frames, short_side=0)
    records = read_manifest(images)
    assert summary.n_listed == len(records) == len(expected)
    store = FrameStore(images)
    for name, described in expected.items():
        class_name = name.replace("/", " ")
        read = described["cv2" if described["cv2"]["n"] else "av"]
        record, n = records[f"{class_name}/v"], read["n"]
        is_second = not described["cv2"]["n"] or "interlaced" in name
        assert record.decoder == ("pyav" if is_second else "opencv"), (name, record)
        assert record.status == ("ok" if n else "broken"), (name, record)
        assert record.n_decoded == n, (name, record)
        assert record.n_frames == min(n, n_frames or n), (name, record)
        if not n:
            assert record.error and not (images / class_name / "v").exists(), name
            continue
        assert [record.width, record.height] == read["size"], (name, record)
        assert record.rotation == -(described["ffprobe"]["rotation"] or 0) % 360, (name, record)
        assert record.variable_rate == (name == "made/vfr.mp4"), (name, record)
        is_short = n < 0.95 * described["cv2"]["reported"] - 1
        assert bool(record.error) == is_short, (name, record)
        frames = store.read(Video(class_name, "v"), range(record.n_frames))
        assert frames.shape == (record.n_frames, record.height, record.width, 3), name
        assert len(os.listdir(images / class_name / "v")) == record.n_frames
    assert list(images.rglob("*.partial")) == []
    assert extract_dataset(
        StoredDataset(tmp_path, "codecs"), actors=2, n_frames=n_frames, short_side=0
    ).n_skipped == len(expected)
