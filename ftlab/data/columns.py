"""The small columns beside the text (language, category, customer), kept with the held-out rows: scores are sliced by
them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ftlab.data.prompt_template import cell_as_text
from ftlab.files import read_jsonl, write_jsonl
from ftlab.run_directory import RunDirectory

_MOST_COLUMNS = 20
_LONGEST_TEXT = 100

Columns = dict[tuple[str, int], dict[str, Any]]


def small_columns(row: Mapping[str, Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """The cells of `row` that are one short value, except those of the columns in `without`."""
    found = {}
    for name, value in row.items():
        if name in without or (isinstance(value, float) and value != value):
            continue
        if isinstance(value, bool | int | float) or (isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT):
            found[name] = value
    return dict(list(found.items())[:_MOST_COLUMNS])


def columns_of(
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    examples: Iterable[Mapping[str, Any]],
    without: Iterable[str],
    group_by: str | None = None,
) -> Columns:
    """The small columns of the source row of each example, by its (source, row); `splits` are the source rows.

    The value of `group_by` is always among them: rows that belong together are counted together.
    """
    wanted: dict[str, set[int]] = {}
    for example in examples:
        wanted.setdefault(example["source"], set()).add(example["row"])
    left_out = set(without)
    found: Columns = {}
    for source, numbers in wanted.items():
        rows = splits[source]
        # To go through all of them reads Arrow and Hub data in batches, which single rows cannot.
        through = len(numbers) * 20 > len(rows)
        picked = enumerate(rows) if through else ((number, rows[number]) for number in sorted(numbers))
        for number, row in picked:
            if number not in numbers:
                continue
            cells = small_columns(row, left_out)
            if group_by and group_by not in cells and (text := cell_as_text(row.get(group_by))):
                cells[group_by] = text if len(text) <= _LONGEST_TEXT else f"{text[:60]}… {_digest(text)}"
            if cells:
                found[source, number] = cells
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def freeze_columns(run: RunDirectory, columns: Mapping[str, Columns]) -> None:
    """Write the columns of each held-out split into `run`."""
    lines = [
        {"split": split, "source": source, "row": number, "columns": cells}
        for split, found in columns.items()
        for (source, number), cells in found.items()
    ]
    if lines:
        write_jsonl(run.columns_file, lines)


def read_columns(run: RunDirectory, split: str) -> Columns:
    """What `freeze_columns` wrote for `split`; nothing where a run has no such columns."""
    return {
        (line["source"], line["row"]): line["columns"]
        for line in read_jsonl(run.columns_file)
        if line["split"] == split
    }
