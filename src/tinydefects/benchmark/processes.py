"""Worker processes that die alone: each has a pool of its own, so that one that is killed takes no other with it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InThisProcess(Executor):
    """Runs what is submitted at once, where it is submitted."""

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future that is done already."""
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class IsolatedProcesses(Executor):
    """As many processes as there are tasks at a time, kept for the next task; a dead one is replaced.

    A future raises BrokenProcessPool when its own process died. Left with an exception (Ctrl-C among them), the
    executor ends its processes at once; they end by themselves when this one is killed.
    """

    def __init__(self) -> None:
        self._idle: list[ProcessPoolExecutor] = []
        self._all: list[ProcessPoolExecutor] = []
        self._processes: list[BaseProcess] = []
        self._lock = threading.Lock()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of `function(*args, **kwargs)` in a process of its own; all must be picklable."""
        outer: Future[T] = Future()
        outer.set_running_or_notify_cancel()
        pool, inner = self._start(partial(function, *args, **kwargs))
        inner.add_done_callback(lambda future: self._settle(pool, outer, future))
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes once they have finished what they do."""
        for pool in self._all:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for process in self._processes:
                process.terminate()
        self.shutdown()

    def _start(self, task: Callable[[], T]) -> tuple[ProcessPoolExecutor, Future[T]]:
        while True:
            with self._lock:
                pool = self._idle.pop() if self._idle else self._new_pool()
            before = set(multiprocessing.active_children())
            try:
                future = pool.submit(task)  # starts the process where there is none yet
            except BrokenProcessPool:  # it died while it had nothing to do
                continue
            self._processes += set(multiprocessing.active_children()) - before
            return pool, future

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a forked copy of torch's threads can hang
        pool = ProcessPoolExecutor(1, mp_context=context, initializer=_follow_parent)
        self._all.append(pool)
        return pool

    def _settle(self, pool: ProcessPoolExecutor, outer: Future[T], inner: Future[T]) -> None:
        """Give the process back before the outcome is known, so that the next task finds it."""
        error = inner.exception()
        if not isinstance(error, BrokenProcessPool):
            with self._lock:
                self._idle.append(pool)
        if error is not None:
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait_for_the_end() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
