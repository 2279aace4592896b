"""Splitting rows so that groups of similar prompts stay together, and the errors for data that cannot be split."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftlab.config import DataConfig
from ftlab.core.words import counted
from ftlab.data.choices import unordered
from ftlab.data.conversion import is_document
from ftlab.data.near import near_pairs
from ftlab.data.normal import normal_form
from ftlab.data.prompt_template import cell_as_text
from ftlab.data.shapes import SPLITS, Example, Message, WrongCell
from ftlab.data.tabular import Row
from ftlab.data.tool_calls import TOOLS
from ftlab.data.turns import ROLES
from ftlab.errors import InputError, did_you_mean, shorten

if TYPE_CHECKING:
    from ftlab.data.choices import Choices
    from ftlab.data.shapes import Detected

NEAR_ROWS = 100_000  # rows up to which `auto` searches for near duplicates (about ten seconds)
_LARGEST = 0.1  # the largest share of rows that similarity may join into one group
_FEWEST = 10  # rows that it may join in any case


def check_columns(data: DataConfig, columns: Sequence[str]) -> list[str]:
    """The columns that the split needs besides the examples. Raises InputError if one is missing."""
    wanted = [column for column in (data.group_by, data.stratify_by) if column]
    for setting, column in (("group_by", data.group_by), ("stratify_by", data.stratify_by)):
        if column and column not in columns:
            raise InputError(
                f"The data has no column {column!r} to split by (data.{setting})",
                given=column,
                allowed=", ".join(columns),
                try_=did_you_mean(column, columns),
            )
    return wanted


def _grouped(
    fingerprints: Sequence[str],
    prompts: Sequence[str],
    answers: Sequence[str],
    cells: Sequence[Row],
    data: DataConfig,
) -> tuple[list[list[int]], list[str]]:
    """Groups of positions that must not be separated, and notes: equal prompts, equal values of `data.group_by`, and
    near duplicates (`ftlab.data.near`). `cells` holds the columns that `check_columns` returned, for every position.

    Similarity alone joins at most 10% of the rows (at least 10 rows, or two of the other groups): longer chains of
    similar prompts would leave nothing to hold out.
    """
    sets = _Sets(len(fingerprints))
    sets.join_equal(fingerprints)
    sets.join_equal([normal_form(unordered(prompt)) or None for prompt in prompts])
    if data.group_by:
        sets.join_equal([cell_as_text(row.get(data.group_by)) or None for row in cells])
    if data.near_duplicates == "apart" or (data.near_duplicates == "auto" and len(prompts) > NEAR_ROWS):
        return sets.groups(), []

    before = sets.groups()
    most = max(_LARGEST * len(prompts), _FEWEST, 2 * max(map(len, before), default=0))
    pairs = [(pair.first, pair.second) for pair in near_pairs(prompts, answers) if pair.how != "same"]
    apart = sum(not sets.join(*pair, most) for pair in pairs)
    after = sets.groups()
    joined = len(before) - len(after)
    were = "was" if joined == 1 else "were"
    notes = [f"{counted(joined, 'near-duplicate prompt')} {were} kept in the same split."] if joined else []
    if apart:
        notes.append(
            f"{apart} near duplicates may be in different splits: more than {most:.0f} prompts form a chain of similar "
            "prompts, which was not kept together as a whole."
        )
    return after, notes


def _strata(groups: Iterable[list[int]], labels: Sequence[str]) -> dict[str, list[list[int]]]:
    """Groups by their most common label."""
    groups_of: dict[str, list[list[int]]] = {}
    for members in groups:
        label = Counter(labels[position] for position in members).most_common(1)[0][0]
        groups_of.setdefault(label, []).append(members)
    return dict(sorted(groups_of.items()))


def _shares(sizes: dict[str, int], wanted: int) -> dict[str, int]:
    """`wanted` rows divided among labels by their `sizes` (largest remainder method)."""
    total = sum(sizes.values())
    exact = {label: wanted * size / total for label, size in sizes.items()}
    rounded = {label: int(share) for label, share in exact.items()}
    rest = sorted(exact, key=lambda label: exact[label] - rounded[label], reverse=True)
    for label in rest[: wanted - sum(rounded.values())]:
        rounded[label] += 1
    return rounded


class _Sets:
    """Positions joined into groups (union-find)."""

    def __init__(self, count: int):
        self._parent = list(range(count))
        self._size = [1] * count

    def _root(self, position: int) -> int:
        while self._parent[position] != position:
            self._parent[position] = self._parent[self._parent[position]]
            position = self._parent[position]
        return position

    def join(self, first: int, second: int, most: float = float("inf")) -> bool:
        """Join two positions. Returns whether they are in one group; False if the group would exceed `most` members."""
        parent, child = sorted((self._root(first), self._root(second)))
        if parent == child:
            return True
        if self._size[parent] + self._size[child] > most:
            return False
        self._parent[child] = parent
        self._size[parent] += self._size[child]
        return True

    def join_equal(self, values: Sequence[str | None]) -> None:
        first: dict[str, int] = {}
        for position, value in enumerate(values):
            if value is not None:
                self.join(first.setdefault(value, position), position)

    def groups(self) -> list[list[int]]:
        """In the order of their first positions."""
        members: dict[int, list[int]] = {}
        for position in range(len(self._parent)):
            members.setdefault(self._root(position), []).append(position)
        return list(members.values())


def prompt_fingerprint(messages: Sequence[Message], system_prompt: str | None = None) -> str:
    """16 hexadecimal digits that are equal for equal prompts: all turns before the last answer (plain text: the whole
    text), ignoring case, spaces and the order of lettered choices at the end. `system_prompt` is the configured one,
    which every example shares; it is ignored."""
    turns = list(messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages)
    if system_prompt and turns and turns[0] == {"role": "system", "content": system_prompt}:
        turns = turns[1:]
    contents = [unordered(turn["content"]) if turn["role"] == "user" else turn["content"] for turn in turns]
    text = "\x1e".join(
        f"{turn['role']}\x1f{' '.join(content.split()).casefold()}"
        for turn, content in zip(turns, contents, strict=True)
    )
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def turns_of(example: Example) -> list[Message]:
    """The turns of `example` including an answer; for a preference, its prompt and an empty answer."""
    if "prompt" in example:
        return [*example["prompt"], {"role": "assistant", "content": ""}]
    return example["messages"]


TELLING_ROWS = 6  # in which a difference can have p < .05 in an exact paired test: with 5 in one direction, p is .0625


def hold_out(
    splits: dict[str, list[Example]],
    data: DataConfig,
    cells: Sequence[Row] = (),
    notes: list[str] | None = None,
) -> dict[str, list[Example]]:
    """All three splits; those missing from the source are taken from train, in whole groups: equal and near-duplicate
    prompts, and rows with the same value in `data.group_by`. `cells` are the columns that the grouping needs, for every
    example of train. The same seed gives the same split."""
    train = splits["train"]
    wanted = [
        (split, max(1, round(len(train) * fraction)))
        for split, fraction in (("test", data.test_fraction), ("validation", data.validation_fraction))
        if split not in splits and fraction > 0
    ]
    remaining: list[list[int]] = []
    if wanted:
        prints = [prompt_fingerprint(turns_of(example), data.system_prompt) for example in train]
        turns = [turns_of(example) for example in train]
        from ftlab.data.rendering import reference

        prompts, answers = [prompt_text(messages) for messages in turns], [reference(messages) for messages in turns]
        remaining, group_notes = _grouped(prints, prompts, answers, cells, data)
        if notes is not None:
            notes += group_notes
        if len(remaining) <= len(wanted):
            of_texts = is_document(train[0].get("messages", ()))
            by = f"values of {data.group_by}" if data.group_by else "documents" if of_texts else "prompts"
            raise InputError(
                f"Too few different {by} to hold any out",
                given=f"{len(remaining)} different {by} in {len(train)} rows",
                allowed=f"at least {len(wanted) + 1}",
                try_="add rows, provide your own splits, or set data.validation_fraction and data.test_fraction to 0",
            )
    stratify = data.stratify_by
    labels = [cell_as_text(row.get(stratify)) for row in cells] if stratify else [""] * len(train)
    random.Random(data.seed).shuffle(remaining)
    held: dict[str, list[Example]] = {}
    for split, target in wanted:
        taken, remaining = _take(remaining, target, labels)
        if split == "test" and target >= TELLING_ROWS:
            # Whole groups may stay below the target, and fewer rows can tell nothing.
            while sum(map(len, taken)) < TELLING_ROWS and len(remaining) > len(wanted):
                taken.append(remaining.pop(remaining.index(min(remaining, key=len))))
        held[split] = [train[position] for position in sorted(position for members in taken for position in members)]
    if wanted:
        train = [train[position] for position in sorted(position for members in remaining for position in members)]
    return {"train": train} | {split: held.get(split, splits.get(split, [])) for split in SPLITS[1:]}


def prompt_text(messages: Sequence[Message]) -> str:
    """The prompt as text, with earlier turns, without the system prompt and the tools. A document is returned whole."""
    if is_document(messages):
        return messages[0]["content"]
    from ftlab.data.rendering import prompt_messages

    return "\n".join(turn["content"] for turn in prompt_messages(messages) if turn["role"] not in ("system", TOOLS))


def _take(groups: list[list[int]], target: int, labels: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
    """Groups with about `target` rows in total, labels in proportion, and the remaining groups."""
    by_label = _strata(groups, labels)
    if len(by_label) < 2:
        return _take_groups(groups, target)
    taken: list[list[int]] = []
    for label, share in _shares({label: sum(map(len, some)) for label, some in by_label.items()}, target).items():
        if share and len(by_label[label]) > 1:  # the only group of a label stays in train
            taken += _take_groups(by_label[label], share)[0]
    if not taken:
        return _take_groups(groups, target)
    chosen = {members[0] for members in taken}
    return taken, [members for members in groups if members[0] not in chosen]


def _take_groups(groups: list[list[int]], target: int) -> tuple[list[list[int]], list[list[int]]]:
    """Groups with about `target` rows in total (at least one group), and the remaining groups."""
    taken, left, count = [], [], 0
    for members in groups:
        if count + len(members) <= target:
            taken.append(members)
            count += len(members)
        else:
            left.append(members)
    if not taken:
        smallest = min(left, key=len)
        left.remove(smallest)
        taken = [smallest]
    return taken, left


def describe_overlaps(fingerprints: dict[str, list[str]]) -> list[str]:
    """A note for each held-out split that shares prompts with train."""
    train = set(fingerprints["train"])
    notes = []
    for split in SPLITS[1:]:
        shared = sum(fingerprint in train for fingerprint in fingerprints[split])
        if shared:
            notes.append(
                f"{shared} of the {len(fingerprints[split])} {split} rows have a prompt that is also in train: "
                "their scores show memory, not skill."
            )
    return notes


def mixed_columns(
    name: str, missing: Sequence[tuple[int, str, Mapping[str, Any]]], rows: int, detected: Detected
) -> InputError:
    """The error for rows with different columns. `missing` holds (row, column that it lacks, the row itself)."""
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
        try_="quote the cells to make them text, or choose another column (--column, data.columns)",
    )


def only_text(name: str, columns: Sequence[str], detected: Detected, stage: str) -> InputError:
    """The error for plain text where the stage needs prompts and answers."""
    text = detected.columns["text"]
    return InputError(
        f"{name} holds plain text ({text}) without prompts and answers, and the stage {stage} trains on answers",
        given=f"columns {', '.join(columns)}",
        allowed="a prompt and an answer in every row; or the stage pretraining, which trains on plain text",
        try_="set stage: pretraining (--set stage=pretraining), or set the columns of prompt and answer "
        '(--column prompt="...", data.columns)',
    )


def no_text(name: str, columns: Sequence[str], detected: Detected) -> InputError:
    """The error for data with answers where the stage needs plain text."""
    example = detected.columns.get("text") or detected.columns.get("completion") or columns[0]
    return InputError(
        f"The stage pretraining trains on plain text, and {name} holds prompts and answers ({detected.why})",
        given=f"format {detected.format}, columns {', '.join(columns)}",
        allowed="a column of plain text, or a file of plain text (.txt)",
        try_="set stage: sft (--set stage=sft) to train on the answers, or name a column to train on as plain text, "
        f'such as --column text="{example}" (data.columns={{text: {example}}})',
    )


def too_many_dropped(name: str, dropped: Counter[str], usable: int) -> InputError:
    total = usable + sum(dropped.values())
    top = dropped.most_common(1)[0][0]
    allowed, hint = "at least half of the rows with a prompt and an answer", "fill or remove these rows"
    what = f"{sum(dropped.values())} of {total} rows of {name} cannot be used"
    if top.startswith("unknown role"):
        what = f"The messages in {name} have unknown roles: {what}"
        allowed = "; ".join(f"{role}: {', '.join(names)}" for role, names in ROLES.items())
        hint = "rename the roles to system, user and assistant"
    elif top == "no assistant turn":
        what = f"The conversations in {name} have no assistant turn: {what}"
        allowed, hint = "conversations with an assistant turn", "check the roles of the messages"
    reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.most_common(5))
    return InputError(what, given=reasons, allowed=allowed, try_=hint)


def undecided_choices(name: str, choices: Choices) -> InputError:
    return InputError(
        f"The answers of {name} number the choices, and the rows do not tell whether from 0 or from 1",
        given=f"{choices.answer}, with choices in {choices.listed}",
        allowed="in some rows an answer that is 0, or the number of the last choice, but not both; or letters (A, B, "
        "C), or the texts of the choices",
        try_="write the right choices as letters; or name prompt and completion (--column, data.columns) to train the "
        "numbers as they are, without the choices",
    )


def too_few_rows(name: str, splits: Mapping[str, int], fewest: int, detected: Detected | None = None) -> InputError:
    held_out = [f"{count} for {split}" for split, count in splits.items() if split != "train" and count]
    beside = f", plus {' and '.join(held_out)}" if held_out else ""
    rows = "row" if splits["train"] == 1 else "rows"
    if detected is not None and detected.format == "text":
        rows = "document" if splits["train"] == 1 else "documents"
        return InputError(
            f"{name} has too few documents: {splits['train']} {rows} to train on{beside}",
            allowed=f"at least {fewest} documents to train on, so that some can be held out",
            try_="split long texts: in a plain-text file, blank lines or lines with <|endoftext|> separate documents",
        )
    return InputError(
        f"{name} has too few rows: {splits['train']} {rows} to train on{beside}",
        allowed=f"at least {fewest} rows to train on; a few hundred are typical",
        try_="add rows" + (", or hold out less (data.validation_fraction, data.test_fraction)" if held_out else ""),
    )


def _numbers(indexes: Sequence[int]) -> str:
    numbers = ", ".join(str(index + 1) for index in indexes[:5])
    return f"{'row' if len(indexes) == 1 else 'rows'} {numbers}{', …' if len(indexes) > 5 else ''}"
