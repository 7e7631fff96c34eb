"""The command line and everything that runs on Ray; the only package that composes the other four."""

import os

# Ray's functions, called where no Ray runs, then raise; by themselves they would start a Ray that nothing ends. Ray
# reads it when it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
