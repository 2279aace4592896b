"""What is said about rows that cannot be used: how many, which, what they hold, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftlab.data.conversion import ROLES, WrongCell
from ftlab.errors import InputError, shorten

if TYPE_CHECKING:
    from ftlab.data.formats import Detected


def mixed_columns(
    name: str, missing: Sequence[tuple[int, str, Mapping[str, Any]]], rows: int, detected: Detected
) -> InputError:
    """`missing` holds (row, column that it lacks, the row itself)."""
    columns = list(dict.fromkeys(column for _, column, _ in missing))
    others = Counter(", ".join(row) or "nothing" for _, _, row in missing).most_common(3)
    return InputError(
        f"The rows of {name} have mixed columns: {len(missing)} of {rows} rows have no column "
        f"{' or '.join(map(repr, columns))} ({_numbers([index for index, _, _ in missing])})",
        given="; ".join(f"{count} {'row holds' if count == 1 else 'rows hold'} {keys}" for keys, count in others),
        allowed=f"{', '.join(detected.columns.values())} in every row ({detected.format})",
        try_="give every row the same columns, or remove these rows",
    )


def wrong_cells(name: str, wrong: Sequence[tuple[int, WrongCell]], rows: int) -> InputError:
    index, first = wrong[0]
    same = [row for row, problem in wrong if problem.column == first.column]
    return InputError(
        f"The column {first.column!r} of {name} does not hold {first.wanted} in {len(same)} of {rows} rows "
        f"({_numbers(same)})",
        given=f"{shorten(repr(first.value), 120)} ({type(first.value).__name__}) in row {index + 1}",
        allowed=first.wanted,
        try_="write the cells as text, in quotation marks, or choose another column (--column, data.columns)",
    )


def only_text(name: str, columns: Sequence[str], detected: Detected, stage: str) -> InputError:
    """Plain text, where a prompt and an answer are wanted."""
    text = detected.columns["text"]
    return InputError(
        f"{name} holds plain text ({text}) without prompts and answers, and the stage {stage} learns answers",
        given=f"columns {', '.join(columns)}",
        allowed="a prompt and an answer in every row; or the stage pretraining, which learns plain text as it is",
        try_="set stage: pretraining (--set stage=pretraining), or say which columns are prompt and answer "
        '(--column prompt="...", data.columns)',
    )


def no_text(name: str, columns: Sequence[str], detected: Detected) -> InputError:
    """Data with answers, where plain text is wanted."""
    example = detected.columns.get("text") or detected.columns.get("completion") or columns[0]
    return InputError(
        f"The stage pretraining learns plain text, and {name} holds prompts and answers ({detected.why})",
        given=f"format {detected.format}, columns {', '.join(columns)}",
        allowed="a column of plain text, or a file of plain text (.txt)",
        try_="set stage: sft (--set stage=sft) to learn the answers, or name a column that is learnt as plain text, "
        f'e.g. --column text="{example}" (data.columns={{text: {example}}})',
    )


def too_many_dropped(name: str, dropped: Counter[str], usable: int) -> InputError:
    total = usable + sum(dropped.values())
    top = dropped.most_common(1)[0][0]
    allowed, hint = "at least half of the rows with a prompt and an answer", "fill or remove these rows"
    what = f"{sum(dropped.values())} of {total} rows of {name} cannot be used"
    if top.startswith("unknown role"):
        what = f"The roles of the messages in {name} are not known: {what}"
        allowed = "; ".join(f"{role}: {', '.join(names)}" for role, names in ROLES.items())
        hint = "rename the roles to system, user and assistant"
    elif top == "no assistant turn":
        what = f"The conversations in {name} have no assistant turn: {what}"
        allowed, hint = "conversations with an answer of the assistant", "check the roles of the messages"
    reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.most_common(5))
    return InputError(what, given=reasons, allowed=allowed, try_=hint)


def too_few_rows(name: str, splits: Mapping[str, int], fewest: int, detected: Detected | None = None) -> InputError:
    held_out = [f"{count} for {split}" for split, count in splits.items() if split != "train" and count]
    beside = f", beside {' and '.join(held_out)}" if held_out else ""
    rows = "row" if splits["train"] == 1 else "rows"
    if detected is not None and detected.format == "text":
        rows = "document" if splits["train"] == 1 else "documents"
        return InputError(
            f"{name} has too few documents: {splits['train']} {rows} to train on{beside}",
            allowed=f"at least {fewest} documents to train on, so that some can be held out",
            try_="divide long texts: in a file of plain text, documents are parted by blank lines, or by lines that "
            "say <|endoftext|>",
        )
    return InputError(
        f"{name} has too few rows: {splits['train']} {rows} to train on{beside}",
        allowed=f"at least {fewest} rows to train on; a few hundred are usual",
        try_="add rows" + (", or hold out less (data.validation_fraction, data.test_fraction)" if held_out else ""),
    )


def _numbers(indexes: Sequence[int]) -> str:
    shown = ", ".join(str(index + 1) for index in indexes[:5])
    return f"{'row' if len(indexes) == 1 else 'rows'} {shown}{', …' if len(indexes) > 5 else ''}"
