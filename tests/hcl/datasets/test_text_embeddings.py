"""Class-name embeddings on disk, names of classes, and the published pickles."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcl.datasets.class_names import lines_of_names, read_names, spelled_out
from hcl.datasets.embeddings import ClassEmbeddings, embeddings_file, read_embeddings, write_embeddings
from hcl.datasets.published_embeddings import import_published, read_pickle
from hcl.errors import DataError, SplitError

CLASSES = ("hurling (sport)", "a, b", "größer", "BlowingCandles", "kick", "kick ball")
VECTORS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
EMBEDDINGS = ClassEmbeddings(CLASSES, tuple(spelled_out(one) for one in CLASSES), VECTORS, "toy, mean")


def pickled(path: Path, value: object, protocol: int = 3) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


# -- the file


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write_embeddings(embeddings_file(tmp_path, "toy", "embeddings/{dataset}.npz"), EMBEDDINGS)
    assert path == tmp_path / "embeddings" / "toy.npz"
    read = read_embeddings(path, CLASSES[::-2], dataset="toy", dim=5)
    np.testing.assert_array_equal(read.numpy(), VECTORS[::-2])
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == list(EMBEDDINGS.names) and str(arrays["model"]) == "toy, mean"
    with pytest.raises(SplitError, match="dataset name"):
        embeddings_file(tmp_path, "../toy", "embeddings/{dataset}.npz")


# -- names


def test_both_published_forms_of_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("kick ball,kick ball\nkick,kick\na, b,a and b\nhurling (sport),hurling sport\nother,other")
    assert read_names(path, CLASSES[:2] + CLASSES[4:]) == {
        "hurling (sport)": "hurling sport",
        "a, b": "a and b",
        "kick": "kick",
        "kick ball": "kick ball",
    }
    assert [class_name for class_name, _ in lines_of_names(path, CLASSES)][-1] is None
    path.write_text("train0 bending sth until it breaks\r\ntrain10 closing sth\r\n")
    names = {"train0": "bending sth until it breaks", "train10": "closing sth"}
    assert read_names(path, ["train0", "train10"]) == names
    path.write_text("kick ball,kick ball\nkick,kick")  # the first line is not of `kick`
    assert [class_name for class_name, _ in lines_of_names(path, ["kick"])] == [None, "kick"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kick,kick", "1 of 2 classes have no line: 'sit'"),
        ("kick,kick\nsit,", r"line 2: class 'sit' has a blank name"),
        ("kick,kick\nsit,sit\nkick,k", r"line 3: class 'kick' stands here and in line 1"),
        ("", "has no lines"),
    ],
)
def test_names_that_are_missing_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(SplitError, match=message):
        read_names(tmp_path / "names.txt", ["kick", "sit"])


def test_folders_are_spelled_out() -> None:
    folders = {"CleanAndJerk": "clean and jerk", "brush_hair": "brush hair", "air drumming": "air drumming"}
    assert {folder: spelled_out(folder) for folder in folders} == folders


# -- pickles


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_numpys_own_pickles_are_read(tmp_path: Path, protocol: int, dtype: str) -> None:
    path = pickled(tmp_path / "x.pkl", VECTORS.astype(dtype), protocol)
    if protocol == 5:  # through numpy's _frombuffer, which no published file asks for
        with pytest.raises(DataError, match=r"asks for 'numpy\._core\.numeric\._frombuffer'"):
            read_pickle(path)
        return
    np.testing.assert_array_equal(read_pickle(path), VECTORS.astype(dtype).astype(np.float32))


def test_fortran_order_is_kept(tmp_path: Path) -> None:
    path = pickled(tmp_path / "x.pkl", np.asfortranarray(VECTORS))
    np.testing.assert_array_equal(read_pickle(path), VECTORS)


class Malicious:
    """Writes a file when it is loaded."""

    def __init__(self, call: tuple):
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, ("touch owned",)),
        (eval, ("open('owned', 'w')",)),
        (exec, ("open('owned', 'w')",)),
        (getattr, (os, "getcwd")),
        (np.load, ("owned",)),
        (np.frombuffer, (b"owned",)),
        (open, ("owned", "w")),
    ],
    ids=lambda call: call[0].__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_a_malicious_pickle_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: tuple, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    if call[0] is getattr:
        call = (getattr, ("owned", "upper"))
    for value in (Malicious(call), [VECTORS, Malicious(call)]):
        path = pickled(tmp_path / "x.pkl", value, protocol)
        with pytest.raises(DataError, match="asks for .* it was not run") as caught:
            read_pickle(path)
        assert caught.value.remedy
        assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"a": 1}),
        pickle.dumps(VECTORS[0], protocol=3),
        pickle.dumps(VECTORS[:0], protocol=3),
        pickle.dumps(np.array([["a"]], dtype=object), protocol=3),
        pickle.dumps(np.full((2, 2), np.nan, np.float32), protocol=3),
        pickle.dumps(np.ones((2, 2), np.int64), protocol=3),
        pickle.dumps(VECTORS, protocol=3)[:-20],
        b"",
        b"\x80",
        # a stand-in as it is found, uncalled, and its state set: the notes of one file cannot reach the next
        b"\x80\x03cnumpy\ndtype\n}X\x04\x00\x00\x00codeK\x01sb.",
        b"\x80\x03cnumpy\nndarray\n.",
    ],
)
def test_other_pickles_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no pickled array of embeddings"):
        read_pickle(path)
    np.testing.assert_array_equal(read_pickle(pickled(path, VECTORS)), VECTORS)


def test_a_shape_cannot_ask_for_more_than_the_file_holds(tmp_path: Path) -> None:
    content = pickle.dumps(VECTORS, protocol=3)
    assert content.count(b"K\x06K\x05") == 1  # the shape (6, 5)
    (tmp_path / "x.pkl").write_bytes(content.replace(b"K\x06K\x05", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f"))
    with pytest.raises(DataError, match="an array of shape .* in 120 bytes"):
        read_pickle(tmp_path / "x.pkl")


@given(st.data())
def test_damaged_pickles_end_in_a_message(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(pickle.dumps(VECTORS, protocol=data.draw(st.sampled_from([2, 3, 4]))))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.pkl"
    path.write_bytes(content)
    with suppress(DataError):  # nothing else is raised; damage to a value cannot be seen
        assert read_pickle(path).dtype == np.float32


def test_published_rows_follow_their_lines(tmp_path: Path) -> None:
    path, names = pickled(tmp_path / "toy_embs.pkl", VECTORS), tmp_path / "toy_dirname2cls.txt"
    names.write_text("\n".join(f"{one},name of {one}" for one in CLASSES))
    found = import_published(path, names, [CLASSES[3], CLASSES[0]], "bert")
    assert found.names == ("name of BlowingCandles", "name of hurling (sport)")
    np.testing.assert_array_equal(found.vectors, VECTORS[[3, 0]])
    with pytest.raises(DataError, match="1 of 2 classes have no line: 'sit'"):
        import_published(path, names, ["kick", "sit"], "bert")
    names.write_text("kick,kick")
    with pytest.raises(DataError, match="holds 6 rows, toy_dirname2cls.txt names 1 classes"):
        import_published(path, names, ["kick"], "bert")
