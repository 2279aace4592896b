"""Save a data source for others: JSONL, Parquet, CSV that no spreadsheet runs, or OpenAI's chat format, checked."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ftlab.config import DataConfig
from ftlab.data.conversion import UnusableRow, to_messages
from ftlab.data.formats import Detected
from ftlab.data.load import Loaded, load_rows
from ftlab.data.named import remember, settled
from ftlab.data.openai_chat import problems_of
from ftlab.data.prompt_template import cell_as_text
from ftlab.data.splits import detect_format
from ftlab.errors import InputError
from ftlab.files import disk_full
from ftlab.workspace import Workspace

Kind = Literal["jsonl", "parquet", "csv", "openai"]
SUFFIX_OF = {"jsonl": ".jsonl", "parquet": ".parquet", "csv": ".csv", "openai": ".jsonl"}
# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass
class Exported:
    """What was written: rows by file, rows that could not be written by reason, and remarks."""

    files: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"files": self.files, "left_out": self.left_out, "notes": self.notes}


def export(
    data: DataConfig,
    target: Path,
    kind: Kind | None = None,
    workspace: Workspace | None = None,
    *,
    overwrite: bool = False,
) -> Exported:
    """Write the rows of `data.source` to the file `target`, or one file per split when there are several.

    jsonl, parquet and csv keep the columns as they are (csv: cells that are no text as JSON, formulas neutralised by a
    leading apostrophe). openai writes {"messages": [...]} as training would see it. Without `kind` the ending of
    `target` decides. Raises InputError for an unknown kind, a file that is there already, or rows that OpenAI's rules
    do not allow.
    """
    kind = kind or _kind_by_name(target)
    if kind not in SUFFIX_OF:
        raise InputError("Data cannot be saved in this form", given=kind, allowed=", ".join(SUFFIX_OF))
    loaded = load_rows(data, workspace)
    named = settled(data, loaded.named)
    paths = _paths(target, list(loaded.splits), kind)
    for path in paths.values():
        if path.exists() and not overwrite:
            raise InputError(
                f"{path.name} is there already", given=path, try_="choose another name, or add --overwrite"
            )
    done = Exported({})
    detected = detect_format(loaded, data) if kind == "openai" else None
    for split, path in paths.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            done.files[str(path)] = _write(loaded, split, path, kind, detected, data.system_prompt, done)
        except OSError as error:
            cannot = InputError(f"{path.name} cannot be written: {error.strerror}", given=path)
            raise disk_full(error, path.absolute()) or cannot from None
        if workspace is not None and kind != "openai":
            # The columns are as they were, so what was named of them still holds.
            remember(named.model_copy(update={"source": str(path), "subset": None}), workspace)
    return done


def _write(
    loaded: Loaded, split: str, path: Path, kind: str, detected: Detected | None, system: str | None, done: Exported
) -> int:
    rows = loaded.splits[split]
    temporary = path.with_name(f".{path.name}.part")
    try:
        if kind == "parquet":
            count = write_parquet(temporary, rows, loaded.columns)
        elif kind == "csv":
            count = _write_csv(temporary, rows, loaded.columns, done.notes)
        elif kind == "openai" and detected is not None:
            chats = list(_chats(rows, detected, system, done))
            wrong = problems_of(chats, whole_file=split == loaded.main)
            if wrong:
                raise InputError(
                    f"{len(wrong)} {'row does' if len(wrong) == 1 else 'rows do'} not fit OpenAI's chat format",
                    given="; ".join(wrong[:3]),
                    allowed="platform.openai.com/docs/guides/supervised-fine-tuning",
                    try_="correct or exclude these rows",
                )
            count = _write_lines(temporary, chats)
        else:
            count = _write_lines(temporary, rows)
        os.replace(temporary, path)
        return count
    finally:
        temporary.unlink(missing_ok=True)


def _chats(
    rows: Sequence[dict[str, Any]], detected: Detected, system: str | None, done: Exported
) -> Iterator[dict[str, Any]]:
    if detected.format == "text":
        raise InputError(
            "Plain text has no messages to export",
            given="kind openai",
            allowed="jsonl, parquet, csv",
            try_="--format jsonl",
        )
    for row in rows:
        try:
            yield {"messages": to_messages(row, detected, system)}
        except UnusableRow as problem:
            done.left_out[problem.reason] = done.left_out.get(problem.reason, 0) + 1


def _write_lines(path: Path, rows: Any) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            try:
                line = json.dumps(row, ensure_ascii=False, default=str)
                line.encode()
            except UnicodeEncodeError:  # half a character, which only an escape can spell
                line = json.dumps(row, default=str)
            file.write(line + "\n")
            count += 1
    return count


def _write_csv(path: Path, rows: Any, columns: Sequence[str], notes: list[str]) -> int:
    count = changed = 0
    with path.open("w", encoding="utf-8-sig", newline="", errors="replace") as file:  # the mark is for Excel
        writer = csv.writer(file, quoting=csv.QUOTE_MINIMAL)
        writer.writerow([neutral(column) for column in columns])
        for row in rows:
            cells = [cell_as_text(row.get(column)) for column in columns]
            safe = [neutral(cell) for cell in cells]
            changed += safe != cells
            writer.writerow(safe)
            count += 1
    if changed:
        said = "1 row" if changed == 1 else f"{changed} rows"
        notes.append(f"In {said} of {path.name[1:-5]} an apostrophe was put before what looked like a formula.")
    return count


def neutral(cell: str) -> str:
    """`cell` such that a spreadsheet shows it and does not compute it; a plain number stays."""
    if not cell.lstrip(" ").startswith(_FORMULA):
        return cell
    try:
        float(cell)
        return cell
    except ValueError:
        return "'" + cell


def write_parquet(path: Path, rows: Any, columns: Sequence[str]) -> int:
    """Rows as Parquet with typed columns; a column of mixed kinds becomes JSON text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = []
    for column in columns:
        cells = [row.get(column) for row in rows]
        try:
            arrays.append(pa.array(cells))
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            arrays.append(pa.array([None if cell is None else _mixed_as_text(cell) for cell in cells], pa.string()))
    table = pa.table(dict(zip(columns, arrays, strict=True)))
    pq.write_table(table, path, compression="zstd")
    return table.num_rows


def _mixed_as_text(cell: Any) -> str:
    return cell_as_text(cell).encode("utf-8", "replace").decode()


def _kind_by_name(target: Path) -> Kind:
    kinds: dict[str, Kind] = {".jsonl": "jsonl", ".parquet": "parquet", ".csv": "csv"}
    if target.suffix.lower() not in kinds:
        raise InputError(
            "The name does not say in which form the data shall be saved",
            given=target.name,
            allowed=f"a name ending in {', '.join(kinds)}, or --format {', '.join(SUFFIX_OF)}",
        )
    return kinds[target.suffix.lower()]


def _paths(target: Path, splits: list[str], kind: str) -> dict[str, Path]:
    """One file, or `name.train.jsonl` beside `name.test.jsonl`; into a folder when `target` has no ending."""
    suffix = SUFFIX_OF[kind]
    if not target.suffix:
        return {split: target / f"{split}{suffix}" for split in splits}
    if len(splits) == 1:
        return {splits[0]: target}
    return {split: target.with_name(f"{target.stem}.{split}{target.suffix}") for split in splits}
