"""Fit a table into a terminal without cutting any text: as it is, with wrapped cells, or row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_LONGEST = 24  # a longer word, such as a path, may be broken behind one of the signs below
_WORD = re.compile(r"\S+ ± \S+|\(± \S+|\S+")  # a number stays on one line with its interval
_PIECE = re.compile(r"[^/_.=,-]+[/_.=,-]*|[/_.=,-]+")
_EMPTY = ("", "–")


def fits(table: Table, console: Console) -> bool:
    """Return whether a table fits on a console with no cell broken into lines."""
    return _widest(table, console) <= console.width


def fitted(table: Table, console: Console) -> RenderableType:
    """Return a table, or its rows as blocks of lines, that shows all text on a console.

    In a table that is too wide, cells are broken between words, and long names behind `_`, `-`, `.`, `/`, `=` or `,`.
    If that does not suffice, each row is a block: the cell of the first column on a line of its own, and the others
    behind the names of their columns. There no word is broken.
    """
    total = _widest(table, console)
    if total <= console.width:
        return table
    texts = [[_text(cell) for cell in (column.header, *column.cells)] for column in table.columns]
    full = [max(map(_longest_line, column)) for column in texts]
    least = [max(map(_narrowest, column)) for column in texts]
    room = console.width - (total - sum(full))
    if sum(least) > room:
        return Group(*_blocks(table, texts, console.width))
    widths = _shared(least, full, room)
    wrapped = Table(title=table.title, box=table.box)
    for (heading, *_), width in zip(texts, widths, strict=True):
        wrapped.add_column(_broken(heading, width), width=width, overflow="fold")
    for row in zip(*(column[1:] for column in texts), strict=True):
        wrapped.add_row(*(_broken(cell, width) for cell, width in zip(row, widths, strict=True)))
    return wrapped


def _widest(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update_width(10_000), table).maximum


def _text(cell: RenderableType) -> Text:
    return cell if isinstance(cell, Text) else Text.from_markup(str(cell))


def _longest_line(text: Text) -> int:
    return max((cell_len(line) for line in text.plain.splitlines()), default=0)


def _narrowest(text: Text) -> int:
    """Return the least width in which no word is broken where it should not be."""
    words = _WORD.findall(text.plain)
    return max((cell_len(piece) for word in words for piece in _pieces(word)), default=0)


def _pieces(word: str) -> list[str]:
    """Return the parts that a word may be broken into: itself, unless it is long."""
    if cell_len(word) <= _LONGEST:
        return [word]
    pieces = [""]
    for piece in _PIECE.findall(word):
        if cell_len(pieces[-1] + piece) <= _LONGEST:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return [piece for piece in pieces if piece]


def _shared(least: Sequence[int], full: Sequence[int], room: int) -> list[int]:
    """Return widths between `least` and `full` whose sum is `room`: what is left goes to the narrowest that lack it."""
    widths = list(least)
    for _ in range(room - sum(least)):
        lacking = [index for index, width in enumerate(widths) if width < full[index]]
        if not lacking:
            break
        widths[min(lacking, key=lambda index: widths[index])] += 1
    return widths


def _broken(text: Text, width: int) -> Text:
    """Return a cell whose words that exceed the width are broken behind a sign."""
    breaks = []
    for match in re.finditer(r"\S+", text.plain):
        if cell_len(match[0]) > width:
            line, at = "", match.start()
            for piece in _PIECE.findall(match[0]):
                if line and cell_len(line + piece) > width:
                    breaks.append(at)
                    line = ""
                line, at = line + piece, at + len(piece)
    return Text("\n").join(text.divide(breaks)) if breaks else text


def _blocks(table: Table, texts: Sequence[Sequence[Text]], width: int) -> Iterator[Text]:
    """Yield the title and the lines of each row; rows with the same first cell stand together below it."""
    if table.title:
        yield Text(_text(table.title).plain, "italic")
    names, previous = [column[0].plain for column in texts], None
    for first, *cells in zip(*(column[1:] for column in texts), strict=True):
        if len(cells) == 1:
            yield Text.assemble(first, ": ", *cells)
            continue
        if first.plain != previous:
            yield _named(names[0], first)
            previous = first.plain
        pairs = [_named(name, cell) for name, cell in zip(names[1:], cells, strict=True) if cell.plain not in _EMPTY]
        for number, line in enumerate(_filled(pairs, width - 4)):
            yield Text.assemble("    " if number else "  ", line)


def _named(name: str, cell: Text) -> Text:
    return Text.assemble((f"{name}: ", "dim"), cell)


def _filled(pairs: Sequence[Text], width: int, separator: str = "  ") -> list[Text]:
    """Return lines that hold as many of the texts as fit; a text that fits on no line is wrapped between words."""
    lines: list[Text] = []
    line = Text()
    for pair in pairs:
        if line and cell_len(line.plain) + len(separator) + cell_len(pair.plain) > width:
            lines.append(line)
            line = Text()
        if not line and cell_len(pair.plain) > width and separator != " ":
            *whole, pair = _filled(list(pair.split(" ")), width, " ")
            lines += whole
        line = Text.assemble(line, separator if line else "", pair)
    return [*lines, line] if line else lines
