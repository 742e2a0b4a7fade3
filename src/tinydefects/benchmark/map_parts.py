"""Anybody's maps scored on several machines: each gathers a share of them into a folder, one merges the folders."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from tinydefects.benchmark.map_scoring import MapReader
from tinydefects.benchmark.part_file import read_part, write_part
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.maps.origin import describe_sample, file_sha256
from tinydefects.maps.pairing import PairedMap, Pairing
from tinydefects.metrics.gathering import Gathered
from tinydefects.metrics.parts import gather_part, merge_parts, share_of
from tinydefects.metrics.spool import ScoreSpool


def parse_share(text: str) -> tuple[int, int]:
    """`2/5` is the second of five.

    Raises:
        TinyDefectsError: it is written otherwise.
    """
    number, _, n_parts = text.partition("/")
    if not (number.isdecimal() and n_parts.isdecimal()):
        raise TinyDefectsError(f"--part {text}: write which of how many, such as 2/5")
    return int(number), int(n_parts)


def write_map_part(
    reader: MapReader,
    pairing: Pairing,
    share: tuple[int, int],
    base: Path,
    *,
    origin: str,
    n_exhibits: int,
    contrast: bool,
) -> Path:
    """Gather one share of the maps into a folder beside the result `base`, and return the folder.

    `origin` says all else that decides what is gathered; `read_map_parts` wants the same, and the same files.

    Raises:
        DatasetError, MapsError, TinyDefectsError: as `evaluate` and `MapReader` say, or there is no such share.
    """
    positions = share_of(len(pairing.pairs), *share)
    own = replace(pairing, pairs=tuple(pairing.pairs[position] for position in positions))
    files_sha256 = _files_sha256(own.pairs)  # before anything is read: what changes meanwhile does not fit
    with ScoreSpool() as normal_scores:
        part = gather_part(
            reader.pairs(own, "gather"),
            normal_scores,
            positions=positions,
            n_images=len(pairing.pairs),
            category=base.name,
            n_exhibits=n_exhibits,
            contrast=contrast,
            made_from=origin,
        )
        return write_part(replace(part, files_sha256=files_sha256), _folder(base, *share))


@contextmanager
def read_map_parts(base: Path, pairing: Pairing, *, origin: str) -> Iterator[Callable[[ScoreSpool], Gathered]]:
    """What merges all shares of the result `base`, for `evaluate_gathered`, while their files are open.

    Raises:
        ResultError: shares are missing, damaged, of different divisions, gathered with another `origin`, or from other
            maps, masks or photographs than these.
    """
    with ExitStack() as stack:
        folders = _folders(base)
        parts = [stack.enter_context(read_part(folder)) for folder in folders]
        for folder, part in zip(folders, parts, strict=True):
            if part.made_from != origin:
                raise ResultError(f"{folder}: gathered from {part.made_from}, not from {origin}; gather it again")
            own = pairing.pairs if part.n_images != len(pairing.pairs) else [pairing.pairs[n] for n in part.positions]
            if part.files_sha256 != _files_sha256(own):
                raise ResultError(
                    f"{folder}: gathered from other maps, masks or photographs than lie here now; gather it again"
                )
        yield partial(merge_parts, parts)


def _files_sha256(pairs: Sequence[PairedMap]) -> str:
    """Of the bytes of these maps, their masks and their photographs, and of what is known of them."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(f"{describe_sample(pair.sample)} {pair.stored_score} {file_sha256(pair.path)}\n".encode())
    return digest.hexdigest()


def _folder(base: Path, number: int, n_parts: int) -> Path:
    return base.with_name(f"{base.name}.part_{number}_of_{n_parts}")


def _folders(base: Path) -> list[Path]:
    folders = sorted(base.parent.glob(f"{base.name}.part_*_of_*"))
    divisions = sorted({folder.name.rpartition("_")[2] for folder in folders})
    if not folders:
        raise ResultError(f"{base}: there are no parts here; make them with --part 1/2 and --part 2/2")
    if len(divisions) > 1:
        raise ResultError(f"{base}: parts of {' and of '.join(divisions)} lie here; delete those that are out of date")
    return folders
