"""Defects cut out at native pixels: photograph and maps side by side in one picture, and the outline of the mask.

Raw scores of two methods mean nothing beside each other. What does is how rare a score is on normal pixels, so every
pixel is coloured by the share of the category's normal pixels that the same method scores at least as high.
"""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinydefects.data.defects import Box, centred_span, find_defects
from tinydefects.data.pixels import write_whole
from tinydefects.metrics.ranking import Tally

COLOUR_MAP = "inferno"
MARGIN_PX = 10
SIDES_PX = (32, 48, 96)  # whole divisors of what the page shows a crop at: 96 and 192 px
RAREST = 1e-4  # and below: the bright end of the colour scale
N_SHADES = 64
LARGEST_EMBEDDED_BYTES = 4_000_000
CROPS_NAME = re.compile(r"[0-9a-f]{20}\.webp")


def window_around(mask: NDArray[np.bool_], area_px: int, sides: Sequence[int] = SIDES_PX) -> Box:
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


class NormalShares:
    """Looks up how rare the scores of one method are on the normal pixels of one category.

    A tally knows the share of normal pixels at about a thousand thresholds; between two of them its logarithm is
    interpolated. From the highest normal score down to the highest threshold it falls from one pixel to what is known
    there, and below the lowest threshold it rises to 1 at the lowest score.
    """

    def __init__(self, tally: Tally, lowest_score: float) -> None:
        n_normal = max(1, int(tally.n_normal.sum()))
        counts = tally.normal_at_least.sum(axis=0)[::-1]
        highest = float(np.nanmax(tally.highest_normal, initial=lowest_score))
        known = {lowest_score: n_normal, **dict(zip(tally.thresholds[::-1].tolist(), counts.tolist(), strict=True))}
        known[highest] = max(1, known.get(highest, 1))
        scores = np.array(sorted(known))
        self._scores, self._above = scores, highest
        self._logarithms = np.log(np.maximum([known[score] for score in scores.tolist()], 1) / n_normal)

    def of(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """The share of normal pixels that score at least as high; 0 above all of them."""
        exact = scores.astype(np.float64)
        shares = np.exp(np.interp(exact, self._scores, self._logarithms))
        return np.where(exact > self._above, 0.0, shares)


def colour_shares(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(h, w) shares of normal pixels as (h, w, 3): dark for 1, bright for `RAREST` and below, even in the logarithm."""
    rarity = np.log(np.clip(shares, RAREST, 1.0)) / np.log(RAREST)
    return colour_scores(np.round(rarity * (N_SHADES - 1)) / (N_SHADES - 1), (0.0, 1.0))


def data_uri(content: bytes, kind: str) -> str:
    """A picture inside an address: `kind` is `webp` or `png`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def encode_crops(panels: Sequence[NDArray[np.uint8]]) -> bytes:
    """(h, w, 3) panels of one size from left to right, as lossless WebP."""
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(panels, axis=1)).save(buffer, "WEBP", lossless=True, quality=40, method=2)
    return buffer.getvalue()


def choose_panels(crops: bytes, places: Sequence[int], width: int) -> bytes:
    """The panels at these places of crops whose panels are `width` pixels wide, in this order, encoded alike."""
    pixels = np.asarray(Image.open(io.BytesIO(crops)).convert("RGB"))
    return encode_crops([pixels[:, place * width : (place + 1) * width] for place in places])


class CropStore:
    """Crops on their way to a page: inside it while they are few, in a folder beside it once they are large.

    The folder is named after the page, `report_files` for report.html. They are named by their content, so that a
    page written before keeps its own until the new one has replaced it.
    """

    def __init__(self, page: Path) -> None:
        self._folder = page.with_name(f"{page.stem}_files")
        self._held: dict[str, bytes] = {}
        self._written: set[str] = set()
        self._n_bytes = 0

    def add(self, crops: bytes) -> str:
        """Keep the crops of one defect; its name leads to its address once all are there.

        Raises:
            TinyDefectsError: the folder cannot be written.
        """
        name = f"{hashlib.sha256(crops).hexdigest()[:20]}.webp"
        self._held[name] = crops
        self._n_bytes += len(crops)
        if self._n_bytes > LARGEST_EMBEDDED_BYTES:
            self._spill()
        return name

    def address(self, name: str) -> str:
        """Where the page finds them: a path relative to it, or a data URI."""
        if name in self._written:
            return f"{quote(self._folder.name)}/{name}"
        return data_uri(self._held[name], "webp")

    def remove_old(self) -> None:
        """Drop what an earlier page left in the folder, and the folder itself when nothing is in it."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if CROPS_NAME.fullmatch(path.name) and path.name not in self._written:
                path.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _spill(self) -> None:
        for name, crops in self._held.items():
            if not (self._folder / name).exists():
                write_whole(self._folder / name, partial(_put, crops))
            self._written.add(name)
        self._held.clear()


def _put(content: bytes, file: IO[bytes]) -> None:
    file.write(content)
