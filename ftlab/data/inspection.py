"""Look at a data source before training on it: rows, columns, format, splits, one page at a time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from ftlab.config import DataConfig, build_config
from ftlab.data.conversion import Message, UnusableRow, to_messages
from ftlab.data.formats import Detected, detect
from ftlab.data.load import find_source, load_rows, split_files
from ftlab.data.named import Named, recall, settled
from ftlab.data.pages import Hits, Pages, open_pages
from ftlab.data.readers import SUFFIXES
from ftlab.data.splits import detect_format, prepare
from ftlab.data.versions import resolve
from ftlab.errors import InputError, shorten
from ftlab.workspace import Workspace, default_root

WHOLE = 50_000  # rows up to which `look` converts everything
SAMPLED = 400  # rows of a larger source that it looks at
CELL = 200  # characters of a cell that a page shows


@dataclass
class Inspection:
    """What there is to know about a data source; `splits` are the examples that training would get (with replay).

    Of plain text the characters are those of the answer. `problem` says why it cannot be trained on (from `look`); then
    the rows are there and the other facts may be empty.
    """

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
    problem: str | None
    detected: Detected | None = field(repr=False)
    _rows_by_split: Mapping[str, Any] = field(repr=False)
    _data: DataConfig = field(repr=False)
    _refused: InputError | None = field(default=None, repr=False)  # why no format was recognised
    _searched: dict[str, Pages] = field(default_factory=dict, repr=False)

    def page(self, offset: int = 0, size: int = 20, split: str | None = None) -> list[dict[str, str]]:
        """At most `size` source rows from `offset` on (of the training split), every cell as text of 200 characters."""
        rows = self._rows(split)
        start, stop = max(0, offset), min(len(rows), max(0, offset) + max(0, size))
        found = rows.page(start, stop - start) if isinstance(rows, Pages) else [rows[i] for i in range(start, stop)]
        return [self._shown(row) for row in found]

    def search(
        self,
        text: str,
        offset: int = 0,
        size: int = 20,
        split: str | None = None,
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> Hits:
        """`size` rows of a split that hold `text`, after the first `offset` of them; cells as in `page`."""
        rows = self._rows(split)
        if not isinstance(rows, Pages):
            rows = self._searched.setdefault(split or "", Pages(len(rows), self.columns, rows))
        hits = rows.search(text, offset, size, should_stop=should_stop)
        hits.rows = [self._shown(row) for row in hits.rows]
        return hits

    def row(self, i: int, split: str | None = None) -> dict[str, Any]:
        """The cells of source row `i` (from 0) as they are. Raises InputError when there is no such row."""
        rows = self._rows(split)
        if not 0 <= i < len(rows):
            raise InputError("There is no such row", given=i, allowed=f"0 to {len(rows) - 1}")
        return dict(rows.page(i, 1)[0] if isinstance(rows, Pages) else rows[i])

    def _shown(self, row: Mapping[str, Any]) -> dict[str, str]:
        if "(broken)" in row and self.columns:
            return dict.fromkeys(self.columns, "") | {self.columns[0]: row["(broken)"]}
        return {column: _cell_text(row.get(column)) for column in self.columns}

    def messages(self, i: int, split: str | None = None) -> list[Message]:
        """The canonical messages of source row `i` (from 0) of the training split.

        Raises InputError when there is no such row or it cannot be used, saying why.
        """
        row = self.row(i, split)
        if self.detected is None:
            raise self._refused or InputError("The format of this data is not known", try_="say which column is which")
        try:
            return to_messages(row, self.detected, self._data.system_prompt)
        except UnusableRow as problem:
            raise InputError(f"This row cannot be used: {problem.reason}") from None

    def source_rows(self, split: str | None = None) -> Any:
        """The rows of a split as they are, whole cells: a sequence, or `Pages` of a large source."""
        return self._rows(split)

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "detected" and key[0] != "_"} | {
            "roles": dict(self.detected.columns) if self.detected else {}
        }

    def _rows(self, split: str | None) -> Any:
        names = self._rows_by_split or {"train": []}
        split = split or ("train" if "train" in names else next(iter(names), ""))
        if split not in names:
            raise InputError("There is no such split", given=split, allowed=", ".join(names) or None)
        return names[split]

    def _repr_html_(self) -> str:
        sizes = ", ".join(f"{split} {count}" for split, count in self.splits.items())
        facts = [
            *([self.problem] if self.problem else []),
            f"{self.rows} rows; format {self.format} ({self.why})",
            f"examples: {sizes}; on average {_lengths(self)}",
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


def _lengths(found: Inspection) -> str:
    if found.format == "text":
        return f"{found.mean_answer_characters:.0f} characters of text"
    return f"{found.mean_prompt_characters:.0f} characters of prompt and {found.mean_answer_characters:.0f} of answer"


def inspect(source: str | DataConfig, workspace: Workspace | None = None, **settings: Any) -> Inspection:
    """Everything about a data source that can be said without a model; `settings` are fields of DataConfig.

    Read once: asking again for an unchanged file costs nothing. Raises InputError as `splits.prepare` does.
    """
    data = _data_of(source, settings)
    root = str(workspace.root) if workspace else ""
    return _inspect(data.model_dump_json(), _places(data, workspace), root)


def look(source: str | DataConfig, workspace: Workspace | None = None, **settings: Any) -> Inspection:
    """As `inspect`, for a person who is still at work on the data: what is wrong is told in `problem`, and rows and
    columns are there as soon as the file can be read. Large sources are not converted as a whole; what is said of
    their examples comes from a few hundred rows.

    Raises InputError only for settings that no data could satisfy, and when there is no such source.
    """
    data = _data_of(source, settings)
    workspace = workspace or Workspace(default_root())
    root = str(workspace.root)
    places = _places(data, workspace)
    pages = _pages(data, places, root)
    if pages is None or sum(one.rows for one in pages.values()) <= WHOLE:
        try:
            return _inspect(data.model_dump_json(), places, root)
        except InputError as error:
            return _preview(data, pages or {}, error, recall(data, workspace))
    return _preview(data, pages, None, recall(data, workspace))


def glance(source: str | DataConfig, workspace: Workspace | None = None, **settings: Any) -> Inspection:
    """As `look`, from a sample of the rows alone: at once for any size and after any change of the settings."""
    data = _data_of(source, settings)
    workspace = workspace or Workspace(default_root())
    pages = _pages(data, _places(data, workspace), str(workspace.root))
    if pages is None:
        return look(data, workspace)
    return _preview(data, pages, None, recall(data, workspace))


def _data_of(source: str | DataConfig, settings: dict[str, Any]) -> DataConfig:
    values = source.model_dump() if isinstance(source, DataConfig) else {"source": source}
    return build_config({"data": values | settings}).data


def _places(data: DataConfig, workspace: Workspace | None) -> tuple[tuple[str, int, int], ...]:
    files = [place for name in (data.source, *data.replayed) if name for place in files_of(name, workspace)]
    # What was named meanwhile changes how the same file is read.
    return (*files, (json.dumps(named.as_dict()) if (named := recall(data, workspace)) else "", 0, 0))


def _pages(data: DataConfig, places: tuple[Any, ...], root: str) -> dict[str, Pages] | None:
    """The pages of every split; None when the source cannot be read at all."""
    try:
        return _open_pages(data.source, data.split, data.subset, places, root)
    except InputError:
        return None


@lru_cache(maxsize=4)
def _open_pages(
    source: str, split: str | None, subset: str | None, _files: tuple[Any, ...], root: str
) -> dict[str, Pages]:
    workspace = Workspace(Path(root))
    kind, place = find_source(source.strip(), workspace)
    if kind == "hub" or (kind != "version" and Path(place).suffix.lower() in (".zip", ".json")):
        loaded = load_rows(DataConfig(source=source, split=split, subset=subset), workspace)
        return {name: Pages(len(rows), loaded.columns, rows) for name, rows in loaded.splits.items()}
    names: list[str | None] = [split]
    if not split and kind != "version" and Path(place).is_dir():
        names = list(split_files(Path(place)))
    elif not split and kind == "version":
        names = list(resolve(source, workspace).rows)
    return {name or "train": open_pages(source, workspace.page_cache, name, workspace) for name in names}


def _preview(data: DataConfig, pages: dict[str, Pages], error: InputError | None, named: Named | None) -> Inspection:
    """What can be said from the pages and a sample of their rows."""
    main = pages.get("train") or next(iter(pages.values()), None)
    columns = list(dict.fromkeys(column for one in pages.values() for column in one.columns))
    sample = main.sample(SAMPLED) if main else []
    problem = error.message() if error else None
    unread = error
    detected = None
    try:
        read = settled(data, named if named and named.fits(columns) else None)
        detected = detect(columns, sample, read.columns, data.source, read.prompt_template) if sample else None
    except InputError as refused:
        problem, unread = problem or refused.message(), refused
    examples = []
    for row in sample if detected else []:
        with contextlib.suppress(UnusableRow):
            examples.append(to_messages(row, detected, data.system_prompt))
    rows = {split: one.rows for split, one in pages.items()}
    total = sum(rows.values())
    notes = []
    if problem is None:
        share = 0 if not sample else 1 - len(examples) / len(sample)
        notes.append(
            f"This is a large source: what is said of its examples comes from {len(sample)} of {total:,} rows"
            + (f", of which {share:.0%} cannot be used." if share else ".")
        )
    return Inspection(
        name=Path(data.source).name if data.source.endswith(SUFFIXES) else data.source,
        kind=find_source(data.source)[0] if not data.source.startswith("version:") else "version",
        rows=total,
        columns=columns,
        format=detected.format if detected else "",
        why=detected.why if detected else "",
        confidence=detected.confidence if detected else 0.0,
        splits=rows if problem is None else {},
        dropped={},
        examples=0 if problem else total,
        mean_prompt_characters=_mean(sum(len(turn["content"]) for turn in turns[:-1]) for turns in examples),
        mean_answer_characters=_mean(len(turns[-1]["content"]) for turns in examples),
        notes=notes,
        source_splits=rows,
        problem=problem,
        detected=detected,
        _rows_by_split=pages,
        _data=data,
        _refused=unread,
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


@lru_cache(maxsize=4)
def _inspect(settings: str, _files: tuple[tuple[str, int, int], ...], root: str) -> Inspection:
    data = DataConfig.model_validate_json(settings)
    workspace = Workspace(Path(root)) if root else None
    loaded = load_rows(data, workspace)
    prepared = prepare(data, loaded, workspace)
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
        problem=None,
        detected=detected,
        _rows_by_split=loaded.splits,
        _data=data,
    )


def files_of(source: str, workspace: Workspace | None = None) -> list[tuple[str, int, int]]:
    """(path, time of change, bytes) of every file behind a source, so that a changed file is read again."""
    kind, place = find_source(source.strip(), workspace)
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
