"""Check names from lists that become folders and files of the data root, and show them in messages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from hcl.errors import SplitError

MAX_BYTES = 240
"""Maximum length of a name in UTF-8. File systems allow 255, and a video's file also has an extension."""

_KEPT = re.compile(r"manifest\.(parquet|jsonl)|shard-.*\.tar", re.DOTALL)
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNPRINTABLE = {"Cc": "control character", "Cs": "broken character", "Zl": "line separator", "Zp": "line separator"}


def refuse_unsafe_name(name: str, *, what: str, where: str) -> None:
    """Raise SplitError for a name that could leave the data root, would be hidden there, or would corrupt a table.

    Brackets, spaces, commas, wildcards and every script are allowed, right-to-left ones included. Invisible marks that
    change the direction of writing are not, because they make one name look like another.
    """
    if problem := problem_with(name):
        raise SplitError(
            f"{what} {shown(name)} cannot be a folder or file of the data root: it {problem}",
            where=where,
            remedy="use a visible name of one line with no slash that does not begin with a dot",
        )


def shown(name: str, limit: int = 80) -> str:
    """Return a name in quotes with unprintable characters escaped, cut to `limit` characters."""
    return repr(name) if len(name) <= limit else f"{name[:limit]!r}... ({len(name):,} characters)"


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names in quotes, and the number of the others."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(shown(name) for name in names[:limit]) + more


def problem_with(name: str) -> str:
    """Return the reason why a name cannot be a folder or file of the data root; "" if it can."""
    if not name.strip():
        return "is blank"
    if name.startswith("."):
        return "begins with a dot"
    if _KEPT.fullmatch(name):
        return "is that of a file which is kept beside the classes' frames"
    if name.isascii() and name.isprintable():  # fast path for nearly all names
        unsafe = "/" if "/" in name else ""
    else:
        unsafe = next((char for char in name if char == "/" or char in _DIRECTION or _kind(char)), "")
    if unsafe == "/":
        return "holds a slash"
    if unsafe:
        return f"holds a {_kind(unsafe) or 'mark that turns the direction of writing'} (U+{ord(unsafe):04X})"
    if (n_bytes := len(name.encode())) > MAX_BYTES:
        return f"has {n_bytes:,} bytes, more than {MAX_BYTES}"
    return ""


def _kind(character: str) -> str:
    return _UNPRINTABLE.get(unicodedata.category(character), "")
