"""The tally of an evaluation as one compressed array file, so that results can be compared later without the maps.

It holds how many pixels of an image or a defect reach a score, not where they lie: no map and no photograph can be made
from it. Counts are stored as their steps from threshold to threshold, most of which are 0.
"""

import io
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.tally import Tally

STEPPED = ("normal_at_least", "defect_at_least")


def pack_tally(tally: Tally) -> bytes:
    """The bytes of an npz file with one array for each attribute of the tally."""
    arrays = {field.name: getattr(tally, field.name) for field in fields(Tally)}
    for name in STEPPED:
        steps = np.diff(arrays[name], prepend=0)
        arrays[name] = steps.astype(np.min_scalar_type(steps.max(initial=0)))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack_tally(packed: bytes) -> Tally:
    """What `pack_tally` packed.

    Raises:
        ValueError, KeyError: not such a file.
    """
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        known = dict(stored)
    known.setdefault("own_peak", np.full_like(known["peak"], np.nan))  # before format 4 of results nobody looked
    arrays: dict[str, NDArray[Any]] = {field.name: known[field.name] for field in fields(Tally)}
    for name in STEPPED:
        arrays[name] = np.cumsum(arrays[name], axis=1, dtype=np.int32)
    return Tally(**arrays)
