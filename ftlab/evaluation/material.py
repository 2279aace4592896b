"""The data of a comparison: the held-out rows, the additional questions, and the answer length limit."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ftlab.config import DataConfig, RunConfig
from ftlab.config.evaluation import names
from ftlab.config.stages import PRETRAINING, REWARD_STAGES
from ftlab.core.files import read_cached
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.prompt_template import Columns, read_columns, small_columns
from ftlab.data.shapes import Example, is_trained
from ftlab.data.tool_calls import spoken, tools_by_row, uses_tools
from ftlab.errors import InputError
from ftlab.evaluation.metrics.text import find_all_labels, find_labels
from ftlab.evaluation.probes import Choice, Probe, load_general, replayed_kinds


def held_out_rows(
    run: RunDirectory,
    max_rows: int | None,
    *,
    judged: bool = False,
    splits: Sequence[str] = ("test", "validation"),
) -> tuple[str, list[Example], list[str]]:
    """The name and the rows of the split to compare on (at most `max_rows`), and notes on the choice. Uses the first of
    `splits` that holds rows.

    Answers marked as bad are not references; with `judged`, their rows are included. Raises InputError if none of
    `splits` holds rows.
    """
    from ftlab.data.splits import read_split

    for split in splits:
        rows = read_split(run, split) if run.split_file(split).exists() else []
        rows = rows if judged else [row for row in rows if row.get("label") is not False]
        if rows:
            break
    else:
        raise InputError(
            "There are no held-out rows to compare on",
            given=f"run {run.id}",
            try_=f"train with data.{splits[0]}_fraction above 0, or with data that has a {splits[0]} split",
        )
    notes = []
    if split == "validation" and "test" in splits:
        notes.append(
            "There is no test split, so the validation split was used. Training chose its best weights on it, which "
            "flatters the adapted model a little."
        )
    if max_rows is None:
        return split, rows, notes
    rows, more = drawn(split, rows, max_rows)
    return split, rows, notes + more


def drawn(
    split: str, rows: list[Any], at_most: int, own: int | None = None, *, called: str = "rows"
) -> tuple[list[Any], list[str]]:
    """`at_most` of the `rows` of a split (or pairs, or prompts, as named by `called`), drawn as in `nested`, and a note
    unless that is all of them."""
    if len(rows) <= at_most:
        return rows, []
    note = f"{at_most} of {len(rows)} {called} of the {split} split were used, drawn with seed 0."
    return nested(rows, at_most, at_most if own is None else own), [note]


def groups_of(run: RunDirectory, split: str, rows: Sequence[Example], group_by: str | None) -> list[str]:
    """The value of `group_by` for each of `rows` of the held-out `split`; "" if a row has none.

    Rows with the same value are not independent: intervals and tests treat them as a cluster.
    """
    from ftlab.data.prompt_template import cell_as_text

    if not group_by:
        return [""] * len(rows)
    columns = read_columns(run, split)
    return [cell_as_text(_cells(columns, row).get(group_by)) for row in rows]


def _cells(columns: Columns, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row of a split. Empty if the row does not record its origin."""
    return columns.get((row["source"], row["row"]), {}) if "source" in row and "row" in row else {}


def some(rows: list[Any], at_most: int) -> list[Any]:
    """`at_most` of `rows` in order, drawn with seed 0."""
    if len(rows) <= at_most:
        return rows
    return [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), at_most))]


def nested(rows: list[Any], at_most: int, own: int) -> list[Any]:
    """Like `some`, but fewer rows than the `own` number of a run are a subset of its own, and more rows a superset, so
    that cached replies serve both."""
    places = some(list(range(len(rows))), own)
    if at_most > own:
        kept = set(places)
        places += some([place for place in range(len(rows)) if place not in kept], at_most - own)
    return [rows[place] for place in sorted(some(places, at_most))]


def has_references(run: RunDirectory) -> bool:
    """Whether some held-out row of `run` has a reference answer. Prompts for learning from rewards need none."""
    from ftlab.data.splits import read_split

    rows = read_split(run, "test") or read_split(run, "validation")
    return any(row["messages"][-1]["content"].strip() for row in rows)


MOST_LABELS = 50


@dataclass(frozen=True)
class Material:
    """Held-out `rows` (`drawn` of the `available` ones; a row with tools occurs once per answer) of a `split` or a
    suite, with the small `columns` of each; general questions (`probes` with references, `choices`, and `neutral`
    prompts without); the `labels` of a classification (empty if it is not one); and `notes` on all of these.

    `commonest` is the most common answer in training, if the answers are labels. `context` is the longest text that
    every side can read, in tokens; `limit` the maximum answer length for all of them. `replayed` are the kinds of
    general examples used in training (see `replayed_kinds`). `clusters`: the cluster of each row, see `_clusters`.
    """

    split: str
    rows: list[Example]
    drawn: int
    available: int
    columns: list[dict[str, Any]]
    references: list[str]
    probes: list[Probe]
    labels: list[str]
    limit: AnswerLimit
    max_length: int
    context: int | None
    notes: list[str]
    clusters: list[int] | None = None
    commonest: str | None = None
    replayed: frozenset[str] | None = frozenset()
    choices: Sequence[Choice] = ()
    neutral: Sequence[Probe] = ()

    @property
    def documents(self) -> bool:
        """Whether the rows are plain text, without prompts and answers."""
        from ftlab.data.conversion import is_document

        return is_document(self.rows[0]["messages"])

    @cached_property
    def tools(self) -> tuple[str, ...] | None:
        """The tools of each row as JSON text ("" without any); None if no row lists or calls tools."""
        return tools_by_row([row["messages"] for row in self.rows])


def gather(
    runs: Sequence[RunDirectory],
    configs: Sequence[RunConfig],
    suite: str | None,
    splits: Sequence[str] = ("test", "validation"),
) -> Material:
    """The material of a comparison of `runs`, with the settings of the first: from the first of `splits` with rows, or
    from `suite`. Raises InputError without rows."""
    from ftlab.data.rendering import reference
    from ftlab.evaluation.sides import config_of

    config = configs[0]
    most, own = config.evaluation.max_rows, config_of(runs[0]).evaluation.max_rows
    if suite is None:
        split, every, notes = held_out_rows(runs[0], None, splits=splits)
        rows, more = drawn(split, every, most, own)
        notes, available = notes + more, len(every)
    else:
        split, every, notes = _suite_rows(suite, config, runs[0], most)
        rows, available = nested(every, most, own), len(every)
    notes += _learned(rows, runs, configs, suite)
    replayed = replayed_kinds(runs, configs)
    probes, choices, neutral, note = load_general(config, replayed)
    notes += [note] if note else []
    drawn_rows = len(rows)
    rows = each_turn(rows)
    if len(rows) > drawn_rows:
        notes.append(
            f"Conversations with tools are asked at each turn of the assistant, after the earlier turns in the data: "
            f"{len(rows)} questions in {drawn_rows} rows. Turns of one row count together in intervals and tests."
        )
    references = [spoken(reference(row["messages"])) for row in rows]
    labels = _labels(runs[0], config, references, suite)
    columns = _columns(runs[0], split, rows, labels, references)
    clusters, more = _clusters(rows, columns, config.data.group_by)
    notes += more
    return Material(
        split=split,
        rows=rows,
        drawn=drawn_rows,
        available=available,
        columns=columns,
        references=references,
        probes=probes,
        labels=labels,
        limit=_limit(runs, configs, references if suite else []),
        max_length=config.optimisation.max_length,
        context=_smallest_context(configs),
        notes=notes,
        clusters=clusters,
        commonest=_commonest(runs[0]) if labels or find_labels(references) else None,
        replayed=replayed,
        choices=choices,
        neutral=neutral,
    )


def each_turn(rows: Sequence[Example]) -> list[Example]:
    """`rows`, with rows that use tools repeated for each trained turn of the assistant, with messages up to that turn:
    a call counts as an answer just like the text that follows it."""
    every: list[Example] = []
    for row in rows:
        turns = row["messages"]
        places = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
        if sum(is_trained(turns[place]) for place in places) < 2 or not uses_tools(turns):
            every.append(row)
            continue
        every += [
            row | {"messages": turns[: place + 1], "turn": number}
            for number, place in enumerate(places, 1)
            if is_trained(turns[place])
        ]
    return every


def _limit(runs: Sequence[RunDirectory], configs: Sequence[RunConfig], references: Sequence[str]) -> AnswerLimit:
    """The maximum answer length for all sides, from the rows of the first run and the `references` of a suite. With
    several tokenizers, the one that yields the most tokens counts."""
    from ftlab.evaluation.sides import base_side, tokenizer_of

    tokenizers: dict[tuple[str, str | None], Any] = {}
    for run, config in zip(runs, configs, strict=True):
        tokenizers.setdefault((config.model.base, config.model.revision), tokenizer_of(base_side(run, config)))
    limits = [answer_limit(runs[0], configs[0], tokenizer, references=references) for tokenizer in tokenizers.values()]
    return max(limits, key=lambda limit: limit.tokens)


def _suite_rows(suite: str, config: RunConfig, run: RunDirectory, most: int) -> tuple[str, list[Example], list[str]]:
    """All rows of a data set that is not a split of the run, of which `most` will be used.

    Raises InputError if it cannot be read or holds no answers.
    """
    from ftlab.data.load import load_rows
    from ftlab.data.preferences import reader
    from ftlab.data.shapes import UnusableRow
    from ftlab.data.splits import detect_format

    data = DataConfig(source=suite, system_prompt=config.data.system_prompt)
    loaded = load_rows(data, Workspace(run.path.parent.parent))
    detected = detect_format(loaded, data)
    read_row = reader("sft", detected, data.system_prompt)
    texts = [column for role, column in detected.columns.items() if role != "label"]
    split = "test" if "test" in loaded.splits else loaded.main
    rows: list[Example] = []
    refused = 0
    for number, row in enumerate(loaded.splits[split]):
        try:
            examples, _ = read_row(row)
        except UnusableRow:
            refused += 1
            continue
        rows += [{"row": number, "columns": small_columns(row, texts)} | example for example in examples]
    if not rows:
        raise InputError("There are no rows to evaluate on", given=suite)
    if (len(rows[0]["messages"]) == 1) != (config.stage == PRETRAINING):
        kind = "plain text" if config.stage == PRETRAINING else "questions and answers"
        raise InputError(
            f"The run {run.id} is evaluated on {kind}, but this data set contains something else", given=suite
        )
    notes = [f"Evaluated on {loaded.name} instead of the held-out split of the run."]
    if refused:
        notes.append(f"{counted(refused, 'row')} of {loaded.name} left out: no example could be read there.")
    if len(rows) > most:
        notes.append(f"{most} of {len(rows)} rows of {loaded.name} were used, drawn with seed 0.")
    return split, rows, notes


def _learned(
    rows: Sequence[Example], runs: Sequence[RunDirectory], configs: Sequence[RunConfig], suite: str | None
) -> list[str]:
    """A note for each run that was trained on prompts asked here, or on near copies of them."""
    from ftlab.data.partition import prompt_fingerprint, prompt_text, turns_of
    from ftlab.data.rendering import reference
    from ftlab.data.splits import trained_nearly

    notes = []
    for number, (run, config) in enumerate(zip(runs, configs, strict=True)):
        if number == 0 and suite is None:
            continue  # already noted when its data was split
        learned = set(run.manifest().get("prompt_fingerprints", {}).get("train", []))
        rest = [row for row in rows if prompt_fingerprint(turns_of(row), config.data.system_prompt) not in learned]
        texts = tuple((prompt_text(turns_of(row)), reference(row["messages"])) for row in rest)
        count, near = len(rows) - len(rest), len(trained_nearly(run, texts))
        if count or near:
            copies = f"near copies of {near}{' more' if count else f' of these {len(rows)} rows'}" if near else ""
            of = f"the prompts of {count} of these {len(rows)} rows" if count else ""
            notes.append(
                f"The run {run.id} was trained on {' and '.join(filter(None, [of, copies]))}: on them its scores "
                "show memory, not skill."
            )
    return notes


def _columns(
    run: RunDirectory, split: str, rows: Sequence[Example], labels: Sequence[str], references: Sequence[str]
) -> list[dict[str, Any]]:
    """The small columns of each row, and its label if it has one."""
    kept = read_columns(run, split)
    columns = [row["columns"] if "columns" in row else _cells(kept, row) for row in rows]
    if not labels:
        return columns
    return [cells | {"label": text.strip()} for cells, text in zip(columns, references, strict=True)]


def _clusters(
    rows: Sequence[Example], columns: Sequence[dict[str, Any]], group_by: str | None
) -> tuple[list[int] | None, list[str]]:
    """The number of each row's cluster (its value of `data.group_by`, else its prompt, which may repeat), and notes.

    Rows of one cluster carry less information than independent ones, which intervals and tests take into account. None
    if no two rows share a cluster.
    """
    from ftlab.data.conversion import is_document
    from ftlab.data.prompt_template import cell_as_text
    from ftlab.data.rendering import prompt_messages

    keys = []
    for number, (row, cells) in enumerate(zip(rows, columns, strict=True)):
        group = cell_as_text(cells.get(group_by)) if group_by else ""
        own = f"row {number}" if is_document(row["messages"]) else repr(prompt_messages(row["messages"]))
        own = f"conversation {row['row']}" if "turn" in row else own
        keys.append(f"group {group}" if group else own)
    notes = []
    if group_by and not any(key.startswith("group ") for key in keys):
        notes.append(f"The rows have no {group_by} (data.group_by), so intervals and tests treat them as independent.")
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    count = len(numbers)
    if count == len(rows):
        return None, notes
    if group_by and not notes:
        notes.append(
            f"The {len(rows)} rows have {count} values of {group_by}: intervals and tests treat rows with the same "
            "value as one cluster."
        )
    return [numbers[key] for key in keys], notes


def _labels(run: RunDirectory, config: RunConfig, references: Sequence[str], suite: str | None) -> list[str]:
    """The configured labels, else those in the data of the run (or the references of a suite)."""
    from ftlab.data.splits import read_split

    if named := names(config.evaluation.labels):
        return named
    if suite is None and run.manifest().get("format") != "classification":
        return []
    texts = list(references)
    if suite is None:
        texts += [row["messages"][-1]["content"] for row in read_split(run, "train") if row["source"] != "replay"]
    labels = find_all_labels(texts)
    # A suite is not declared a classification: labels are short and recur.
    short = suite is None or (len(labels) <= len(references) / 5 and max(map(len, labels)) <= 60)
    return labels if short and 1 < len(labels) <= MOST_LABELS else []


def _commonest(run: RunDirectory) -> str | None:
    """The most common answer in the training rows of `run`. None for a showcase, which has no training rows."""
    from ftlab.data.splits import read_split

    counts = Counter(
        row["messages"][-1]["content"].strip()
        for row in read_split(run, "train")
        if row.get("source") != "replay" and "messages" in row
    )
    return counts.most_common(1)[0][0] if counts else None


def _smallest_context(configs: Sequence[RunConfig]) -> int | None:
    from ftlab.models.load import text_length

    return min((length for config in configs if (length := text_length(config))), default=None)


# A good answer may be longer than every reference, and a base wraps a label in a sentence of about ten tokens.
_MARGIN = 1.25
_FEWEST, _MOST = 16, 1024
_UNKNOWN = 128  # without any reference
_TRAINING_ROWS = 2000  # more of them do not move the 99th percentile
_USUAL_SHARE = 0.99


@dataclass(frozen=True)
class AnswerLimit:
    """At most `tokens`, including the stop token. `longest`: tokens of the longest reference. None if a person set the
    number or no row has a reference."""

    tokens: int
    longest: int | None = None

    def __str__(self) -> str:
        known = "" if self.longest is None else f": the longest reference has {self.longest:,}"
        return f"at most {self.tokens:,} tokens{known}"


def answer_limit(
    run: RunDirectory, config: RunConfig, tokenizer: Any, *, references: Sequence[str] | None = None
) -> AnswerLimit:
    """The maximum answer length for everything `run` is asked: `config.evaluation.max_new_tokens`, or if empty, derived
    from the references of its frozen rows (and `references` of other rows).

    No held-out reference is cut, unless it is longer than both 1,024 tokens and `optimisation.max_length`, or exceeds
    the context. Training rows count up to their 99th percentile: one odd row must not slow down every comparison.
    """
    from ftlab.models.load import text_length

    if config.evaluation.max_new_tokens is not None:
        return AnswerLimit(config.evaluation.max_new_tokens)
    if config.stage == PRETRAINING:
        return AnswerLimit(_UNKNOWN)
    held_out = sorted(_lengths([*_held_out(run), *(references or [])], tokenizer))
    trained = sorted(_lengths(_trained(run), tokenizer))
    usual = trained[math.ceil(_USUAL_SHARE * len(trained)) - 1 :][:1]
    longest = max([*held_out[-1:], *usual], default=None)
    if longest is None:
        return AnswerLimit(config.reinforcement.max_new_tokens if config.stage in REWARD_STAGES else _UNKNOWN)
    most = max(_MOST, config.optimisation.max_length)
    # One more for the stop token.
    tokens = min(max(math.ceil(_MARGIN * longest) + 1, _FEWEST), most, text_length(config) or most)
    return AnswerLimit(tokens, longest)


def limit_used(run: RunDirectory, config: RunConfig) -> int:
    """The maximum answer length in tokens used to compare `run` with its base, or to be used if that is still to
    come."""
    from ftlab.evaluation.sides import base_side, tokenizer_of

    settings = (read_cached(run.comparison_file) or {}).get("settings") or {}
    return int(settings.get("max_new_tokens") or answer_limit(run, config, tokenizer_of(base_side(run, config))).tokens)


def still_holds(tokens: int, cut: bool, limit: int, limit_now: int) -> bool:
    """Whether an answer of `tokens` generated under `limit` is also valid under `limit_now`: it ended by itself, and
    fits."""
    return limit == limit_now or (not cut and tokens <= limit_now)


def _held_out(run: RunDirectory) -> list[str]:
    from ftlab.data.rendering import reference
    from ftlab.data.splits import read_split

    rows = read_split(run, "test") or read_split(run, "validation")
    return [reference(row["messages"]) for row in each_turn(rows) if row.get("label") is not False]


def _trained(run: RunDirectory) -> list[str]:
    from ftlab.data.rendering import reference
    from ftlab.data.splits import read_split

    rows = [row for row in read_split(run, "train") if row.get("source") != "replay" and row.get("label") is not False]
    return [reference(row["messages"]) for row in each_turn(some(rows, _TRAINING_ROWS))]


def _lengths(texts: Sequence[str], tokenizer: Any) -> list[int]:
    texts = [text for text in texts if text.strip()]
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False).input_ids] if texts else []
