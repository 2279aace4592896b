"""Train: base, method, the few settings that matter, Start; the live picture; what to do when it has ended.

elem_ids: `set_model_base`, `set_method_name` and so on for every setting (see forms.py), `train_data` (what it will be
trained on), `train_change_data`, `train_banner`, `train_more` (folded settings), `train_start`, `train_stop`,
`train_message`, `train_live` (numbers, curves, outcome), `train_to_evaluate`, `train_to_chat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import AUTO, SELF, STARTER, STARTER_REPLAY, DataConfig, RunConfig, build_config
from ftlab.config.methods import fields_of
from ftlab.config.stages import PRETRAINING
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.ui import background, job_strip, run_files
from ftlab.ui.kit import forms
from ftlab.ui.kit.events import any_of, message_box, on
from ftlab.ui.kit.html import count, empty, help_link, join, notice
from ftlab.ui.page import Door, Follower, Look, Page
from ftlab.ui.run_files import Job
from ftlab.ui.run_view import run as run_view
from ftlab.ui.run_view.stages import STAGES as PREFERENCE_STAGES
from ftlab.ui.tabs.data import rows as data_rows
from ftlab.ui.tabs.data import tab as data_tab
from ftlab.ui.tabs.train import preflight as train_preflight
from ftlab.ui.tabs.train import sweep

NAME, TITLE = "train", "Train"
# What fits where with LoRA, 512 tokens and a small batch; the rest of the Hub can be typed.
BASES = [
    ("Starter: the toy that ships with ftlab (any CPU)", STARTER),
    ("SmolLM2 135M Instruct (CPU or any GPU; 93 MB from the package index)", "smollm2"),
    ("Qwen3 0.6B (GPU with 8 GB)", "Qwen/Qwen3-0.6B"),
    ("Qwen3 1.7B (GPU with 16 GB)", "Qwen/Qwen3-1.7B"),
    ("Qwen3 4B Instruct (GPU with 24 GB, or qlora in 16 GB)", "Qwen/Qwen3-4B-Instruct-2507"),
]
# What the data on the Data tab can be trained for; preferences have a tab of their own.
STAGES = [("Answers (instruction tuning)", "sft"), ("Plain text (continued pretraining)", "pretraining")]
_MAIN = [
    ["optimisation.epochs", "optimisation.learning_rate"],
    ["method.rank", "method.placement", "method.reduction_factor", "method.virtual_tokens"],
    ["optimisation.batch_size", "optimisation.max_length"],
    ["data.replay", "data.replay_fraction", "data.replay_text", "data.replay_text_fraction"],
    ["evaluation.after_training", "name"],
]
_REPLAYED = {f"data.{name}": sample for name, sample in STARTER_REPLAY.items()}
# Left empty, they take what suits base and method.
_USUAL = ("optimisation.learning_rate", "optimisation.epochs", "optimisation.batch_size")
_FOLDED = {"model": "Base model", "method": "Method", "optimisation": "Optimisation", "evaluation": "Evaluation"}
_HELP = {"model": "bases", "method": "methods", "optimisation": "methods#learning-rates", "evaluation": "measures"}
_HELP |= {"tracking": "programs#experiment-trackers", "launcher": "several_gpus"}


@dataclass(frozen=True)
class TrainTab:
    form: forms.Form
    banner: gr.HTML
    data: gr.HTML
    change_data: gr.Button
    start: gr.Button
    stop: gr.Button
    message: gr.HTML
    live: gr.HTML
    to_evaluate: gr.Button
    to_chat: gr.Button
    shown: gr.State  # id of the run in the live picture
    sweep: sweep.SweepForm
    check: train_preflight.Panel


def build(workspace: Workspace) -> TrainTab:
    form = forms.Form()
    banner = gr.HTML(run_view.toy_banner(STARTER), elem_id="train_banner")
    # style.css puts the columns side by side; on a phone the picture comes before the settings.
    with gr.Row(equal_height=False, elem_id="train_layout"):
        with gr.Column(elem_id="train_choices", min_width=280):
            data = gr.HTML(notice("Reading the data …"), elem_id="train_data")
            change_data = gr.Button("Choose other data", size="sm", elem_id="train_change_data")
            form.draw("stage", choices=STAGES, info="Training objective. Set from your data.")
            form.draw("model.base", choices=BASES)
            form.draw("method.name")
            with gr.Row():
                start = gr.Button("Start training", variant="primary", elem_id="train_start", min_width=150)
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="train_stop", min_width=110)
            message = message_box("train_message")
            check = train_preflight.build()
        with gr.Column(elem_id="train_picture", min_width=280):
            live = gr.HTML(nothing_yet(), elem_id="train_live")
            with gr.Row():
                to_evaluate = gr.Button("See the evaluation", visible=False, elem_id="train_to_evaluate")
                to_chat = gr.Button("Chat with it", visible=False, elem_id="train_to_chat")
        with gr.Column(elem_id="train_settings", min_width=280):
            for paths in _MAIN:
                with gr.Row():
                    for path in paths:
                        form.draw(path, **_special(path))
            varied = sweep.build_form()
            with gr.Accordion("All other settings", open=False, elem_id="train_more"):
                _draw_rest(form)
    shown = gr.State(None)
    return TrainTab(
        form, banner, data, change_data, start, stop, message, live, to_evaluate, to_chat, shown, varied, check
    )


def wire(tab: TrainTab, page: Page) -> None:
    data, strip, workspace = page.parts[data_tab.NAME], page.strip, page.workspace
    base, method = tab.form.components["model.base"], tab.form.components["method.name"]
    documents = tab.form.components["data.replay_text"]
    usual_of = {path: tab.form.components[path] for path in _USUAL}
    replayed = {tab.form.components[path]: path for path in _REPLAYED}

    # What the chosen method does not read is not shown.
    of_methods = {path: one for path, one in tab.form.components.items() if _is_setting_of_methods(path)}

    def start(*values: Any) -> dict[Any, Any]:
        from ftlab.training import supervisor

        config = configured(values)
        run = supervisor.submit(config, workspace)
        background.release_chat(config.launcher.device)
        said, now = job_strip.submitted(strip, run, workspace)
        return {tab.message: said, **now, **show(tab, run_files.current_job(workspace), workspace)}

    def usual(base: str | None, method: str | None, documents: str | None) -> dict[Any, Any]:
        from ftlab.models.load import shape_of

        chosen = {"model": {"base": base or STARTER}, "method": {"name": method or "lora"}}
        config = build_config(chosen | {"data": {"replay_text": documents or None}})
        read = {one: gr.update(visible=_is_read(path, config.method.name)) for path, one in of_methods.items()}
        try:
            config = config.resolved(shape_of(config.model))
        except FtlabError:  # a name that is still being typed
            config = config.resolved()
        shown = {one: gr.update(placeholder=_usual(config, path)) for path, one in usual_of.items()}
        return {**shown, tab.banner: run_view.toy_banner(base), **read}

    def suit_replay(base: str | None) -> dict[Any, Any]:
        return {component: _usual_replay(path, base) for component, path in replayed.items()}

    def describe_data(shown: str | None) -> dict[Any, Any]:
        suits = stage_of(shown, workspace)
        return {tab.data: data_line(shown, workspace), tab.form.components["stage"]: suits or gr.skip()}

    def configured(values: Sequence[Any]) -> RunConfig:
        return build_config(_settings(tab, data, values))

    inputs = [*tab.form.inputs, *data.form.inputs]
    sweep.wire_form(tab.sweep, inputs, configured, workspace)
    train_preflight.wire(tab.check, tab.form, inputs, configured, workspace)
    live = [tab.live, tab.to_evaluate, tab.to_chat, tab.stop, tab.shown]
    on(
        tab.start.click,
        start,
        inputs,
        [*live, strip.box, strip.stop, strip.job],
        box=tab.message,
        progress="minimal",
        show_progress_on=tab.message,
        concurrency_limit=1,
    )
    job_strip.stop_by(strip, tab.stop, tab.message, workspace)
    changed = [*usual_of.values(), tab.banner, *of_methods.values()]
    settings: dict[str, Any] = {"clears": False, "queue": False, "trigger_mode": "always_last"}
    asked = [base, method, documents]
    on(any_of(*(one.change for one in asked)), usual, asked, changed, box=tab.message, **settings)
    # Only what a person picks: a run that is loaded into the form brings its own.
    on(base.input, suit_replay, [base], list(replayed), box=tab.message, queue=False)
    page.switch(tab.change_data.click, data_tab.NAME)
    for trigger, other in ((tab.to_evaluate, "evaluate"), (tab.to_chat, "chat")):
        page.lead(trigger.click, "run", [tab.shown], to=other, queue=False)
    on(data.shown.change, describe_data, [data.shown], [tab.data, tab.form.components["stage"]], queue=False)


def show(tab: TrainTab, job: Job | None, workspace: Workspace) -> dict[Any, Any]:
    """Updates that show the run that trains, else the newest one, as it is on disk."""
    run = run_to_show(job, workspace)
    if run is None:
        hidden = gr.update(visible=False)
        return dict.fromkeys((tab.to_evaluate, tab.to_chat, tab.stop), hidden) | {
            tab.live: nothing_yet(),
            tab.shown: None,
        }
    ready = gr.update(visible=run_files.result_ready(run))
    own = job is None or run_files.stage(job.run) not in PREFERENCE_STAGES
    return {
        tab.live: run_view.live(run),
        tab.to_evaluate: ready,
        tab.to_chat: ready,
        tab.stop: job_strip.stop_button(job if own else None),
        tab.shown: run.id,
    }


def nothing_yet() -> Markup:
    hint = "Keep the defaults and press Start training: on two CPU cores it takes about two minutes."
    return empty("Nothing has been trained yet.", hint)


def run_to_show(job: Job | None, workspace: Workspace) -> RunDirectory | None:
    """The run at work, else the newest; those of the Preferences tab are shown there."""
    if job is not None and job.kind == "training" and run_files.stage(job.run) not in PREFERENCE_STAGES:
        return job.run
    return next((run for run in workspace.runs() if run_files.stage(run) not in PREFERENCE_STAGES), None)


def data_line(shown: str | None, workspace: Workspace) -> Markup:
    """What the run will be trained on, from the settings that the Data tab has read."""
    if shown is None:
        return notice("The data on the Data tab cannot be read: choose other data.", kind="warn")
    config = DataConfig.model_validate_json(shown)
    found = data_rows.inspected(config, workspace)
    if found.problem:
        return notice("The data on the Data tab cannot be trained on yet. The Data tab says why.", kind="warn")
    sizes = join((Markup("{} {}").format(count(size), name) for name, size in found.splits.items()), " / ")
    return Markup('<div class="ft-line-card"><span class="ft-help">Data</span> <strong>{}</strong> {} {}</div>').format(
        found.name.rsplit("/", 1)[-1], sizes, "documents" if found.format == "text" else "rows"
    )


def stage_of(shown: str | None, workspace: Workspace) -> str | None:
    """The stage that the data on show are for; None while there are none."""
    if shown is None:
        return None
    found = data_rows.inspected(DataConfig.model_validate_json(shown), workspace)
    return PRETRAINING if found.format == "text" else "sft"


def _settings(tab: TrainTab, data: data_tab.DataTab, values: Sequence[Any]) -> dict[str, Any]:
    own = len(tab.form.components)
    return forms.merge([tab.form.collect(values[:own]), data.form.collect(values[own:])])


def _draw_rest(form: forms.Form) -> None:
    """Every setting that is not drawn yet and does not belong to the Data tab, by section."""
    known = forms.fields()
    for section, title in (_FOLDED | {"tracking": "Tracking", "launcher": "Device"}).items():
        rest = [path for path in known if path.startswith(f"{section}.") and path not in form.components]
        more = help_link(_HELP[section])
        gr.HTML(Markup('<h4 class="ft-h">{}</h4><span class="ft-help">{}</span>').format(title, more))
        with gr.Row():
            for path in rest:
                form.draw(path, **_special(path))
    form.draw("trainer")


def _is_setting_of_methods(path: str) -> bool:
    return path.startswith("method.") and path != "method.name"


def _is_read(path: str, method: str) -> bool:
    return path.removeprefix("method.") in fields_of(method)


def _special(path: str) -> dict[str, Any]:
    if _is_setting_of_methods(path):
        return {"visible": _is_read(path, RunConfig().method.name)}
    if path in _REPLAYED:
        replay = [(title, name) for name, title in run_files.sample_titles().items() if name == _REPLAYED[path]]
        auto = ("auto: the base's own answers, where it is a real one", AUTO)
        itself = [auto, ("the base's own answers", SELF)] if path == "data.replay" else []
        return {"choices": [*itself, ("none", ""), *replay], "value": _usual_replay(path, STARTER)}
    if path in _USUAL:
        config = build_config({"data": {"replay_text": _usual_replay("data.replay_text", STARTER)}})
        return {"placeholder": _usual(config.resolved(), path)}
    return {}


def _usual_replay(path: str, base: str | None) -> str:
    """What is mixed in against forgetting: samples of what the starter knows; the default for other bases."""
    if base == STARTER:
        return _REPLAYED[path]
    return AUTO if path == "data.replay" else ""


def _usual(config: RunConfig, path: str) -> str:
    return f"usual: {getattr(config.optimisation, path.removeprefix('optimisation.')):g}"


def doors(tab: TrainTab, page: Page) -> dict[str, Door]:
    data = page.parts[data_tab.NAME]

    def prefers(shown: str | None) -> bool:
        return data_rows.holds_preferences(shown, page.workspace)

    def fill(filled: tuple[RunConfig, Any]) -> dict[Any, Any]:
        config, said = filled
        return {**tab.form.fill(config), **data.form.fill(config), tab.message: said}

    return {
        "data": Door([], lambda shown: {}, lambda shown: not prefers(shown)),
        "settings": Door(
            [*tab.form.inputs, *data.form.inputs, tab.message],
            fill,
            lambda filled: filled[0].stage not in PREFERENCE_STAGES,
        ),
    }


def followers(tab: TrainTab, page: Page) -> list[Follower]:
    base = tab.form.components["model.base"]

    def chosen(seen: Look) -> dict[Any, Any]:
        return {base: gr.update(value=seen.given[base])}

    live = [tab.live, tab.to_evaluate, tab.to_chat, tab.stop, tab.shown]
    return [
        Follower(live, lambda seen: show(tab, seen.job, page.workspace)),
        Follower([base], chosen, [base], [base], remembers={"base": base}),
    ]
