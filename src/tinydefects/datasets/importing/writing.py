"""The import itself: photographs copied or linked as they are, masks drawn at their size, whole or not at all."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.defects import find_defects
from tinydefects.data.json_files import write_json
from tinydefects.data.leftovers import present, scratch_folder
from tinydefects.data.opening import read_orientation, upright
from tinydefects.data.pixels import cannot_write, read_size, write_png
from tinydefects.data.walk import counted, real_path
from tinydefects.datasets.importing.annotations import Annotated
from tinydefects.datasets.importing.drawing import draw
from tinydefects.datasets.importing.plan import GOOD_FOLDER, ImportPlan, ImportSettings, Orientation, Planned
from tinydefects.errors import DatasetError, TinyDefectsError
from tinydefects.progress import Report

RECORD = "import.json"
Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """What an import made, or would make.

    Attributes:
        outlines: how many there are of each class.
        folders: how many photographs go to `good` and to each folder of defects.
        sizes: how many photographs there are of each size, `height x width`.
        n_defects: regions of the masks; outlines that touch are one.
        n_thin: outlines of which some pixels are marked only as their edge passes through these.
        diameters_px: the smallest, the median and the largest defect, as diameters of discs of their areas.
        n_turned: photographs with an EXIF orientation that masks must be confirmed for (`--allow turned`).
        photograph_bytes: what copies of the photographs take.
    """

    format: str
    outlines: Mapping[str, int]
    folders: Mapping[str, int]
    sizes: Mapping[str, int]
    n_defects: int
    n_thin: int
    diameters_px: tuple[float, float, float]
    n_skipped: int
    n_turned: int
    photograph_bytes: int
    remarks: tuple[str, ...]

    @property
    def n_defective(self) -> int:
        """Photographs with an outline."""
        return sum(self.folders.values()) - self.folders.get(GOOD_FOLDER, 0)

    def __str__(self) -> str:
        smallest, middle, largest = self.diameters_px
        lines = [
            f"{self.folders.get(GOOD_FOLDER, 0)} good and {counted('defective photograph', self.n_defective)}, "
            f"{counted('outline', sum(self.outlines.values()))}, {counted('defect', self.n_defects)} of "
            f"{smallest:.1f} to {largest:.1f} px, median {middle:.1f}",
            f"classes: {_listed(self.outlines)}",
            f"folders: {_listed(self.folders)}",
            f"sizes: {_listed(self.sizes)}; {self.photograph_bytes / 1e6:,.1f} MB of photographs",
        ]
        if self.n_skipped:
            lines.append(f"skipped: {counted('photograph', self.n_skipped)} without an outline")
        if self.n_thin:
            lines.append(
                f"thin: of {counted('outline', self.n_thin)} the pixels that the edge passes through count, too"
            )
        return "\n".join(lines)


class _Tally:
    """Counts that grow with every photograph."""

    def __init__(self) -> None:
        self.outlines, self.folders, self.sizes = Counter[str](), Counter[str](), Counter[str]()
        self.diameters: list[float] = []
        self.n_thin = self.n_turned = self.n_bytes = 0

    def summary(self, plan: ImportPlan) -> ImportSummary:
        return ImportSummary(
            format=plan.format,
            outlines=dict(self.outlines.most_common()),
            folders=dict(sorted(self.folders.items(), key=lambda pair: (pair[0] != GOOD_FOLDER, pair[0]))),
            sizes=dict(self.sizes.most_common()),
            n_defects=len(self.diameters),
            n_thin=self.n_thin,
            diameters_px=(min(self.diameters), median(self.diameters), max(self.diameters)),
            n_skipped=plan.n_skipped,
            n_turned=self.n_turned,
            photograph_bytes=self.n_bytes,
            remarks=plan.remarks,
        )


def look(plan: ImportPlan, settings: ImportSettings, report: Report) -> ImportSummary:
    """Draw every mask and write none; `report` is called with ("look", done, total).

    Raises:
        TinyDefectsError: what `write` refuses.
    """
    _require_new(settings.out)
    return _pass(plan, settings, report, None)


def write(plan: ImportPlan, settings: ImportSettings, report: Report) -> ImportSummary:
    """Make the folder; until all is there it lies under another, hidden name that the next run sweeps.

    Raises:
        TinyDefectsError: the folder holds something, the disk is full, a photograph cannot be read or has another size
            than its annotation says, or an outline lies outside of it or marks nothing.
    """
    _require_new(settings.out)
    out = real_path(settings.out)
    try:
        with present(out.parent), scratch_folder(out.parent) as scratch:
            summary = _pass(plan, settings, report, scratch)
            write_json(scratch / RECORD, asdict(summary) | {"settings": settings.model_dump(mode="json")})
            if out.is_dir():
                out.rmdir()  # empty, see above
            scratch.rename(out)
    except OSError as error:
        raise TinyDefectsError(cannot_write(settings.out, error)) from error
    return summary


def _require_new(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        was_import = (out / RECORD).is_file()
        what = "holds an import already" if was_import else "is there and not an empty folder"
        raise DatasetError(f"--out {out}: {what}; name a new folder, or remove this one first")


def _pass(plan: ImportPlan, settings: ImportSettings, report: Report, out: Path | None) -> ImportSummary:
    """Over all photographs: measure, draw, and write where there is a folder to write to."""
    tally = _Tally()
    for done, one in enumerate(plan.planned, start=1):
        size = read_size(one.path)
        tally.sizes[f"{size[0]} x {size[1]}"] += 1
        tally.folders[one.defect_type] += 1
        tally.n_bytes += one.path.stat().st_size
        if one.annotated is not None:
            mask = _mask(one, one.annotated, size, settings, tally)
            if out is not None:
                write_png(out / one.mask_place, mask)
        if out is not None:
            _place(one.path, out / one.place, as_link=settings.photographs == "link")
        report("write" if out is not None else "look", done, len(plan.planned))
    return tally.summary(plan)


def _mask(one: Planned, annotated: Annotated, size: Size, settings: ImportSettings, tally: _Tally) -> NDArray[np.bool_]:
    """The mask of a photograph, upright, and its counts."""
    orientation = read_orientation(one.path)
    drawn_on, undo = _sheet(one.path, annotated, size, orientation, settings.orientation)
    mask = np.zeros(drawn_on, dtype=np.bool_)
    for outline in annotated.outlines:
        tally.outlines[outline.defect_class] += 1
        tally.n_thin += draw(mask, outline, clip=settings.clip)
    tally.n_turned += orientation != 1 and (orientation < 5 or size[0] == size[1])
    mask = np.asarray(upright(mask, undo))
    tally.diameters += [defect.diameter_px for defect in find_defects(mask, one.path)]
    return mask


def _sheet(
    path: Path, annotated: Annotated, size: Size, orientation: int, told: Orientation | None
) -> tuple[Size, int]:
    """The size (H, W) that a photograph had where it was outlined, and the EXIF orientation still to be undone.

    Raises:
        DatasetError: it has another size, or nobody can tell which way it lay.
    """
    stored = size[::-1] if orientation >= 5 else size
    said = annotated.size
    has_two_ways = orientation != 1 and (said is None or stored == size)
    if told is None and (has_two_ways or (said == stored != size)):
        how = f"{annotated.where} fits the pixels as stored" if not has_two_ways else "nothing says which way it lay"
        raise DatasetError(
            f"{path}: has EXIF orientation {orientation}, and {how}; say with --orientation upright or stored how it "
            "was shown where it was outlined"
        )
    drawn_on = stored if told == "stored" else size
    if said is not None and said != drawn_on:
        raise DatasetError(
            f"{annotated.where}: says {said[0]} x {said[1]} pixels (height x width), the photograph {path} has "
            f"{drawn_on[0]} x {drawn_on[1]}; find the one that was outlined, outlines are never resized"
        )
    return drawn_on, orientation if told == "stored" else 1


def _place(path: Path, target: Path, *, as_link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if as_link:
        target.symlink_to(os.path.abspath(path))  # noqa: PTH100 - links on the way stay as they are
    else:
        shutil.copyfile(path, target)


def _listed(counts: Mapping[str, int]) -> str:
    named = [f"{name} ({count})" for name, count in list(counts.items())[:12]]
    return ", ".join(named) + (f", … {len(counts)} in all" if len(counts) > 12 else "")
