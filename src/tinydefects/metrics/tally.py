"""How many pixels of every image and every defect reach each of a few hundred thresholds: what resampling needs.

Numbers that are reported come from all pixels and are exact; only their intervals are computed from this table, which is
small enough to be stored beside a result and compared with the table of another method on the same images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """Counts of pixels at G thresholds for I images and D defects, in the order the images came.

    Attributes:
        thresholds: (G,) scores, descending; spread so that the false-positive rate of the category moves in small
            steps from 1 / N up to 1, finest (in ratio) at the low end.
        normal_at_least: (I, G) normal pixels of each image that score at least each threshold.
        n_normal: (I,) normal pixels of each image; 0 where a defective image marks no pixel.
        highest_normal: (I,) the highest score of those pixels, nan where there are none.
        defect_at_least: (D, G) pixels of each defect that score at least each threshold.
        area_px: (D,) pixels of each defect.
        peak: (D,) highest score inside each defect; median: (D,) the ceil(n / 2)-th highest.
        image_of_defect: (D,) row of its image.
        defect_type: (D,) names.
        is_good: (I,) label of each image; image_score: (I,) its score.
        sample_id: (I,) names; group: (I,) images of one scene or part carry one name and are resampled together.
    """

    thresholds: NDArray[np.float32]
    normal_at_least: NDArray[np.int64]
    n_normal: NDArray[np.int64]
    highest_normal: NDArray[np.float32]
    defect_at_least: NDArray[np.int64]
    area_px: NDArray[np.int64]
    peak: NDArray[np.float32]
    median: NDArray[np.float32]
    image_of_defect: NDArray[np.int64]
    defect_type: NDArray[np.str_]
    is_good: NDArray[np.bool_]
    image_score: NDArray[np.float64]
    sample_id: NDArray[np.str_]
    group: NDArray[np.str_]
