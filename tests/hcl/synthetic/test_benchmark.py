"""The synthetic benchmark: pure rendering, twins that are each other backwards, files that hold what was rendered."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hcl.errors import ConfigError, DataError, StorageError
from hcl.synthetic import benchmark, codecs
from hcl.synthetic.actions import TWINS, Family
from hcl.synthetic.benchmark import ACTIONS, ACTIONS_OF, DOMAINS, MAX_FRAMES, MIN_FRAMES, make_benchmark, render_video
from hcl.synthetic.codecs import CONTAINERS, FPS, count_frames, write_video
from hcl.synthetic.drawing import filmed, scenery

PAIRS = [twin for twins in TWINS.values() for twin in twins]
SIZE = 32


def files_under(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def share_that_moves(frames: np.ndarray) -> float:
    """The share of pixels that change clearly, noise smoothed away, between two neighbours of eight uniform frames."""
    seen = frames[np.linspace(0, len(frames) - 1, 8).round().astype(int)].astype(float)
    smooth = np.stack([cv2.blur(frame, (9, 9)) for frame in seen])
    return float((np.abs(np.diff(smooth, axis=0)).max((0, 3)) > 5).mean())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("benchmark")
    make_benchmark(root, domains=["plain", "dim"], videos_per_class=2, size=SIZE, seed=3, workers=1)
    return root


# rendering


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_video_is_a_function_of_what_names_it(domain: str) -> None:
    first = render_video(domain, "grow", 1, seed=5, size=48)
    render_video(domain, "split", 0, seed=1, size=48)  # what else is rendered in between plays no part
    assert first.dtype == np.uint8 and first.shape[1:] == (48, 48, 3)
    np.testing.assert_array_equal(first, render_video(domain, "grow", 1, seed=5, size=48))
    for other in ({"seed": 6}, {"index": 2}, {"action": "shrink"}):
        named: dict[str, Any] = {"action": "grow", "index": 1, "seed": 5} | other
        again = render_video(domain, named["action"], named["index"], seed=named["seed"], size=48)
        assert again.shape != first.shape or not np.array_equal(again, first), other


def test_rendering_does_not_change_unnoticed() -> None:
    """A benchmark made elsewhere or later shows the same; on a wanted change raise `_REVISION` and these numbers."""
    means = [
        render_video("plain", action, 0, seed=0, size=64).mean()
        for action in ("open_door", "merge", "rotate_clockwise")
    ]
    assert means == pytest.approx(
        [113.401, 144.397, 139.335], abs=0.5
    )  # anti-aliasing may differ a little between builds


@pytest.mark.parametrize("domain", [domain for domain in DOMAINS if domain != "shaky"])  # there everything moves
@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_moves_visibly_at_eight_frames(domain: str, action: str) -> None:
    for index in range(2):
        frames = render_video(domain, action, index, size=96)
        assert MIN_FRAMES <= len(frames) <= MAX_FRAMES
        assert share_that_moves(frames) > 0.05


def test_only_the_shaking_camera_moves_a_still_scene() -> None:
    for domain in DOMAINS:
        rng = np.random.default_rng(2)
        background, _ = scenery("textured", rng, 96)
        moves = share_that_moves(filmed(domain, np.repeat(background[None], 24, axis=0), rng))
        assert moves > 0.5 if domain == "shaky" else moves < 0.001, domain


@pytest.mark.parametrize("domain", ["plain", "textured", "cluttered"])
@pytest.mark.parametrize(("forward", "backward", "family"), PAIRS)
def test_twins_show_the_same_frames_backwards(domain: str, forward: str, backward: str, family: Family) -> None:
    """From equal draws the twins are exact reversals, so neither frames nor their unordered set tell them apart."""
    for seed in range(2):
        ahead = benchmark._render(domain, family, False, np.random.default_rng(seed), 48)
        back = benchmark._render(domain, family, True, np.random.default_rng(seed), 48)
        np.testing.assert_array_equal(back, ahead[::-1])
        assert np.abs(ahead[0].astype(int) - ahead[-1]).max() > 60, "the ends look alike: the order cannot be seen"


def test_phases_have_the_distribution_of_their_reversal() -> None:
    drawn = np.stack([benchmark._phases(20, np.random.default_rng(seed)) for seed in range(2000)])
    assert (np.diff(drawn, axis=1) >= 0).all() and (drawn[:, 0] == 0).all() and (drawn[:, -1] == 1).all()
    np.testing.assert_allclose(drawn.mean(0), 1 - drawn[:, ::-1].mean(0), atol=0.01)
    np.testing.assert_allclose(drawn.std(0), drawn[:, ::-1].std(0), atol=0.01)


@pytest.mark.parametrize("domain", DOMAINS)
def test_first_frames_of_grow_look_like_last_frames_of_shrink(domain: str) -> None:
    """In distribution, through the public function: how much of the frame differs from the background."""

    def areas(action: str) -> np.ndarray:
        videos = [render_video(domain, action, index, size=SIZE) for index in range(40)]
        deviation = [[frame.astype(float).std((0, 1)).mean() for frame in (video[0], video[-1])] for video in videos]
        return np.mean(deviation, axis=0)

    grow, shrink = areas("grow"), areas("shrink")
    assert grow[1] > grow[0] * 1.1
    np.testing.assert_allclose(grow, shrink[::-1], rtol=0.25)


def test_appearance_is_independent_of_the_class() -> None:
    """Mean colours, lengths and backgrounds of a class are those of its twin, up to chance."""
    for forward, backward in (("left_to_right", "right_to_left"), ("open_jaw", "close_jaw")):
        looks = []
        for action in (forward, backward):
            videos = [render_video("plain", action, index, size=SIZE) for index in range(80)]
            looks.append([np.mean([len(v) for v in videos]) * 4, np.mean([v.mean() for v in videos])])
        np.testing.assert_allclose(looks[0], looks[1], atol=25)


# classes


def test_partitions_are_disjoint_and_keep_twins_together() -> None:
    assert set(ACTIONS_OF) == {"train", "val", "test"}
    assert [len(ACTIONS_OF[name]) for name in ("train", "val", "test")] == [20, 6, 10]
    assert len(set(ACTIONS)) == len(ACTIONS) == 36
    for partition, twins in TWINS.items():
        for forward, backward, _ in twins:
            assert {forward, backward} <= set(ACTIONS_OF[partition])


# files


def test_the_published_layout(small: Path) -> None:
    for dataset in ("synth_plain", "synth_dim"):
        splits, videos = small / "splits" / dataset, small / "videos" / dataset
        listed: list[str] = []
        for partition, actions in ACTIONS_OF.items():
            assert (splits / f"{partition}_class.txt").read_text().split() == list(actions)
            lines = (splits / f"{partition}.list").read_text().split()
            assert Counter(line.split("/")[0] for line in lines) == dict.fromkeys(actions, 2)
            listed += lines
        on_disk = [path.relative_to(videos).with_suffix("").as_posix() for path in videos.rglob("*") if path.is_file()]
        assert sorted(on_disk) == sorted(listed)


def test_three_containers_hold_what_was_rendered(small: Path) -> None:
    paths = sorted((small / "videos" / "synth_plain").glob("*/*"))
    assert {path.suffix for path in paths} == set(CONTAINERS)
    for path in paths:
        reader = cv2.VideoCapture(str(path))
        assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(FPS)
        frames = []
        while (read := reader.read())[0]:
            frames.append(read[1])
        rendered = render_video("plain", path.parent.name, int(path.stem[-3:]), seed=3, size=SIZE)
        assert np.shape(frames) == rendered.shape
        assert np.abs(np.array(frames).astype(float) - rendered).mean() < 12  # lossy, but this video and in this order


def test_workers_change_nothing(small: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    made = make_benchmark(
        tmp_path,
        domains=["plain"],
        videos_per_class=2,
        size=SIZE,
        seed=3,
        workers=2,
        on_video=lambda *n: calls.append(n),
    )
    assert calls == [(done, 72) for done in range(1, 73)]
    summary = made["synth_plain"]
    assert (summary.n_classes, summary.n_videos, summary.n_written) == (36, 72, 72)
    assert (
        summary.videos == tmp_path / "videos" / "synth_plain" and summary.splits == tmp_path / "splits" / "synth_plain"
    )
    alone = {name: data for name, (data, _) in files_under(small).items() if "synth_plain" in name}
    together = {name: data for name, (data, _) in files_under(tmp_path).items()}
    assert together.keys() == alone.keys()
    for name in together:
        if not name.endswith(".webm"):  # a webm file carries a random identity number; its frames are compared above
            assert together[name] == alone[name], name


def test_a_repeated_call_does_nothing(small: Path) -> None:
    before = files_under(small)
    made = make_benchmark(
        small,
        domains=["plain", "dim"],
        videos_per_class=2,
        size=SIZE,
        seed=3,
        on_video=lambda *n: pytest.fail(f"wrote {n}"),
    )
    assert [summary.n_written for summary in made.values()] == [0, 0]
    assert files_under(small) == before


def test_an_interrupted_call_goes_on(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"domains": ["plain"], "videos_per_class": 1, "size": SIZE, "workers": 1}
    with pytest.raises(KeyboardInterrupt):
        make_benchmark(tmp_path, on_video=stop, **options)
    before = files_under(tmp_path / "videos")
    assert len(before) == 5 and not list(tmp_path.rglob("*.list")), "lists promise videos that are all there"
    assert make_benchmark(tmp_path, **options)["synth_plain"].n_written == 31
    after = files_under(tmp_path / "videos")
    assert len(after) == 36 and before.items() <= after.items()
    assert not [name for name in after if Path(name).name.startswith(".")]


@pytest.mark.parametrize("other", [{"seed": 4}, {"size": 34}, {"videos_per_class": 3}])
def test_other_options_are_refused_and_nothing_is_touched(small: Path, other: dict[str, int]) -> None:
    before = files_under(small)
    options: dict[str, Any] = {"videos_per_class": 2, "size": SIZE, "seed": 3} | other
    with pytest.raises(DataError, match="synth_dim.*other|synth_dim.*made with") as caught:
        make_benchmark(small, domains=["shaky", "dim"], **options)
    assert str(small) in str(caught.value.where) and "overwrite" in str(caught.value.remedy)
    assert files_under(small) == before


def test_a_foreign_folder_is_refused_then_overwritten_on_demand(tmp_path: Path) -> None:
    foreign = tmp_path / "videos" / "synth_plain" / "mine.mp4"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"precious")
    options: dict[str, Any] = {"domains": ["plain"], "videos_per_class": 1, "size": SIZE, "workers": 1}
    with pytest.raises(DataError, match="no stamp"):
        make_benchmark(tmp_path, **options)
    assert foreign.read_bytes() == b"precious"
    assert make_benchmark(tmp_path, overwrite=True, **options)["synth_plain"].n_written == 36
    assert not foreign.exists()
    assert make_benchmark(tmp_path, overwrite=True, **options)["synth_plain"].n_written == 0, "the same options: kept"


@pytest.mark.parametrize(
    "options",
    [
        {"domains": ["plane"]},
        {"domains": []},
        {"videos_per_class": 0},
        {"size": 33},
        {"size": 8},
        {"seed": -1},
        {"workers": 0},
    ],
)
def test_impossible_options_name_the_field(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_benchmark(tmp_path, **options)
    assert caught.value.where == next(iter(options))
    assert not list(tmp_path.iterdir())


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ConfigError, match="left_to_right"):
        render_video("plain", "dance", 0)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(StorageError, match="root"):
        make_benchmark(tmp_path / "root", domains=["plain"], videos_per_class=1)


# codecs


def test_a_missing_encoder_is_replaced_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTAINERS, ".mp4", "ZZZZ")  # no such encoder
    with pytest.warns(UserWarning, match=r"cannot write ZZZZ in \.mp4.*MJPG in \.avi"):
        chosen = codecs.usable_containers(tmp_path)
    assert chosen == {".mp4": ".avi", ".avi": ".avi", ".webm": ".webm"}
    assert not list(tmp_path.iterdir())


def test_no_encoder_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in tuple(CONTAINERS):
        monkeypatch.setitem(CONTAINERS, suffix, "ZZZZ")
    with pytest.raises(DataError, match="writes none of"):
        codecs.usable_containers(tmp_path)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_writing_counts_the_frames_and_leaves_stderr_alone(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"clip{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert write_video(path, render_video("plain", "grow", 0, size=SIZE)[:7])
    assert count_frames(path) == 7
    assert capfd.readouterr().err == ""
    path.write_bytes(path.read_bytes()[:200])
    assert count_frames(path) == 0
