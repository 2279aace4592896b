"""Rows that are read from a file: kept small in memory, parsed when they are asked for."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from typing import Any


class JsonLines(Sequence):
    """The rows of a JSONL file: its bytes and where each row begins, so that many rows take no more than the file."""

    def __init__(self, data: bytes, starts: array):
        self._data, self._starts = data, starts

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = self._starts[index]
        end = self._data.find(b"\n", start)
        return json.loads(self._data[start : end if end >= 0 else None].decode("utf-8"))


class ArrowRows(Sequence):
    """The rows of an Arrow table."""

    def __init__(self, table: Any):
        self.table = table

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.table.slice(index % len(self), 1).to_pylist()[0]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(max_chunksize=1000):
            yield from batch.to_pylist()
