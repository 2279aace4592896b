"""Whether the data on show suit a stage of the Preferences tab, and what is unusual about them, before the start."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftlab.config import DataConfig, RunConfig
from ftlab.config.stages import PREFERENCE_STAGES, REWARD_STAGES
from ftlab.core.workspace import Workspace
from ftlab.data.preferences import PreferenceFinding, check_format, check_preferences
from ftlab.errors import FtlabError, InputError
from ftlab.ui.html import badge, count, details, error_box, join, notice
from ftlab.ui.stages import STAGES

SAMPLE = "brand_voice_preferences"
_MOST_ROWS = 50_000  # checked while a person waits
_TOKENISED = 5_000  # rows whose tokens are counted
_KINDS = {"bad": ("Stops the run", "bad"), "warn": ("Worth mending", "warn"), "info": ("Good to know", "info")}


def about(config: RunConfig, workspace: Workspace) -> tuple[Markup, bool]:
    """(what there is to say of the data of `config` for its stage, whether they suit it)."""
    from ftlab.data.inspection import files_of, look

    name = config.data.source.rsplit("/", 1)[-1]
    try:
        found = look(config.data, workspace)
        if found.detected is not None and (needed := _other_kind(config.stage, found)):
            return _line(name, f"{count(found.rows)} rows") + needed, False
        if found.rows > _MOST_ROWS:
            return _line(name, f"{count(found.rows)} rows, checked when the run starts"), True
        places = tuple(files_of(config.data.source, workspace))
        prepared = _prepared(config.data.model_dump_json(), config.stage, places, str(workspace.root))
        findings = check_preferences(prepared, config, tokenizer=_tokenizer(config, prepared))
    except FtlabError as error:
        return _line(name, "cannot be learned from yet") + error_box(error), False
    kind = "prompts" if config.stage in REWARD_STAGES else "answers" if config.stage == "kto" else "pairs"
    sizes = " / ".join(f"{count(len(rows))} {split}" for split, rows in prepared.splits.items())
    return _line(name, f"{sizes} {kind}") + cards(findings), True


def _other_kind(stage: str, found: Any) -> Markup | None:
    """What `stage` needs, when the data on show are of another kind: no mistake, only a choice that is still open."""
    try:
        check_format(stage, found.detected, found.name, found.columns)
    except InputError as error:
        said = f"{STAGES[stage].title} learns from {STAGES[stage].needs}, and these data hold none."
        return notice(said) + details("What the data have to look like", Markup("<p>{}</p>").format(error.message()))
    return None


def cards(findings: list[PreferenceFinding]) -> Markup:
    """Warnings stand open; what is only good to know is folded."""
    loud = join(_card(one) for one in findings if one.kind != "info")
    quiet = [one for one in findings if one.kind == "info"]
    if not quiet:
        return loud
    return loud + details(f"Good to know about these data ({len(quiet)})", join(_card(one) for one in quiet))


def _card(one: PreferenceFinding) -> Markup:
    title, kind = _KINDS[one.kind]
    rows = ", ".join(str(row) for row in one.rows[:8])
    where = (
        Markup('<div class="ft-help">Rows {}{}</div>').format(rows, " …" if len(one.rows) > 8 else "") if rows else ""
    )
    return notice(
        Markup("{} <strong>{}</strong><div>{}</div><div><em>Try:</em> {}</div>{}").format(
            badge(title, kind), one.what, one.why, one.try_, where
        ),
        kind=kind,
    )


def _line(name: str, what: str) -> Markup:
    return Markup('<div class="ft-line-card"><span class="ft-help">Data</span> <strong>{}</strong> {}</div>').format(
        name, what
    )


@lru_cache(maxsize=8)
def _prepared(data: str, stage: str, _files: tuple[Any, ...], root: str) -> Any:
    from ftlab.data.splits import prepare

    return prepare(DataConfig.model_validate_json(data), workspace=Workspace(Path(root)), stage=stage)


def _tokenizer(config: RunConfig, prepared: Any) -> Any:
    """The tokenizer of the base, to count what max_length cuts; None where it would be fetched or takes long."""
    rows = len(prepared.splits["train"])
    if config.stage not in PREFERENCE_STAGES or rows > _TOKENISED or not (config.is_starter or _is_folder(config)):
        return None
    from ftlab.ui.row_view import tokenizer_of

    return tokenizer_of(config.model.base)


def _is_folder(config: RunConfig) -> bool:
    from ftlab.models.bases.get import is_kept_here

    return is_kept_here(config.model.base, otherwise=Path(config.model.base).expanduser().is_dir())
