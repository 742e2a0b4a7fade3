"""Whether photographs are still like those of the calibration: a sequential test whose rate of false alarms is bounded.

Each photograph has several numbers, its score and what the picture is like, and each is a stream of its own. A number
becomes a conformal p-value: its rank among the calibration's *and all later ones*, ties broken at random. As long as
nothing drifts, such p-values are independent and uniform whatever the distribution and however few the calibration's
(Vovk, Gammerman and Shafer 2005). Ranks among the calibration's alone would not be: all share its luck.

The evidence of a stream is what one would own who bets against uniform p-values, on higher, on lower and on more
spread numbers at several odds. Two rules say when it is an alarm:

- `run_length` (Shiryaev-Roberts on conformal p-values: Vovk et al. 2021, "Retrain or not retrain"): a new unit is bet
  at every photograph, so that drift is found as quickly late as early. Evidence less the number of photographs is a
  martingale, and an alarm takes the evidence away: in T photographs at most T / run_length false alarms are expected.
- `ever` (conformal test martingale): one unit is bet once. By Ville's inequality the probability that there is ever a
  false alarm is at most `ever`.

With K streams each needs K times the evidence: both bounds then hold for all together, however they depend on each
other. What no test can do: a drift smaller than the calibration's own chance deviation (a mean of n numbers is off by
1 / sqrt(n) standard deviations) stays hidden for good, as later photographs become the norm.
"""

import bisect
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from tinydefects.data.json_files import read_as, write_json
from tinydefects.errors import ResultError, ScoreError, SettingsError

Floats = NDArray[np.float64]
Rule = Literal["run_length", "ever"]
Side = Literal["higher", "lower", "more spread"]
SIDES: tuple[Side, ...] = ("higher", "lower", "more spread")
ODDS = np.array([0.2, 0.5, 0.8])  # a p-value p is bet on by odds * p ** (odds - 1): 0.2 for large shifts
N_BETS = len(SIDES) * len(ODDS)
SHARES = np.append(np.full(N_BETS, 1 / N_BETS), 0.0)  # of a new unit; the last bet, on nothing, is no use there
FIRST_SHARES = np.full(N_BETS + 1, 1 / (N_BETS + 1))  # of the only one
JUMP = 0.001  # how much of it is spread anew at every photograph, so that a late drift is not too late
MOST_EVIDENCE = 1e100  # more than any alarm needs, and finite
FEWEST = 10  # numbers in a calibration
MOST_PIXELS = 1 << 19  # that are looked at in one picture: 7 ms
STRIPE = 16  # rows that are looked at together in a larger one, and in one of so many
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601

PerBet = Annotated[list[float], Field(min_length=N_BETS + 1, max_length=N_BETS + 1)]


class PictureStatistics(NamedTuple):
    """What a picture is like, whatever it shows: mean, standard deviation and sharpness of its luma, and its size (px).

    In files it is a mapping, see `PictureRecord`.
    """

    brightness: float
    contrast: float
    sharpness: float
    height: float
    width: float


PictureRecord = Annotated[PictureStatistics, PlainSerializer(lambda one: one._asdict())]


def picture_statistics(rgb: NDArray[np.uint8]) -> PictureStatistics:
    """Of (H, W, 3) uint8: brightness and contrast in [0, 255], sharpness the variance of the Laplacian (4 neighbours).

    Of a picture of more than `MOST_PIXELS`, stripes of whole rows are looked at, as many pixels in all, evenly spread
    from top to bottom: the same rows in all pictures of one size. Beyond the edges lies what lies on them.
    """
    height, width = rgb.shape[:2]
    sums, count = np.zeros(4), 0
    for stripe in _stripes(height, width):
        rows = np.clip(np.arange(stripe.start - 1, stripe.stop + 1), 0, height - 1)
        luma = np.pad(rgb[rows] @ LUMA, ((0, 0), (1, 1)), mode="edge")
        inner = luma[1:-1, 1:-1]
        around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
        for place, values in ((0, inner), (2, around - 4 * inner)):
            sums[place : place + 2] += values.sum(dtype=np.float64), np.square(values, dtype=np.float64).sum()
        count += inner.size
    means = sums / count
    variances = np.maximum(means[1::2] - means[::2] ** 2, 0.0)
    numbers = (means[0], np.sqrt(variances[0]), variances[1], height, width)
    return PictureStatistics(*map(float, numbers))


def _stripes(height: int, width: int) -> list[range]:
    """The rows that are looked at: all of a small picture, else stripes of a few."""
    if height * width <= MOST_PIXELS:
        return [range(height)]
    n_rows = min(height, max(1, MOST_PIXELS // width))
    rows_each = max(1, min(STRIPE, n_rows // STRIPE))
    n_stripes = n_rows // rows_each
    tops = [(2 * number + 1) * height // (2 * n_stripes) - rows_each // 2 for number in range(n_stripes)]
    return [range(top, top + rows_each) for top in (min(max(top, 0), height - rows_each) for top in tops)]


def bets(p_values: Floats) -> Floats:
    """(…) p-values to (…, N_BETS + 1), what each bet pays for a unit: 1 on average if they are uniform.

    In the order of `SIDES`, then `ODDS`; the last pays 1 for sure.
    """
    p = np.clip(p_values, 2.0**-53, 1 - 2.0**-53)[..., None]
    high, low = ODDS * p ** (ODDS - 1), ODDS * (1 - p) ** (ODDS - 1)
    return np.concatenate([high, low, (high + low) / 2, np.ones_like(p)], axis=-1)


def first_evidence(rule: Rule, shape: tuple[int, ...] = ()) -> Floats:
    """(…, N_BETS + 1) before the first photograph; its sum is the evidence."""
    start = FIRST_SHARES if rule == "ever" else np.zeros(N_BETS + 1)
    return np.broadcast_to(start, (*shape, N_BETS + 1)).copy()


def grow(evidence: Floats, paid: Floats, rule: Rule) -> Floats:
    """The evidence (…, N_BETS + 1) after a photograph for which `bets` paid this."""
    if rule == "run_length":
        return np.asarray(np.minimum((evidence + SHARES) * paid, MOST_EVIDENCE))
    whole = evidence.sum(axis=-1, keepdims=True)
    return np.asarray(np.minimum(((1 - JUMP) * evidence + JUMP * whole * FIRST_SHARES) * paid, MOST_EVIDENCE))


class DriftSettings(BaseModel):
    """How often a drift monitor may alarm without a drift."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Rule = Field(default="run_length", description="Bound the rate of false alarms, or that of ever having one.")
    run_length: float = Field(
        default=10_000, ge=1, le=1e12, description="At most one false alarm is expected in so many photographs."
    )
    ever: float = Field(default=0.01, gt=0, lt=1, description="The probability of ever having a false alarm.")
    renew_after: int = Field(
        default=100_000,
        ge=1,
        description="With run_length, forget later photographs after so many and compare with the calibration's anew.",
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of the order of ties.")

    def threshold(self, n_streams: int) -> float:
        """The evidence that a stream needs for an alarm."""
        return n_streams * (self.run_length if self.rule == "run_length" else 1 / self.ever)


class DriftAlarm(BaseModel):
    """One alarm: which stream, after which photograph, which way, and where the drift seems to have begun."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str
    side: Side
    at: int = Field(description="Photographs seen, this one included.")
    began: int = Field(description="The first photograph of the run that speaks for a drift, counted from 1.")
    value: float = Field(description="The last photograph's number.")
    usual: tuple[float, float] = Field(description="Where nine of ten were at calibration.")

    def __str__(self) -> str:
        """`drift: brightness is lower since about photograph 204, 34 photographs ago: now 90, usual are 110 to 125`."""
        ago, (low, high) = self.at - self.began + 1, self.usual
        return (
            f"drift: {self.stream} is {self.side} since about photograph {self.began:,}, {ago:,} "
            f"photograph{'s' * (ago != 1)} ago: now {self.value:.4g}, usual are {low:.4g} to {high:.4g}"
        )


class DriftStream(BaseModel):
    """The state of one stream; `calibration` and `later` are sorted."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    calibration: list[float]
    evidence: PerBet
    later: list[float] = []
    runs: PerBet = [0.0] * (N_BETS + 1)  # logarithm of what each bet has won since `began`, at least 0
    began: Annotated[list[int], Field(min_length=N_BETS + 1, max_length=N_BETS + 1)] = [1] * (N_BETS + 1)

    @model_validator(mode="after")
    def _is_sorted(self) -> "DriftStream":
        if self.calibration != sorted(self.calibration) or self.later != sorted(self.later):
            raise ValueError("numbers are not sorted")
        return self

    def p_value(self, value: float, share: float) -> float:
        """In (0, 1]: the rank from above among all so far and itself; `share` in (0, 1] is the place in a tie."""
        places = [
            (bisect.bisect_left(numbers, value), bisect.bisect_right(numbers, value), len(numbers))
            for numbers in (self.calibration, self.later)
        ]
        n_above = sum(n - last for _, last, n in places)
        n_equal = sum(last - first for first, last, _ in places)
        return (n_above + share * (n_equal + 1)) / (sum(n for *_, n in places) + 1)

    def take(self, value: float, share: float, rule: Rule, number: int) -> float:
        """Bet on a number, the `number`-th photograph's, then keep it; the evidence after it."""
        paid = bets(np.array(self.p_value(value, share)))
        bisect.insort(self.later, value)
        self.evidence = grow(np.array(self.evidence), paid, rule).tolist()
        for place, won in enumerate(np.log(paid)):
            if self.runs[place] <= 0:
                self.began[place] = number
            self.runs[place] = max(0.0, self.runs[place] + float(won))
        return float(sum(self.evidence))

    def alarm(self, name: str, number: int, value: float) -> DriftAlarm:
        """What to say of this stream now: the side is that of the bet that owns most."""
        best = int(np.argmax(self.evidence[:N_BETS]))
        low, high = np.quantile(self.calibration, [0.05, 0.95]).tolist()
        side = SIDES[best // len(ODDS)]
        return DriftAlarm(stream=name, side=side, at=number, began=self.began[best], value=value, usual=(low, high))

    def renew(self, rule: Rule) -> None:
        """As after the calibration."""
        self.later = []
        self.forget_evidence(rule)

    def forget_evidence(self, rule: Rule) -> None:
        """Begin to bet anew; what was seen stays."""
        self.evidence = first_evidence(rule).tolist()
        self.runs = [0.0] * (N_BETS + 1)


class DriftMonitor(BaseModel):
    """A sequential test over streams of numbers that goes on where it was when it is saved and read again.

    `calibrate` it with numbers of photographs that are as they should be and that the detector has not learnt from:
    learnt ones score lower, and every new one would seem to drift. After an alarm look at the photographs; if they are
    as they shall be from now on, calibrate anew: later photographs become the norm by themselves, and no second alarm
    may come. With the rule `ever` a stream alarms once.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    settings: DriftSettings
    streams: dict[str, DriftStream] = Field(min_length=1)
    n_seen: int = 0
    alarms: list[DriftAlarm] = []

    @classmethod
    def calibrate(cls, numbers: Mapping[str, Sequence[float]], settings: DriftSettings | None = None) -> "DriftMonitor":
        """A monitor from the numbers of each stream, at least `FEWEST`; their order does not matter.

        Raises:
            SettingsError: no stream, or too few numbers in one.
            ScoreError: a number is not finite.
        """
        settings = settings or DriftSettings()
        if not numbers:
            raise SettingsError("no stream to watch; give the scores of good photographs, at least")
        streams = {}
        for name, values in numbers.items():
            if len(values) < FEWEST:
                raise SettingsError(
                    f"{name}: {len(values)} numbers to compare with; give those of {FEWEST} good photographs or more"
                )
            finite = [_finite(name, value) for value in values]
            streams[name] = DriftStream(calibration=sorted(finite), evidence=first_evidence(settings.rule).tolist())
        return cls(settings=settings, streams=streams)

    def update(self, numbers: Mapping[str, float], *, partly: bool = False) -> list[DriftAlarm]:
        """Take the numbers of one photograph, one for each stream; the alarms that it raises, mostly none.

        With `partly` some may be missing: their streams do not bet on this photograph, which leaves the bound as it is.

        Raises:
            ScoreError: a stream is missing or unknown, or a number is not finite; then nothing is taken.
        """
        if not (numbers.keys() <= self.streams.keys() if partly else numbers.keys() == self.streams.keys()):
            raise ScoreError(f"numbers of {', '.join(numbers)}; this monitor watches {', '.join(self.streams)}")
        finite = {name: _finite(name, value) for name, value in numbers.items()}
        rule, threshold = self.settings.rule, self.settings.threshold(len(self.streams))
        alarmed = {alarm.stream for alarm in self.alarms} if rule == "ever" else set()
        self.n_seen += 1
        raised = []
        for name, stream in [(name, stream) for name, stream in self.streams.items() if name in finite]:
            if rule == "run_length" and len(stream.later) >= self.settings.renew_after:
                stream.renew(rule)
            evidence = stream.take(finite[name], self._share(name), rule, self.n_seen)
            if evidence >= threshold and name not in alarmed:
                raised.append(stream.alarm(name, self.n_seen, finite[name]))
                if rule == "run_length":
                    stream.forget_evidence(rule)
        self.alarms += raised
        return raised

    def evidence(self) -> dict[str, float]:
        """Of each stream, as a share of what an alarm needs."""
        threshold = self.settings.threshold(len(self.streams))
        return {name: sum(stream.evidence) / threshold for name, stream in self.streams.items()}

    def __str__(self) -> str:
        rule = self.settings.rule
        bound = (
            f"at most one false alarm expected in {self.settings.run_length:,.0f} photographs"
            if rule == "run_length"
            else f"a false alarm with probability {self.settings.ever:g} at most"
        )
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.evidence().items())
        last = f"; last alarm at {self.alarms[-1].at:,}: {self.alarms[-1]}" if self.alarms else ""
        n_alarms = f"{len(self.alarms)} alarm{'s' * (len(self.alarms) != 1)}"
        return f"{self.n_seen:,} photographs, {n_alarms} ({bound}); evidence, of what an alarm needs: {shares}{last}"

    def _share(self, name: str) -> float:
        """In (0, 1], by seed, stream and photograph alone, so that a monitor that was saved goes on the same."""
        seed = (self.settings.seed, zlib.crc32(name.encode()), self.n_seen)
        return 1.0 - float(np.random.default_rng(seed).random())


def save_monitor(path: Path | str, monitor: DriftMonitor) -> None:
    """Write the state as JSON, whole or not at all."""
    write_json(Path(path), monitor)


def read_monitor(path: Path | str) -> DriftMonitor:
    """The monitor that `save_monitor` wrote.

    Raises:
        ResultError: it is missing, damaged, or of something else.
    """
    return read_as(DriftMonitor, Path(path), ResultError, kind="drift monitor", way_out="calibrate a new one")


def _finite(name: str, value: float) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ScoreError(f"{name}: {number} is no finite number; leave out photographs that cannot be measured")
    return number
