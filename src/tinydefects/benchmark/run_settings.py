"""Run configuration: folders, device, threads, and what is compared; read from options, a file, or made in Python."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError
from yaml import BaseLoader, load

from tinydefects.data.masks import Doubt
from tinydefects.data.walk import real_path
from tinydefects.datasets.folder import suggest
from tinydefects.detector.settings import DEFAULT_TEACHER, LEFT_OUT
from tinydefects.errors import TinyDefectsError
from tinydefects.limits import MOST_GB, MOST_PIXELS, MOST_SEED

CostChoice = Literal["off", "quick", "mvtec"]
Allowed = Literal["unmarked", Doubt]
OWN = "own"  # among resolutions: each method's published input
LOCAL = "local"  # the cluster of this machine
MOST_PROCESSES = 1024
MOST_DIGITS = 6  # of a number of shards
DATA: Any = "data"  # text, which the model makes a path of as of all others
RESULTS: Any = "results"
WHERE, HOW = "Where it lies", "How it runs"
SUITES = Path(__file__).parent / "suites"  # NAME-VERSION.yaml, a file for --config


def find_suite(name: str) -> str:
    """The suite of this name and version, `tiny-1`; of several versions the newest, if none is named.

    Raises:
        TinyDefectsError: there is none; the message names those that are.
    """
    known = sorted((path.stem for path in SUITES.glob("*.yaml")), key=lambda one: int(one.rpartition("-")[2]))
    versions = [one for one in known if name in (one, one.rpartition("-")[0])]
    if not versions:
        raise TinyDefectsError(f"--suite {name}: no such suite; {suggest(name, known)}")
    return versions[-1]


def read_suite(name: str) -> dict[str, Any]:
    """The settings of a suite by name, as text and lists of text."""
    content: dict[str, Any] = load((SUITES / f"{name}.yaml").read_bytes(), Loader=BaseLoader)
    return content


def parse_whole_numbers(option: str, text: str, *, least: int, most: int, beside: str = "") -> tuple[int, ...]:
    """Whole numbers between commas, each once; `beside` is what the message says may be among them, too.

    Raises:
        TinyDefectsError: something else, or a number below `least` or above `most`.
    """
    words = parse_words(option, text)
    if not all(word.isdecimal() and len(word) < 20 and least <= int(word) <= most for word in words):
        raise TinyDefectsError(f"{option} {text}: write whole numbers from {least} to {most} between commas{beside}")
    return tuple(dict.fromkeys(int(word) for word in words))


def parse_resources(text: str) -> dict[str, float]:
    """What a job takes of a worker, `GPU=1,CPU=2`; nothing for an empty text.

    Raises:
        TinyDefectsError: not names with positive amounts.
    """
    pairs = [word.partition("=") for word in parse_words("--resources", text)] if text else []
    amounts = {name.strip(): amount.strip() for name, _, amount in pairs}
    if not all(
        name and amount.replace(".", "", 1).isdecimal() and 0 < float(amount) < 1e9 for name, amount in amounts.items()
    ):
        raise TinyDefectsError(f"--resources {text}: write names with amounts between commas, such as GPU=1")
    return {name: float(amount) for name, amount in amounts.items()}


def parse_shard(text: str) -> tuple[int, int]:
    """Which part of how many, `3/8`; (1, 1) for an empty text.

    Raises:
        TinyDefectsError: not two whole numbers, or a part beyond the last.
    """
    number, _, total = (text or "1/1").partition("/")
    if not all(word.isdecimal() and 0 < len(word) <= MOST_DIGITS for word in (number, total)) or not (
        1 <= int(number) <= int(total)
    ):
        raise TinyDefectsError(f"--shard {text}: write which part of how many, the first is 1: 1/8 to 8/8")
    return int(number), int(total)


def parse_words(option: str, text: str) -> list[str]:
    """What stands between commas.

    Raises:
        TinyDefectsError: nothing does, in one place at least.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise TinyDefectsError(f"{option} {text!r}: write one or several between commas")
    return words


def _with_commas(value: Any) -> Any:  # noqa: ANN401 - whatever a file holds
    """A list as it is written on the command line."""
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _resolutions(value: object) -> tuple[int | str, ...]:
    text = str(_with_commas(value))
    words = parse_words("--resolutions", text)
    numbers = ",".join(word for word in words if word != OWN)
    also = f", '{OWN}' among them"
    sides = parse_whole_numbers("--resolutions", numbers, least=16, most=MOST_PIXELS, beside=also) if numbers else ()
    return (*sides, OWN) if OWN in words else sides


def _seeds(value: object) -> tuple[int, ...]:
    return parse_whole_numbers("--seeds", str(_with_commas(value)), least=0, most=MOST_SEED)


def _features(value: object, told: ValidationInfo) -> object:
    return str(told.data["out"] / "features") if value is None and "out" in told.data else value


def _resources(text: str) -> str:
    parse_resources(text)
    return text


def _shard(text: str) -> str:
    parse_shard(text)
    return text


def _shown(panel: str, **more: str) -> dict[str, Any]:
    return {"panel": panel, **more}


class RunSettings(BaseModel):
    """Run configuration of jobs: folders, device, threads; it decides no number.

    Folders are real paths, so that processes elsewhere find them.

    Attributes:
        root: folder of the datasets; out: of the results; features: of what the teacher says of each image.
        features_limit_gb: bound on that folder, 1 GB = 1e9 bytes.
        keep_maps: whether the anomaly maps of the test split are written too.
        allowed: doubts about masks that are no mistake, see `masks.Doubt`, and defective images without a mask.
        teacher_weights: a file instead of the hub.
        workers: processes on this machine; None is 1.
        cluster: `local`, or where a dask scheduler listens.
        resources: what a job takes of a cluster's workers, `GPU=1`.
        shard: which part of the jobs, `3/8`; all when empty.
        threads: of every numeric library in a job.
        cost: whether speed and memory are measured, of the first seed: `off`, `quick`, or `mvtec` (its 1,000 passes).
        device: None is the best one present.

    Raises:
        ValidationError: a value out of its bounds, or two that exclude each other.
        TinyDefectsError: resources or a shard that are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    root: Annotated[Path, AfterValidator(real_path)] = Field(
        default=DATA, description="Folder that holds the datasets.", json_schema_extra=_shown(WHERE)
    )
    out: Annotated[Path, AfterValidator(real_path)] = Field(
        default=RESULTS,
        description="Folder of results; one protocol a folder.",
        json_schema_extra=_shown(WHERE),
    )
    features: Annotated[Path, BeforeValidator(_features), AfterValidator(real_path)] = Field(
        default=LEFT_OUT,
        description="Keep teacher features here; OUT/features when left out.",
        json_schema_extra=_shown(WHERE),
    )
    features_limit_gb: float = Field(
        default=20.0,
        ge=0,
        le=MOST_GB,
        description="Refuse to write more features than this.",
        json_schema_extra=_shown(WHERE),
    )
    keep_maps: bool = Field(default=False, description="Write the anomaly maps too.", json_schema_extra=_shown(WHERE))
    allowed: tuple[Allowed, ...] = Field(
        default=(),
        description="What looks like a mistake and is none: defective images without a mask (they count for image "
        "metrics), or masks that are refused. Repeatable.",
        json_schema_extra=_shown(WHERE, flag="--allow"),
    )
    teacher_weights: Annotated[Path, AfterValidator(real_path)] | None = Field(
        default=None,
        description="Teacher weights on disk: .safetensors, or the authors' .pth.",
        json_schema_extra=_shown(WHERE),
    )
    workers: int | None = Field(
        default=None,
        gt=0,
        le=MOST_PROCESSES,
        description="Processes on this machine; 1 when left out.",
        json_schema_extra=_shown(HOW),
    )
    cluster: str | None = Field(
        default=None,
        description="'local', or where a dask scheduler listens, instead of --workers.",
        json_schema_extra=_shown(HOW),
    )
    resources: Annotated[str, BeforeValidator(_with_commas), AfterValidator(_resources)] = Field(
        default="",
        description="What a job takes of a cluster's workers, e.g. 'GPU=1'; workers must declare it.",
        json_schema_extra=_shown(HOW, metavar="NAME=AMOUNT"),
    )
    shard: Annotated[str, AfterValidator(_shard)] = Field(
        default="",
        description="Take a part of the jobs alone, e.g. '3/8' of eight, one a task of a job array.",
        json_schema_extra=_shown(HOW, metavar="PART/PARTS"),
    )
    threads: int = Field(
        default=1,
        gt=0,
        le=MOST_PROCESSES,
        description="Threads of a job; part of the record.",
        json_schema_extra=_shown(HOW),
    )
    cost: CostChoice = Field(
        default="quick",
        description="Time the first seed of each method; 'mvtec' is 1,000 + 1,000 passes.",
        json_schema_extra=_shown(HOW),
    )
    device: str | None = Field(
        default=None,
        description="cpu, cuda, cuda:1, mps; the best one present when left out.",
        json_schema_extra=_shown(HOW),
    )

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if self.workers is not None and self.cluster is not None:
            raise PydanticCustomError(
                "contradiction",
                "--workers and --cluster exclude each other: one is this machine's, the other dask's",
            )
        if self.resources and self.cluster is None:
            raise PydanticCustomError(
                "contradiction",
                "--resources is for the workers of a cluster: give --cluster, or leave it out",
            )
        return self

    @property
    def n_workers(self) -> int:
        """Jobs at a time on this machine."""
        return self.workers or (os.cpu_count() if self.cluster == LOCAL else None) or 1

    @property
    def n_beside(self) -> int:
        """Jobs that run on the same machine at the same time; elsewhere nobody knows: not alone."""
        n_known = self.n_workers - 1 if self.cluster in {None, LOCAL} else 1
        return max(n_known, 1) if self.shard else n_known


class BenchmarkSettings(RunSettings):
    """Run configuration of a benchmark: what is compared, beside where and how.

    Attributes:
        suite: a protocol by name, of which all is taken that is not given; with its version once it is read.
        methods: between commas, with their options behind colons; needed without a suite.
        categories: addresses between commas; needed without a suite.
        resolutions: long sides of the teacher's input in pixels, common to all methods; `own` among them is the size
            that each method was published with.
        seeds: methods without chance run with the first.
        teacher: `builtin`, or any ViT of timm.
        option: options of loaders, `[DATASET.]NAME=VALUE`.
    """

    suite: str = Field(
        default="",
        description="A protocol by name: tiny (a minute), offline (drawn parts) or paper (MVTec AD and VisA); "
        "'tiny-1' is one version. Options given beside it win.",
        json_schema_extra={"metavar": "NAME"},
    )
    methods: Annotated[str, BeforeValidator(_with_commas)] = Field(
        default="", description="Between commas, 'all' for every one; options behind colons: patchcore:coreset=0.01."
    )
    categories: Annotated[str, BeforeValidator(_with_commas)] = Field(
        default="", description="Addresses between commas, e.g. 'mvtec_ad/*,visa/pcb1'."
    )
    resolutions: Annotated[tuple[int | Literal["own"], ...], BeforeValidator(_resolutions)] = Field(
        default=(1036,),
        description="Long sides of the teacher's input in pixels, between commas; 'own' among them is the size that "
        "each method was published with.",
        json_schema_extra={"metavar": "PX,…", "as_text": True},
    )
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] = Field(
        default=(0,),
        description="Between commas; methods without chance run with the first.",
        json_schema_extra={"metavar": "SEED,…", "as_text": True},
    )
    teacher: str = Field(default=DEFAULT_TEACHER, description="Any timm ViT, or 'builtin'; all methods share it.")
    option: tuple[str, ...] = Field(
        default=(),
        description="Option of a dataset's loader, e.g. synthetic.size=384; without a dataset, of all that know it. "
        "Repeatable.",
        json_schema_extra=_shown(WHERE, metavar="[DATASET.]NAME=VALUE"),
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_suite(cls, given: Any) -> Any:  # noqa: ANN401 - whatever is validated
        """What the suite says stands behind what is given, and before the defaults."""
        if not isinstance(given, Mapping) or not given.get("suite"):
            return given
        name = find_suite(str(given["suite"]))
        return {**read_suite(name), **given, "suite": name}

    @property
    def common_resolutions(self) -> tuple[int, ...]:
        """Those of all methods, without `own`."""
        return tuple(one for one in self.resolutions if isinstance(one, int))

    @model_validator(mode="after")
    def _require_subject(self) -> Self:
        missing = [f"--{name}" for name in ("methods", "categories") if not getattr(self, name)]
        if missing:
            raise PydanticCustomError("missing", f"give {' and '.join(missing)}, or a --suite")
        return self
