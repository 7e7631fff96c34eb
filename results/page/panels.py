"""Draw a panel of a chart as SVG text, without scripts.

Colours, fonts and lines are classes, which the page's style sheet sets for light, dark and print. Every text that comes
from data is escaped here, and shortened.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from results.page.scales import Scale
from results.tables.markup import visible

N_COLOURS, N_MARKERS, N_SHADES = 8, 5, 7
_LETTER = 6.0  # pixels, on average, at the style sheet's 11 px

Point = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """Describe the look of a series: the first eight differ in colour, further ones also in line; markers repeat."""

    index: int
    is_printed: bool = False  # grey and dashed, for published figures

    @property
    def classes(self) -> str:
        if self.is_printed:
            return f"printed d{self.index % 4 + 1}"
        return f"c{self.index % N_COLOURS} d{self.index // N_COLOURS % 5}"

    @property
    def marker(self) -> int:
        return self.index % N_MARKERS


@dataclass(frozen=True)
class Key:
    """Hold an entry of a legend."""

    label: str
    style: Style

    @property
    def svg(self) -> Markup:
        mark = _marker(13, 6, self.style.marker, 4)
        return Markup(
            f'<svg class="key {self.style.classes}" viewBox="0 0 26 12" aria-hidden="true">'
            f'<path class="line" d="M0 6H26"/><{mark} class="mark"/></svg>'
        )


@dataclass
class Panel:
    """Hold a drawing area with its axes; marks are added to it, and `svg` returns the text.

    Attributes:
        description: text for screen readers.
        width, height: pixels of the whole panel, which the page scales.
        margins: left, top, right, bottom of the drawing area.
        y_first: whether the y axis counts from the top, like rows of a table.
    """

    x: Scale
    y: Scale
    description: str
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    width: int = 340
    height: int = 250
    margins: tuple[int, int, int, int] = (48, 12, 12, 38)
    y_first: bool = False
    has_grid: bool = True
    has_axes: bool = True
    marks: list[str] = field(default_factory=list)

    def place(self, point: Point) -> tuple[str, str]:
        """Return the pixels of a point, to a tenth."""
        left, top, right, bottom = self.margins
        x = left + self.x.at(point[0]) * (self.width - left - right)
        share = self.y.at(point[1])
        y = top + (share if self.y_first else 1 - share) * (self.height - top - bottom)
        return f"{x:.1f}", f"{y:.1f}"

    def line(self, points: Iterable[Point], classes: str, *, stepped: bool = False, key: int | None = None) -> None:
        """Draw a line through the points in order."""
        places = [self.place(point) for point in points]
        if len(places) < 2:
            return
        path = f"M{places[0][0]} {places[0][1]}"
        for x, y in places[1:]:
            path += f"H{x}V{y}" if stepped else f"L{x} {y}"
        self.marks.append(f'<path class="line {classes}" d="{path}"{_key(key)}/>')

    def mark(
        self, point: Point, classes: str, *, marker: int = 0, size: float = 4, tip: str = "", key: int | None = None
    ) -> None:
        """Draw a marker; `tip` is its text on hovering, `key` its number among the tips of the page's section."""
        x, y = self.place(point)
        tip_attribute = f' data-tip="{escaped(tip, 200)}"' if tip else ""
        self.marks.append(
            f'<{_marker(float(x), float(y), marker, size)} class="mark {classes}"{tip_attribute}{_key(key)}/>'
        )

    def bar(self, start: Point, end: Point, classes: str, *, tip: str = "") -> None:
        """Draw a straight line between two points, such as an interval."""
        (x1, y1), (x2, y2) = self.place(start), self.place(end)
        tip_attribute = f' data-tip="{escaped(tip, 200)}"' if tip else ""
        self.marks.append(f'<path class="line {classes}" d="M{x1} {y1}L{x2} {y2}"{tip_attribute}/>')

    def band(self, points: Sequence[tuple[float, float, float]], classes: str) -> None:
        """Fill the area between (x, low, high)."""
        upper = [self.place((x, high)) for x, _, high in points]
        lower = [self.place((x, low)) for x, low, _ in reversed(points)]
        path = "L".join(f"{x} {y}" for x, y in [*upper, *lower])
        self.marks.append(f'<path class="band {classes}" d="M{path}Z"/>')

    def box(self, start: Point, end: Point, classes: str, *, opacity: float | None = None, tip: str = "") -> None:
        """Draw a filled rectangle between two corners."""
        (x1, y1), (x2, y2) = self.place(start), self.place(end)
        left, top = min(float(x1), float(x2)), min(float(y1), float(y2))
        wide, high = abs(float(x2) - float(x1)), abs(float(y2) - float(y1))
        extra = "" if opacity is None else f' fill-opacity="{opacity:.2f}"'
        extra += f' data-tip="{escaped(tip, 200)}"' if tip else ""
        self.marks.append(
            f'<rect class="{classes}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}"{extra}/>'
        )

    def text(self, point: Point, text: str, *, anchor: str = "start", dx: float = 0, classes: str = "") -> None:
        x, y = self.place(point)
        self.marks.append(_text(float(x) + dx, float(y) + 4, text, anchor, classes))

    def svg(self) -> Markup:
        """Return the panel as an SVG element."""
        parts = [*(self._axes() if self.has_axes else ()), *self.marks]
        label = escaped(self.description, 600)
        return Markup(
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
        )

    def _axes(self) -> list[str]:
        left, top, right, bottom = self.margins
        x1, y1 = self.width - right, self.height - bottom
        parts = []
        for value, label in self.y.ticks(5):
            y = float(self.place((self.x.low, value))[1])
            if self.has_grid:
                parts.append(f'<path class="grid" d="M{left} {y:.1f}H{x1}"/>')
            parts.append(_text(left - 6, y + 4, label, "end", longest=int((left - 8) / _LETTER)))
        ticks = self.x.ticks(5)
        room = (x1 - left) / max(1, len(ticks))
        widest = max((len(label) for _, label in ticks), default=0) * _LETTER
        is_turned = bool(self.x.names) and widest > room - 4
        for value, label in ticks:
            x = float(self.place((value, self.y.low))[0])
            if self.has_grid and not self.x.names:
                parts.append(f'<path class="grid" d="M{x:.1f} {top}V{y1}"/>')
            if is_turned:
                longest = int((bottom - 10 - (14 if self.x_title else 0)) / _LETTER / 0.8)
                turned = f' transform="rotate(-45 {x:.1f} {y1 + 12})"'
                parts.append(_text(x + 3, y1 + 12, label, "end", longest=max(4, longest), extra=turned))
            else:
                parts.append(_text(x, y1 + 15, label, "middle", longest=max(4, int(room / _LETTER))))
        parts.append(f'<path class="axis" d="M{left} {y1}H{x1}"/>')
        if self.x_title:
            parts.append(_text((left + x1) / 2, self.height - 5, self.x_title, "middle", "title"))
        if self.y_title:
            middle = (top + y1) / 2
            turned = f' transform="rotate(-90 11 {middle:.1f})"'
            parts.append(_text(11, middle, self.y_title, "middle", "title", extra=turned))
        return parts


def escaped(text: str, longest: int = 44) -> str:
    """Return a text from data for an attribute or an element: on one line, shortened in the middle, escaped."""
    shown = shortened(visible(text), longest)
    kept = html.escape(shown, quote=True)
    return kept if shown.isascii() else f"\u2068{kept}\u2069"


def shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: max(1, longest // 2)]}…{text[len(text) - max(1, longest // 2 - 1) :]}"


def shade(share: float) -> str:
    """Return the class of one of `N_SHADES`, from faint (0) to strong (1)."""
    return f"q{min(N_SHADES - 1, max(0, int(share * N_SHADES)))}"


def _text(x: float, y: float, text: str, anchor: str, classes: str = "", *, longest: int = 44, extra: str = "") -> str:
    chosen = " ".join(filter(None, (f"a-{anchor}", classes)))
    return f'<text class="{chosen}" x="{x:.1f}" y="{y:.1f}"{extra}>{escaped(text, max(3, longest))}</text>'


def _key(key: int | None) -> str:
    return "" if key is None else f' data-k="{key}"'


def _marker(x: float, y: float, kind: int, size: float) -> str:
    """Return the SVG tag of a marker at a place, unclosed: circle, square, diamond, triangle or star."""
    if kind == 0:
        return f'circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"'
    near = 0.86 * size
    corners = {
        1: [(-near, -near), (near, -near), (near, near), (-near, near)],
        2: [(0, -1.3 * size), (1.3 * size, 0), (0, 1.3 * size), (-1.3 * size, 0)],
        3: [(0, -1.2 * size), (1.1 * size, size), (-1.1 * size, size)],
        4: [
            (math.cos(angle) * radius, math.sin(angle) * radius)
            for step in range(10)
            for angle, radius in [(math.pi * (step / 5 - 0.5), 1.4 * size if step % 2 == 0 else 0.6 * size)]
        ],
    }[kind]
    return f'path d="M{"L".join(f"{x + dx:.1f} {y + dy:.1f}" for dx, dy in corners)}Z"'
