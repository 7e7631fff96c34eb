"""The README pages of the project, and the commands, paths, links and targets that they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hcl", "orchestration", "search_spaces", "cluster", "results")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in (*PACKAGES, "tests") for page in (ROOT / folder).rglob("*.md"))]
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_SEPARATORS = re.compile(r"&&|\|\|?|;|&(?=\s|$)")


@dataclass(frozen=True)
class Page:
    """The text of a Markdown page, taken apart.

    Attributes:
        path: the file.
        blocks: the lines of its code blocks, indented or fenced, without continuation marks and indentation.
        python: the fenced blocks of Python.
        spans: its inline code, in which a line break of the paragraph is a blank.
        links: the targets of its links.
        headings: the anchors of its headings.
    """

    path: Path
    blocks: tuple[str, ...]
    python: tuple[str, ...]
    spans: tuple[str, ...]
    links: tuple[str, ...]
    headings: frozenset[str]

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))


def read_page(path: Path) -> Page:
    """Take a page apart."""
    return parse_page(path, path.read_text())


def parse_page(path: Path, text: str) -> Page:
    """Take the text of a page apart."""
    fences = _FENCE.findall(text)
    prose: list[str] = []
    blocks: list[str] = [line for language, body in fences if language != "python" for line in body.splitlines()]
    for line in _FENCE.sub("", text).splitlines():
        (blocks if line.startswith("    ") else prose).append(line.removeprefix("    "))
    joined = "\n".join(blocks).replace("\\\n", " ").splitlines()
    flowing = re.sub(r"(?<=\S)\n(?=[^\n|#\-])", " ", "\n".join(prose))
    return Page(
        path,
        tuple(joined),
        tuple(body for language, body in fences if language == "python"),
        tuple(_INLINE.findall(flowing)),
        tuple(_LINK.findall("\n".join(prose))),
        frozenset(_anchor(heading) for heading in _HEADING.findall("\n".join(prose))),
    )


def section(path: Path, heading: str) -> Page:
    """Take the part of a page below one of its headings of the second level apart."""
    parts = re.split(r"^## (.+)\n", path.read_text(), flags=re.MULTILINE)
    return parse_page(path, parts[parts.index(heading) + 1])


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def shell_commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of a shell line, without comments."""
    if line.lstrip().startswith("#"):
        return
    code = re.sub(r"\s#.*$", "", line)
    for part in _SEPARATORS.split(code):
        try:
            words = shlex.split(part)
        except ValueError:  # no shell: a line of YAML or of a drawing
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            yield words


def hcl_commands(line: str) -> Iterator[list[str]]:
    """Yield the words after `hcl` of each command of this program in a shell line; a job's command is one, too."""
    for words in shell_commands(line):
        program, *rest = words
        if Path(program).name == "hcl":
            yield rest
            if "--" in rest and rest[0] in ("submit", "cluster"):
                yield rest[rest.index("--") + 1 :]
        elif words[:3] == ["ray", "job", "submit"] and "hcl" in rest:
            yield rest[rest.index("hcl") + 1 :]
