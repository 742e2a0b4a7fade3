"""What a mask means: which pixels a file marks as defective, decided here from its content, for every loader.

In this order: a palette is resolved to its indices, never to colours. Alpha that varies is the mask; alpha that does
not is dropped. Of several colour channels any that is not zero counts. Then the rule of the dataset decides over the
values that are left; `auto` takes two values, one of them zero, and the upper half of lossy ones. What cannot be told
is refused, never cast or guessed.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.opening import read_orientation
from tinydefects.data.pixels import StoredPixels, read_stored
from tinydefects.errors import DatasetError, MaskError

MaskRule = str
Doubt = Literal["mostly-marked", "nothing-marked", "multi-page", "photograph-as-mask", "turned"]
Values = NDArray[Any]
RULE = re.compile(r"auto|nonzero|zero|(above|below)_(half|\d{1,10})")
RULES = "auto, nonzero, zero, above_half, below_half, above_N or below_N (such as above_127)"
HIGHEST = 2**31 - 1
FULL_SCALES = (255, 65_535)
VOC_VOID = 255  # the index of Pascal VOC for pixels that belong neither to an object nor to the background
PHOTOGRAPH_LEVELS = 16  # fewer values are class numbers
NEAR_END = 31  # levels by which JPEG moves black and white, as a rule
UNSURE = slice(96, 160)  # levels that JPEG may have moved across the half
MOST_UNSURE = (
    0.005  # to each marked pixel: above, edges have moved (measured on discs of 1 to 20 px, qualities 10 to 90)
)


def checked_rule(rule: MaskRule) -> MaskRule:
    """The rule itself.

    Raises:
        DatasetError: there is no such rule.
    """
    if RULE.fullmatch(rule) is None:
        raise DatasetError(f"mask_rule={rule}: no such rule; choose {RULES}")
    return rule


def read_mask(path: Path, rule: MaskRule = "auto", allowed: Collection[str] = ()) -> NDArray[np.bool_]:
    """A ground-truth mask as (H, W) bool at its own size; `allowed` are doubts that are no mistake here.

    Raises:
        MaskError: the file does not say which pixels are marked, or is no mask at all.
        ImageReadError, MissingExtraError: it cannot be read.
    """
    checked_rule(rule)
    stored = read_stored(path)
    if stored.n_pages > 1 and "multi-page" not in allowed:
        raise MaskError(
            f"{path}: holds {stored.n_pages} pages or frames where a mask is one picture; save one, or let "
            "--allow multi-page take the first",
            doubt="multi-page",
        )
    if stored.palette is not None:
        return _marked_by_index(stored, rule, path)
    values = _one_channel(stored.pixels, path)
    _require_whole_numbers(values, rule, path)
    return _marked(values, rule, path, is_lossy=stored.is_lossy, allowed=allowed)


def require_own_picture(image_path: Path, mask_path: Path, size: tuple[int, int], allowed: Collection[str]) -> None:
    """Refuse a mask that is its photograph, and one that may lie turned against it; `size` is that of both, upright.

    Raises:
        MaskError: it is one of these and not among the `allowed`.
    """
    is_same = "photograph-as-mask" not in allowed and _same_bytes(image_path, mask_path)
    if is_same and _varies(read_stored(mask_path).pixels):  # an empty mask of a black picture may be
        raise MaskError(
            f"{mask_path}: is the photograph {image_path} itself; put the mask there, or let --allow "
            "photograph-as-mask pass it",
            doubt="photograph-as-mask",
        )
    if "turned" in allowed:
        return
    turn, mask_turn = read_orientation(image_path), read_orientation(mask_path)
    # Of a photograph that is not square, a mask that lies otherwise would have another size.
    shows_by_size = (turn >= 5) != (mask_turn >= 5) and size[0] != size[1]
    if turn != mask_turn and not shows_by_size:
        raise MaskError(
            f"{mask_path}: has EXIF orientation {mask_turn} and its photograph {image_path.name} has {turn}, so that "
            "nobody can tell whether they lie alike; store both upright without the tag, or confirm masks that match "
            "the upright photograph with --allow turned",
            doubt="turned",
        )


def _one_channel(pixels: Values, path: Path) -> Values:
    """(H, W) values of (H, W) or (H, W, C) pixels: alpha if it varies, else the brightest of the colours."""
    if pixels.ndim == 2:
        return pixels.astype(np.uint8) * np.uint8(255) if pixels.dtype == np.bool_ else pixels
    n_channels = pixels.shape[2]
    if n_channels > 4:
        raise MaskError(f"{path}: has {n_channels} channels; save the mask with one, of two values")
    channels = [pixels[..., number] for number in range(n_channels)]
    alpha = channels.pop() if n_channels in {2, 4} else None
    if alpha is not None and _varies(alpha):
        _require_agreement(channels, alpha, path)
        return alpha
    if alpha is not None and not alpha.flat[0] and not any(map(_varies, channels)):
        return np.zeros_like(alpha)  # nothing drawn on a transparent sheet
    brightest = _brightest(channels)
    if brightest.flat[0] and not _varies(brightest) and any(map(_varies, channels)):
        raise MaskError(f"{path}: colours on a background that is not black; save the mask white on black")
    return brightest


def _require_agreement(channels: list[Values], alpha: Values, path: Path) -> None:
    """Colours beside alpha are one colour, or part the pixels as alpha does."""
    if not any(map(_varies, channels)):
        return
    coloured, opaque = _brightest(channels) != 0, alpha != 0
    if not (np.array_equal(coloured, opaque) or np.array_equal(coloured, ~opaque)):
        raise MaskError(
            f"{path}: alpha and colours both vary and mark different pixels ({np.count_nonzero(opaque):,} and "
            f"{np.count_nonzero(coloured):,}); save the mask in gray, without alpha"
        )


def _brightest(channels: list[Values]) -> Values:
    brightest = channels[0]
    for channel in channels[1:]:
        brightest = np.maximum(brightest, channel)
    return brightest


def _varies(channel: Values) -> bool:
    return bool(channel.min() != channel.max())


def _require_whole_numbers(values: Values, rule: MaskRule, path: Path) -> None:
    """Refuse what only a cast would turn into a class: nan, infinity, signs, fractions of one, huge numbers."""
    if values.dtype == np.uint8:
        return
    if values.dtype.kind not in "uif":
        raise MaskError(f"{path}: its values are {values.dtype}; save the mask with 8 bits")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise MaskError(f"{path}: holds nan or infinity; save the mask with two values, 0 and 255")
    low, high = values.min().item(), values.max().item()
    if low < 0 or high > HIGHEST:
        raise MaskError(f"{path}: holds values from {low:g} to {high:g}; a mask holds 0 up to 2^31 - 1, as 0 and 255")
    if values.dtype.kind == "f" and not rule.endswith("_half") and ((values > 0) & (values < 1)).any():
        raise MaskError(
            f"{path}: holds fractions between 0 and 1; if these are soft edges, give --option mask_rule=above_half, "
            "else save the mask as 0 and 255"
        )


def _marked(
    values: Values, rule: MaskRule, path: Path, *, is_lossy: bool, allowed: Collection[str]
) -> NDArray[np.bool_]:
    """The marked pixels among values of one channel, none of them negative."""
    low, high = values.min(), values.max()
    at_the_ends = np.count_nonzero(values == low) + np.count_nonzero(values == high)
    has_two = at_the_ends >= values.size  # counted twice where low is high
    if 2 * at_the_ends < values.size and "photograph-as-mask" not in allowed:
        _refuse_photograph(values, path, is_lossy=is_lossy)
    if rule != "auto":
        if is_lossy and rule in {"nonzero", "zero"}:
            raise MaskError(
                f"{path}: is lossy (JPEG), where zero does not stay zero; give --option mask_rule=above_half, or "
                "save the mask as PNG"
            )
        return _by_rule(values, rule, path)
    if is_lossy:
        return _upper_half(values, path)
    if has_two and (low == 0 or low == high):
        return np.asarray(values != 0)
    _refuse_values(values, path)


def _by_rule(values: Values, rule: MaskRule, path: Path) -> NDArray[np.bool_]:
    if rule in {"nonzero", "zero"}:
        return np.asarray((values != 0) == (rule == "nonzero"))
    side, _, bound = rule.partition("_")
    level = _half(values, path) if bound == "half" else int(bound)
    return np.asarray(values > level if side == "above" else values < level)


def _half(values: Values, path: Path) -> float:
    """Half of the smallest full scale that holds the values: 255 (of floats 1) or 65535."""
    scales = (1, *FULL_SCALES) if values.dtype.kind == "f" else FULL_SCALES
    high = values.max()
    scale = next((scale for scale in scales if high <= scale), None)
    if scale is None:
        raise MaskError(f"{path}: holds {high:g}, and half of such a scale is a guess; give mask_rule=above_N instead")
    return scale / 2


def _upper_half(values: Values, path: Path) -> NDArray[np.bool_]:
    """The upper half of 8-bit values that were black and white once; refused where that cannot be told any more."""
    marked = np.asarray(values > FULL_SCALES[0] / 2)
    n_unsure = np.count_nonzero((values >= UNSURE.start) & (values < UNSURE.stop))
    n_sure = np.count_nonzero(values >= UNSURE.stop)
    nothing = not n_sure and values.max() > 0
    if n_unsure > MOST_UNSURE * n_sure or nothing:
        why = "none surely above half" if nothing else f"{n_unsure:,} pixels about the middle, so that edges have moved"
        raise MaskError(
            f"{path}: is lossy (JPEG) with {_described(values)}, {why}; save the mask as PNG, or give --option "
            "mask_rule=above_half or above_N"
        )
    return marked


def _refuse_photograph(values: Values, path: Path, *, is_lossy: bool) -> None:
    """Masks, soft ones too, hold mostly two values, or levels near them once they were JPEG; photographs do not."""
    levels, counts = _levels(values)
    if len(levels) <= PHOTOGRAPH_LEVELS or 2 * np.sort(counts)[-2:].sum() >= values.size:
        return
    settled = counts[(levels <= NEAR_END) | (levels >= FULL_SCALES[0] - NEAR_END)].sum()
    if is_lossy and 10 * settled >= 9 * values.size:
        return
    raise MaskError(
        f"{path}: looks like a photograph, not a mask: {len(levels)} values, no two of which cover half of the "
        "picture; put the mask there, or let --allow photograph-as-mask pass it",
        doubt="photograph-as-mask",
    )


def _refuse_values(values: Values, path: Path) -> NoReturn:
    low = values.min()
    if low == 0:
        reason = "two are expected; give --option mask_rule=above_half for soft edges, nonzero for class numbers"
    else:
        reason = f"none is 0, the background; give --option mask_rule=above_{int(low)} if all but {low:g} are marked"
    raise MaskError(f"{path}: holds {_described(values)} where {reason}, or save the mask as 0 and 255")


def _marked_by_index(stored: StoredPixels, rule: MaskRule, path: Path) -> NDArray[np.bool_]:
    """The marked pixels of a palette image: its indices, by any rule but the halves, which speak of its shades."""
    indices = stored.pixels
    shades = _shades(stored)
    if rule.endswith("_half"):
        return _by_rule(shades[indices], rule, path)
    if rule != "auto":
        return _by_rule(indices, rule, path)
    used = np.flatnonzero(np.bincount(indices.reshape(-1)))
    gray = _is_gray(stored, used)
    if gray and used.size > 2:
        _refuse_values(shades[indices], path)
    if used.size > 1 and used[0]:
        _refuse_values(indices, path)
    if used.size > 2 and used[-1] == VOC_VOID:
        raise MaskError(
            f"{path}: holds the palette's indices {_listed(used)}, and in VOC's masks 255 means neither; give --option "
            "mask_rule=nonzero to mark it, too, or set it to 0"
        )
    marked = np.asarray(indices != 0)
    if gray and shades[0] > shades[used[-1]] and 2 * np.count_nonzero(marked) > marked.size:
        raise MaskError(
            f"{path}: its palette's indices mark most of the picture and its colours the rest; give --option "
            "mask_rule=zero to mark index 0, or save the mask in gray"
        )
    return marked


def _shades(stored: StoredPixels) -> NDArray[np.uint8]:
    """(256,) brightest channel of each colour of the palette; 0 for those that it lacks."""
    shades = np.zeros(256, dtype=np.uint8)
    if stored.palette is not None and stored.palette.size:
        shades[: len(stored.palette)] = stored.palette.max(axis=1)
    return shades


def _is_gray(stored: StoredPixels, used: NDArray[np.intp]) -> bool:
    """Whether the colours in use are shades of gray, each another."""
    if stored.palette is None or used[-1] >= len(stored.palette):
        return False
    colours = stored.palette[used]
    return bool((colours == colours[:, :1]).all()) and len(np.unique(colours[:, 0])) == len(used)


def _levels(values: Values) -> tuple[Values, NDArray[np.intp]]:
    """The distinct values, ascending, and how many pixels hold each."""
    if values.dtype in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        counts = np.bincount(values.reshape(-1))
        levels = np.flatnonzero(counts)
        return levels, counts[levels]
    return np.unique(values, return_counts=True)


def _described(values: Values) -> str:
    levels, _ = _levels(values)
    return f"{len(levels)} value{'s' if len(levels) > 1 else ''} ({_listed(levels)})"


def _listed(levels: Values) -> str:
    shown = [f"{level:g}" for level in levels.tolist()]
    return ", ".join(shown if len(shown) <= 5 else [*shown[:3], "…", shown[-1]])


def _same_bytes(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()
    except OSError:  # whoever reads them says so
        return False
