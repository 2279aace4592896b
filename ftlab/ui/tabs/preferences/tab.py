"""Preferences: learn from pairs of answers, from thumbs, or from rewards, on a base or on an earlier run.

`rewards_form.py` draws the rows of rewards, `preference_curves.py` and `reward_curves.py` the view of a run.

elem_ids: `pref_stage`, `pref_model_start`, `pref_preference_beta` and so on for every setting (see forms.py),
`pref_votes` (what raters have voted on) and `pref_take` (learn from that), `pref_data` (what it will learn from, and
what is unusual about it), `pref_sample` (takes the sample), `pref_change_data`, `pref_more` (folded: all settings) with
`pref_find`; Start and the current run as in train/run_panel.py, time and memory as on the Train tab.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.arena import preferences as preferred
from ftlab.config import STARTER, DataConfig, RunConfig, build_config
from ftlab.config.methods import FOR_PREFERENCES
from ftlab.config.stages import JUDGED_STAGES, PREFERENCE_STAGES, REWARD_STAGES, SFT
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted, listed
from ftlab.core.workspace import Workspace
from ftlab.data.load import find_source
from ftlab.data.preferences import PreferenceFinding, check_format, check_preferences
from ftlab.data.splits import FEWEST_TO_PART
from ftlab.errors import FtlabError, InputError
from ftlab.ui import run_files, run_names
from ftlab.ui.kit import forms
from ftlab.ui.kit.events import any_of, on
from ftlab.ui.kit.html import (
    PICK_JS,
    badge,
    count,
    details,
    empty,
    error_box,
    help_link,
    join,
    notice,
    pick_button,
)
from ftlab.ui.page import Door, Follower, Look, Page, kept_choices, remember_choice
from ftlab.ui.run_files import Job
from ftlab.ui.run_stages import (
    LOSS_HELP,
    METHOD_HELP,
    STAGES,
    is_read,
    loss_choices,
    stage_choices,
)
from ftlab.ui.tabs.chat import votes as chat_votes
from ftlab.ui.tabs.data import rows as data_rows
from ftlab.ui.tabs.data import tab as data_tab
from ftlab.ui.tabs.preferences import before_after, lessons, rewards_form
from ftlab.ui.tabs.preferences.lessons import Lesson
from ftlab.ui.tabs.train import preflight as train_preflight
from ftlab.ui.tabs.train import run_panel
from ftlab.ui.tabs.train.run_panel import RunPanel
from ftlab.ui.tabs.train.tab import BASE_HELP, BASES

FIRST = PREFERENCE_STAGES[0]
NAME, TITLE = "preferences", "Preferences"
# An empty value of these selects the default for the stage and the start, which the field shows.
_USUAL = ("optimisation.learning_rate", "optimisation.epochs", "optimisation.batch_size", "preference.beta")
_PAGES = {"Preferences": "preferences", "Method": "methods", "Base model": "bases", "Evaluation": "measures"}


def _groups() -> dict[str, list[str]]:
    """The settings of the tab by the title of their group, most used first."""
    of = forms.fields_of
    return {
        "Preferences": ["preference.loss", "preference.beta", *of("preference.")],
        "Rewards": [path for path in of("reinforcement.") if path != rewards_form.PATH],
        "Training": [path for path in _USUAL if path != "preference.beta"] + of("optimisation."),
        "Method": ["method.name", "method.rank", *of("method.")],
        "Evaluation": of("evaluation."),
        "Base model": of("model."),
        "Name, tracking, device": ["name", *of("tracking.", "launcher."), "trainer"],
    }


@dataclass(frozen=True)
class PreferencesTab:
    form: forms.Form
    rewards: rewards_form.RewardsForm
    votes: gr.HTML
    take: gr.Button
    offered: gr.State  # the blind test whose votes are offered
    own: gr.State  # data of this tab only, see `own_data`; None follows the Data tab
    data: gr.HTML
    sample: gr.Button
    change_data: gr.Button
    panel: RunPanel
    after: before_after.Panel
    check: train_preflight.Panel

    @property
    def begin(self) -> gr.Dropdown:
        """The run it starts from; empty means the base."""
        return self.form.components["model.start"]

    @property
    def message(self) -> gr.HTML:
        return self.panel.row.message

    @property
    def reward_model(self) -> gr.Dropdown:
        return self.rewards.cells["model.model"]


def build(workspace: Workspace) -> PreferencesTab:
    form = forms.Form(prefix="pref")
    with gr.Row(equal_height=False, elem_id="pref_layout", elem_classes="ft-run-layout"):
        with gr.Column(elem_id="pref_choices", elem_classes="ft-run-choices", min_width=280):
            with gr.Row(elem_classes="ft-data-line"):
                votes = gr.HTML(no_votes(), elem_id="pref_votes", js_on_load=PICK_JS)
                take = gr.Button(
                    "Use them", size="sm", scale=0, min_width=80, visible=False, elem_id="pref_take",
                    elem_classes="ft-act",
                )  # fmt: skip
            data = gr.HTML(READING, elem_id="pref_data", elem_classes="ft-about-data ft-content")
            with gr.Row(elem_classes="ft-presses"):
                sample = gr.Button(USE_SAMPLE, size="sm", scale=0, min_width=175, visible=False, elem_id="pref_sample")
                change_data = gr.Button("Change data", size="sm", scale=0, min_width=110, elem_id="pref_change_data")
            form.draw(
                "stage", choices=stage_choices(), value=FIRST, label="Stage", info="Each needs its own kind of data."
            )
            form.draw(
                "model.start",
                choices=[("the base itself", "")],
                label="Start from",
                info="Best: a run already trained on the task.",
            )
            form.draw("model.base", choices=BASES, info=BASE_HELP)
            rewards = rewards_form.build(form)
            takes = train_preflight.build_line("pref_")
            row = run_panel.build_row("pref")
        panel = run_panel.build_live("pref", row, nothing_yet())
    with gr.Accordion("Advanced", open=False, elem_id="pref_more"):
        form.draw_find("pref_find", "pref_more")
        check = train_preflight.build_more(takes)
        form.draw_groups(_groups(), _special, _PAGES)
    after = before_after.build()
    return PreferencesTab(
        form, rewards, votes, take, gr.State(None), gr.State(None), data, sample, change_data, panel, after, check
    )


def wire(tab: PreferencesTab, page: Page) -> None:
    data, strip, workspace = page.parts[data_tab.NAME], page.strip, page.workspace
    page.switch(tab.change_data.click, data_tab.NAME)
    fields = tab.form.components
    optional = {path: field for path, field in fields.items() if _depends(path)}
    lesson = page.doors[NAME]["lesson"]

    def configured(values: Sequence[Any]) -> RunConfig:
        own, rewarded = len(tab.form.inputs), len(tab.rewards.inputs)
        asked = settings(tab, values[:own], values[own : own + rewarded], workspace)
        *elsewhere, config_json, mine = values[own + rewarded :]
        learned = data_of(mine, config_json, workspace)
        from_data_tab = learned in (None, config_json)
        of_data = data.form.collect(elsewhere) if from_data_tab else {"data": json.loads(str(learned))}
        return build_config(forms.merge([asked, of_data]))

    def suit(
        stage: str, begin: str | None, base: str | None, method: str, loss: str | None, config_json: str | None
    ) -> dict[Any, Any]:
        """Hides settings that the stage and the start do not read; empty values show their default."""
        kind = start_kind(begin, workspace)
        updates = {
            field: gr.update(visible=is_read(path, stage, method, start=kind)) for path, field in optional.items()
        }
        losses = loss_choices(stage)
        loss = loss if loss in [value for _, value in losses] else ""
        updates[fields["preference.loss"]] |= gr.update(choices=losses, value=loss, info=LOSS_HELP.get(stage, ""))
        usual = _resolved(stage, begin, base, method, loss, workspace)
        for path in _USUAL:
            hint = gr.update(placeholder=_usual(usual, path))
            updates[fields[path]] = updates.get(fields[path], gr.update()) | hint
        updates[tab.rewards.box] = gr.update(visible=stage in REWARD_STAGES)
        return updates

    def look(stage: str, begin: str | None, base: str | None, shared: str | None, own: str | None) -> dict[Any, Any]:
        config_json = data_of(own, shared, workspace)
        if config_json is None:
            line, suits = notice("The data on the Data tab cannot be read. Choose other data.", kind="warn"), False
        else:
            config = _resolved(stage, begin, base, RunConfig().method.name, None, workspace)
            config.data = DataConfig.model_validate_json(config_json)
            line, suits = about_data(config, workspace)
        # Own data leave for those of the Data tab; the sample is for who has no run of this tab yet.
        has_own = config_json != shared
        begins = not suits and stage not in REWARD_STAGES and run_to_show(None, workspace) is None
        return {
            tab.data: line,
            tab.sample: gr.update(visible=has_own or begins, value=OTHER if has_own else USE_SAMPLE),
            tab.change_data: gr.update(visible=not has_own),
            # If it cannot work, the line above says why.
            tab.panel.row.start: gr.update(interactive=suits),
        }

    def offer(shared: str | None, own: str | None) -> dict[Any, Any]:
        """Votes to learn from, unless they are the current data already."""
        config_json = data_of(own, shared, workspace)
        learned = _learns_from_votes(config_json)
        places = [] if learned else lessons.voted(workspace)
        if not places:
            new = not learned and run_to_show(None, workspace) is None
            return {tab.votes: no_votes() if new else "", tab.take: gr.update(visible=False)}
        test = places[0]
        each = [Markup("<strong>{}</strong> from {}").format(counted(p.votes, p.kind), p.title) for p in places]
        line = Markup("You have {}.").format(Markup(listed(each)))
        if test.rows < FEWEST_TO_PART:
            short = Markup(" A run needs {} rows of one kind; there are {} at most. {}")
            line += short.format(FEWEST_TO_PART, test.rows, _more_votes())
        elif len(places) > 1:
            line += Markup(" <em>Use them</em> takes those from {}.").format(test.title)
        return {tab.votes: line, tab.take: gr.update(visible=test.rows >= FEWEST_TO_PART), tab.offered: test.id}

    def learn(test_id: str | None) -> dict[Any, Any]:
        if not test_id:
            raise InputError("No votes to learn from", try_="make a blind test, or vote in Chat")
        return {**lesson.fill(lessons.of_votes(test_id, workspace)), tab.votes: "", tab.take: gr.update(visible=False)}

    def switch(shared: str | None, own: str | None) -> dict[Any, Any]:
        """Take the sample, or go back from the tab's own data to those of the Data tab."""
        has_own = data_of(own, shared, workspace) != shared
        own = None if has_own else own_data(DataConfig(source=SAMPLE), workspace)
        return {tab.own: own, tab.data: READING}

    def restore() -> dict[Any, Any]:
        return {tab.own: kept_own(workspace)}

    both = [data.config_json, tab.own]
    inputs = [*tab.form.inputs, *tab.rewards.inputs, *data.form.inputs, *both]
    on(page.opened, restore, [], [tab.own], checks_itself=True)
    on(tab.own.change, lambda own: remember_choice(workspace, preferences=own or ""), [tab.own], queue=False)
    before_after.wire(tab.after, strip, workspace)
    train_preflight.wire(tab.check, tab.form, inputs, configured, workspace)
    changes = [component.input for component in tab.form.inputs]
    run_panel.wire(tab.panel, page, inputs, configured, lambda job: show(tab, job, workspace), changes)
    chosen = [fields[path] for path in ("stage", "model.start", "model.base", "method.name", "preference.loss")]
    usual = [fields[path] for path in _USUAL if path not in optional]
    changed = [*optional.values(), *usual, tab.rewards.box]
    on(
        any_of(*(component.change for component in chosen)),
        suit,
        [*chosen, data.config_json],
        changed,
        box=tab.message,
        clears=False,
        queue=False,
        trigger_mode="always_last",
    )
    on(
        any_of(*(component.change for component in (*both, *chosen[:3]))),
        look,
        [*chosen[:3], *both],
        [tab.data, tab.sample, tab.change_data, tab.panel.row.start],
        box=tab.message,
        clears=False,
        trigger_mode="always_last",
    )
    on(tab.sample.click, switch, both, [tab.own, tab.data], box=tab.message)
    # Queued: changes of a gr.State that it fills fire only then.
    page.switch(tab.votes.pick, "chat")
    on(tab.check.seen, offer, both, [tab.votes, tab.take, tab.offered])
    on(
        tab.take.click,
        learn,
        [tab.offered],
        [*lesson.outputs, tab.votes, tab.take],
        box=tab.message,
        progress="minimal",
    )


def settings(
    tab: PreferencesTab, values: Sequence[Any], rewarded: Sequence[Any], workspace: Workspace
) -> dict[str, Any]:
    """Nested settings from the values of the form and of the rows of rewards, without unused ones."""
    asked = tab.form.collect(values)
    stage, kind = asked["stage"], start_kind(asked["model"].get("start"), workspace)
    method = asked["method"]["name"]
    for path in tab.form.components:
        section, _, name = path.partition(".")
        if name and not is_read(path, stage, method, start=kind):
            asked.get(section, {}).pop(name, None)
    if stage in REWARD_STAGES:
        further = asked["reinforcement"].get("rewards") or []
        asked["reinforcement"]["rewards"] = rewards_form.collect(rewarded) + further
    return {name: value for name, value in asked.items() if value != {}}


def fill(tab: PreferencesTab, config: RunConfig) -> dict[Any, Any]:
    """Updates that show `config` in the form."""
    return tab.form.fill(config) | rewards_form.fill(tab.rewards, config.reinforcement.rewards)


def show(
    tab: PreferencesTab, job: Job | None, workspace: Workspace, data: str | None = None, changed: str | None = None
) -> dict[Any, Any]:
    """Updates that show the preference run in training, else the newest one, from its files."""
    return run_panel.show(tab.panel, run_to_show(job, workspace), job, nothing_yet(), data, changed)


def list_runs(tab: PreferencesTab, seen: Look) -> dict[Any, Any]:
    """New choices of reward models and runs to start from. A start that was the newest SFT run moves to the new newest;
    any other choice stays."""
    workspace, begin = seen.workspace, seen.values[tab.begin]
    starts = lessons.start_choices(workspace)
    if (begin or "") == seen.notes.get("newest start", ""):
        begin = newest_start(workspace)
    seen.notes["newest start"] = newest_start(workspace)
    choices = [("the base itself", ""), *starts]
    return {
        tab.begin: gr.update(choices=choices, value=begin or ""),
        tab.reward_model: gr.update(choices=rewards_form.model_choices(workspace)),
    }


def newest_start(workspace: Workspace) -> str:
    """The newest run that learned from examples; empty if there is none."""
    stages = {run.id: run_files.stage(run) for run in workspace.runs()}
    return next((value for _, value in lessons.start_choices(workspace) if stages.get(value) == SFT), "")


def start_kind(begin: str | None, workspace: Workspace) -> str:
    """What a run starts from: base, model (a run that changed all weights), or adapter."""
    if not begin:
        return "base"
    try:
        run = workspace.run(begin)
    except FtlabError:
        return "adapter"  # a folder; Start reports problems with it
    return "adapter" if run.adapter.exists() or not run.has_result else "model"


def run_to_show(job: Job | None, workspace: Workspace) -> RunDirectory | None:
    """The run displayed on this tab, beside `job`; None before the first one."""
    return run_panel.to_show(job, tuple(STAGES), workspace)


def nothing_yet() -> Markup:
    return empty("No preference runs yet.", "Teach a tuned model which answers people prefer.")


def no_votes() -> Markup:
    return Markup('<span class="ft-help">No votes yet. {}</span>').format(_more_votes())


def _more_votes() -> Markup:
    """Where votes come from, with links."""
    rate = pick_button("chat", "rate answers in Chat", label="Go to Chat to rate answers")
    return Markup("Make a blind test, or {}").format(rate)


def _learns_from_votes(config_json: str | None) -> bool:
    """Whether the current data are votes already."""
    if config_json is None:
        return False
    source = Path(DataConfig.model_validate_json(config_json).source)
    return source.name in (chat_votes.PAIRS, chat_votes.THUMBS) or preferred.is_export(source)


def _resolved(
    stage: str, begin: str | None, base: str | None, method: str, loss: str | None, workspace: Workspace
) -> RunConfig:
    """The run as selected so far, with its defaults; without its start if that is unsuitable."""
    from ftlab.models.load import shape_of
    from ftlab.training.gate import resolve_start

    model = {"start": begin} if begin else {"base": base or STARTER}
    asked: dict[str, Any] = {"stage": stage, "model": model, "preference": {"loss": loss or None}}
    if start_kind(begin, workspace) == "base":
        asked["method"] = {"name": method}
    try:
        config = resolve_start(build_config(asked), workspace)[0]
        return config.resolved(shape_of(config.model))
    except FtlabError:
        return build_config({"stage": stage}).resolved()


def _depends(path: str) -> bool:
    sections = ("preference.", "reinforcement.", "method.", "model.", "evaluation.", "optimisation.loss")
    return path.startswith(sections) and path not in ("model.start", rewards_form.PATH)


def _special(path: str) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if _depends(path):
        more["visible"] = is_read(path, FIRST, RunConfig().method.name, start="base")
    if path == "method.name":
        more |= {"choices": list(FOR_PREFERENCES), "info": METHOD_HELP}
    if path == "preference.loss":
        more |= {"choices": loss_choices(FIRST), "info": LOSS_HELP[FIRST]}
    if path in _USUAL:
        more["placeholder"] = _usual(build_config({"stage": FIRST}).resolved(), path)
    return more


def _usual(config: RunConfig, path: str) -> str:
    section, name = path.split(".")
    return f"usual: {getattr(getattr(config, section), name):g}"


SAMPLE = "brand_voice_preferences"
READING = "Reading the data …"
USE_SAMPLE, OTHER = "Use the sample", "Use the Data tab's data"
_MOST_ROWS = 50_000  # checked while a person waits
_TOKENISED = 5_000  # rows whose tokens are counted
_KINDS = {"bad": ("Stops the run", "bad"), "warn": ("Worth fixing", "warn"), "info": ("Good to know", "info")}


def own_data(config: DataConfig, workspace: Workspace) -> str:
    """Data chosen on this tab, as JSON: they are for preferences only, so those of Train stay. `beside`: what the Data
    tab had chosen then."""
    beside = kept_choices(workspace).data or DataConfig().source
    return json.dumps({"beside": beside, "data": config.model_dump(mode="json")})


def data_of(own: str | None, config_json: str | None, workspace: Workspace) -> str | None:
    """What the tab learns from, a DataConfig as JSON: its own data, unless other preferences were chosen on the Data
    tab since; else those of the Data tab (`config_json`)."""
    if not own:
        return config_json
    kept = json.loads(own)
    source = DataConfig.model_validate_json(config_json).source if config_json else None
    if source != kept["beside"] and data_rows.holds_preferences(config_json, workspace):
        return config_json
    return DataConfig.model_validate(kept["data"]).model_dump_json()


def kept_own(workspace: Workspace) -> str | None:
    """The tab's own data as stored by the workspace; None if there are none, or they are gone."""
    own = kept_choices(workspace).preferences
    try:
        find_source(DataConfig.model_validate(json.loads(own)["data"]).source, workspace)
    except (ValueError, KeyError, TypeError, FtlabError):
        return None
    return own


def about_data(config: RunConfig, workspace: Workspace) -> tuple[Markup, bool]:
    """(remarks on the data of `config` for its stage, whether the data suit it)."""
    from ftlab.data.inspection import files_of, look

    name = run_names.source_title(config.data.source)
    try:
        inspection = look(config.data, workspace)
        if inspection.problem:
            return Markup("<strong>{}</strong>").format(name) + notice(inspection.problem, kind="warn"), False
        if inspection.detected is not None and (needed := _other_kind(config.stage, inspection, workspace)):
            return _line(name, counted(inspection.rows, "row")) + needed, False
        if inspection.rows > _MOST_ROWS:
            return _line(name, f"{counted(inspection.rows, 'row')}, checked when the run starts"), True
        places = tuple(files_of(config.data.source, workspace))
        prepared = _prepared(config.data.model_dump_json(), config.stage, places, str(workspace.root))
        findings = check_preferences(prepared, config, tokenizer=_tokenizer(config, prepared))
    except FtlabError as error:
        return _line(name, "cannot be used yet") + error_box(error), False
    kind = "prompts" if config.stage in REWARD_STAGES else "answers" if config.stage in JUDGED_STAGES else "pairs"
    names = {"train": f"{kind} to learn from", "validation": "to check", "test": "to test"}
    sizes = ", ".join(f"{count(len(rows))} {names.get(split, split)}" for split, rows in prepared.splits.items())
    return _line(name, sizes) + cards(findings), True


def _other_kind(stage: str, inspection: Any, workspace: Workspace) -> Markup | None:
    """What `stage` needs if the current data are of another kind. Not an error: the choice is still open."""
    try:
        check_format(stage, inspection.detected, inspection.name, inspection.columns)
    except InputError:
        text = f"{STAGES[stage].title} learns from {STAGES[stage].needs}, and this data has none."
        more = help_link("preferences", "What it needs") if run_to_show(None, workspace) is None else ""
        return Markup('<p class="ft-why">{} {}</p>').format(text, more)
    return None


def cards(findings: list[PreferenceFinding]) -> Markup:
    """Findings that stop the run are open; the rest is collapsed."""
    stops = join(_card(finding) for finding in findings if finding.kind == "bad")
    others = [finding for finding in findings if finding.kind != "bad"]
    if not others:
        return stops
    return stops + details(f"About this data ({len(others)})", join(_card(finding) for finding in others))


def _card(finding: PreferenceFinding) -> Markup:
    title, kind = _KINDS[finding.kind]
    rows = ", ".join(str(row) for row in finding.rows[:8])
    where = (
        Markup('<div class="ft-help">Rows {}{}</div>').format(rows, " …" if len(finding.rows) > 8 else "")
        if rows
        else ""
    )
    return notice(
        Markup("{} <strong>{}</strong><div>{}</div><div><em>Try:</em> {}</div>{}").format(
            badge(title, kind), finding.what, finding.why, finding.try_, where
        ),
        kind=kind,
    )


def _line(name: str, what: str) -> Markup:
    return Markup('<strong>{}</strong><div class="ft-help">{}</div>').format(name, what)


@lru_cache(maxsize=8)
def _prepared(data: str, stage: str, _files: tuple[Any, ...], root: str) -> Any:
    from ftlab.data.splits import prepare

    return prepare(DataConfig.model_validate_json(data), workspace=Workspace(Path(root)), stage=stage)


def _tokenizer(config: RunConfig, prepared: Any) -> Any:
    """The tokenizer of the base, to count what max_length truncates; None if it would be downloaded or slow."""
    rows = len(prepared.splits["train"])
    if config.stage not in PREFERENCE_STAGES or rows > _TOKENISED or not (config.is_starter or _is_folder(config)):
        return None
    from ftlab.ui.tabs.data.row_view import tokenizer_of

    return tokenizer_of(config.model.base)


def _is_folder(config: RunConfig) -> bool:
    from ftlab.models.bases.get import is_kept_here

    return is_kept_here(config.model.base, otherwise=Path(config.model.base).expanduser().is_dir())


def doors(tab: PreferencesTab, page: Page) -> dict[str, Door]:
    form = tab.form.components

    def settings_of(filled: tuple[RunConfig, Any]) -> dict[Any, Any]:
        config, message = filled
        run = run_to_show(run_files.current_job(page.workspace), page.workspace)
        mine = run_panel.meant(tab.panel, run.id if run else None, page.workspace)
        own = own_data(config.data, page.workspace)
        return {**fill(tab, config), tab.own: own, **mine, tab.message: message}

    def learn(lesson: Lesson) -> dict[Any, Any]:
        return {
            tab.own: own_data(DataConfig(source=lesson.source), page.workspace),
            form["stage"]: lesson.stage,
            form["model.start"]: lesson.start,
            form["model.base"]: lesson.base or gr.skip(),
            **{
                form[path]: forms.text_of(lesson.preference[name]) if name in lesson.preference else gr.skip()
                for name, path in learned.items()
            },
            tab.message: notice(lesson.message),
        }

    learned = {name: f"preference.{name}" for name in ("loss", "label_smoothing")}
    carried = [tab.own, *(form[path] for path in ("stage", "model.start", "model.base", *learned.values()))]
    return {
        "data": Door(
            [tab.own],
            lambda config_json: {tab.own: None},
            lambda config_json: data_rows.holds_preferences(config_json, page.workspace),
        ),
        "settings": Door(
            [*tab.form.inputs, *tab.rewards.inputs, tab.own, *tab.panel.main, tab.message],
            settings_of,
            lambda filled: filled[0].stage in STAGES,
        ),
        "lesson": Door([*carried, tab.message], learn),
    }


def followers(tab: PreferencesTab, page: Page) -> list[Follower]:
    config_json = page.parts[data_tab.NAME].config_json

    def draw(seen: Look) -> dict[Any, Any]:
        learned = data_of(seen.values[tab.own], seen.values[config_json], page.workspace)
        return show(tab, seen.job, page.workspace, learned, seen.values[tab.panel.changed])

    return [
        Follower(tab.panel.outputs, draw, [config_json, tab.own, tab.panel.changed]),
        Follower([tab.begin, tab.reward_model], lambda seen: list_runs(tab, seen), [tab.begin], []),
        Follower(tab.after.outputs, lambda seen: before_after.list_runs(tab.after, seen), tab.after.looked_at, []),
    ]
