"""Name the formats of an export. This module is light, for the command line's help."""

from __future__ import annotations

from typing import Literal

Format = Literal["csv", "parquet", "json", "latex", "markdown", "records"]
