"""Look at a data source before training on it: rows, columns, format, splits, one page at a time."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from ftlab.config import DataConfig, build_config
from ftlab.data.conversion import Message, UnusableRow, to_messages
from ftlab.data.formats import Detected
from ftlab.data.load import Loaded, find_source, load_rows
from ftlab.data.splits import detect_format, prepare
from ftlab.errors import InputError, shorten

CELL = 200  # characters of a cell that a page shows


@dataclass
class Inspection:
    """What there is to know about a data source; `splits` are the examples that training would get (with replay)."""

    name: str
    kind: str
    rows: int
    columns: list[str]
    format: str
    why: str
    confidence: float
    splits: dict[str, int]
    dropped: dict[str, int]
    examples: int
    mean_prompt_characters: float
    mean_answer_characters: float
    notes: list[str]
    source_splits: dict[str, int]
    detected: Detected = field(repr=False)
    _loaded: Loaded = field(repr=False)
    _data: DataConfig = field(repr=False)

    def page(self, offset: int = 0, size: int = 20, split: str | None = None) -> list[dict[str, str]]:
        """At most `size` source rows from `offset` on (of the training split), every cell as text of 200 characters."""
        rows = self._rows(split)
        stop = min(len(rows), max(0, offset) + max(0, size))
        return [
            {column: _cell_text(row.get(column)) for column in self.columns}
            for row in (rows[index] for index in range(max(0, offset), stop))
        ]

    def messages(self, i: int, split: str | None = None) -> list[Message]:
        """The canonical messages of source row `i` (from 0) of the training split.

        Raises InputError when there is no such row or it cannot be used, saying why.
        """
        rows = self._rows(split)
        if not 0 <= i < len(rows):
            raise InputError("There is no such row", given=i, allowed=f"0 to {len(rows) - 1}")
        try:
            return to_messages(rows[i], self.detected, self._data.system_prompt)
        except UnusableRow as problem:
            raise InputError(f"This row cannot be used: {problem.reason}") from None

    def as_dict(self) -> dict[str, Any]:
        hidden = ("detected", "_loaded", "_data")
        return {key: value for key, value in vars(self).items() if key not in hidden} | {
            "roles": dict(self.detected.columns)
        }

    def _rows(self, split: str | None) -> Any:
        split = split or self._loaded.main
        if split not in self._loaded.splits:
            raise InputError("There is no such split", given=split, allowed=", ".join(self._loaded.splits))
        return self._loaded.splits[split]

    def _repr_html_(self) -> str:
        sizes = ", ".join(f"{split} {count}" for split, count in self.splits.items())
        facts = [
            f"{self.rows} rows; format {self.format} ({self.why})",
            f"examples: {sizes}; on average {self.mean_prompt_characters:.0f} characters of prompt and "
            f"{self.mean_answer_characters:.0f} of answer",
            *[f"left out: {reason} ({count} rows)" for reason, count in self.dropped.items()],
            *self.notes,
        ]
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(row[column])}</td>" for column in self.columns) + "</tr>"
            for row in self.page(0, 3)
        )
        lines = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
        return f"<h4>{escape(self.name)}</h4><ul>{lines}</ul><table><tr>{head}</tr>{body}</table>"


def inspect(source: str | DataConfig, **settings: Any) -> Inspection:
    """Everything about a data source that can be said without a model; `settings` are fields of DataConfig.

    Read once: asking again for an unchanged file costs nothing. Raises InputError as `splits.prepare` does.
    """
    values = source.model_dump() if isinstance(source, DataConfig) else {"source": source}
    data = build_config({"data": values | settings}).data
    places = [place for name in (data.source, data.replay) if name for place in _files_of(name)]
    return _inspect(data.model_dump_json(), tuple(places))


@lru_cache(maxsize=4)
def _inspect(settings: str, _files: tuple[tuple[str, int, int], ...]) -> Inspection:
    data = DataConfig.model_validate_json(settings)
    loaded = load_rows(data)
    prepared = prepare(data, loaded)
    own = [row["messages"] for rows in prepared.splits.values() for row in rows if row["source"] != "replay"]
    detected = detect_format(loaded, data)
    manifest = prepared.manifest
    return Inspection(
        name=loaded.name,
        kind=loaded.kind,
        rows=loaded.rows,
        columns=loaded.columns,
        format=detected.format,
        why=detected.why,
        confidence=detected.confidence,
        splits=manifest["splits"],
        dropped=manifest["dropped"],
        examples=len(own),
        mean_prompt_characters=sum(len(turn["content"]) for turns in own for turn in turns[:-1]) / len(own),
        mean_answer_characters=sum(len(turns[-1]["content"]) for turns in own) / len(own),
        notes=manifest["notes"],
        source_splits={split: len(rows) for split, rows in loaded.splits.items()},
        detected=detected,
        _loaded=loaded,
        _data=data,
    )


def _files_of(source: str) -> list[tuple[str, int, int]]:
    """(path, time of change, bytes) of every file behind a source, so that a changed file is read again."""
    kind, place = find_source(source.strip())
    if kind == "hub":
        return []
    path = Path(place)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(str(file.absolute()), os.stat(file)) for file in files if file.is_file()]
    return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shorten(text, CELL)
