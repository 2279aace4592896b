"""Multiple choice: the choices become lettered lines at the end of the prompt, and the answer the right line.

`A. red`, `B. green`: rows store choices as a list, as objects or columns, and the right one as its number (counted from
0 or from 1), letter, label or text. Which of these a data set uses is decided over its rows, never row by row: 1 is the
second choice of MMLU and the first of WinoGrande.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase as LETTERS
from typing import Any, Literal, NamedTuple

from ftlab.core.parsing import json_or
from ftlab.data.shapes import UnusableRow
from ftlab.data.votes import plain
from ftlab.errors import shorten

Way = Literal["label", "text", "letter", "number"]

NO_CHOICES = "no choices to pick the answer from"
TOO_MANY = f"more than {len(LETTERS)} choices"
NONE_OF_THEM = "an answer that is none of its choices"
SEVERAL = "more than one right answer"
UNDECIDED = "a number that may count the choices from 0 or from 1"
EMPTY_ANSWER = "empty answer"

# Names of columns, compared without case, spaces and underscores; in order of preference.
_LISTS = (
    "choices options endings candidates alternatives answerchoices answeroptions multiplechoices mcoptions"
).split()
_STEMS = ("", "option", "opt", "op", "choice", "ending", "alternative")
_OF_ANSWERS = ("answer", "ans", "solution", "sol")  # may hold several right answers
_QUESTIONS = (
    "question questionstem questiontext stem ctx query goal prompt problem instruction startphrase premise sentence "
    "sent1 input context"
).split()
_PASSAGES = "context passage article story premise background input".split()
_ANSWERS = "completion output response answer reply assistant solution target".split()
_POINTERS = (
    "answerkey answeridx answerindex answerid answerletter answerlabel correctanswer correct correctoption "
    "correctchoice correctindex correctidx correctanswerid correctanswerindex correctansweridx correctletter "
    "correctlabel rightanswer right gold goldlabel goldindex label cop ans key answers labels"
).split()
_TEXT_KEYS = ("text", "texts", "value", "content", "choice", "choices", "option", "options", "answer", "body")
_LABEL_KEYS = ("label", "labels", "key", "keys", "letter", "id", "option_label")
_ENOUGH = 0.5  # share of the answers that must be among their choices, in a layout known by its names
_NEARLY_ALL = 0.9  # share of the rows that must hold choices; of the answers in a layout with other names
_LONGEST_TEXT = 50_000  # characters of a cell that are parsed


class Offered(NamedTuple):
    """The choices of a row: their texts ("" for one that is missing), and its own labels of them, if any."""

    texts: list[str]
    labels: list[str]


@dataclass(frozen=True)
class Choices:
    """How the choices of a question and its right answer are read.

    `columns`: one column with all choices, or one for each. `question` may be the same column, which then holds an
    object with both; it is None if a template builds the prompt. `base` is the number of the first choice where the
    answers are numbers, None if no row tells.
    """

    columns: tuple[str, ...]
    answer: str
    question: str | None
    way: Way = "text"
    base: int | None = None
    example: str = ""

    def written(self, row: Mapping[str, Any], *, answered: bool = True) -> tuple[dict[str, Any], str]:
        """`row` with texts in place of its choices, question and answer ("B. green"), and the lettered lines.

        Raises UnusableRow with the reason if the row offers no choices, or its answer is none of them.
        """
        offered = self._offered(row)
        lines = "\n".join(_line(offered, place) for place, text in enumerate(offered.texts) if text)
        new = dict(row)
        if len(self.columns) == 1:
            new[self.columns[0]] = lines
        if self.question in self.columns:
            new[self.question] = _stem(row.get(self.question))
        if answered:
            new[self.answer] = _line(offered, self._right(row, offered))
        return new, lines

    def decided(self, rows: Iterable[Mapping[str, Any]]) -> Choices:
        """The same choices with the way to read the answers that suits most of `rows`."""
        fits: Counter[str] = Counter()
        for row in rows:
            try:
                offered, answer = self._offered(row), self._answer(row)
            except UnusableRow:
                continue
            same_kind = isinstance(_scalar(row.get(self.answer)), str) == self._are_texts(row)
            fits["label"] += _by_label(answer, offered) is not None
            fits["letter"] += _by_letter(answer, offered) is not None
            right = _by_text(answer, offered)
            fits["text"] += right is not None
            fits["text of its kind"] += right is not None and same_kind
            for first in (0, 1):
                fits[f"from {first}"] += _by_number(answer, offered, first) is not None
        base = None if fits["from 0"] == fits["from 1"] else int(fits["from 1"] > fits["from 0"])
        numbers = max(fits["from 0"], fits["from 1"])
        ranked: list[tuple[int, Way]] = [
            (fits["label"], "label"),
            (fits["text of its kind"], "text"),
            (fits["letter"], "letter"),
            (numbers, "number"),
            (fits["text"], "text"),
        ]
        _, way = max(ranked, key=lambda rank: rank[0])
        return replace(self, way=way, base=base if way == "number" else None)

    def with_example(self, rows: Sequence[Mapping[str, Any]]) -> Choices:
        """The same choices with the first answer in `rows` as it is trained."""
        for row in rows:
            try:
                return replace(self, example=shorten(self.written(row)[0][self.answer], 60))
            except UnusableRow:
                continue
        return self

    def share(self, rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
        """The share of `rows` with choices, and of answered rows whose answer is one of them."""
        offering = answered = right = 0
        known = replace(self, base=0) if self.way == "number" and self.base is None else self
        for row in rows:
            try:
                offered = self._offered(row)
            except UnusableRow:
                continue
            offering += 1
            try:
                self._answer(row)
            except UnusableRow:
                continue
            answered += 1
            try:
                known._right(row, offered)
                right += 1
            except UnusableRow as problem:
                right += problem.reason == SEVERAL
        return offering / max(1, len(rows)), right / max(1, answered)

    def is_repeated(self, column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether `column` only says again, in each row, which choice is right."""
        other = replace(self, answer=column).decided(rows)
        places: list[tuple[int, int]] = []
        for row in rows:
            try:
                offered = self._offered(row)
                right = self._right(row, offered)
            except UnusableRow:
                continue
            try:
                places.append((right, other._right(row, offered)))
            except UnusableRow:
                return False
        return bool(places) and all(right == again for right, again in places)

    @property
    def listed(self) -> str:
        """The columns in words."""
        return f"{', '.join(self.columns[:-1])} and {self.columns[-1]}" if self.columns[1:] else self.columns[0]

    @property
    def how(self) -> str:
        """What the answers are, in words."""
        if self.way == "number":
            first = "" if self.base is None else f", counted from {self.base}"
            return f"{self.answer} is the number of the right one{first}"
        what = {"label": "label", "letter": "letter", "text": "text"}[self.way]
        return f"{self.answer} is the {what} of the right one"

    def note(self) -> str:
        such = f", such as {self.example!r}" if self.example else ""
        return (
            f"Multiple choice: each prompt lists the choices in {self.listed} as lettered lines, and the answer is "
            f"trained as the letter and text of the right one{such}. In the data, {self.how}."
        )

    def _are_texts(self, row: Mapping[str, Any]) -> bool:
        """Whether the choices are stored as texts: a number is one of them among numbers, and points among texts."""
        cells = [row.get(column) for column in self.columns]
        stored = cells[0] if len(cells) == 1 and isinstance(cells[0], list | tuple) else cells
        return not any(isinstance(cell, int | float) for cell in stored)

    def _offered(self, row: Mapping[str, Any]) -> Offered:
        if len(self.columns) > 1:
            offered = _of_columns(self.columns, row)
        else:
            cell = _parsed(row.get(self.columns[0]))
            if self.question in self.columns and isinstance(cell, Mapping):
                cell = _inside(cell)
            offered = read_choices(cell)
        if offered is None or sum(map(bool, offered.texts)) < 2:
            raise UnusableRow(NO_CHOICES)
        if len(offered.texts) > len(LETTERS):
            raise UnusableRow(TOO_MANY)
        return offered

    def _answer(self, row: Mapping[str, Any]) -> str:
        """The answer of `row` as text. Raises UnusableRow if it is empty, or several."""
        value = _parsed_list(row.get(self.answer))
        if isinstance(value, list | tuple):
            known = [item for item in value if _text(item)]
            if len(known) > 1:
                raise UnusableRow(SEVERAL)
            value = known[0] if known else None
        text = _text(value)
        if not text:
            raise UnusableRow(EMPTY_ANSWER if not isinstance(value, Mapping) else NONE_OF_THEM)
        return text

    def _right(self, row: Mapping[str, Any], offered: Offered) -> int:
        """The place of the right choice. Raises UnusableRow."""
        answer = self._answer(row)
        if self.way == "number" and self.base is None and _whole(answer) is not None:
            raise UnusableRow(UNDECIDED)
        first = {"label": _by_label, "letter": _by_letter, "text": _by_text}.get(self.way)
        right = first(answer, offered) if first else _by_number(answer, offered, self.base or 0)
        # A number is read in one way only: in another, it would be a choice as well.
        if right is None and _whole(answer) is None:
            others = (
                _by_text,
                _by_line,
                _by_label,
                *(() if offered.labels else (_by_letter,)),
                _by_column(self.columns),
            )
            right = next((place for read in others if (place := read(answer, offered)) is not None), None)
        if right is not None:
            return right
        letters = re.findall(r"\b[A-Za-z]\b", answer) if _SEVERAL.fullmatch(answer) else []
        known = [_by_letter(letter, offered) for letter in letters]
        raise UnusableRow(SEVERAL if len(known) > 1 and None not in known else NONE_OF_THEM)


_SEVERAL = re.compile(r"\(?[A-Za-z]\)?(\s*([,;&/+]|\band\b|\s)\s*\(?[A-Za-z]\)?)+")


def find_choices(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], roles: Mapping[str, str], templated: bool = False
) -> tuple[Choices, dict[str, str]] | None:
    """The choices in data with these `columns`, and the column of each role. `roles` are those a person set;
    `templated`: a template builds the prompt. None if the answers are not among choices."""
    by_name = {plain(column): column for column in reversed(columns)}
    if _have_no_names(columns):
        roles = {"prompt": columns[0], "completion": columns[-1]} | dict(roles)
    for listed in _candidates(columns, rows, roles.get("choices")):
        known_name = "choices" in roles or plain(listed[0]) in _LISTS
        known_name |= len(listed) > 1 and plain(listed[0])[:-1] in _STEMS
        nested = len(listed) == 1 and any(_inside(_parsed(row.get(listed[0]))) is not None for row in rows)
        free = {name: column for name, column in by_name.items() if column not in listed}
        question = roles.get("prompt") or (listed[0] if nested else _first(_QUESTIONS, free))
        if question is None and not templated:
            continue
        choices = _answer_column(rows, listed, question, roles, free, known_name)
        if choices is None:
            continue
        own = {"completion": choices.answer, "choices": listed[0]} | ({"prompt": question} if question else {})
        rest = {name: column for name, column in free.items() if column not in (question, choices.answer)}
        passage = _first(_PASSAGES, rest)
        if passage and not templated and not {"prompt", "input"} & roles.keys():
            own["input"] = passage
        return choices, own
    return None


def listing_column(columns: Sequence[str], answers: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column with a list in each row, if all answers are numbers or letters, though not all of one in that list."""
    if not answers or not all(re.fullmatch(r"-?\d{1,2}|\(?[A-Za-z][).]?", _text(answer)) for answer in answers):
        return None
    lists = ([(column, read_choices(row.get(column))) for row in rows] for column in columns)
    return next((held[0][0] for held in lists if all(read is not None and read.texts[1:] for _, read in held)), None)


def _answer_column(
    rows: Sequence[Mapping[str, Any]],
    listed: tuple[str, ...],
    question: str | None,
    roles: Mapping[str, str],
    free: Mapping[str, str],
    known_name: bool,
) -> Choices | None:
    """The choices with their answers. None if no column of answers points at them, or the first one by its name holds
    something else: those answers are not choices."""
    if "completion" in roles:
        named = [roles["completion"]]
    else:
        taken = (question, roles.get("label"))
        usual = [free[name] for name in _ANSWERS if name in free and free[name] not in taken]
        named = usual[:1] or [free[name] for name in _POINTERS if name in free and free[name] not in taken]
    for column in named:
        choices = Choices(listed, column, question).decided(rows)
        offering, right = choices.share(rows)
        enough = _ENOUGH if known_name else _NEARLY_ALL
        if offering < (_ENOUGH if "choices" in roles else _NEARLY_ALL) or right < enough:
            continue
        # Words in a column of another name may be tags, or other right answers.
        if known_name or choices.way != "text":
            return choices
    return None


def _candidates(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], named: str | None) -> list[tuple[str, ...]]:
    """The columns that may hold the choices, the likeliest first."""
    families = _families(columns, plain(named)[:-1] if named else "")
    if named:
        return [*(family for family in families if named in family), (named,)]
    by_name = {plain(column): column for column in reversed(columns)}
    lists = [by_name[name] for name in _LISTS if name in by_name]
    first = {column: next((row[column] for row in rows if row.get(column)), None) for column in columns}
    others = [
        column
        for column, cell in first.items()
        if column not in lists and (isinstance(cell, list | tuple | Mapping) or _looks_stored(cell))
    ]
    return [*((column,) for column in lists), *families, *((column,) for column in others)]


def _have_no_names(columns: Sequence[str]) -> bool:
    """Whether a table came without a header, as the files of MMLU do: question, choices, letter."""
    return len(columns) > 3 and all(re.fullmatch(r"column \d+", column) for column in columns)


def _families(columns: Sequence[str], stem_of_person: str) -> list[tuple[str, ...]]:
    """Columns with one choice each: A, B, C; option1, option2; ending0, ending1."""
    if _have_no_names(columns):
        return [tuple(columns[1:-1])]
    by_name = {plain(column): column for column in reversed(columns)}
    families = []
    for stem in dict.fromkeys((*_STEMS, *_OF_ANSWERS, stem_of_person)):
        for marks in (LETTERS.lower(), "123456789" if stem else "", "0123456789" if stem else ""):
            family: list[str] = []
            for mark in marks:
                if stem + mark not in by_name:
                    break
                family.append(by_name[stem + mark])
            if len(family) > 1:
                families.append(tuple(family))
    return sorted(families, key=lambda family: -len(family))


def read_choices(cell: Any) -> Offered | None:
    """The choices in a cell: a list of texts or of objects with a text, lists of texts and labels, an object of
    letters, or any of these written as text. None for anything else."""
    cell = _parsed(cell)
    if isinstance(cell, str):
        return _of_lines(cell)
    if isinstance(cell, Mapping):
        texts = next((cell[key] for key in _TEXT_KEYS if isinstance(cell.get(key), list | tuple)), None)
        if texts is not None:
            labels = next((cell[key] for key in _LABEL_KEYS if isinstance(cell.get(key), list | tuple)), ())
            return _of_items(texts, labels)
        known = {str(key).strip(): value for key, value in cell.items() if value is not None}
        if not all(_MARK.fullmatch(key) for key in known):
            return None
        keys = sorted(known, key=lambda key: (len(key), key))
        return _of_items([known[key] for key in keys], keys)
    if not isinstance(cell, list | tuple):
        return None
    if cell and all(isinstance(item, Mapping) for item in cell):
        texts = [next((item[key] for key in _TEXT_KEYS if key in item), None) for item in cell]
        labels = [next((item[key] for key in _LABEL_KEYS if key in item), None) for item in cell]
        return _of_items(texts, labels)
    return _of_items(cell, ())


_MARK = re.compile(r"[A-Za-z]|\d{1,2}")


def _of_items(texts: Sequence[Any], labels: Sequence[Any]) -> Offered | None:
    if any(isinstance(text, list | tuple | Mapping) for text in texts):
        return None
    written = [_text(text) for text in texts]
    own = [_text(label) for label in labels]
    if len(own) != len(written) or not all(own):
        own = []
    if not own:
        marked = [
            re.match(rf"\(?{letter}\s?[.):]\s*(?=\S)", text) for letter, text in zip(LETTERS, written, strict=False)
        ]
        if len(marked) == len(written) and all(marked):
            written = [text[mark.end() :] for text, mark in zip(written, marked, strict=True) if mark]
    return Offered(written, own)


def _of_columns(columns: Sequence[str], row: Mapping[str, Any]) -> Offered | None:
    texts = [row.get(column) for column in columns]
    while texts and not _text(texts[-1]):
        texts.pop()
    return _of_items(texts, ())


_IN_LINE = re.compile(r"(?:^|[\s,;|])\(?([A-Za-z])\s?[.):]\s*(?=\S)")


def _of_lines(text: str) -> Offered | None:
    """The choices in a text such as "A) 38, B) 27" or in lettered lines."""
    marks, wanted = [], iter(LETTERS)
    letter = next(wanted)
    for match in _IN_LINE.finditer(text):
        if match[1].upper() == letter:
            marks.append(match)
            letter = next(wanted, "")
    if len(marks) < 2 or text[: marks[0].start()].strip(" [("):
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return Offered([text[mark.end() : end].strip(" \n\t,;|") for mark, end in zip(marks, ends, strict=True)], [])


_NEVER_PRINTED = re.compile(r"(?<!\\)\\(?![\\'\"ntrxuU])")
_NEXT_TEXT = re.compile(r"(?<=['\"])\s+(?=['\"])")
_ARRAY = re.compile(r"array\((\[.*?\]),?\s*(?:dtype=\w+)?\)", re.DOTALL)


def _looks_stored(cell: Any) -> bool:
    return isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{")


def _parsed(cell: Any) -> Any:
    """A list or object that a cell holds as text: JSON, or as Python, pandas and NumPy print it. Else `cell`."""
    if not _looks_stored(cell) or len(cell) > _LONGEST_TEXT:
        return cell
    value = json_or(cell, None)
    if isinstance(value, list | dict):
        return value
    # NumPy prints no commas: ['a' 'b'].
    text = _NEXT_TEXT.sub(", ", _ARRAY.sub(r"\1", cell))
    if _NEVER_PRINTED.search(text):  # typed, not printed: \frac is no form feed
        text = re.sub(r"\\(?!['\"])", r"\\\\", text)
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return cell
    return value if isinstance(value, list | tuple | dict) else cell


def _parsed_list(cell: Any) -> Any:
    return _parsed(cell) if isinstance(cell, str) and cell.lstrip().startswith("[") else cell


def _inside(cell: Any) -> Any:
    """The choices inside a question, as in CommonsenseQA: {"stem": ..., "choices": [...]}. None if it has none."""
    if not isinstance(cell, Mapping) or _stem_key(cell) is None:
        return None
    return next((cell[key] for key in cell if plain(str(key)) in _LISTS), None)


def _stem_key(cell: Mapping[str, Any]) -> str | None:
    return next((key for key in ("stem", "question", "text", "prompt") if isinstance(cell.get(key), str)), None)


def _stem(cell: Any) -> Any:
    value = _parsed(cell)
    key = _stem_key(value) if isinstance(value, Mapping) else None
    return value[key] if key else cell


def _line(offered: Offered, place: int) -> str:
    return f"{LETTERS[place]}. {offered.texts[place]}"


def _scalar(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _text(value: Any) -> str:
    """A choice or an answer as text; 1.0, which pandas makes of 1 beside a missing value, as 1. "" for all else."""
    if value is None or isinstance(value, list | tuple | Mapping) or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _whole(answer: str) -> int | None:
    """The whole number that an answer is; None for anything else."""
    return int(float(answer)) if re.fullmatch(r"[-+]?\d{1,9}(\.0+)?", answer) else None


def _held(place: int | None, offered: Offered) -> int | None:
    return place if place is not None and 0 <= place < len(offered.texts) and offered.texts[place] else None


def _by_number(answer: str, offered: Offered, base: int) -> int | None:
    number = _whole(answer)
    return None if number is None else _held(number - base, offered)


def _by_letter(answer: str, offered: Offered) -> int | None:
    match = re.fullmatch(r"\(?([A-Za-z])\s?[.):]?", answer)
    return _held(LETTERS.index(match[1].upper()), offered) if match else None


def _by_label(answer: str, offered: Offered) -> int | None:
    labels = [label.casefold() for label in offered.labels]
    return _held(labels.index(answer.casefold()), offered) if answer.casefold() in labels else None


def _by_text(answer: str, offered: Offered) -> int | None:
    for same in (str, _loosely):
        texts = [same(text) for text in offered.texts]
        if same(answer) in texts:
            return texts.index(same(answer))
    return None


def _by_line(answer: str, offered: Offered) -> int | None:
    """A letter and the text that belongs to it, as training writes them."""
    match = re.fullmatch(r"\(?([A-Za-z])\s?[.):]\s*(\S.*)", answer, re.DOTALL)
    place = _held(LETTERS.index(match[1].upper()), offered) if match else None
    return place if match and place is not None and _loosely(match[2]) == _loosely(offered.texts[place]) else None


def _by_column(columns: Sequence[str]) -> Any:
    """The reader of answers that name the column of the right choice."""
    names = [plain(column) for column in columns] if len(columns) > 1 else []
    return lambda answer, offered: _held(names.index(plain(answer)), offered) if plain(answer) in names else None


def is_listed(lines: str, prompt: str) -> bool:
    """Whether `prompt` lists the choices of the lettered `lines` already, in the same order."""
    texts = [(line[0], line[3:]) for line in lines.split("\n") if _LINE.match(line)]
    if not texts or texts[-1][1] not in prompt or texts[0][1] not in prompt:
        return False  # most rows: without a pattern of their own
    listed = [rf"\(?{letter}\s?[.):]\s*{re.escape(text)}" for letter, text in texts]
    return re.search(r"[\s,;|]*".join(listed), prompt, re.IGNORECASE) is not None


_LINE = re.compile(r"[A-Z]\. ")
_LETTERED = re.compile(r"\(?([A-Z])\s?[.):]\s*(\S.*)")


def unordered(prompt: str) -> str:
    """`prompt` with the lettered choices at its end in alphabetical order, without their letters: a question whose
    choices were only shuffled is no other question. Any other prompt is returned as it is."""
    lines = prompt.rstrip().split("\n")
    texts: list[str] = []
    while lines and len(texts) < len(LETTERS) and (match := _LETTERED.fullmatch(lines[-1].strip())):
        lines.pop()
        texts.append(match[2])
        if match[1] == "A":
            return "\n".join([*lines, *sorted(texts)]) if texts[1:] else prompt
    return prompt


def _loosely(text: str) -> str:
    return " ".join(text.casefold().split())


def _first(names: Sequence[str], by_name: Mapping[str, str]) -> str | None:
    return next((by_name[name] for name in names if name in by_name), None)
