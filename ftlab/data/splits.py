"""The frozen splits of a run: rows, fingerprints and manifest; and splits of versions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, TypedDict

from ftlab.config import SELF, DataConfig, load_config
from ftlab.config.sections import FEWEST_OWN_ANSWERS
from ftlab.config.stages import JUDGED_STAGES, PREFERENCE_STAGES, REWARD_STAGES, SFT, STAGES
from ftlab.core.files import replacing, write_json, write_jsonl
from ftlab.core.run_directory import MadeRowsJson, ManifestJson, ReplayJson, RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.cells import PLAIN_TEXTS, instruction
from ftlab.data.conversion import NO_MISTAKES, convert, remarks_of
from ftlab.data.formats import PREFERENCES, detect, detect_prompts
from ftlab.data.load import Loaded, SourceFile, load_rows, looked_at, named_in, settled
from ftlab.data.near import near_pairs
from ftlab.data.partition import (
    NEAR_ROWS,
    check_columns,
    describe_overlaps,
    hold_out,
    mixed_columns,
    prompt_fingerprint,
    prompt_text,
    too_few_rows,
    too_many_dropped,
    turns_of,
    undecided_choices,
    wrong_cells,
)
from ftlab.data.preferences import Reader, chat_of, check_format, reader
from ftlab.data.prompt_template import AsTrained, Columns, as_trained, columns_of, escaped, freeze_columns
from ftlab.data.rendering import reference
from ftlab.data.shapes import Detected, Example, Message, MissingColumn, UnusableRow, WrongCell, is_trained
from ftlab.data.tabular import Row
from ftlab.data.version_store import DetailsJson, Version, VersionRow, ids_of, resolve, rows_of
from ftlab.data.versions import MADE_BY, derive, taken
from ftlab.errors import FtlabError, InputError

FEWEST_ROWS = 10  # to train on, besides those held out
FEWEST_TO_PART = 12  # rows that leave FEWEST_ROWS where one each is held out for validation and test, as by default
REPLAYED = "replay"  # the `source` of training rows mixed in against forgetting
Turns = list[Message]


class ReplayPromptJson(TypedDict):
    """A prompt that the base answers before training; `row` is its index in the source."""

    row: int
    kind: str | None
    messages: Turns


@dataclass
class Prepared:
    """Examples by split ({"row", "source", "messages"}, or see `preferences.reader`), and the manifest that records
    their origin."""

    splits: dict[str, list[Example]]
    manifest: ManifestJson
    columns: dict[str, Columns] = field(default_factory=dict)  # of the held-out rows, in addition to their text
    asked: AsTrained = field(default_factory=AsTrained)
    replay_prompts: list[ReplayPromptJson] = field(default_factory=list)  # for the base to answer before training


def prepare(
    data: DataConfig, loaded: Loaded | None = None, workspace: Workspace | None = None, *, stage: str | None = None
) -> Prepared:
    """The examples of `data` in train, validation and test, with replay mixed into train; deterministic for a seed.

    Splits in the source are kept. Otherwise rows are split at random, with equal prompts kept together. `stage` selects
    the kind of example; without one, data for sft and pretraining is accepted. Raises InputError for data that cannot
    be read, has mixed columns, does not suit the stage, or leaves fewer than 10 rows to train on.
    """
    _check_replay(data, stage)
    loaded = loaded or load_rows(data, workspace)
    detected = detect_format(loaded, data, stage)
    if stage is not None:
        check_format(stage, detected, loaded.name, loaded.columns)
    notes = [*loaded.notes, *detected.notes((data.group_by, data.stratify_by))]
    dropped: Counter[str] = Counter()
    splits = _converted(loaded, detected, data, notes, dropped, stage or SFT)
    if len(splits) == 1 and loaded.main != "train":
        notes.append(f"{loaded.name} has only the split {loaded.main}; its rows are split into train and the rest.")
    beside = check_columns(data, loaded.columns)
    cells = _cells_beside(loaded.splits[loaded.main], splits["train"], beside) if beside else []
    splits = hold_out(splits, data, cells, notes)
    if len(splits["train"]) < FEWEST_ROWS:
        raise too_few_rows(loaded.name, {split: len(rows) for split, rows in splits.items()}, FEWEST_ROWS, detected)
    notes += _trained_parts(detected.format, stage)
    turns = {split: [turns_of(example) for example in examples] for split, examples in splits.items()}
    fingerprints = {
        split: [prompt_fingerprint(messages, data.system_prompt) for messages in every]
        for split, every in turns.items()
    }
    notes += describe_overlaps(fingerprints)
    if data.near_duplicates != "apart":
        brought = [split for split in ("validation", "test") if split in loaded.splits and split != loaded.main]
        notes += _near_overlaps({split: splits[split] for split in ("train", *brought)}, data)
    template = _template_of(detected, loaded.splits[loaded.main])
    how = as_trained(template, turns["train"])
    files = list(loaded.files)
    replayed, prompts = _mix_in_replay(data, splits["train"], turns["validation"] + turns["test"], files, workspace)
    manifest: ManifestJson = {
        "sources": [file.as_dict() for file in files],
        "format": detected.format,
        "columns": detected.columns,
        "why": detected.why,
        "rows_in": loaded.rows,
        "dropped": dict(dropped),
        "splits": {split: len(examples) for split, examples in splits.items()},
        "seed": data.seed,
        "split_by": {name: getattr(data, name) for name in ("group_by", "near_duplicates", "stratify_by")},
        "made": _written_rows(loaded, splits, workspace),
        "replay": replayed["replay"],
        "replay_text": replayed["replay_text"],
        "prompt_fingerprints": {split: list(dict.fromkeys(prints)) for split, prints in fingerprints.items()},
        "notes": notes,
    }
    texts = [column for role, column in detected.columns.items() if role != "label"]
    texts += detected.choices.columns if detected.choices else ()
    columns = {
        split: columns_of(loaded.splits | {"train": loaded.splits[loaded.main]}, splits[split], texts, data.group_by)
        for split in ("validation", "test")
    }
    return Prepared(splits, manifest, columns, how, prompts)


def _written_rows(
    loaded: Loaded, splits: Mapping[str, Sequence[Example]], workspace: Workspace | None
) -> MadeRowsJson | None:
    """The rows among `splits` that a model wrote. None if there are none."""
    if loaded.kind != "version":
        return None
    from ftlab.data.curation import unread

    version = resolve(loaded.name, workspace)
    if "made" not in version.details:
        return None
    made = version.details["made"]
    open_ = set(unread(version, accepted=True))
    ids = {split: ids_of(version, split) for split in loaded.splits}
    counts: dict[str, Counter[str]] = {"rows": Counter(), "unread": Counter()}
    for split, examples in splits.items():
        for example in examples:
            place = loaded.splits.get(example["source"])
            if place is not None and place[example["row"]].get(MADE_BY):
                counts["rows"][split] += 1
                counts["unread"][split] += ids[example["source"]][example["row"]] in open_
    return {"by": made["by"], "kind": made["kind"], "rows": dict(counts["rows"]), "unread": dict(+counts["unread"])}


def _check_replay(data: DataConfig, stage: str | None) -> None:
    """Raise InputError if `data` mixes replay data into a stage that cannot train on it."""
    replay = data.replay if data.replay_source or data.replay_prompts else None
    sources = {"data.replay": replay, "data.replay_text": data.replay_text}
    mixed_in = {path: source for path, source in sources.items() if source}
    if stage not in (*PREFERENCE_STAGES, *REWARD_STAGES) or not mixed_in:
        return
    why = "the model writes the answers itself" if stage in REWARD_STAGES else "it has no rejected answers"
    beta = f"{'reinforcement' if stage in REWARD_STAGES else 'preference'}.beta"
    raise InputError(
        f"Replay data cannot be mixed into the stage {stage}: {why}",
        given=", ".join(f"{path}: {source}" for path, source in mixed_in.items()),
        try_=f"set {' and '.join(f'{path}=none' for path in mixed_in)}"
        + ("" if not STAGES[stage].answers else f"; a higher {beta} keeps the model closer to its starting point"),
    )


def _trained_parts(format_: str, stage: str | None) -> list[str]:
    """Notes on which parts of the data are trained on, if not all are."""
    if format_ == "text":
        return ["The data holds plain text: the loss covers every token and the end-of-text token."]
    if stage in JUDGED_STAGES and format_ in PREFERENCES:
        return ["Every pair was split: the chosen answer counts as good, the rejected one as bad."]
    if stage in REWARD_STAGES:
        return ["The model answers the prompts itself; answers in the data serve only as references."]
    if stage not in PREFERENCE_STAGES and format_ == "kto":
        return ["The data holds judged answers: those marked good are trained on, those marked bad are not used."]
    if stage not in PREFERENCE_STAGES and format_ in PREFERENCES:
        return ["The data holds preferences: the chosen answers are trained on, the rejected ones are not used."]
    return []


def _template_of(detected: Detected, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The prompt template of these rows; an instruction that they all share also counts as one."""
    columns = detected.columns
    if detected.template or detected.choices or not {"prompt", "input"} <= columns.keys():
        return detected.template
    instructions = {str(row.get(columns["prompt"]) or "").strip() for row in rows}
    if len(instructions) > 1 or not all(str(row.get(columns["input"]) or "").strip() for row in rows):
        return None
    instruction_of_all = rows[0].get(columns["prompt"])
    if not isinstance(instruction_of_all, str) or not instruction_of_all.strip():
        return None
    return f"{escaped(instruction_of_all)}\n\n{{{columns['input']}}}"


def detect_format(loaded: Loaded, data: DataConfig, stage: str | None = None) -> Detected:
    """How to read the rows of `loaded` for `stage`: by the columns set in `data`, or remembered for the source."""
    data = settled(data, loaded.named)
    rows = loaded.splits[loaded.main]
    sample = looked_at(loaded)
    look = detect_prompts if stage in REWARD_STAGES else detect
    detected = look(loaded.columns, sample, data.columns, loaded.name, data.prompt_template)
    if detected.format == "classification" and not data.prompt_template:
        # The prompt lists the labels, and a rare one may be missing from the sample.
        label = detected.columns["label"]
        detected.template = instruction((row.get(label) for row in rows), detected.columns["text"])
    if detected.choices is not None:
        # So may the first or the last choice.
        choices = detected.choices.decided(row for split in loaded.splits.values() for row in split)
        if choices.way == "number" and choices.base is None:
            raise undecided_choices(loaded.name, choices)
        detected.why = detected.why.replace(detected.choices.how, choices.how)
        detected.choices = choices.with_example(sample)
    return detected


def freeze(prepared: Prepared, run: RunDirectory) -> None:
    """Write the splits (Parquet) and the manifest to `run`; an empty split gets no file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys = [("role", pa.string()), ("content", pa.string())]
    every = (turn for rows in prepared.splits.values() for row in rows for turn in chain(*_lists(row)))
    if not all(map(is_trained, every)):
        keys.append(("weight", pa.int8()))
    turns = pa.list_(pa.struct(keys))
    types = {"row": pa.int64(), "source": pa.string(), "label": pa.bool_()}
    first = next(examples[0] for examples in prepared.splits.values() if examples)
    schema = pa.schema([(name, types.get(name, turns)) for name in first])
    run.data.mkdir(parents=True, exist_ok=True)
    for split, examples in prepared.splits.items():
        if examples:
            with replacing(run.split_file(split)) as part:
                pq.write_table(pa.Table.from_pylist(examples, schema=schema), part)
    freeze_columns(run, prepared.columns)
    if prepared.replay_prompts:
        write_jsonl(run.replay_prompts_file, prepared.replay_prompts)
    write_json(run.asked_file, prepared.asked.as_dict())
    # Last: if there is a manifest, the splits are complete.
    write_json(run.manifest_file, prepared.manifest)


def read_split(run: RunDirectory, split: str) -> list[Example]:
    """The frozen examples of train, validation or test; empty if the run has no such rows.

    Preferences (prompt, chosen, rejected; or prompt, completion, label) also have their chosen or judged conversation
    as `messages`. Raises FtlabError if the data of the run was never frozen or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not run.manifest_file.exists():
        raise FtlabError(f"The run {run.id} has no frozen data", try_="start the run again")
    path = run.split_file(split)
    if not path.exists():
        return []
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise FtlabError(f"The frozen data {path.name} of run {run.id} cannot be read", why=str(error)) from None
    for row in rows:
        for turn in chain(*_lists(row)):
            if turn.get("weight", 0) is None:  # Parquet gives every turn the keys of all others
                del turn["weight"]
        if "messages" not in row:
            row["messages"] = chat_of(row)
    return rows


def _lists(row: Mapping[str, Any]) -> list[Turns]:
    """The lists of turns in an example."""
    return [value for value in row.values() if isinstance(value, list)]


def trained_nearly(
    run: RunDirectory,
    asked_for: tuple[tuple[str, str], ...],
    system_prompt: str | None = None,
    *,
    scripts: bool = False,
) -> frozenset[int]:
    """The places in `asked_for` (prompts as texts, with reference answers or "") of duplicates and near duplicates of
    the training rows of `run` with no system prompt, that of its data, or `system_prompt`. Empty if its rows are not
    available. `scripts`: the user's turns of a row are compared, without its answers."""
    file = run.split_file("train")
    if not asked_for or not file.exists():
        return frozenset()
    return _trained_nearly(run, file.stat().st_mtime_ns, asked_for, system_prompt, scripts)


@lru_cache(maxsize=64)  # a running blind test repeats the call at every refresh
def _trained_nearly(
    run: RunDirectory, stamp: int, asked_for: tuple[tuple[str, str], ...], system_prompt: str | None, scripts: bool
) -> frozenset[int]:
    try:
        own = load_config(run.config_file).data.system_prompt
    except FtlabError:
        own = None
    try:
        rows = [turns_of(example) for example in read_split(run, "train")]
    except FtlabError:
        return frozenset()
    usual = (None, own, system_prompt)
    rows = [turns for turns in rows if (turns[0]["content"] if turns[0]["role"] == "system" else None) in usual]
    if scripts:
        rows = [[turn for turn in turns if turn["role"] != "assistant"] for turns in rows]
    pairs = near_pairs(
        [prompt_text(turns) for turns in rows] + [prompt for prompt, _ in asked_for],
        [reference(turns) for turns in rows] + [answer for _, answer in asked_for],
        sides=[0] * len(rows) + [1] * len(asked_for),
        across=True,
    )
    return frozenset(pair.second - len(rows) for pair in pairs if pair.how != "answer")


def _converted(
    loaded: Loaded,
    detected: Detected,
    data: DataConfig,
    notes: list[str],
    dropped: Counter[str],
    stage: str,
) -> dict[str, list[Example]]:
    if len(loaded.splits) > 1 and "train" not in loaded.splits:
        raise InputError(
            f"{loaded.name} has no training split",
            given=", ".join(loaded.splits),
            allowed="a split called train",
            try_="set data.split to the split to train on",
        )
    if len(loaded.splits[loaded.main]) < FEWEST_ROWS:
        raise too_few_rows(loaded.name, {"train": len(loaded.splits[loaded.main])}, FEWEST_ROWS, detected)
    remarks: Counter[str] = Counter()
    read_row = reader(stage, detected, data.system_prompt)
    splits: dict[str, list[Example]] = {}
    for split, rows in loaded.splits.items():
        target = "train" if split == loaded.main else split
        chosen = _chosen_rows(len(rows), data.max_rows, data.seed)
        if len(chosen) < len(rows):
            notes.append(f"{len(chosen)} of {len(rows)} rows were sampled from the split {split}.")
        splits[target] = _examples(loaded.name, split, rows, chosen, detected, read_row, dropped, remarks)
    usable = sum(map(len, splits.values()))
    if sum(dropped.values()) - sum(dropped[reason] for reason in NO_MISTAKES) > usable:
        raise too_many_dropped(loaded.name, dropped, usable)
    notes += remarks_of(remarks)
    return splits


def _examples(
    name: str,
    split: str,
    rows: Sequence[Mapping[str, Any]],
    chosen: Sequence[int],
    detected: Detected,
    read_row: Reader,
    dropped: Counter[str],
    remarks: Counter[str],
) -> list[Example]:
    examples: list[Example] = []
    missing: list[tuple[int, str, Mapping[str, Any]]] = []
    wrong: list[tuple[int, WrongCell]] = []
    for index, row in _picked(rows, chosen):
        try:
            parts, changed = read_row(row)
        except MissingColumn as problem:
            missing.append((index, problem.column, row))
        except WrongCell as problem:
            wrong.append((index, problem))
        except UnusableRow as problem:
            dropped[problem.reason] += 1
        else:
            examples += [{"row": index, "source": split} | part for part in parts]
            remarks.update(changed)
    if missing:
        raise mixed_columns(name, missing, len(chosen), detected)
    if wrong:
        raise wrong_cells(name, wrong, len(chosen))
    return examples


def _cells_beside(rows: Sequence[Mapping[str, Any]], examples: list[Example], columns: Sequence[str]) -> list[Row]:
    """These `columns` of the source row of every example."""
    wanted = [example["row"] for example in examples]
    cells = {index: {column: row.get(column) for column in columns} for index, row in _picked(rows, wanted)}
    return [cells[index] for index in wanted]


def _picked(rows: Sequence[Mapping[str, Any]], chosen: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if len(chosen) == len(rows):
        yield from enumerate(rows)  # reads Arrow and Hub data in batches
    else:
        yield from ((index, rows[index]) for index in chosen)


def _chosen_rows(count: int, max_rows: int | None, seed: int) -> Sequence[int]:
    if max_rows is None or max_rows >= count:
        return range(count)
    return sorted(random.Random(seed).sample(range(count), max_rows))


def _mix_in_replay(
    data: DataConfig, train: list[Example], held_out: list[Turns], files: list[SourceFile], workspace: Workspace | None
) -> tuple[dict[str, ReplayJson | None], list[ReplayPromptJson]]:
    """Add replay rows to `train` in place, except duplicates and near duplicates of the `held_out` prompts (turns);
    returns the manifest entry of each kind, and the prompts for the base to answer."""
    generator, own = random.Random(data.seed), len(train)
    prints = {prompt_fingerprint(turns, data.system_prompt) for turns in held_out}
    records: dict[str, ReplayJson | None] = {"replay": None, "replay_text": None}
    prompts: list[ReplayPromptJson] = []
    sources = (data.replay_source or data.replay_prompts, data.replay_text)
    for name, source in zip(records, sources, strict=True):
        if not source:
            continue
        itself = name == "replay" and data.replay_prompts is not None
        # Neutral prompts go to the base without the system prompt of the task.
        system_prompt = None if itself else data.system_prompt
        settings = DataConfig(source=source, system_prompt=system_prompt, seed=data.seed)
        loaded = load_rows(settings, workspace)
        stage = REWARD_STAGES[0] if itself else SFT
        detected = _as_text(loaded, settings) if name == "replay_text" else detect_format(loaded, settings, stage)
        dropped: Counter[str] = Counter()
        rows = loaded.splits[loaded.main]
        read_row = reader(stage, detected, system_prompt)
        every = _examples(loaded.name, REPLAYED, rows, range(len(rows)), detected, read_row, dropped, Counter())
        free = [row for row in every if prompt_fingerprint(row["messages"], data.system_prompt) not in prints]
        if data.near_duplicates != "apart":
            free = _unlike(free, held_out)
        if not free:
            known = "general_documents" if name == "replay_text" else "self" if itself else "general_replay"
            raise InputError("The replay data has no usable row", given=source, try_=f"choose {known} or none")
        fraction = getattr(data, f"{name}_fraction")
        wanted = max(FEWEST_OWN_ANSWERS if data.replay == SELF else 1, round(fraction * own))
        used = generator.sample(free, min(wanted, len(free)))
        if itself:
            cells = _cells_beside(rows, used, ["kind"])
            asked_for = zip(used, cells, strict=True)
            prompts = [
                {"row": row["row"], "kind": beside["kind"], "messages": row["messages"][:-1]}
                for row, beside in asked_for
            ]
        else:
            train += used
        files += loaded.files
        # With the KL loss, answers may repeat: they teach nothing that the base does not already say.
        times = max(1, round(wanted / len(used))) if itself and data.replay_loss == "kl" else 1
        record: ReplayJson = {
            "source": loaded.name,
            "kinds": _kinds(rows, used),
            "fraction": fraction,
            "wanted": wanted,
            "rows": len(used) * times,
            "available": len(free),
            "held_out_prompts_skipped": len(every) - len(free),
            "dropped": dict(dropped),
        }
        if itself:
            record |= {"answers": "the base's own", "loss": data.replay_loss, "times": times}
        records[name] = record
    if len(train) > own:
        generator.shuffle(train)
    return records, prompts


def _kinds(rows: Sequence[Mapping[str, Any]], used: Sequence[Example]) -> list[str] | None:
    """The values in the column `kind` of the replay rows `used`. None unless all rows have one."""
    kinds = {cells.get("kind") for cells in _cells_beside(rows, list(used), ["kind"])}
    named = {kind for kind in kinds if isinstance(kind, str) and kind}
    return sorted(named) if named == kinds else None


def _near_overlaps(splits: Mapping[str, list[Example]], data: DataConfig) -> list[str]:
    """A note for each split of the source with near duplicates of training prompts."""
    if sum(map(len, splits.values())) > NEAR_ROWS and data.near_duplicates == "auto":
        return []
    train = [turns_of(example) for example in splits["train"]]
    known = {prompt_fingerprint(turns, data.system_prompt) for turns in train}
    notes = []
    for split, examples in splits.items():
        held = [turns_of(example) for example in examples] if split != "train" else []
        held = [turns for turns in held if prompt_fingerprint(turns, data.system_prompt) not in known]
        turns = [*train, *held]
        texts, answers = [prompt_text(messages) for messages in turns], [reference(messages) for messages in turns]
        sides = [0] * len(train) + [1] * len(held)
        pairs = near_pairs(texts, answers, sides=sides, across=True) if held else ()
        if near := len({pair.second for pair in pairs if pair.how != "answer"}):
            rows = f"{near} of the {len(examples)} {split} rows {'has' if near == 1 else 'have'}"
            notes.append(f"{rows} a near duplicate in train: their scores may show memory, not skill.")
    return notes


def _unlike(rows: list[Example], held_out: list[Turns]) -> list[Example]:
    """The `rows` whose prompt is not a near duplicate of one in `held_out`."""
    sides = [0] * len(rows) + [1] * len(held_out)
    texts = [prompt_text(turns) for turns in (*(row["messages"] for row in rows), *held_out)]
    near = {pair.first for pair in near_pairs(texts, sides=sides, across=True)}
    return [row for place, row in enumerate(rows) if place not in near]


def _as_text(loaded: Loaded, settings: DataConfig) -> Detected:
    """How to read the documents of `loaded`, ignoring other columns."""
    columns = [column for column in loaded.columns if column.lower() in PLAIN_TEXTS]
    if columns:
        return detect_format(loaded, settings.model_copy(update={"columns": {"text": columns[0]}}))
    raise InputError(
        f"{loaded.name} holds no plain text to mix in (data.replay_text)",
        given=f"columns {', '.join(loaded.columns)}",
        allowed=f"a column {', '.join(PLAIN_TEXTS)}, or a file of plain text (.txt)",
        try_="for conversations, set data.replay instead",
    )


def split_version(
    data: DataConfig, workspace: Workspace, *, who: str | None = None, why: str = ""
) -> tuple[Version, list[str]]:
    """A new version that assigns every row of the training split to a split, and notes about it.

    Existing splits are kept. Rows that cannot become an example are excluded, with the reason. Raises InputError like
    `splits.prepare`, and if all splits exist already; then no version is made.
    """
    with taken(data, workspace, who=who, why=why) as parent:
        return _split(parent, data, workspace, who, why)


def _split(
    parent: Version, data: DataConfig, workspace: Workspace, who: str | None, why: str
) -> tuple[Version, list[str]]:
    source = data.model_copy(update={"source": parent.source, "split": None})
    loaded = load_rows(source, workspace)
    missing = [name for name in ("validation", "test") if name not in loaded.splits]
    wanted = [name for name in missing if getattr(data, f"{name}_fraction") > 0]
    if not wanted:
        raise InputError(
            f"{parent.id} is split already",
            given=", ".join(f"{count} {name}" for name, count in parent.rows.items()),
            try_="split the version it came from" if parent.parent else "give a share to hold out",
        )
    detected = detect_format(loaded, source)
    columns = check_columns(source, loaded.columns)
    unusable: dict[int, str] = {}
    examples: list[Example] = []
    cells: list[Row] = []
    for row in rows_of(parent):
        if row.excluded is not None or row.split != loaded.main:
            continue
        try:
            messages, _ = convert(row.cells, detected, source.system_prompt)
        except UnusableRow as problem:
            unusable[row.id] = problem.reason
            continue
        examples.append({"row": row.id, "source": row.split, "messages": messages})
        cells.append({column: row.cells.get(column) for column in columns})
    if not examples:
        raise InputError(f"{parent.id} holds no usable row", given=Counter(unusable.values()).most_common(3))
    notes: list[str] = []
    held: dict[str, list[Any]] = {name: [] for name in loaded.splits if name != loaded.main}
    sides = hold_out({"train": examples} | held, source, cells, notes)
    place = {example["row"]: name for name, part in sides.items() for example in part}

    def divided(row: VersionRow) -> VersionRow:
        if row.id in unusable:
            return row.with_(excluded=unusable[row.id])
        return row.with_(split=place.get(row.id, row.split))

    settings = {name: getattr(data, name) for name in ("seed", "group_by", "near_duplicates", "stratify_by")}
    settings |= {f"{name}_fraction": getattr(data, f"{name}_fraction") for name in wanted}
    details: DetailsJson = {"settings": settings}
    if named := named_in(data):
        details |= named.as_dict()
    version = derive(
        parent,
        lambda: (divided(row) for row in rows_of(parent)),
        f"split into {', '.join(name for name, part in sides.items() if part)}",
        who=who,
        why=why,
        workspace=workspace,
        details=details,
        columns=parent.columns,
    )
    notes += [
        f"{counted(count, 'row')} {'is' if count == 1 else 'are'} excluded: {reason}."
        for reason, count in Counter(unusable.values()).items()
    ]
    return version, notes
