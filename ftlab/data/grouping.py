"""Which rows must stay on one side of a split, and which labels every side should show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ftlab.config import DataConfig
from ftlab.data.near import near_pairs
from ftlab.data.normal import normal_form
from ftlab.data.prompt_template import cell_as_text
from ftlab.errors import InputError, nearest

NEAR_ROWS = 100_000  # rows up to which near copies are looked for without being asked (some ten seconds)
_LARGEST = 0.1  # of the rows may hang together by likeness: with more there is too little to choose from
_FEWEST = 10  # rows that may in any case


def check_columns(data: DataConfig, columns: Sequence[str]) -> list[str]:
    """The columns that the split needs beside the examples. Raises InputError for one that is not there."""
    wanted = [column for column in (data.group_by, data.stratify_by) if column]
    for setting, column in (("group_by", data.group_by), ("stratify_by", data.stratify_by)):
        if column and column not in columns:
            close = nearest(column, columns)
            raise InputError(
                f"The data has no column {column!r} to split by (data.{setting})",
                given=column,
                allowed=", ".join(columns),
                try_=f"did you mean {close}?" if close else None,
            )
    return wanted


def group(
    fingerprints: Sequence[str],
    prompts: Sequence[str],
    answers: Sequence[str],
    cells: Sequence[dict[str, Any]],
    data: DataConfig,
) -> tuple[list[list[int]], list[str]]:
    """Groups of positions that must not be separated, and notes: equal prompts, equal values of `data.group_by`, and
    near copies (`ftlab.data.near`). `cells` holds the columns that `check_columns` named, for every position.

    Likeness alone joins no more than 10% of the rows (10 rows, or two groups of those that belong together): chains of
    likeness would leave nothing to hold out fairly.
    """
    sets = _Sets(len(fingerprints))
    sets.join_equal(fingerprints)
    sets.join_equal([normal_form(prompt) or None for prompt in prompts])
    if data.group_by:
        sets.join_equal([cell_as_text(row.get(data.group_by)) or None for row in cells])
    if data.near_duplicates == "apart" or (data.near_duplicates == "auto" and len(prompts) > NEAR_ROWS):
        return sets.groups(), []

    before = sets.groups()
    most = max(_LARGEST * len(prompts), _FEWEST, 2 * max(map(len, before), default=0))
    pairs = [(pair.one, pair.other) for pair in near_pairs(prompts, answers) if pair.how != "same"]
    apart = sum(not sets.join(one, other, most) for one, other in pairs)
    after = sets.groups()
    joined = len(before) - len(after)
    notes = [f"{joined} near-equal prompts were kept on one side of the split."] if joined else []
    if apart:
        notes.append(
            f"{apart} near copies may stand on both sides of the split: more than {most:.0f} prompts are alike in a "
            "chain, and they were not all kept together."
        )
    return after, notes


def labels_of(cells: Sequence[dict[str, Any]], data: DataConfig, count: int) -> list[str]:
    """The label of every position by which the split is stratified; all the same when it is not."""
    if not data.stratify_by:
        return [""] * count
    return [cell_as_text(row.get(data.stratify_by)) for row in cells]


def strata(groups: Iterable[list[int]], labels: Sequence[str]) -> dict[str, list[list[int]]]:
    """Groups by the label that most of their rows have."""
    found: dict[str, list[list[int]]] = {}
    for members in groups:
        label = Counter(labels[position] for position in members).most_common(1)[0][0]
        found.setdefault(label, []).append(members)
    return dict(sorted(found.items()))


def shares(sizes: dict[str, int], wanted: int) -> dict[str, int]:
    """`wanted` rows divided among labels by their `sizes` (largest remainder)."""
    total = sum(sizes.values())
    exact = {label: wanted * size / total for label, size in sizes.items()}
    given = {label: int(share) for label, share in exact.items()}
    rest = sorted(exact, key=lambda label: exact[label] - given[label], reverse=True)
    for label in rest[: wanted - sum(given.values())]:
        given[label] += 1
    return given


class _Sets:
    """Positions that are joined into groups (union-find)."""

    def __init__(self, count: int):
        self._parent = list(range(count))
        self._size = [1] * count

    def _root(self, position: int) -> int:
        while self._parent[position] != position:
            self._parent[position] = self._parent[self._parent[position]]
            position = self._parent[position]
        return position

    def join(self, one: int, other: int, most: float = float("inf")) -> bool:
        """Whether the two are in one group now; not where it would have more than `most` members."""
        first, second = sorted((self._root(one), self._root(other)))
        if first == second:
            return True
        if self._size[first] + self._size[second] > most:
            return False
        self._parent[second] = first
        self._size[first] += self._size[second]
        return True

    def join_equal(self, values: Sequence[str | None]) -> None:
        first: dict[str, int] = {}
        for position, value in enumerate(values):
            if value is not None:
                self.join(first.setdefault(value, position), position)

    def groups(self) -> list[list[int]]:
        """In the order of their first positions."""
        found: dict[int, list[int]] = {}
        for position in range(len(self._parent)):
            found.setdefault(self._root(position), []).append(position)
        return list(found.values())
