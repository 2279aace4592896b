"""Batches of rows: formed by length, run one after the other, halved when memory runs out."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ftlab.core.jobs import Stopped
from ftlab.errors import FtlabError

# Logits are (tokens, vocabulary) floats: 2**27 of them, half a gigabyte, fit next to a model on a GPU. On a CPU, the
# heap keeps several blocks of this size when the batch shape changes.
_LOGITS_AT_ONCE, _ON_CPU = 2**27, 2**25
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


Progress = Callable[[str, int, int], None]  # phase in words, steps done, total steps


def silent(phase: str, done: int, total: int) -> None:
    """Report no progress."""


def by_length(lengths: list[int], *, rows: int, tokens: int | None = None) -> list[list[int]]:
    """Row numbers in batches of rows of similar length, the longest first.

    A batch holds at most `rows` rows and, padded to its longest row, at most `tokens` tokens; a single row may be
    longer than that. The longest come first so that memory runs out at once or not at all.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        batch = batches[-1] if batches else []
        full = len(batch) >= rows or (tokens is not None and batch and (len(batch) + 1) * lengths[batch[0]] > tokens)
        if not batch or full:
            batches.append([index])
        else:
            batch.append(index)
    return batches


def run_batches(
    batches: Iterable[list[int]],
    work: Callable[[list[int]], None],
    *,
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int | None:
    """Call `work` with each batch and `advance` with the number of rows done. If memory runs out, continue with half
    the rows.

    Batches are drawn from `batches` lazily. Returns the number of rows that fit if batches had to be halved, else None.
    Raises Stopped, and FtlabError if not even one row fits.
    """
    source, waiting, limit = iter(batches), deque[list[int]](), None
    while (batch := waiting.popleft() if waiting else next(source, None)) is not None:
        if should_stop and should_stop():
            raise Stopped
        if limit and len(batch) > limit:
            waiting.appendleft(batch[limit:])
            batch = batch[:limit]
        exhausted = False
        try:
            work(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            exhausted = True
        # Outside the handler: a live exception keeps the tensors of the failed batch alive.
        if exhausted:
            free_memory()
            if len(batch) == 1:
                raise FtlabError(
                    "Not enough memory for even one row at a time",
                    try_="close other programs that use the device, shorten the longest rows, or choose a smaller base",
                )
            limit = len(batch) // 2
            waiting.appendleft(batch)
            continue
        if advance:
            advance(len(batch))
    return limit


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that the GPU or the computer is out of memory."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def free_memory() -> None:
    """Return the memory of deleted tensors to the device, or to the system (`trim`)."""
    import torch

    gc.collect()
    trim()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def trim() -> None:
    """Return this process's free memory to the system. A run's process keeps freed memory for its next step
    (supervisor.environment_for), and other allocations would come on top of it."""
    if sys.platform == "linux":
        # glibc keeps much of what is freed: 130 of 300 MB the second time that a model was released (measured).
        trim_heap = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim_heap is not None:
            trim_heap(0)


def pad(rows: list[list[Any]], fill: Any, *, left: bool = False) -> list[list[Any]]:
    """`rows` padded to the longest, at the end or at the beginning."""
    longest = max(map(len, rows))
    return [[fill] * (longest - len(row)) + row if left else row + [fill] * (longest - len(row)) for row in rows]


def tokens_at_once(device: Any, vocabulary: int) -> int:
    """The number of tokens whose logits are computed at once on a torch `device`."""
    return max(256, (_ON_CPU if device.type == "cpu" else _LOGITS_AT_ONCE) // vocabulary)
