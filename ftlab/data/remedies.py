"""Remedies for findings: planned row by row, and applied to a version."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, pairwise
from typing import Any

from ftlab.config import DataConfig
from ftlab.core.parsing import json_or
from ftlab.core.workspace import Workspace
from ftlab.data.cells import label_text
from ftlab.data.checks.finding import DONE_TO_ROWS, KINDS, Finding
from ftlab.data.checks.personal import MASKS, PERSONAL, find_personal, mask
from ftlab.data.conversion import convert
from ftlab.data.load import Loaded, load_rows
from ftlab.data.rendering import encode, ensure_chat_template
from ftlab.data.shapes import Detected, Message, UnusableRow
from ftlab.data.splits import detect_format
from ftlab.data.tabular import Row
from ftlab.data.tool_calls import most_think
from ftlab.data.turns import ROLE_KEYS, ROLES, TEXT_KEYS
from ftlab.data.version_store import DetailsJson, Version, VersionRow, rows_of
from ftlab.data.versions import derive
from ftlab.errors import FtlabError, InputError, shorten

Rows = Mapping[str, Sequence[Row]]
Tokens = Callable[[Row], int]
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"')\]]*\s+|\n+")
# A complete statement: no question, number, list, label (Q:, Answer:), table or code.
_TELLS = re.compile(r"(?![-*•(]|\w[).])[^?？\d|{}<>=;:]{25,}[.!…。！][\"')\]]*")
# A question or an instruction, or a sentence that addresses someone.
_ASKS = re.compile(
    r"[?？¿]|\b(you|yours?|please|must|should|shall|ought|always|never|don't|do not|answers?|questions?|tasks?"
    r"|examples?|instructions?|following|given|options?|inputs?|outputs?|hypothesis|premise"
    r"|(we|i) (ask|expect|want|need))\b",
    re.IGNORECASE,
)
_SHORT_FORM = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|al|approx|Dr|Mr|Mrs|Ms|Prof|St|Sr|Jr|No|Fig)|\b[A-Z])\.$")
_FEWEST_LETTERS = 20  # fewest characters in the first or last sentence for it not to be a greeting
_MOST_SOURCES = 2  # most sentences that an extractive answer draws on
_FEWEST_DRAWN = 2  # fewest words of an answer that occur only in its source sentences
_NEEDED = "no sentence of the prompt is known to be unnecessary"
_STILL_LONG = "it is still too long without the unnecessary sentences"
_LOST_SHOWN, _LOST_LETTERS = 3, 80


@dataclass(frozen=True)
class Action:
    """One remedy for some rows: `rows` are indices into `split`. `columns` maps roles to columns.

    `matches[i]` is the (split, row) that rows[i] repeats or should agree with. `answer` replaces the answers if rows
    are relabeled by hand. `max_length` is the length to shorten rows to; `tokens` counts the tokens of a row as in
    training.
    """

    remedy: str
    kind: str
    split: str
    rows: tuple[int, ...]
    matches: tuple[tuple[str, int], ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    answer: str | None = None
    max_length: int | None = None
    tokens: Tokens | None = None


def action_for(
    finding: Finding, columns: Mapping[str, str], remedy: str | None = None, *, tokens: Tokens | None = None
) -> Action:
    """The action for the remedy of `finding`, or for another `remedy` that fits it.

    `tokens` counts the tokens of a row, to shorten rows. Raises InputError if the remedy does not fit the finding, or
    is a training setting.
    """
    about = finding.about
    fitting = [name for name in finding.remedies if name != "none"]
    remedy = remedy or finding.remedy
    if remedy not in fitting:
        raise InputError(
            f"{remedy} is not a remedy for this finding ({about.title.lower()})",
            given=remedy,
            allowed=", ".join(fitting) or "no automatic remedy",
        )
    if remedy == "raise":
        raise InputError(
            "max_length is a training setting; raising it changes no row",
            given=remedy,
            allowed=", ".join(name for name in fitting if name in DONE_TO_ROWS),
            try_=f"train with optimisation.max_length={finding.detail['raise_to']}",
        )
    return Action(
        remedy,
        finding.kind,
        finding.split,
        tuple(finding.rows),
        tuple(finding.matches),
        columns,
        max_length=finding.detail.get("max_length"),
        tokens=tokens,
    )


class NothingChanged(FtlabError):
    """The remedies changed no row."""


def mend(version: Version, actions: Sequence[Action], *, who: str | None = None, why: str = "") -> Version:
    """A new version after `actions`, whose indices count the rows of each split that are not excluded.

    Dropped rows stay in the version as excluded, so that they can be restored. Raises NothingChanged, without making a
    version, if no row changes.
    """
    splits: dict[str, list[VersionRow]] = {}
    for row in rows_of(version):
        if row.excluded is None:
            splits.setdefault(row.split, []).append(row)
    plan = plan_for({split: [row.cells for row in rows] for split, rows in splits.items()}, actions)
    if not (plan.changed or plan.gone or plan.moved):
        raise NothingChanged(f"No row was changed. {' '.join(plan.sentences)}")
    places = {row.id: (split, index) for split, rows in splits.items() for index, row in enumerate(rows)}

    def changed(row: VersionRow) -> VersionRow:
        place = places.get(row.id)
        if place is None:
            return row
        cells, split = plan.changed.get(place, row.cells), plan.moved.get(place, row.split)
        return row.with_(cells=cells, split=split, excluded=plan.gone.get(place))

    details: DetailsJson = {"remedies": [f"{action.remedy}: {action.kind}" for action in actions]}
    if plan.lost:
        details["lost"] = [{"split": split, "row": row, "text": text} for (split, row), text in plan.lost.items()]
    return derive(
        version, lambda: map(changed, rows_of(version)), " ".join(plan.sentences), who=who, why=why, details=details
    )


@dataclass
class Plan:
    """Changes by (split, row): the new row, the reason it is excluded, or its new split. `lost` is the text that was
    cut, `kept` the reason nothing was cut. `sentences` describe all of it."""

    changed: dict[tuple[str, int], Row] = field(default_factory=dict)
    gone: dict[tuple[str, int], str] = field(default_factory=dict)
    moved: dict[tuple[str, int], str] = field(default_factory=dict)
    lost: dict[tuple[str, int], str] = field(default_factory=dict)
    kept: dict[tuple[str, int], str] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


def plan_for(rows: Rows, actions: Sequence[Action]) -> Plan:
    """The effect of `actions` on `rows`. A row excluded for one reason is not counted for another."""
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
            gone = len(plan.gone)
            count = _edit(rows, action, plan)
            left_out = len(plan.gone) - gone
            if left_out:
                out = f"Left out {_rows(left_out, action)}: the answer itself would be masked."
                plan.sentences.append(f"{out} {_sentence(action, count)}" if count else out)
                continue
        if action.remedy == "shorten":
            plan.sentences += _about_shortened(action, count, plan)
        elif count:
            plan.sentences.append(_sentence(action, count))
        elif action.remedy == "relabel":
            plan.sentences.append(f"{len(places)} rows of {action.split} need a decision ({_title(action)}).")
        else:
            plan.sentences.append(f"Nothing left to {action.remedy} in {action.split} ({_title(action)}).")
    return plan


def _check(rows: Rows, action: Action) -> None:
    if action.remedy not in DONE_TO_ROWS:
        raise InputError("There is no such remedy", given=action.remedy, allowed=", ".join(DONE_TO_ROWS))
    if action.split not in rows:
        raise InputError("There is no such split", given=action.split, allowed=", ".join(rows))
    wrong = [row for row in action.rows if not 0 <= row < len(rows[action.split])]
    if wrong:
        allowed = f"0 to {len(rows[action.split]) - 1}"
        raise InputError(f"{action.split} has no such row", given=wrong[0], allowed=allowed)


def _move(action: Action, plan: Plan) -> int:
    if len(action.matches) != len(action.rows):
        raise InputError("The target split of these rows is missing", given=f"{len(action.rows)} rows of {action.kind}")
    count = 0
    for row, (split, _) in zip(action.rows, action.matches, strict=True):
        if (action.split, row) not in plan.gone:
            plan.moved[action.split, row] = split
            count += 1
    return count


def _edit(rows: Rows, action: Action, plan: Plan) -> int:
    count = 0
    answered = _answered(rows, action) if action.remedy == "mask" else Counter()
    for number, index in enumerate(action.rows):
        place = (action.split, index)
        row = plan.changed.get(place, rows[action.split][index])
        if place in plan.gone:
            continue
        if action.remedy == "mask":
            kinds = (action.kind,) if action.kind in PERSONAL else PERSONAL
            new = _each_text(row, partial(mask, kinds=kinds))
            if _is_made_up(row, action.columns, kinds, answered):
                plan.gone[place] = _title(action)
                continue
        elif action.remedy == "relabel":
            new = _relabelled(rows, action, number, row)
        else:
            new, lost, why = _shortened(row, action)
            if lost:
                plan.lost[place] = lost
            if why:
                plan.kept[place] = why
        if new != row:
            plan.changed[place] = new
            count += 1
    return count


def _relabelled(rows: Rows, action: Action, number: int, row: Row) -> Row:
    if action.answer is not None:
        return _with_answer(row, action.columns, lambda _: action.answer)
    if len(action.matches) != len(action.rows):
        raise InputError("The right answer is missing", try_="give the answer")
    split, index = action.matches[number]
    answer = answer_of(rows[split][index], action.columns)
    return _with_answer(row, action.columns, lambda own: own if answer is None else answer)


def _answered(rows: Rows, action: Action) -> Counter[str]:
    """The number of answers of these rows in which each personal text occurs."""
    answers = (answer_of(rows[action.split][row], action.columns) or "" for row in action.rows)
    return Counter(text for answer in answers for text in {answer[s.start : s.end] for s in find_personal(answer)})


def _is_made_up(row: Row, columns: Mapping[str, str], kinds: Sequence[str], answered: Counter[str]) -> bool:
    """Whether the answer contains personal data that occurs neither in the prompt nor in other answers, such as a
    password it was asked to invent. Masking it would teach the model to answer with a placeholder."""
    answer = answer_of(row, columns)
    if not answer:
        return False
    asking = {column for role, column in columns.items() if role in _ASKED}
    asked = [text for column in asking for text in _texts_in(row.get(column)) if text != answer]
    known = {span.kind for text in asked for span in find_personal(text)}
    # Already masked as another kind.
    known |= {kind for kind in kinds if any(MASKS[kind] in text for text in asked)}
    spans = [span for span in find_personal(answer) if span.kind in kinds]
    return any(span.kind not in known and answered[answer[span.start : span.end]] < 2 for span in spans)


def _shortened(row: Row, action: Action) -> tuple[Row, str, str]:
    """The row without unnecessary sentences of its longest prompt text, so that it fits into `max_length`; the text
    cut; and the reason if nothing was. If that is not enough (see `_spare`), the row is unchanged. The system prompt
    and the answers never change."""
    if action.tokens is None or action.max_length is None:
        raise InputError("Shortening rows needs a base to count tokens", try_="set the base (--base)")
    texts = _sparable(row, action.columns)
    longest = max(texts, key=len, default="")
    parts = _sentences(longest)
    spare = _spare(parts, [text for text in _asked_texts(row, action.columns) if text != longest], row, action.columns)
    if not spare:
        return row, "", _NEEDED

    def without(count: int) -> Row:
        gone = set(spare[len(spare) - count :])
        text = "".join("… " if place in gone else part for place, part in enumerate(parts))
        short = re.sub(r"(?:… )+", "… ", text)
        return _each_asked(row, action.columns, lambda text: short if text == longest else text)

    if action.tokens(without(len(spare))) > action.max_length:
        return row, "", _STILL_LONG
    low, high = 1, len(spare)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if action.tokens(without(middle)) <= action.max_length else (middle + 1, high)
    if action.tokens(without(low)) > action.max_length:  # dropping sentences can add a token or two
        low = len(spare)
    return without(low), "".join(parts[place] for place in spare[len(spare) - low :]).strip(), ""


def _spare(parts: Sequence[str], others: Sequence[str], row: Row, columns: Mapping[str, str]) -> list[int]:
    """The places of the sentences that can be dropped from a prompt of `parts` (`others` are the other prompt texts).

    Only an extractive answer shows what it needs: all its words occur in the question or in at most two of the
    sentences, and at least two of them only there. A label, a summary, a translation or "not enough information" may
    depend on any sentence. Then statements can go (no question, number, list or code, nobody addressed) that share no
    word with the question or an answer and do not precede a source sentence of the answer.
    """
    if not parts:
        return []
    first = 2 if len(parts[0].strip()) < _FEWEST_LETTERS else 1  # skip a greeting such as "Hi."
    last = len(parts) - (2 if len(parts[-1].strip()) < _FEWEST_LETTERS else 1)  # skip "Thanks!"
    within = [place for place in range(first, last) if not _ASKS.search(parts[place])]
    asked = set().union(*map(_words, others), *(_words(parts[at]) for at in range(len(parts)) if at not in within))
    answer, rejected = _answered_words(row, columns)
    drawn = answer - asked
    sources = _sources(drawn, {place: _words(parts[place]) for place in within})
    if len(drawn) < _FEWEST_DRAWN or not sources:
        return []
    needed = asked | answer | rejected
    return [
        place
        for place in within
        if _TELLS.fullmatch(parts[place].strip()) and place + 1 not in sources and not _words(parts[place]) & needed
    ]


def _sources(drawn: set[str], within: Mapping[int, set[str]]) -> set[int]:
    """The sentences with `drawn` words if two of them contain all of these; else none."""
    left, chosen = set(drawn), set[int]()
    while left and len(chosen) < _MOST_SOURCES:
        best = max(within, key=lambda place: len(within[place] & left), default=None)
        if best is None or not within[best] & left:
            return set()
        chosen.add(best)
        left -= within[best]
    return set() if left else {place for place, words in within.items() if words & drawn}


def _answered_words(row: Row, columns: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """The words of all remaining answers, and of the rejected answer."""
    turns = [turn for role in _SPOKEN for turn in _turns_in(row.get(columns.get(role, ""))) or []]
    spoken = [_said(turn) for turn in turns if _role(turn) == "assistant"]
    rejected = answer_of(row, {"completion": columns["rejected"]}) if "rejected" in columns else ""
    return _words(" ".join([*spoken, answer_of(row, columns) or ""])), _words(rejected or "")


def _words(text: str) -> set[str]:
    """Approximate content words: words of four or more letters, numbers, and names."""
    return {word.lower() for word in re.findall(r"\w{4,}|\d+|(?<![.!?] )(?<!^)\b[A-Z]\w+", text)}


def _sentences(text: str) -> list[str]:
    """The sentences and lines of `text` with the white space after each; joined, they are the text."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if _ends(text, match)]
    places = [0, *ends, len(text)]
    return [text[start:end] for start, end in pairwise(places) if text[start:end].strip()]


def _ends(text: str, match: re.Match[str]) -> bool:
    """Whether a sentence ends here: not after "e.g.", "Dr." or an initial, not inside brackets, not before a lowercase
    letter."""
    if "\n" in match.group():
        return True
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    after = text[match.end() : match.end() + 1]
    return not _SHORT_FORM.search(line) and not after.islower() and line.count("(") <= line.count(")")


# The input of an instruction is its subject; the instruction itself is the question.
_SHORTENED = ("prompt", "input", "messages")
_ASKED = (*_SHORTENED, "system")
_SPOKEN = ("prompt", "messages", "history", "chosen")


def _sparable(row: Row, columns: Mapping[str, str]) -> list[str]:
    """The texts that may be shortened: the input, else the prompt, else the user turns."""
    column = next((columns[role] for role in ("input", "prompt", "messages") if row.get(columns.get(role, ""))), None)
    if column is None:
        return []
    turns = _turns_in(row[column])
    if turns is None:
        return [row[column]] if isinstance(row[column], str) and row[column] != answer_of(row, columns) else []
    others = {_said(turn) for turn in turns if _role(turn) != "user"}
    return [text for turn in turns if _role(turn) == "user" and (text := _said(turn)) and text not in others]


def _asked_texts(row: Row, columns: Mapping[str, str]) -> list[str]:
    """All texts of the prompt columns, including answers of earlier turns."""
    asking = {column for role, column in columns.items() if role in _ASKED and role != "messages"}
    texts = [text for column in asking for text in _texts_in(row.get(column))]
    turns = _turns_in(row.get(columns.get("messages", ""))) or []
    return texts + [text for turn in turns if _role(turn) in ("user", "system") for text in _texts_in(turn)]


def _each_asked(row: Row, columns: Mapping[str, str], change: Callable[[str], str]) -> Row:
    asked = {column for role, column in columns.items() if role in _SHORTENED}
    return row | {column: _each_text(row[column], change) for column in asked if column in row}


def answer_of(row: Row, columns: Mapping[str, str]) -> str | None:
    """The last answer of a row in any format; None if it has none."""
    answers: list[str] = []

    def note(text: str) -> str:
        answers.append(text)
        return text

    _with_answer(row, columns, note)
    return answers[-1] if answers else None


def _with_answer(row: Row, columns: Mapping[str, str], change: Callable[[str], str | None]) -> Row:
    column = next((columns[role] for role in ("completion", "chosen", "messages") if role in columns), None)
    if column is None or column not in row:
        return row
    cell = row[column]
    if isinstance(cell, dict):  # one turn, as LLaMA-Factory writes chosen answers
        return row | {column: _saying(cell, change)} if any(key in cell for key in TEXT_KEYS) else row
    if isinstance(cell, int | float) and not isinstance(cell, bool):  # trained as text, and as the number of a choice
        new_text = change(label_text(cell))
        return row if new_text == label_text(cell) else row | {column: new_text}
    turns = _turns_in(cell)
    if turns is None:
        return row | {column: change(cell or "")} if cell is None or isinstance(cell, str) else row
    last = max((place for place, turn in enumerate(turns) if _role(turn) == "assistant"), default=None)
    if last is None:
        return row
    new = [*turns[:last], _saying(turns[last], change), *turns[last + 1 :]]
    return row | {column: json.dumps(new, ensure_ascii=False) if isinstance(cell, str) else new}


def _said(turn: Mapping[str, Any]) -> str:
    """The text of a turn, also of one in content parts."""
    held = next((turn[key] for key in TEXT_KEYS if turn.get(key) is not None), "")
    if isinstance(held, list):
        texts = (part.get("text") if isinstance(part, dict) else part for part in held)
        return "".join(text for text in texts if isinstance(text, str))
    return held if isinstance(held, str) else ""


def _saying(turn: dict[str, Any], change: Callable[[str], str | None]) -> dict[str, Any]:
    """`turn` with its text changed. Content parts become one if the text differs."""
    key = next((key for key in TEXT_KEYS if turn.get(key) is not None), "content")
    text = _said(turn)
    new = change(text)
    if new == text:
        return turn
    parts = turn.get(key)
    if isinstance(parts, list):
        typed = any(isinstance(part, dict) and "type" in part for part in parts)
        return turn | {key: [({"type": "text"} if typed else {}) | {"text": new}]}
    return turn | {key: new}


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with `change` applied to every text; turns in JSON text are changed one by one."""
    if isinstance(value, str):
        turns = _turns_in(value)
        return change(value) if turns is None else json.dumps(_each_text(turns, change), ensure_ascii=False)
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    if isinstance(value, dict):
        return {key: item if key in ROLE_KEYS else _each_text(item, change) for key, item in value.items()}
    return value


def _texts_in(value: Any) -> Iterator[str]:
    """The texts that `_each_text` would change, in order."""
    if isinstance(value, str):
        turns = _turns_in(value)
        if turns is None:
            yield value
        else:
            yield from _texts_in(turns)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ROLE_KEYS:
                yield from _texts_in(item)


def _turns_in(cell: Any) -> list[dict[str, Any]] | None:
    if isinstance(cell, str):
        cell = json_or(cell, None) if cell.lstrip().startswith("[{") else None
    good = isinstance(cell, list) and cell and all(isinstance(turn, dict) and _role(turn) for turn in cell)
    return cell if good else None


def _role(turn: Mapping[str, Any]) -> str | None:
    name = next((turn[key] for key in ROLE_KEYS if isinstance(turn.get(key), str)), "")
    return next((role for role, names in ROLES.items() if name.strip().lower() in names), None)


# Exclusions come first, so that no row is edited in vain; moves come last.
_ORDER = ("drop", "deduplicate", "mask", "relabel", "shorten", "move")
_DONE = {
    "drop": "Dropped",
    "deduplicate": "Removed",
    "move": "Moved to the held-out split",
    "mask": "Masked",
    "relabel": "Relabeled",
    "shorten": "Shortened",
}


def _sentence(action: Action, count: int) -> str:
    return f"{_DONE[action.remedy]} {_rows(count, action)} ({_title(action)})."


def _about_shortened(action: Action, count: int, plan: Plan) -> list[str]:
    """Sentences about the shortened rows, the text lost, and the rows left unchanged."""
    sentences = [_sentence(action, count)] if count else []
    lost = [(row, plan.lost[action.split, row]) for row in action.rows if (action.split, row) in plan.lost]
    for row, text in lost[:_LOST_SHOWN]:
        # One sentence per text: several texts must not run together.
        excerpt = shorten(" ".join(text.split()), _LOST_LETTERS).replace(". ", "; ").rstrip(".")
        sentences.append(f"Row {row} lost {len(text):,} characters: {excerpt}.")
    kept = Counter(plan.kept[action.split, row] for row in action.rows if (action.split, row) in plan.kept)
    sentences += [f"Left {_rows(count, action)} unchanged: {why}." for why, count in kept.items()]
    return sentences or [f"Nothing left to shorten in {action.split} ({_title(action)})."]


def _rows(count: int, action: Action) -> str:
    return f"{count} {'row' if count == 1 else 'rows'} of {action.split}"


def _title(action: Action) -> str:
    title = KINDS[action.kind].title if action.kind in KINDS else action.kind
    return title if title.split()[0].isupper() else title[:1].lower() + title[1:]


USUAL_WHY = "fixed the findings of the checks"


def is_mended(finding: Finding, only: Collection[str] = (), remedies: Mapping[str, str] | None = None) -> bool:
    """Whether `finding` gets fixed: errors and warnings with a remedy, or only the kinds in `only`; and always kinds
    with an entry in `remedies`. Never if the remedy is a larger max_length, which changes no row."""
    if (remedies or {}).get(finding.kind, finding.remedy) == "raise":
        return False
    if finding.kind in (remedies or {}) or finding.kind in only:
        return True
    return not only and finding.remedy != "none" and finding.about.severity != "note"


def needs_decision(finding: Finding) -> bool:
    """Whether no row says which of the conflicting answers is right, so that relabeling changes none."""
    return finding.remedy == "relabel" and finding.matches == [(finding.split, row) for row in finding.rows]


def mend_findings(
    version: Version,
    findings: Sequence[Finding],
    roles: Mapping[str, str],
    remedies: Mapping[str, str] | None = None,
    *,
    tokens: Tokens | None = None,
    who: str | None = None,
    why: str = "",
) -> Version:
    """A new version with `findings` fixed, each by its default remedy or the one in `remedies` (by kind).

    Their rows are those of `version`, or of its source: a first version has the same rows in the same order. `roles`
    maps roles to columns; `tokens` counts the tokens of rows to shorten (see `token_counter`). Raises InputError if a
    remedy does not fit, NothingChanged if no row changes.
    """
    actions = [action_for(finding, roles, (remedies or {}).get(finding.kind), tokens=tokens) for finding in findings]
    return mend(version, actions, who=who, why=why or USUAL_WHY)


def token_counter(data: DataConfig, tokenizer: Any, workspace: Workspace | None = None) -> Tokens:
    """A function that counts the tokens of a row of `data` as in training; 0 for a row that cannot be trained on."""
    loaded = load_rows(data, workspace)
    detected = detect_format(loaded, data)
    ensure_chat_template(tokenizer, thinking=most_think(_first_turns(loaded, detected)))
    # This is for long rows; transformers' warning about the first one would confuse.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True

    def tokens(row: Row) -> int:
        try:
            messages, _ = convert(row, detected, data.system_prompt)
        except UnusableRow:
            return 0
        return len(encode(messages, tokenizer).input_ids)

    return tokens


def _first_turns(loaded: Loaded, detected: Detected) -> list[list[Message]]:
    turns = []
    for row in islice(loaded.splits[loaded.main], 100):
        with contextlib.suppress(UnusableRow):
            turns.append(convert(row, detected)[0])
    return turns


def answer_group(finding: Finding, row: int) -> list[int]:
    """The rows with the prompt of `row` in a finding of conflicting answers."""
    groups = finding.detail.get("groups", [])
    wanted = dict(zip(finding.rows, groups, strict=False)).get(row)
    return [other for other, group in zip(finding.rows, groups, strict=False) if group == wanted]


def give_answer(
    version: Version,
    finding: Finding,
    row: int,
    answer: str,
    roles: Mapping[str, str],
    *,
    who: str | None = None,
) -> Version:
    """A new version in which all rows with the prompt of `row`, which has conflicting answers, have this `answer`."""
    rows = tuple(answer_group(finding, row))
    action: Action = replace(action_for(finding, roles, "relabel"), rows=rows, matches=(), answer=answer)
    return mend(version, [action], who=who, why="right answer entered by hand")
