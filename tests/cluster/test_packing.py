"""What is packed of a checkout, and what is refused."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from cluster.errors import PackageError
from cluster.packing import REVISION, pack

LIMIT = 10_000


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One commit; a data folder, a cache and a new file that git does not track."""
    root = tmp_path / "checkout"
    for name, content in {
        "hcl/models/hcl.py": "x = 1\n",
        "run.sh": "true\n",
        "data/clip.mp4": "v" * 5000,
        "hcl/__pycache__/model.pyc": "c",
        "new.py": "y = 2\n",
        ".gitignore": "data/\n__pycache__/\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "run.sh").chmod(0o755)
    git(root, "init", "-q")
    git(root, "add", "hcl", "run.sh", ".gitignore")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first")
    return root


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", root, *words], check=True, capture_output=True, text=True).stdout


def content(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_only_what_git_tracks_is_packed_as_it_lies_there(checkout: Path, tmp_path: Path) -> None:
    (checkout / "hcl" / "models" / "hcl.py").write_text("x = 3\n")
    package = pack(checkout / "hcl", tmp_path / "code.zip", named={}, limit=LIMIT)
    found = content(package.path)
    note = json.loads(found.pop(REVISION))
    assert found == {"hcl/models/hcl.py": "x = 3\n", "run.sh": "true\n", ".gitignore": "data/\n__pycache__/\n"}
    assert note == {"revision": git(checkout, "rev-parse", "HEAD").strip(), "dirty": True}
    assert package.n_files == 3 and package.n_bytes == sum(map(len, found.values()))
    assert package.untracked == ("new.py",)
    with zipfile.ZipFile(package.path) as archive:
        assert archive.getinfo("run.sh").external_attr >> 16 == 0o755


def test_the_same_content_gives_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    first = pack(checkout, tmp_path / "first.zip", named={}, limit=LIMIT)
    (checkout / "run.sh").touch()
    second = pack(checkout, tmp_path / "second.zip", named={}, limit=LIMIT)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert not second.dirty


def test_named_files_come_along_and_deleted_ones_do_not(checkout: Path, tmp_path: Path) -> None:
    (checkout / "run.sh").unlink()
    package = pack(checkout, tmp_path / "code.zip", named={"submitted/0/a.yaml": checkout / "new.py"}, limit=LIMIT)
    assert set(content(package.path)) == {REVISION, "hcl/models/hcl.py", ".gitignore", "submitted/0/a.yaml"}
    assert package.untracked == ()


def test_too_much_is_refused_before_anything_is_written(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "add", "--force", "data")
    with pytest.raises(PackageError, match=r"more than 0.0 MB; the largest: data/clip.mp4 \(0.0 MB\)"):
        pack(checkout, tmp_path / "code.zip", named={}, limit=4000)
    assert not (tmp_path / "code.zip").exists()


def test_links_out_of_the_checkout_and_other_folders_are_refused(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (checkout / "link").symlink_to(tmp_path / "secret")
    git(checkout, "add", "link")
    with pytest.raises(PackageError, match="is a link out of the checkout"):
        pack(checkout, tmp_path / "code.zip", named={}, limit=LIMIT)
    (tmp_path / "plain").mkdir()
    with pytest.raises(PackageError, match="is not a git checkout"):
        pack(tmp_path / "plain", tmp_path / "code.zip", named={}, limit=LIMIT)
