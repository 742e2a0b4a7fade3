"""One small file from the results of a benchmark: python runs/summary.py RESULTS [SUMMARY]

RESULTS is what `tinydefects benchmark` was given as --out; SUMMARY defaults to results/benchmark/summary.json, from
which `python runs/tables.py` makes the tables.
"""

import sys
from pathlib import Path

from tinydefects.benchmark.summary import summarise, write_summary

SUMMARY = Path(__file__).resolve().parents[1] / "results" / "benchmark" / "summary.json"


def main(results: Path, summary: Path) -> None:
    """Read, compute the leaderboards, write."""
    found = summarise(results)
    write_summary(found, summary)
    print(f"{len(found.rows)} results, {len(found.boards)} leaderboards, {len(found.failed)} failed jobs: {summary}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else SUMMARY)
