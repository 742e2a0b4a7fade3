"""Patch scores to a map the long way: interpolate point by point, then filter the whole image eight times."""

import numpy as np


def slow_map(scores: np.ndarray, *, patch_px: tuple[float, float], size: tuple[int, int], border: str) -> np.ndarray:
    """(h, w) scores of patches of `patch_px` original pixels to a map of `size`.

    `border`: numpy's name of what lies outside the map as it is blurred, `symmetric` or `constant` (zeros); `none`
    is no blur.
    """
    rows = [(y + 0.5) / patch_px[0] - 0.5 for y in range(size[0])]
    columns = [(x + 0.5) / patch_px[1] - 0.5 for x in range(size[1])]
    by_column = np.array([np.interp(rows, range(len(scores)), column) for column in scores.T]).T
    drawn = np.array([np.interp(columns, range(scores.shape[1]), row) for row in by_column])
    for width in () if border == "none" else (5, 5, 5, 5, 5, 7, 7, 7):
        padded = np.pad(drawn, width // 2, mode=border)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width))
        drawn = windows.mean(axis=(2, 3))
    return drawn
