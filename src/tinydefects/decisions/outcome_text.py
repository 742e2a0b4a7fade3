"""An outcome in words: what came beside what was promised, and what became of defects by size."""

import math
from collections.abc import Iterator

from tinydefects.decisions.outcome import Kept, Outcome, Share, SizeOutcome
from tinydefects.decisions.text import HOW
from tinydefects.metrics.detectability import format_size, glow_in_words

STANDS = {
    "inside": "the promise lies inside the interval",
    "above": "the promise lies above the interval: fewer than it allows",
    "below": "the promise lies below the interval: more than it allows",
}
NO_PROMISE = "nothing is promised of a threshold set by hand"


def describe(outcome: Outcome) -> list[str]:
    """The lines a person reads."""
    return [
        f"at the thresholds of {outcome.n_calibrated:,} good parts, {HOW[outcome.obtained]}:",
        *(f"  {line}" for _, line in promises(outcome)),
        *(f"  {line}" for line in _rows(outcome)),
        *(f"  {line}" for line in remarks(outcome)),
    ]


def promises(outcome: Outcome) -> Iterator[tuple[Kept, str]]:
    """Each promise with one line: what came, what was promised, whether the one lies inside the interval of the other.

    `good parts called not good (above 1.23): 1 of 12, 8.3 % (0.2 to 38.5 %); promised: at most 5 % on average; …`
    """
    for name, kept in (("not good", outcome.not_good), ("defect", outcome.called_defect)):
        if math.isnan(kept.threshold):
            yield kept, f"no part is called {name}: too few good parts to promise anything of it"
        else:
            begin = f"good parts called {name} (above {kept.threshold:.4g}): {told(kept.found)}"
            yield kept, f"{begin}; {_promised(kept, _percent(kept.promised))}"
    regions = outcome.regions
    peaks = f"(peak above {regions.threshold:.4g})"
    if outcome.most_counted == 1:
        begin = f"good parts that show a region {peaks}: {told(regions.found)}"
        yield regions, f"{begin}; {_promised(regions, _percent(regions.promised))}"
    else:
        found = f"{_plain(regions.found.value)} ({_plain(regions.found.low)} to {_plain(regions.found.high)})"
        begin = f"regions of a good part, counted up to {outcome.most_counted} {peaks}: {found} in the mean"
        yield regions, f"{begin}; {_promised(regions, _plain(regions.promised))}"


def remarks(outcome: Outcome) -> list[str]:
    """What is left to say: false regions, SegF1, POD, and what is undefined without outlines."""
    interval = outcome.false_regions_interval
    spread = "" if math.isnan(interval.low) else f" ({interval.low:.2g} to {interval.high:.2g})"
    lines = []
    if outcome.n_good_images:
        lines.append(f"false regions: {outcome.false_regions:.2g} a good photograph{spread}")
    if not outcome.hits:
        if outcome.n_defective_images:
            lines.append("without outlines nobody knows which defects are hit: that, SegF1 and POD are undefined")
        return lines
    fit = outcome.fit
    sizes = (("a50", fit.a50_px), ("a90", fit.a90_px), ("a90/95", fit.a90_95_px))
    lines.append(f"SegF1 of the regions' pixels, all test pixels pooled: {outcome.seg_f1:.4f}")
    lines.append(f"POD of regions: {', '.join(f'{name} {format_size(size)}' for name, size in sizes)}")
    lines += [f"  {remark}" for remark in fit.remarks]
    if outcome.n_by_glow:
        lines.append(f"  {outcome.n_by_glow} more {glow_in_words(outcome.n_by_glow)}")
    lines.append(
        "quartiles of defect area do not overlap; a part counts in each that it shows a defect of, among others"
    )
    return lines


def told(share: Share) -> str:
    """`1 of 12, 8.3 % (0.2 to 38.5 %)`; `none to count` for 0 of 0."""
    if not share.n:
        return "none to count"
    low, high = (f"{100 * bound:.1f}" for bound in (share.low, share.high))
    return f"{share.count:g} of {share.n:,}, {100 * share.value:.1f} % ({low} to {high} %)"


def area_of(size: SizeOutcome) -> str:
    """`1 to 9 px`; nothing where there are none."""
    return "" if math.isnan(size.area_px[0]) else f"{size.area_px[0]:.0f} to {size.area_px[1]:.0f} px"


def _promised(kept: Kept, rate: str) -> str:
    if math.isnan(kept.promised):
        return NO_PROMISE
    how = f"with {_percent(kept.confidence)} confidence" if kept.confidence else "on average"
    stands = f"; {STANDS[kept.stands]}" if kept.stands else ""
    return f"promised: at most {rate} {how}{stands}"


def _rows(outcome: Outcome) -> Iterator[str]:
    """One line for all defects and for each quartile, under a heading; nothing without a defective photograph."""
    if not outcome.n_defective_images:
        return
    for name, *cells in sizes_told(outcome):
        *shares, area = cells
        yield f"{name:<5}{''.join(f'{share:<30}' for share in shares)}{area}".rstrip()


def sizes_told(outcome: Outcome) -> list[tuple[str, ...]]:
    """A heading and one row for all defects and for each quartile: name, shares of what is defined, area.

    Nothing is called a defect where no threshold says so, nothing is hit where no defect is outlined.
    """
    columns = {
        "parts called not good": [size.not_good for size in outcome.by_size],
        "called defect": []
        if math.isnan(outcome.called_defect.threshold)
        else [s.called_defect for s in outcome.by_size],
        "defects hit by a region": [size.hit for size in outcome.by_size] if outcome.hits else [],
    }
    known = {name: [brief(share) for share in shares] for name, shares in columns.items() if shares}
    areas = [area_of(size) for size in outcome.by_size]
    rows = zip((size.name for size in outcome.by_size), *known.values(), areas, strict=True)
    return [("", *known, "area" if outcome.hits else ""), *rows]


def brief(share: Share) -> str:
    """`96 % (79 to 100), 23 of 24`; `none` for 0 of 0."""
    if not share.n:
        return "none"
    return (
        f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f}), {share.count:g} of {share.n:,}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _plain(value: float) -> str:
    return f"{value:.3g}"
