"""How a method looks in every figure, and how its name gets there without covering another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark.board import MethodAt
from tinydefects.report.evaluation_figures import N_METHOD_COLOURS, STAND_INS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_SIGNS, LABEL_POINTS = 28, 12.5
DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.6)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
MARKERS = "osD^"


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
    name, resolution = method.name, f" {method.resolution}" if method.resolution else ""
    room = NAME_SIGNS - len(resolution)
    return (name if len(name) <= room else f"{name[: room - 1]}…") + resolution
