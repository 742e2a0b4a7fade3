"""The words of the page: rules, rates, scores, and the sentence that an evaluation comes down to."""

import math
from typing import TYPE_CHECKING

import numpy as np

from tinydefects.metrics import detectability as detection
from tinydefects.metrics.detectability import Detectability
from tinydefects.metrics.scores import Evaluation

if TYPE_CHECKING:
    from markupsafe import Markup

DETECTION_RULES = {
    "own_peak_at_image_fpr": "its own peak exceeds the lowest threshold at which at most this share of the good images "
    "hold any pixel above it. Its own peak is its highest pixel from which no way leads, without going down, to a "
    "higher pixel of another defect: a neighbour’s glow finds nothing",
    "own_peak_at_pixel_fpr": "its own peak is flagged while at most this share of all normal pixels is. Its own peak "
    "is its highest pixel from which no way leads, without going down, to a higher pixel of another defect",
    "peak_at_image_fpr": "its highest pixel exceeds the lowest threshold at which at most this share of the good "
    "images hold any pixel above it",
    "peak_at_pixel_fpr": "its highest pixel is flagged while at most this share of all normal pixels is",
    "half_at_pixel_fpr": "half of its pixels are flagged while at most this share of all normal pixels is",
}
STAGE_WORDS = {
    "decode": "from the file to pixels",
    "resize": "to the size of the network’s input",
    "transfer": "to the device and back, normalising included",
    "teacher": "the shared frozen network, the backbone",
    "method": "what the method computes from its features",
    "map": "from patches to the image’s own pixels, and the image score",
}
CURVE_RULES = {
    "exact": "every distinct score is a threshold, ties together",
    "published_99": "the 99-point rule that published tables were computed with",
    "normal_thresholds": "what the 99-point rule tends to with ever more points",
}


def rate_in_words(detectability: Detectability, *more: Detectability) -> str:
    """What alarmed falsely and what may: `0 of 8 good images alarming (5 % allowed)`; see `detectability.py`."""
    return detection.rate_in_words(detectability, *more).replace(" %", "\N{NO-BREAK SPACE}%")


def headline(evaluation: Evaluation) -> str:
    """What the numbers say in one sentence that stays true: bounds are rounded up, and every claim has its count."""
    defects, detectability = evaluation.defects, evaluation.detectability
    if not defects and evaluation.n_unmarked_images:
        which = (
            "The only defective image is not"
            if evaluation.n_unmarked_images == 1
            else (f"None of {evaluation.n_unmarked_images} defective images is")
        )
        return f"{which} outlined; image AUROC {evaluation.image_auroc:.3f}."
    if not defects:
        return f"No defect in {evaluation.n_images} images: there is nothing to find."
    rate = f"at {rate_in_words(detectability)}"
    missed = [defect.diameter_px for defect, hit in zip(defects, detectability.hits, strict=True) if not hit]
    diameters = [defect.diameter_px for defect in defects]
    if len(defects) == 1:
        return f"The only defect, {diameters[0]:.1f} px across, is {'missed' if missed else 'found'} {rate}."
    if not missed:
        return f"All {len(defects)} defects found {rate}; the smallest is {min(diameters):.1f} px across."
    if len(missed) == len(defects):
        return f"None of {len(defects)} defects found {rate}; the largest is {max(diameters):.1f} px across."
    start = f"{len(defects) - len(missed)} of {len(defects)} defects found {rate}"
    bound = math.ceil(10 * max(missed)) / 10
    larger = sum(diameter > bound for diameter in diameters)
    if not larger:
        return f"{start}; the largest missed is {max(missed):.1f} px across."
    every = "the only one" if larger == 1 else f"all {larger}"
    return f"{start}, among them {every} above {bound:.1f} px in diameter."


def format_rate(rate: float) -> str:
    """A share as percent with two significant digits, no exponent and a space that never breaks: `0.034 %`."""
    return f"{np.format_float_positional(100 * rate, precision=2, fractional=False, trim='-')}\N{NO-BREAK SPACE}%"


def format_score(value: float, digits: int = 3) -> "str | Markup":
    """A fixed number of decimals, so that columns align; nan as a dash that explains itself."""
    from markupsafe import Markup

    if math.isnan(value):
        return Markup('<abbr class="undefined" title="undefined: nothing was measured here">–</abbr>')
    return f"{value:.{digits}f}"
