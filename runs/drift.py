"""How often the drift monitor alarms without a drift, and how long it takes with one: python runs/drift.py

Scores are drawn from a normal distribution; p-values depend on ranks alone, so that without a drift the distribution
does not matter. Writes results/drift.json, then `python runs/tables.py` prints it. Three minutes on one core.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.json_files import write_json
from tinydefects.decisions.drift import Rule, bets, first_evidence, grow
from tinydefects.results.result import describe_run

RESULT = Path(__file__).resolve().parents[1] / "results" / "drift.json"
CALIBRATIONS = (50, 100, 300)
SHIFTS = (0.25, 0.5, 1.0, 2.0)  # of the mean, in standard deviations
RUN_LENGTHS = (1_000, 10_000)
EVER = 0.05
QUIET = {"n_repetitions": 4_000, "n_photographs": 2_000}  # without a drift
DRIFTING = {"n_repetitions": 2_000, "n_photographs": 1_100, "n_before": 100}  # it begins after so many
AT_ONCE = 250
SEED = 0
Floats = NDArray[np.float64]


def main() -> None:
    """Simulate and write."""
    rows = [{"n_calibration": n, **quiet(n), "drift": [drifting(n, shift) for shift in SHIFTS]} for n in CALIBRATIONS]
    provenance = asdict(describe_run({"command": "runs/drift.py", "seed": SEED}))
    told = {"run_lengths": RUN_LENGTHS, "ever": EVER, "quiet": QUIET, "drifting": DRIFTING}
    write_json(RESULT, {"provenance": provenance, **told, "rows": rows})


def quiet(n_calibration: int) -> dict[str, object]:
    """Alarms without a drift: in 1,000 photographs at each run length, by both kinds of p-values; share of ever one."""
    n_repetitions, n_photographs = QUIET["n_repetitions"], QUIET["n_photographs"]
    n_alarms = np.zeros((2, len(RUN_LENGTHS)))
    n_ever = 0
    for scores, shares in drawn(n_calibration, n_repetitions, n_photographs):
        joined, fixed = p_values(scores, n_calibration, shares)
        for kind, values in enumerate((joined, fixed)):
            for place, run_length in enumerate(RUN_LENGTHS):
                n_alarms[kind, place] += alarms(values, "run_length", run_length).sum()
        n_ever += int(alarms(joined, "ever", 1 / EVER).any(axis=1).sum())
    per_1000 = 1_000 * n_alarms / (n_repetitions * n_photographs)
    told = {"alarms_per_1000": per_1000[0].tolist(), "alarms_per_1000_fixed": per_1000[1].tolist()}
    print(n_calibration, told, n_ever / n_repetitions, flush=True)
    return {**told, "share_ever": n_ever / n_repetitions}


def drifting(n_calibration: int, shift: float) -> dict[str, object]:
    """Photographs from a drift to the first alarm, at each run length: the median, and the share found at all.

    Repetitions with an alarm before the drift are left out; where none comes the delay is infinite.
    """
    n_before = DRIFTING["n_before"]
    delays: list[list[float]] = [[] for _ in RUN_LENGTHS]
    for scores, shares in drawn(n_calibration, DRIFTING["n_repetitions"], DRIFTING["n_photographs"]):
        scores[:, n_calibration + n_before :] += shift
        joined, _ = p_values(scores, n_calibration, shares)
        for place, run_length in enumerate(RUN_LENGTHS):
            raised = alarms(joined, "run_length", run_length)
            raised = raised[~raised[:, :n_before].any(axis=1), n_before:]
            delays[place] += np.where(raised.any(axis=1), raised.argmax(axis=1) + 1.0, np.inf).tolist()
    found = [float(np.mean(np.isfinite(one))) for one in delays]
    medians = [float(np.quantile(one, 0.5, method="higher")) for one in delays]
    print(n_calibration, shift, medians, found, flush=True)
    return {"shift": shift, "median_delay": medians, "share_found": found}


def drawn(n_calibration: int, n_repetitions: int, n_photographs: int) -> Iterator[tuple[Floats, Floats]]:
    """Scores (repetition, calibration and photographs) without a drift, and places in ties, some at a time."""
    generator = np.random.default_rng((SEED, n_calibration, n_photographs))
    for _ in range(0, n_repetitions, AT_ONCE):
        yield (
            generator.normal(size=(AT_ONCE, n_calibration + n_photographs)),
            generator.random((AT_ONCE, n_photographs)),
        )


def p_values(scores: Floats, n_calibration: int, shares: Floats) -> tuple[Floats, Floats]:
    """(repetition, photograph) p-values: among all scores so far, and among the calibration's alone."""
    joined, fixed = np.empty_like(shares), np.empty_like(shares)
    for number in range(shares.shape[1]):
        end = n_calibration + number
        is_above = scores[:, :end] > scores[:, end, None]
        joined[:, number] = (is_above.sum(axis=1) + shares[:, number]) / (end + 1)
        fixed[:, number] = (is_above[:, :n_calibration].sum(axis=1) + shares[:, number]) / (n_calibration + 1)
    return joined, fixed


def alarms(values: Floats, rule: Rule, threshold: float) -> NDArray[np.bool_]:
    """(repetition, photograph) whether a monitor of one stream alarms."""
    evidence, raised = first_evidence(rule, values.shape[:1]), np.zeros(values.shape, dtype=np.bool_)
    for number in range(values.shape[1]):
        evidence = grow(evidence, bets(values[:, number]), rule)
        raised[:, number] = evidence.sum(axis=1) >= threshold
        if rule == "run_length":
            evidence[raised[:, number]] = 0.0
    return raised


if __name__ == "__main__":
    main()
