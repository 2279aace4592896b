"""Spreadsheets (XLSX, XLSM, XLS, ODS) as rows: sheets, merged cells, formulas, dates. Read by python-calamine, which
runs no macros and follows no links."""

from __future__ import annotations

import datetime
import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

from ftlab.core.words import counted
from ftlab.data.limits import check_expanded, check_rows, most_expanded, too_large
from ftlab.data.shapes import split_name
from ftlab.data.tabular import Layout, Row, header_of, layout_of
from ftlab.errors import InputError, nearest, shorten

SHEETS = (".xlsx", ".xlsm", ".xls", ".ods")
_LOOKED_AT = 50


def read_sheets(
    raw: bytes,
    name: str,
    notes: list[str],
    size: int,
    sheet: str | None,
) -> tuple[dict[str, list[Row]], list[str]]:
    """The rows of a spreadsheet by split. Reads the given `sheet`, else the sheets called train, validation and test,
    else all sheets with the same header, else the one with the most rows. Notes list the sheets that were not read.

    Raises InputError if it is damaged, protected or empty, or exceeds `limits`.
    """
    _check_unpacked(raw, name, size)
    tables = {title: table for title, table in _tables(raw, name, notes, size).items() if table[1]}
    if not tables:
        raise InputError(f"{name} has no rows", given="empty sheets", allowed="a header and at least 10 rows below it")
    chosen = _chosen(tables, name, notes, sheet)
    splits: dict[str, list[Row]] = {}
    columns: dict[str, None] = {}
    for title, split in chosen.items():
        header, rows = tables[title]
        columns.update(dict.fromkeys(header))
        splits.setdefault(split, []).extend(dict(zip(header, cells, strict=True)) for cells in rows)
    return splits, list(columns)


_Table = tuple[list[str], list[list[Any]]]


def _tables(raw: bytes, name: str, notes: list[str], size: int) -> dict[str, _Table]:
    """The header and the rows of each visible sheet."""
    import python_calamine as calamine

    tables: dict[str, _Table] = {}
    hidden = []
    try:
        with calamine.load_workbook(io.BytesIO(raw)) as book:
            for about in book.sheets_metadata:
                if about.typ != calamine.SheetTypeEnum.WorkSheet:
                    continue
                if about.visible != calamine.SheetVisibleEnum.Visible:
                    hidden.append(about.name)
                    continue
                sheet = book.get_sheet_by_name(about.name)
                check_rows(name, sheet.total_height, size)
                cells = [list(map(_value, row)) for row in sheet.to_python(skip_empty_area=False)]
                where = name if len(book.sheet_names) == 1 else f"{name}, sheet {about.name}"
                tables[about.name] = _table(cells, sheet.merged_cell_ranges or [], where, notes)
    except calamine.PasswordError:
        raise InputError(f"{name} is protected by a password", try_="save it without a password") from None
    except (calamine.CalamineError, OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"{name} cannot be read as a spreadsheet: {shorten(error, 120)}",
            given=f"{len(raw)} bytes beginning with {raw[:8]!r}",
            try_="open it and save it again as XLSX, or as CSV (UTF-8)",
        ) from None
    if hidden:
        notes.append(f"Hidden sheets of {name} were not read: {', '.join(hidden[:8])}.")
    _tell_empty_formulas(raw, name, notes)
    return tables


def _table(cells: list[list[Any]], merged: Sequence[Any], where: str, notes: list[str]) -> _Table:
    layout = layout_of(cells[:_LOOKED_AT])
    place = layout.skipped
    filled = 0
    for (top, left), (bottom, right) in merged:
        # A title above the header is not a cell of a row.
        if top > place - (not layout.has_header) and top < len(cells) and left < len(cells[top]):
            filled += 1
            for row in cells[top : bottom + 1]:
                row[left : right + 1] = [cells[top][left]] * len(row[left : right + 1])
    if filled:
        notes.append(f"{counted(filled, 'merged cell')} of {where}, counted for each of the rows that they span.")
    rows = cells[place + layout.has_header :]
    used = [at for at in range(max(map(len, cells), default=0)) if any(_is_filled(row[at]) for row in cells[place:])]
    rows = [[row[at] for at in used] for row in rows if any(map(_is_filled, row))]
    if rows:
        Layout(place, layout.has_header, layout.titles).tell(where, notes)
    header = [cells[place][at] for at in used] if rows and layout.has_header else [""] * len(used)
    return header_of(header, where), rows


def _is_filled(cell: Any) -> bool:
    return cell is not None and cell != ""


def _value(cell: Any) -> Any:
    """A cell as a JSON value: whole numbers as integers, dates and times as ISO 8601 text."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return int(cell)
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(" ")
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    if isinstance(cell, datetime.timedelta):
        return str(cell)
    return cell


def _chosen(
    tables: dict[str, _Table],
    name: str,
    notes: list[str],
    wanted: str | None,
) -> dict[str, str]:
    """The sheets to read, each with its split."""
    if wanted is not None and (wanted in tables or not any(split_name(title) for title in tables)):
        if wanted not in tables:
            close = nearest(wanted, tables)
            raise InputError(
                f"{name} has no such sheet", given=wanted, allowed=", ".join(tables), try_=close and f"{close!r}"
            )
        return {wanted: "train"}
    splits = {title: split for title in tables if (split := split_name(title))}
    if "train" in splits.values() and len(set(splits.values())) == len(splits):
        chosen = splits
    else:
        main = max(tables, key=lambda title: len(tables[title][1]))
        same = [title for title, (header, _) in tables.items() if header == tables[main][0]]
        chosen = dict.fromkeys(same, "train")
        if len(same) > 1:
            notes.append(f"Sheets of {name} with the same columns were joined: {', '.join(same[:8])}.")
    others = [f"{title} ({counted(len(tables[title][1]), 'row')})" for title in tables if title not in chosen]
    if others:
        notes.append(f"Not read in {name}: {', '.join(others[:8])}. To read one of these sheets, name it as the split.")
    return chosen


def _check_unpacked(raw: bytes, name: str, size: int) -> None:
    """Raises InputError if the uncompressed contents of the file exceed `limits`. Its own directory is not trusted."""
    if not raw.startswith(b"PK"):
        return
    left = most_expanded(size)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            check_expanded(name, sum(entry.file_size for entry in archive.infolist()), size)
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    while piece := file.read(1 << 20):
                        left -= len(piece)
                        if left < 0:
                            raise too_large(name, entry.filename, most_expanded(size), unpacked=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{name} is not a complete spreadsheet: {shorten(error, 100)}", try_="download it or save it again"
        ) from None


_FORMULA = re.compile(rb"<f(?:\s[^>]*)?(?:/>|>[^<]*</f>)\s*(<v>[^<]|<v/>|<v></v>|</c>)")


def _tell_empty_formulas(raw: bytes, name: str, notes: list[str]) -> None:
    """Add a note on empty formulas: a formula has a value only after a spreadsheet program has computed it."""
    if not raw.startswith(b"PK") or not name.lower().endswith((".xlsx", ".xlsm")):
        return
    empty = 0
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        for entry in archive.namelist():
            if entry.startswith("xl/worksheets/"):
                matches = _FORMULA.findall(archive.read(entry))
                empty += sum(not re.fullmatch(rb"<v>[^<]", match) for match in matches)
    if empty:
        notes.append(
            f"{empty} formulas of {name} have no value and were read as empty: open the file in a spreadsheet program "
            "and save it there."
        )
