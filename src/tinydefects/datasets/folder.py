"""Any folder of photographs: where a dataset's folder is looked for, and the one rule that pairs images and masks.

Images and masks meet by stem, below the same sub-folders, never by sort order; extensions may have any case; what is
not an image is left out and counted. Nothing here opens a file: a loader reads folders only.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from tinydefects.data.masks import MaskRule, checked_rule
from tinydefects.data.pixels import IMAGE_SUFFIXES
from tinydefects.data.sample import Category, Sample
from tinydefects.data.walk import (
    UNKNOWN_FORMAT,
    LeftOut,
    by_stem,
    counted,
    is_folder,
    nfc,
    real_path,
    sub_folders,
    walk,
)
from tinydefects.errors import DatasetError

MASK_ENDINGS = ("", "_mask", "_GT", "_gt", "_label")
DOCUMENTS = {".txt", ".md", ".csv", ".json", ".xml", ".pdf"}
LEVELS_ABOVE, FOLDERS_BELOW = 4, 200  # looked through for a dataset that is not where it was said to be


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How to recognise a dataset on disk.

    Its folder is a child of `root` called one of `folder_names` (case and punctuation do not matter) or `root`
    itself; a category is a child of that, or of one of its `inner` folders, which holds all folders of one of `marks`.
    """

    dataset: str
    folder_names: tuple[str, ...]
    marks: tuple[tuple[str, ...], ...]
    inner: tuple[str, ...] = ("",)

    def categories(self, root: Path, *, training_only: bool = False) -> dict[str, Path]:
        """The folder of every category found under `root`; where two places hold the same one, the first counts.

        With `training_only` the first folder of a mark, that of the training images, is enough.
        """
        found: dict[str, Path] = {}
        for place in self.places(root):
            for name, folder in sub_folders(place).items():
                # Some archives unpack as <category>/<category>/.
                for candidate in (folder, folder / folder.name):
                    if self._is_category(candidate, training_only):
                        found.setdefault(name, candidate)
        if self._is_category(root, training_only):
            found.setdefault(nfc(real_path(root).name), root)
        return dict(sorted(found.items()))

    def find(self, name: str, root: Path, *, training_only: bool = False) -> Path:
        """The folder of category `name`.

        Raises:
            DatasetError: it is not there; the message names the paths tried, the near name and what exists.
        """
        found = self.categories(root)
        if training_only and name not in found:
            found = self.categories(root, training_only=True)
        if name in found:
            return found[name]
        places = dict.fromkeys([root / self.folder_names[0], *self.places(root), root])
        tried, address = [place / name for place in places], f"{self.dataset}/{name}"
        for folder in filter(is_folder, tried):
            if not os.access(folder, os.R_OK | os.X_OK):
                raise DatasetError(f"{address}: {folder} may not be read; give yourself the right to")
            wanted = " or ".join(" and ".join(f"{part}/" for part in mark) for mark in self.marks)
            raise DatasetError(f"{address}: {folder} is incomplete, it should hold {wanted}; unpack it again")
        paths, elsewhere = ", ".join(map(str, tried)), self._elsewhere(name, root)
        if elsewhere is not None:
            raise DatasetError(
                f"{address}: not found, tried {paths}; it lies below {elsewhere}: write --root {elsewhere}"
            )
        if not found:
            raise DatasetError(
                f"{address}: not found, tried {paths}; `root` is the folder that holds "
                f"{self.folder_names[0]}/, or that folder itself"
            )
        raise DatasetError(f"{address}: no such category, tried {paths}; {suggest(name, found)}")

    def find_whole(self, root: Path, holds: Callable[[Path], bool], wanted: str) -> Path:
        """The folder of a dataset whose categories are no folders of it: the first place that `holds` accepts.

        Raises:
            DatasetError: there is none; `wanted` says what it should hold.
        """
        places = self.places(root)
        found = next((place for place in places if holds(place)), None)
        if found is None:
            tried = ", ".join(map(str, places or [root / self.folder_names[0]]))
            raise DatasetError(
                f"{self.dataset}: not found, tried {tried}; `root` is the folder that holds {self.folder_names[0]}/, "
                f"or that folder itself, with {wanted} in it"
            )
        return found

    def places(self, root: Path) -> list[Path]:
        """Folders that may hold the categories, in the order they are tried."""
        wanted = {plain(name) for name in self.folder_names}
        named = [folder for name, folder in sub_folders(root).items() if plain(name) in wanted] if root.is_dir() else []
        folders = (parent / inner for parent in [*named, root] for inner in self.inner)
        return [folder for folder in folders if folder.is_dir()]

    def _is_category(self, folder: Path, training_only: bool) -> bool:
        marks = [mark[:1] for mark in self.marks] if training_only else self.marks
        return any(all(is_folder(folder / part) for part in mark) for mark in marks)

    def _elsewhere(self, name: str, root: Path) -> Path | None:
        """A folder one level below or a few above `root` that would be the right one."""
        above = list(real_path(root).parents)[:LEVELS_ABOVE]
        below = list(sub_folders(root).values())[:FOLDERS_BELOW] if root.is_dir() else []
        for place in (*below, *above):
            try:
                if name in self.categories(place):
                    return place
            except DatasetError:
                continue  # may not be read
        return None


def load_folder(
    root: Path | str,
    *,
    good: str = "good",
    test_good: str | None = None,
    defect: str | None = "defect",
    mask: str | None = "mask",
    held_back: float = 0.2,
    seed: int = 0,
    mask_rule: MaskRule = "auto",
    allow_unmarked: bool = False,
    training_only: bool = False,
) -> Category:
    """Your own photographs: `good/` to learn from, `defect/` to be tested on, `mask/` with the truth.

    `defect` holds images or one sub-folder for each defect type, then `mask` may have the same sub-folders.
    The MVTec layout is `good="train/good", test_good="test/good", defect="test", mask="ground_truth"`.

    Args:
        root: the folder the other names are relative to; it also names the category, `folder/<name of root>`.
        good: defect-free images to learn from.
        test_good: defect-free images to test on; without it, some of `good` are taken out of training for it.
        held_back: the share of `good` taken out then, in [0, 1).
        seed: which of them are taken out.
        defect: None when there is no image of a defect yet.
        mask: None when defects are not outlined: such images can be predicted but not scored by pixel.
        mask_rule: which values of a mask are defective, see `masks.py`: auto, nonzero, zero, above_half, above_127, …
        allow_unmarked: whether a defective image may lack its mask; it then counts for image metrics only.
        training_only: look at `good` alone, whatever else is there or is not.

    Raises:
        DatasetError: a folder is missing or empty, a defective image has no mask or two, two images share a
            stem, or there is no such mask rule.
    """
    root, remarks = Path(root), []
    checked_rule(mask_rule)
    train, test = good_samples(root / good, "train/good", deep=root / good != root), list[Sample]()
    if test_good is None:
        n_good = len(train)
        train, test = _hold_back(train, held_back, seed)
        if test:
            remarks.append(f"{len(test)} of {n_good} good images kept for the test (--option held_back=0 keeps none)")
    elif not training_only:
        test = good_samples(root / test_good, "test/good")
    if defect is not None and not training_only:
        masks = None if mask is None else root / mask
        taken = {root / good, root / (test_good or good), *([masks, *masks.parents] if masks else [])}
        test = test + typed_defect_samples(
            root / defect, masks, taken=taken, mask_rule=mask_rule, allow_unmarked=allow_unmarked
        )
    return Category(id=f"folder/{nfc(real_path(root).name)}", train=train, test=test, remarks=tuple(remarks))


def load_layout(
    folder: Path,
    *,
    good: str = "good",
    mask: str = "ground_truth",
    mask_rule: MaskRule = "auto",
    allow_unmarked: bool,
    training_only: bool,
) -> Category:
    """A published category in MVTec's layout: `train/<good>`, `test/<good>`, `test/<type>`, masks by type."""
    category = load_folder(
        folder,
        good=f"train/{good}",
        test_good=f"test/{good}",
        defect="test",
        mask=mask,
        mask_rule=mask_rule,
        allow_unmarked=allow_unmarked,
        training_only=training_only,
    )
    return accounted(category, folder, skip=beside_training(folder) if training_only else ())


def beside_training(folder: Path) -> list[Path]:
    """The folders of a published category that its training does not look at."""
    return [child for name, child in sub_folders(folder).items() if name != "train"]


def image_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES, *, deep: bool = True) -> dict[str, Path]:
    """The images in `folder` and its sub-folders by stem (`000`, `cam1/000`), sorted; other files are ignored.

    Raises:
        DatasetError: the folder is missing or may not be read, or two images share a stem.
    """
    return by_stem(walk(folder, suffixes, deep=deep).files)


def find_mask(image_path: Path, masks: Mapping[str, Path], mask_folder: Path, *, name: str = "") -> Path:
    """The mask of an image: the same stem, alone or followed by one of `MASK_ENDINGS`; `name` has sub-folders before.

    Raises:
        DatasetError: there is none, or more than one.
    """
    stems = _mask_stems(name or nfc(image_path.stem))
    candidates = [masks[stem] for stem in stems if stem in masks]
    if not candidates:
        tried = ", ".join(f"{stem}.*" for stem in stems)
        raise DatasetError(
            f"{image_path}: no mask for this defective image, tried {tried} in {mask_folder}; add it, or let "
            "--allow unmarked count such images for image metrics only"
        )
    if len(candidates) > 1:
        names = " and ".join(path.name for path in candidates)
        raise DatasetError(f"{image_path}: two masks for one image, {names} in {mask_folder}; remove one")
    return candidates[0]


def mask_paths(
    image_path: Path, masks: Mapping[str, Path], mask_folder: Path, *, name: str = "", allow_unmarked: bool = False
) -> tuple[Path, ...]:
    """The mask that `find_mask` finds; none where it is missing and may be."""
    if allow_unmarked and not any(stem in masks for stem in _mask_stems(name or nfc(image_path.stem))):
        return ()
    return (find_mask(image_path, masks, mask_folder, name=name),)


def good_samples(folder: Path, prefix: str, *, deep: bool = True) -> list[Sample]:
    """One defect-free sample for each image in `folder`, at least one; ids are `prefix/stem`."""
    found = walk(folder, IMAGE_SUFFIXES, deep=deep)
    samples = [
        Sample(id=f"{prefix}/{stem}", image_path=path, label="good") for stem, path in by_stem(found.files).items()
    ]
    if not samples:
        left = f" ({found.left_out})" if found.left_out else ""
        raise DatasetError(
            f"{folder}: no image here{left}; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return samples


def defect_samples(
    folder: Path,
    mask_folder: Path | None,
    prefix: str,
    mask_rule: MaskRule = "auto",
    *,
    allow_unmarked: bool = False,
    deep: bool = True,
) -> list[Sample]:
    """One defective sample for each image in `folder`, with its mask; without `mask_folder`, without mask.

    Masks lie below the same sub-folders as their images, or all together directly in `mask_folder`.
    """
    masks = image_files(mask_folder) if mask_folder is not None and mask_folder.is_dir() else {}
    together = not any("/" in name for name in masks)
    samples = []
    for name, path in image_files(folder, deep=deep).items():
        own = name.rpartition("/")[2] if together else name
        paths = mask_folder and mask_paths(path, masks, mask_folder, name=own, allow_unmarked=allow_unmarked)
        sample_id = f"{prefix}/{name}"
        samples.append(
            Sample(id=sample_id, image_path=path, label="defect", mask_paths=paths or (), mask_rule=mask_rule)
        )
    return samples


def typed_defect_samples(
    folder: Path,
    mask_folder: Path | None,
    *,
    taken: Collection[Path] = (),
    mask_rule: MaskRule = "auto",
    allow_unmarked: bool = False,
) -> list[Sample]:
    """The defects of a test folder with one sub-folder for each type, `taken` left out; loose images are `defect`.

    The masks lie in sub-folders of the same names, or together when `mask_folder` has no sub-folders.

    Raises:
        DatasetError: no image at all, one mask for two images, or what `find_mask` and `image_files` refuse.
    """
    samples = defect_samples(folder, mask_folder, "test/defect", mask_rule, allow_unmarked=allow_unmarked, deep=False)
    by_type = sub_folders(mask_folder) if mask_folder is not None and mask_folder.is_dir() else {}
    for name, kind in sub_folders(folder).items():
        if kind in taken:
            continue
        masks = mask_folder and (by_type.get(name, mask_folder / kind.name) if by_type else mask_folder)
        samples += defect_samples(kind, masks, f"test/{name}", mask_rule, allow_unmarked=allow_unmarked)
    if not samples:
        raise DatasetError(f"{folder}: no defective image here or below; add some, or leave the folder out")
    owners: dict[Path, Path] = {}
    for sample in samples:
        for mask in sample.mask_paths:
            if owners.setdefault(mask, sample.image_path) != sample.image_path:
                raise DatasetError(
                    f"{mask}: one mask for two images, {owners[mask]} and {sample.image_path}; "
                    "put masks into sub-folders like those of their images"
                )
    return samples


def require_defects(test: Iterable[Sample], place: Path) -> None:
    """Refuse a published test without a defective image: a copy that lost them, or what tells them from good ones."""
    if not any(sample.label == "defect" for sample in test):
        raise DatasetError(f"{place}: no defective image among those to test on; unpack it again")


def accounted(
    category: Category, folder: Path, *, skip: Collection[Path] = (), known: Collection[Path] = ()
) -> Category:
    """The category with a remark that counts its images and whatever else lies in its folder.

    `skip` is not looked at, and `known` are files of which another remark speaks.

    Documents directly in the folder, which published datasets bring along, are not worth a word.
    """
    samples = (*category.train, *category.validation, *category.test)
    used = {str(path) for sample in samples for path in (sample.image_path, *sample.mask_paths)} | set(map(str, known))
    found = walk(folder, IMAGE_SUFFIXES, skip=skip)
    spare = [(name, path) for name, path in found.files if str(path) not in used]
    if spare:  # a folder linked twice is found under one of its names
        real = set(map(os.path.realpath, used))
        spare = [(name, path) for name, path in spare if os.path.realpath(path) not in real]
    places = [(f"image(s) in {name.rpartition('/')[0] or '.'}/", name) for name, _ in spare]
    things = [(kind, name) for kind, name in found.left_out.things if kind != UNKNOWN_FORMAT or not _is_document(name)]
    left_out = LeftOut((*places, *things))
    if not left_out:
        return category
    return replace(category, remarks=(*category.remarks, f"{counted('image', len(samples))}; {left_out}"))


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Names in an order that depends on each name and the seed alone: the same on every machine and version."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest())


def plain(name: str) -> str:
    """A name without case and punctuation."""
    return "".join(filter(str.isalnum, name.casefold()))


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the near one and what exists."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"there are {', '.join(known)}"


def _hold_back(samples: list[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Samples split in (train, test); both keep their order."""
    if not 0 <= share < 1:
        raise DatasetError(f"held_back={share}: the share of good images kept for the test is at least 0 and below 1")
    count = min(round(share * len(samples)), len(samples) - 1)
    held = set(shuffled((sample.id for sample in samples), seed)[:count])
    train = [sample for sample in samples if sample.id not in held]
    test = [replace(sample, id=sample.id.replace("train/", "test/", 1)) for sample in samples if sample.id in held]
    return train, test


def _mask_stems(name: str) -> list[str]:
    return [name + ending for ending in MASK_ENDINGS]


def _is_document(name: str) -> bool:
    return "/" not in name and PurePosixPath(name).suffix.lower() in DOCUMENTS
