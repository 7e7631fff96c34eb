"""The option `--json` of commands that print tables."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any

import typer

from orchestration.console import json_document

_OPTION = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON document instead of tables, with unrounded numbers; notes go to stderr."
    ),
]


def with_json(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command for typer that also has `--json`.

    The document is an object with a list of rows for each table; a command that fails prints none. A status other than
    zero by `typer.Exit` is no failure: `hcl doctor` ends so if something is wrong.
    """
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def told(*arguments: Any, as_json: bool = False, **options: Any) -> None:
        if not as_json:
            command(*arguments, **options)
            return
        code = 0
        with json_document():
            try:
                command(*arguments, **options)
            except typer.Exit as stop:
                code = stop.exit_code
        raise typer.Exit(code)

    option = Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=_OPTION)
    parameters = [*signature.parameters.values(), option]
    told.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    told.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return told
