"""Every dataset by name: a category is addressed by one string, `dataset/category` (`mvtec_ad/screw`).

Options of a dataset's loader are read from text such as `n_train=300` and checked against the loader's signature.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from tinydefects.data.masks import MaskRule, checked_rule
from tinydefects.data.sample import Category, Sample
from tinydefects.data.walk import is_folder, nfc, real_path, sub_folders
from tinydefects.datasets.btad import BTAD, load_btad
from tinydefects.datasets.dagm import DAGM, load_dagm
from tinydefects.datasets.folder import load_folder, plain, suggest
from tinydefects.datasets.kolektor import (
    KOLEKTOR_SDD,
    KOLEKTOR_SDD2,
    find_sdd,
    find_sdd2,
    load_kolektor_sdd,
    load_kolektor_sdd2,
)
from tinydefects.datasets.magnetic_tile import MAGNETIC_TILE, find_tiles, load_magnetic_tile
from tinydefects.datasets.mpdd import MPDD, load_mpdd
from tinydefects.datasets.mvtec import MVTEC_AD, MVTEC_AD2, MVTEC_LOCO, load_mvtec_ad, load_mvtec_ad2, load_mvtec_loco
from tinydefects.datasets.named_folder import load_named_folder
from tinydefects.datasets.real_iad import REAL_IAD, find_classes, load_real_iad
from tinydefects.datasets.synthetic.dataset import SYNTHETIC_FAMILIES, load_synthetic
from tinydefects.datasets.visa import VISA, load_visa
from tinydefects.errors import DatasetError

DRAWN = "synthetic"
ALL_MARKED = {DRAWN, "kolektor_sdd", "kolektor_sdd2"}  # every image has its mask, or is none of the dataset
WRITTEN = "a category is written dataset/category"
LOADERS: dict[str, Callable[..., Category]] = {
    "mvtec_ad": load_mvtec_ad,
    "mvtec_ad2": load_mvtec_ad2,
    "mvtec_loco": load_mvtec_loco,
    "visa": load_visa,
    "btad": load_btad,
    "mpdd": load_mpdd,
    "dagm": load_dagm,
    "kolektor_sdd": load_kolektor_sdd,
    "kolektor_sdd2": load_kolektor_sdd2,
    "real_iad": load_real_iad,
    "magnetic_tile": load_magnetic_tile,
    "folder": load_named_folder,
    "synthetic": load_synthetic,
}
LAYOUTS = {
    layout.dataset: layout
    for layout in (
        *(MVTEC_AD, MVTEC_AD2, MVTEC_LOCO, VISA, BTAD, MPDD, DAGM),
        *(KOLEKTOR_SDD, KOLEKTOR_SDD2, REAL_IAD, MAGNETIC_TILE),
    )
}
FINDERS: dict[str, Callable[[Path], Sequence[str]]] = {  # of datasets whose categories are no folders of their layout
    "kolektor_sdd": find_sdd,
    "kolektor_sdd2": find_sdd2,
    "real_iad": find_classes,
    "magnetic_tile": find_tiles,
}
LICENCES = {
    "mvtec_ad": "CC BY-NC-SA 4.0: no commercial use",
    "mvtec_ad2": "CC BY-NC-SA 4.0: no commercial use",
    "mvtec_loco": "CC BY-NC-SA 4.0: no commercial use",
    "visa": "CC BY 4.0",
    "btad": "CC BY-SA",
    "mpdd": "CC BY-NC-SA: no commercial use",
    "dagm": "unknown: no licence file; its page calls the data publicly available",
    "kolektor_sdd": "CC BY-NC-SA: no commercial use",
    "kolektor_sdd2": "CC BY-NC-SA: no commercial use",
    "real_iad": "CC BY-NC-SA 4.0: no commercial use",
    "magnetic_tile": "unknown: no licence file; its readme welcomes use and asks to be cited",
    "folder": "yours",
    "synthetic": "drawn by tinydefects: no restriction",
}
NOT_FROM_TEXT = {"root", "progress", "allow_unmarked", "training_only"}


def load_category(address: str, *, root: Path | str = "data", **options: object) -> Category:
    """The samples of one category, for example `load_category("mvtec_ad/screw")`; no pixel is read yet.

    Args:
        address: `dataset/category`, in any case.
        root: the folder that holds the dataset's folder (`data` with `data/mvtec_ad/screw`), or the dataset's folder
            itself, or the category's. The dataset's folder may differ in case and punctuation, or be the one its
            archive unpacks to.
        options: what the loader of this dataset takes besides, such as `split="test_private"` of `mvtec_ad2`;
            `mask_rule`, what masks mean instead of the dataset's own rule, see `masks.py`; and `allow_unmarked`:
            whether a defective image may lack its mask and then counts for image metrics only.

    Raises:
        DatasetError: no such dataset or category (the message names the near one and what exists), or it is incomplete.
    """
    dataset, name = find_address(address, root).split("/")
    if dataset in ALL_MARKED:
        options.pop("allow_unmarked", None)
    rule = options.pop("mask_rule", None)
    category = LOADERS[dataset](name, root=Path(root), **options)
    category = category if rule is None else _with_mask_rule(category, checked_rule(str(rule)))
    return replace(category, remarks=(*category.remarks, *_about_outlines(category.test)))


def load_training(address: str, *, root: Path | str = "data", **options: object) -> Category:
    """The training samples of a category alone: no folder of tests and no mask is looked at, nor need they exist."""
    dataset, name = find_address(address, root).split("/")
    if dataset != DRAWN:
        options["training_only"] = True
    options.pop("mask_rule", None)  # no mask is read
    return replace(LOADERS[dataset](name, root=Path(root), **options), test=(), validation=())


def parse_address(text: str, root: Path | str = "data") -> tuple[str, str]:
    """Dataset and category of an address as people type it: any case, back-slashes, `./` before it or `/` behind.

    `root` only helps to say what to write instead of something else.

    Raises:
        DatasetError: it is a path, has not two parts, or names no dataset; the message says what to write.
    """
    slashed = nfc(text).replace("\\", "/")
    parts = [part for part in slashed.split("/") if part not in {"", "."}]
    if slashed.startswith(("/", "~")) or ":" in slashed.split("/")[0] or ".." in parts:
        raise DatasetError(f"{text!r}: {WRITTEN}, not a path{_instead(text, root)}")
    datasets = [next((known for known in LOADERS if plain(known) == plain(part)), None) for part in parts]
    first = next((index for index, dataset in enumerate(datasets) if dataset), None)
    if first is not None and first < len(parts) - 1 and (first or len(parts) > 2):
        above, behind = parts[:first], parts[first + 1 :]
        if datasets[first] == "folder":
            above, behind = [*(above or ["ROOT"]), *behind[:-1]], behind[-1:]
        root = f" --root {'/'.join(above)}" if above else ""
        raise DatasetError(f"{text!r}: {WRITTEN}, write {datasets[first]}/{behind[0]}{root}")
    if len(parts) < 2 or (first is None and len(parts) > 2):
        raise DatasetError(f"{text!r}: {WRITTEN}, for example mvtec_ad/screw{_instead(text, root)}")
    if datasets[0] is None:
        raise DatasetError(f"{parts[0]}: no such dataset; {suggest(parts[0], LOADERS)}{_instead(text, root)}")
    return datasets[0], parts[1]


def find_address(text: str, root: Path | str = "data") -> str:
    """The address in the words of this package and of the disk; a category that is not there stays as it was typed.

    Raises:
        DatasetError: what `parse_address` refuses, or `root` may not be read.
    """
    dataset, name = parse_address(text, root)
    there = names_under(dataset, Path(root))
    alike = [own for own in there if own.casefold() == name.casefold()]
    return f"{dataset}/{name if name in there or len(alike) != 1 else alike[0]}"


def holds(root: Path, text: str) -> bool:
    """Whether a text is the address of a category that lies below `root`."""
    try:
        dataset, name = find_address(text, root).split("/")
        return name in names_under(dataset, root)
    except DatasetError:
        return False


def list_categories(dataset: str, root: Path | str = "data") -> list[str]:
    """The full addresses (`mvtec_ad/bottle`, …) of the categories of a dataset that lie under `root`; maybe none.

    Raises:
        DatasetError: no such dataset.
    """
    if dataset not in LOADERS:
        raise DatasetError(f"{dataset}: no such dataset; {suggest(dataset, LOADERS)}")
    if dataset == "folder":
        return [f"folder/{name}" for name in sub_folders(Path(root))]
    if dataset in LAYOUTS and dataset not in FINDERS:
        return [f"{dataset}/{name}" for name in LAYOUTS[dataset].categories(Path(root))]
    return [f"{dataset}/{name}" for name in names_under(dataset, Path(root))]


def names_under(dataset: str, root: Path) -> list[str]:
    """The categories under `root`, those without tests too, and a folder of one's own that is `root` itself."""
    if dataset == DRAWN:
        return list(SYNTHETIC_FAMILIES)
    if not root.is_dir():
        return []
    if dataset == "folder":
        return [*sub_folders(root), nfc(real_path(root).name)]
    if dataset in FINDERS:
        return list(FINDERS[dataset](root))
    return list(LAYOUTS[dataset].categories(root, training_only=True))


def _instead(text: str, root: Path | str) -> str:
    """What to write for a folder that is there, or for all that lies there of a dataset."""
    if not text.strip():
        return ""
    known = next((dataset for dataset in LOADERS if dataset == text.strip("/").lower()), None)
    if known is not None:
        there = list_categories(known, root) if is_folder(Path(root)) else []
        return f"; there are {', '.join(there)}" if there else ""
    folder = next((one for one in (Path(text).expanduser(), Path(root, text)) if is_folder(one)), None)
    if folder is None:
        return ""
    real = real_path(folder)
    return f"; for the folder {folder} write folder/{real.name} --root {real.parent}"


def _with_mask_rule(category: Category, rule: MaskRule) -> Category:
    return replace(category, test=[replace(sample, mask_rule=rule) for sample in category.test])


def _about_outlines(samples: Sequence[Sample]) -> list[str]:
    """A remark where defective images have no outline."""
    defective = [sample for sample in samples if sample.label == "defect"]
    bare = [sample.id for sample in defective if not sample.mask_paths]
    if not bare:
        return []
    if len(bare) == len(defective):
        return ["no outlines: image metrics only"]
    named = ", ".join(bare[:3]) + (", …" if len(bare) > 3 else "")
    return [f"{len(bare)} of {len(defective)} defective images without outline ({named}): image metrics only"]


def parse_options(dataset: str, texts: Sequence[str]) -> dict[str, object]:
    """Keyword arguments for `load_category` from `NAME=VALUE` texts; lists and tuples are written as JSON.

    Raises:
        DatasetError: no such dataset, or an option that its loader does not have or whose value is of another kind.
    """
    if dataset not in LOADERS:
        raise DatasetError(f"{dataset}: no such dataset; {suggest(dataset, LOADERS)}")
    kinds = option_kinds(dataset)
    options = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if name not in kinds or not separator:
            raise DatasetError(f"{dataset}: {text!r} is no option; write NAME=VALUE, one of {_describe(kinds)}")
        options[name] = _parse(dataset, name, value, kinds[name])
    return options


def option_kinds(dataset: str) -> dict[str, Any]:
    """The types of a loader's options by name."""
    loader = load_folder if dataset == "folder" else LOADERS[dataset]  # the named folder passes its options on
    keywords = [
        name
        for name, parameter in inspect.signature(loader).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in NOT_FROM_TEXT
    ]
    hints = get_type_hints(loader)
    return {name: hints[name] for name in keywords} | {"mask_rule": MaskRule}  # which every dataset takes


def _parse(dataset: str, name: str, value: str, kind: Any) -> object:  # noqa: ANN401 - any type
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    try:
        return adapter.validate_strings(value)
    except ValidationError:
        pass
    try:
        return adapter.validate_json(value)
    except ValidationError as error:
        raise DatasetError(f"{dataset}: option {name} is {_plain(kind)}, not {value!r}") from error


def _describe(kinds: dict[str, Any]) -> str:
    return ", ".join(f"{name} ({_plain(kind)})" for name, kind in kinds.items())


def _plain(kind: Any) -> str:  # noqa: ANN401 - any type
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace(" |", " or")
