"""What makes the whole run quicker and changes no test."""

import gc

gc.disable()  # while modules are imported it looks for rubbish among what stays, a third of the time


def pytest_collection_finish():
    gc.freeze()
    gc.enable()
