"""What there is to be had and what is there: every dataset with licence and source, and what of it lies under a folder.

Nothing is fetched. A category counts as found when its loader lists it, so that a missing mask shows here already.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tinydefects.data.walk import is_folder, sub_folders
from tinydefects.datasets.catalog import LAYOUTS, LICENCES, LOADERS, load_category, names_under
from tinydefects.datasets.kolektor import FOLDS
from tinydefects.datasets.magnetic_tile import CATEGORIES as TILE_CATEGORIES
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.progress import Report

State = Literal["found", "incomplete", "absent", "ready"]
MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Where a dataset is to be had, the names of its categories, and how many images these hold where that is sure."""

    source: str
    categories: tuple[str, ...]
    n_images: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One dataset: whether it is `found`, `incomplete`, `absent`, or `ready` because nobody has to fetch it.

    `categories` are those that load, `n_images` the photographs in them, each counted once; `missing` says in one line
    what an incomplete one lacks.
    """

    dataset: str
    state: State
    categories: tuple[str, ...]
    n_images: int
    missing: str
    licence: str
    source: str


PUBLISHED = {
    "mvtec_ad": Published(
        source="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        categories=(
            *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw"),
            *("tile", "toothbrush", "transistor", "wood", "zipper"),
        ),
        n_images=5_354,
    ),
    "mvtec_ad2": Published(
        source="https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
        categories=("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts"),
    ),
    "mvtec_loco": Published(
        source="https://www.mvtec.com/company/research/datasets/mvtec-loco",
        categories=("breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors"),
    ),
    "visa": Published(
        source="https://github.com/amazon-science/spot-diff",
        categories=(
            *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
            *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
        ),
        n_images=10_821,
    ),
    "btad": Published(source="https://avires.dimi.uniud.it/papers/btad/btad.zip", categories=("01", "02", "03")),
    "mpdd": Published(
        source="https://github.com/stepanje/MPDD",
        categories=("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"),
        n_images=1_346,
    ),
    "dagm": Published(
        source="https://hci.iwr.uni-heidelberg.de/node/3616", categories=tuple(f"Class{n}" for n in range(1, 11))
    ),
    "kolektor_sdd": Published(source="https://www.vicos.si/resources/kolektorsdd/", categories=FOLDS),
    "kolektor_sdd2": Published(source="https://www.vicos.si/resources/kolektorsdd2/", categories=("all",)),
    "real_iad": Published(
        source="https://huggingface.co/datasets/Real-IAD/Real-IAD",
        categories=(
            *("audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts", "pcb"),
            *("phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base"),
            *("sim_card_set", "switch", "tape", "terminalblock", "toothbrush", "toy", "toy_brick", "transistor1"),
            *("u_block", "usb", "usb_adaptor", "vcpill", "wooden_beads", "woodstick", "zipper"),
        ),
    ),
    "magnetic_tile": Published(
        source="https://github.com/abin24/Magnetic-tile-defect-datasets.",
        categories=tuple(TILE_CATEGORIES),
        n_images=1_344,
    ),
}
NOT_PUBLISHED = {
    "folder": "photographs of your own, in a folder below the root: folder/NAME",
    "synthetic": "drawn when they are asked for",
}


def take_inventory(
    root: Path | str = "data", *, progress: "Report" = lambda stage, done, total: None
) -> tuple[Entry, ...]:
    """One entry for each dataset that has a loader, in the order of the catalog; `root` need not exist.

    `progress` is called with ("look", done, total). Loaders read names; those of KolektorSDD read its masks, too.

    Raises:
        DatasetError: `root` may not be read.
    """
    root = Path(root)
    if is_folder(root):
        sub_folders(root)  # may it be read?
    entries = []
    for done, dataset in enumerate(LOADERS, start=1):
        entries.append(_look_for(dataset, root))
        progress("look", done, len(LOADERS))
    return tuple(entries)


def _look_for(dataset: str, root: Path) -> Entry:
    published = PUBLISHED.get(dataset)
    if published is None:
        return _entry(dataset, "ready", names_under(dataset, root) if dataset == "synthetic" else ())
    try:
        there = [name for name in names_under(dataset, root) if name in published.categories]
    except TinyDefectsError as error:  # a folder that may not be read
        return _entry(dataset, "incomplete", missing=str(error))
    if not there:
        empty = next((place for place in LAYOUTS[dataset].places(root) if place != root), None)
        told = f"{empty} holds none of its categories; unpack it there, as docs/datasets.md shows" if empty else ""
        return _entry(dataset, "incomplete" if empty else "absent", missing=told)
    images: set[Path] = set()
    whole, faults = [], []
    for name in there:
        try:
            category = load_category(f"{dataset}/{name}", root=root)
        except TinyDefectsError as error:
            faults.append(f"{name}: {error}")
            continue
        whole.append(name)
        images |= {sample.image_path for sample in (*category.train, *category.validation, *category.test)}
    absent = [name for name in published.categories if name not in there]
    lacks = [f"no {_few(absent)}"] if absent else []
    lacks += [faults[0] + (f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else "")] if faults else []
    if not lacks and published.n_images is not None and len(images) < published.n_images:
        lacks = [f"{len(images):,} of {published.n_images:,} images; unpack it again"]
    return _entry(dataset, "incomplete" if lacks else "found", whole, len(images), missing="; ".join(lacks))


def _entry(
    dataset: str, state: State, categories: Iterable[str] = (), n_images: int = 0, *, missing: str = ""
) -> Entry:
    return Entry(
        dataset=dataset,
        state=state,
        categories=tuple(categories),
        n_images=n_images,
        missing=missing,
        licence=LICENCES[dataset],
        source=PUBLISHED[dataset].source if dataset in PUBLISHED else NOT_PUBLISHED[dataset],
    )


def _few(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def describe(entries: Sequence[Entry], root: Path) -> str:
    """A table with a row for each dataset, and below it a line for what an incomplete one lacks."""
    head = ("dataset", f"under {root}", "from", "licence")
    rows = [(entry.dataset, _found(entry), entry.source, entry.licence) for entry in entries]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    told = [lines[0].rstrip()]
    for entry, line in zip(entries, lines[1:], strict=True):
        told += [line.rstrip(), *([f"  incomplete: {entry.missing}"] if entry.missing else [])]
    return "\n".join(told)


def _found(entry: Entry) -> str:
    """What there is, in the words of a cell."""
    if entry.state in {"absent", "ready"}:
        return {"absent": "not found", "ready": "nothing to fetch"}[entry.state]
    n_expected = len(PUBLISHED[entry.dataset].categories)
    return f"{len(entry.categories)} of {n_expected} categories, {entry.n_images:,} images"
