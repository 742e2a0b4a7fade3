"""A pass recorded once for each shape and replayed: one command to the GPU where there were some hundreds.

A data-centre GPU is done with one image sooner than a processor has told it what to do. A CUDA graph keeps all commands
of a pass; what they read and write stays where it was when they were recorded.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Recorded = tuple[torch.cuda.CUDAGraph, Tensor, Tensor]  # with its input and its result
WARM_UPS = 3  # before the recording: libraries choose their kernels and take their memory


class Replay:
    """A function of one tensor on a GPU, recorded at the first input of a shape; anywhere else it is called as it is.

    The function must not wait for the GPU, and must do the same for every input of a shape. `forget` frees the memory.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function
        self._recorded: dict[torch.Size, Recorded] = {}

    @torch.inference_mode()
    def __call__(self, given: Tensor) -> Tensor:
        """What the function makes of it; on a GPU valid until the next input of its shape."""
        if not given.is_cuda:
            return self.function(given)
        if given.shape not in self._recorded:
            self._recorded[given.shape] = self._record(given)
        graph, read, written = self._recorded[given.shape]
        read.copy_(given, non_blocking=True)
        graph.replay()
        return written

    def forget(self) -> None:
        """All recordings; the next input of any shape is recorded anew."""
        self._recorded.clear()

    def _record(self, given: Tensor) -> Recorded:
        read = given.clone()
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                self.function(read)
        here.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            written = self.function(read)
        return graph, read, written
