"""Test the places from which a token is read, and that no text shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.tokens import find_token


def test_the_first_place_that_has_one_counts(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    default, named = tmp_path / ".ray" / "auth_token", tmp_path / "named"
    assert find_token({}, tmp_path) is None
    default.write_text("default\n")
    named.write_text("named\n")
    places = {"RAY_AUTH_TOKEN": "direct", "RAY_AUTH_TOKEN_PATH": str(named)}
    for environment, value, origin in (
        (places, "direct", "RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_TOKEN_PATH": str(named)}, "named", f"{named} (RAY_AUTH_TOKEN_PATH)"),
        ({"RAY_AUTH_TOKEN": "  "}, "default", str(default)),
    ):
        token = find_token(environment, tmp_path)
        assert token is not None and (token.value, token.origin) == (value, origin)


def test_a_named_file_that_is_missing_is_not_replaced_by_another(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("default")
    assert find_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "gone")}, tmp_path) is None


def test_a_token_shows_its_place_but_not_itself(tmp_path: Path) -> None:
    token = find_token({"RAY_AUTH_TOKEN": "sesame"}, tmp_path)
    assert token is not None
    assert "sesame" not in f"{token} {token!r}" and "RAY_AUTH_TOKEN" in repr(token)
    assert token.header() == {"Authorization": "Bearer sesame"}


def test_a_user_without_a_name_and_a_home_has_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no user name and no HOME, as in a container."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert find_token({}) is None
