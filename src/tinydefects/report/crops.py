"""Defects cut out at native pixels, as pictures a page can hold: data URIs and an outline along pixel borders."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.defects import Box, centred_span, find_defects
from tinydefects.metrics.records import DefectRecord, Exhibit

COLOUR_MAP = "inferno"
PANEL_PX, SMALL_PANEL_PX = 160, 104
WINDOWS_PX = (40, 52, 80)  # shown 4, 3 and 2 times as large on a wide page, 2, 2 and 1 times on a phone
MARGIN_PX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One exhibit ready to show.

    Attributes:
        image, anomaly_map: PNG data URIs of `height` by `width` native pixels.
        outline: SVG path along the pixel borders of the mask, in pixels of the crop.
        zoom, small_zoom: whole screen pixels per pixel, on a wide page and on a phone.
    """

    defect: DefectRecord
    height: int
    width: int
    image: str
    anomaly_map: str
    outline: str
    zoom: int
    small_zoom: int


def make_crop(exhibit: Exhibit, score_range: tuple[float, float]) -> Crop:
    """Trim the exhibit around its defect, so that a small one is shown large, and colour its map on `score_range`."""
    window = window_around(exhibit.mask, exhibit.defect.area_px)
    mask = exhibit.mask[window]
    height, width = mask.shape
    return Crop(
        defect=exhibit.defect,
        height=height,
        width=width,
        image=png_data_uri(exhibit.image[window]),
        anomaly_map=png_data_uri(colour_scores(exhibit.anomaly_map[window], score_range)),
        outline=outline_path(mask),
        zoom=max(1, PANEL_PX // max(height, width)),
        small_zoom=max(1, SMALL_PANEL_PX // max(height, width)),
    )


def window_around(mask: NDArray[np.bool_], area_px: int, sides: Sequence[int] = WINDOWS_PX) -> Box:
    """The smallest square window, of these sides, that shows the defect of `area_px` pixels with a margin.

    It lies inside the mask. Of several such defects it is the one nearest the centre; all of the mask where there is
    none (a defect that the crop cuts through) or where no window is large enough.
    """
    whole = (slice(0, mask.shape[0]), slice(0, mask.shape[1]))
    boxes = [defect.box for defect in find_defects(mask) if defect.area_px == area_px]
    if not boxes:
        return whole
    box = min(
        boxes, key=lambda box: sum(abs(_middle(part) - size / 2) for part, size in zip(box, mask.shape, strict=True))
    )
    needed = max(part.stop - part.start for part in box) + 2 * MARGIN_PX
    side = next((side for side in sides if side >= needed), None)
    if side is None:
        return whole
    rows, columns = (centred_span(round(_middle(part)), side, size) for part, size in zip(box, mask.shape, strict=True))
    return rows, columns


def colour_scores(scores: NDArray[np.floating], score_range: tuple[float, float]) -> NDArray[np.uint8]:
    """(h, w) scores as (h, w, 3) on a perceptually uniform scale; a range of no width shows its lowest colour."""
    import matplotlib

    low, high = score_range
    span = high - low if high > low else 1.0
    shares = np.clip((scores.astype(np.float64) - low) / span, 0, 1)
    colours: NDArray[np.uint8] = matplotlib.colormaps[COLOUR_MAP](shares, bytes=True)
    return colours[..., :3]


def colour_scale() -> str:
    """The colour map from lowest to highest as a strip one pixel high, a PNG data URI."""
    return png_data_uri(colour_scores(np.linspace(0, 1, 256)[None], (0.0, 1.0)))


def png_data_uri(pixels: NDArray[np.uint8]) -> str:
    """(h, w, 3) as a lossless PNG inside a URI."""
    from matplotlib.image import imsave

    buffer = BytesIO()
    imsave(buffer, pixels, format="png", metadata={"Software": "tinydefects"}, pil_kwargs={"optimize": True})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def outline_path(mask: NDArray[np.bool_]) -> str:
    """The borders between defect and normal pixels of an (h, w) mask, as an SVG path in pixel coordinates."""
    inside = np.pad(mask, 1)
    across = inside[1:, 1:-1] != inside[:-1, 1:-1]  # (h + 1, w): the border above each pixel
    along = inside[1:-1, 1:] != inside[1:-1, :-1]  # (h, w + 1): the border left of each pixel
    steps = [f"M{start} {row}H{end}" for row, start, end in _runs(across)]
    steps += [f"M{column} {start}V{end}" for column, start, end in _runs(along.T)]
    return "".join(steps)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(row, first, one past last) of each unbroken run of True along the rows."""
    changes = np.diff(np.pad(flags, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(changes == 1)
    ends = np.nonzero(changes == -1)[1]
    return list(zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True))


def _middle(part: slice) -> float:
    return float(part.start + part.stop) / 2
