"""Rows that are read from a file: kept small in memory, parsed when they are asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from ftlab.parsing import parse_json


class JsonLines(Sequence):
    """The rows of a file of JSON: its bytes and where each row begins, so that many rows take no more than the file.
    A row ends with its line, or where `ends` says."""

    def __init__(self, data: bytes, starts: array, ends: array | None = None):
        self._data, self._starts, self._ends = data, starts, ends

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = self._starts[index]
        end = self._ends[index] if self._ends is not None else self._data.find(b"\n", start)
        return parse_json(self._data[start : end if end >= 0 else None].decode("utf-8"))


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
