"""Whether a CPU computes faster in bfloat16 than in float32: timed, because no name of a processor tells.

One with AVX512-BF16 or AMX trains SmolLM2 twice as fast in bfloat16; one without is 70 to 150 times slower in it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# On narrow bases what surrounds the products takes most of the time: a step of the starter (192) is 1.3 times as fast
# in bfloat16, one of SmolLM2 (576) 1.4 times on two cores and 1.9 times on one. Not worth the rounding in a toy.
SMALLEST_WIDTH = 512
# A product has to gain so much before it is worth the rounding.
_GAIN = 1.3
_TOKENS = 256
_REPEATS = 5
_PATIENCE = 0.2  # seconds: where bfloat16 is slow it is very slow


def cpu_dtype(width: int | None) -> torch.dtype:
    """bfloat16 where this CPU multiplies matrices of a base `width` channels wide (None: unknown) faster in it, else
    float32."""
    import torch

    if width is not None and width < SMALLEST_WIDTH:
        return torch.float32
    return torch.bfloat16 if bfloat16_gain(min(width or 1024, 1024)) >= _GAIN else torch.float32


@functools.cache
def bfloat16_gain(width: int = 1024) -> float:
    """How many times as fast this CPU multiplies in bfloat16 as in float32, casts of the activations included; the best
    of a few tries of either, so that what else the machine does hardly counts."""
    import torch

    with torch.inference_mode():
        states = torch.ones(_TOKENS, width)
        weight = torch.ones(3 * width, width)
        short = weight.to(torch.bfloat16)
        linear = torch.nn.functional.linear
        return _best(lambda: linear(states, weight)) / _best(lambda: linear(states.to(torch.bfloat16), short).float())


def _best(product: Callable[[], Any]) -> float:
    """Seconds of the fastest of a few calls after a first one."""
    product()
    found: list[float] = []
    while len(found) < _REPEATS and sum(found) < _PATIENCE:
        began = time.perf_counter()
        product()
        found.append(time.perf_counter() - began)
    return min(found)
