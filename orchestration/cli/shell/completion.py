"""Complete names in a shell: experiments, runs, studies, spaces, data sets, methods, and settings with their values.

Each function returns what the Tab key may offer for the beginning of a word. Nothing here imports PyTorch, Ray or
pandas, and no bucket is mounted.
"""

from __future__ import annotations

import io
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import redirect_stdout
from pathlib import Path

import typer

Described = list[tuple[str, str]]
"""Words with their meanings, which zsh and fish show beside them."""

_VARIABLE = "_HCL_COMPLETE"


def experiments(incomplete: str) -> list[str]:
    """Return the shipped experiments and the YAML files of this folder."""
    from hcl.config.resolve import shipped_experiments

    return _starting([*shipped_experiments(), *_yaml_files()], incomplete)


def spaces(incomplete: str) -> list[str]:
    """Return the shipped search spaces and the YAML files of this folder."""
    from search_spaces import shipped_spaces

    return _starting([*shipped_spaces(), *_yaml_files()], incomplete)


def datasets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the data sets that are shipped or in the data root."""
    from hcl.datasets.cards import known_datasets

    return _starting(known_datasets(_folder(ctx, "data")), incomplete)


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the runs and studies below the folder of runs; after `STUDY/`, its trials."""
    folder, (study, slash, _) = _folder(ctx, "runs"), incomplete.partition("/")
    if slash:
        names = [f"{study}/{path.parent.name}" for path in folder.glob(f"{study}/trials/*/experiment.yaml")]
    else:
        names = [path.parent.name for path in folder.glob("*/experiment.yaml")]
    return _starting(sorted(names), incomplete)


def studies(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the folders of the studies, as `--warm-start` takes them."""
    return _starting(sorted(str(path.parent) for path in _folder(ctx, "runs").glob("*/sweep.json")), incomplete)


def studies_or_experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return experiments and, for `hcl sweep`, the names of studies, which --status and a resumed study take."""
    names = [Path(folder).name for folder in studies(ctx, "")] if ctx.info_name == "sweep" else []
    return _starting([*experiments(incomplete), *names], incomplete)


def methods(incomplete: str) -> Described:
    """Return the methods that can be evaluated."""
    from hcl.config.extensions import names
    from orchestration.evaluation.method_names import METHODS

    regimes = {name: "the run's own, of this regime" for name in names("regime") if name not in METHODS}
    return [(name, text) for name, text in {**METHODS, **regimes}.items() if name.startswith(incomplete)]


def runs_with_methods(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return runs and, after `RUN:`, the methods that were evaluated for it."""
    from results import RecordError, read_evaluation

    run, colon, _ = incomplete.partition(":")
    if not colon:
        return runs(ctx, incomplete)
    names = set()
    for path in (_folder(ctx, "runs") / run / "evaluation").glob("*.json"):
        try:
            names.add(read_evaluation(path).method)
        except RecordError:
            continue
    return _starting([f"{run}:{name}" for name in sorted(names)], incomplete)


def settings(ctx: typer.Context, incomplete: str) -> Described:
    """Return settings by dotted path; for one whose path is complete, PATH=VALUE for each of its values.

    A number or a text has its default as the only value.
    """
    from hcl.config.paths import all_settings

    path, is_complete, _ = incomplete.partition("=")
    found = {known: field.description or "" for known, field in all_settings().items() if known.startswith(path)}
    if is_complete:
        found = {known: text for known, text in found.items() if known == path}
    if len(found) == 1:
        [(known, text)] = found.items()
        values = [(f"{known}={value}", text) for value in _values(ctx, known)]
        return [(word, text) for word, text in values if word.startswith(incomplete)]
    return list(found.items())


def _values(ctx: typer.Context, path: str) -> list[str]:
    from hcl.config.extensions import SETTINGS, names
    from hcl.config.paths import setting_of
    from hcl.config.values import choices

    field = setting_of(path)
    if path == "data.dataset":
        return datasets(ctx, "")
    for kind, named_by in SETTINGS.items():
        if path == named_by:
            return names(kind)
    default = "" if field.default is None else field.default
    return choices(field.annotation) or [
        default if isinstance(default, str) else json.dumps(default, separators=(",", ":"))
    ]


def run_completing(app: Callable[[], None]) -> None:
    """Run the program; what it offers to bash is cut to the part of the word that bash replaces."""
    kept = join_words_of_bash()
    if not kept:
        app()
        return
    offered = io.StringIO()
    try:
        with redirect_stdout(offered):
            app()
    finally:
        for word in offered.getvalue().splitlines():
            print(word.removeprefix(kept))


def _starting(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in dict.fromkeys(words) if word.startswith(incomplete)]


def _yaml_files() -> list[str]:
    return sorted(path.name for path in Path().glob("*.yaml"))


def _folder(ctx: typer.Context, option: str) -> Path:
    """Return the folder of --data or --runs, as the words before have it; a bucket is taken for an empty folder."""
    folder = str(ctx.params.get(option) or option)
    return Path(os.devnull) if "://" in folder or folder.startswith("s3:") else Path(folder)


def join_words_of_bash(environment: MutableMapping[str, str] = os.environ) -> str:
    """Join the words that bash has taken apart at `=` and `:`; return the part of the last word that bash keeps.

    Bash gives `--set train.use_gpu=t` as the words `--set`, `train.use_gpu`, `=` and `t`, and replaces the last one.
    """
    if environment.get(_VARIABLE) != "complete_bash":
        return ""
    try:
        words, current = shlex.split(environment["COMP_WORDS"]), int(environment["COMP_CWORD"])
    except (KeyError, ValueError):  # a quotation that is not finished
        return ""
    joined = list(_joined(words[: current + 1]))
    if current >= len(words):  # a new word
        joined.append("")
    environment["COMP_WORDS"], environment["COMP_CWORD"] = shlex.join(joined), str(len(joined) - 1)
    last = joined[-1]
    return last[: 1 + max(last.rfind("="), last.rfind(":"))]


def _joined(words: Iterable[str]) -> Iterator[str]:
    word, is_open = "", False
    for part in words:
        is_sign = part != "" and set(part) <= {"=", ":"}
        if (is_sign or is_open) and word:
            word += part
        else:
            if word:
                yield word
            word = part
        is_open = is_sign
    if word:
        yield word
