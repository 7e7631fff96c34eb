"""Test the extraction of whole datasets by actors: resumed, disturbed, and with all kinds of wrong videos."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import ray
from ray.util.state import list_actors

from hcl.datasets.manifest import VideoRecord, append_record, read_manifest, write_manifest
from hcl.datasets.splits import Partition, Video, write_split
from hcl.errors import DataError, StorageError
from hcl.files.locking import exclusive
from hcl.frames.extraction import ExtractionJob
from hcl.frames.inventory import extraction_jobs
from hcl.frames.split_making import make_splits
from hcl.frames.store import FrameStore
from hcl.frames.stored_dataset import StoredDataset
from orchestration.extraction import extract
from orchestration.extraction.extract import extract_dataset
from orchestration.extraction.extractor import Extractor, Place
from orchestration.runtime.actors import ItemCrash

pytestmark = pytest.mark.ray

CLASSES = {"train": "put [it], (in)", "val": "open", "test": "close 100%d"}


def write_video(path: Path, n_frames: int = 3, *, side: int = 32, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (side, side))
    for frame in np.random.default_rng(seed).integers(0, 256, (n_frames, side, side, 3), dtype=np.uint8):
        writer.write(frame)
    writer.release()


def benchmark(root: Path, n_videos: int = 4, *, n_frames: int = 3, side: int = 32) -> Path:
    """Write a split of three classes with videos; modification times are fixed so that manifests can be compared."""
    partitions = {}
    for partition, class_name in CLASSES.items():
        videos = tuple(Video(class_name, f"{class_name} {index:02d}") for index in range(n_videos))
        partitions[partition] = Partition("toy", partition, (class_name,), videos)
        for index, video in enumerate(videos):
            path = root / "videos" / "toy" / f"{video.key}.avi"
            write_video(path, n_frames, side=side, seed=index)
            os.utime(path, ns=(10**18, 10**18))
    write_split(root, "toy", partitions)
    return root


def contents(root: Path) -> dict[str, bytes]:
    images = root / "images" / "toy"
    return {str(path.relative_to(images)): path.read_bytes() for path in images.rglob("*") if path.is_file()}


def stamps(root: Path) -> dict[str, int]:
    """Return the modification time of each frame; the manifest is written again by every call."""
    return {str(path): path.stat().st_mtime_ns for path in (root / "images").rglob("*.jpg")}


def kill_extractor(killed: list[int]) -> None:
    """SIGKILL an actor that was not killed before, because Ray lists dead actors as alive for a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # The address is given because other Rays may run on the machine.
        alive = list_actors(ray.get_runtime_context().gcs_address, filters=[("state", "=", "ALIVE")])
        pids = [actor.pid for actor in alive if "Extractor" in actor.class_name and actor.pid]
        fresh = [pid for pid in pids if pid not in killed]
        if fresh:
            os.kill(fresh[0], signal.SIGKILL)
            killed.append(fresh[0])
            return
        time.sleep(0.1)
    pytest.fail("no actor to kill")


def test_all_partitions_are_extracted_and_a_repeat_does_nothing(local_ray: ModuleType, tmp_path: Path) -> None:
    benchmark(tmp_path)
    summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    assert (summary.n_listed, summary.n_ok, summary.n_skipped, summary.n_frames) == (12, 12, 0, 36)
    assert summary.videos_per_second > 0
    store = FrameStore(tmp_path / "images" / "toy")
    for partition in StoredDataset(tmp_path, "toy").split.partitions.values():
        assert store.missing(partition) == ()
        assert store.read(partition.videos[0], [0, 2]).shape == (2, 32, 32, 3)
    records = read_manifest(tmp_path / "images" / "toy")
    assert sum(record.n_bytes for record in records.values()) == summary.n_bytes
    assert records["open/open 00"].source == "open/open 00.avi"

    before, written = contents(tmp_path), stamps(tmp_path)
    summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    assert (summary.n_ok, summary.n_skipped, summary.n_bytes) == (0, 12, 0)
    assert (contents(tmp_path), stamps(tmp_path)) == (before, written)


def test_videos_elsewhere_of_a_data_set_with_letters_beyond_ascii(local_ray: ModuleType, tmp_path: Path) -> None:
    """Nodes check the folders that a card names, not DATA/videos, and metrics are tagged with the name."""
    for seed, class_name in enumerate("abc"):
        write_video(tmp_path / "elsewhere" / class_name / "v 1.avi", seed=seed)
    make_splits(tmp_path / "data", "küche 1", tmp_path / "elsewhere", {"train": 1, "val": 1, "test": 1})
    summary = extract_dataset(StoredDataset(tmp_path / "data", "küche 1"), actors=1)
    assert (summary.n_listed, summary.n_ok) == (3, 3)
    assert not (tmp_path / "data" / "videos").exists()


def test_the_number_of_actors_changes_no_byte(local_ray: ModuleType, tmp_path: Path) -> None:
    trees = []
    for n_actors in (1, 3):
        root = benchmark(tmp_path / str(n_actors))
        extract_dataset(StoredDataset(root, "toy"), actors=n_actors)
        trees.append(contents(root))
    assert trees[0] == trees[1]
    assert len(trees[0]) == 12 * 3 + 1


def test_only_changed_sources_and_options_are_redone(local_ray: ModuleType, tmp_path: Path) -> None:
    benchmark(tmp_path)
    extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    before = stamps(tmp_path)
    write_video(tmp_path / "videos" / "toy" / "open" / "open 02.avi", 2, seed=99)
    summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    assert (summary.n_ok, summary.n_skipped, summary.n_frames) == (1, 11, 2)
    after = stamps(tmp_path)
    changed = {Path(path).parent.name for path in before if before[path] != after.get(path)}
    assert changed == {"open 02"}
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=2, short_side=16).n_ok == 12
    assert FrameStore(tmp_path / "images" / "toy").read(Video("open", "open 00"), [0]).shape == (1, 16, 16, 3)


def test_broken_and_missing_videos_cost_a_row_each(local_ray: ModuleType, tmp_path: Path) -> None:
    videos = benchmark(tmp_path) / "videos" / "toy"
    (videos / "open" / "open 00.avi").write_bytes(b"")
    (videos / "open" / "open 01.avi").write_text("a web page that says not found")
    (videos / "close 100%d" / "close 100%d 03.avi").unlink()
    summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    assert (summary.n_ok, summary.n_broken, summary.n_missing, summary.n_skipped) == (9, 2, 1, 0)
    failed = {record.key: (record.status, record.error) for record in summary.failed}
    assert failed == {
        "open/open 00": ("broken", "the file is empty"),
        "open/open 01": ("broken", "not a video, or in no format that FFmpeg reads"),
        "close 100%d/close 100%d 03": ("missing", "no video file of this name"),
    }
    images = tmp_path / "images" / "toy"
    assert (images / "missing.txt").read_text() == "close 100%d/close 100%d 03\n"
    assert sorted(os.listdir(images / "open")) == ["open 02", "open 03"]

    again = extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    assert (again.n_skipped, again.n_broken, again.n_missing, again.failed) == (11, 0, 1, summary.failed)
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=2, retry_failed=True).n_broken == 2
    for name in ("open/open 00", "open/open 01", "close 100%d/close 100%d 03"):
        write_video(videos / f"{name}.avi")
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=2).n_ok == 3
    assert not (images / "missing.txt").exists()


def test_a_video_over_its_time_limit_is_recorded_and_taken_up_again_on_demand(
    local_ray: ModuleType, tmp_path: Path
) -> None:
    write_video(tmp_path / "videos" / "toy" / "a" / "long.avi", 40, side=512)
    summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=1, time_limit_s=1e-6)
    assert (summary.n_timeout, summary.n_ok) == (1, 0)
    assert "no result within" in summary.failed[0].error
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=1).n_skipped == 1
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=1, retry_failed=True).n_ok == 1


def test_a_video_that_hangs_for_ever_costs_a_row(local_ray: ModuleType, tmp_path: Path) -> None:
    benchmark(tmp_path)
    pipe = tmp_path / "videos" / "toy" / "open" / "open 01.avi"
    pipe.unlink()
    os.mkfifo(pipe)  # nobody writes into it: to open it never ends
    summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=1, time_limit_s=2)
    assert (summary.n_ok, summary.n_timeout) == (11, 1)
    assert [(record.key, record.status, record.error) for record in summary.failed] == [
        ("open/open 01", "timeout", "no result within 2 s")
    ]
    assert list((tmp_path / "images").rglob("*.partial")) == []
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=1, time_limit_s=2).n_skipped == 12


class Fragile(Extractor):
    """Its decoder dies of what it reads in some files, and leaves half of their frames."""

    def extract(self, job: ExtractionJob) -> VideoRecord:
        if job.relative in ("open/open 01.avi", "close 100%d/close 100%d 03.avi"):
            folder = self.place.partial(job)
            folder.mkdir(exist_ok=True)
            (folder / "0.jpg").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().extract(job)


def test_a_decoder_that_dies_of_a_signal_costs_a_row(
    local_ray: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(extract, "Extractor", Fragile)
        summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    assert (summary.n_ok, summary.n_broken) == (10, 2)
    assert {record.key for record in summary.failed} == {"open/open 01", "close 100%d/close 100%d 03"}
    assert all("process died" in record.error for record in summary.failed)
    assert sorted(os.listdir(tmp_path / "images" / "toy" / "open")) == ["open 00", "open 02", "open 03"]
    assert list((tmp_path / "images").rglob("*.partial")) == []


@ray.remote(num_cpus=0)
class Blind:
    """Stand for an actor on a node that has nothing under the data root's path."""

    def look(self, place: Place, job: ExtractionJob) -> None:
        place.refuse_blind(job)


@pytest.mark.parametrize("unseen", ["videos", "staging"])
def test_a_node_that_does_not_see_the_data_is_named(local_ray: ModuleType, tmp_path: Path, unseen: str) -> None:
    def look(videos: Path, staging: Path) -> None:
        job = ExtractionJob(videos / "v.avi", "c/v.avi", tmp_path / "c" / "v")
        ray.get(Blind.remote().look.remote(Place(staging), job))

    folders = {"videos": tmp_path, "staging": tmp_path, unseen: tmp_path / "not mounted here"}
    with pytest.raises(StorageError, match=r"not mounted here: node [\d.]+ does not see this folder") as caught:
        look(folders["videos"], folders["staging"])
    assert "same path on every node" in str(caught.value)
    look(tmp_path, tmp_path)


def test_a_blind_node_ends_the_extraction_without_a_row(
    local_ray: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark(tmp_path)
    monkeypatch.setattr(extract, "Place", lambda staging: Place(staging / "elsewhere"))
    with pytest.raises(StorageError, match="elsewhere: node .* does not see this folder"):
        extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    assert read_manifest(tmp_path / "images" / "toy") == {}


def test_a_file_that_vanishes_meanwhile_costs_a_row(
    local_ray: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark(tmp_path)

    def vanish(*arguments: object, **options: object) -> list[ExtractionJob]:
        jobs = extraction_jobs(*arguments, **options)
        jobs[0].source.unlink()
        return jobs

    monkeypatch.setattr(extract, "extraction_jobs", vanish)
    summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    assert (summary.n_ok, summary.n_missing, summary.n_skipped) == (11, 1, 0)
    assert summary.failed[0].error == "cannot be opened: No such file or directory"


def test_frames_spread_evenly_over_each_video(local_ray: ModuleType, tmp_path: Path) -> None:
    benchmark(tmp_path, n_frames=9)
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=2).n_frames == 108
    whole = contents(tmp_path)
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=2, n_frames=3).n_frames == 36
    spread = contents(tmp_path)
    for index, source in enumerate((1, 4, 7)):
        assert spread[f"open/open 00/{index}.jpg"] == whole[f"open/open 00/{source}.jpg"]
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=2, n_frames=3).n_skipped == 12


def test_kill_9_of_actors_loses_nothing(local_ray: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, disturbed = (benchmark(tmp_path / name, 8, n_frames=20, side=256) for name in ("reference", "disturbed"))
    extract_dataset(StoredDataset(reference, "toy"), actors=2)
    killed: list[int] = []
    done: list[VideoRecord] = []

    def append_and_kill(images_root: Path, record: VideoRecord) -> None:
        append_record(images_root, record)
        done.append(record)
        if len(done) in (1, 12):  # far apart: a video on which two actors die is given up
            kill_extractor(killed)

    monkeypatch.setattr(extract, "append_record", append_and_kill)
    summary = extract_dataset(StoredDataset(disturbed, "toy"), actors=2)
    assert len(set(killed)) == 2
    assert (summary.n_ok, summary.n_broken) == (24, 0)
    assert contents(disturbed) == contents(reference)
    assert list(disturbed.rglob("*.partial")) == []


def test_an_interrupted_run_keeps_what_was_done(
    local_ray: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, disturbed = (benchmark(tmp_path / name) for name in ("reference", "disturbed"))
    extract_dataset(StoredDataset(reference, "toy"), actors=2)
    n_appended = 0

    def interrupt(images_root: Path, record: VideoRecord) -> None:
        nonlocal n_appended
        n_appended += 1
        if n_appended > 5:
            raise KeyboardInterrupt
        append_record(images_root, record)

    with monkeypatch.context() as patched:
        patched.setattr(extract, "append_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            extract_dataset(StoredDataset(disturbed, "toy"), actors=2)
    leftover = disturbed / "images" / "toy" / "open" / ".open 00.0123.partial"
    leftover.mkdir(parents=True)
    (leftover / "0.jpg").write_bytes(b"half")
    summary = extract_dataset(StoredDataset(disturbed, "toy"), actors=2)
    assert (summary.n_skipped, summary.n_ok) == (5, 7)
    assert contents(disturbed) == contents(reference)


def test_a_video_whose_process_died_is_taken_up_again(
    local_ray: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "videos" / "toy" / "a" / "x.avi")

    def die(
        _: object, jobs: list[ExtractionJob], *__: object, **___: object
    ) -> Iterator[tuple[ExtractionJob, ItemCrash]]:
        yield jobs[0], ItemCrash("the process died 2 times")

    with monkeypatch.context() as patched:
        patched.setattr(extract, "map_actors", die)
        summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=1)
    assert (summary.n_broken, summary.failed[0].error) == (1, "the process died 2 times")
    assert extract_dataset(StoredDataset(tmp_path, "toy"), actors=1).n_ok == 1


@pytest.mark.slow
@pytest.mark.long
def test_kill_9_of_the_driver_costs_at_most_what_was_under_way(local_ray: ModuleType, tmp_path: Path) -> None:
    reference, disturbed = (
        benchmark(tmp_path / name, 12, n_frames=20, side=256) for name in ("reference", "disturbed")
    )
    extract_dataset(StoredDataset(reference, "toy"), actors=2)
    script = "import sys; from orchestration.extraction.extract import *; "
    script += "extract_dataset(StoredDataset(Path(sys.argv[1]), 'toy'), actors=2)"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    driver = subprocess.Popen([sys.executable, "-c", script, str(disturbed)], env=environment)
    journal = disturbed / "images" / "toy" / "manifest.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= 6) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        driver.kill()
        driver.wait()
    n_journal = journal.read_bytes().count(b"\n")
    summary = extract_dataset(StoredDataset(disturbed, "toy"), actors=2)
    assert summary.n_skipped == n_journal >= 6
    assert summary.n_ok == 36 - n_journal
    assert contents(disturbed) == contents(reference)


def test_without_a_split_all_videos_found_are_extracted(local_ray: ModuleType, tmp_path: Path) -> None:
    for name in ("a/x", "a/y", "b/x"):
        write_video(tmp_path / "videos" / "toy" / f"{name}.avi")
    assert extract_dataset(StoredDataset(tmp_path, "toy")).n_ok == 3


def test_frames_outlive_their_videos(local_ray: ModuleType, tmp_path: Path) -> None:
    benchmark(tmp_path)
    extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    before = contents(tmp_path)
    for path in (tmp_path / "videos" / "toy" / "open").iterdir():
        path.unlink()
    summary = extract_dataset(StoredDataset(tmp_path, "toy"), actors=2)
    assert (summary.n_skipped, summary.n_missing) == (12, 0)
    assert contents(tmp_path) == before


def test_no_data_at_all_names_the_folder_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="videos/toy: holds no videos") as caught:
        extract_dataset(StoredDataset(tmp_path, "toy"), actors=1)
    assert caught.value.exit_code == 1
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_images_that_cannot_be_written_end_it_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark(tmp_path)
    (tmp_path / "images").write_text("a file where the folder should be")
    monkeypatch.setattr(extract, "connect", lambda *_: pytest.fail("Ray must not be started"))
    with pytest.raises(StorageError, match="images/toy: frames cannot be written"):
        extract_dataset(StoredDataset(tmp_path, "toy"), actors=1)


def test_two_extractions_of_one_dataset_do_not_meet(tmp_path: Path) -> None:
    benchmark(tmp_path)
    with exclusive(tmp_path / "images" / "toy"), pytest.raises(StorageError, match="another command extracts"):
        extract_dataset(StoredDataset(tmp_path, "toy"), actors=1)


@pytest.mark.parametrize(("is_first", "name"), [(True, "{}.jpg"), (True, "img_{:05d}.jpg"), (False, "img_{:05d}.jpg")])
def test_frames_of_another_tool_stay_until_their_folder_is_removed(
    local_ray: ModuleType, tmp_path: Path, is_first: bool, name: str
) -> None:
    root = benchmark(tmp_path, 2)
    kept = root / "images" / "toy" / CLASSES["train"] / f"{CLASSES['train']} 00"
    kept.mkdir(parents=True)
    if not is_first:
        write_manifest(root / "images" / "toy", [])
    for index in range(3):
        cv2.imwrite(str(kept / name.format(index)), np.full((24, 24, 3), 50 * index, np.uint8))
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    stored = StoredDataset(root, "toy")
    summary = extract_dataset(stored, actors=1)
    assert summary.n_ok == 5 and {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert any("1 videos keep the frames of another tool" in note and str(kept) in note for note in summary.notes)
    for path in kept.iterdir():
        path.unlink()
    kept.rmdir()
    summary = extract_dataset(stored, actors=1)
    assert (summary.n_ok, summary.notes) == (1, ())
    assert sorted(path.name for path in kept.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]
