"""One category scored on several machines: each gathers some of its images, and merging them loses nothing.

A part is what `gather` keeps of its images, their normal scores included, with each image's position in the category.
Merged in the order of those positions, in whatever order the parts come, they are what one pass over all images leaves
behind: every number, interval, tally and exhibit is the same to the last bit.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tinydefects.errors import DatasetError, ResultError
from tinydefects.metrics.exhibits import Cut, ExhibitKeeper
from tinydefects.metrics.gathering import Gathered, gather
from tinydefects.metrics.spool import ScoreSpool
from tinydefects.sample import Prediction, Sample


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Some images of a category, gathered.

    Attributes:
        category, n_images: the category, and how many images all its parts have together.
        positions: of these images in the category's test split, from 0, ascending.
        n_exhibits: how many cuts an evaluation of all parts keeps.
        made_from: where the predictions come from, in words; all parts say the same.
        files_sha256: of the files of this part, for whoever merges parts from disk.
    """

    category: str
    n_images: int
    positions: tuple[int, ...]
    n_exhibits: int
    made_from: str = ""
    files_sha256: str = ""
    gathered: Gathered


def share_of(n_images: int, number: int, n_parts: int) -> range:
    """The positions of part `number`, from 1, of `n_parts`: every n-th image, as types are listed one after the other.

    Raises:
        DatasetError: there is no such part, or it has no image.
    """
    if not 1 <= number <= n_parts or number > n_images:
        raise DatasetError(
            f"part {number} of {n_parts}: parts count from 1, and {n_images} test images make {n_images} parts at most"
        )
    return range(number - 1, n_images, n_parts)


def gather_part(
    pairs: Iterable[tuple[Sample, Prediction]],
    normal_scores: ScoreSpool,
    *,
    positions: Sequence[int],
    n_images: int,
    category: str = "",
    n_exhibits: int = 48,
    contrast: bool = False,
    made_from: str = "",
) -> Part:
    """Take in the images at `positions` of a category's `n_images`, in this order; closing the spool is left to you.

    Raises:
        DatasetError: positions that do not ascend, or are not as many as pairs; and as `gather`, what it raises.
    """
    if any(later <= earlier for earlier, later in pairwise((-1, *positions, n_images))):
        raise DatasetError(f"the positions of a part ascend from 0 to {n_images - 1}, these do not: {positions}")
    gathered = gather(pairs, normal_scores, n_exhibits, with_contrast=contrast)
    if len(gathered.samples) != len(positions):
        raise DatasetError(f"{len(gathered.samples)} images came for {len(positions)} positions; give one for each")
    return Part(
        category=category,
        n_images=n_images,
        positions=tuple(positions),
        n_exhibits=n_exhibits,
        made_from=made_from,
        gathered=gathered,
    )


def merge_parts(parts: Sequence[Part], normal_scores: ScoreSpool) -> Gathered:
    """What `gather` leaves behind after one pass over all images; for `evaluation.evaluate_gathered`.

    The parts' normal scores are copied to the spool one image at a time.

    Raises:
        ResultError: the parts are not of one category and one way of gathering, or do not hold each image once.
    """
    _check(parts)
    merged = Gathered(
        normal_scores=normal_scores,
        exhibits=ExhibitKeeper(parts[0].n_exhibits),
        with_contrast=parts[0].gathered.with_contrast,
        n_unmarked=sum(part.gathered.n_unmarked for part in parts),
        lowest=min(part.gathered.lowest for part in parts),
        highest=max(part.gathered.highest for part in parts),
    )
    contents = [_Contents.of(part.gathered) for part in parts]
    places = [
        (position, number, image) for number, part in enumerate(parts) for image, position in enumerate(part.positions)
    ]
    for _, number, image in sorted(places):
        _append(merged, parts[number].gathered, contents[number], image)
    return merged


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Contents:
    """The defects of each image of a part, and the cuts of its defects, by number."""

    defects: dict[int, list[int]]
    cuts: dict[int, Cut]

    @classmethod
    def of(cls, gathered: Gathered) -> "_Contents":
        defects = defaultdict(list)
        for number, image in enumerate(gathered.image_of_defect):
            defects[image].append(number)
        return cls(defects=defects, cuts=gathered.exhibits.cuts())


def _append(merged: Gathered, part: Gathered, contents: _Contents, image: int) -> None:
    """One image of a part, after those that are merged already."""
    merged.normal_scores.add_run(part.normal_scores.run(image))
    merged.samples.append(part.samples[image])
    merged.image_scores.append(part.image_scores[image])
    for number in contents.defects.get(image, ()):
        record = part.records[number]
        merged.records.append(record)
        merged.defect_scores.append(part.defect_scores[number])
        merged.image_of_defect.append(len(merged.samples) - 1)
        merged.image_px.append(part.image_px[number])
        if number in contents.cuts:
            merged.exhibits.keep(len(merged.records) - 1, record.area_px, record.peak, contents.cuts[number])


def _check(parts: Sequence[Part]) -> None:
    if not parts:
        raise ResultError("there are no parts to merge; gather some first")
    ways = {
        (part.category, part.n_images, part.n_exhibits, part.gathered.with_contrast, part.made_from) for part in parts
    }
    if len(ways) > 1:
        told = "; ".join(str(way) for way in sorted(ways))
        raise ResultError(f"parts differ in category, images, exhibits, contrast or origin: {told}; gather all alike")
    times = Counter(position for part in parts for position in part.positions)
    twice = next((position for position, n_times in times.items() if n_times > 1), None)
    if twice is not None:
        raise ResultError(f"{parts[0].category}: image {twice} is in two parts; give each part once")
    missing = [position for position in range(parts[0].n_images) if position not in times]
    if missing:
        few = ", ".join(str(position) for position in missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ResultError(f"{parts[0].category}: no part has images {few} of {parts[0].n_images}; add what is missing")
