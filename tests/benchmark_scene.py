"""A scene that a benchmark runs on in a second, and methods that misbehave on purpose."""

from functools import partial
from types import MappingProxyType

import numpy as np

from tinydefects.benchmark.run_settings import RunSettings
from tinydefects.data.sample import Prediction
from tinydefects.methods import catalog
from tinydefects.results.protocol import OF_EACH_CATEGORY, EvaluationProtocol, list_jobs

SCENE = {"size": 96, "n_train": 4, "n_good": 4, "n_defect": 6, "seed": 0}
CATEGORY = "synthetic/brushed_metal"
PROTOCOL = EvaluationProtocol(
    categories=(CATEGORY,),
    options={"synthetic": SCENE},
    resolutions=(96,),
    teacher="builtin",
    evaluation=OF_EACH_CATEGORY.changed(n_resamples=50),
)


class StandIn:
    """Scores by gray value; `fit` and `predict` first do what the test wants, with their samples."""

    settings = MappingProxyType({"kind": "stand-in"})
    size_bytes = 0

    def __init__(self, inputs, *, on_fit, on_predict):
        self._on_fit, self._on_predict = on_fit, on_predict
        self._clock = inputs.clock

    def fit(self, samples):
        self._on_fit(samples)

    def predict(self, samples):
        self._on_predict(samples)
        gray = [sample.image().mean(axis=2, dtype=np.float32) for sample in samples]
        return [Prediction(one, float(one.max())) for one in gray]


def do_nothing(samples):
    """What a well-behaved method does besides."""


def add_stand_in(monkeypatch, name="stand_in", *, on_fit=do_nothing, on_predict=do_nothing, uses_seed=False):
    """A method without teacher, known by that name for the length of a test."""
    make = partial(StandIn, on_fit=on_fit, on_predict=on_predict)
    kind = catalog.MethodKind(make=make, summary="for a test", uses_seed=uses_seed, uses_teacher=False)
    monkeypatch.setitem(catalog.METHODS, name, kind)
    return name


def settings_in(folder, **changes):
    given = {"root": folder / "data", "out": folder / "out", "features": folder / "features", "cost": "off"}
    return RunSettings(**given | changes)


def jobs_for(*peers, protocol=PROTOCOL):
    teacherless = {peer for peer in peers if not catalog.parse_method(peer)[0].uses_teacher}
    seedless = {peer for peer in peers if not catalog.parse_method(peer)[0].uses_seed}
    return list_jobs(protocol, peers, seedless=seedless, teacherless=teacherless)
