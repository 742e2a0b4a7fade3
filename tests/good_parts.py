"""Calibrations of good parts whose scores and peaks are given."""

from tinydefects.decisions.calibration import Calibration, CalibrationSettings, GoodImage
from tinydefects.decisions.regions import Extent


def record(number, score, *, part=None, peaks=(), areas=None, sha=""):
    areas = tuple(areas or [1] * len(peaks))
    name = f"train/good/{number:03d}"
    return GoodImage(
        id=name,
        part=part or name,
        score=float(score),
        pixels_sha256=sha,
        n_regions=len(peaks),
        peaks=tuple(map(float, peaks)),
        areas_px=areas,
    )


def calibration_of(scores, **wishes):
    """Good parts with these scores, each with one region of one pixel and the score as its peak."""
    images = tuple(record(number, score, peaks=[score]) for number, score in enumerate(scores))
    settings = CalibrationSettings(**wishes)
    return Calibration(
        fingerprint="abc", obtained="held out", settings=settings, extent=Extent(level=-99.0), images=images
    )
