"""What can be done about a finding: pure functions from rows to new rows, and a sentence for the history.

The source is never changed: rows that a remedy touches are copied. Rows are dicts as they stand in the source, by
split.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftlab.data.checks.finding import KINDS, REMEDIES, Finding
from ftlab.data.checks.personal import PERSONAL, mask
from ftlab.data.conversion import ROLE_KEYS, ROLES, TEXT_KEYS
from ftlab.errors import InputError

if TYPE_CHECKING:
    from ftlab.data.version_rows import VersionRow
    from ftlab.data.versions import Version

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]
_SPARE = 0.9  # of the allowed length is filled by a shortened row: a cut changes how a text is tokenised


@dataclass(frozen=True)
class Action:
    """One remedy for some rows: `rows` are indices into `split`. `columns` says which column plays which role.

    `matches[i]` is the (split, row) that rows[i] repeats or should agree with. `answer` replaces the answers when rows
    are relabelled by hand. `keep` is the share of its text that each row keeps when it is shortened.
    """

    remedy: str
    kind: str
    split: str
    rows: tuple[int, ...]
    matches: tuple[tuple[str, int], ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    answer: str | None = None
    keep: tuple[float, ...] = ()


def action_for(finding: Finding, columns: Mapping[str, str], remedy: str | None = None) -> Action:
    """The action that carries out the remedy of `finding`, or another `remedy` that fits it.

    Raises InputError when the remedy does not fit the finding.
    """
    about = KINDS[finding.kind]
    fitting = [name for name in dict.fromkeys((about.remedy, *about.others)) if name != "none"]
    remedy = remedy or about.remedy
    if remedy not in fitting:
        raise InputError(
            f"{remedy} is no remedy for this finding ({about.title.lower()})",
            given=remedy,
            allowed=", ".join(fitting) or "nothing can be done automatically",
        )
    length = finding.detail.get("max_length", 0)
    keep = tuple(min(1.0, _SPARE * length / tokens) for tokens in finding.detail.get("tokens", []))
    return Action(remedy, finding.kind, finding.split, tuple(finding.rows), tuple(finding.matches), columns, None, keep)


def apply(rows: Rows, action: Action) -> tuple[dict[str, list[Row]], str]:
    """The rows after `action`, and a sentence that says what was done. Raises InputError when it cannot be done."""
    after, said = apply_all(rows, [action])
    return after, said[0]


def apply_all(rows: Rows, actions: Sequence[Action]) -> tuple[dict[str, list[Row]], list[str]]:
    """The rows after all `actions`, whose indices are those of `rows`, and a sentence for each."""
    plan = plan_for(rows, actions)
    after: dict[str, list[Row]] = {split: [] for split in rows}
    for split, every in rows.items():
        for index, row in enumerate(every):
            place = (split, index)
            if place not in plan.gone:
                after.setdefault(plan.moved.get(place, split), []).append(plan.changed.get(place, row))
    return after, plan.said


def mend(version: Version, actions: Sequence[Action], *, who: str | None = None, why: str = "") -> Version:
    """A new version after `actions`, whose indices count the rows of each split that are not excluded.

    Dropped rows stay in the version as excluded, so that they can be brought back.
    """
    from ftlab.data.versions import derive, rows_of

    splits: dict[str, list[VersionRow]] = {}
    for row in rows_of(version):
        if row.excluded is None:
            splits.setdefault(row.split, []).append(row)
    plan = plan_for({split: [row.cells for row in rows] for split, rows in splits.items()}, actions)
    places = {row.id: (split, index) for split, rows in splits.items() for index, row in enumerate(rows)}

    def changed(row: VersionRow) -> VersionRow:
        place = places.get(row.id)
        if place is None:
            return row
        cells, split = plan.changed.get(place, row.cells), plan.moved.get(place, row.split)
        return row.with_(cells=cells, split=split, excluded=plan.gone.get(place))

    details = {"remedies": [f"{action.remedy}: {action.kind}" for action in actions]}
    return derive(
        version, lambda: map(changed, rows_of(version)), " ".join(plan.said), who=who, why=why, details=details
    )


@dataclass
class Plan:
    """What happens to which (split, row): the new row, why it goes, or the split it goes to; `said` tells it."""

    changed: dict[tuple[str, int], Row] = field(default_factory=dict)
    gone: dict[tuple[str, int], str] = field(default_factory=dict)
    moved: dict[tuple[str, int], str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def plan_for(rows: Rows, actions: Sequence[Action]) -> Plan:
    """What `actions` do to `rows`. A row that goes for one reason is not counted for another as well."""
    plan = Plan()
    for action in sorted(actions, key=lambda action: _ORDER.index(action.remedy) if action.remedy in _ORDER else 0):
        _check(rows, action)
        places = [(action.split, row) for row in action.rows]
        if action.remedy in ("drop", "deduplicate"):
            new = [place for place in places if place not in plan.gone]
            plan.gone |= dict.fromkeys(new, _title(action))
            count = len(new)
        elif action.remedy == "move":
            count = _move(action, plan)
        else:
            count = _edit(rows, action, plan)
        if count:
            plan.said.append(_sentence(action, count))
        elif action.remedy == "relabel":
            plan.said.append(f"{len(places)} rows of {action.split} wait for a decision ({_title(action)}).")
        else:
            plan.said.append(f"Nothing was left to {action.remedy} in {action.split} ({_title(action)}).")
    return plan


def _check(rows: Rows, action: Action) -> None:
    if action.remedy not in REMEDIES or action.remedy == "none":
        raise InputError("There is no such remedy", given=action.remedy, allowed=", ".join(REMEDIES[:-1]))
    if action.split not in rows:
        raise InputError("There is no such split", given=action.split, allowed=", ".join(rows))
    wrong = [row for row in action.rows if not 0 <= row < len(rows[action.split])]
    if wrong:
        allowed = f"0 to {len(rows[action.split]) - 1}"
        raise InputError(f"{action.split} has no such row", given=wrong[0], allowed=allowed)


def _move(action: Action, plan: Plan) -> int:
    if len(action.matches) != len(action.rows):
        raise InputError("It is not said where these rows should go", given=f"{len(action.rows)} rows of {action.kind}")
    count = 0
    for row, (split, _) in zip(action.rows, action.matches, strict=True):
        if (action.split, row) not in plan.gone:
            plan.moved[action.split, row] = split
            count += 1
    return count


def _edit(rows: Rows, action: Action, plan: Plan) -> int:
    count = 0
    for number, index in enumerate(action.rows):
        place = (action.split, index)
        row = plan.changed.get(place, rows[action.split][index])
        if place in plan.gone:
            continue
        if action.remedy == "mask":
            kinds = (action.kind,) if action.kind in PERSONAL else PERSONAL
            new = _each_text(row, lambda text, kinds=kinds: mask(text, kinds))
        elif action.remedy == "relabel":
            new = _relabelled(rows, action, number, row)
        else:
            new = _shortened(row, action, number)
        if new != row:
            plan.changed[place] = new
            count += 1
    return count


def _relabelled(rows: Rows, action: Action, number: int, row: Row) -> Row:
    if action.answer is not None:
        return _with_answer(row, action.columns, lambda _: action.answer)
    if len(action.matches) != len(action.rows):
        raise InputError("It is not said which answer is right", try_="give the answer")
    split, index = action.matches[number]
    answer = answer_of(rows[split][index], action.columns)
    return _with_answer(row, action.columns, lambda own: own if answer is None else answer)


def _shortened(row: Row, action: Action, number: int) -> Row:
    keep = action.keep[number] if number < len(action.keep) else 0.5
    return _cut_longest(row, action.columns, keep)


def answer_of(row: Row, columns: Mapping[str, str]) -> str | None:
    """The last answer of a row in any format; None when it has none."""
    found: list[str] = []
    _with_answer(row, columns, lambda text: found.append(text) or text)
    return found[-1] if found else None


def _with_answer(row: Row, columns: Mapping[str, str], change: Callable[[str], str | None]) -> Row:
    column = next((columns[role] for role in ("completion", "chosen", "messages") if role in columns), None)
    if column is None or column not in row:
        return row
    cell = row[column]
    turns = _turns_in(cell)
    if turns is None:
        return row | {column: change(cell or "")}
    last = max((place for place, turn in enumerate(turns) if _role(turn) == "assistant"), default=None)
    if last is None:
        return row
    key = next((key for key in TEXT_KEYS if turns[last].get(key) is not None), "content")
    new = [*turns[:last], turns[last] | {key: change(turns[last].get(key, ""))}, *turns[last + 1 :]]
    return row | {column: json.dumps(new, ensure_ascii=False) if isinstance(cell, str) else new}


def _cut_longest(row: Row, columns: Mapping[str, str], keep: float) -> Row:
    """Shorten the longest text that is asked, at a space, so that the row keeps about `keep` of its text."""
    texts: list[str] = []
    asked = {role: column for role, column in columns.items() if role in ("prompt", "input", "messages", "system")}
    answer = answer_of(row, columns)
    for column in asked.values():
        _each_text(row.get(column), lambda text: texts.append(text) or text)
    texts = [text for text in texts if text != answer]
    if not texts:
        return row
    longest = max(texts, key=len)
    room = len(longest) - int((1 - keep) * (sum(map(len, texts)) + len(answer or "")))
    short = longest[: max(room, 1)].rsplit(" ", 1)[0].rstrip() + " …"
    cut = {column: _each_text(row[column], lambda text: short if text == longest else text) for column in asked.values()
           if column in row}  # fmt: skip
    return row | cut


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with every text in it changed; turns written as JSON text are changed one by one and written again."""
    if isinstance(value, str):
        turns = _turns_in(value)
        return change(value) if turns is None else json.dumps(_each_text(turns, change), ensure_ascii=False)
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    if isinstance(value, dict):
        return {key: item if key in ROLE_KEYS else _each_text(item, change) for key, item in value.items()}
    return value


def _turns_in(cell: Any) -> list[dict[str, Any]] | None:
    if isinstance(cell, str):
        if not cell.lstrip().startswith("[{"):
            return None
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    good = isinstance(cell, list) and cell and all(isinstance(turn, dict) and _role(turn) for turn in cell)
    return cell if good else None


def _role(turn: Mapping[str, Any]) -> str | None:
    said = next((turn[key] for key in ROLE_KEYS if isinstance(turn.get(key), str)), "")
    return next((role for role, names in ROLES.items() if said.strip().lower() in names), None)


# What goes is known first, so that no row is mended in vain; moves come last.
_ORDER = ("drop", "deduplicate", "mask", "relabel", "shorten", "move")
_DONE = {
    "drop": "Dropped",
    "deduplicate": "Removed",
    "move": "Moved to the held-out split",
    "mask": "Masked",
    "relabel": "Relabelled",
    "shorten": "Shortened",
}


def _sentence(action: Action, count: int) -> str:
    rows = f"{count} {'row' if count == 1 else 'rows'} of {action.split}"
    return f"{_DONE[action.remedy]} {rows} ({_title(action)})."


def _title(action: Action) -> str:
    title = KINDS[action.kind].title if action.kind in KINDS else action.kind
    return title if title.split()[0].isupper() else title[:1].lower() + title[1:]
