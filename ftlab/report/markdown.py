"""Reports and cards as Markdown, in which model output stays plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ftlab.core.files import write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.report.findings import right_text
from ftlab.report.report import contents

# Characters that Markdown or HTML would interpret. "@" is included because an address would become a link.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&@])")
_LINKS = re.compile(r"(?i)(://|\bwww\.)")
_BEGINNINGS = re.compile(r"^([-+=]|\d+(?=[.)](?:\s|$)))")


def escaped(text: object) -> str:
    """`text` on one line, with nothing in it that Markdown interprets as markup or a link."""
    line = _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
    line = _LINKS.sub(lambda match: match[0].replace("/", "\\/", 1).replace(".", "\\."), line)
    return _BEGINNINGS.sub(lambda match: match[0] + "\\" if match[0].isdigit() else "\\" + match[0], line)


def quoted(text: str) -> str:
    text = " ".join(text.split())
    return f"“{escaped(text)}”" if text else "(no answer)"


def bullets(lines: Iterable[str]) -> str:
    """A list of `lines`, which are already Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts. All columns but the first are right-aligned."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    body = [[escaped(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *body])


def code(text: str, language: str = "") -> str:
    """`text` as a code block, with a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def write_markdown(run: RunDirectory, *, price_per_hour: float | None = None, name: str | None = None) -> Path:
    """Write the report of `run` as Markdown. Returns its path. Raises FtlabError before an evaluation."""
    text = report_markdown(contents(run, price_per_hour=price_per_hour, name=name))
    write_text(run.report_markdown_file, text)
    return run.report_markdown_file


def report_markdown(report: dict[str, Any]) -> str:
    """The `contents` of a report as Markdown. Texts from data and models are escaped."""
    sections = [
        f"# {escaped(report['verdict'])}",
        f"{escaped(report['name'])}, {report['date']}. **{report['badge'][1]}.**",
        "## Model and data",
        bullets(f"**{label}:** {escaped(text)}" for label, text in report["facts"]),
        "## Gains and losses",
        escaped(report["gained"]),
        comparison_rows(report),
        escaped(report["looks"]),
        bullets(escaped(note) for note in report["notes"]),
        "## What the base knew",
        *kept_rows(report),
        bullets(
            f"{quoted(row['prompt'])} Right: {quoted(row['base'])} Now: {quoted(row['adapted'])}"
            for row in report["lost"]
        ),
        moved_rows(report),
        "## What got worse",
        bullets(escaped(line) for line in report["worse"]),
    ]
    if report["checked"]:
        sections += [
            "## What else was checked",
            bullets(f"**{label}:** {escaped(text)}" for label, text in report["checked"]),
        ]
    if report["before_after"]:
        after = report["before_after"]
        sections += ["## Before and after", table(after["head"], after["rows"]), escaped(after["how"])]
        sections += [bullets(escaped(line) for line in after["lines"])]
    sections += [
        "## Documents" if report["of_documents"] else "## Answers",
        escaped(report["rule"]),
        "\n\n".join(_example(row, of_documents=report["of_documents"]) for row in report["examples"]),
        "## What to do next",
        "\n".join(f"{place}. {escaped(step)}" for place, step in enumerate(report["steps"], start=1)),
        "## How it was measured",
        bullets(escaped(line) for line in report["measured"]),
        f"Run {escaped(report['run'].id)}, made by ftlab.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def kept_rows(report: dict[str, Any]) -> list[str]:
    """What was kept, from the `contents` of a report: the answer in a word, a table of the figures, and the full
    text."""
    answer = f"**{report['kept_answer'][0].capitalize()}.**" if report["kept_answer"] else ""
    rows = [[row["measured"], row["base"], row["adapted"], row["answer"]] for row in report["kept"]]
    figures = table(["Measured on", "Base", "Adapted", "Answer"], rows) if rows else ""
    return [answer, figures, escaped(report["forgetting"])]


def moved_rows(report: dict[str, Any]) -> str:
    """The answers that changed most, side by side, from the `contents` of a report."""
    rows = [[row["prompt"], row["base"] or "(nothing)", row["side"] or "(nothing)"] for row in report["moved"]]
    if not rows:
        return ""
    return f"The answers that changed most:\n\n{table(['Prompt', 'Base', 'Adapted'], rows)}"


def comparison_rows(report: dict[str, Any]) -> str:
    """The measures of all sides as a table, from the `contents` of a report."""
    first, *later = report["sides"]
    heads = ["Measure", first["title"], *(f"{side['title']} (change)" for side in later)]
    rows = []
    for row in report["table"]:
        cells = [f"{row['measure']} ({row['unit']})"]
        for side in report["sides"]:
            cell = row["sides"][side["name"]]
            value = f"{cell['value']} [{cell['interval']}]" if cell["interval"] else cell["value"]
            change = ", ".join(filter(None, [cell["change"], cell["p"]]))
            cells.append(f"{value} ({change})" if change else value)
        rows.append(cells)
    return table(heads, rows) + "\n\nIn brackets: 95% interval."


def _example(row: dict[str, Any], *, of_documents: bool) -> str:
    if of_documents:
        return f"- **{escaped(row['kind'].capitalize())}:** {quoted(row['document'])}"
    lines = [f"- **{escaped(row['kind'].capitalize())}:** {quoted(row['prompt'])}"]
    for label, key in (("Base", "base"), ("Adapted", "adapted"), ("Reference", "reference")):
        lines.append(f"  - {label}{right_text(row, key)}: {quoted(row[key])}")
    return "\n".join(lines)
