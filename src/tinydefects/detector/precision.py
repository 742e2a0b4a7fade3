"""In which numbers matrix products are computed: float32 by the quickest exact route, or 16 bits.

On x86 torch multiplies float32 through MKL. oneDNN can be twice as quick and as exact, but torch opens that road only
under the name of bfloat16, and processors with bfloat16 matrix units (AMX) then do round. So the road is tried once on
a small product and taken only where the product stays float32. Nothing outside the block is changed.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from tinydefects.detector.settings import Precision

SIXTEEN_BITS: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
MATMUL: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # put there when torch is imported
FLOAT32_ERROR = 1e-5  # relative, of a product of 512 terms: float32 stays below 1e-6, tf32 is at 5e-4, bfloat16 at 3e-3


@contextlib.contextmanager
def arithmetic(precision: Precision, device: str) -> Iterator[None]:
    """Products inside the block are computed as asked for; results of autocast operations are then 16 bits wide.

    `highest` is torch as it comes; `float32` takes the quicker road where the products of this processor stay float32
    on it; `bfloat16` and `float16` are torch's autocast: weights and norms stay float32, and on processors without
    16-bit matrix units attention does, too.
    """
    kind = torch.device(device).type
    with contextlib.ExitStack() as block:
        if precision in SIXTEEN_BITS:
            block.enter_context(torch.autocast(kind, dtype=SIXTEEN_BITS[precision]))
            if kind == "cpu" and onednn_is_exact():
                block.enter_context(_Float32Attention())
        elif precision == "float32" and kind == "cpu" and onednn_is_exact():
            block.enter_context(_ONEDNN.open())
        yield


@cache
def onednn_is_exact() -> bool:
    """Whether float32 products through oneDNN are float32 on this processor; tried once, a few milliseconds."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 512, 512, generator=generator)
    with _ONEDNN.open():
        product = left @ right
    exact = left.double() @ right.double()
    return bool((product - exact).norm() < FLOAT32_ERROR * exact.norm())


class _OneDnnRoad:
    """torch knows one setting a process: the first block to want the road opens it, the last one to leave restores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._before = "none"

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            if self._blocks == 0:
                self._before = MATMUL.fp32_precision
                MATMUL.fp32_precision = "bf16"
            self._blocks += 1

    def _leave(self) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                MATMUL.fp32_precision = self._before


_ONEDNN = _OneDnnRoad()


class _Float32Attention(TorchFunctionMode):
    """Attention between 16-bit products, in float32 through oneDNN: whoever calls it notices nothing but the time."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value, *others = args
        with torch.autocast("cpu", enabled=False), _ONEDNN.open():
            wide = func(query.float(), key.float(), value.float(), *others, **(kwargs or {}))
        return wide.to(query.dtype)
