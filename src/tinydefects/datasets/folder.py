"""Any folder of photographs: where a dataset's folder is looked for, and the one rule that pairs images and masks.

Images and masks meet by stem, never by sort order; extensions may have any case; what is not an image is ignored.
Nothing here opens a file: a loader reads folders only.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tinydefects.errors import DatasetError
from tinydefects.pixels import IMAGE_SUFFIXES, MaskRule
from tinydefects.sample import Category, Sample

MASK_ENDINGS = ("", "_mask", "_GT", "_gt", "_label")


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

    def categories(self, root: Path) -> dict[str, Path]:
        """The folder of every category found under `root`; where two places hold the same one, the first counts."""
        found: dict[str, Path] = {}
        for place in self.places(root):
            for folder in (child for child in list_folder(place) if child.is_dir()):
                # Some archives unpack as <category>/<category>/.
                for candidate in (folder, folder / folder.name):
                    if any(all((candidate / part).is_dir() for part in mark) for mark in self.marks):
                        found.setdefault(folder.name, candidate)
        return dict(sorted(found.items()))

    def find(self, name: str, root: Path) -> Path:
        """The folder of category `name`.

        Raises:
            DatasetError: it is not there; the message names the paths tried, the near name and what exists.
        """
        found = self.categories(root)
        if name in found:
            return found[name]
        places = dict.fromkeys([root / self.folder_names[0], *self.places(root), root])
        tried = ", ".join(str(place / name) for place in places)
        address = f"{self.dataset}/{name}"
        if not found:
            raise DatasetError(
                f"{address}: not found, tried {tried}; `root` is the folder that holds "
                f"{self.folder_names[0]}/, or that folder itself"
            )
        raise DatasetError(f"{address}: no such category, tried {tried}; {suggest(name, found)}")

    def places(self, root: Path) -> list[Path]:
        """Folders that may hold the categories, in the order they are tried."""
        wanted = {_plain(name) for name in self.folder_names}
        named = [child for child in list_folder(root) if _plain(child.name) in wanted] if root.is_dir() else []
        folders = (parent / inner for parent in [*named, root] for inner in self.inner)
        return [folder for folder in folders if folder.is_dir()]


def load_folder(
    root: Path | str,
    *,
    good: str = "good",
    test_good: str | None = None,
    defect: str | None = "defect",
    mask: str | None = "mask",
    held_back: float = 0.2,
    seed: int = 0,
    mask_rule: MaskRule = "nonzero",
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
        mask_rule: which mask pixels are defective, those that are not zero or those above 127.

    Raises:
        DatasetError: a folder is missing or empty, a defective image has no mask or two, two images share a stem.
    """
    root = Path(root)
    train = good_samples(root / good, "train/good")
    if test_good is not None:
        test = good_samples(root / test_good, "test/good")
    else:
        train, test = _hold_back(train, held_back, seed)
    if defect is not None:
        masks = None if mask is None else root / mask
        taken = {root / good, root / (test_good or good), *([masks, *masks.parents] if masks else [])}
        test = test + typed_defect_samples(root / defect, masks, taken=taken, mask_rule=mask_rule)
    return Category(id=f"folder/{root.resolve().name}", train=train, test=test)


def load_named_folder(name: str, *, root: Path, **options: Any) -> Category:  # noqa: ANN401 - passed on
    """`root/name` as a category, in the MVTec layout if it has `train/good`, else `good/`, `defect/` and `mask/`.

    Folders that are not there yet (defects, masks) are left out; `options` are those of `load_folder`.
    """
    folder = root / name
    if (folder / "train" / "good").is_dir():
        layout = {"good": "train/good", "test_good": "test/good", "defect": "test", "mask": "ground_truth"}
    else:
        layout = {"good": "good", "defect": "defect", "mask": "mask"}
    present = {key: part for key, part in layout.items() if key == "good" or (folder / part).is_dir()}
    absent = dict.fromkeys(key for key in ("defect", "mask") if key not in present)
    return load_folder(folder, **{**present, **absent, **options})


def list_folder(folder: Path) -> list[Path]:
    """What lies in `folder`, sorted, hidden files left out (macOS puts a `._000.png` beside each `000.png`).

    Raises:
        DatasetError: there is no such folder, or it may not be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DatasetError(f"{folder}: cannot list this folder ({reason}); check `root` and unpack again") from error


def image_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The images directly in `folder` by stem, sorted; other files are ignored.

    Raises:
        DatasetError: the folder is missing, or two images share a stem.
    """
    found: dict[str, Path] = {}
    for path in list_folder(folder):
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise DatasetError(f"{path}: {found[path.stem].name} has the same stem; stems must differ, rename one")
        found[path.stem] = path
    return found


def find_mask(image_path: Path, masks: Mapping[str, Path], mask_folder: Path) -> Path:
    """The mask of an image: the same stem, alone or followed by one of `MASK_ENDINGS`.

    Raises:
        DatasetError: there is none, or more than one.
    """
    stems = [image_path.stem + ending for ending in MASK_ENDINGS]
    candidates = [masks[stem] for stem in stems if stem in masks]
    if not candidates:
        tried = ", ".join(f"{stem}.*" for stem in stems)
        raise DatasetError(f"{image_path}: no mask for this defective image, tried {tried} in {mask_folder}; add it")
    if len(candidates) > 1:
        names = " and ".join(path.name for path in candidates)
        raise DatasetError(f"{image_path}: two masks for one image, {names} in {mask_folder}; remove one")
    return candidates[0]


def good_samples(folder: Path, prefix: str) -> list[Sample]:
    """One defect-free sample for each image in `folder`, at least one; ids are `prefix/stem`."""
    samples = [
        Sample(id=f"{prefix}/{stem}", image_path=path, label="good") for stem, path in image_files(folder).items()
    ]
    if not samples:
        raise DatasetError(f"{folder}: no image here; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}")
    return samples


def defect_samples(
    folder: Path, mask_folder: Path | None, prefix: str, mask_rule: MaskRule = "nonzero"
) -> list[Sample]:
    """One defective sample for each image in `folder`, with its mask; without `mask_folder`, without mask."""
    masks = image_files(mask_folder) if mask_folder is not None and mask_folder.is_dir() else {}
    samples = []
    for stem, path in image_files(folder).items():
        paths = () if mask_folder is None else (find_mask(path, masks, mask_folder),)
        sample_id = f"{prefix}/{stem}"
        samples.append(Sample(id=sample_id, image_path=path, label="defect", mask_paths=paths, mask_rule=mask_rule))
    return samples


def typed_defect_samples(
    folder: Path, mask_folder: Path | None, *, taken: Collection[Path] = (), mask_rule: MaskRule = "nonzero"
) -> list[Sample]:
    """The defects of a test folder with one sub-folder for each type, `taken` left out; loose images are `defect`.

    The masks lie in sub-folders of the same names, or together when `mask_folder` has no sub-folders.

    Raises:
        DatasetError: no image at all, or what `find_mask` and `image_files` refuse.
    """
    samples = defect_samples(folder, mask_folder, "test/defect", mask_rule)
    together = mask_folder is None or not mask_folder.is_dir() or not any(map(Path.is_dir, list_folder(mask_folder)))
    for kind in (child for child in list_folder(folder) if child.is_dir() and child not in taken):
        masks = mask_folder if mask_folder is None or together else mask_folder / kind.name
        samples += defect_samples(kind, masks, f"test/{kind.name}", mask_rule)
    if not samples:
        raise DatasetError(f"{folder}: no defective image here or one folder below; add some or pass defect=None")
    return samples


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Names in an order that depends on each name and the seed alone: the same on every machine and version."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest())


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


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
