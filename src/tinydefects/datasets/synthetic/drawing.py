"""Drawn parts as an ordinary dataset: `OUT/FAMILY` in MVTec's layout, its manifest, sums of all files, and a card.

While it is drawn, `drawing.jsonl` says in its first line what is drawn, then one line a finished image; the card is
written last, and that file goes. So a drawing that was stopped is known, and goes on where it was.
"""

import contextlib
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from tinydefects.data.leftovers import lock, present
from tinydefects.data.map_files import file_sha256
from tinydefects.data.pixels import cannot_write, write_whole
from tinydefects.data.walk import counted
from tinydefects.datasets.folder import suggest
from tinydefects.datasets.synthetic.card import CARD, Drawing, read_drawing, read_sums, write_card, write_sums
from tinydefects.datasets.synthetic.dataset import (
    SYNTHETIC_FAMILIES,
    ImageRecord,
    Settings,
    cells_of,
    draw_one,
    image_path,
    mask_paths,
    read_manifest,
    sample_ids,
    write_manifest,
)
from tinydefects.datasets.synthetic.draw_settings import DrawSettings, most_crowded
from tinydefects.errors import DatasetError, TinyDefectsError
from tinydefects.progress import Report

JOURNAL = "drawing.jsonl"
LOCK = ".drawing.lock"
ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingPlan:
    """What is drawn, and of it what an earlier run has left: records and sums of files by (family, sample id)."""

    out: Path
    drawing: Drawing
    done: Mapping[tuple[str, str], "DrawnImage"]
    is_whole: bool

    @property
    def n_images(self) -> int:
        """All photographs of all families."""
        return sum(len(sample_ids(settings)) for settings in self.drawing.settings)


class DrawnImage(BaseModel):
    """A line of the journal: an image that lies there whole, and the sha256 of its files by their paths below OUT."""

    family: str
    record: ImageRecord
    sums: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawSummary:
    """What was drawn, or would be.

    Attributes:
        folders: photographs in each folder of a family, all families together.
        n_drawn: of `n_images`, those that this run drew; the rest was there.
        n_bytes, seconds: of all; expected from a few where nothing is written.
        examples: some defective photographs.
        n_fainter: defects of a sweep, once drawn, that black or white ended before the contrast asked for: by more than
            a tenth of it and a gray level.
    """

    families: tuple[str, ...]
    folders: Mapping[str, int]
    n_images: int
    n_drawn: int
    n_bytes: int
    seconds: float
    examples: tuple[str, ...] = ()
    n_fainter: int = 0

    def __str__(self) -> str:
        fainter = f"fainter than asked by more than a tenth, as black or white ended them: {self.n_fainter} defects"
        folders = ", ".join(f"{name} ({count})" for name, count in self.folders.items())
        return "\n".join(
            [
                f"{counted('photograph', self.n_images)} of {', '.join(self.families)}, {self.n_bytes / 1e6:,.1f} MB",
                f"folders: {folders}",
                *(f"example: {line}" for line in self.examples),
                *([f"{fainter}; the manifest says what was achieved"] if self.n_fainter else []),
            ]
        )


def plan_drawing(families: Sequence[str], settings: DrawSettings) -> DrawingPlan:
    """What would be drawn, and how much of it lies there.

    Raises:
        DatasetError: an unknown family, a setting that cannot be drawn, or a folder that holds something else.
    """
    known = (*SYNTHETIC_FAMILIES, ALL)
    for name in families:
        if name not in known:
            raise DatasetError(f"{name}: no such family; {suggest(name, known)}")
    names = SYNTHETIC_FAMILIES if ALL in families else tuple(dict.fromkeys(families))
    return _planned(settings.out, Drawing(settings=tuple(settings.of(name) for name in names)))


def _planned(out: Path, drawing: Drawing) -> DrawingPlan:
    """What of a drawing lies there already.

    Raises:
        DatasetError: the folder holds something else.
    """
    if out.is_file() or (out.is_dir() and any(not one.name.startswith(".") for one in out.iterdir())):
        if (out / CARD).is_file():
            _require_same(out, read_drawing(out), drawing)
            return DrawingPlan(out=out, drawing=drawing, done={}, is_whole=True)
        if (out / JOURNAL).is_file():
            return DrawingPlan(out=out, drawing=drawing, done=_read_journal(out, drawing), is_whole=False)
        raise DatasetError(f"--out {out}: is there and not an empty folder; name a new one, or remove this one first")
    return DrawingPlan(out=out, drawing=drawing, done={}, is_whole=False)


def look(plan: DrawingPlan) -> DrawSummary:
    """Draw a few images of each family aside and say what all would take; nothing stays.

    Raises:
        DatasetError: a defect finds no room.
    """
    if plan.is_whole:
        return _summary(plan, n_drawn=0, n_bytes=_check_whole(plan), seconds=0.0)
    n_bytes, seconds, examples = 0.0, 0.0, []
    for settings in plan.drawing.settings:
        ids, n_clean = sample_ids(settings), settings.n_train + settings.n_good
        defective = range(n_clean, len(ids))[:: max(1, settings.n_defect // 3)][:3]
        tried = [range(n_clean)[:1], dict.fromkeys([*_most_crowded(settings), *defective])]
        for places, n_alike in zip(tried, (n_clean, settings.n_defect), strict=True):
            if not places:
                continue
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                records = [draw_one(Path(folder), settings, ids[place], place) for place in places]
                sizes = [path.stat().st_size for path in Path(folder).rglob("*.png")]
            n_bytes += sum(sizes) * n_alike / len(places)
            seconds += (time.perf_counter() - start) * n_alike / len(places)
            examples += [f"{settings.family}/{record.id}: {_in_words(record)}" for record in records if record.defects]
    return _summary(plan, n_drawn=0, n_bytes=round(n_bytes), seconds=seconds, examples=tuple(examples[:6]))


def write(plan: DrawingPlan, report: Report) -> DrawSummary:
    """Draw what is missing, then manifests, sums and the card; `report` is called with (family, done, total).

    Raises:
        DatasetError: another run draws there, a defect finds no room, or what lies there whole is not as it was drawn.
        TinyDefectsError: the folder cannot be written.
    """
    try:
        if not plan.is_whole:
            with present(plan.out), _alone_in(plan.out):
                plan = _planned(plan.out, plan.drawing)  # another run may have drawn there since
                if not plan.is_whole:
                    return _draw(plan, report)
    except OSError as error:
        raise TinyDefectsError(cannot_write(plan.out, error)) from error
    n_bytes = _check_whole(plan)
    for name in (JOURNAL, LOCK):  # the run that wrote the card may have died before it removed them
        if (plan.out / name).exists():  # a folder that may only be read refuses to remove even what is not there
            (plan.out / name).unlink(missing_ok=True)
    return _summary(plan, n_drawn=0, n_bytes=n_bytes, seconds=0.0)


@contextlib.contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """No other run draws into this folder in the block: of two drawings at once the sums would hold for neither."""
    with (out / LOCK).open("ab") as file:
        if lock(file) is False:
            raise DatasetError(f"--out {out}: another run draws there; wait for its end, or name a new folder")
        try:
            yield
        finally:
            file.close()  # an open file cannot be removed on Windows
            (out / LOCK).unlink(missing_ok=True)


def _draw(plan: DrawingPlan, report: Report) -> DrawSummary:
    start, done = time.perf_counter(), dict(plan.done)
    lines = [plan.drawing.model_dump_json(), *(one.model_dump_json() for one in done.values())]
    write_whole(plan.out / JOURNAL, lambda file: file.write("".join(f"{one}\n" for one in lines).encode()))
    try:
        for settings in plan.drawing.settings:  # if any finds no room, then those: before anything else is drawn
            for place in _most_crowded(settings):
                _draw_image(plan, settings, place, sample_ids(settings)[place], done)
        for settings in plan.drawing.settings:
            _draw_family(plan, settings, done, report)
    except DatasetError as error:
        if done:
            stay = f"{counted('photograph', len(done))} stay in {plan.out}"
            raise DatasetError(f"{error}; {stay}, name a new --out for other settings") from error
        (plan.out / JOURNAL).unlink()
        raise
    sums = _with_manifests(plan, done)
    write_sums(plan.out, sums)
    write_card(plan.out, plan.drawing)
    (plan.out / JOURNAL).unlink(missing_ok=True)  # a run that found the card may have removed it
    n_bytes = sum((plan.out / name).stat().st_size for name in sums)
    n_drawn = plan.n_images - len(plan.done)
    return _summary(plan, n_drawn=n_drawn, n_bytes=n_bytes, seconds=time.perf_counter() - start)


def _draw_family(
    plan: DrawingPlan, settings: Settings, done: dict[tuple[str, str], DrawnImage], report: Report
) -> None:
    """The images of a family that are not done, each a line of the journal as soon as its files are whole."""
    ids = sample_ids(settings)
    for place, sample_id in enumerate(ids):
        _draw_image(plan, settings, place, sample_id, done)
        report(settings.family, place + 1, len(ids))


def _draw_image(
    plan: DrawingPlan, settings: Settings, place: int, sample_id: str, done: dict[tuple[str, str], DrawnImage]
) -> None:
    """The image at this place of `sample_ids`, unless it is done."""
    folder = plan.out / settings.family
    if (settings.family, sample_id) in done:
        return
    record = draw_one(folder, settings, sample_id, place)
    paths = (image_path(folder, sample_id), *mask_paths(folder, sample_id))
    sums = {path.relative_to(plan.out).as_posix(): file_sha256(path) for path in paths}
    drawn = DrawnImage(family=settings.family, record=record, sums=sums)
    done[settings.family, sample_id] = drawn
    with (plan.out / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(f"{drawn.model_dump_json()}\n")


def _most_crowded(settings: Settings) -> list[int]:
    """The place of the photograph of a sweep whose defects find room least easily."""
    return [settings.n_train + settings.n_good + most_crowded(settings).index] if settings.sweep else []


def _with_manifests(plan: DrawingPlan, done: Mapping[tuple[str, str], DrawnImage]) -> dict[str, str]:
    """The manifest of each family, written; the sums of all files by their paths."""
    sums = {name: digest for one in done.values() for name, digest in one.sums.items()}
    for settings in plan.drawing.settings:
        folder = plan.out / settings.family
        write_manifest(folder, settings, [done[settings.family, one].record for one in sample_ids(settings)])
        sums[f"{settings.family}/manifest.json"] = file_sha256(folder / "manifest.json")
    return dict(sorted(sums.items()))


def _read_journal(out: Path, drawing: Drawing) -> dict[tuple[str, str], DrawnImage]:
    """What an earlier run has finished, as far as its files are as they were written; a torn last line is left out.

    Raises:
        DatasetError: another drawing lies there.
    """
    first, *lines = (out / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    try:
        begun = Drawing.model_validate_json(first)
    except ValidationError as error:
        raise DatasetError(f"{out / JOURNAL}: not readable; name a new folder, or remove this one first") from error
    _require_same(out, begun, drawing)
    done = {}
    for line in lines:
        with contextlib.suppress(ValidationError):
            one = DrawnImage.model_validate_json(line)
            if all(_is_as_written(out / name, digest) for name, digest in one.sums.items()):
                done[one.family, one.record.id] = one
    return done


def _is_as_written(path: Path, digest: str) -> bool:
    return path.is_file() and file_sha256(path) == digest


def _require_same(out: Path, there: Drawing, asked: Drawing) -> None:
    """Refuse to mix drawings: of other settings, or drawn with what may draw other bytes."""
    if there.settings != asked.settings:
        raise DatasetError(f"--out {out}: holds another drawing; name a new folder, or remove this one first")
    for name, version in asked.versions.items():
        if there.versions.get(name) != version:
            raise DatasetError(
                f"--out {out}: was drawn with {name} {there.versions.get(name, 'unknown')}, here is {version}, which "
                "may draw other bytes; name a new folder, or remove this one first"
            )


def _check_whole(plan: DrawingPlan) -> int:
    """The bytes of a drawing that lies there whole.

    Raises:
        DatasetError: a file is missing or no longer as it was drawn.
    """
    sums = read_sums(plan.out)
    changed = [name for name, digest in sums.items() if not _is_as_written(plan.out / name, digest)]
    if changed:
        raise DatasetError(
            f"{plan.out / changed[0]}: missing, or not as it was drawn ({counted('such file', len(changed))}); name a "
            "new folder, or remove this one first"
        )
    return sum((plan.out / name).stat().st_size for name in sums)


def _summary(
    plan: DrawingPlan, *, n_drawn: int, n_bytes: int, seconds: float, examples: tuple[str, ...] = ()
) -> DrawSummary:
    folders = Counter(one.rpartition("/")[0] for settings in plan.drawing.settings for one in sample_ids(settings))
    return DrawSummary(
        families=tuple(settings.family for settings in plan.drawing.settings),
        folders=dict(folders),
        n_images=plan.n_images,
        n_drawn=n_drawn,
        n_bytes=n_bytes,
        seconds=seconds,
        examples=examples,
        n_fainter=sum(_n_fainter(plan.out, settings) for settings in plan.drawing.settings),
    )


def _n_fainter(out: Path, settings: Settings) -> int:
    manifest = read_manifest(out / settings.family)
    if settings.sweep is None or manifest is None:
        return 0
    pairs = [
        (defect.contrast, asked)
        for index, image in enumerate(manifest.images[-settings.n_defect :])
        for defect, (_, asked) in zip(image.defects, cells_of(settings)[index], strict=True)
    ]
    return sum(contrast < asked - max(1.0, 0.1 * asked) for contrast, asked in pairs)


def _in_words(record: ImageRecord) -> str:
    return ", ".join(
        f"{one.kind} of {one.area_px} px ({2 * math.sqrt(one.area_px / math.pi):.1f} across), {one.contrast:.0f} levels"
        for one in record.defects
    )
