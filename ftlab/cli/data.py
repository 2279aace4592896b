"""`python -m ftlab data inspect | fix | make | split | export | push | versions`: what is wrong with a data set, rows
that a model writes, and versions."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.cli.make import add_make
from ftlab.cli.output import Progress, print_result
from ftlab.cli.parser import Parser, add_command, add_group
from ftlab.cli.settings import add_columns, keeping, overrides
from ftlab.config import STARTER, DataConfig, build_config
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.versions import latest_choice, train_command
from ftlab.errors import InputError, nearest

if TYPE_CHECKING:
    from ftlab.cli.json_forms import FixedForm, SavedForm, SplitForm, UnfixedForm, UsedForm, VersionsForm
    from ftlab.data.checks import Finding, Report
    from ftlab.data.checks.finding import CoverageJson, TokensJson

_NO_BASE = "none"
_NO_RUN = "no run here names a base; --base sets another"
_ROWS_SHOWN = 8


def add_data(parser: Parser) -> None:
    group = add_group(parser)
    checking = "Check data: duplicates, leaks, personal data, lengths in tokens, and more"
    command = add_command(group, "inspect", inspect, checking, "data inspect my.csv --base smollm2")
    add_source(command)
    _add_checks(command)
    command.add_argument(
        "--prompts", type=Path, metavar="FILE", help="real-world prompts, one per line: are they covered?"
    )
    # `data/checks/job.py` starts the checks of the app with it.
    command.add_argument("--job", type=Path, help=argparse.SUPPRESS)

    fixing = "Make a new version with the findings of `inspect` fixed"
    command = add_command(group, "fix", fix, fixing, "data fix my.csv --skip email --remedy html=drop")
    add_source(command)
    _add_checks(command)
    command.add_argument("--only", metavar="KIND,...", help="fix only these kinds of findings (default: all but notes)")
    command.add_argument("--skip", metavar="KIND,...", help="leave these kinds unchanged")
    command.add_argument(
        "--remedy",
        action="append",
        default=[],
        metavar="KIND=REMEDY",
        help="another remedy for a kind, such as email=drop (repeatable)",
    )
    add_who(command)
    add_make(group)
    add_versions(group)


def _add_checks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base",
        help="count tokens with the tokenizer of this base (default: the latest run's, else starter); none counts none",
    )
    parser.add_argument(
        "--max-length", type=int, help="longest example in tokens (default: the latest run's with this base, else 512)"
    )


def inspect(args: argparse.Namespace) -> int:
    from ftlab.data.checks.job import work

    if args.job is not None:
        return work(args.job, _tokenizer, _context)
    report = _report(args, _prompts(args.prompts))
    return print_result(args, report, *_lines(report, args.base_reason), *_next_steps(args, report))


def fix(args: argparse.Namespace) -> int:
    from ftlab.data.remedies import NothingChanged, is_mended, mend_findings, token_counter
    from ftlab.data.version_store import PREFIX, pinned
    from ftlab.data.versions import taken

    remedies = dict(_pair(text) for text in args.remedy)
    only, skip = _kinds(args.only), _kinds(args.skip)
    workspace = Workspace.open(args.workspace)
    # What only the file shows, such as a key that stands twice in a row, a version does not hold. A first version has
    # the same rows in the same order.
    report = _report(args)
    findings = [
        finding for finding in report.findings if finding.kind not in skip and is_mended(finding, only, remedies)
    ]
    raised = [finding for finding in report.findings if _is_raised(finding, remedies, skip)]
    left = [f"Left unchanged: {_raised(finding)}" for finding in raised]
    unchanged: UnfixedForm = {
        "version": pinned(args.source, workspace) if args.source.startswith(PREFIX) else None,
        "done": [],
        "left": left,
        "base": args.base,
    }
    if not findings:
        return print_result(args, unchanged, "No row needs a change.", *left, *_counted(args, report))
    tokens = None
    if any(remedies.get(finding.kind) == "shorten" for finding in findings) and args.base != _NO_BASE:
        tokens = token_counter(read_data(args), _tokenizer(args.base), workspace)
    try:
        with taken(read_data(args), workspace, who=args.who) as version:
            mended = mend_findings(version, findings, report.roles, remedies, tokens=tokens, who=args.who, why=args.why)
    except NothingChanged as nothing:
        unchanged["left"] = [str(nothing), *left]
        return print_result(args, unchanged, str(nothing), *left, *_counted(args, report))
    base = None if args.base == _NO_BASE else args.base
    longest = max((finding.detail["raise_to"] for finding in raised), default=args.max_length)
    value: FixedForm = {
        **mended.as_dict(),
        "source": mended.source,
        "done": mended.action,
        "left": left,
        "base": args.base,
    }
    return print_result(
        args,
        value,
        *mended.action.replace(". ", ".\n").splitlines(),
        *left,
        *_counted(args, report),
        "",
        version_line(mended).split("  ")[0] + f"  rows left: {mended.total}, excluded: {mended.excluded}",
        f"  check again    python -m ftlab data inspect {mended.source}{_as_counted(args)}",
        f"  save it        python -m ftlab data export {mended.source} mended.jsonl{workspace.flag}",
        f"  train on it    {train_command(mended.source, workspace, base, max_length=longest)}",
    )


def _report(args: argparse.Namespace, prompts: list[str] | None = None) -> Report:
    from ftlab.data.checks import check
    from ftlab.data.load import load_rows

    if args.max_length is not None and args.max_length < 16:
        raise InputError("The longest example is too short", given=args.max_length, allowed="16 tokens or more")
    data, workspace = read_data(args), Workspace.open(args.workspace)
    loaded = load_rows(data, workspace)  # before the libraries that count tokens: a wrong name is reported at once
    args.base, length, args.base_reason = _base(args, workspace)
    tokenizer = None if args.base == _NO_BASE else _tokenizer(args.base)
    progress = Progress(quiet=True)
    try:
        return check(
            data,
            loaded=loaded,
            prompts=prompts,
            tokenizer=tokenizer,
            base=args.base,
            context=None if tokenizer is None else _context(args.base),
            max_length=length,
            progress=progress,
        )
    finally:
        progress.close("")


def _tokenizer(base: str) -> Any:
    from ftlab.models.load import load_tokenizer

    return load_tokenizer(base)


def _context(base: str) -> int | None:
    from ftlab.models.load import context_of

    return context_of(base)


def _base(args: argparse.Namespace, workspace: Workspace) -> tuple[str, int | None, str]:
    """The base whose tokens are counted, the longest example, and why these."""
    latest = latest_choice(workspace)
    if args.base and (latest is None or latest[0] != args.base):
        return args.base, args.max_length, "from --base"
    if latest is None:
        return STARTER, args.max_length, _NO_RUN
    base, length, run = latest
    why = "from --base" if args.base else f"the base of the run {run}; --base sets another"
    return base, args.max_length or length, why


def _prompts(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"The prompts cannot be read: {error.strerror}", given=file) from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError("The file has no prompts", given=file, allowed="one prompt per line")
    return prompts


def _lines(report: Report, base_reason: str) -> Iterator[str]:
    splits = ", ".join(f"{count:,} {split}" for split, count in report.splits.items())
    yield f"{report.name}: {counted(report.rows, 'row')} ({splits})"
    yield f"format {report.format}, {report.confidence:.0%} sure: {report.why}"
    for note in report.notes:
        yield f"note: {note}"
    if report.tokens:
        yield ""
        yield from _token_lines(report.tokens, base_reason)
    yield ""
    yield from _finding_lines(report)
    if report.suspicious:
        yield ""
        rows = ", ".join(f"{suspect['row']} of {suspect['split']}" for suspect in report.suspicious[:_ROWS_SHOWN])
        yield f"Rows whose label or answer fits the prompt least, the worst first, to read (no finding): {rows}"
    yield ""
    if report.advice:
        yield "Is it enough?"
    for advice in report.advice:
        yield f"  {advice.level:<5} {advice.text}"
        yield f"        Source: {advice.source} ({advice.url})"
    if report.coverage:
        yield ""
        yield from _coverage_lines(report.coverage)


def _token_lines(tokens: TokensJson, base_reason: str) -> Iterator[str]:
    sampled = (
        "" if tokens["measured_rows"] >= tokens["rows"] else f", measured on {counted(tokens['measured_rows'], 'row')}"
    )
    yield f"Tokens of {tokens['base']} ({base_reason}; longest example: {tokens['max_length']}{sampled})"
    parts = {"prompt": tokens.get("prompt"), "completion": tokens.get("completion"), "whole": tokens.get("whole")}
    for name, part in parts.items():
        if part:
            yield (
                f"  {name:<11} {_bars(part['histogram']['counts'])}  mean {part['mean']:.0f}, 95% up to "
                f"{part['p95']}, longest {part['max']}"
            )
    if "trained_share" in tokens:
        stop = "is trained" if tokens["stop_token_trained"] else "is NOT always trained"
        yield f"  {tokens['trained_share']:.0%} of the tokens are trained; the stop token {stop}"
        yield f"  {tokens['suggested_why']}; {tokens['packing']['why']}"
    for note in tokens["notes"]:
        yield f"  note: {note}"


def _bars(counts: list[int]) -> str:
    steps = " ▁▂▃▄▅▆▇█"
    most = max(counts) or 1
    return "".join(steps[0 if not count else max(1, round(8 * count / most))] for count in counts).ljust(26)


def _finding_lines(report: Report) -> Iterator[str]:
    from ftlab.data.checks.run import nothing_wrong

    if not report.findings:
        yield nothing_wrong(vars(report))
        return
    yield f"{len(report.findings)} {'finding' if len(report.findings) == 1 else 'findings'} (rows count from 0)"
    for finding in report.findings:
        about, count = finding.about, len(finding.rows)
        rows = ", ".join(map(str, finding.rows[:_ROWS_SHOWN])) + (", …" if count > _ROWS_SHOWN else "")
        yield ""
        yield f"  {about.severity:<8}{about.title}: {count:,} in {finding.split}"
        yield f"          rows {rows}"
        for place, match in list(zip(finding.rows, finding.matches, strict=False))[:3]:
            if match != (finding.split, place):
                yield f"          row {place} is like row {match[1]} of {match[0]}"
        for text in finding.excerpts[:3]:
            yield f"          {text}"
        for reason, number in [*finding.detail.get("problems", {}).items(), *finding.detail.get("reasons", {}).items()]:
            yield f"          {reason}: {number}"
        yield f"          {about.why}"
        if finding.remedy == "raise":
            yield f"          {_raised(finding)}"
        others = f" (or {', '.join(finding.remedies[1:])})" if finding.remedies[1:] else ""
        yield f"          {finding.kind}: {_DO[finding.remedy]}{others}"


_DO = {
    "drop": "drop these rows",
    "mask": "mask the text",
    "deduplicate": "keep the first, remove the copies",
    "move": "move these rows to the held-out split",
    "relabel": "give them the most common answer, or decide",
    "shorten": "cut sentences that the prompts do not need",
    "raise": "raise max_length",
    "none": "needs your decision",
}


def _counted(args: argparse.Namespace, report: Report) -> list[str]:
    tokens = report.tokens
    if tokens is None:
        return ["Lengths in tokens were not checked."]
    return [f"Tokens of {args.base} ({args.base_reason}; longest example: {tokens['max_length']})."]


def _is_raised(finding: Finding, remedies: dict[str, str], skip: set[str]) -> bool:
    return finding.kind not in skip and remedies.get(finding.kind, finding.remedy) == "raise"


def _raised(finding: Finding) -> str:
    """The effect of a longer max_length on these rows, and its cost."""
    rows, detail = len(finding.rows), finding.detail
    return (
        f"{rows:,} {'row' if rows == 1 else 'rows'} of {finding.split} fit into --set "
        f"optimisation.max_length={detail['raise_to']}: {detail['raise_cost']}."
    )


def _coverage_lines(coverage: CoverageJson) -> Iterator[str]:
    words = coverage["vocabulary"]
    compared = counted(coverage["asked_prompts"], "held-out or given prompt")
    yield f"Is it representative? {compared} against the training prompts"
    yield f"  {words['covered']:.1%} of their words occur in training" + (
        f"; new: {', '.join(words['new_words'][:8])}" if words["new_words"] else ""
    )
    train, asked = coverage["length"]["train"], coverage["length"]["asked"]
    yield f"  words per prompt: {train['median_words']} in training, {asked['median_words']} held out (median)"
    for topic in coverage["topics"]:
        if not topic["covered"]:
            yield f"  not covered: {', '.join(topic['terms'])} ({topic['prompts']} prompts), e.g. {topic['example']}"


def _as_counted(args: argparse.Namespace) -> str:
    """The flags with which another command counts tokens as this one did, and so finds the same rows too long."""
    base = "" if args.base_reason == _NO_RUN else f" --base {shlex.quote(args.base)}"
    length = f" --max-length {args.max_length}" if args.max_length else ""
    return base + length + Workspace.open(args.workspace).flag


def _next_steps(args: argparse.Namespace, report: Report) -> Iterator[str]:
    from ftlab.data.remedies import is_mended, needs_decision

    mended = [finding for finding in report.findings if is_mended(finding)]
    if mended:
        decide = " --remedy conflicting_answers=drop" if all(map(needs_decision, mended)) else ""
        what = "Leave these rows out" if decide else "Fix this"
        yield ""
        yield f"{what} in a new version: python -m ftlab data fix {shlex.quote(args.source)}{decide}{_as_counted(args)}"


def _pair(text: str) -> tuple[str, str]:
    kind, _, remedy = text.partition("=")
    if not remedy:
        raise InputError("--remedy takes KIND=REMEDY", given=text, allowed="for example email=drop")
    return _kinds(kind).pop(), remedy.strip()


def _kinds(text: str | None) -> set[str]:
    from ftlab.data.checks import KINDS

    kinds = {part.strip() for part in (text or "").split(",") if part.strip()}
    for kind in sorted(kinds - KINDS.keys()):
        close = nearest(kind, KINDS)
        raise InputError(
            "Unknown kind of finding",
            given=kind,
            allowed=", ".join(KINDS),
            try_=f"did you mean {close}?" if close else None,
        )
    return kinds


def add_versions(group: Any) -> None:
    """Add the commands to the group `data`."""
    splitting = "Split rows into train, validation and test: a new version that runs can name"
    command = add_command(group, "split", split, splitting, "data split my.csv --group-by customer")
    add_source(command)
    command.add_argument("--validation", type=float, metavar="SHARE", help="share of validation rows (default: 0.1)")
    command.add_argument("--test", type=float, metavar="SHARE", help="share of test rows (default: 0.1)")
    command.add_argument("--seed", type=int, help="the same seed gives the same split")
    command.add_argument("--group-by", metavar="COLUMN", help="rows with the same value stay in one split")
    command.add_argument("--stratify-by", metavar="COLUMN", help="every split gets the same share of each label")
    command.add_argument(
        "--near-duplicates", choices=["auto", "together", "apart"], help="keep near-duplicate prompts in one split"
    )
    add_who(command)

    saving = "Save rows as JSONL, Parquet, CSV or OpenAI chat JSONL"
    command = add_command(group, "export", export, saving, "data export version:my openai.jsonl --format openai")
    add_source(command)
    command.add_argument("target", type=Path, help="file or folder to write; several splits become several files")
    command.add_argument(
        "--format", choices=["jsonl", "parquet", "csv", "openai"], help="file format (default: by the file extension)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace existing files")

    sending = "Upload rows with a card to the Hugging Face Hub, private by default"
    command = add_command(group, "push", push, sending, "data push my.csv me/tickets --dry-run")
    add_source(command)
    command.add_argument("repository", metavar="OWNER/NAME", help="data set on the Hub")
    command.add_argument("--public", action="store_true", help="make it public (default: private)")
    command.add_argument("--licence", metavar="ID", help="license for the card, such as cc-by-4.0")
    command.add_argument("--dry-run", action="store_true", help="show what would be uploaded, and upload nothing")

    help = "List, create, compare or delete versions of data"
    versions = add_group(group.add_parser("versions", help=help, description=f"{help}."))
    listing = "List all versions: what was done, by whom, and why"
    add_command(versions, "list", versions_list, listing, "data versions list")
    creating = "Create the first version of a data source"
    command = add_command(versions, "create", versions_create, creating, "data versions create my.csv --why original")
    add_source(command)
    add_who(command)
    showing = "Show a version and the runs that used it"
    command = add_command(versions, "show", versions_show, showing, "data versions show my-20261129")
    _add_version(command, "version")
    comparing = "Compare two versions: rows added, removed and changed"
    example = "data versions diff my-20261129 my-20261130"
    command = add_command(versions, "diff", versions_diff, comparing, example)
    _add_version(command, "before")
    _add_version(command, "after")
    deleting = "Delete the rows of a version; who deleted it and why stays on record"
    example = "data versions delete my-20261129 --why superseded"
    command = add_command(versions, "delete", versions_delete, deleting, example)
    _add_version(command, "version")
    command.add_argument("--force", action="store_true", help="delete it even if runs used it")
    add_who(command)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the data, `--set`, `--column`, `--encoding`; a command that succeeds remembers the last two."""
    parser.add_argument("source", help="a sample, a file, a Hub id or version:<id>")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a setting of the data, such as split=train (repeatable)",
    )
    add_columns(parser)
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        help="encoding of a text file, such as cp1251 or shift_jis (default: detected; remembered for this data)",
    )
    parser.set_defaults(command=keeping(parser.get_default("command"), read_data))


def add_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--who", help="who makes the change (default: your login name)")
    parser.add_argument("--why", default="", help="reason for the change, kept in the history")


def _add_version(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(name, help="id of the version, as `data versions list` shows it")


def split(args: argparse.Namespace) -> int:
    from ftlab.data.splits import split_version

    workspace = Workspace.open(args.workspace)
    settings = {
        "validation_fraction": args.validation,
        "test_fraction": args.test,
        "seed": args.seed,
        "group_by": args.group_by,
        "stratify_by": args.stratify_by,
        "near_duplicates": args.near_duplicates,
    }
    data = read_data(args, **{name: value for name, value in settings.items() if value is not None})
    version, notes = split_version(data, workspace, who=args.who, why=args.why)
    value: SplitForm = {**version.as_dict(), "source": version.source, "notes": notes}
    return print_result(args, value, version_line(version), *notes)


def export(args: argparse.Namespace) -> int:
    from ftlab.data.export import export as write

    workspace = Workspace.open(args.workspace)
    done = write(read_data(args), args.target, args.format, workspace, overwrite=args.overwrite)
    lines = [f"{path}: {counted(count, 'row')}" for path, count in done.files.items()]
    lines += [f"left out: {reason} ({counted(count, 'row')})" for reason, count in done.left_out.items()]
    return print_result(args, done, *lines, *done.notes)


def push(args: argparse.Namespace) -> int:
    from ftlab.data.export import push as send

    workspace = Workspace.open(args.workspace)
    done = send(
        read_data(args),
        args.repository,
        workspace,
        private=not args.public,
        dry_run=args.dry_run,
        licence=args.licence,
    )
    where = f"{'private' if done.private else 'public'} data set {done.repository}"
    lines = [f"Would be uploaded to the {where}:" if done.dry_run else f"Uploaded to the {where}: {done.address}"]
    lines += [f"  {size:>10,} bytes  {name}" for name, size in done.files.items()]
    return print_result(args, done, *lines, *(["", done.card] if done.dry_run else []))


def versions_list(args: argparse.Namespace) -> int:
    from ftlab.data.version_store import history

    workspace = Workspace.open(args.workspace)
    versions = history(workspace)
    lines = [version_line(version) for version in versions] or [f"No versions yet in {workspace.versions_folder}."]
    value: VersionsForm = {"versions": [version.as_dict() for version in versions]}
    return print_result(args, value, *lines)


def versions_create(args: argparse.Namespace) -> int:
    from ftlab.data.versions import create

    workspace = Workspace.open(args.workspace)
    version = create(read_data(args), workspace, who=args.who, why=args.why)
    value: SavedForm = {**version.as_dict(), "source": version.source}
    return print_result(args, value, version_line(version))


def versions_show(args: argparse.Namespace) -> int:
    from ftlab.data.version_store import find
    from ftlab.data.versions import train_command, used_by

    workspace = Workspace.open(args.workspace)
    version = find(args.version, workspace)
    runs = used_by(version, workspace)
    lines = [
        version_line(version),
        f"parent     {version.parent or 'none: read from the source'}",
        f"content    {version.content}",
        *[f"source     {entry['name']} ({entry['sha256'] or entry.get('revision')})" for entry in version.origin],
        f"use it     {train_command(version.source, workspace)}",
        f"runs       {', '.join(runs) or 'none yet'}",
    ]
    value: UsedForm = {**version.as_dict(), "source": version.source, "runs": runs}
    return print_result(args, value, *lines)


def versions_diff(args: argparse.Namespace) -> int:
    from ftlab.data.curation import changed_cells, diff
    from ftlab.data.version_store import find

    workspace = Workspace.open(args.workspace)
    before, after = find(args.before, workspace), find(args.after, workspace)
    changes = diff(before, after)
    lines = [str(changes)]
    for row, cells in changed_cells(before, after, changes.changed[:5]).items():
        for column, (old, new) in cells.items():
            lines.append(f"  row {row}, {column}: {_short(old)} -> {_short(new)}")
    return print_result(args, changes, *lines)


def versions_delete(args: argparse.Namespace) -> int:
    from ftlab.data.versions import delete

    workspace = Workspace.open(args.workspace)
    deleted = delete(args.version, workspace, force=args.force, who=args.who, why=args.why)
    return print_result(args, deleted, f"Deleted the rows of {deleted.id}; its record stays.")


def read_data(args: argparse.Namespace, **settings: Any) -> DataConfig:
    """The data that the command line names, with further `settings`. Raises InputError as `build_config` does."""
    changes = [text if text.startswith("data.") else f"data.{text}" for text in overrides(args)]
    if args.encoding:
        settings["encoding"] = args.encoding
    return build_config({"data": {"source": args.source, **settings}}, changes).data


def version_line(version: Any) -> str:
    """A version on one line: id, time, rows, and what was done by whom."""
    rows = ", ".join(f"{count} {name}" for name, count in version.rows.items())
    if version.excluded:
        rows += f", {version.excluded} excluded"
    deleted = " DELETED" if version.deleted else ""
    why = f" ({version.why})" if version.why else ""
    return f"{version.id:<40} {version.when[:16]}  {rows}  {version.action} by {version.who}{why}{deleted}"


def _short(value: Any) -> str:
    from ftlab.errors import shorten

    return shorten(value, 60)
