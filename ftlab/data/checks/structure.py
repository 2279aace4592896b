"""Rows that are no example, answers that say nothing, roles out of order, JSON that differs from the rest."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from ftlab.data.checks.examples import Examples, Watch
from ftlab.data.checks.finding import Finding, by_split
from ftlab.data.conversion import MARKED_BAD
from ftlab.errors import shorten

NEARLY_ALL = 0.9  # of the answers are JSON, or have the same keys: then the others are mistakes
_FEWEST_JSON = 10
FEW = 0.05  # at most this share of one-word answers is odd; more of them are the task
_WORDS_USUAL = 4  # in the median answer, for one word to be odd


def refused_rows(examples: Examples, _: Watch) -> list[Finding]:
    """Empty answers, and rows that cannot be used for another reason."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for split, row, reason in examples.refused:
        if reason == MARKED_BAD:
            continue  # no mistake: preference training learns from it
        found.setdefault(("empty_answer" if reason == "empty answer" else "unusable", split), []).append((row, reason))
    return [
        Finding(kind, split, [row for row, _ in rows], detail={"reasons": dict(Counter(why for _, why in rows))})
        for (kind, split), rows in found.items()
    ]


def roles_out_of_order(examples: Examples, _: Watch) -> list[Finding]:
    found: dict[str, list[tuple[int, str]]] = {}
    for split, row, problem in examples.disordered:
        found.setdefault(split, []).append((row, problem))
    return [
        Finding("roles", split, [row for row, _ in rows], detail={"problems": dict(Counter(why for _, why in rows))})
        for split, rows in found.items()
    ]


def one_word_answers(examples: Examples, watch: Watch) -> list[Finding]:
    """One word where nearly all answers are longer; no finding where short answers are the task (labels)."""
    sizes = [len(answer.split(None, _WORDS_USUAL)) for _, answer in watch.over(examples.answers)]
    odd = [position for position, size in enumerate(sizes) if size == 1 and not _is_code(examples.answers[position])]
    usual = sorted(sizes)[len(sizes) // 2] if sizes else 0
    if not odd or len(odd) > FEW * len(sizes) or usual < _WORDS_USUAL:
        return []
    shown = {position: shorten(examples.answers[position], 40) for position in odd}
    return by_split("one_word_answer", odd, examples, shown=shown)


def json_answers(examples: Examples, watch: Watch) -> list[Finding]:
    """Broken JSON where at least 90% of the answers are JSON, and objects with other keys or types than 90% have."""
    values: list[Any] = []
    for _, answer in watch.over(examples.answers):
        values.append(parse_json(answer))
    good = sum(value is not None for value in values)
    if good < max(_FEWEST_JSON, NEARLY_ALL * len(values)):
        return []
    broken = [position for position, value in enumerate(values) if value is None]
    shown = {position: shorten(examples.answers[position], 120) for position in broken}
    findings = by_split("broken_json", broken, examples, shown=shown)
    shapes = {position: _shape(value) for position, value in enumerate(values) if value is not None}
    usual, count = Counter(shapes.values()).most_common(1)[0]
    if count < NEARLY_ALL * len(shapes):
        return findings
    other = [position for position, shape in shapes.items() if shape != usual]
    shown = {
        position: f"{_differs(usual, shapes[position])}: {shorten(examples.answers[position], 100)}"
        for position in other
    }
    return findings + by_split("json_keys", other, examples, shown=shown, detail={"usual": dict(usual)})


def parse_json(text: str) -> Any:
    """The object or list in `text`; None for anything else."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (dict, list)) else None


def _shape(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, list):
        return (("", "list"),)
    return tuple(sorted((key, _type_name(cell)) for key, cell in value.items()))


def _type_name(cell: Any) -> str:
    if isinstance(cell, bool):
        return "true or false"
    if cell is None:
        return "null"
    return {str: "text", int: "number", float: "number", list: "list", dict: "object"}[type(cell)]


def _differs(usual: tuple[tuple[str, str], ...], shape: tuple[tuple[str, str], ...]) -> str:
    want, have = dict(usual), dict(shape)
    parts = [f"{key} is missing" for key in want if key not in have]
    parts += [f"{key} is new" for key in have if key not in want]
    parts += [f"{key} is {have[key]}" for key in want if key in have and have[key] != want[key]]
    return ", ".join(parts)


def _is_code(answer: str) -> bool:
    """Long single words are JSON without spaces, addresses or code, and no placeholder."""
    return len(answer.strip()) > 25
