"""Do thresholds from good parts keep what they promise, and what breaks them: python runs/threshold_guarantees.py

Draws good parts 10,000 times, sets thresholds as `tinydefects.decisions` does, and computes, from the distribution they
were drawn from, the rate at which good parts to come would alarm. Writes results/threshold_guarantees.json; then
`python runs/tables.py` writes the tables of docs/thresholds.md. Two minutes.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tinydefects.data.json_files import write_json
from tinydefects.decisions.guarantees import (
    SeenRegions,
    Threshold,
    conformal_threshold,
    photographs_needed,
    region_threshold,
    tolerance_threshold,
)
from tinydefects.results.result import describe_run

RESULT = Path(__file__).resolve().parents[1] / "results" / "threshold_guarantees.json"
SEED, REPETITIONS, CONFIDENCE = 0, 10_000, 0.95
SIZES = (20, 59, 100, 299, 1000)
RATES = (0.01, 0.02, 0.05, 0.1)
SCORES = {"normal": stats.norm(), "heavy-tailed": stats.t(3)}  # Student's t: standard deviation 1.73
BROKEN_RATE, DEFECT_SHIFT, HIDDEN = 0.05, 4.0, 0.1  # standard deviations, share of the parts
DRIFTS = (0.25, 0.5, 1.0)  # standard deviations
REGIONS_A_PHOTOGRAPH, CLUMPING = 2.0, 0.5  # mean; shape of the gamma distribution that makes some photographs full
REGION_RATES = (0.05, 0.1, 0.5)
COUNTED = (1, 10)
CHECKED = 3  # repetitions whose thresholds are compared with the package's own
Array = NDArray[np.float64]


def place_of(threshold: Threshold) -> int | None:
    """Which of the ascending scores 0, 1, 2, … a threshold is."""
    return None if threshold.value is None else int(threshold.value)


def places(n_parts: int, rate: float) -> dict[str, int | None]:
    """The same for both promises."""
    numbers = np.arange(float(n_parts))
    return {
        "average": place_of(conformal_threshold(numbers, rate)),
        "confidence": place_of(tolerance_threshold(numbers, rate, CONFIDENCE)),
    }


def summed_up(rates: Array, wish: float) -> dict[str, float]:
    """Mean true rate over the calibrations, and the share of them beyond the wish."""
    return {"mean_rate": float(rates.mean()), "share_beyond": float((rates > wish).mean())}


def kept_promises(random: np.random.Generator) -> Iterator[dict[str, object]]:
    """Good parts to come are like those at hand: one row a distribution, size and rate."""
    for name, distribution in SCORES.items():
        for n_parts in SIZES:
            ordered = np.sort(distribution.rvs((REPETITIONS, n_parts), random_state=random), axis=1)
            for rate in RATES:
                row: dict[str, object] = {"scores": name, "n_parts": n_parts, "rate": rate}
                for promise, place in places(n_parts, rate).items():
                    true = None if place is None else distribution.sf(ordered[:, place])
                    row[promise] = None if true is None else summed_up(true, rate)
                yield row


def broken_promises(random: np.random.Generator) -> Iterator[dict[str, object]]:
    """What is no longer alike, one row each: the rates of both promises, and the share of plain defects found."""
    for name, distribution in SCORES.items():
        n_parts, sd = 100, float(distribution.std())
        drawn = distribution.rvs((REPETITIONS, n_parts), random_state=random)
        is_hidden = random.random(drawn.shape) < HIDDEN
        cases = {"nothing": (drawn, 0.0)}
        cases |= {f"drift of {drift:g} sd": (drawn, drift * sd) for drift in DRIFTS}
        twice = np.repeat(drawn[:, : n_parts // 2], 2, axis=1)
        cases["50 parts, each taken twice and counted twice"] = (twice, 0.0)
        cases["50 parts, each taken twice and counted once"] = (drawn[:, : n_parts // 2], 0.0)
        cases["10 % of the parts are defects"] = (np.where(is_hidden, drawn + DEFECT_SHIFT * sd, drawn), 0.0)
        for case, (scores, drift) in cases.items():
            ordered = np.sort(scores, axis=1)
            row: dict[str, object] = {"scores": name, "broken": case, "n_scores": scores.shape[1], "rate": BROKEN_RATE}
            for promise, place in places(scores.shape[1], BROKEN_RATE).items():
                if place is None:
                    row[promise] = None
                    continue
                thresholds = ordered[:, place]
                found = distribution.sf(thresholds - DEFECT_SHIFT * sd - drift).mean()
                rates = distribution.sf(thresholds - drift)
                row[promise] = summed_up(rates, BROKEN_RATE) | {"defects_found": float(found)}
            yield row


def draw_regions(random: np.random.Generator, n_parts: int, name: str) -> tuple[NDArray[np.int64], Array]:
    """Owner and peak of each region of so many photographs, highest peak first."""
    means = np.full(n_parts, REGIONS_A_PHOTOGRAPH)
    if name == "heavy-tailed":
        means = random.gamma(CLUMPING, REGIONS_A_PHOTOGRAPH / CLUMPING, n_parts)
    owners = np.repeat(np.arange(n_parts), random.poisson(means))
    peaks = random.standard_normal(owners.size) if name == "normal" else random.standard_t(3, owners.size)
    order = np.argsort(-peaks)
    return owners[order], peaks[order]


def counted_peaks(owners: NDArray[np.int64], peaks: Array, most_counted: int) -> Array:
    """The peaks, highest first, that are among the `most_counted` highest of their photograph."""
    grouped = np.argsort(owners, kind="stable")
    first = np.searchsorted(owners[grouped], owners[grouped])
    ranks = np.empty(owners.size, dtype=np.int64)
    ranks[grouped] = np.arange(owners.size) - first
    return peaks[ranks < most_counted]


def mean_counted(thresholds: Array, name: str, most_counted: int) -> Array:
    """The mean, over photographs, of their regions above a threshold, each counted up to `most_counted`."""
    means = REGIONS_A_PHOTOGRAPH * SCORES[name].sf(thresholds)
    below = np.arange(most_counted)[:, None]
    if name == "normal":
        return np.asarray(stats.poisson.sf(below, means).sum(axis=0))
    return np.asarray(stats.nbinom.sf(below, CLUMPING, CLUMPING / (CLUMPING + means)).sum(axis=0))


def check(owners: NDArray[np.int64], peaks: Array, n_parts: int, wish: tuple[float, int], value: float) -> None:
    """The package, given the same regions, sets the same threshold."""
    good = [SeenRegions(part=str(part), peaks=peaks[owners == part].tolist()) for part in range(n_parts)]
    assert region_threshold(good, *wish).value == value, (wish, value)


def false_regions(random: np.random.Generator) -> Iterator[dict[str, object]]:
    """Regions of good photographs: one row a distribution, size, rate and cap; also what a drift of 0.5 sd does."""
    for name, distribution in SCORES.items():
        for n_parts in SIZES:
            wishes = [(rate, cap) for rate in REGION_RATES for cap in COUNTED]
            afforded = [wish for wish in wishes if n_parts >= photographs_needed(*wish)]
            thresholds = {wish: np.empty(REPETITIONS) for wish in afforded}
            for repetition in range(REPETITIONS):
                owners, peaks = draw_regions(random, n_parts, name)
                counted = {cap: counted_peaks(owners, peaks, cap) for cap in COUNTED}
                for rate, cap in afforded:
                    n_above = int(rate * (n_parts + 1) * (1 + 1e-12) - cap + 1e-9)
                    value = counted[cap][n_above] if n_above < counted[cap].size else -np.inf
                    thresholds[rate, cap][repetition] = value
                    if repetition < CHECKED:
                        check(owners, peaks, n_parts, (rate, cap), value)
            for rate, cap in wishes:
                row: dict[str, object] = {"peaks": name, "n_parts": n_parts, "rate": rate, "most_counted": cap}
                row["found"] = row["after_drift"] = None
                if (rate, cap) in thresholds:
                    values, drift = thresholds[rate, cap], 0.5 * float(distribution.std())
                    row["found"] = summed_up(mean_counted(values, name, cap), rate)
                    row["after_drift"] = summed_up(mean_counted(values - drift, name, cap), rate)
                yield row


def main() -> None:
    """Simulate and write."""
    random = np.random.default_rng(SEED)
    parts = {"kept": kept_promises, "broken": broken_promises, "regions": false_regions}
    rows = {}
    for name, simulate in parts.items():
        rows[name] = list(simulate(random))
        print(name, len(rows[name]), flush=True)
    settings = {"command": "runs/threshold_guarantees.py", "seed": SEED, "repetitions": REPETITIONS}
    write_json(RESULT, {"provenance": asdict(describe_run(settings | {"confidence": CONFIDENCE})), **rows})


if __name__ == "__main__":
    main()
