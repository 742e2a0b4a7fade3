"""What is said of one photograph: good, defect or unsure, how unusual it is, and the regions that stand out.

The verdict is that of the image score. Up to the threshold that holds on average a photograph is good; above the one
that holds with confidence it shows a defect; between them it is unsure. Where the good parts are too few for the first,
their highest score takes its place; where they are too few for the second, nothing is called a defect, and what would
be is unsure. A threshold set by hand leaves nothing unsure. A part is as bad as the worst of its photographs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tinydefects.decisions.regions import Region
from tinydefects.notebook import paragraphs

Verdict = Literal["good", "defect", "unsure"]
TOLD_REGIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """One photograph, decided.

    Attributes:
        verdict: see above.
        score: the image score, `p_value` the share of good parts, this one counted in, that score as high.
        image_size: (H, W) of the photograph in pixels.
        regions: highest peak first; a good photograph may have some, as often as the calibration allows.
        n_regions: how many there are; more than are described where a map is full of them.
    """

    verdict: Verdict
    score: float
    p_value: float
    image_size: tuple[int, int]
    regions: tuple[Region, ...]
    n_regions: int

    def __str__(self) -> str:
        """The verdict in one line, then one line for each of the first regions."""
        plural = "" if self.n_regions == 1 else "s"
        first = f"{self.verdict}: score {self.score:.4g} (p {self.p_value:.2g}), {self.n_regions} region{plural}"
        lines = [f"  {told(region)}" for region in self.regions[:TOLD_REGIONS]]
        left = self.n_regions - len(lines)
        return "\n".join([first, *lines, *([f"  and {left} more"] if left else [])])

    def _repr_html_(self) -> str:
        """For notebooks: the same lines."""
        return paragraphs(str(self).splitlines())

    def record(self) -> dict[str, object]:
        """All of it but the pixels, as JSON wants it; what is not known is None."""
        return {
            "verdict": self.verdict,
            "score": self.score,
            "p_value": self.p_value,
            "height": self.image_size[0],
            "width": self.image_size[1],
            "n_regions": self.n_regions,
            "regions": [region_record(region) for region in self.regions],
        }


def region_record(region: Region) -> dict[str, object]:
    """The numbers of one region, by the names of the columns that hold them; what is not known is None."""
    x, y, width, height = region.x_y_width_height
    numbers: Mapping[str, float] = {
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "area_px": region.area_px,
        "diameter_px": region.diameter_px,
        "length_px": region.length_px,
        "area_mm2": region.area_mm2,
        "diameter_mm": region.diameter_mm,
        "length_mm": region.length_mm,
        "peak": region.peak,
        "peak_row": region.peak_at[0],
        "peak_column": region.peak_at[1],
        "p_value": region.p_value,
    }
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}


def told(region: Region) -> str:
    """`6.4 px (0.32 mm) at row 120, column 88, peak 1.93 (p 0.0099)`: the diameter of the disc of its area."""
    in_mm = "" if math.isnan(region.diameter_mm) else f" ({region.diameter_mm:.3g} mm)"
    row, column = region.peak_at
    peak = f"peak {region.peak:.4g} (p {region.p_value:.2g})"
    return f"{region.diameter_px:.1f} px{in_mm} at row {row}, column {column}, {peak}"
