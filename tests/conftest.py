"""What makes the whole run quicker and changes no test."""

import gc
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's job in the background, and all that it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.disable()  # while modules are imported it looks for rubbish among what stays, a third of the time


def pytest_collection_finish():
    gc.freeze()
    gc.enable()
