"""Where each row of a file of JSON lines begins, so that any of a million rows is one short read away."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ftlab.data.limits import LONGEST_ROW
from ftlab.errors import InputError, shorten
from ftlab.parsing import parse_json

_PIECE = 8 << 20  # bytes read at a time
_SEARCHED_ROWS = 20_000
_WHITE = (9, 10, 11, 12, 13, 32)


def index_lines(path: Path, target: Path) -> int:
    """Write the beginnings of all lines that are not blank, and the end of the file, as int64 to `target` (.npy).

    Returns the number of rows. Memory: 8 bytes a row and one piece of the file.
    """
    import numpy as np

    pieces, doubtful = [], []
    position, fresh = 0, True
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            data = np.frombuffer(piece, np.uint8)
            ends = np.flatnonzero(data == 10) + 1
            starts = np.concatenate([[0], ends]) if fresh else ends
            fresh = bool(len(ends)) and ends[-1] == len(data)
            if fresh:
                starts = starts[:-1]
            doubtful.append(
                np.isin(data[starts], _WHITE) if position else np.isin(data[starts], _WHITE) | (starts == 0)
            )
            pieces.append(starts.astype(np.int64) + position)
            position += len(piece)
    starts = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    blank = _blank(path, starts, position, np.flatnonzero(np.concatenate(doubtful)) if doubtful else [])
    if len(blank):
        starts = np.delete(starts, blank)
    with path.open("rb") as file:
        marked = file.read(3) == b"\xef\xbb\xbf"
    if marked and len(starts) and starts[0] == 0:
        starts[0] = 3
    np.save(target, np.append(starts, position))
    return len(starts)


def _blank(path: Path, starts: Any, size: int, doubtful: Any) -> list[int]:
    """Which of the `doubtful` lines, those that begin with white space, hold nothing else."""
    found = []
    with path.open("rb") as file:
        for index in map(int, doubtful):
            begin, end = int(starts[index]), int(starts[index + 1]) if index + 1 < len(starts) else size
            file.seek(begin)
            # A longer line of white space does not occur in data; it would be shown as broken.
            if end - begin <= _PIECE and not file.read(end - begin).removeprefix(b"\xef\xbb\xbf").strip():
                found.append(index)
    return found


class IndexedLines(Sequence):
    """The rows of a file of JSON lines, read from the disk when they are asked for.

    The file is opened for each read and not mapped: a file that is overwritten under a map kills the process.
    """

    def __init__(self, path: Path, starts: Path):
        import numpy as np

        self.path = path
        self._starts = np.load(starts, mmap_mode="r")
        self._changed = path.stat().st_mtime_ns

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.read(index, index + 1)[0]

    def read(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Rows `start` to `stop` in one read. Raises InputError when the file was changed since it was indexed."""
        if start >= stop:
            return []
        data, offsets = self._bytes(start, stop)
        return [_parsed(data[one:other], start + number) for number, (one, other) in enumerate(pairwise(offsets))]

    def candidates(self, wanted: str, start: int) -> tuple[list[int], int]:
        """Rows of the next piece after `start` whose line may hold `wanted` (case-folded), and where the piece ends."""
        import numpy as np

        stop = min(len(self), start + _SEARCHED_ROWS)
        # A piece of rows as long as books is cut short.
        limit = int(self._starts[start]) + _PIECE
        stop = max(start + 1, min(stop, int(np.searchsorted(self._starts, limit))))
        data, offsets = self._bytes(start, stop)
        places: list[int] = []
        if wanted.isascii() and json.dumps(wanted) == f'"{wanted}"' and "/" not in wanted:
            lowered, pattern = data.lower(), wanted.encode()
            place = lowered.find(pattern)
            while place >= 0:
                index = int(np.searchsorted(offsets, place, side="right")) - 1
                places.append(start + index)
                place = lowered.find(pattern, int(offsets[index + 1]))
            # Letters that only become ASCII when case is folded (the Kelvin sign) are not worth a second pass.
            return places, stop
        # Spelled with escapes (\u00e9, \n, \") the text looks different in the file: parse every row.
        return list(range(start, stop)), stop

    def _bytes(self, start: int, stop: int) -> tuple[bytes, list[int]]:
        begin, end = int(self._starts[start]), int(self._starts[stop])
        offsets = [int(place) - begin for place in self._starts[start : stop + 1]]
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_mtime_ns != self._changed:
                    raise InputError(f"{self.path.name} was changed while it was shown", try_="look at it again")
                file.seek(begin)
                return file.read(end - begin), offsets
        except OSError as error:
            raise InputError(f"{self.path.name} cannot be read any more: {error.strerror}", given=self.path) from None


def _parsed(line: bytes, index: int) -> dict[str, Any]:
    if len(line) > LONGEST_ROW:
        return {"(broken)": f"row {index}: longer than {LONGEST_ROW >> 20} MB"}
    try:
        row = parse_json(line.decode("utf-8"))
    except ValueError as error:
        return {"(broken)": f"row {index}: not valid JSON ({shorten(error, 80)}): {shorten(line[:100], 100)}"}
    return row if isinstance(row, dict) else {"(broken)": f"row {index}: not an object: {shorten(row, 100)}"}
