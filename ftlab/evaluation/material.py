"""What all sides of a comparison are asked, before it is tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import DataConfig, RunConfig
from ftlab.config_evaluation import names
from ftlab.data.columns import read_columns, small_columns
from ftlab.errors import InputError
from ftlab.evaluation.answer_limit import AnswerLimit, answer_limit
from ftlab.evaluation.held_out import drawn, held_out_rows, nested
from ftlab.evaluation.metrics.classes import find_all_labels, find_labels
from ftlab.evaluation.probes import Choice, Probe, load_general, replayed_kinds
from ftlab.run_directory import RunDirectory
from ftlab.workspace import Workspace

MOST_LABELS = 50


@dataclass(frozen=True)
class Material:
    """Held-out `rows` of the `available` ones of a `split` (or of a suite) with the small `columns` of each, general
    questions (`probes` with references, `choices`, and `neutral` prompts without), the `labels` of a classification
    (empty: it is none), and `notes` on all of that.

    `commonest` is the answer that most training rows have, where the answers are labels.
    `context` is the longest text that every side can read, in tokens; `limit` the longest answer of all of them;
    `replayed` are the kinds of general examples that were trained (see `replayed_kinds`).
    `clusters`: for each row what it belongs to, see `_clusters`.
    """

    split: str
    rows: list[dict[str, Any]]
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
        from ftlab.data.documents import is_document

        return is_document(self.rows[0]["messages"])


def gather(
    runs: Sequence[RunDirectory],
    configs: Sequence[RunConfig],
    suite: str | None,
    splits: Sequence[str] = ("test", "validation"),
) -> Material:
    """The material of a comparison of `runs`, by the settings of the first: of the first of `splits` with rows, or of
    `suite`. Raises InputError without rows."""
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
    references = [reference(row["messages"]) for row in rows]
    labels = _labels(runs[0], config, references, suite)
    columns = _columns(runs[0], split, rows, labels, references)
    clusters, more = _clusters(rows, columns, config.data.group_by)
    notes += more
    return Material(
        split=split,
        rows=rows,
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


def _limit(runs: Sequence[RunDirectory], configs: Sequence[RunConfig], references: Sequence[str]) -> AnswerLimit:
    """The longest answer for all sides, by the rows of the first run and the `references` of a suite; of several
    tokenizers that one counts which makes most tokens."""
    from ftlab.evaluation.sides import base_side, tokenizer_of

    tokenizers = {}
    for run, config in zip(runs, configs, strict=True):
        tokenizers.setdefault((config.model.base, config.model.revision), tokenizer_of(base_side(run, config)))
    limits = [answer_limit(runs[0], configs[0], one, references=references) for one in tokenizers.values()]
    return max(limits, key=lambda limit: limit.tokens)


def _suite_rows(
    suite: str, config: RunConfig, run: RunDirectory, most: int
) -> tuple[str, list[dict[str, Any]], list[str]]:
    """All rows of a data set that is no split of the run, of which `most` will be used.

    Raises InputError when it cannot be read or holds no answers.
    """
    from ftlab.data.conversion import UnusableRow
    from ftlab.data.documents import STAGE
    from ftlab.data.load import load_rows
    from ftlab.data.preferences import reader
    from ftlab.data.splits import detect_format

    data = DataConfig(source=suite, system_prompt=config.data.system_prompt)
    loaded = load_rows(data, Workspace(run.path.parent.parent))
    detected = detect_format(loaded, data)
    read_row = reader("sft", detected, data.system_prompt)
    texts = [column for role, column in detected.columns.items() if role != "label"]
    split = "test" if "test" in loaded.splits else loaded.main
    rows, refused = [], 0
    for number, row in enumerate(loaded.splits[split]):
        try:
            found, _ = read_row(row)
        except UnusableRow:
            refused += 1
            continue
        rows += [{"row": number, "columns": small_columns(row, texts)} | one for one in found]
    if not rows:
        raise InputError("There is no row to evaluate on", given=suite)
    if (len(rows[0]["messages"]) == 1) != (config.stage == STAGE):
        kind = "plain text" if config.stage == STAGE else "questions and answers"
        raise InputError(
            f"The run {run.id} is evaluated on {kind}, and this data set holds something else", given=suite
        )
    notes = [f"Evaluated on {loaded.name} instead of the held-out split of the run."]
    if refused:
        notes.append(f"{refused} rows of {loaded.name} could not be used and were left out.")
    if len(rows) > most:
        notes.append(f"{most} of {len(rows)} rows of {loaded.name} were used, drawn with seed 0.")
    return split, rows, notes


def _learned(
    rows: Sequence[dict[str, Any]], runs: Sequence[RunDirectory], configs: Sequence[RunConfig], suite: str | None
) -> list[str]:
    """A note for each run that was trained on prompts that it is asked here, or on near copies of them."""
    from ftlab.data.partition import asked, prompt_fingerprint, prompt_text
    from ftlab.data.rendering import reference
    from ftlab.data.splits import trained_nearly

    notes = []
    for number, (run, config) in enumerate(zip(runs, configs, strict=True)):
        if number == 0 and suite is None:
            continue  # said when its data were split
        learned = set(run.manifest().get("prompt_fingerprints", {}).get("train", []))
        rest = [row for row in rows if prompt_fingerprint(asked(row), config.data.system_prompt) not in learned]
        texts = tuple((prompt_text(asked(row)), reference(row["messages"])) for row in rest)
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
    run: RunDirectory, split: str, rows: Sequence[dict[str, Any]], labels: Sequence[str], references: Sequence[str]
) -> list[dict[str, Any]]:
    """The small columns of each row, and its label where it has one."""
    kept = read_columns(run, split)
    found = [row["columns"] if "columns" in row else kept.get((row.get("source"), row.get("row")), {}) for row in rows]
    if not labels:
        return found
    return [cells | {"label": text.strip()} for cells, text in zip(found, references, strict=True)]


def _clusters(
    rows: Sequence[dict[str, Any]], columns: Sequence[dict[str, Any]], group_by: str | None
) -> tuple[list[int] | None, list[str]]:
    """What each row belongs to: its value of `data.group_by`, else its prompt (asked twice); numbered. And notes on it.

    Rows that belong together say less than as many rows of their own: intervals and tests count them together. None
    where no two rows do.
    """
    from ftlab.data.documents import is_document
    from ftlab.data.prompt_template import cell_as_text
    from ftlab.data.rendering import prompt_messages

    keys = []
    for number, (row, cells) in enumerate(zip(rows, columns, strict=True)):
        group = cell_as_text(cells.get(group_by)) if group_by else ""
        alone = is_document(row["messages"])
        keys.append(f"group {group}" if group else f"row {number}" if alone else repr(prompt_messages(row["messages"])))
    notes = []
    if group_by and not any(key.startswith("group ") for key in keys):
        notes.append(
            f"The rows do not say their {group_by} (data.group_by), so intervals and tests take them as independent."
        )
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    count = len(numbers)
    if count == len(rows):
        return None, notes
    if group_by and not notes:
        notes.append(
            f"The {len(rows)} rows belong to {count} values of {group_by}: intervals and tests count rows of one value "
            "together."
        )
    return [numbers[key] for key in keys], notes


def _labels(run: RunDirectory, config: RunConfig, references: Sequence[str], suite: str | None) -> list[str]:
    """The labels that were given, else those that the data of the run (or the references of a suite) hold."""
    from ftlab.data.splits import read_split

    if given := names(config.evaluation.labels):
        return given
    if suite is None and run.manifest().get("format") != "classification":
        return []
    texts = list(references)
    if suite is None:
        texts += [row["messages"][-1]["content"] for row in read_split(run, "train") if row["source"] != "replay"]
    found = find_all_labels(texts)
    # Of a suite nobody has said that it is a classification: labels are short, and the same again and again.
    short = suite is None or (len(found) <= len(references) / 5 and max(map(len, found)) <= 60)
    return found if short and 1 < len(found) <= MOST_LABELS else []


def _commonest(run: RunDirectory) -> str | None:
    """The answer that most training rows of `run` have; of a showcase, which brings no training rows, None."""
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
