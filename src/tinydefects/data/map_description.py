"""What a pairing amounts to: what scoring it will cost, and what a result must say about where its maps came from."""

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from tinydefects.data.pairing import MapProblem, Pairing, describe_problems
from tinydefects.data.tables import Columns, write_csv

EIGHT_BITS = {"uint8", "int8"}
SPOOLED_BYTES = 4  # a normal pixel's score, as float32


class ScoringCost(TypedDict):
    """What scoring will read, and the most it puts into the temporary folder meanwhile."""

    n_images: int
    n_pixels: int
    n_resampled: int
    temporary_bytes: int
    temporary_folder: str


def scoring_cost(pairing: Pairing) -> ScoringCost:
    """What scoring these maps will cost; of the temporary folder `TMPDIR` is the choice."""
    n_pixels = sum(math.prod(pair.image_size) for pair in pairing.pairs)
    return ScoringCost(
        n_images=len(pairing.pairs),
        n_pixels=n_pixels,
        n_resampled=len(pairing.resampled),
        temporary_bytes=SPOOLED_BYTES * n_pixels,
        temporary_folder=tempfile.gettempdir(),
    )


def describe_cost(cost: ScoringCost) -> str:
    """One line for people."""
    return (
        f"{cost['n_images']} images, {cost['n_pixels'] / 1e6:.1f} million pixels, "
        f"{cost['n_resampled']} maps to resample, "
        f"{cost['temporary_bytes'] / 1e9:.2f} GB in {cost['temporary_folder']} while scoring (TMPDIR chooses another)"
    )


def map_settings(pairing: Pairing) -> dict[str, str]:
    """For the provenance of a result: what kinds of file the maps were, and how many were resampled from which size."""
    kinds = Counter(f"{pair.path.suffix.lower()} {pair.header.dtype}" for pair in pairing.pairs)
    settings = {"maps": ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))}
    if pairing.resampled:
        sizes = Counter((pair.header.size, pair.image_size) for pair in pairing.resampled)
        settings["resample"] = (
            f"bilinear, centre-aligned (Pillow): {len(pairing.resampled)} of {len(pairing.pairs)} maps, "
            + ", ".join(f"{count} from {_plain(old)} to {_plain(new)}" for (old, new), count in sizes.most_common(3))
            + (", …" if len(sizes) > 3 else "")
        )
    return settings


def warnings_about(pairing: Pairing) -> list[str]:
    """What a reader should know of maps that can be scored all the same."""
    shallow = sum(pair.header.dtype in EIGHT_BITS for pair in pairing.pairs)
    extra = [problem for problem in pairing.problems if problem.kind == "extra"]
    remarks = [describe_problems(pairing.source, extra)] if extra else []
    if pairing.left_out:
        remarks.append(f"{pairing.source}: {len(pairing.pairs)} maps; {pairing.left_out}")
    if shallow:
        remarks.append(
            f"{shallow} maps have 8 bits: 256 levels tie many pixels, which small false-positive rates feel first; "
            "export 16 bits or floats"
        )
    return remarks


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


def _plain(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
