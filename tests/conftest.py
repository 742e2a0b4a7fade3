"""What makes the whole run quicker and changes no test."""

import gc
import logging

gc.disable()  # while modules are imported, it looks for rubbish among what stays: a third of the time


def pytest_collection_finish():
    gc.freeze()
    gc.enable()
    for name, logger in logging.root.manager.loggerDict.items():
        # pytest hangs handlers on every logger that does not propagate, three times a test: torch has fifty, all silent
        if name.startswith("torch.") and isinstance(logger, logging.Logger) and logger.level == logging.NOTSET:
            logger.propagate = True
