"""A process that dies in the midst of its work, at every place where it touches a file."""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

TOUCHES_FILES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock"}
KILLED = 9


def killed_at_each_step(work: Callable[[], object], *, most: int = 300) -> Iterator[int]:
    """Yield after each of the deaths: just before the first time that `work` touches a file, the second, and so on.

    Ends with the run that comes to its end. Nothing is cleaned up by a dying process, as after SIGKILL.
    """
    for step in range(most):
        with warnings.catch_warnings():  # Python warns of threads that a fork leaves behind; the work needs none
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _work_until(step, work)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in {0, KILLED}, f"step {step}: the work itself failed"
        if code == 0:
            assert step, "nothing was killed"
            return
        yield step
    raise AssertionError(f"more than {most} steps")


def _work_until(step: int, work: Callable[[], object]) -> None:
    left = step

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in TOUCHES_FILES:
            if left == 0:
                os._exit(KILLED)
            left -= 1

    sys.addaudithook(count)
    signal.alarm(60)  # rather an end than a test that hangs
    try:
        work()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)
