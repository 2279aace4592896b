"""Divide the rows of a data source once, as a version that every run can name."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ftlab.config import DataConfig
from ftlab.data.conversion import UnusableRow, convert
from ftlab.data.grouping import check_columns
from ftlab.data.load import load_rows
from ftlab.data.named import said_in
from ftlab.data.partition import hold_out
from ftlab.data.splits import detect_format
from ftlab.data.version_rows import VersionRow
from ftlab.data.versions import Version, derive, rows_of, taken
from ftlab.errors import InputError
from ftlab.workspace import Workspace


def split_version(
    data: DataConfig, workspace: Workspace, *, who: str | None = None, why: str = ""
) -> tuple[Version, list[str]]:
    """A new version in which every row of the training split has its side, and notes about it.

    Splits that the data bring are kept. Rows that cannot become an example are excluded, with the reason.
    Raises InputError as `splits.prepare` does, and when all splits are there already; nothing is made then.
    """
    with taken(data, workspace, who=who, why=why) as parent:
        return _split(parent, data, workspace, who, why)


def _split(
    parent: Version, data: DataConfig, workspace: Workspace, who: str | None, why: str
) -> tuple[Version, list[str]]:
    source = data.model_copy(update={"source": parent.source, "split": None})
    loaded = load_rows(source, workspace)
    missing = [name for name in ("validation", "test") if name not in loaded.splits]
    wanted = [name for name in missing if getattr(data, f"{name}_fraction") > 0]
    if not wanted:
        raise InputError(
            f"{parent.id} is split already",
            given=", ".join(f"{count} {name}" for name, count in parent.rows.items()),
            try_="split the version it came from" if parent.parent else "give a share to hold out",
        )
    detected = detect_format(loaded, source)
    columns = check_columns(source, loaded.columns)
    unusable: dict[int, str] = {}
    examples: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    for row in rows_of(parent):
        if row.excluded is not None or row.split != loaded.main:
            continue
        try:
            messages, _ = convert(row.cells, detected, source.system_prompt)
        except UnusableRow as problem:
            unusable[row.id] = problem.reason
            continue
        examples.append({"row": row.id, "source": row.split, "messages": messages})
        cells.append({column: row.cells.get(column) for column in columns})
    if not examples:
        raise InputError(f"{parent.id} holds no usable row", given=Counter(unusable.values()).most_common(3))
    notes: list[str] = []
    held: dict[str, list[Any]] = {name: [] for name in loaded.splits if name != loaded.main}
    sides = hold_out({"train": examples} | held, source, cells, notes)
    place = {example["row"]: name for name, part in sides.items() for example in part}

    def divided(row: VersionRow) -> VersionRow:
        if row.id in unusable:
            return row.with_(excluded=unusable[row.id])
        return row.with_(split=place.get(row.id, row.split))

    settings = {name: getattr(data, name) for name in ("seed", "group_by", "near_duplicates", "stratify_by")}
    settings |= {f"{name}_fraction": getattr(data, f"{name}_fraction") for name in wanted}
    version = derive(
        parent,
        lambda: (divided(row) for row in rows_of(parent)),
        f"split into {', '.join(name for name, part in sides.items() if part)}",
        who=who,
        why=why,
        workspace=workspace,
        details={"settings": settings} | (said.as_dict() if (said := said_in(data)) else {}),
        columns=parent.columns,
    )
    notes += [f"{count} rows are excluded: {reason}." for reason, count in Counter(unusable.values()).items()]
    return version, notes
