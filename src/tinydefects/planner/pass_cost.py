"""What one pass of the teacher costs: from two passes that were timed, or from a given time a megapixel."""

from dataclasses import dataclass

from tinydefects.errors import TinyDefectsError

UNCOUNTED = "reading files and drawing maps come on top"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCost:
    """Time of a pass over n patches: n * ms_per_patch + n² * ms_per_pair. `source` says where both come from."""

    ms_per_patch: float
    ms_per_pair: float
    source: str

    def ms(self, n_patches: int) -> float:
        """Milliseconds of one pass."""
        return n_patches * self.ms_per_patch + n_patches**2 * self.ms_per_pair


def cost_per_megapixel(ms: float, *, patch_size: int) -> PassCost:
    """The cost of a teacher that takes `ms` milliseconds for each million pixels of its input, however they are cut.

    Raises:
        TinyDefectsError: the time is not above zero.
    """
    if not ms > 0:
        raise TinyDefectsError(f"--ms-per-megapixel {ms:g}: give the milliseconds that a million input pixels take")
    source = f"estimated: {ms:g} ms a megapixel of input, attention not growing faster than that; {UNCOUNTED}"
    return PassCost(ms_per_patch=ms * patch_size**2 / 1e6, ms_per_pair=0.0, source=source)


def cost_from_passes(few: tuple[int, float], many: tuple[int, float], *, timed_with: str) -> PassCost:
    """The cost that two timed passes, each (patches, milliseconds), have in common; attention is paid by pairs."""
    (n_few, ms_few), (n_many, ms_many) = few, many
    ms_per_pair = (ms_many / n_many - ms_few / n_few) / (n_many - n_few)
    ms_per_pair = min(max(0.0, ms_per_pair), ms_many / n_many**2)
    source = (
        f"estimated from a pass over {n_few:,} patches, {ms_few:.3g} ms, and one over {n_many:,}, {ms_many:.3g} ms, "
        f"timed now with {timed_with}; {UNCOUNTED}"
    )
    return PassCost(ms_per_patch=ms_many / n_many - n_many * ms_per_pair, ms_per_pair=ms_per_pair, source=source)
