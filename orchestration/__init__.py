"""Hold the command line and everything that runs on Ray; the only package that composes the other four."""

import os

# Makes Ray's functions raise if no Ray runs; by default they would start a Ray that nothing ends. Ray reads the
# variable when it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
