"""Every method that can be compared, by name; on the command line `name` or `name:option=value:option=value`."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from typing import Any

from tinydefects.datasets.folder import suggest
from tinydefects.detector.settings import Preset, require_pair
from tinydefects.detector.students import Combine
from tinydefects.errors import TinyDefectsError
from tinydefects.methods.anomalib_method import AnomalibMethod, AnomalibOptions
from tinydefects.methods.discriminator import DiscriminatorOptions, DiscriminatorScorer
from tinydefects.methods.fbft import FbftMethod
from tinydefects.methods.gaussian import GaussianOptions, GaussianScorer, PositionGaussianScorer
from tinydefects.methods.imported_maps import ImportedMaps, MapsOptions
from tinydefects.methods.known_methods import (
    ANOMALIB_MODELS,
    EXCLUDED,
    LIBRARY_LICENCE,
    PUBLISHED_INPUTS,
    MethodFacts,
    PublishedInput,
)
from tinydefects.methods.local_contrast import LocalContrastMethod
from tinydefects.methods.memory_bank import (
    AnomalyDinoOptions,
    AnomalyDinoScorer,
    PatchCoreOptions,
    PatchCoreScorer,
)
from tinydefects.methods.method import INPUT, LEARNING, Method, MethodInputs, NoOptions, read_options, read_settings
from tinydefects.methods.patches import PatchMethod, PatchScorer, PatchSource
from tinydefects.methods.procon import ProConOptions, ProConScorer
from tinydefects.methods.retrieval import RadOptions, RadScorer
from tinydefects.methods.subspace import SubspaceOptions, SubspaceScorer
from tinydefects.methods.whitened_bank import WhitenedBankOptions, WhitenedBankScorer

FBFT = (*INPUT, *LEARNING)
WHOLE = ("precision", "blocks")  # of INPUT, for methods that learn from whole images


BANK = "benchmark"  # the extra with the search for neighbours
OF_FBFT = "2407.04092"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodKind(MethodFacts):
    """A method by name: how to build it, beside what whoever chooses wants to know.

    Attributes:
        make: builds it, not yet fitted.
        uses_seed: whether chance plays a part; without, the first seed is enough.
        uses_teacher: whether it sees the shared teacher's features; without, the resolution plays no part.
        shares_features: whether those features are everybody's; not so for a geometry of its own.
        students: name of the students it trains, which all methods of that name use; empty without any to share.
        options: frozen dataclass of what may stand behind the name.
        settings: names of `DetectorSettings` that may stand there, too.
        preset: of those settings.
        published_input: of the teacher; None where it sees none, or no size was published.
        argument: the option that is written without its name, `maps:FOLDER`; empty if there is none.
        models: what is known of single values of that option, by value.
    """

    make: Callable[[MethodInputs], Method]
    uses_seed: bool
    uses_teacher: bool
    shares_features: bool = True
    students: str = ""
    options: type[Any] = NoOptions
    settings: tuple[str, ...] = ()
    preset: Preset = "default"
    published_input: PublishedInput | None = None
    argument: str = ""
    models: Mapping[str, MethodFacts] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, object]:
        """What each option is if it is left out, by name; the argument has no default."""
        own = {one.name: one.default for one in fields(self.options) if one.default is not MISSING}
        resolved = read_settings({}, preset=self.preset)
        return own | {name: getattr(resolved, name) for name in self.settings}


def list_methods() -> dict[str, tuple[MethodFacts, MethodKind | None]]:
    """Every name as it is written on the command line, with what is known of it; without a kind it is excluded.

    Models of anomalib have names of their own, `anomalib:Padim`, and the kind that they share.
    """
    found: dict[str, tuple[MethodFacts, MethodKind | None]] = {}
    for name, kind in METHODS.items():
        found[f"{name}:{kind.argument.upper()}" if kind.argument else name] = kind, kind
        found |= {f"{name}:{model}": (facts, kind) for model, facts in kind.models.items()}
    return found | {name: (facts, None) for name, facts in EXCLUDED.items()}


def parse_method(text: str) -> tuple[MethodKind, dict[str, str]]:
    """The method that a text names, and its options as `MethodInputs.options` takes them, checked.

    Raises:
        TinyDefectsError: no such method (the message names the near one), or an option it does not have.
    """
    name, *parts = text.split(":")
    if name in EXCLUDED:
        raise TinyDefectsError(f"{name}: {EXCLUDED[name].excluded}")
    if name not in METHODS:
        raise TinyDefectsError(f"{name}: no such method; {suggest(name, METHODS)}")
    kind = METHODS[name]
    arguments = [part for part in parts if not _is_option(part)]
    argument = ":".join(arguments)
    if bool(argument) != bool(kind.argument) or (arguments and not kind.argument):
        expected = f"{name}:{kind.argument.upper()}" if kind.argument else f"{name} or {name}:option=value"
        raise TinyDefectsError(f"{text}: this method is written {expected}")
    options = {kind.argument: argument} if kind.argument else {}
    for option, _, value in (part.partition("=") for part in parts if _is_option(part)):
        if option in options:
            raise TinyDefectsError(f"{text}: {option} is given twice; leave one out")
        options[option] = value
    try:
        read_options(kind.options, options, beside=kind.settings)
        named = {name: text for name, text in options.items() if name in kind.settings}
        settings = read_settings(named, preset=kind.preset)
        if kind.settings == FBFT:
            require_pair(settings.blocks)
    except TinyDefectsError as error:
        raise TinyDefectsError(f"{text}: {error}") from error
    return kind, options


def own_size(text: str) -> int:
    """The side in pixels of the input that a method was published with; 0 where none is known, or options cut tiles.

    Raises:
        TinyDefectsError: as `parse_method`.
    """
    kind, options = parse_method(text)
    return 0 if "tile" in options or kind.published_input is None else kind.published_input.px


def _is_option(part: str) -> bool:
    """`coreset=0.1`, unlike the rest of a path that has a colon or an equals sign in it."""
    name, equals, _ = part.partition("=")
    return bool(equals) and name.isidentifier()


def _fbft(inputs: MethodInputs, *, preset: Preset = "default", combine: Combine = "product") -> Method:
    return FbftMethod(inputs, preset=preset, combine=combine)


def _patchcore(inputs: MethodInputs, *, approximate: bool = False) -> Method:
    options = read_options(PatchCoreOptions, inputs.options, beside=INPUT)
    return _on_patches(PatchCoreScorer(options, seed=inputs.seed, approximate=approximate), inputs)


def _anomalydino(inputs: MethodInputs) -> Method:
    options = read_options(AnomalyDinoOptions, inputs.options, beside=WHOLE)
    return _on_patches(AnomalyDinoScorer(options, seed=inputs.seed), inputs)


def _mh_patchcore(inputs: MethodInputs) -> Method:
    return _on_patches(WhitenedBankScorer(read_options(WhitenedBankOptions, inputs.options, beside=INPUT)), inputs)


def _procon(inputs: MethodInputs) -> Method:
    options = read_options(ProConOptions, inputs.options, beside=INPUT)
    return _on_patches(ProConScorer(options, seed=inputs.seed), inputs)


def _rad(inputs: MethodInputs) -> Method:
    return _on_patches(RadScorer(read_options(RadOptions, inputs.options, beside=WHOLE)), inputs)


def _gaussian(inputs: MethodInputs) -> Method:
    options = read_options(GaussianOptions, inputs.options, beside=INPUT)
    source = PatchSource(inputs)
    if not options.per_position:
        return PatchMethod(GaussianScorer(options), source)
    if not source.settings.is_one_pass:
        raise TinyDefectsError("per_position=true compares the same place of whole images: leave out tile and stride")
    return PatchMethod(PositionGaussianScorer(options), source)


def _noise_discriminator(inputs: MethodInputs) -> Method:
    options, source = read_options(DiscriminatorOptions, inputs.options, beside=INPUT), PatchSource(inputs)
    return PatchMethod(DiscriminatorScorer(options, seed=inputs.seed, device=source.teacher.device), source)


def _local_contrast(inputs: MethodInputs) -> Method:
    return LocalContrastMethod(inputs.clock)


def _anomalib(inputs: MethodInputs) -> Method:
    return AnomalibMethod(inputs, read_options(AnomalibOptions, inputs.options))


def _maps(inputs: MethodInputs) -> Method:
    return ImportedMaps(inputs, read_options(MapsOptions, inputs.options))


def _subspace(inputs: MethodInputs) -> Method:
    return _on_patches(SubspaceScorer(read_options(SubspaceOptions, inputs.options, beside=INPUT)), inputs)


def _on_patches(scorer: PatchScorer, inputs: MethodInputs) -> Method:
    return PatchMethod(scorer, PatchSource(inputs))


METHODS: dict[str, MethodKind] = {
    "fbft": MethodKind(
        make=_fbft,
        summary="forward-backward feature transfer, the method of this package",
        paper=OF_FBFT,
        uses_seed=True,
        uses_teacher=True,
        students="fbft",
        settings=FBFT,
        published_input=PUBLISHED_INPUTS["fbft"],
    ),
    "fbft_v0.1": MethodKind(
        make=partial(_fbft, preset="v0.1"),
        summary="the same as in version 0.1: 50 epochs of the students instead of 200 steps, and maps blurred",
        paper=OF_FBFT,
        uses_seed=True,
        uses_teacher=True,
        preset="v0.1",
        settings=FBFT,
        published_input=PUBLISHED_INPUTS["fbft"],
    ),
    "fbft_published": MethodKind(
        make=partial(_fbft, preset="published"),
        summary="the same as published: square inputs, darkened borders, learning rate 1e-4",
        paper=OF_FBFT,
        uses_seed=True,
        uses_teacher=True,
        shares_features=False,
        preset="published",
        settings=FBFT,
        published_input=PUBLISHED_INPUTS["fbft"],
    ),
    "fbft_forward": MethodKind(
        make=partial(_fbft, combine="forward"),
        summary="ablation: the forward student alone",
        paper=OF_FBFT,
        uses_seed=True,
        uses_teacher=True,
        students="fbft",
        settings=FBFT,
        published_input=PUBLISHED_INPUTS["fbft"],
    ),
    "fbft_backward": MethodKind(
        make=partial(_fbft, combine="backward"),
        summary="ablation: the backward student alone",
        paper=OF_FBFT,
        uses_seed=True,
        uses_teacher=True,
        students="fbft",
        settings=FBFT,
        published_input=PUBLISHED_INPUTS["fbft"],
    ),
    "fbft_sum": MethodKind(
        make=partial(_fbft, combine="sum"),
        summary="ablation: the sum of both distances instead of their product",
        paper=OF_FBFT,
        uses_seed=True,
        uses_teacher=True,
        students="fbft",
        settings=FBFT,
        published_input=PUBLISHED_INPUTS["fbft"],
    ),
    "patchcore": MethodKind(
        make=_patchcore,
        summary="distance to the nearest patch of a memory bank, exact",
        paper="2106.08265",
        extra=BANK,
        uses_seed=True,
        uses_teacher=True,
        options=PatchCoreOptions,
        settings=INPUT,
        published_input=PUBLISHED_INPUTS["patchcore"],
    ),
    "patchcore_hnsw": MethodKind(
        make=partial(_patchcore, approximate=True),
        summary="the same, the nearest patch found by walking a graph (HNSW)",
        paper="2106.08265",
        extra=BANK,
        uses_seed=True,
        uses_teacher=True,
        options=PatchCoreOptions,
        settings=INPUT,
        published_input=PUBLISHED_INPUTS["patchcore"],
    ),
    "anomalydino": MethodKind(
        make=_anomalydino,
        summary="cosine distance to the nearest patch of a few normal images",
        paper="2405.14529",
        extra=BANK,
        uses_seed=True,
        uses_teacher=True,
        options=AnomalyDinoOptions,
        settings=WHOLE,
        published_input=PUBLISHED_INPUTS["anomalydino"],
    ),
    "mh_patchcore": MethodKind(
        make=_mh_patchcore,
        summary="Mahalanobis distance to the nearest patch of a bank built image by image (MH-PatchCore)",
        paper="2605.27748",
        extra=BANK,
        uses_seed=False,
        uses_teacher=True,
        options=WhitenedBankOptions,
        settings=INPUT,
        published_input=PUBLISHED_INPUTS["mh_patchcore"],
    ),
    "procon": MethodKind(
        make=_procon,
        summary="what of a patch its neighbours in several banks cannot make up (ProCon)",
        paper="2607.04894",
        extra=BANK,
        uses_seed=True,
        uses_teacher=True,
        options=ProConOptions,
        settings=INPUT,
        published_input=PUBLISHED_INPUTS["procon"],
    ),
    "rad": MethodKind(
        make=_rad,
        summary="cosine distance to patches near the same place of training images alike (RAD)",
        paper="2601.22763",
        uses_seed=False,
        uses_teacher=True,
        options=RadOptions,
        settings=WHOLE,
        published_input=PUBLISHED_INPUTS["rad"],
    ),
    "gaussian": MethodKind(
        make=_gaussian,
        summary="Mahalanobis distance to one Gaussian of all normal patches",
        paper="2011.08785",
        uses_seed=False,
        uses_teacher=True,
        options=GaussianOptions,
        settings=INPUT,
        published_input=PUBLISHED_INPUTS["gaussian"],
    ),
    "subspace": MethodKind(
        make=_subspace,
        summary="PCA of normal patches; what of a patch lies outside its subspace",
        paper="2602.23013",
        uses_seed=False,
        uses_teacher=True,
        options=SubspaceOptions,
        settings=INPUT,
        published_input=PUBLISHED_INPUTS["subspace"],
    ),
    "noise_discriminator": MethodKind(
        make=_noise_discriminator,
        summary="small network that tells normal patches from noised ones, after SimpleNet and SuperSimpleNet",
        paper="2303.15662, 2408.03143",
        uses_seed=True,
        uses_teacher=True,
        options=DiscriminatorOptions,
        settings=INPUT,
        published_input=PUBLISHED_INPUTS["noise_discriminator"],
    ),
    "local_contrast": MethodKind(
        make=_local_contrast,
        summary="learns nothing: gray value against its surroundings",
        uses_seed=False,
        uses_teacher=False,
    ),
    "anomalib": MethodKind(
        make=_anomalib,
        summary="a model of anomalib by its class name, trained as it comes: anomalib:Padim",
        licence=LIBRARY_LICENCE,
        extra="anomalib",
        fetches="what its model starts from",
        from_file="see the single models",
        models=ANOMALIB_MODELS,
        uses_seed=True,
        uses_teacher=False,
        options=AnomalibOptions,
        argument="model",
    ),
    "maps": MethodKind(
        make=_maps,
        summary="anybody's maps from disk: maps:FOLDER",
        uses_seed=False,
        uses_teacher=False,
        options=MapsOptions,
        argument="folder",
    ),
}
