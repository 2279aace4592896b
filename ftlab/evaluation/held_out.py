"""Which rows a run is measured on: its held-out split, drawn the same way each time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ftlab.errors import InputError
from ftlab.run_directory import RunDirectory


def held_out_rows(
    run: RunDirectory, max_rows: int | None, *, own: int | None = None, judged: bool = False
) -> tuple[str, list[dict[str, Any]], list[str]]:
    """The name and the rows of the split to compare on, at most `max_rows` of them, and notes on the choice; drawn as
    `nested` does around the `own` number of the run.

    Answers that are marked as bad are no reference for anything; with `judged` they are among the rows. Raises
    InputError when neither test nor validation holds rows.
    """
    from ftlab.data.splits import read_split

    for split in ("test", "validation"):
        rows = read_split(run, split) if run.split_file(split).exists() else []
        rows = rows if judged else [row for row in rows if row.get("label") is not False]
        if rows:
            break
    else:
        raise InputError(
            "There are no held-out rows to compare on",
            given=f"run {run.id}",
            try_="train with data.test_fraction above 0, or with data that has a test split",
        )
    notes = []
    if split == "validation":
        notes.append(
            "There is no test split, so the validation split was used. Training chose its best weights on it, which "
            "flatters the adapted model a little."
        )
    if max_rows is not None and len(rows) > max_rows:
        notes.append(f"{max_rows} of {len(rows)} rows of the {split} split were used, drawn with seed 0.")
        rows = nested(rows, max_rows, max_rows if own is None else own)
    return split, rows, notes


def groups_of(run: RunDirectory, split: str, rows: Sequence[dict[str, Any]], group_by: str | None) -> list[str]:
    """The value of `group_by` of each of `rows` of the held-out `split`; "" where a row does not say it.

    Rows of one value are no independent rows: intervals and tests count them together.
    """
    from ftlab.data.columns import read_columns
    from ftlab.data.prompt_template import cell_as_text

    if not group_by:
        return [""] * len(rows)
    columns = read_columns(run, split)
    return [cell_as_text(columns.get((row.get("source"), row.get("row")), {}).get(group_by)) for row in rows]


def some(rows: list[Any], at_most: int) -> list[Any]:
    """`at_most` of `rows` in their order, drawn with seed 0."""
    if len(rows) <= at_most:
        return rows
    return [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), at_most))]


def nested(rows: list[Any], at_most: int, own: int) -> list[Any]:
    """As `some`, so that fewer rows than the `own` number of a run are among its own, and more hold them all: what was
    asked serves both."""
    places = some(list(range(len(rows))), own)
    if at_most > own:
        kept = set(places)
        places += some([place for place in range(len(rows)) if place not in kept], at_most - own)
    return [rows[place] for place in sorted(some(places, at_most))]


def has_references(run: RunDirectory) -> bool:
    """Whether some held-out row of `run` has an answer to compare with; prompts that learn from rewards need none."""
    from ftlab.data.splits import read_split

    rows = read_split(run, "test") or read_split(run, "validation")
    return any(row["messages"][-1]["content"].strip() for row in rows)
