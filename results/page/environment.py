"""Make the environment in which the templates of pages are filled, and their style sheet."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from results.page.page_tables import breakable, parts, short
from results.records.moments import shown_moment

TEMPLATES = Path(__file__).parent / "templates"


def page_environment() -> jinja2.Environment:
    """Return an environment that escapes every text from data, and refuses a name that is not given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"when": shown_moment, "parts": parts, "breakable": breakable, "short": short}
    return environment


def page_style() -> Markup:
    """Return the style sheet of all pages."""
    return Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
