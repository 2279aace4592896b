"""Data for other tools and the Hub: files, OpenAI chat JSONL, and a data card."""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ftlab.config import DataConfig
from ftlab.core.files import disk_full, replacing, sizes_in
from ftlab.core.hub import check_name
from ftlab.core.hub_sync import OFFLINE_TRY, make, upload, writing
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.conversion import CUT_CONTEXT, CUT_TURNS, convert, remarks_of
from ftlab.data.load import Loaded, load_rows, remember, settled
from ftlab.data.prompt_template import cell_as_text
from ftlab.data.shapes import Detected, UnusableRow
from ftlab.data.splits import detect_format
from ftlab.data.tabular import Row
from ftlab.data.tool_calls import parts_of
from ftlab.data.tool_templates import openai_form
from ftlab.data.version_store import Version, find, history
from ftlab.errors import InputError, shorten

FEWEST_ROWS = 10
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_KEYS = {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal"}
_ROW_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}


def problems_of(rows: Iterable[Any], *, whole_file: bool = True) -> list[str]:
    """Violations of OpenAI's rules, one phrase per row (numbered from 1). With `whole_file`, also reports too few
    rows."""
    problems, count = [], 0
    for number, row in enumerate(rows, start=1):
        count = number
        problem = _problem_of_row(row)
        if problem:
            problems.append(f"row {number}: {problem}")
    if whole_file and count < FEWEST_ROWS:
        problems.append(f"{counted(count, 'row')}; OpenAI requires at least {FEWEST_ROWS}")
    return problems


def _problem_of_row(row: Any) -> str | None:
    if not isinstance(row, Mapping):
        return "not an object"
    unknown = row.keys() - _ROW_KEYS
    if unknown:
        return f"OpenAI does not know the key {shorten(sorted(unknown)[0], 40)!r}"
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return "no list of messages"
    for place, message in enumerate(messages, start=1):
        problem = _problem_of_message(message)
        if problem:
            return f"message {place} {problem}"
    if messages[-1]["role"] != "assistant":
        return "the last message is not the assistant's"
    if all(message.get("weight") == 0 for message in messages if message["role"] == "assistant"):
        return "no answer is trained on: all have weight 0"
    return None


def _problem_of_message(message: Any) -> str | None:
    if not isinstance(message, Mapping):
        return "is not an object"
    unknown = message.keys() - _KEYS
    if unknown:
        return f"has the key {shorten(sorted(unknown)[0], 40)!r}, which OpenAI does not know"
    role = message.get("role")
    if role not in _ROLES:
        return f"has the role {shorten(role, 40)!r}"
    content = message.get("content")
    calls = role == "assistant" and ("tool_calls" in message or "function_call" in message)
    if not calls and not (isinstance(content, str) and content.strip()) and not _is_parts(content):
        return "has no content"
    if "weight" in message and (role != "assistant" or message["weight"] not in (0, 1)):
        return "has a weight that is not 0 or 1 on an answer"
    return None


def _is_parts(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in content)
    )


Kind = Literal["jsonl", "parquet", "csv", "openai"]
SUFFIX_OF = {"jsonl": ".jsonl", "parquet": ".parquet", "csv": ".csv", "openai": ".jsonl"}
# Characters that start a formula in a spreadsheet (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass
class Exported:
    """The result of an export: rows by file, rows left out by reason, answers that lost their thoughts, and notes."""

    files: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)
    thoughts: int = 0
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"files": self.files, "left_out": self.left_out, "notes": self.notes}


def export(
    data: DataConfig,
    target: Path,
    kind: Kind | None = None,
    workspace: Workspace | None = None,
    *,
    overwrite: bool = False,
) -> Exported:
    """Write the rows of `data.source` to the file `target`, or to one file per split if there are several.

    jsonl, parquet and csv keep the columns (csv: non-text cells as JSON, formulas neutralized by a leading apostrophe).
    openai writes {"messages": [...]} as training would see it. Without `kind`, the extension of `target` decides.
    Raises InputError for an unknown kind, an existing file, or rows that OpenAI's rules do not allow.
    """
    kind = kind or _kind_by_name(target)
    if kind not in SUFFIX_OF:
        raise InputError("There is no such file format", given=kind, allowed=", ".join(SUFFIX_OF))
    loaded = load_rows(data, workspace)
    named = settled(data, loaded.named)
    paths = _paths(target, list(loaded.splits), kind)
    for path in paths.values():
        if path.exists() and not overwrite:
            raise InputError(f"{path.name} already exists", given=path, try_="choose another name, or add --overwrite")
    done = Exported({})
    detected = detect_format(loaded, data) if kind == "openai" else None
    for split, path in paths.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            done.files[str(path)] = _write(loaded, split, path, kind, detected, data.system_prompt, done)
        except OSError as error:
            cannot = InputError(f"{path.name} cannot be written: {error.strerror}", given=path)
            raise disk_full(error, path.absolute()) or cannot from None
        if workspace is not None and kind != "openai":
            # The columns are unchanged, so their remembered roles still apply.
            remember(named.model_copy(update={"source": str(path), "subset": None}), workspace)
    if done.thoughts:
        done.notes.append(
            f"Without the thoughts of {counted(done.thoughts, 'answer')}: OpenAI's format has no place for them. "
            "The format jsonl keeps them."
        )
    return done


def _write(
    loaded: Loaded, split: str, path: Path, kind: str, detected: Detected | None, system: str | None, done: Exported
) -> int:
    rows = loaded.splits[split]
    with replacing(path) as part:
        if kind == "parquet":
            return write_parquet(part, rows, loaded.columns)
        if kind == "csv":
            return _write_csv(part, rows, loaded.columns, done.notes)
        if kind == "openai" and detected is not None:
            chats = list(_chats(rows, detected, system, done))
            wrong = problems_of(chats, whole_file=split == loaded.main)
            if wrong:
                raise InputError(
                    f"{len(wrong)} {'row does' if len(wrong) == 1 else 'rows do'} not match OpenAI's chat format",
                    given="; ".join(wrong[:3]),
                    allowed="platform.openai.com/docs/guides/supervised-fine-tuning",
                    try_="correct or exclude these rows",
                )
            return _write_lines(part, chats)
        return _write_lines(part, rows)


def _chats(rows: Sequence[Row], detected: Detected, system: str | None, done: Exported) -> Iterator[dict[str, Any]]:
    if detected.format == "text":
        raise InputError(
            "Plain text has no messages to export",
            given="kind openai",
            allowed="jsonl, parquet, csv",
            try_="--format jsonl",
        )
    cut: Counter[str] = Counter()
    for row in rows:
        try:
            messages, remarks = convert(row, detected, system)
        except UnusableRow as problem:
            done.left_out[problem.reason] = done.left_out.get(problem.reason, 0) + 1
            continue
        cut.update(remark for remark in remarks if remark in (CUT_TURNS, CUT_CONTEXT))
        done.thoughts += sum(
            message["role"] == "assistant" and bool(parts_of(message["content"]).thought) for message in messages
        )
        yield openai_form(messages, weights=True)
    done.notes += remarks_of(cut)


def _write_lines(path: Path, rows: Any) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            try:
                line = json.dumps(row, ensure_ascii=False, default=str)
                line.encode()
            except UnicodeEncodeError:  # a lone surrogate, which only an escape can represent
                line = json.dumps(row, default=str)
            file.write(line + "\n")
            count += 1
    return count


def _write_csv(path: Path, rows: Any, columns: Sequence[str], notes: list[str]) -> int:
    count = changed = 0
    with path.open("w", encoding="utf-8-sig", newline="", errors="replace") as file:  # Excel needs the byte order mark
        writer = csv.writer(file, quoting=csv.QUOTE_MINIMAL)
        writer.writerow([neutral(column) for column in columns])
        for row in rows:
            cells = [cell_as_text(row.get(column)) for column in columns]
            safe = [neutral(cell) for cell in cells]
            changed += safe != cells
            writer.writerow(safe)
            count += 1
    if changed:
        which = "1 row" if changed == 1 else f"{changed} rows"
        notes.append(f"In {which} of {path.name[1:-5]}, cells that look like a formula got a leading apostrophe.")
    return count


def neutral(cell: str) -> str:
    """`cell` escaped so that a spreadsheet displays it instead of evaluating it. Plain numbers are unchanged."""
    if not cell.lstrip(" ").startswith(_FORMULA):
        return cell
    try:
        float(cell)
        return cell
    except ValueError:
        return "'" + cell


def write_parquet(path: Path, rows: Any, columns: Sequence[str]) -> int:
    """Write rows as Parquet with typed columns. A column of mixed types becomes JSON text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = []
    for column in columns:
        cells = [row.get(column) for row in rows]
        try:
            arrays.append(pa.array(cells))
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            arrays.append(pa.array([None if cell is None else _mixed_as_text(cell) for cell in cells], pa.string()))
    table = pa.table(dict(zip(columns, arrays, strict=True)))
    pq.write_table(table, path, compression="zstd")
    return table.num_rows


def _mixed_as_text(cell: Any) -> str:
    return cell_as_text(cell).encode("utf-8", "replace").decode()


def _kind_by_name(target: Path) -> Kind:
    kinds: dict[str, Kind] = {".jsonl": "jsonl", ".parquet": "parquet", ".csv": "csv"}
    if target.suffix.lower() not in kinds:
        raise InputError(
            "The extension of the file is not a known format",
            given=target.name,
            allowed=f"a name ending in {', '.join(kinds)}, or --format {', '.join(SUFFIX_OF)}",
        )
    return kinds[target.suffix.lower()]


def _paths(target: Path, splits: list[str], kind: str) -> dict[str, Path]:
    """One file, or `name.train.jsonl` next to `name.test.jsonl`; in a folder if `target` has no extension."""
    suffix = SUFFIX_OF[kind]
    if not target.suffix:
        return {split: target / f"{split}{suffix}" for split in splits}
    if len(splits) == 1:
        return {splits[0]: target}
    return {split: target.with_name(f"{target.stem}.{split}{target.suffix}") for split in splits}


@dataclass
class Pushed:
    """An upload to the Hub, planned or done: bytes by file, the card, and the address once uploaded."""

    repository: str
    private: bool
    files: dict[str, int]
    card: str
    address: str | None
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def push(
    data: DataConfig,
    repository: str,
    workspace: Workspace | None = None,
    *,
    private: bool = True,
    dry_run: bool = False,
    licence: str | None = None,
    token: str | None = None,
) -> Pushed:
    """Create or update the data set `repository` (owner/name) on the Hub: one Parquet file per split and a card.

    The default `token` is that of `hf auth login` or HF_TOKEN. With `dry_run`, nothing is sent and the network is not
    used. Raises InputError for an invalid name or missing permissions, FtlabError if the Hub cannot be reached.
    """
    check_name(repository, "data set")
    loaded = load_rows(data, workspace)
    card = card_of(loaded, data, repository, workspace, licence)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for split, rows in loaded.splits.items():
            path = root / "data" / f"{split}.parquet"
            path.parent.mkdir(exist_ok=True)
            write_parquet(path, rows, loaded.columns)
        (root / "README.md").write_text(card, encoding="utf-8")
        files = sizes_in(root)
        address = None if dry_run else _upload(root, repository, private, token)
    return Pushed(repository, private, files, card, address, dry_run)


def _upload(folder: Path, repository: str, private: bool, token: str | None) -> str:
    with writing("dataset", repository, token=token, offline_try=OFFLINE_TRY) as api:
        address = make(api, repository, "dataset", private=private)
        upload(api, repository, "dataset", folder, "Data set saved with ftlab")
        return address


def card_of(
    loaded: Loaded, data: DataConfig, repository: str, workspace: Workspace | None, licence: str | None = None
) -> str:
    """The card (README.md): the splits for the Hub's viewer, the origin of the rows, and their history."""
    head: dict[str, Any] = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}.parquet"} for split in loaded.splits],
            }
        ],
        "tags": ["ftlab"],
    }
    if licence:
        head["license"] = licence
    total = loaded.rows
    head["size_categories"] = ["n<1K" if total < 1000 else "1K<n<10K" if total < 10_000 else "10K<n<100K"]
    if total >= 100_000:
        head["size_categories"] = ["100K<n<1M" if total < 1_000_000 else "1M<n<10M"]
    lines = [f"---\n{yaml.safe_dump(head, sort_keys=False)}---", f"# {repository.split('/')[1]}", ""]
    try:
        detected = detect_format(loaded, data)
        lines += [f"Format: {detected.format.replace('_', ' ')} ({_plain(detected.why)}).", ""]
    except InputError:
        pass  # data that ftlab cannot train on can still be shared
    lines += ["| split | rows |", "|---|---|"]
    lines += [f"| {split} | {len(rows)} |" for split, rows in loaded.splits.items()]
    lines += ["", "| column |", "|---|", *[f"| `{_code(column)}` |" for column in loaded.columns]]
    lines += ["", "## Origin", ""]
    version = find(data.source, workspace) if data.source.startswith("version:") else None
    files = version.origin if version else [file.as_dict() for file in loaded.files]
    lines += [f"- {_plain(file['name'])}, sha256 `{file['sha256'] or file.get('revision')}`" for file in files]
    if version:
        lines += ["", "## History", "", *_steps(version, workspace)]
        lines += ["", f"Content of this version, sha256 `{version.content}`"]
    lines += ["", "Personal data and licenses were not checked for this card. Saved with ftlab."]
    return "\n".join(lines) + "\n"


def _steps(version: Version, workspace: Workspace | None) -> list[str]:
    """One line for each version from the first to this one."""
    known = {step.id: step for step in history(workspace, version.name)}
    chain: list[Version] = []
    current: Version | None = version
    while current is not None:
        chain.insert(0, current)
        current = known.get(current.parent) if current.parent else None
    return [
        f"1. {step.when[:10]}, {_plain(step.action)}: {counted(step.total, 'row')}"
        f"{f'. {_plain(step.why)}' if step.why else ''}"
        for step in chain
    ]


def _plain(text: Any) -> str:
    """Untrusted text as one line of Markdown, without markup."""
    signs: Sequence[str] = "\\`*_[]<>|#!"
    return "".join(f"\\{sign}" if sign in signs and sign != "`" else sign for sign in shorten(text)).replace("`", "'")


def _code(text: Any) -> str:
    return shorten(text, 80).replace("`", "'").replace("|", "\\|")
