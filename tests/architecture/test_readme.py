"""Every command, option, setting, path, target and link in the README pages exists, and the maps name every folder."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import typer

import hcl.config.resolve as configuration
from hcl.config.paths import is_own
from orchestration.cli import app
from orchestration.storage.places import ELSEWHERE
from search_spaces import load_space, shipped_spaces
from tests.architecture.pages import PACKAGES, PAGES, ROOT, Page, hcl_commands, parse_page, read_page, shell_commands

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # of the click that typer brings along
PROGRAM = typer.main.get_command(app)
SETTINGS = set(configuration.all_settings())
SECTIONS = {path.partition(".")[0] for path in SETTINGS if "." in path}
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
BY_NAME = {str(page.relative_to(ROOT)): read_page(page) for page in PAGES}

OF_THE_PROGRAM = [[option] for parameter in PROGRAM.params for option in parameter.opts]
"""Options that need no command, such as --version."""

pages = pytest.mark.parametrize("page", BY_NAME.values(), ids=BY_NAME)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that words name and the words after it. Raises AssertionError where there is none."""
    command, rest = PROGRAM, list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"no command {' '.join(words)!r}"
        command = command.commands[rest.pop(0)]
    return command, rest


def check_call(words: list[str]) -> None:
    """Parse a command with its options and arguments, as a shell would pass them, without running it."""
    command, rest = command_of(words)
    if words in OF_THE_PROGRAM:
        return
    assert not hasattr(command, "commands"), f"{' '.join(words)!r} is a group of commands"
    try:
        context = command.make_context("hcl", rest, obj=ELSEWHERE)  # no place that it names is looked at here
    except USAGE_ERROR as refusal:
        raise AssertionError(f"hcl {' '.join(words)}: {refusal}") from refusal
    overrides = context.params.get("settings") or []
    own = [override for override in overrides if is_own(override.partition("=")[0])]
    for override in overrides:
        path = override.partition("=")[0]
        assert path in SETTINGS or override in own, f"hcl {' '.join(words)}: no setting {path}"
    if own:  # of what another override names
        configuration.resolve(context.params["experiment"], overrides)
    space = context.params.get("space")
    assert space is None or space in shipped_spaces() or str(space).endswith(".yaml"), f"no space {space}"
    experiment = str(context.params.get("experiment") or "hcl")
    if words[0] in ("train", "sweep") and experiment != "EXPERIMENT" and not experiment.endswith(".yaml"):
        assert experiment in configuration.shipped_experiments(), f"no experiment {experiment}"


def check_mention(words: list[str]) -> None:
    """Check that a command and its options exist; arguments and values may be left out, as prose does."""
    command, rest = command_of(words)
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest[: rest.index("--") if "--" in rest else None]:
        if word.startswith("-"):
            assert word.partition("=")[0] in options | {"--help"}, f"no option {word} of hcl {' '.join(words)}"


@pages
def test_commands_in_code_blocks_can_be_called(page: Page) -> None:
    for line in page.blocks:
        for words in hcl_commands(line):
            check_call(words)


@pages
def test_commands_in_prose_exist(page: Page) -> None:
    for span in page.spans:
        for words in hcl_commands(span):
            if words and re.fullmatch(r"[a-z]+", words[0]):
                check_mention(words)


@pages
def test_targets_of_make_exist(page: Page) -> None:
    named = {
        word
        for line in (*page.blocks, *page.spans)
        for words in shell_commands(line)
        if words[0] == "make"
        for word in words[1:]
        if "=" not in word and not word.startswith("-")
    }
    assert named <= TARGETS


@pages
def test_settings_exist(page: Page) -> None:
    named = {match[0] for span in page.spans if (match := re.match(r"\w+\.\w+(?=[=: ]|$)", span))}
    settings = {path for path in named if path.partition(".")[0] in SECTIONS and not path.endswith((".yaml", ".txt"))}
    assert settings <= SETTINGS


def named_paths(page: Page) -> Iterator[str]:
    """Yield the files and folders of the repository that a page names."""
    top = "|".join((*PACKAGES, "tests"))
    for text in (*page.spans, *page.blocks):
        for match in re.finditer(rf"(?<![\w/.-])((?:{top})/[\w./-]*\w/?)(?![\w{{<*])", text):
            yield match[1]
    for span in page.spans:
        if re.fullmatch(r"[\w./-]+\.(py|md)", span):
            yield span


@pages
def test_named_files_exist(page: Page) -> None:
    places = (ROOT, page.path.parent)
    missing = {name for name in named_paths(page) if not any((place / name).exists() for place in places)}
    assert not missing


@pages
def test_named_modules_exist(page: Page) -> None:
    for span in page.spans:
        if (
            re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", span)
            and not span.endswith(".toml")
            and not (ROOT / page.path.parent / span).exists()
        ):
            names = span.split(".")
            for length in range(len(names), 0, -1):
                try:
                    found: Any = importlib.import_module(".".join(names[:length]))
                except ModuleNotFoundError:
                    continue
                for name in names[length:]:
                    found = getattr(found, name)
                break


@pages
def test_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        path = (page.path.parent / target).resolve() if target else page.path
        assert path.is_file(), link
        assert not anchor or anchor in read_page(path).headings, link


@pages
def test_python_examples_compile_and_import_what_exists(page: Page) -> None:
    for text in page.python:
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(compile(ast.Module([node], []), page.name, "exec"), {})


def test_the_example_of_the_method_runs() -> None:
    (example,) = BY_NAME["hcl/README.md"].python
    values: dict[str, Any] = {}
    exec(example, values)
    assert values["experiment"].clips.n_frames == 4


def test_the_example_of_search_spaces_runs() -> None:
    (example,) = BY_NAME["search_spaces/README.md"].python
    space = load_space("sigma")
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    space.suggest(drawn)
    values: dict[str, Any] = {"trial": drawn, "check": configuration.setting_of, "params": space.sample(0)}
    values["setting"] = {"model.n_heads": 8}.get
    exec(example, values)


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        links = (link.partition("#")[0] for link in read_page(page).links)
        targets = {(page.parent / link).resolve() for link in links if link.endswith(".md") and "://" not in link}
        ahead += sorted(targets - reached)
    assert {str(page.relative_to(ROOT)) for page in PAGES if page not in reached} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_of_a_package_names_all_of_its_folders(package: str) -> None:
    """A folder is named with its path in the package, as is every module of a package without folders."""
    root = ROOT / package
    folders = {f"{path.relative_to(root)}/" for path in root.rglob("*/") if any(path.glob("[!_.]*.*"))}
    modules = {path.name for path in root.glob("[!_]*.py")} if not folders else set()
    assert folders or modules
    assert folders | modules <= set(BY_NAME[f"{package}/README.md"].spans)


def test_tables_of_folders_name_folders_that_exist() -> None:
    for package in PACKAGES:
        text = (ROOT / package / "README.md").read_text()
        for folder in re.findall(r"^\| `([\w/]+/)` \|", text, re.MULTILINE):
            assert (ROOT / package / folder).is_dir(), f"{package}/README.md: {folder}"


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140


def test_make_install_says_how_hcl_is_called(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    environment.mkdir()
    (environment / ".installed").touch()  # newer than pyproject.toml: nothing is installed
    command = ["make", "--no-print-directory", "install", f"VENV={environment}"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f". {environment}/bin/activate" in said and f"{environment}/bin/hcl" in said


MISTAKES = {
    "    hcl trian first": test_commands_in_code_blocks_can_be_called,
    "    hcl train first --sett a=1": test_commands_in_code_blocks_can_be_called,
    "    hcl train hcl --set loss.sigma_tempral=1": test_commands_in_code_blocks_can_be_called,
    "    hcl train no_such_experiment": test_commands_in_code_blocks_can_be_called,
    "    hcl sweep hcl --space sigmas": test_commands_in_code_blocks_can_be_called,
    "    hcl evaluate --method": test_commands_in_code_blocks_can_be_called,
    "    hcl submit --address http://HEAD:8265 -- trian hcl": test_commands_in_code_blocks_can_be_called,
    "    hcl extract a && hcl data chek a": test_commands_in_code_blocks_can_be_called,
    "It is `hcl results lists` that": test_commands_in_prose_exist,
    "It is `hcl sweep --stauts` that": test_commands_in_prose_exist,
    "`make tests`": test_targets_of_make_exist,
    "    make check && make tst": test_targets_of_make_exist,
    "`model.batch_nrom: frozen`": test_settings_exist,
    "`hcl/resolve.py`": test_named_files_exist,
    "    make test TESTS=tests/hcl/test_losses.py": test_named_files_exist,
    "`config/resolv.py`": test_named_files_exist,
    "`hcl.matching.similarity.match_patch`": test_named_modules_exist,
    "[x](NOWHERE.md)": test_links_lead_somewhere,
    "[x](README.md#no-such-heading)": test_links_lead_somewhere,
    "```python\nfrom hcl.resolve import resolve\n```\n": test_python_examples_compile_and_import_what_exists,
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_page_is_found(text: str) -> None:
    with pytest.raises((AssertionError, AttributeError, ModuleNotFoundError)):
        MISTAKES[text](parse_page(ROOT / "README.md", text))
