"""What an import would make of somebody's annotations: which photograph goes where; nothing is drawn or written yet.

Whatever could be meant in two ways is refused until the user says which.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tinydefects.data.json_files import parse_json, read_bytes
from tinydefects.data.pixels import IMAGE_SUFFIXES
from tinydefects.data.walk import LeftOut, by_stem, counted, is_folder, nfc, real_path, walk
from tinydefects.datasets.folder import plain, suggest
from tinydefects.datasets.importing.annotations import KINDS, Annotated, Annotations, Outline, Unannotated
from tinydefects.datasets.importing.coco import read_coco
from tinydefects.datasets.importing.cvat import read_cvat
from tinydefects.datasets.importing.labelme import read_labelme
from tinydefects.datasets.importing.yolo import CLASS_FILES, read_yolo
from tinydefects.datasets.named_folder import GOOD
from tinydefects.errors import DatasetError

Format = Literal["coco", "labelme", "cvat", "yolo"]
Orientation = Literal["upright", "stored"]
READERS: Mapping[Format, Callable[[Path], Annotations]] = {
    "coco": read_coco,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "yolo": read_yolo,
}
SEVERAL = "combined"  # the folder of photographs with defects of several classes, as in MVTec AD
ANNOTATIONS = (".json", ".xml", ".txt", ".yaml", ".yml")  # among photographs, not worth a word
MOST_LOOKED_AT = 100  # files of a folder, to see what it holds
BOXES = {"box", "turned box"}
NO_FILE_NAME = re.compile(r'[\x00-\x1f/\\:*?"<>|]|^[. ]+|[. ]+$')
GOOD_FOLDER, DEFECT_FOLDER, MASK_FOLDER = "good", "defect", "mask"


class ImportSettings(BaseModel):
    """What `tinydefects import-masks` is told beside the annotations: what counts, what is meant, where it goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path = Field(description="The folder to make: good/, defect/CLASS/ and mask/CLASS/.")
    format: Format | None = Field(default=None, description="Who wrote it; seen from the files when left out.")
    images: Path | None = Field(default=None, description="Folder of the photographs; else where the format has them.")
    good: Path | None = Field(default=None, description="Another folder, of good photographs alone.")
    classes: tuple[str, ...] = Field(
        default=(),
        description="A class that counts as defect; all when left out. Repeatable.",
        json_schema_extra={"flag": "--class"},
    )
    unannotated: Unannotated | None = Field(
        default=None, description="What photographs without an outline are: good, or of unknown state and skipped."
    )
    boxes: bool = Field(default=False, description="Let a box pass for an outline.")
    clip: bool = Field(default=False, description="Cut outlines at the edge of the photograph.")
    orientation: Orientation | None = Field(
        default=None,
        description="How photographs with an EXIF orientation lay when they were outlined: turned upright, or as "
        "their pixels are stored.",
    )
    photographs: Literal["copy", "link"] = Field(
        default="copy", description="Copy photographs byte by byte, or link to where they lie."
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planned:
    """A photograph, its place below its folder (`cam1/000.jpg`), its outlines and their folder; no outline: good."""

    path: Path
    name: str
    annotated: Annotated | None = None
    defect_type: str = GOOD_FOLDER

    @property
    def place(self) -> PurePosixPath:
        """Where it goes below the folder that is made."""
        folder = PurePosixPath(DEFECT_FOLDER, self.defect_type) if self.annotated else PurePosixPath(GOOD_FOLDER)
        return folder / self.name

    @property
    def mask_place(self) -> PurePosixPath:
        """Where its mask goes."""
        return PurePosixPath(MASK_FOLDER, self.defect_type, PurePosixPath(self.name).with_suffix(".png"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportPlan:
    """Every photograph that an import takes, how many it skips, and what a user should know before."""

    format: Format
    planned: Sequence[Planned]
    n_skipped: int
    remarks: tuple[str, ...]


def plan_import(source: Path, settings: ImportSettings) -> ImportPlan:
    """Read the annotations and find their photographs.

    Raises:
        DatasetError: anything is missing, contradictory, or could be meant in two ways.
    """
    if not source.exists():
        raise DatasetError(f"{source}: no such file or folder; name the annotations")
    name = settings.format or recognise(source)
    annotations = READERS[name](source)
    folder = settings.images or annotations.folder
    if not is_folder(folder):
        raise DatasetError(f"{folder}: no such folder; name that of the photographs with --images")
    _require_apart(settings.out, folder, *([settings.good] if settings.good else []))
    remarks = [*([] if settings.format else [f"{source}: read as {name}"]), *annotations.remarks]
    found = walk(folder, IMAGE_SUFFIXES)
    stems = by_stem(found.files)
    matched = _matched(annotations, stems, folder)
    chosen = _chosen(matched, source, settings.classes)
    _require_areas(chosen.values(), settings.boxes)
    others = {stem: path for stem, path in stems.items() if stem not in chosen}
    if annotations.lists_all and others:
        remarks.append(f"{counted('photograph', len(others))} in {folder} not listed in {source.name}: left out")
    bare = [stem for stem, one in chosen.items() if not one.outlines]
    bare += [] if annotations.lists_all else list(others)
    meant = settings.unannotated or annotations.unannotated
    if bare and meant is None:
        raise DatasetError(
            f"{folder}: {counted('photograph', len(bare))} without an outline, first {stems[bare[0]].name}: say with "
            "--unannotated good that they show no defect, or with --unannotated skip that nobody knows"
        )
    if bare and not settings.unannotated:
        remarks.append(f"{counted('photograph', len(bare))} without label taken as good, which is YOLO's convention")
    folders = type_folders(chosen.values())
    planned = [
        _planned(stem, stems[stem], one, folders)
        for stem, one in chosen.items()
        if one.outlines  #
    ]
    good = [_planned(stem, stems[stem]) for stem in bare] if meant == "good" else []
    if settings.good is not None:
        good += [_planned(stem, path) for stem, path in by_stem(walk(settings.good, IMAGE_SUFFIXES).files).items()]
    _require_both(good, planned, source)
    remarks += [f"class {own!r} is the folder {other}/" for own, other in folders.items() if own != other]
    left_out = LeftOut(tuple(thing for thing in found.left_out.things if not thing[1].lower().endswith(ANNOTATIONS)))
    remarks += [str(left_out)] if left_out else []
    planned = sorted([*good, *planned], key=lambda one: one.place)
    return ImportPlan(
        format=name,
        planned=_each_once(planned),
        n_skipped=len(bare) if meant == "skip" else 0,
        remarks=tuple(remarks),
    )


def recognise(source: Path) -> Format:
    """Who wrote a file, or what lies in a folder.

    Raises:
        DatasetError: nobody known wrote it, or more than one did.
    """
    if source.is_file():
        kinds = [_kind_of(source)]
    else:
        kinds = [_kind_of(path) for _, path in walk(source, {".json", ".xml"}).files[:MOST_LOOKED_AT]]
        kinds += (
            ["yolo"] if is_folder(source / "labels") or any((source / name).is_file() for name in CLASS_FILES) else []
        )
    known = sorted({kind for kind in kinds if kind is not None})
    if len(known) != 1:
        what = f"holds {' and '.join(known)}" if known else "nothing known here"
        raise DatasetError(f"{source}: {what}; say which is meant with --format {', '.join(READERS)}")
    if source.is_dir() and known[0] in {"coco", "cvat"}:
        raise DatasetError(f"{source}: holds {known[0]}, which is a single file; name that file")
    return known[0]


def _kind_of(path: Path) -> Format | None:
    suffix = path.suffix.lower()
    if suffix == ".xml":
        return "cvat"
    if path.name in CLASS_FILES or suffix in {".yaml", ".yml"}:
        return "yolo"
    if suffix != ".json":
        return None
    try:
        said = parse_json(read_bytes(path))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error}); export it again") from error
    if isinstance(said, dict) and "shapes" in said:
        return "labelme"
    return "coco" if isinstance(said, dict) and "annotations" in said and "images" in said else None


def type_folders(photographs: Iterable[Annotated]) -> dict[str, str]:
    """The folder of each class: its name, with `_` for what no file system takes.

    Raises:
        DatasetError: two classes would share a folder, or one has no name or that of the good ones.
    """
    classes = list(dict.fromkeys(outline.defect_class for one in photographs for outline in one.outlines))
    folders: dict[str, str] = {}
    for own in classes:
        name = NO_FILE_NAME.sub("_", nfc(own.strip()))
        name = f"{name}_" if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else name
        taken = next((other for other, folder in folders.items() if folder.casefold() == name.casefold()), None)
        if taken is not None or not name or name.casefold() == GOOD_FOLDER:
            why = f"would share a folder with {taken!r}" if taken else "cannot name the folder of a defect"
            raise DatasetError(f"class {own!r}: {why}; rename it where it was annotated, or choose others with --class")
        folders[own] = name
    return folders


def _require_apart(out: Path, *sources: Path) -> None:
    """What is made lies outside of the photographs, where the next import would find it."""
    for folder in map(real_path, sources):
        if folder == real_path(out) or folder in real_path(out).parents:
            raise DatasetError(
                f"--out {out}: lies in the folder of the photographs, {folder}; choose another, such as "
                f"{folder.with_name(f'{folder.name}_imported')}"
            )


def _matched(annotations: Annotations, stems: Mapping[str, Path], folder: Path) -> dict[str, Annotated]:
    """The annotations by the stem of their photograph: that path below the folder, else the only file of that name."""
    by_file: dict[str, list[str]] = {}
    for stem, path in stems.items():
        key = PurePosixPath(stem).name if annotations.by_stem else nfc(path.name)
        by_file.setdefault(key, []).append(stem)
    found: dict[str, Annotated] = {}
    for one in annotations.photographs:
        name = nfc(one.name.replace("\\", "/")).removeprefix("./")
        stem = name if annotations.by_stem else PurePosixPath(name).with_suffix("").as_posix()
        is_there = stem in stems and (annotations.by_stem or nfc(stems[stem].name) == PurePosixPath(name).name)
        candidates = [stem] if is_there else by_file.get(PurePosixPath(name).name, [])
        if len(candidates) != 1:
            what = f"{len(candidates)} photographs of that name" if candidates else f"no photograph {name}"
            raise DatasetError(f"{one.where}: {what} in {folder}; name their folder with --images, or remove the entry")
        if candidates[0] in found:
            raise DatasetError(
                f"{one.where}: {stems[candidates[0]]} is annotated by {found[candidates[0]].where}, too; keep one"
            )
        found[candidates[0]] = one
    return found


def _chosen(matched: Mapping[str, Annotated], source: Path, wanted: Sequence[str]) -> dict[str, Annotated]:
    """The same photographs with outlines of the wanted classes alone.

    Raises:
        DatasetError: no such class, no outline at all, or a class that by its name is none of a defect.
    """
    counts = Counter(outline.defect_class for one in matched.values() for outline in one.outlines)
    if not counts:
        raise DatasetError(
            f"{source}: no outline in {counted('annotated photograph', len(matched))}; name another file"
        )
    listed = [f"{name} ({count})" for name, count in counts.most_common()]
    for name in wanted:
        if name not in counts:
            raise DatasetError(f"--class {name}: no outline of that class; {suggest(name, counts)}")
    harmless = [name for name in counts if plain(name) in GOOD]
    if harmless and not wanted:
        raise DatasetError(
            f"{source}: class {harmless[0]!r} sounds like no defect; name those that are with --class, there are "
            f"{', '.join(listed)}"
        )
    kept = set(wanted or counts)
    return {
        stem: replace(one, outlines=tuple(outline for outline in one.outlines if outline.defect_class in kept))
        for stem, one in matched.items()
    }


def _require_areas(photographs: Iterable[Annotated], boxes: bool) -> None:
    outlines = [outline for one in photographs for outline in one.outlines]
    bare: Outline | None = next((one for one in outlines if one.kind not in KINDS), None)
    if bare is not None:
        n_bare = sum(one.kind not in KINDS for one in outlines)
        raise DatasetError(
            f"{bare.where}: a {bare.kind} has no area ({n_bare} of {len(outlines)} shapes); outline it, remove it, or "
            "choose other classes with --class"
        )
    boxed = [one for one in outlines if one.kind in BOXES]
    if boxed and not boxes:
        raise DatasetError(
            f"{boxed[0].where}: a box, no outline ({len(boxed)} of {len(outlines)}): every pixel in it would count as "
            "defect; outline it, or say with --boxes that this is meant"
        )


def _planned(
    stem: str, path: Path, annotated: Annotated | None = None, folders: Mapping[str, str] | None = None
) -> Planned:
    name = stem + path.suffix
    if annotated is None or folders is None:
        return Planned(path=path, name=name)
    types = {folders[outline.defect_class] for outline in annotated.outlines}
    defect_type = types.pop() if len(types) == 1 else SEVERAL
    return Planned(path=path, name=name, annotated=annotated, defect_type=defect_type)


def _require_both(good: Sequence[Planned], defective: Sequence[Planned], source: Path) -> None:
    if not defective:
        raise DatasetError(f"{source}: no photograph with an outline of these classes; choose others with --class")
    if not good:
        raise DatasetError(
            f"{source}: no good photograph among them, and without one nothing can be learnt; name a folder of good "
            "ones with --good"
        )


def _each_once(planned: Sequence[Planned]) -> Sequence[Planned]:
    """Refuse two photographs for one place, whatever their endings and case: masks and maps go by stem."""
    taken: dict[str, Planned] = {}
    for one in planned:
        key = one.place.with_suffix("").as_posix().casefold()
        if key in taken:
            raise DatasetError(f"{one.path}: {taken[key].path} has the same name without ending; rename one")
        taken[key] = one
    return planned
