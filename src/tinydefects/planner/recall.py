"""What share of defects was found against their diameter in patches, as measured, and which input that asks for.

`recall.json` beside this file holds the measurement; `runs/recall.py` makes it from result files. Shares are those
of `metrics/detectability.py`: a threshold that at most a stated share of good images exceeds, and defects above it. The
curves rise, as larger defects are taken to be found no less often; between two points they are straight over the
logarithm of the diameter, beyond the last they stay level, and below the first nothing was measured.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np

from tinydefects.data.json_files import read_as
from tinydefects.detector.patch_grid import Size
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.metrics.records import Interval
from tinydefects.planner.input_plan import OVERLAP_IN_DEFECTS, InputPlan, plan_input
from tinydefects.planner.recommendation import RESOLUTIONS, ROUNDING, PassCost, Recommendation, recommend_input

ALL = "all"
COUNTED = PassCost(
    ms_per_patch=1.0, ms_per_pair=0.0, source="counted in patches"
)  # what is cheap where nothing is timed


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallPoint:
    """Share in [0, 1] of defects about `width_patches` wide that are found, and its 95 % interval."""

    width_patches: float
    recall: float
    low: float
    high: float
    n_defects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallCurve:
    """The points of one surface, or of all with equal weight; widths rise, and shares do not fall."""

    name: str
    n_defects: int
    points: tuple[RecallPoint, ...]

    def at(self, width_patches: float) -> tuple[float, Interval]:
        """The share and its interval at a width; nan below all that was measured."""
        if width_patches < self.points[0].width_patches * (1 - ROUNDING):
            return math.nan, Interval(low=math.nan, high=math.nan)
        recall, low, high = (self._interpolated(width_patches, bound) for bound in ("recall", "low", "high"))
        return recall, Interval(low=low, high=high)

    def width_for(self, recall: float, bound: str = "recall") -> float:
        """The least width in patches at which the share, or its bound `low` or `high`, is `recall`; nan if nowhere."""
        shares = [getattr(point, bound) for point in self.points]
        place = next((place for place, share in enumerate(shares) if share >= recall), None)
        if place is None:
            return math.nan
        width = self.points[place].width_patches
        if place == 0:
            return width
        before = self.points[place - 1].width_patches
        part = (recall - shares[place - 1]) / (shares[place] - shares[place - 1])
        return float(before * (width / before) ** part)

    def _interpolated(self, width_patches: float, bound: str) -> float:
        at = np.log([point.width_patches for point in self.points])
        return float(np.interp(math.log(width_patches), at, [getattr(point, bound) for point in self.points]))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRecall:
    """The measurement and where it comes from.

    Attributes:
        method, teacher: what looked, with patches of `patch_size` pixels of its input.
        rules: when a defect counts as found; `false_alarm_rate` is the share of good images that may alarm.
        n_alarming, n_good: good images above the thresholds, as counted.
        sources: the result files, with the commits that made them and the day of the newest.
        curves: of all surfaces first, then of each.
    """

    method: str
    teacher: str
    patch_size: int
    rules: tuple[str, ...]
    false_alarm_rate: float
    n_alarming: int
    n_good: int
    sources: tuple[str, ...]
    commits: tuple[str, ...]
    created: str
    curves: tuple[RecallCurve, ...]

    def curve(self, name: str = ALL) -> RecallCurve:
        """That of a surface, or of all.

        Raises:
            TinyDefectsError: no such surface was measured.
        """
        for one in self.curves:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.curves)
        raise TinyDefectsError(f"--like {name}: nothing was measured there; choose one of {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallAdvice:
    """Which input finds a wanted share of defects of one size, as far as was measured.

    Attributes:
        recall: the wanted share.
        like: the curve that it goes by.
        reachable: the highest share on that curve, and `widest`, the width in patches from which on it is found.
        width_patches: what the wanted share takes; nan where it is not reached.
        width_low, width_high: the same by the upper and the lower end of the interval; nan where that is not reached.
        inputs: options, the best and the cheapest that reaches it; made for `widest` where nothing does.
        found: share and interval of each of the options.
        smallest_px: of each option, the diameter in pixels of the image that it would find at the wanted share.
        enlarges: whether the best input is larger than the photograph.
        others: of each surface, the width that the wanted share takes there; nan where it is not reached.
    """

    recall: float
    like: str
    reachable: float
    widest: float
    width_patches: float
    width_low: float
    width_high: float
    inputs: Recommendation
    found: tuple[tuple[float, Interval], ...]
    smallest_px: tuple[float, ...]
    enlarges: bool
    others: Mapping[str, float]
    measured: MeasuredRecall

    @property
    def is_reachable(self) -> bool:
        return not math.isnan(self.width_patches)


@cache
def measured_recall() -> MeasuredRecall:
    """What ships with the package."""
    with as_file(files("tinydefects") / "planner" / "recall.json") as path:
        return read_as(MeasuredRecall, path, ResultError, kind="measurement", way_out="install tinydefects again")


def inputs_for_recall(
    recall: float,
    asked: InputPlan,
    *,
    cost: PassCost = COUNTED,
    latency_ms: float = math.inf,
    counts: Mapping[Size, int] | None = None,
    like: str = ALL,
    measured: MeasuredRecall | None = None,
) -> RecallAdvice:
    """The cheapest input in `latency_ms` at which the defects of a plan are found as often as is wanted.

    Args:
        recall: above 0, below 1.
        asked: for the same defect, photograph and teacher, whatever number of patches it is to span there.
        latency_ms: what all passes over one image may take.
        cost: of a pass; patches are counted where it is left out.
        counts: how many photographs there are of each size.
        like: the surface to go by.
        measured: what to go by, if not what ships with the package.

    Raises:
        TinyDefectsError: a share outside of (0, 1), no such surface, or sizes that cannot be planned for.
    """
    if not 0 < recall < 1:
        raise TinyDefectsError(f"--recall {recall:g}: give a share above 0 and below 1, such as 0.9")
    measured = measured_recall() if measured is None else measured
    curve = measured.curve(like)
    reachable = curve.points[-1].recall
    width, widest = curve.width_for(recall), curve.width_for(reachable)
    plan = plan_input(
        asked.defect_px,
        asked.image_size_px,
        patch_size=asked.patch_size,
        max_input=asked.max_input_px,
        patches_across=_no_smaller_input(widest if math.isnan(width) else width, asked),
    )
    inputs = recommend_input(plan, cost=cost, latency_ms=latency_ms, counts=counts)
    enlarged = plan.defect_px / plan.patch_size * (1 + ROUNDING)
    return RecallAdvice(
        recall=recall,
        like=like,
        reachable=reachable,
        widest=widest,
        width_patches=width,
        width_low=curve.width_for(recall, "high"),
        width_high=curve.width_for(recall, "low"),
        inputs=inputs,
        found=tuple(curve.at(option.width_patches) for option in inputs.options),
        smallest_px=tuple(width / option.width_patches * plan.defect_px for option in inputs.options),
        enlarges=inputs.best is not None and inputs.best.width_patches > enlarged,
        others={one.name: one.width_for(recall) for one in measured.curves if one.name not in (ALL, like)},
        measured=measured,
    )


def _no_smaller_input(across: float, asked: InputPlan) -> float:
    """Patches across a large defect at the smallest input that is ever named: nothing was measured on smaller ones."""
    there = RESOLUTIONS[0] * asked.defect_px / max(asked.image_size_px) / asked.patch_size
    tileable = asked.max_input_px / asked.patch_size / (2 * OVERLAP_IN_DEFECTS)
    return max(across, min(there, tileable))
