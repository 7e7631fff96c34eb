"""Check what filming needs beside Python: the packages of the extra `metaworld`, and a software OpenGL."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from hcl.errors import ConfigError

PACKAGES = ("metaworld", "mujoco")
INSTALL_PACKAGES = "pip install 'hcl-orchestrator[metaworld]'"
INSTALL_LIBRARIES = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"

_EGL = "libEGL.so.1"
_MESA = "/usr/share/glvnd/egl_vendor.d/50_mesa.json"


def check_requirements() -> None:
    """Raise ConfigError, with the command that installs it, unless the packages and the library of EGL are there.

    Nothing is imported.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"the videos of Meta-World need the packages {' and '.join(PACKAGES)}; not installed: {', '.join(missing)}",
            where="hcl data metaworld",
            remedy=INSTALL_PACKAGES,
        )
    try:
        ctypes.CDLL(_EGL)
    except OSError as error:
        raise _no_rendering(f"the library {_EGL} cannot be loaded ({error})") from error


def choose_software_rendering(environment: MutableMapping[str, str]) -> None:
    """Set the variables that MuJoCo and Mesa read when they are first imported; values that are set already stay.

    All machines then draw with Mesa's software renderer, in one thread a process: a graphics card would draw other
    pixels.
    """
    environment.setdefault("MUJOCO_GL", "egl")
    environment.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")
    environment.setdefault("LP_NUM_THREADS", "1")
    if Path(_MESA).is_file():
        environment.setdefault("__EGL_VENDOR_LIBRARY_FILENAMES", _MESA)


@contextmanager
def opened_rendering() -> Iterator[None]:
    """Convert what MuJoCo raises where it cannot draw to a ConfigError that names the packages of the system."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # ImportError, AttributeError, RuntimeError and OpenGL's own, depending on what lacks
        raise _no_rendering(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def _no_rendering(problem: str) -> ConfigError:
    return ConfigError(
        f"MuJoCo cannot draw without a window: {problem}",
        where="hcl data metaworld",
        remedy=f"install a software OpenGL: {INSTALL_LIBRARIES}",
    )
