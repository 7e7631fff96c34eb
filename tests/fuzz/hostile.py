"""Generate hostile input, and check that no reader of it does anything forbidden.

`HCL_FUZZ_EXAMPLES=5000` (`make fuzz`) draws this number of new examples for each test; by default each test draws a few
examples, the same ones in every run.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from cluster import PlaceError
from hcl.errors import HCLError
from results import RecordError
from search_spaces import SpaceError

OURS = (HCLError, RecordError, SpaceError, PlaceError)
"""Exceptions that the command line prints as one message."""

_LONG = os.environ.get("HCL_FUZZ_EXAMPLES")


def fuzzed(n_examples: int) -> settings:
    """Set the number of examples of a test in `make test`; HCL_FUZZ_EXAMPLES overrides it.

    The examples of a test share its fixtures, so that each must write all files that it reads.
    """
    return settings(
        max_examples=int(_LONG) if _LONG else n_examples,
        derandomize=not _LONG,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes if examples write a page
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def contained(root: Path, *, reads_only: bool = True) -> Iterator[None]:
    """Check the rules for reading hostile input.

    - Only our own errors are raised, with a place and a problem; they are suppressed here.
    - No process is started, no connection is made, and no name is resolved for a pickle.
    - Outside of `root` only files of the program and of its libraries are opened, and only for reading.
    - With `reads_only`, every file below `root` stays unchanged.
    """
    before = _content(root) if reads_only else {}
    _Watch.root = Path(os.path.realpath(root))
    _Watch.seen.clear()
    raised = None
    try:
        yield
    except OURS as error:
        raised = error
    finally:
        _Watch.root = None
    assert raised is None or (raised.problem and raised.where), f"{raised!r} does not say what was wrong, and where"
    assert not _Watch.seen, f"reading did {_Watch.seen}"
    assert not reads_only or _content(root) == before, "reading changed what was there"


class _Watch:
    root: Path | None = None  # None: no checks are active
    seen: ClassVar[list[str]] = []


_EXECUTION = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen"}
_EXECUTION |= {"socket.connect", "pickle.find_class", "webbrowser.open"}
_PATHS = {"open": 1, "os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.symlink": 2, "os.link": 2}
_PATHS |= {"shutil.rmtree": 1, "os.truncate": 1, "os.chmod": 1}
_PROGRAM = [Path(__file__).parents[2], *(Path(path) for path in sysconfig.get_paths().values()), Path(sys.base_prefix)]
_SYSTEM = [Path("/proc"), Path("/sys"), Path("/dev"), Path("/usr"), Path("/lib"), Path("/etc/ld.so.cache")]


def _audit(event: str, arguments: Sequence[Any]) -> None:
    if _Watch.root is None or (event not in _EXECUTION and event not in _PATHS):
        return
    if event in _EXECUTION:
        _Watch.seen.append(f"{event} {arguments!r:.200}")
        return
    if event in ("os.remove", "os.rmdir") and arguments[-1] != -1:
        return  # relative to a folder's descriptor, as in shutil.rmtree, which has an audit event of its own
    paths = [os.fsdecode(one) for one in arguments[: _PATHS[event]] if isinstance(one, str | bytes | os.PathLike)]
    is_written = event != "open" or any(letter in str(arguments[1] or "r") for letter in "wax+")
    allowed = [_Watch.root, *([] if is_written else [*_PROGRAM, *_SYSTEM])]
    for path in paths:
        real = Path(os.path.realpath(path)) if "\0" not in path else Path("/NUL")
        if not any(real.is_relative_to(place) for place in allowed) and real != Path("/dev/null") and "\0" not in path:
            _Watch.seen.append(f"{event} {path}")


sys.addaudithook(_audit)


def _content(root: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


TOKENS = (
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\n", b"\r\n", b"\t", b" "),
    *(b"../", b"/etc/passwd", b"..", b"~/", b"a" * 300, b"\\ud800", b"\\x00", b"%s", b"{0}", b"$(id)", b"`id`"),
    *(b"-1", b"1e999", b"nan", b".inf", b"null", b"true", b"9" * 400, b"9" * 5000, b"0x10", b"1:30", b"NaN"),
    *(b"[", b"]", b"{", b"}", b":", b": ", b",", b"&a ", b"*a", b"<<: ", b"- ", b"? ", b"|", b"#", b'"', b"'"),
    *(b"!!python/object/apply:os.system [id]", b"!!int x", b'!!float ""', b"!!binary x", b"!!set {a}", b"!!omap [a]"),
    *(b"!!timestamp 0001-01-01 00:00:00 +9", b"!!map a", b"!!str [a]", b"&a [*a]", b"[" * 3000, b'{"a":' * 3000),
)
"""Fragments that mutations insert: they have a meaning in YAML, JSON, paths or terminals."""


@st.composite
def mutated(draw: st.DrawFn, originals: Sequence[bytes], *, n_most: int = 4) -> bytes:
    """Mutate one of the originals: truncate it, flip bits, insert, remove or repeat pieces, or append another."""
    content = draw(st.sampled_from(list(originals)))
    for _ in range(draw(st.integers(1, n_most))):
        at = draw(st.integers(0, len(content)))
        end = min(len(content), at + draw(st.integers(1, 40)))
        match draw(st.sampled_from(["cut", "flip", "put", "replace", "drop", "repeat", "join"])):
            case "cut":
                content = content[:at]
            case "flip" if at < len(content):
                flipped = content[at] ^ (1 << draw(st.integers(0, 7)))
                content = content[:at] + bytes([flipped]) + content[at + 1 :]
            case "put":
                content = content[:at] + draw(_pieces) + content[at:]
            case "replace":
                content = content[:at] + draw(_pieces) + content[end:]
            case "drop":
                content = content[:at] + content[end:]
            case "repeat":
                content = content[:end] + content[at:end] * draw(st.integers(1, 3)) + content[end:]
            case "join":
                other = draw(st.sampled_from(list(originals)))
                content = content[:at] + other[draw(st.integers(0, len(other))) :]
    return content


_pieces = st.one_of(st.sampled_from(TOKENS), st.binary(max_size=12))

texts = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=4),
    st.sampled_from(["", "..", ".", "../..", "/etc/passwd", "a/b", "a\0b", "x" * 300, "\ud800", "~", "$HOME", "nul"]),
    st.sampled_from(
        ["manifest.parquet", "manifest.jsonl", "shard-0.tar", "index.parquet", "<script>", "=1+1", "[red]"]
    ),
)
"""Names and texts that must not be trusted."""

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63, 2**64, -(2**63) - 1, 10**400]),
    st.floats(),
    texts,
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
"""Arbitrary values of JSON or YAML."""


@st.composite
def altered(draw: st.DrawFn, original: Any, *, n_most: int = 3) -> Any:
    """Alter nested plain data: replace some values, and drop or add entries."""
    content = original
    for _ in range(draw(st.integers(1, n_most))):
        content = _altered(draw, content)
    return content


def _altered(draw: st.DrawFn, content: Any) -> Any:
    if isinstance(content, Mapping) and content and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(content, key=repr)))
        rest = {one: value for one, value in content.items() if one != key}
        match draw(st.sampled_from(["change", "change", "change", "drop", "add"])):
            case "drop":
                return rest
            case "add":
                return {**content, draw(texts): draw(values)}
        return {**rest, key: _altered(draw, content[key])}
    if isinstance(content, list | tuple) and content and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(content) - 1))
        return [*content[:at], _altered(draw, content[at]), *content[at + 1 :]]
    return draw(values)
