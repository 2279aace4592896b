"""Mend what the checks found: which findings are mended unless told otherwise, and the version that comes of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftlab.config import DataConfig
from ftlab.data.checks.finding import Finding
from ftlab.data.conversion import UnusableRow, convert
from ftlab.data.load import load_rows
from ftlab.data.remedies import Action, Tokens, action_for, mend
from ftlab.data.rendering import encode
from ftlab.data.splits import detect_format
from ftlab.data.template import ensure_chat_template
from ftlab.data.versions import Version
from ftlab.workspace import Workspace

USUAL_WHY = "mended what the checks found"


def is_mended(finding: Finding, only: Collection[str] = (), remedies: Mapping[str, str] | None = None) -> bool:
    """Whether `finding` is mended: errors and warnings with a remedy, or only the kinds in `only`; kinds for which
    `remedies` names a remedy are in any case. Never where the remedy is a longer max_length: no row changes then."""
    if (remedies or {}).get(finding.kind, finding.remedy) == "raise":
        return False
    if finding.kind in (remedies or {}) or finding.kind in only:
        return True
    return not only and finding.remedy != "none" and finding.about.severity != "note"


def mend_findings(
    version: Version,
    findings: Sequence[Finding],
    roles: Mapping[str, str],
    remedies: Mapping[str, str] | None = None,
    *,
    tokens: Tokens | None = None,
    who: str | None = None,
    why: str = "",
) -> Version:
    """A new version in which `findings` are mended, each with its usual remedy or that of `remedies` (by kind).

    Their rows are those of `version`, or of the source that it was taken from: a first version has the same rows in
    the same order. `roles` says which column plays which part; `tokens` counts rows that are
    shortened (see `token_counter`). Raises InputError when a remedy does not fit, NothingChanged where every
    row stays as it was.
    """
    actions = [action_for(finding, roles, (remedies or {}).get(finding.kind), tokens=tokens) for finding in findings]
    return mend(version, actions, who=who, why=why or USUAL_WHY)


def token_counter(data: DataConfig, tokenizer: Any, workspace: Workspace | None = None) -> Tokens:
    """A function that counts the tokens of a row of `data` as training does. A row that cannot be trained on has 0."""
    detected = detect_format(load_rows(data, workspace), data)
    ensure_chat_template(tokenizer)
    # Long rows are what this is for; the remark of transformers about the first of them would only puzzle.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True

    def tokens(row: dict[str, Any]) -> int:
        try:
            messages, _ = convert(row, detected, data.system_prompt)
        except UnusableRow:
            return 0
        return len(encode(messages, tokenizer).input_ids)

    return tokens


def answer_group(finding: Finding, row: int) -> list[int]:
    """The rows of a finding of conflicting answers that have the prompt of `row`."""
    groups = finding.detail.get("groups", [])
    wanted = dict(zip(finding.rows, groups, strict=False)).get(row)
    return [other for other, group in zip(finding.rows, groups, strict=False) if group == wanted]


def give_answer(
    version: Version,
    finding: Finding,
    row: int,
    answer: str,
    roles: Mapping[str, str],
    *,
    who: str | None = None,
    why: str = "",
) -> Version:
    """A new version in which all rows with the prompt of `row`, one of conflicting answers, have this `answer`."""
    rows = tuple(answer_group(finding, row))
    action: Action = replace(action_for(finding, roles, "relabel"), rows=rows, matches=(), answer=answer)
    return mend(version, [action], who=who, why=why or "the right answer by hand")
