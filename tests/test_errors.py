"""Errors travel: what a worker raises must arrive whole in the process that reports it."""

import pickle

from tinydefects.errors import MissingExtraError


def test_a_missing_extra_arrives_from_another_process_with_its_message():
    error = MissingExtraError("a memory bank", "benchmark")
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is MissingExtraError
    assert str(arrived) == "a memory bank needs the extra 'benchmark': pip install '.[benchmark]' in the checkout"
