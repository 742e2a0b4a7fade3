"""`folder/NAME`: photographs of one's own, whose folders are recognised by the names people give them.

Whatever is assumed on the way is a remark of the category, and what is not recognised is counted, never ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinydefects.data.pixels import IMAGE_SUFFIXES
from tinydefects.data.sample import Category
from tinydefects.data.walk import is_folder, nfc, real_path, sub_folders, walk
from tinydefects.datasets.folder import MASK_ENDINGS, accounted, load_folder, plain, suggest
from tinydefects.errors import DatasetError

# Without case and punctuation; of two that lie side by side the first counts.
GOOD = ("good", "ok", "normal", "normals", "defectfree", "nodefect", "faultless", "io", "gut")
DEFECTIVE = (
    *("defect", "defects", "defective", "bad", "ng", "nok", "ko", "notok", "notgood", "nio", "schlecht"),
    *("anomaly", "anomalies", "anomalous", "abnormal", "faulty", "fault", "faults", "reject", "rejects", "rejected"),
)
MASKS = ("mask", "groundtruth", "masks", "gt")
OWN_NAMES = {"good", "defect", "mask", "ground_truth"}
MEANINGS = {"good": "good", "test_good": "good", "defect": "defective", "mask": "masks"}
HOW = "put photographs of good parts into train/good/ (or good/), defective ones into test/TYPE/ (or defect/)"


@dataclass(slots=True)
class _Recognised:
    """Arguments of `load_folder`, the folders a training does not look at, and what was assumed."""

    options: dict[str, Any] = field(default_factory=dict)
    aside: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def load_named_folder(
    name: str,
    *,
    root: Path,
    training_only: bool = False,
    allow_unmarked: bool = False,
    **options: Any,  # noqa: ANN401 - passed on
) -> Category:
    """`root/name` as a category: `train/good`, `test/…` and `ground_truth`, or `good/`, `defect/` and `mask/`.

    Folders that are not there yet, or empty, are left out; other usual names (`ok`, `ng`, `bad`, `masks`, …) are
    understood and said; images directly in the folder are good ones. `options` are those of `load_folder`.

    Raises:
        DatasetError: there is no such folder, nothing in it is known as good, or what `load_folder` refuses.
    """
    folder = find_folder(name, root)
    known = _recognise(folder, options, training_only)
    category = load_folder(
        folder, **{**known.options, **options}, training_only=training_only, allow_unmarked=allow_unmarked
    )
    _require_photographs(category)
    category = replace(category, remarks=(*known.remarks, *category.remarks))
    if not training_only and not any(sample.label == "defect" for sample in category.test):
        category = replace(
            category, remarks=(*category.remarks, "no defective image: metrics of defects are undefined")
        )
    return accounted(category, folder, skip=known.aside if training_only else ())


def _require_photographs(category: Category) -> None:
    """Refuse what would be taken for something else: masks, defective images among good ones, good ones as a type.

    Raises:
        DatasetError: a folder among photographs is called as those of masks are, or of defective or good images; or a
            photograph as the mask of another.
    """
    samples = (*category.train, *category.test)
    stems = {sample.image_path.with_suffix(""): sample.image_path for sample in samples}
    for sample in samples:
        path, is_good = sample.image_path, sample.label == "good"
        folders = {plain(name) for name in sample.id.split("/")[2 if is_good else 1 : -1]}
        if not folders.isdisjoint(MASKS):
            raise DatasetError(f"{path}: lies in a folder of masks among photographs; move that beside their folder")
        if is_good and not folders.isdisjoint(DEFECTIVE):
            raise DatasetError(f"{path}: lies in a folder of defective photographs among good ones; move that out")
        if not is_good and plain(sample.id.split("/")[1]) in GOOD:
            raise DatasetError(f"{path}: lies in a folder of good photographs among defective ones; move that out")
        for ending in filter(path.stem.endswith, filter(None, MASK_ENDINGS)):
            pictured = stems.get(path.parent / path.stem.removesuffix(ending))
            if pictured is not None:
                raise DatasetError(f"{path}: looks like the mask of {pictured}; move masks to mask/, or rename it")


def find_folder(name: str, root: Path) -> Path:
    """`root/name` in any composition and case, or `root` where that is the folder itself.

    Raises:
        DatasetError: there is none; the message names the near one.
    """
    there = sub_folders(root)
    if name in there:
        return there[name]
    alike = [folder for own, folder in there.items() if own.casefold() == name.casefold()]
    if len(alike) == 1:
        return alike[0]
    if is_folder(root / name):  # a hidden one, asked for by name
        return root / name
    if nfc(real_path(root).name).casefold() == name.casefold():
        return root
    below = next((folder for folder in list(there.values())[:200] if is_folder(folder / name)), None)
    if below is not None:
        raise DatasetError(f"folder/{name}: not in {root}, but in {below}: write --root {below}")
    known = suggest(name, there) if there else "no folder lies there"
    raise DatasetError(f"folder/{name}: no folder {root / name}; {known}")


def _recognise(folder: Path, given: dict[str, Any], training_only: bool) -> _Recognised:
    known, there = _Recognised(), sub_folders(folder)
    train, test = _first(there, ("train", "training")), _first(there, ("test",))
    split = None if train is None else _training_folder(train, known)
    masks, bad = _all(there, MASKS), _all(there, DEFECTIVE)
    known.aside += [*masks, *bad, *([test] if test else [])]
    if split is not None:
        known.options |= {"good": _below(folder, split), "held_back": 0.0}  # who has such a folder has chosen
    elif "good" in given:
        pass
    elif good := _first(there, GOOD):
        _take(known, folder, good=good)
    else:
        _take_loose_images(folder, known, alone=not bad and test is None)
    known.options |= {"defect": None, "mask": None}
    if training_only:
        known.remarks += [f"{one.name}/ is taken as defective, not learnt from" for one in bad if one.name != "defect"]
        return known
    if test is not None and split is not None:
        _recognise_test(folder, test, known)
        masks += _all(sub_folders(test), MASKS)
    elif len(bad) > 1 and "defect" not in given:
        names = " and ".join(f"{one.name}/" for one in bad)
        raise DatasetError(f"{folder}: holds {names}; say which is meant with --option defect={bad[0].name}")
    elif bad and "defect" not in given and n_images(bad[0]):
        _take(known, folder, defect=bad[0])
    filled = [one for one in masks if n_images(one)]
    if filled and "mask" not in given:
        _take(known, folder, mask=filled[0])
    return known


def _training_folder(train: Path, known: _Recognised) -> Path | None:
    """The folder of training images: `train/good`, or `train` itself where it holds nothing else."""
    there = sub_folders(train)
    good = _first(there, GOOD)
    if good is not None:
        if good.name != "good":
            known.remarks.append(f"{train.name}/{good.name}/ is taken as good")
        return good
    bad = _all(there, DEFECTIVE)
    if bad:
        raise DatasetError(f"{train}: holds {bad[0].name}/ and no good/; {HOW}")
    n_good = n_images(train)
    if not n_good:
        return None
    known.remarks.append(f"no {train.name}/good/: all {n_good} images in {train.name}/ are taken as good")
    return train


def _recognise_test(folder: Path, test: Path, known: _Recognised) -> None:
    """The test folder of a category that has a training folder: `good`, one folder for each type, maybe masks."""
    there = sub_folders(test)
    good = [one for one in _all(there, GOOD) if n_images(one)]
    if len(good) > 1:
        names = " and ".join(f"{one.name}/" for one in good)
        raise DatasetError(f"{test}: holds {names}, both good; put their photographs into one folder")
    if good:
        _take(known, folder, test_good=good[0])
    no_types = {*_all(there, GOOD), *_all(there, MASKS)}
    if n_images(test, deep=False) or any(n_images(one) for one in there.values() if one not in no_types):
        known.options["defect"] = _below(folder, test)


def _take_loose_images(folder: Path, known: _Recognised, *, alone: bool) -> None:
    """Images directly in the folder as good ones, all of them to learn from where nothing else is there.

    Raises:
        DatasetError: there are none.
    """
    n_good = n_images(folder, deep=False)
    if not n_good:
        there = list(sub_folders(folder).items())[:5]
        held = ", ".join(f"{name}/ ({n_images(one)} images)" for name, one in there)
        raise DatasetError(f"{folder}: no train/good/ and no good/ here, there is {held or 'nothing'}; {HOW}")
    known.options |= {"good": "."} | ({"held_back": 0.0} if alone else {})
    known.remarks.append(f"all {n_good} images directly in {folder.name}/ are taken as good")


def n_images(folder: Path, *, deep: bool = True) -> int:
    """How many images lie in a folder, and below it."""
    return len(walk(folder, IMAGE_SUFFIXES, deep=deep).files)


def _take(known: _Recognised, folder: Path, **meant: Path) -> None:
    """Set an option to a folder, and say so where it has another name than this package asks for."""
    ((option, place),) = meant.items()
    known.options[option] = below = _below(folder, place)
    if place.name not in OWN_NAMES:
        known.remarks.append(f"{below}/ is taken as {MEANINGS[option]}")


def _below(folder: Path, place: Path) -> str:
    return place.relative_to(folder).as_posix()


def _all(there: Mapping[str, Path], names: Sequence[str]) -> list[Path]:
    """The folders that are called one of `names`, in the order of these."""
    return [folder for name in names for own, folder in there.items() if plain(own) == name]


def _first(there: Mapping[str, Path], names: Sequence[str]) -> Path | None:
    return next(iter(_all(there, names)), None)
