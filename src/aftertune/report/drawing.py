"""Drawings of a few primitives, once for the page and once for papers: inline SVG with classes, or files as SVG, PDF and PNG.

Lengths are CSS pixels, y runs downwards. Colours are names (`Colour`): the page's stylesheet gives them a light and a
dark value, files have the light one.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from html import escape
from importlib.util import find_spec
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from aftertune.errors import InputError

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
PER_INCH = 96.0
"""CSS pixels of an inch."""
PNG_DPI = 200
LETTER = 0.56
"""Width of a letter of the page's font, in ems, about."""
POINTS = 0.75
"""Points of a CSS pixel."""
DASHES = ' stroke-dasharray="4 3"'
SVG = "svg"
FILE_KINDS = (SVG, "pdf", "png")
"""The kinds of files that a figure is written as."""
Anchor = Literal["start", "middle", "end"]


class Colour(Enum):
    """A colour by its use. The value is its class in the page's stylesheet."""

    INK = "ink"
    FAINT = "faint"
    LINE = "line"
    GOOD = "good"
    BAD = "bad"
    OPEN = "open"
    """A change that was not shown."""
    HEAT = "heat"
    """The end of the scale of rates; marks have an opacity."""
    PAPER = "paper"


PALETTE = {
    Colour.INK: "#1b1f24",
    Colour.FAINT: "#59626c",
    Colour.LINE: "#d5dae0",
    Colour.GOOD: "#0a6b62",
    Colour.BAD: "#b8350f",
    Colour.OPEN: "#5a6b85",
    Colour.HEAT: "#d9480f",
    Colour.PAPER: "#ffffff",
}
"""The light theme; page.css has the same values."""
SERIES = ("#3b6fb5", "#b8472f", "#247a59", "#8d5fb0", "#8a6508", "#2f7d94", "#b3437d", "#66752a")
"""Colours of models, readable on white and on near-black; lines and marks of a model also differ in place or shape."""
Paint = Colour | str
"""A colour by its use, or one of `SERIES`."""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    paint: Paint = Colour.INK
    width: float = 1.0
    dashed: bool = False
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A filled or hollow circle."""

    x: float
    y: float
    radius: float = 4.0
    paint: Paint = Colour.INK
    hollow: bool = False
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    paint: Paint = Colour.LINE
    opacity: float = 1.0
    title: str = ""
    """The text that a pointer on it shows."""


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text; y is its baseline."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    paint: Paint = Colour.INK
    size: float = 12.0
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """A line through several points."""

    points: tuple[tuple[float, float], ...]
    paint: Paint = Colour.INK
    width: float = 1.5
    dashed: bool = False


Mark = Line | Dot | Box | Words | Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure."""

    name: str
    """Its file's name, without the suffix."""
    title: str
    description: str
    """The text alternative: what the figure shows, with its figures."""
    caption: str
    """The way to read it; stands under it."""
    width: float
    height: float
    marks: tuple[Mark, ...]

    def to_svg(self) -> str:
        """Return the figure as a file of SVG, in the light colours."""
        return _alone(self)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the figure as the kind of file that its name ends with, and return where it is.

        Args:
            path: a file that ends with ``.svg``, ``.pdf`` or ``.png``; its folder must exist.

        Raises:
            InputError: it ends with none of them, or matplotlib, which writes PDF and PNG, is not installed.
            OSError: the file cannot be written.
        """
        file = Path(path)
        kind = file.suffix.lower().removeprefix(".")
        if kind not in FILE_KINDS:
            raise InputError(f"{file}: a figure is saved as {', '.join(FILE_KINDS)}")
        if kind == SVG:
            file.write_text(self.to_svg(), encoding="utf-8")
        else:
            _need_matplotlib()
            file.write_bytes(_plotted(self, kind))
        return file


def fitted(text: str, room: float, size: float = 12.0) -> str:
    """Return a text cut to a width in pixels, about."""
    letters = int(room / (LETTER * size))
    return text if len(text) <= letters else f"{text[: max(letters - 1, 1)]}\N{HORIZONTAL ELLIPSIS}"


def svg(drawing: Drawing) -> str:
    """Return a drawing as an SVG element for the page: colours by class, no style attributes, a title and a description."""
    body = "".join(_svg_mark(mark) for mark in drawing.marks)
    name = escape(drawing.name)
    return (
        f'<svg class="drawing" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'viewBox="0 0 {drawing.width:g} {drawing.height:g}" width="{drawing.width:g}" height="{drawing.height:g}">'
        f'<title id="{name}-title">{escape(drawing.title)}</title>'
        f'<desc id="{name}-desc">{escape(drawing.description)}</desc>{body}</svg>'
    )


def _svg_mark(mark: Mark, *, fixed: bool = False) -> str:
    """Return a primitive as an SVG element; ``fixed`` gives it its colours, in place of classes."""
    match mark:
        case Line(x1, y1, x2, y2):
            places = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
            dashes = DASHES if mark.dashed else ""
            stroke = _paint(fixed=fixed, stroke=mark.paint)
            return f'<line {places} stroke-width="{mark.width:g}"{dashes}{_faded(mark.opacity)} {stroke}/>'
        case Dot(x, y, radius):
            place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
            if mark.hollow:
                painted = _paint(fixed=fixed, stroke=mark.paint, fill=Colour.PAPER)
                return f'<circle {place} stroke-width="1.5"{_faded(mark.opacity)} {painted}/>'
            return f"<circle {place}{_faded(mark.opacity)} {_paint(fixed=fixed, fill=mark.paint)}/>"
        case Box(x, y, width, height):
            place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            title = f"<title>{escape(mark.title)}</title>" if mark.title else ""
            return f"<rect {place}{_faded(mark.opacity)} {_paint(fixed=fixed, fill=mark.paint)}>{title}</rect>"
        case Words(x, y, text):
            anchor = "" if mark.anchor == "start" else f' text-anchor="{mark.anchor}"'
            weight = ' font-weight="650"' if mark.bold else ""
            place = f'x="{x:.1f}" y="{y:.1f}" font-size="{mark.size:g}"{anchor}{weight}'
            return f"<text {place} {_paint(fixed=fixed, fill=mark.paint)}>{escape(text)}</text>"
        case Chain(points):
            places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            dashes = DASHES if mark.dashed else ""
            stroke = _paint(fixed=fixed, stroke=mark.paint)
            return f'<polyline points="{places}" fill="none" stroke-width="{mark.width:g}"{dashes} {stroke}/>'


def _faded(opacity: float) -> str:
    return "" if opacity == 1.0 else f' opacity="{opacity:.3g}"'


def _paint(*, fixed: bool, **paints: Paint) -> str:
    """Return the attributes that colour an element: classes for colours by their use, unless they are fixed."""
    classes, attributes = [], []
    for kind, paint in paints.items():
        if isinstance(paint, str):
            attributes.append(f'{kind}="{paint}"')
        elif fixed:
            attributes.append(f'{kind}="{PALETTE[paint]}"')
        else:
            classes.append(f"{kind}-{paint.value}")
    return " ".join([*([f'class="{" ".join(classes)}"'] if classes else []), *attributes])


def write_files(drawings: Iterable[Drawing], folder: Path) -> list[Path]:
    """Write drawings as SVG, PDF and PNG, for papers.

    Args:
        drawings: with different names.
        folder: must exist.

    Returns:
        the files.

    Raises:
        InputError: matplotlib, which writes PDF and PNG, is not installed.
        OSError: the folder cannot be written.
    """
    _need_matplotlib()
    return [
        drawing.save(folder / f"{drawing.name}.{kind}")
        for drawing in drawings
        for kind in FILE_KINDS
    ]


def _need_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise InputError("figures as PDF and PNG need matplotlib; pip install 'aftertune[report]'")


def _alone(drawing: Drawing) -> str:
    """Return a drawing as a file of SVG, in the light colours."""
    size = f'width="{drawing.width:g}" height="{drawing.height:g}"'
    box = f'viewBox="0 0 {drawing.width:g} {drawing.height:g}" {size}'
    texts = f"<title>{escape(drawing.title)}</title><desc>{escape(drawing.description)}</desc>"
    marks = "".join(_svg_mark(mark, fixed=True) for mark in drawing.marks)
    return f'<svg xmlns="http://www.w3.org/2000/svg" font-family="{escape(FONT)}" {box}>{texts}{marks}</svg>\n'


def _plotted(drawing: Drawing, suffix: str) -> bytes:
    """Return a drawing as a file of PDF or PNG; the same drawing gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.family": "sans-serif", "pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a name in another script
        figure = Figure(figsize=(drawing.width / PER_INCH, drawing.height / PER_INCH))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, drawing.width)
        axes.set_ylim(drawing.height, 0)
        for mark in drawing.marks:
            _plot(axes, mark)
        content = BytesIO()
        undated = {"CreationDate": None} if suffix == "pdf" else None
        figure.savefig(content, format=suffix, dpi=PNG_DPI, metadata=undated)
    return content.getvalue()


def _plot(axes: Any, mark: Mark) -> None:
    """Draw a primitive on axes whose units are pixels."""
    from matplotlib.patches import Rectangle

    colour = PALETTE[mark.paint] if isinstance(mark.paint, Colour) else mark.paint
    match mark:
        case Line(x1, y1, x2, y2):
            style = {"linestyle": (0, (4, 3))} if mark.dashed else {}
            width = POINTS * mark.width
            axes.plot(
                [x1, x2], [y1, y2], color=colour, linewidth=width, alpha=mark.opacity, **style
            )
        case Dot(x, y, radius):
            face = PALETTE[Colour.PAPER] if mark.hollow else colour
            axes.plot(
                [x], [y], "o", markersize=2 * POINTS * radius, markerfacecolor=face,
                markeredgecolor=colour, markeredgewidth=1.1 if mark.hollow else 0, alpha=mark.opacity,
            )  # fmt: skip
        case Box(x, y, width, height):
            axes.add_patch(
                Rectangle((x, y), width, height, facecolor=colour, linewidth=0, alpha=mark.opacity)
            )
        case Words(x, y, text):
            align = {"start": "left", "middle": "center", "end": "right"}[mark.anchor]
            axes.text(
                x, y, text, color=colour, fontsize=POINTS * mark.size, ha=align, va="baseline",
                fontweight="bold" if mark.bold else "normal", parse_math=False,
            )  # fmt: skip
        case Chain(points):
            style = {"linestyle": (0, (4, 3))} if mark.dashed else {}
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, color=colour, linewidth=POINTS * mark.width, **style)
