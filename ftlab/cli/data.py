"""`python -m ftlab data inspect | fix`: what is wrong with a data set, and a new version without it."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftlab.cli.data_versions import _data, _line, _person, _source, _told
from ftlab.config import STARTER
from ftlab.data.checks import KINDS, Finding, Report, check
from ftlab.data.checks.run import nothing_wrong
from ftlab.data.checks.worker import work
from ftlab.data.latest import latest_choice, train_command
from ftlab.data.load import load_rows
from ftlab.errors import InputError, nearest
from ftlab.workspace import Workspace

Add = Callable[..., argparse.ArgumentParser]
_NO_BASE = "none"
_NO_RUN = "no run here names a base; --base takes another"
_ROWS_SHOWN = 8


def register(data: Any, add: Add) -> None:
    """Add the commands to the group `data`; `add(group, name, command, help)` is the one of `cli`."""
    one = add(data, "inspect", inspect, "check the data: duplicates, leaks, personal data, lengths in tokens, and more")
    _source(one)
    _checked(one)
    one.add_argument("--prompts", type=Path, metavar="FILE", help="real-world prompts, one per line: are they covered?")
    # How `data/checks/job.py` starts the process of a check that the app shows.
    one.add_argument("--job", type=Path, help=argparse.SUPPRESS)

    one = add(data, "fix", fix, "a new version in which the findings of `inspect` are mended")
    _source(one)
    _checked(one)
    one.add_argument("--only", metavar="KIND,...", help="mend these kinds of findings (default: all but notes)")
    one.add_argument("--skip", metavar="KIND,...", help="leave these kinds as they are")
    one.add_argument(
        "--remedy", action="append", default=[], metavar="KIND=REMEDY", help="another remedy, e.g. email=drop"
    )
    _person(one)


def _checked(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base", help="count tokens as this base does (default: the latest run's, else starter; none: count none)"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        help="longest example in tokens (default: the latest run's with this base, else 512)",
    )


def inspect(given: argparse.Namespace) -> int:
    if given.job is not None:
        return work(given.job, _tokenizer, _context)
    report = _report(given, _prompts(given.prompts))
    return _told(given, report.as_dict(), *_lines(report, given.whose), *_next_steps(given, report))


def fix(given: argparse.Namespace) -> int:
    from ftlab.data.mending import is_mended, mend_findings, token_counter
    from ftlab.data.remedies import NothingChanged
    from ftlab.data.versions import taken

    remedies = dict(_pair(text) for text in given.remedy)
    only, skip = _kinds(given.only), _kinds(given.skip)
    workspace = Workspace.open(given.workspace)
    with taken(_data(given), workspace, who=given.who) as version:
        given.source = version.source  # so that the rows of the findings are those of the version
        report = _report(given)
        findings = [one for one in report.findings if one.kind not in skip and is_mended(one, only, remedies)]
        left = [f"Left as they are: {_raised(one)}" for one in report.findings if _is_raised(one, remedies, skip)]
        if not findings:
            value = {"version": version.source, "done": [], "left": left, "base": given.base}
            return _told(given, value, "No row has to be changed.", *left, *_counted(given, report))
        tokens = None
        if any(remedies.get(one.kind) == "shorten" for one in findings) and given.base != _NO_BASE:
            tokens = token_counter(_data(given), _tokenizer(given.base), workspace)
        try:
            mended = mend_findings(
                version, findings, report.roles, remedies, tokens=tokens, who=given.who, why=given.why
            )
        except NothingChanged as nothing:
            value = {"version": version.source, "done": [], "left": [str(nothing), *left], "base": given.base}
            return _told(given, value, str(nothing), *left, *_counted(given, report))
    base = None if given.base == _NO_BASE else given.base
    raised = [one.detail["raise_to"] for one in report.findings if _is_raised(one, remedies, skip)]
    longest = max(raised, default=given.max_length)
    value = mended.as_dict() | {"source": mended.source, "done": mended.action, "left": left, "base": given.base}
    return _told(
        given,
        value,
        *mended.action.replace(". ", ".\n").splitlines(),
        *left,
        *_counted(given, report),
        "",
        _line(mended).split("  ")[0] + f"  rows left: {mended.total}, excluded: {mended.excluded}",
        f"  look again     python -m ftlab data inspect {mended.source}{_as_counted(given)}",
        f"  save it        python -m ftlab data export {mended.source} mended.jsonl{workspace.flag}",
        f"  train on it    {train_command(mended.source, workspace, base, max_length=longest)}",
    )


def _report(given: argparse.Namespace, prompts: list[str] | None = None) -> Report:
    if given.max_length is not None and given.max_length < 16:
        raise InputError("The longest example is too short", given=given.max_length, allowed="16 tokens or more")
    data, workspace = _data(given), Workspace.open(given.workspace)
    loaded = load_rows(data, workspace)  # before the libraries that count tokens: a wrong name is said at once
    given.base, length, given.whose = _base(given, workspace)
    tokenizer = None if given.base == _NO_BASE else _tokenizer(given.base)
    show = _Progress()
    try:
        return check(
            data,
            loaded=loaded,
            prompts=prompts,
            tokenizer=tokenizer,
            base=given.base,
            context=None if tokenizer is None else _context(given.base),
            max_length=length,
            progress=show,
        )
    finally:
        show.close()


def _tokenizer(base: str) -> Any:
    from ftlab.models.load import load_tokenizer

    return load_tokenizer(base)


def _context(base: str) -> int | None:
    from ftlab.models.load import context_of

    return context_of(base)


def _base(given: argparse.Namespace, workspace: Workspace) -> tuple[str, int | None, str]:
    """The base whose tokens are counted, the longest example, and why these, in words."""
    latest = latest_choice(workspace)
    if given.base and (latest is None or latest[0] != given.base):
        return given.base, given.max_length, "as --base says"
    if latest is None:
        return STARTER, given.max_length, _NO_RUN
    base, length, run = latest
    why = "as --base says" if given.base else f"the base of the run {run}; --base takes another"
    return base, given.max_length or length, why


def _prompts(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"The prompts cannot be read: {error.strerror}", given=file) from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError("The file holds no prompts", given=file, allowed="one prompt per line")
    return prompts


class _Progress:
    """What is being checked, on one line that is rewritten; nothing where nobody watches."""

    def __init__(self) -> None:
        self._watched, self._at = sys.stderr.isatty(), 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._watched and now - self._at > 0.1:
            self._at = now
            print(f"\r\033[K{phase} {done:,}/{total:,}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._watched:
            print("\r\033[K", end="", file=sys.stderr)


def _lines(report: Report, whose: str) -> Iterator[str]:
    splits = ", ".join(f"{count:,} {split}" for split, count in report.splits.items())
    yield f"{report.name}: {report.rows:,} rows ({splits})"
    yield f"format {report.format}, {report.confidence:.0%} sure: {report.why}"
    for note in report.notes:
        yield f"note: {note}"
    if report.tokens:
        yield ""
        yield from _token_lines(report.tokens, whose)
    yield ""
    yield from _finding_lines(report)
    yield ""
    if report.advice:
        yield "Is it enough?"
    for one in report.advice:
        yield f"  {one.level:<5} {one.text}"
        yield f"        Source: {one.source} ({one.url})"
    if report.coverage:
        yield ""
        yield from _coverage_lines(report.coverage)


def _token_lines(tokens: dict[str, Any], whose: str) -> Iterator[str]:
    sampled = "" if tokens["measured_rows"] >= tokens["rows"] else f", measured on {tokens['measured_rows']:,} rows"
    yield f"Tokens of {tokens['base']} ({whose}; longest example: {tokens['max_length']}{sampled})"
    for name in ("prompt", "completion", "whole"):
        if name in tokens:
            part = tokens[name]
            yield (
                f"  {name:<11} {_bars(part['histogram']['counts'])}  mean {part['mean']:.0f}, 95% have up to "
                f"{part['p95']}, the longest {part['max']}"
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
    if not report.findings:
        yield nothing_wrong(vars(report))
        return
    yield f"{len(report.findings)} {'finding' if len(report.findings) == 1 else 'findings'} (rows are counted from 0)"
    for finding in report.findings:
        about, count = finding.about, len(finding.rows)
        rows = ", ".join(map(str, finding.rows[:_ROWS_SHOWN])) + (", …" if count > _ROWS_SHOWN else "")
        yield ""
        yield f"  {about.severity:<8}{about.title}: {count:,} in {finding.split}"
        yield f"          rows {rows}"
        for place, match in list(zip(finding.rows, finding.matches, strict=False))[:3]:
            if match != (finding.split, place):
                yield f"          row {place} is like row {match[1]} of {match[0]}"
        for text in finding.shown[:3]:
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
    "mask": "mask these places",
    "deduplicate": "keep the first, remove the copies",
    "move": "move these rows to the held-out split",
    "relabel": "give them the answer that most have, or decide",
    "shorten": "cut sentences that the prompts can spare",
    "raise": "raise max_length",
    "none": "needs a decision of yours",
}


def _counted(given: argparse.Namespace, report: Report) -> list[str]:
    tokens = report.tokens
    if tokens is None:
        return ["Lengths in tokens were not looked at."]
    return [f"Tokens of {given.base} ({given.whose}; longest example: {tokens['max_length']})."]


def _is_raised(finding: Finding, remedies: dict[str, str], skip: set[str]) -> bool:
    return finding.kind not in skip and remedies.get(finding.kind, finding.remedy) == "raise"


def _raised(finding: Finding) -> str:
    """What a longer max_length does for these rows, and what it costs."""
    rows, detail = len(finding.rows), finding.detail
    return (
        f"{rows:,} {'row' if rows == 1 else 'rows'} of {finding.split} fit into --set "
        f"optimisation.max_length={detail['raise_to']}: {detail['raise_cost']}."
    )


def _coverage_lines(coverage: dict[str, Any]) -> Iterator[str]:
    words = coverage["vocabulary"]
    yield f"Is it representative? {coverage['asked_prompts']:,} held-out or asked prompts against those of training"
    yield f"  {words['covered']:.1%} of their words are known from training" + (
        f"; new: {', '.join(words['new_words'][:8])}" if words["new_words"] else ""
    )
    train, asked = coverage["length"]["train"], coverage["length"]["asked"]
    yield f"  words of a prompt: {train['median_words']} in training, {asked['median_words']} held out (median)"
    for topic in coverage["topics"]:
        if not topic["covered"]:
            yield f"  not covered: {', '.join(topic['terms'])} ({topic['prompts']} prompts), e.g. {topic['example']}"


def _as_counted(given: argparse.Namespace) -> str:
    """The flags with which another command counts tokens as this one did: else other rows would be too long for it."""
    base = "" if given.whose == _NO_RUN else f" --base {shlex.quote(given.base)}"
    length = f" --max-length {given.max_length}" if given.max_length else ""
    return base + length + Workspace.open(given.workspace).flag


def _next_steps(given: argparse.Namespace, report: Report) -> Iterator[str]:
    from ftlab.data.mending import is_mended

    if any(map(is_mended, report.findings)):
        yield ""
        yield f"Mend this in a new version: python -m ftlab data fix {shlex.quote(given.source)}{_as_counted(given)}"


def _pair(text: str) -> tuple[str, str]:
    kind, _, remedy = text.partition("=")
    if not remedy:
        raise InputError("A remedy is written KIND=REMEDY", given=text, allowed="for example email=drop")
    return _kinds(kind).pop(), remedy.strip()


def _kinds(text: str | None) -> set[str]:
    kinds = {part.strip() for part in (text or "").split(",") if part.strip()}
    for kind in sorted(kinds - KINDS.keys()):
        close = nearest(kind, KINDS)
        raise InputError(
            "There is no such kind of finding",
            given=kind,
            allowed=", ".join(KINDS),
            try_=f"did you mean {close}?" if close else None,
        )
    return kinds
