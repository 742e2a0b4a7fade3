"""Which images and masks the results of a category are of: one digest in each result, and a line a sample beside them.

What else decides the truth, such as the saturations of MVTec LOCO, counts as a mask does (`Sample.truth_files`); lists
of splits and labels count by what they make of each sample.

The digest says whether anything has changed since, the lines say what. They lie in `<category>/data.json` below the
folder of results; results of earlier versions have the digest alone.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from tinydefects.data.json_files import read_as, write_json
from tinydefects.data.map_files import describe_sample, file_sha256
from tinydefects.data.mask_checks import allowing
from tinydefects.data.sample import Category, Sample
from tinydefects.datasets.catalog import load_category, option_kinds, parse_address
from tinydefects.errors import DatasetError, ImageReadError, ResultError, TinyDefectsError

DATA_FILE = "data.json"
PARTS = ("train", "validation", "test")


class DataDigests(BaseModel):
    """What the images and masks of a category were.

    Attributes:
        split: sha256 over the lines of all three parts, in their order; as in each result.
        train, validation, test: by id of the sample, all it says and sha256 of the bytes of its image and its truth.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    train: Mapping[str, str]
    validation: Mapping[str, str]
    test: Mapping[str, str]

    @model_validator(mode="after")
    def _require_own_digest(self) -> Self:
        if self.split != _digest_of(self.parts()):
            raise ValueError("its lines do not give its digest: they were changed")
        return self

    def parts(self) -> dict[str, Mapping[str, str]]:
        """The lines of each part of the split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def digest_data(category: Category) -> DataDigests:
    """The digests of a category as it lies on disk now; every file is read.

    Raises:
        ImageReadError: a file cannot be read.
    """
    parts = {
        name: {sample.id: describe_sample(sample).rstrip("\n") for sample in samples}
        for name, samples in _samples(category)
    }
    return DataDigests(split=_digest_of(parts), **parts)


def split_digest(category: Category) -> str:
    """sha256 over the samples of all three splits, in their order, and the bytes of their images and masks.

    Raises:
        ImageReadError: a file cannot be read.
    """
    return digest_data(category).split


def in_both(digests: DataDigests, category: str) -> list[str]:
    """A remark where test images are, byte for byte, among those that are learnt from: then memory is enough."""
    learnt = {_image_digest(line) for part in (digests.train, digests.validation) for line in part.values()}
    again = [name for name, line in digests.test.items() if _image_digest(line) in learnt]
    told = f"of the test images of {category} are images to learn from as well, first {again[0]}" if again else ""
    return [f"{len(again)} {told}"] if again else []


def _image_digest(line: str) -> str:
    """The first digest in what `describe_sample` says; masks follow."""
    return line.rpartition("[")[2].partition(",")[0].strip("']")


def keep_digests(digests: DataDigests, out: Path, category: str) -> None:
    """Write them beside the results of the category unless they lie there already.

    Raises:
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    path = out / category / DATA_FILE
    try:
        known = read_digests(path)
    except ResultError:
        known = None
    if known != digests:
        write_json(path, digests)


def read_digests(path: Path) -> DataDigests | None:
    """What `keep_digests` wrote; None where nothing lies there, as beside results of earlier versions.

    Raises:
        ResultError: the file is damaged, or its lines were changed.
    """
    if not (path.exists() or path.is_symlink()):
        return None
    return read_as(DataDigests, path, ResultError, kind="record of images and masks", way_out="run the benchmark again")


class Categories:
    """Categories as they lie below a root, each loaded once; without a root none is at hand."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._loaded: dict[str, Category | TinyDefectsError] = {}

    @property
    def at_hand(self) -> bool:
        return self._root is not None

    def load(self, address: str, options: Mapping[str, object], allowed: Sequence[str]) -> Category:
        """A category with the options of its loader and what was allowed of its masks.

        Raises:
            TinyDefectsError: it is not there, or not as its dataset prescribes.
        """
        assert self._root is not None
        if address not in self._loaded:
            unmarked = "unmarked" in allowed
            try:
                category = load_category(
                    address, root=self._root, allow_unmarked=unmarked, **known_options(address, options)
                )
                self._loaded[address] = allowing(category, allowed)
            except TinyDefectsError as error:
                self._loaded[address] = error
        loaded = self._loaded[address]
        if isinstance(loaded, TinyDefectsError):
            raise loaded
        return loaded


def known_options(address: str, options: Mapping[str, object]) -> Mapping[str, object]:
    """Options of a loader as somebody's protocol has them, once it is known that the loader takes them.

    Raises:
        DatasetError: it has no such option.
    """
    dataset = parse_address(address)[0]
    strange = [name for name in options if name not in option_kinds(dataset)]
    if strange:
        raise DatasetError(f"{address}: the protocol gives the option {strange[0]!r}, which {dataset} does not have")
    return options


def changed_files(category: Category, stored: DataDigests) -> list[str]:
    """One line for each file that is not what it was, and for each sample that came, went or says otherwise.

    Raises:
        ImageReadError: the folder cannot be read.
    """
    lines = []
    for (part, samples), known in zip(_samples(category), stored.parts().values(), strict=True):
        here = {sample.id: sample for sample in samples}
        lines += [f"{category.id}: {name} is missing from {part}" for name in known if name not in here]
        for name, sample in here.items():
            if name not in known:
                lines.append(f"{sample.image_path}: was not in {part} when the results were made")
            else:
                lines += _changes(sample, known[name])
        if not lines and list(known) != list(here):
            lines.append(f"{category.id}: the samples of {part} come in another order")
    return list(dict.fromkeys(lines))  # samples may share a file


def _changes(sample: Sample, known: str) -> Iterator[str]:
    """What of one sample does not fit its line."""
    try:
        if describe_sample(sample).rstrip("\n") == known:
            return
        files = [path for path in (sample.image_path, *sample.truth_files()) if file_sha256(path) not in known]
    except ImageReadError as error:
        yield str(error)
        return
    yield from (f"{path}: is not the file that the results were made with" for path in files)
    if not files:
        told = "its label, group, masks, mask rule or saturations are not what the results were made with"
        yield f"{sample.image_path}: {told}"


def _samples(category: Category) -> list[tuple[str, list[Sample]]]:
    return [(name, list(getattr(category, name))) for name in PARTS]


def _digest_of(parts: Mapping[str, Mapping[str, str]]) -> str:
    """Equal to that of the first versions, which kept no lines."""
    digest = hashlib.sha256()
    for lines in parts.values():
        digest.update(f"split of {len(lines)}\n".encode())
        for line in lines.values():
            digest.update(f"{line}\n".encode())
    return digest.hexdigest()
