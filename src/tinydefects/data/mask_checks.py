"""The masks of a whole category, looked at before anything is scored: what no single mask can show.

They are remembered, as bits inside the smallest box around them, so that looking first costs no second reading.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.defects import MOST_IN_A_CATEGORY, find_defects, most_regions, require_few
from tinydefects.data.pixels import is_lossy, read_image
from tinydefects.data.read_ahead import read_ahead
from tinydefects.data.sample import Category, Sample
from tinydefects.errors import MaskError, TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.progress import Report

THREADS = 2
N_COMPARED = 1
INSIDE_OUT = 0.9  # a mask that marks more, but not all, is taken for the background with the defect left out
REMEMBERED_BYTES = 2**28  # of all masks together; those beyond are read again
NEVER_LOSSY = frozenset({".png", ".bmp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedSample(Sample):
    """A sample, `source`, whose mask was read before: `size` (H, W), the top left corner of `bits`, and them."""

    size: tuple[int, int]
    corner: tuple[int, int]
    bits: NDArray[np.uint8] = field(repr=False, compare=False)  # (h, w / 8), packed along the rows
    width: int
    source: Sample = field(repr=False, compare=False)

    def saturated_defects(self) -> list[tuple[NDArray[np.bool_], int]] | None:
        """Those of the sample itself, whose files tell them apart."""
        return self.source.saturated_defects()

    def truth_files(self) -> tuple[Path, ...]:
        """Those of the sample itself."""
        return self.source.truth_files()

    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, what reading the files gave."""
        mask = np.zeros(self.size, dtype=bool)
        top, left = self.corner
        rows, columns = slice(top, top + len(self.bits)), slice(left, left + self.width)
        mask[rows, columns] = np.unpackbits(self.bits, axis=1, count=self.width)
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedMasks:
    """The category with its masks remembered, and what a reader should be told of them, a line each."""

    category: Category
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What is kept of the masks of one sample: the share marked in [0, 1], or why they are refused."""

    sample: Sample
    share: float = 0.0
    most_regions: int = 0
    refusal: MaskError | None = None


def check_masks(
    category: Category,
    *,
    allowed: Collection[str] = (),
    progress: "Report" = lambda stage, done, total: None,
) -> CheckedMasks:
    """Read the masks of all test images once and remember them.

    `allowed` are doubts (`masks.Doubt`) about the category; those about single files stand in its samples. `progress`
    is called with ("check masks", done, total). The time is that of decoding: some ms a megapixel.

    Raises:
        MaskError: masks that cannot be read as such, lack their saturation, or can only be a mistake; counts them and
            names the first.
        DatasetError: the file of saturations went after the category was loaded.
        ImageReadError, ResolutionMismatchError: a mask that is no image, or has another size than its photograph.
    """
    samples = [sample for sample in category.test if sample.mask_paths]
    seen: dict[str, _Seen] = {}
    for done, one in enumerate(read_ahead(_look, samples, threads=THREADS), start=1):
        seen[one.sample.id] = one
        progress("check masks", done, len(samples))
    _raise_first(seen.values())
    if "photograph-as-mask" not in allowed:
        _require_other_pixels([sample for sample in samples if sample.label == "defect"][:N_COMPARED])
    if sum(one.most_regions for one in seen.values()) > MOST_IN_A_CATEGORY:
        require_few(sum(len(find_defects(one.sample.mask())) for one in seen.values()), category.id)
    defective = [one for one in seen.values() if one.sample.label == "defect"]
    _require_marks(category.id, defective, allowed)
    remembered = _within(REMEMBERED_BYTES, {name: one.sample for name, one in seen.items()})
    test = [remembered.get(sample.id, sample) for sample in category.test]
    return CheckedMasks(category=replace(category, test=test), remarks=(*_remarks(defective), *_lossy_remarks(samples)))


def allowing(category: Category, allowed: Iterable[str]) -> Category:
    """The category, with doubts about the masks of its samples that are no mistake."""
    names = frozenset(allowed)
    if not names:
        return category
    test = [replace(sample, allowed=sample.allowed | names) for sample in category.test]
    return replace(category, test=test)


def _look(sample: Sample) -> _Seen:
    try:
        mask = sample.mask()
        bound = most_regions(mask, sample.mask_paths[0])
        if mask.any():
            sample.saturated_defects()  # as scoring will ask: what it refuses shows now
    except MaskError as error:
        return _Seen(sample=sample, refusal=error)
    share = np.count_nonzero(mask) / mask.size
    return _Seen(sample=_remembered(sample, mask), share=share, most_regions=bound)


def _remembered(sample: Sample, mask: NDArray[np.bool_]) -> RememberedSample:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = (int(axis[0]) if axis.size else 0 for axis in (rows, columns))
    inside = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1] if rows.size else mask[:0, :0]
    known = {one.name: getattr(sample, one.name) for one in fields(Sample)}
    bits, size = np.packbits(inside, axis=1), (mask.shape[0], mask.shape[1])
    return RememberedSample(**known, size=size, corner=(top, left), bits=bits, width=inside.shape[1], source=sample)


def _within(limit_bytes: int, samples: Mapping[str, Sample]) -> dict[str, Sample]:
    """The first samples whose masks together take no more than so much memory."""
    kept, n_bytes = {}, 0
    for name, sample in samples.items():
        n_bytes += sample.bits.nbytes if isinstance(sample, RememberedSample) else 0
        if n_bytes > limit_bytes:
            break
        kept[name] = sample
    return kept


def _raise_first(seen: Collection[_Seen]) -> None:
    refusals = [one.refusal for one in seen if one.refusal is not None]
    if refusals:
        more = f" ({len(refusals)} of {len(seen)} images have masks that are refused)" if len(refusals) > 1 else ""
        raise MaskError(f"{refusals[0]}{more}", doubt=refusals[0].doubt)


def _require_other_pixels(samples: Iterable[Sample]) -> None:
    """Refuse masks with the very pixels of their photographs, stored anew; a folder given twice shows in the first."""
    for sample in samples:
        for path in sample.mask_paths:
            try:
                picture = read_image(path)
            except TinyDefectsError:  # no photograph has such pixels
                continue
            if (picture != picture.flat[0]).any() and np.array_equal(picture, sample.image()):
                raise MaskError(
                    f"{path}: has the very pixels of its photograph {sample.image_path}; put the mask there, or let "
                    "--allow photograph-as-mask pass it",
                    doubt="photograph-as-mask",
                )


def _require_marks(name: str, defective: Sequence[_Seen], allowed: Collection[str]) -> None:
    """Refuse what is a mistake once all masks agree on it: most pixels marked, or none at all."""
    if not defective:
        return
    first = defective[0].sample.mask_paths[0]
    inside_out = [one for one in defective if INSIDE_OUT < one.share < 1]
    all_large = all(one.share > 0.5 for one in defective)
    if "mostly-marked" not in allowed and (all_large or inside_out):
        worst = (inside_out or defective)[0]
        which = "every mask marks" if all_large else f"{len(inside_out)} of {len(defective)} masks mark"
        most = "half" if all_large else f"{INSIDE_OUT:.0%}"
        raise MaskError(
            f"{name}: {which} more than {most} of the picture, {worst.sample.mask_paths[0]} {worst.share:.0%}: black "
            "on white? then turn them, or give --option mask_rule=zero (of JPEG below_half) where all are so; if it is "
            "meant, --allow mostly-marked",
            doubt="mostly-marked",
        )
    if "nothing-marked" not in allowed and not any(one.share for one in defective):
        raise MaskError(
            f"{name}: no mask of {len(defective)} defective images marks a pixel, the first is {first}: check what "
            "they hold, or choose another mask_rule; if it is meant, --allow nothing-marked",
            doubt="nothing-marked",
        )


def _remarks(defective: Sequence[_Seen]) -> list[str]:
    empty = [one.sample.id for one in defective if not one.share]
    large = [one.sample.id for one in defective if one.share > 0.5]
    remarks = []
    if empty:
        remarks.append(
            f"{_few(empty)} of {len(defective)} defective images: no pixel is marked; they count for image metrics only"
        )
    if large:
        remarks.append(f"{_few(large)} of {len(defective)} defective images: more than half of the picture is marked")
    return remarks


def _lossy_remarks(samples: Sequence[Sample]) -> list[str]:
    paths = [path for sample in samples for path in sample.mask_paths if sample.mask_rule == "auto"]
    lossy = [path for path in paths if path.suffix.lower() not in NEVER_LOSSY and is_lossy(path)]
    if not lossy:
        return []
    return [
        f"lossy masks (JPEG), {len(lossy)} of {len(paths)}, first {lossy[0]}: read above half; PNG keeps edges exact"
    ]


def _few(names: Sequence[str], n_named: int = 3) -> str:
    more = ", …" if len(names) > n_named else ""
    return f"{len(names)} ({', '.join(names[:n_named])}{more})"
