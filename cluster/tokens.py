"""Find Ray's token, without ever printing it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import JobError

PLACES = "RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"


@dataclass(frozen=True)
class Token:
    """Hold a token and its origin. It allows running code on the cluster, so that only a header may contain it."""

    value: str = field(repr=False)
    origin: str

    def header(self) -> dict[str, str]:
        """Return the headers of a request to the job server."""
        return {"Authorization": f"Bearer {self.value}"}


def find_token(environment: Mapping[str, str] | None = None, home: Path | None = None) -> Token | None:
    """Find the token of this user in PLACES, in Ray's own order; None if there is none.

    Unlike Ray's clients this does not require RAY_AUTH_MODE=token: a token is sent if a server requires one.

    Raises:
        JobError: the value there is no token.
    """
    environment = os.environ if environment is None else environment
    if value := environment.get("RAY_AUTH_TOKEN", "").strip():
        return _token(value, "RAY_AUTH_TOKEN")
    if named := environment.get("RAY_AUTH_TOKEN_PATH"):
        return _read(Path(named).expanduser(), f"{named} (RAY_AUTH_TOKEN_PATH)")
    home = home or home_folder()
    return _read(home / ".ray" / "auth_token", str(home / ".ray" / "auth_token")) if home else None


def home_folder() -> Path | None:
    """Return this user's home folder; None for a user without a name and HOME, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _read(path: Path, origin: str) -> Token | None:
    try:
        value = path.read_bytes().strip()
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        return None
    return _token(value.decode(errors="replace"), origin) if value else None


def _token(value: str, origin: str) -> Token:
    """Check that a header can contain the token, because libraries print a token that they refuse."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise JobError(
            "holds no token: a token is one word of printable ASCII",
            where=origin,
            remedy="put the cluster's token there",
        )
    return Token(value, origin)
