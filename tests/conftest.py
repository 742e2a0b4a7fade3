"""What makes the whole run quicker, leaves every test the same Ctrl-C, and lets a busy machine take its time."""

import gc
import signal

import hypothesis
import pytest

hypothesis.settings.register_profile("unhurried", deadline=None)  # 200 ms are soon over on a busy machine
hypothesis.settings.load_profile("unhurried")

gc.disable()  # while modules are imported it looks for rubbish among what stays, a third of the time


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def ctrl_c():
    """A command that is stopped ignores further signals to its end, and here the process lives on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)
