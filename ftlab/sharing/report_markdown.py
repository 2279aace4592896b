"""The report as Markdown, for model cards, issues and chats: the same texts as on the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ftlab.files import write_text
from ftlab.run_directory import RunDirectory
from ftlab.sharing.report import contents

# What Markdown or HTML would read as more than text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def write_markdown(run: RunDirectory, *, price_per_hour: float | None = None) -> Path:
    """Write the report of `run` as Markdown; returns its path. Raises FtlabError before an evaluation."""
    text = report_markdown(contents(run, price_per_hour=price_per_hour))
    write_text(run.report_markdown_file, text)
    return run.report_markdown_file


def report_markdown(found: dict[str, Any]) -> str:
    """The `contents` of a report as Markdown. Texts from data and models are escaped."""
    sections = [
        f"# {_text(found['verdict'])}",
        f"{_text(found['name'])}, {found['date']}. **{found['badge'][1]}.**",
        "## What was tuned on what",
        _list(f"**{label}:** {_text(text)}" for label, text in found["facts"]),
        "## Gained and lost",
        _text(found["gained"]),
        _table(found),
        _list(_text(note) for note in found["notes"]),
        "## What was forgotten",
        _text(found["forgetting"]),
        _list(
            f"{_quoted(row['prompt'])} Right: {_quoted(row['base'])} Now: {_quoted(row['adapted'])}"
            for row in found["lost"]
        ),
        "## Where it is worse",
        _list(_text(line) for line in found["worse"]),
    ]
    if found["checked"]:
        sections += [
            "## What else was checked",
            _list(f"**{label}:** {_text(text)}" for label, text in found["checked"]),
        ]
    if found["before_after"]:
        after = found["before_after"]
        sections += ["## Before and after", _rows(after["head"], after["rows"]), _text(after["how"])]
        sections += [_list(_text(line) for line in after["lines"])]
    sections += [
        "## Documents" if found["of_documents"] else "## Answers",
        _text(found["rule"]),
        "\n\n".join(_example(row, of_documents=found["of_documents"]) for row in found["examples"]),
        "## What to do next",
        "\n".join(f"{place}. {_text(step)}" for place, step in enumerate(found["steps"], start=1)),
        "## How it was measured",
        _list(_text(line) for line in found["measured"]),
        f"Run {_text(found['run'].id)}, made by ftlab.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _table(found: dict[str, Any]) -> str:
    first, *later = found["sides"]
    heads = ["Measure", first["title"], *(f"{side['title']} (change)" for side in later)]
    rows = []
    for row in found["table"]:
        cells = [f"{row['measure']} ({row['unit']})"]
        for side in found["sides"]:
            one = row["sides"][side["name"]]
            cell = f"{one['value']} [{one['interval']}]" if one["interval"] else one["value"]
            change = ", ".join(filter(None, [one["change"], one["p"]]))
            cells.append(f"{cell} ({change})" if change else cell)
        rows.append(cells)
    return _rows(heads, rows) + "\n\nIn brackets: 95% interval."


def _rows(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    shown = [[_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *shown])


def _example(row: dict[str, Any], *, of_documents: bool) -> str:
    if of_documents:
        return f"- **{_text(row['kind'].capitalize())}:** {_quoted(row['document'])}"
    lines = [f"- **{_text(row['kind'].capitalize())}:** {_quoted(row['prompt'])}"]
    for label, key in (("Base", "base"), ("Adapted", "adapted"), ("Reference", "reference")):
        lines.append(f"  - {label}: {_quoted(row[key])}")
    return "\n".join(lines)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _quoted(text: str) -> str:
    text = " ".join(text.split())
    return f"“{_text(text)}”" if text else "(no answer)"


def _text(text: str) -> str:
    """`text` on one line, with nothing in it that Markdown reads as markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
