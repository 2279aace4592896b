"""Two answers to a prompt and which one won: the votes, signed strengths and scores of other tools."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

FIRST, SECOND, TIE = "first", "second", "tie"
# The markers of the two sides, as column name suffixes and as cell values of a vote.
_SIDES = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"), ("one", "two"))
# Names of the two answer columns without their marker, the clearest first.
_ANSWERS = (
    "conversation response answer completion output reply generation candidate humanref summary message text assistant"
).split()
_WINNERS = (
    "winner overallpreference preferencestrength preference betterresponseid betterresponse preferred "
    "preferredresponse better choice chosenresponse vote votes verdict judgement judgment humanpreference "
    "annotation label labels"
).split()
_FLAGS = ("winnermodel", "winner", "won", "iswinner", "preferred")
_SCORES = ("score", "scores", "rating", "reward", "avgrating", "quality", "overallscore")
_NOBODY = ("tie", "both", "draw", "equal", "same", "neither", "none", "unsure", "nopreference")


@dataclass(frozen=True)
class Vote:
    """How the winner of two answers is read from `columns`: one column with words, the number of the side or a signed
    strength (below 0: the first answer), or two columns with flags or scores of both sides."""

    how: Literal["words", "signed", "flags", "scores"]
    columns: tuple[str, ...]
    sides: tuple[str, str] = ("a", "b")

    def winner(self, row: Mapping[str, Any]) -> str | None:
        """first, second or tie. None if the row does not say."""
        cells = [row.get(column) for column in self.columns]
        if self.how == "words":
            return _side(cells[0], self.sides)
        numbers = [_number(cell) for cell in cells]
        if any(number is None for number in numbers[:2]):
            return None
        first, second = (0.0, numbers[0]) if self.how == "signed" else (numbers[0], numbers[1])
        if first is None or second is None or first == second:
            return TIE
        # A positive strength favors the second answer, as in HelpSteer2 and HelpSteer3.
        return FIRST if first > second else SECOND


def find_vote(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, str, Vote] | None:
    """The columns of the two answers and the vote on them. None without two answers or a vote."""
    pairs = _pairs(columns)
    for stem in _ANSWERS:
        for sides, (first, second) in pairs.get(stem, {}).items():
            if not (_holds_answers(rows, first) and _holds_answers(rows, second)):
                continue
            if (vote := _vote(columns, rows, pairs, sides)) is not None:
                return first, second, vote
    return None


def find_scores(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Vote | None:
    """The columns of the scores of two answers, such as score_chosen and score_rejected; None if there are none."""
    by_name = {plain(column): column for column in columns}
    for name in _SCORES:
        for parts in (("{name}{mark}"), ("{mark}{name}")):
            pair = [by_name.get(parts.format(name=name, mark=mark)) for mark in ("chosen", "rejected")]
            if pair[0] and pair[1] and all(_are_numbers(rows, column) for column in pair if column):
                return Vote("scores", (pair[0], pair[1]))
    return None


def vote_in(column: str, first: str, second: str, rows: Sequence[Mapping[str, Any]]) -> Vote | None:
    """The vote in `column` on the answers in two other columns. None if its cells name neither of them."""
    endings = [plain(first), plain(second)]
    sides = next((pair for pair in _SIDES if all(map(str.endswith, endings, pair))), ("a", "b"))
    return _one_column(column, rows, sides) or Vote("words", (column,), sides)


def _vote(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    pairs: Mapping[str, Mapping[tuple[str, str], tuple[str, str]]],
    sides: tuple[str, str],
) -> Vote | None:
    for stem in _FLAGS:
        if (pair := pairs.get(stem, {}).get(sides)) and all(_are_numbers(rows, column) for column in pair):
            return Vote("flags", pair)
    by_name = {plain(column): column for column in columns}
    for name in _WINNERS:
        if name in by_name and (vote := _one_column(by_name[name], rows, sides)):
            return vote
    for stem in _SCORES:
        if (pair := pairs.get(stem, {}).get(sides)) and all(_are_numbers(rows, column) for column in pair):
            return Vote("scores", pair)
    return None


def _one_column(column: str, rows: Sequence[Mapping[str, Any]], sides: tuple[str, str]) -> Vote | None:
    cells = [cell for row in rows if (cell := row.get(column)) not in (None, "")]
    if not cells:
        return None
    numbers = {number for cell in cells if (number := _number(cell)) is not None}
    is_number = sum(_number(cell) is not None for cell in cells) >= 0.9 * len(cells)
    if is_number and min(numbers) < 0:
        return Vote("signed", (column,), sides)
    # 0 and 1 do not say whether they mean a and b, or no and yes.
    if is_number and not numbers <= {float(side) for side in sides if side.isdigit()}:
        return None
    votes = [_side(cell, sides) for cell in cells]
    known = sum(vote is not None for vote in votes)
    return Vote("words", (column,), sides) if known >= 0.9 * len(cells) and {FIRST, SECOND} & set(votes) else None


def _side(cell: Any, sides: tuple[str, str]) -> str | None:
    number = _number(cell)
    text = str(int(number)) if number is not None and number.is_integer() else plain(str(cell or ""))
    if any(word in text for word in _NOBODY) and not text.isdigit():
        return TIE
    for side, name in zip(sides, (FIRST, SECOND), strict=True):
        if text == side or (len(text) > len(side) and text.endswith(side) and text[: -len(side)] in _CALLED):
            return name
    return None


_CALLED = ("model", "response", "answer", "assistant", "option", "completion", "conversation", "output", "candidate")


def _pairs(columns: Sequence[str]) -> dict[str, dict[tuple[str, str], tuple[str, str]]]:
    """The pairs of columns that differ only in the side marker: {stem: {sides: (first, second)}}."""
    by_name = {plain(column): column for column in columns}
    pairs: dict[str, dict[tuple[str, str], tuple[str, str]]] = {}
    for sides in _SIDES:
        for name, column in by_name.items():
            if name.endswith(sides[0]) and (stem := name[: -len(sides[0])]) and stem + sides[1] in by_name:
                pairs.setdefault(stem, {})[sides] = (column, by_name[stem + sides[1]])
    return pairs


def _holds_answers(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    cells = [cell for row in rows if (cell := row.get(column)) not in (None, "", [])]
    return bool(cells) and sum(isinstance(cell, str | list | dict) for cell in cells) >= 0.9 * len(cells)


def _are_numbers(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    cells = [cell for row in rows if (cell := row.get(column)) not in (None, "")]
    return bool(cells) and sum(_number(cell) is not None for cell in cells) >= 0.9 * len(cells)


def _number(cell: Any) -> float | None:
    """A number, also from text or a boolean. None for anything else, and for NaN."""
    if isinstance(cell, str):
        text = cell.strip().lower()
        if text in ("true", "false"):
            return float(text == "true")
        try:
            cell = float(text)
        except ValueError:
            return None
    if not isinstance(cell, int | float) or cell != cell or abs(cell) == float("inf"):
        return None
    return float(cell)


def plain(name: str) -> str:
    """The column name without case, spaces and underscores."""
    return re.sub(r"[\W_]+", "", str(name).lower())
