"""Which map belongs to which test image, and every reason why some cannot be scored, from headers alone.

Maps and images are paired by name, never by order: in a folder by the sample's id (`test/crack/000`), in a manifest
by id or by the image's path, all without suffix.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from pydantic_core import from_json

from tinydefects.data.map_files import MAP_SUFFIXES, MapHeader, Origin, origin_in, read_header
from tinydefects.data.pixels import IMAGE_SUFFIXES, read_size
from tinydefects.data.sample import Category, Sample
from tinydefects.data.tables import Columns, read_manifest, write_csv
from tinydefects.data.walk import LeftOut, nfc, on_disk, walk
from tinydefects.errors import ImageReadError, TableError, TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.progress import Report

ProblemKind = Literal[
    "missing",
    "duplicate",
    "unreadable",
    "other photograph",
    "other maker",
    "wrong size",
    "wrong mask",
    "not finite",
    "without score",
    "extra",
]
WAYS_OUT: dict[ProblemKind, str] = {
    "missing": "give one map for each test image",
    "duplicate": "keep one map for each image",
    "unreadable": "write those files again",
    "other photograph": "predict again, which makes maps of changed photographs anew, or bring the photographs back",
    "other maker": "predict again with one detector, which makes maps of others anew, or score each in its own folder",
    "wrong size": "upsample those maps (bilinear, centre-aligned) or let --resample bilinear do it; never the mask",
    "wrong mask": "export those masks at the size of their image",
    "not finite": "only finite float32 scores can be ranked",
    "without score": "choose --image-score max or top_0.1_percent",
    "extra": "maps of no test image are left out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapProblem:
    """One thing that is wrong; `name` is the sample's id, or the file (the row) of a map that belongs to none."""

    kind: ProblemKind
    name: str
    detail: str = ""


class MapsError(TinyDefectsError, ValueError):
    """Maps that cannot be scored; the message counts the problems and names the first, `problems` holds them all."""

    def __init__(self, source: Path, problems: Sequence[MapProblem], listed_in: Path | None = None) -> None:
        super().__init__(describe_problems(source, problems) + (f"; all of them: {listed_in}" if listed_in else ""))
        self.source = source
        self.problems = tuple(problems)


def describe_problems(source: Path, problems: Sequence[MapProblem], n_named: int = 3) -> str:
    """One line: how many of each kind, the first of them by name, the ways out."""
    found, ways_out = [], []
    for kind, way_out in WAYS_OUT.items():
        alike = [problem for problem in problems if problem.kind == kind]
        if not alike:
            continue
        names = [problem.name for problem in alike[:n_named]]
        if alike[0].detail:
            names[0] += f": {alike[0].detail}"
        more = f", and {len(alike) - n_named} more" if len(alike) > n_named else ""
        found.append(f"{len(alike)} {kind} ({', '.join(names)}{more})")
        ways_out.append(way_out)
    return f"{source}: maps and images do not fit: {', '.join(found)}; {'; '.join(ways_out)}"


Resample = Literal["none", "bilinear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedMap:
    """A sample and the file of its map, by their headers: size of the image (H, W), what came with the map."""

    sample: Sample
    image_size: tuple[int, int]
    path: Path
    header: MapHeader
    stored_score: float | None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The pairs that could be made, in the order of the samples, and all problems; maps in .npz are called `key`.

    `left_out` is what lies in a folder of maps and is no map.
    """

    source: Path
    key: str | None
    pairs: tuple[PairedMap, ...]
    problems: tuple[MapProblem, ...]
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def resampled(self) -> tuple[PairedMap, ...]:
        """The pairs whose map has another size than its image."""
        return tuple(pair for pair in self.pairs if pair.header.size != pair.image_size)

    def with_samples(self, samples: Iterable[Sample]) -> "Pairing":
        """The same maps with other samples of the same ids, such as samples whose masks are in memory already."""
        by_id = {sample.id: sample for sample in samples}
        pairs = [replace(pair, sample=by_id.get(pair.sample.id, pair.sample)) for pair in self.pairs]
        return replace(self, pairs=tuple(pairs))

    @property
    def made_by(self) -> Mapping[str, object]:
        """Who made the maps, as each of them says; empty where they do not say."""
        origin = self.pairs[0].origin if self.pairs else None
        return origin.made_by if origin else {}

    def require_sound(self) -> None:
        """Raise a MapsError with all problems; maps of no image are no reason, but told: they may be misnamed."""
        if any(problem.kind != "extra" for problem in self.problems):
            raise MapsError(self.source, self.problems)


def pair_maps(
    source: Path,
    category: Category,
    *,
    samples: Sequence[Sample] | None = None,
    key: str | None = None,
    resample: Resample = "none",
    stored_scores: bool = True,
    progress: "Report" = lambda stage, done, total: None,
) -> Pairing:
    """Find the map of every sample in a folder or a manifest, compare sizes and origins; no pixel of a map is read.

    A photograph is read only where its map says of which one it was made, and the file has been touched since.

    Args:
        source: a folder in MVTec's layout, `[<category>/]<sample id>.<suffix>`, or a manifest (see `read_manifest`).
        category: whose test images are to be scored.
        samples: others of the category instead of its test images.
        key: the array of `.npz` files.
        resample: whether maps of another size than their image are welcome.
        stored_scores: whether image scores that came with the maps will be used: then all must have one, or none.
        progress: called with ("check", done, total).

    Raises:
        ImageReadError: there is no such folder or manifest.
        TableError, MissingExtraError: a manifest that cannot be read.
    """
    listing = list_maps(source, category.id)
    extra = [MapProblem(kind="extra", name=name) for name in listing.strangers(_all_samples(category))]
    samples = category.test if samples is None else samples
    pairing = pair_listed(listing, samples, key=key, resample=resample, stored_scores=stored_scores, progress=progress)
    return replace(pairing, problems=(*pairing.problems, *extra), left_out=listing.left_out)


def pair_listed(
    listing: "MapListing",
    samples: Sequence[Sample],
    *,
    key: str | None = None,
    resample: Resample = "none",
    stored_scores: bool = True,
    progress: "Report" = lambda stage, done, total: None,
) -> Pairing:
    """The same of maps that are listed already, for whoever pairs image after image; maps of no image are not told."""
    outcomes: list[PairedMap | MapProblem] = []
    for done, sample in enumerate(samples, start=1):
        outcomes.append(_pair(sample, listing.of(sample), key, resample) or _missing(sample, listing))
        progress("check", done, len(samples))
    pairs = tuple(outcome for outcome in outcomes if isinstance(outcome, PairedMap))
    problems = [outcome for outcome in outcomes if isinstance(outcome, MapProblem)]
    problems += [*(_without_score(pairs) if stored_scores else []), *_makers_apart(pairs)]
    return Pairing(source=listing.source, key=key, pairs=pairs, problems=tuple(problems))


def require_one_maker(source: Path, pairs: Sequence[PairedMap], *, stored_scores: bool = False) -> None:
    """Raise a MapsError where maps that say who made them, of several pairings perhaps, have several makers.

    With `stored_scores` also where some of them came with an image score and others without.
    """
    if problems := [*(_without_score(pairs) if stored_scores else []), *_makers_apart(pairs)]:
        raise MapsError(source, problems)


_Candidate = tuple[Path, float | None]  # a map, and its score if a manifest gives one


class FolderListing:
    """The maps of a category in a folder; each folder below it is walked once, when it is first asked for."""

    def __init__(self, source: Path, category_id: str) -> None:
        self.source, self.category = source, category_id.split("/")[-1]
        self.left_out = LeftOut()
        self._walked: dict[str, dict[str, list[_Candidate]]] = {}

    def of(self, sample: Sample) -> list[_Candidate]:
        """The maps of a sample; a PNG beside a map of floats is a picture of it."""
        maps = self._below(sample.id.split("/")[0]).get(sample.id, [])
        return [candidate for candidate in maps if candidate[0].suffix.lower() != ".png"] or maps

    def strangers(self, samples: Iterable[Sample]) -> list[str]:
        """The maps in the folders of these samples that belong to none of them."""
        known = {sample.id for sample in samples}
        tops = sorted({sample_id.split("/")[0] for sample_id in known})
        maps = (found for top in tops for sample_id, found in self._below(top).items() if sample_id not in known)
        return [str(path) for found in maps for path, _ in found]

    def _below(self, top: str) -> dict[str, list[_Candidate]]:
        """The maps by id in `test/` or another folder at the top, with the category's folder above it or without."""
        if top not in self._walked:
            found: dict[str, list[_Candidate]] = defaultdict(list)
            for place in (on_disk(self.source / self.category) / top, self.source / top):
                if place.is_dir():
                    walked = walk(place, MAP_SUFFIXES, with_own=True)
                    self.left_out += walked.left_out
                    for name, path in walked.files:
                        found[PurePosixPath(top, name).with_suffix("").as_posix()].append((path, None))
            self._walked[top] = found
        return self._walked[top]


class ManifestListing:
    """The maps that a manifest names; it is read once.

    Raises:
        TableError, MissingExtraError: it cannot be read.
    """

    def __init__(self, source: Path, category_id: str) -> None:
        self.source, self.category = source, category_id.split("/")[-1]
        self.left_out = LeftOut()
        self._rows = read_manifest(source)
        self._names = [_without_image_suffix(row.image) for row in self._rows]
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        for place, name in enumerate(self._names):
            self._by_stem[name.name].append(place)

    def of(self, sample: Sample) -> list[_Candidate]:
        """The maps of the rows that name a sample."""
        return [(on_disk(row.map_path), row.score) for row in map(self._rows.__getitem__, self._places(sample))]

    def strangers(self, samples: Iterable[Sample]) -> list[str]:
        """The rows that name none of these samples.

        Raises:
            TableError: a row names several.
        """
        named: dict[int, list[str]] = defaultdict(list)
        for sample in samples:
            for place in self._places(sample):
                named[place].append(sample.id)
        for place, ids in sorted(named.items()):
            if len(ids) > 1:
                raise TableError(
                    f"{self.source}: row {place + 1} names {self._rows[place].image}, which fits {len(ids)} images "
                    f"({', '.join(ids[:3])}); write ids"
                )
        return [f"row {place + 1}: {row.image}" for place, row in enumerate(self._rows) if place not in named]

    def _places(self, sample: Sample) -> list[int]:
        stems = {nfc(sample.image_path.stem), sample.id.split("/")[-1]}
        near = sorted(place for stem in stems for place in self._by_stem.get(stem, ()))
        return [place for place in near if _names(self._names[place], sample, self.category)]


MapListing = FolderListing | ManifestListing


def list_maps(source: Path, category_id: str) -> MapListing:
    """The maps of a category in a folder or a manifest, to be asked for one by one.

    Raises:
        ImageReadError: there is no such folder or manifest.
        TableError, MissingExtraError: a manifest that cannot be read.
    """
    if source.is_file():
        return ManifestListing(source, category_id)
    if source.is_dir():
        return FolderListing(source, category_id)
    raise ImageReadError(f"{source}: no such folder of maps, nor a manifest; check the path")


def _names(name: PurePosixPath, sample: Sample, category: str) -> bool:
    """Whether a manifest's name means this sample: its id, with or without category, or the end of its image's path."""
    full_id = PurePosixPath(category, sample.id)
    image = _without_image_suffix(sample.image_path.absolute().as_posix())
    return str(name) == sample.id or _ends_with(name, full_id) or _ends_with(image, name)


def _ends_with(path: PurePosixPath, end: PurePosixPath) -> bool:
    return path.parts[-len(end.parts) :] == end.parts


def _without_image_suffix(name: str) -> PurePosixPath:
    path = PurePosixPath(nfc(name).replace("\\", "/"))
    return path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path


def _all_samples(category: Category) -> Iterable[Sample]:
    return (*category.test, *category.train, *category.validation)


def _pair(
    sample: Sample, maps: Sequence[_Candidate], key: str | None, resample: Resample
) -> PairedMap | MapProblem | None:
    """The sample with its one map, or the first thing that is wrong; None without a map."""
    if not maps:
        return None
    if len(maps) > 1:
        return MapProblem(kind="duplicate", name=sample.id, detail=" and ".join(str(path) for path, _ in maps))
    ((path, score),) = maps
    try:
        size = read_size(sample.image_path)
        masks = {mask: read_size(mask) for mask in sample.mask_paths}
        header = read_header(path, key)
        origin = origin_in(header.description)
        is_strange = origin is not None and not origin.photograph.is_of(sample)
    except ImageReadError as error:
        return MapProblem(kind="unreadable", name=sample.id, detail=str(error))
    if is_strange:
        return MapProblem(kind="other photograph", name=sample.id, detail=f"{path} was not made of {sample.image_path}")
    for mask, mask_size in masks.items():
        if mask_size != size:
            return MapProblem(kind="wrong mask", name=sample.id, detail=f"{mask} is {mask_size}, the image {size}")
    if header.size != size and resample == "none":
        return MapProblem(kind="wrong size", name=sample.id, detail=f"{path} is {header.size}, the image {size}")
    if score is None:
        score = score_in(header.description)
    return PairedMap(sample=sample, image_size=size, path=path, header=header, stored_score=score, origin=origin)


def _missing(sample: Sample, listing: MapListing) -> MapProblem:
    expected = listing.source / listing.category / sample.id
    is_manifest = isinstance(listing, ManifestListing)
    detail = "no row names it" if is_manifest else f"expected {expected} with {', '.join(MAP_SUFFIXES)}"
    return MapProblem(kind="missing", name=sample.id, detail=detail)


def score_in(description: str) -> float | None:
    """The image score in the text stored with a map, `{"score": 0.5}`; None where there is none."""
    try:
        return float(from_json(description)["score"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def _without_score(pairs: Sequence[PairedMap]) -> list[MapProblem]:
    """Scores of two kinds cannot be ranked against each other."""
    lacking = [pair for pair in pairs if pair.stored_score is None]
    if len(lacking) == len(pairs):
        return []
    return [MapProblem(kind="without score", name=pair.sample.id, detail=str(pair.path)) for pair in lacking]


def _makers_apart(pairs: Sequence[PairedMap]) -> list[MapProblem]:
    """The maps whose maker is not that of most of these; scores of two detectors cannot stand in one result."""
    makers = [json.dumps(pair.origin.made_by, sort_keys=True) if pair.origin else "" for pair in pairs]
    ((most, _),) = Counter(makers).most_common(1) or [("", 0)]
    return [
        MapProblem(kind="other maker", name=pair.sample.id, detail=str(pair.path))
        for pair, maker in zip(pairs, makers, strict=True)
        if maker != most
    ]


def write_problems(problems: Sequence[MapProblem], path: Path) -> bool:
    """Write every problem to a CSV of kind, name and detail; without any, remove that of an earlier run."""
    if not problems:
        path.unlink(missing_ok=True)
        return False
    columns: Columns = {
        "kind": [problem.kind for problem in problems],
        "name": [problem.name for problem in problems],
        "detail": [problem.detail for problem in problems],
    }
    write_csv(path, columns)
    return True
