"""Import the code of extensions: a file as a module of its own, and what goes wrong as a ConfigError with the line."""

from __future__ import annotations

import hashlib
import inspect
import linecache
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hcl.errors import ConfigError


def text_digest(text: str) -> str:
    """Return twelve hexadecimal digits that identify the text of a file."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def code_digest(loaded: Any, text: str | None = None) -> str:
    """Return a digest of the file that defines a class; what that file imports is not read.

    Args:
        text: of the file, if it is known.
    """
    if text is None:
        kind = loaded if isinstance(loaded, type) or inspect.isfunction(loaded) else type(loaded)
        text = Path(inspect.getfile(kind)).read_text()
    return text_digest(text)


def read_source(path: Path, sources: Mapping[str, str], where: str) -> str:
    """Return the text of an extension file, from `sources` if it is there. Raises ConfigError."""
    if str(path) in sources:
        return sources[str(path)]
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error})",
            where=where,
            remedy="a file is relative to the YAML file that names it, or to the working folder on a command line",
        ) from error


def module_of(path: Path, text: str, where: str) -> types.ModuleType:
    """Import a text as a module of its own; a module that was imported with the same text is used again."""
    name = f"hcl_extension_{path.stem}_{text_digest(text)}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = str(path)
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    sys.modules[name] = module  # dataclasses and pydantic look their module up there
    try:
        with faults_at(where):
            exec(compile(text, str(path), "exec"), module.__dict__)
    except ConfigError:
        del sys.modules[name]
        raise
    return module


@contextmanager
def faults_at(where: str) -> Iterator[None]:
    """Turn what an extension raises while it is imported or made into a ConfigError with the line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # whatever the code of a user raises
        raise ConfigError(
            f"cannot be loaded: {type(error).__name__}: {error}{_line_of(error)}",
            where=where,
            remedy="mend the file, or install what it imports",
        ) from error


def _line_of(error: Exception) -> str:
    """Return the place of an error in the code outside this package; empty where only this package called wrongly."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    ours = str(Path(__file__).parents[1])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
