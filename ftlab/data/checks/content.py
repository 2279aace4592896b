"""Checks on the content of rows: wrong encodings, media, placeholder values left by programs, uninformative pairs and
votes, and answers or prompts that are few or built from one template."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.data.cells import column_values, is_missing, is_placeholder
from ftlab.data.checks.finding import DetailJson, Examples, Finding, by_split
from ftlab.data.encodings import find_wrongly_decoded
from ftlab.data.formats import PREFERENCES, may_judge
from ftlab.data.json_rows import DoubledRows
from ftlab.data.load import Loaded, looked_at
from ftlab.data.near import is_label
from ftlab.data.normal import Watch
from ftlab.data.preferences import alike, pair_of_row
from ftlab.data.shapes import Detected, UnusableRow
from ftlab.data.tabular import Row
from ftlab.data.votes import SECOND, TIE
from ftlab.errors import shorten


class Cells:
    """The cells of the rows that became examples."""

    def __init__(self, loaded: Loaded):
        self._splits = {("train" if name == loaded.main else name): rows for name, rows in loaded.splits.items()}

    def at(self, examples: Examples, position: int) -> Row:
        return self._splits[examples.split[position]][examples.row[position]]


def wrongly_decoded(examples: Examples, watch: Watch) -> list[Finding]:
    """Text decoded with the wrong encoding. Judged on the text of all rows, since one word is too little evidence."""
    wrong = find_wrongly_decoded(turn["content"] for _, turns in watch.over(examples.turns) for turn in turns)
    if wrong is None:
        return []
    rows: dict[int, str] = {}
    for position, turns in enumerate(examples.turns):
        for turn in turns:
            text = turn["content"]
            if not text.isascii() and (mended := wrong.mended(text)) is not None:
                rows[position] = f"{shorten(text, 60)} → {shorten(mended, 60)}"
                break
    return by_split("mojibake", rows, examples, excerpts=rows, detail={"read_as": wrong.read, "meant": wrong.meant})


_MEDIA_COLUMN = re.compile(
    r"(images?|img|pictures?|photos?|videos?|audios?)([_ -]?(paths?|urls?|files?|bytes))?", re.IGNORECASE
)
_MEDIA_TOKEN = re.compile(
    r"<(?:image|video|audio|image_placeholder|img_context)>|<\|(?:image|video|audio)(?:_pad|_1)?\|>"
    r"|data:image/[a-z+]+;base64,",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)


def media(examples: Examples, watch: Watch, rows: Cells, columns: Sequence[str]) -> list[Finding]:
    """Rows about a picture, a video or a sound. Only their text is used in training."""
    held = [column for column in columns if _MEDIA_COLUMN.fullmatch(column.strip())]
    excerpts: dict[int, str] = {}
    for position, turns in watch.over(examples.turns):
        for turn in turns:
            text = turn["content"]
            match = _MEDIA_TOKEN.search(_CODE.sub("", text)) if "<" in text or "data:image" in text else None
            if match:
                excerpts[position] = f"{match.group()} in {shorten(text, 60)}"
                break
    if held:
        for position in range(len(examples)):
            cells = rows.at(examples, position)
            column = next(
                (column for column in held if not is_missing(cells.get(column)) and cells[column] != []), None
            )
            if column and position not in excerpts:
                excerpts[position] = f"{column}: {shorten(cells[column], 60)}"
    return by_split("media", excerpts, examples, excerpts=excerpts)


def left_over(examples: Examples, watch: Watch, classes: Mapping[str, Any]) -> list[Finding]:
    """Prompts and answers that are only None, nan or similar. If a class has such a name, only NaN counts."""
    named = {text.strip().lower() for text in classes.get("answer", {})}
    excerpts: dict[int, str] = {}
    for position, turns in watch.over(examples.turns):
        for turn in turns:
            if turn["role"] not in ("user", "assistant") or not is_placeholder(turn["content"]):
                continue
            text = turn["content"].strip().lower()
            if text == "nan" or text not in named:
                excerpts[position] = f"{turn['role']}: {shorten(turn['content'], 40)}"
                break
    return by_split("left_over", excerpts, examples, excerpts=excerpts)


def doubled_keys(loaded: Loaded) -> list[Finding]:
    """JSON rows with a duplicate key. Only its last value was read."""
    findings = []
    for name, rows in loaded.splits.items():
        if isinstance(rows, DoubledRows) and rows.doubled:
            places = sorted(rows.doubled)
            keys = Counter(rows.doubled.values())
            excerpts = [f"{key}: twice in {count:,} rows" for key, count in keys.most_common(5)]
            findings.append(
                Finding("doubled_keys", "train" if name == loaded.main else name, places, excerpts=excerpts)
            )
    return findings


def pairs(loaded: Loaded, detected: Detected, step: int, watch: Watch) -> list[Finding]:
    """Uninformative pairs (answers equal up to white space or Unicode form, or equal scores), and pairs whose rejected
    answer has the higher score."""
    if detected.format not in PREFERENCES:
        return []
    findings = []
    for name, rows in loaded.splits.items():
        same: dict[int, str] = {}
        ties: list[int] = []
        against: dict[int, str] = {}
        for index in range(0, len(rows), step):
            if index % 1000 == 0:
                watch.at(index, len(rows))
            row = rows[index]
            vote = detected.vote or detected.scores
            winner = vote.winner(row) if vote else None
            if winner == TIE:
                ties.append(index)
                continue
            if detected.scores is not None and winner == SECOND:
                against[index] = ", ".join(f"{column}: {row.get(column)}" for column in detected.scores.columns)
            try:
                _, chosen, rejected, _ = pair_of_row(row, detected)
            except UnusableRow:
                continue
            texts = ["\n".join(turn["content"] for turn in side) for side in (chosen, rejected)]
            if alike(*texts):
                how = "equal" if texts[0] == texts[1] else "only the white space or Unicode form differs"
                same[index] = f"{how}: {shorten(texts[0], 60)}"
        split = "train" if name == loaded.main else name
        detail: DetailJson = {"of": len(range(0, len(rows), step))}
        if same:
            findings.append(Finding("alike_sides", split, sorted(same), excerpts=_first(same), detail={**detail}))
        if ties:
            findings.append(Finding("tie", split, ties, detail={**detail}))
        if against:
            findings.append(
                Finding("against_scores", split, sorted(against), excerpts=_first(against), detail={**detail})
            )
    return findings


def unused_judgements(loaded: Loaded, detected: Detected) -> list[Finding]:
    """A column whose name suggests a judgment of the answers but whose cells were not understood."""
    if detected.format in ("text", "classification", "kto", "comparison"):
        return []
    rows = looked_at(loaded)
    for column in detected.unused:
        values = [value for value in column_values(rows, column) if not is_missing(value)]
        few = (
            {str(value) for value in values} if all(isinstance(value, str | int | float) for value in values) else set()
        )
        if may_judge(column) and 2 <= len(few) <= 10 and len(values) >= len(rows) / 2 and not _names_topics(values):
            counts = Counter(map(str, values)).most_common(5)
            excerpts = [f"{column}: " + ", ".join(f"{value} ({count})" for value, count in counts)]
            return [Finding("unused_label", "train", list(range(len(loaded.splits[loaded.main]))), excerpts=excerpts)]
    return []


_GRADES = frozenset(
    "excellent great good ok okay fair average medium poor bad terrible awful perfect useless high low useful "
    "right wrong correct incorrect best worst better worse a+ a b c d e f".split()
)


def _names_topics(values: Sequence[Any]) -> bool:
    """Whether the cells are neutral topic words (billing, shipping) rather than judgments (great, poor)."""
    words = {value.strip().lower() for value in values if isinstance(value, str)}
    return bool(words) and not words & _GRADES


_FEWEST = 30  # fewest rows for a meaningful share
_FEW_ANSWERS = 0.25  # share of distinct answers below which they are few
_ALIKE = 0.3  # share of rows made from one template
_FRAME = 5  # fewest words shared by all of them
_LONGEST_FRAME = 60  # words of a text that are compared
_MOST_FRAMES = 2000  # texts that are compared
_NAME = re.compile(r"\S*\d\S*|[^\W\d_a-z]\S*")
_SLOT = "·"


def few_answers(examples: Examples, watch: Watch, classes: Mapping[str, Any]) -> list[Finding]:
    """Few distinct answers that are not labels, numbers or JSON. `rows` are those that share their answer."""
    answers = examples.answers
    if examples.are_documents or len(answers) < _FEWEST or classes:
        return []
    forms = [" ".join(answer.lower().split()) for _, answer in watch.over(answers)]
    counts = Counter(forms)
    labels = sum(is_label(answer) or answer.lstrip()[:1] in ("{", "[") for answer in answers)
    if len(counts) > _FEW_ANSWERS * len(answers) or labels > len(answers) / 2:
        return []
    shared = [position for position, form in enumerate(forms) if counts[form] > 1]
    share = f"{len(counts):,} different answers in {len(answers):,} rows ({len(counts) / len(answers):.0%})"
    commonest = [f"{count:,} times: {shorten(form, 80)}" for form, count in counts.most_common(3)]
    findings = by_split("few_answers", shared, examples, detail={"share": round(len(counts) / len(answers), 4)})
    for finding in findings:
        finding.excerpts = [share, *commonest]
    return findings


def stock_texts(examples: Examples, watch: Watch) -> list[Finding]:
    """Answers, or prompts, that differ only in a name, a number or a word: made from one template."""
    if examples.are_documents or len(examples) < _FEWEST:
        return []
    findings = []
    for kind, texts in (("stock_answers", examples.answers), ("one_template", examples.prompts)):
        members, frame = _largest_frame(texts, watch)
        if len(members) < _ALIKE * min(len(texts), _MOST_FRAMES):
            continue
        share = len(members) / min(len(texts), _MOST_FRAMES)
        about = f"{share:.0%} of the {'answers' if kind == 'stock_answers' else 'prompts'}: {shorten(frame, 90)}"
        excerpts = [shorten(texts[position], 80) for position in members[:2]]
        of_kind = by_split(kind, members, examples, detail={"share": round(share, 4)})
        for finding in of_kind:
            finding.excerpts = [about, *excerpts]
        findings += of_kind
    return findings


def _largest_frame(texts: Sequence[str], watch: Watch) -> tuple[list[int], str]:
    """The positions of the largest group of texts that differ only in names, numbers and at most one more place, and
    the words they share."""
    step = max(1, -(-len(texts) // _MOST_FRAMES))
    frames: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for position in range(0, len(texts), step):
        if position % 1000 == 0:
            watch.at(position, len(texts))
        words = _without_names(texts[position])
        if len(words) - words.count(_SLOT) < _FRAME or len(words) > _LONGEST_FRAME:
            continue
        frames[tuple(words)].append(position)
        for place in range(len(words)):
            if words[place] != _SLOT:
                frames[(*words[:place], _SLOT * 2, *words[place + 1 :])].append(position)
    best: list[int] = []
    shared: tuple[str, ...] = ()
    for frame, positions in frames.items():
        fixed = len(frame) - sum(word in (_SLOT, _SLOT * 2) for word in frame)
        # Identical texts are duplicates, not a template.
        different = len({texts[at] for at in positions}) if len(positions) > len(best) and fixed >= _FRAME else 0
        if different >= max(3, len(positions) / 10):
            best, shared = positions, frame
    return best, re.sub(rf"{_SLOT}+", "…", " ".join(shared))


def _without_names(text: str) -> list[str]:
    words: list[str] = []
    for place, word in enumerate(text.split()[: _LONGEST_FRAME + 1]):
        word = _SLOT if _NAME.fullmatch(word) and (place or any(map(str.isdigit, word))) else word.lower()
        if not (words and word == words[-1] == _SLOT):
            words.append(word)
    return words


def _first(texts: Mapping[int, str]) -> list[str]:
    return [texts[row] for row in sorted(texts)[:5]]
