"""How every picture of the page looks: inline SVG in the page's colours, one look a method, names beside lines.

Every colour is drawn as a stand-in and replaced by a CSS variable of the page; the same numbers give the same bytes.
"""

import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark.board import MethodAt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_INCHES = (5.8, 4.7)
N_METHOD_COLOURS = 12
NAMES = ("ink", "muted", "line", "surface", "found", "missed", "q1", "q2", "q3", "q4")
STAND_INS = {
    name: f"#0102{number:02x}"
    for number, name in enumerate((*NAMES, *(f"e{one}" for one in range(1, N_METHOD_COLOURS + 1))), 1)
}
SETTINGS: dict[Any, object] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": STAND_INS["ink"],
    "axes.labelcolor": STAND_INS["muted"],
    "axes.edgecolor": STAND_INS["line"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": STAND_INS["line"],
    "grid.linewidth": 0.7,
    "xtick.color": STAND_INS["line"],
    "ytick.color": STAND_INS["line"],
    "xtick.labelcolor": STAND_INS["muted"],
    "ytick.labelcolor": STAND_INS["muted"],
    "legend.frameon": False,
}
NAME_SIGNS, LABEL_POINTS = 28, 12.5
DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.6)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
MARKERS = "osD^"


def label_diameters(axes: "Axes", least_px: float, most_px: float) -> None:
    """A diameter axis by octaves, wide enough for both."""
    first = math.floor(math.log2(least_px))
    last = max(math.ceil(math.log2(most_px)), first + 1)
    axes.set_xscale("log", base=2)
    axes.set_xlim(2.0**first * 0.93, 2.0**last * 1.07)
    ticks = [2.0**power for power in range(first, last + 1)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("defect diameter (px)")


def themed_svg(
    draw: Callable[["Figure"], None], key: str, description: str, *, inches: tuple[float, float] = FIGURE_INCHES
) -> str:
    """What `draw` puts on a fresh figure, as an SVG element whose colours are CSS variables.

    Artists with the gid `method-3` or `band-3` become groups with the attribute `data-method="3"` or `data-band="3"`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    buffer = StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": key}):
        figure = Figure(figsize=inches)
        figure.subplots_adjust(right=0.97, bottom=0.115, top=0.95, hspace=0.08)
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", buffer.getvalue(), flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    svg = svg[svg.index(">", view_box.end()) + 1 :]
    svg = re.sub(r'<g id="(method|band)-(\d+)"', r'<g data-\1="\2"', svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(id="|xlink:href="#|url\(#)', lambda match: f"{match[1].removeprefix('xlink:')}{key}-", svg)
    for name, colour in STAND_INS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return f'<svg class="plot" role="img" aria-label="{html.escape(description)}" {view_box[0]}>{svg}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a method is drawn everywhere: a colour for its name, dashes for its resolution."""

    number: int
    colour: int
    dashes: int

    @property
    def gid(self) -> str:
        return f"method-{self.number}"

    @property
    def line(self) -> dict[str, Any]:
        """Settings of a line in this look."""
        return {"color": self.stand_in, "linestyle": DASHES[self.dashes], "gid": self.gid}

    @property
    def stand_in(self) -> str:
        return STAND_INS[f"e{self.colour}"]

    @property
    def marker(self) -> str:
        return MARKERS[self.dashes]


def looks(methods: Sequence[MethodAt]) -> dict[MethodAt, Look]:
    """A look for each method, numbered as given; methods beyond the last colour start again with other dashes."""
    names = list(dict.fromkeys(method.name for method in methods))
    resolutions = sorted({method.resolution for method in methods if method.resolution}, reverse=True)
    found = {}
    for number, method in enumerate(methods):
        turn, colour = divmod(names.index(method.name), N_METHOD_COLOURS)
        rank = resolutions.index(method.resolution) if method.resolution else 0
        found[method] = Look(number=number, colour=colour + 1, dashes=(turn + rank) % len(DASHES))
    return found


def name_lines(axes: "Axes", ends: Mapping[MethodAt, float], drawn_as: Mapping[MethodAt, Look]) -> None:
    """The names right of the axes, each joined to the end of its line, none on top of another."""
    low, high = axes.get_ylim()
    heights = {method: (end - low) / (high - low) for method, end in ends.items() if math.isfinite(end)}
    placed_apart = spread_out(list(heights.values()), LABEL_POINTS / height_points(axes))
    for method, placed in zip(heights, placed_apart.tolist(), strict=True):
        look = drawn_as[method]
        where: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "gid": look.gid}
        axes.plot((1.0, 1.035), (heights[method], placed), color=look.stand_in, linewidth=0.8, **where)
        axes.text(1.045, placed, short_name(method), va="center", color=look.stand_in, fontsize=9.5, **where)


def spread_out(heights: Sequence[float], gap: float) -> NDArray[np.float64]:
    """Heights moved as little as possible (least squares), so that neighbours lie `gap` apart, within [0, 1]."""
    from scipy.optimize import isotonic_regression

    wanted = np.asarray(heights, dtype=np.float64)
    if not wanted.size:
        return wanted
    order = np.argsort(wanted, kind="stable")
    gap = min(gap, 1 / max(1, wanted.size - 1))
    steps = gap * np.arange(wanted.size)
    placed = isotonic_regression(wanted[order] - steps).x
    moved = np.empty_like(wanted)
    moved[order] = np.clip(placed, 0, 1 - steps[-1]) + steps
    return moved


def height_points(axes: "Axes") -> float:
    """Height of the axes in points, 72 to an inch."""
    return float(axes.get_window_extent().height * 72 / axes.figure.dpi)


def short_name(method: MethodAt) -> str:
    """The name, cut in the middle where it is too long for a figure."""
    resolution = f" {method.resolution}" if method.resolution else ""
    return shortened(method.name, NAME_SIGNS - len(resolution)) + resolution


def shortened(text: str, most: int = NAME_SIGNS) -> str:
    """The text in so many signs at most, its begin and its end, which tell names apart."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"
