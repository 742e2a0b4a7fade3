"""The pictures of one defect in one strip: the photograph and every method's map side by side, at native pixels.

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

from tinydefects.data.pixels import write_whole
from tinydefects.metrics.tally import Tally
from tinydefects.report.crops import colour_scores

RAREST = 1e-4  # and below: the bright end of the colour scale
N_SHADES = 64
LARGEST_EMBEDDED_BYTES = 4_000_000
STRIP_NAME = re.compile(r"[0-9a-f]{20}\.webp")


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


def encode_strip(panels: Sequence[NDArray[np.uint8]]) -> bytes:
    """(h, w, 3) panels of one size from left to right, as lossless WebP."""
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(panels, axis=1)).save(buffer, "WEBP", lossless=True, quality=40, method=2)
    return buffer.getvalue()


class StripStore:
    """Strips on their way to a page: inside it while they are few, in a folder beside it once they are large.

    The folder is named after the page, `report_files` for report.html. Strips are named by their content, so that a
    page written before keeps its own until the new one has replaced it.
    """

    def __init__(self, page: Path) -> None:
        self._folder = page.with_name(f"{page.stem}_files")
        self._held: dict[str, bytes] = {}
        self._written: set[str] = set()
        self._n_bytes = 0

    def add(self, strip: bytes) -> str:
        """Keep a strip; its name leads to its address once all are there.

        Raises:
            TinyDefectsError: the folder cannot be written.
        """
        name = f"{hashlib.sha256(strip).hexdigest()[:20]}.webp"
        self._held[name] = strip
        self._n_bytes += len(strip)
        if self._n_bytes > LARGEST_EMBEDDED_BYTES:
            self._spill()
        return name

    def address(self, name: str) -> str:
        """Where the page finds a strip: a path relative to it, or a data URI."""
        if name in self._written:
            return f"{quote(self._folder.name)}/{name}"
        return f"data:image/webp;base64,{base64.b64encode(self._held[name]).decode('ascii')}"

    def remove_old(self) -> None:
        """Drop what an earlier page left in the folder, and the folder itself when nothing is in it."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if STRIP_NAME.fullmatch(path.name) and path.name not in self._written:
                path.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _spill(self) -> None:
        for name, strip in self._held.items():
            if not (self._folder / name).exists():
                write_whole(self._folder / name, partial(_put, strip))
            self._written.add(name)
        self._held.clear()


def _put(content: bytes, file: IO[bytes]) -> None:
    file.write(content)
