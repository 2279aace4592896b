"""Train: one card with data, base and preset; Start; the live view; what to do when the run has ended.

elem_ids: `set_model_base` and so on for every setting (see forms.py), `train_data` (what it will be trained on),
`train_change_data`, `train_banner`, `train_preset`, `train_settings` (what it sets), `train_more` (folded: all
settings) with `train_find`; Start and the current run as in run_panel.py, time and memory as in preflight.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from ftlab.config import AUTO, SELF, STARTER, STARTER_REPLAY, DataConfig, RunConfig, build_config
from ftlab.config.methods import fields_of
from ftlab.config.presets import PRESET, PRESETS, preset_of, preset_settings
from ftlab.config.sections import FEWEST_OWN_ANSWERS
from ftlab.config.stages import PRETRAINING, SFT, SUPERVISED_STAGES
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.ui import run_files
from ftlab.ui.kit import forms
from ftlab.ui.kit.events import any_of, on
from ftlab.ui.kit.html import count, empty, notice
from ftlab.ui.page import Door, Follower, Look, Page, kept_choices
from ftlab.ui.run_files import Job
from ftlab.ui.run_names import source_title
from ftlab.ui.run_view import run as run_view
from ftlab.ui.tabs.data import rows as data_rows
from ftlab.ui.tabs.data import tab as data_tab
from ftlab.ui.tabs.train import preflight as train_preflight
from ftlab.ui.tabs.train import run_panel, sweep
from ftlab.ui.tabs.train.run_panel import RunPanel

NAME, TITLE = "train", "Train"
# Common bases that fit with LoRA, 512 tokens and a small batch; others from the Hub can be typed.
BASES = [
    ("Starter: the toy that ships with ftlab (any CPU)", STARTER),
    ("SmolLM2 135M Instruct (CPU or any GPU; 89 MB)", "smollm2"),
    ("Qwen3 0.6B (GPU with 8 GB)", "Qwen/Qwen3-0.6B"),
    ("Qwen3 1.7B (GPU with 16 GB)", "Qwen/Qwen3-1.7B"),
    ("Qwen3 4B Instruct (GPU with 24 GB, or qlora in 16 GB)", "Qwen/Qwen3-4B-Instruct-2507"),
]
BASE_HELP = "From the list, a folder, a GGUF file or a Hub id."
# What the Data tab's data can be trained for here; preferences have their own tab.
STAGES = [("Answers (instruction tuning)", SFT), ("Plain text (continued pretraining)", PRETRAINING)]
_REPLAYED = {f"data.{name}": sample for name, sample in STARTER_REPLAY.items()}
_GENERAL = {"general_replay": "general examples", "general_documents": "general documents"}
_FRACTIONS = tuple(f"{path}_fraction" for path in _REPLAYED)
# Empty, they use the default for base and method.
_USUAL = ("optimisation.learning_rate", "optimisation.epochs", "optimisation.batch_size")
_PRESET = tuple(preset_settings(PRESET, RunConfig()))
_PAGES = {"Base model": "bases", "Method": "methods", "Training": "methods#learning-rates", "Evaluation": "measures"}
_PAGES |= {"Against forgetting": "replay", "Name, tracking, device": "programs#experiment-trackers"}


def _groups() -> dict[str, list[str]]:
    """The settings of the tab by the title of their group, most used first."""
    of = forms.fields_of
    return {
        "Training": ["stage", *_USUAL, "optimisation.max_length", *of("optimisation.")],
        "Method": ["method.name", "method.rank", *of("method.")],
        "Against forgetting": [*_REPLAYED, *_FRACTIONS],
        "Evaluation": ["evaluation.after_training", "evaluation.max_rows", "evaluation.prompted", *of("evaluation.")],
        "Base model": of("model."),
        "Name, tracking, device": ["name", *of("tracking.", "launcher."), "trainer"],
    }


@dataclass(frozen=True)
class TrainTab:
    form: forms.Form
    banner: gr.HTML
    data: gr.HTML
    change_data: gr.Button
    preset: gr.Radio
    settings: gr.HTML
    panel: RunPanel
    sweep: sweep.SweepForm
    check: train_preflight.Panel

    @property
    def message(self) -> gr.HTML:
        return self.panel.row.message


def build(workspace: Workspace) -> TrainTab:
    form = forms.Form()
    # style.css puts the columns side by side; on a phone the current run comes before the card.
    with gr.Row(equal_height=False, elem_id="train_layout", elem_classes="ft-run-layout"):
        with gr.Column(elem_id="train_choices", elem_classes="ft-run-choices", min_width=280):
            with gr.Row(elem_classes="ft-data-line"):
                data = gr.HTML("Reading the data …", elem_id="train_data", elem_classes="ft-about-data ft-content")
                change_data = gr.Button(
                    "Change", size="sm", scale=0, min_width=80, elem_id="train_change_data", elem_classes="ft-act"
                )
            form.draw("model.base", choices=BASES, info=BASE_HELP)
            banner = gr.HTML(run_view.toy_banner(STARTER), elem_id="train_banner")
            preset = gr.Radio(
                [(item.title, name) for name, item in PRESETS.items()],
                value=PRESET,
                label="How thorough",
                elem_id="train_preset",
            )
            settings = gr.HTML(in_words(_untouched().resolved()), elem_id="train_settings")
            takes = train_preflight.build_line()
            row = run_panel.build_row("train")
        panel = run_panel.build_live("train", row, nothing_yet())
    with gr.Accordion("Advanced", open=False, elem_id="train_more"):
        form.draw_find("train_find", "train_more")
        check = train_preflight.build_more(takes)
        form.draw_groups(_groups(), _special, _PAGES)
        varied = sweep.build_form()
    return TrainTab(form, banner, data, change_data, preset, settings, panel, varied, check)


def wire(tab: TrainTab, page: Page) -> None:
    data, workspace = page.parts[data_tab.NAME], page.workspace
    fields = tab.form.components
    base, method, stage = fields["model.base"], fields["method.name"], fields["stage"]
    usual_of = {path: fields[path] for path in _USUAL}
    replayed = {fields[path]: path for path in _REPLAYED}
    # Settings that the selected method does not read are hidden.
    of_methods = {path: field for path, field in fields.items() if _is_setting_of_methods(path)}
    # The settings that determine which preset this is.
    deciding = ("model.base", "method.name", "stage", "data.replay_text", "optimisation.max_steps", *_PRESET)

    def chosen(*values: Any) -> tuple[RunConfig, Any]:
        """The current selection, and the shape of its base; without incomplete numbers."""
        typed = {path: value for path, value in zip(deciding, values, strict=True) if value not in (None, "")}
        config = build_config(forms.nested({"model.base": STARTER} | typed))
        return config, _shape(config)

    def usual(picked: str | None, *values: Any) -> dict[Any, Any]:
        """What the selection leads to: defaults, the preset and its description, and which settings are read."""
        try:
            config, shape = chosen(*values)
        except FtlabError:  # an incomplete number
            return {tab.preset: None, tab.settings: ""}
        read = {
            component: gr.update(visible=_is_read(path, config.method.name)) for path, component in of_methods.items()
        }
        resolved = config.resolved(shape)
        bare = config.model_copy(update={"optimisation": RunConfig().optimisation}).resolved(shape)
        hints = {component: gr.update(placeholder=_usual(bare, path)) for path, component in usual_of.items()}
        texts = {tab.banner: run_view.toy_banner(config.model.base), tab.settings: in_words(resolved)}
        # Sending it again would undo a newer selection.
        named = preset_of(config, shape)
        return {**hints, **texts, **({} if named == picked else {tab.preset: named}), **read}

    def preset(name: str | None, *values: Any) -> dict[Any, Any]:
        """Apply the selected preset to the form, or apply it again after base or method changed."""
        config, shape = chosen(
            *[None if path in _PRESET else value for path, value in zip(deciding, values, strict=True)]
        )
        return _preset(tab, name, config, shape) if name else {}

    def suit_base(name: str | None, *values: Any) -> dict[Any, Any]:
        typed = dict(zip(deciding, values, strict=True))
        updates = {component: _usual_replay(path, typed["model.base"]) for component, path in replayed.items()}
        if name in (None, PRESET):
            return updates
        replay_text = updates[fields["data.replay_text"]]
        return updates | preset(name, *(typed | {"data.replay_text": replay_text}).values())

    def describe_data(config_json: str | None, *replay: Any) -> dict[Any, Any]:
        line = data_line(config_json, workspace, dict(zip(mixed, replay, strict=True)))
        # If it cannot work, the line says why.
        return {tab.data: line, tab.panel.row.start: gr.update(interactive="ft-box" not in line)}

    def suit_stage(config_json: str | None) -> dict[Any, Any]:
        return {stage: stage_of(config_json, workspace) or gr.skip()}

    def configured(values: Sequence[Any]) -> RunConfig:
        return build_config(_settings(tab, data, values))

    inputs = [*tab.form.inputs, *data.form.inputs]
    sweep.wire_form(tab.sweep, inputs, configured, workspace)
    train_preflight.wire(tab.check, tab.form, inputs, configured, workspace, by_itself=True)
    changes = [*(field.input for field in tab.form.inputs), tab.preset.input]
    run_panel.wire(tab.panel, page, inputs, configured, lambda job: show(tab, job, workspace), changes)
    changed = [*usual_of.values(), tab.banner, tab.preset, tab.settings, *of_methods.values()]
    settings: dict[str, Any] = {"clears": False, "queue": False, "trigger_mode": "always_last"}
    asked = [fields[path] for path in deciding]
    on(any_of(*(field.change for field in asked)), usual, [tab.preset, *asked], changed, box=tab.message, **settings)
    filled = [fields[path] for path in _PRESET]
    on(tab.preset.input, preset, [tab.preset, *asked], filled, box=tab.message, queue=False)
    # Only a person's selection: a run loaded into the form has its own values.
    suited = [*replayed, *filled]
    on(any_of(base.input, method.input), suit_base, [tab.preset, *asked], suited, box=tab.message, queue=False)
    mixed = ("model.base", "stage", *_REPLAYED, *_FRACTIONS)
    counted = [fields[path] for path in mixed]
    counts = any_of(data.config_json.change, *(field.change for field in counted))
    on(counts, describe_data, [data.config_json, *counted], [tab.data, tab.panel.row.start], **settings)
    on(data.config_json.change, suit_stage, [data.config_json], [stage], queue=False)
    page.switch(tab.change_data.click, data_tab.NAME)


def show(
    tab: TrainTab, job: Job | None, workspace: Workspace, data: str | None = None, changed: str | None = None
) -> dict[Any, Any]:
    """Updates that show the run in training, else the newest one, from its files."""
    return run_panel.show(tab.panel, run_to_show(job, workspace), job, nothing_yet(), data, changed)


def nothing_yet() -> Markup:
    return empty("Nothing has been trained yet.", "Press Start training: the defaults suit most data.")


def run_to_show(job: Job | None, workspace: Workspace) -> RunDirectory | None:
    """The current run, else the newest; runs of the Preferences tab are shown there."""
    return run_panel.to_show(job, SUPERVISED_STAGES, workspace)


def latest_base(workspace: Workspace) -> str | None:
    """The base of the newest run whose settings can be read."""
    configs = (run_files.config(run) for run in workspace.runs())
    return next((config.model.base for config in configs if config is not None), None)


def data_line(config_json: str | None, workspace: Workspace, replay: dict[str, Any] | None = None) -> Markup:
    """What the run will be trained on, from the settings read by the Data tab, and what is mixed in by the settings
    `replay` of base, stage and replay (by path; nothing without them)."""
    if config_json is None:
        return notice("The data on the Data tab cannot be read. Choose other data.", kind="warn")
    config = DataConfig.model_validate_json(config_json)
    inspection = data_rows.inspected(config, workspace)
    if inspection.problem:
        return notice("The data on the Data tab cannot be trained on yet. The Data tab says why.", kind="warn")
    names = {"train": "to learn from", "validation": "to check", "test": "to test"}
    kind = " documents" if inspection.format == "text" else ""
    sizes = ", ".join(f"{count(size)}{kind} {names.get(name, name)}" for name, size in inspection.splits.items())
    mixed = mixed_in(replay or {}, inspection.splits.get("train", 0), workspace)
    return Markup('<strong>{}</strong><div class="ft-help">{}{}</div>').format(
        source_title(inspection.name), sizes, f". Against forgetting: {mixed}." if mixed else ""
    )


def mixed_in(replay: dict[str, Any], rows: int, workspace: Workspace) -> str:
    """What the settings `replay` (by path) add to `rows` of training data, in words; empty if nothing."""
    parts = []
    for path, fraction in zip(_REPLAYED, _FRACTIONS, strict=True):
        typed = {name: value for name, value in replay.items() if value not in (None, "")}
        try:
            config = build_config(forms.nested({"model.base": STARTER, path: None} | typed)).resolved()
        except FtlabError:  # an incomplete number
            return ""
        source, share = getattr(config.data, path.removeprefix("data.")), getattr(config.data, fraction[5:])
        if not source:
            continue
        if path == "data.replay" and config.data.replay_prompts:
            wanted = max(FEWEST_OWN_ANSWERS if source == SELF else 1, round(share * rows))
            parts.append(f"about {count(wanted)} of the base's own answers")
            continue
        wanted = max(1, round(share * rows))
        there = _rows_of(source, workspace)
        kind = "documents" if path == "data.replay_text" else "rows"
        what = _GENERAL.get(source) or f"{kind} of {source_title(source)}"
        parts.append(f"about {count(min(wanted, there) if there else wanted)} {what}")
    return " and ".join(parts)


def _rows_of(source: str, workspace: Workspace) -> int | None:
    """How many rows a source of replay has; None if that is not known immediately."""
    if source not in run_files.sample_titles():
        return None
    return int(data_rows.inspected(DataConfig(source=source), workspace).rows)


def _shape(config: RunConfig) -> Any:
    """The shape of the base of `config`. None for a base that is not there: its field says so."""
    from ftlab.models.load import shape_of

    try:
        return shape_of(config.model)
    except FtlabError:
        return None


def _preset(tab: TrainTab, name: str, config: RunConfig, shape: Any) -> dict[Any, Any]:
    """The settings of the preset `name` for `config`, as values of the form."""
    wanted = preset_settings(name, config, shape)
    return {tab.form.components[path]: forms.text_of(value) for path, value in wanted.items()}


def in_words(config: RunConfig) -> Markup:
    """A description of a complete `config`, as far as presets determine it."""
    settings = config.optimisation
    epochs = f"{settings.epochs:g}"
    parts = [f"{epochs} epoch{'' if epochs == '1' else 's'}", f"learning rate {settings.learning_rate:g}"]
    if settings.max_steps:
        parts[0] += f", at most {count(settings.max_steps)} steps"
    if _is_read("method.rank", config.method.name):
        parts.append(f"rank {config.method.rank}")
    if config.evaluation.after_training:
        parts.append(f"tested on all test rows, at most {count(config.evaluation.max_rows)}")
        if config.evaluation.prompted:
            parts.append("compared with the prompted base too")
    return Markup('<p class="ft-help">{}.</p>').format(", ".join(parts))


def stage_of(config_json: str | None, workspace: Workspace) -> str | None:
    """The stage that the current data are for; None if there are none."""
    if config_json is None:
        return None
    inspection = data_rows.inspected(DataConfig.model_validate_json(config_json), workspace)
    return PRETRAINING if inspection.format == "text" else SFT


def _settings(tab: TrainTab, data: data_tab.DataTab, values: Sequence[Any]) -> dict[str, Any]:
    own = len(tab.form.components)
    return forms.merge([tab.form.collect(values[:own]), data.form.collect(values[own:])])


def _is_setting_of_methods(path: str) -> bool:
    return path.startswith("method.") and path != "method.name"


def _is_read(path: str, method: str) -> bool:
    return path.removeprefix("method.") in fields_of(method)


def _special(path: str) -> dict[str, Any]:
    if path == "stage":
        return {"choices": STAGES, "info": "Training objective. Set from your data."}
    if _is_setting_of_methods(path):
        return {"visible": _is_read(path, RunConfig().method.name)}
    if path in _REPLAYED:
        replay = [(title, name) for name, title in run_files.sample_titles().items() if name == _REPLAYED[path]]
        auto = ("auto: the base's own answers, except for the starter", AUTO)
        itself = [auto, ("the base's own answers", SELF)] if path == "data.replay" else []
        return {"choices": [*itself, ("none", ""), *replay], "value": _usual_replay(path, STARTER)}
    if path in _USUAL:
        return {"placeholder": _usual(_untouched().resolved(), path)}
    return {}


def _untouched() -> RunConfig:
    """The run of the untouched form, as far as its defaults depend on it."""
    return build_config({"data": {"replay_text": _usual_replay("data.replay_text", STARTER)}})


def _usual_replay(path: str, base: str | None) -> str:
    """The default mix against forgetting: samples of what the starter knows; the usual default for other bases."""
    if base == STARTER:
        return _REPLAYED[path]
    return AUTO if path == "data.replay" else ""


def _usual(config: RunConfig, path: str) -> str:
    return f"usual: {getattr(config.optimisation, path.removeprefix('optimisation.')):g}"


def doors(tab: TrainTab, page: Page) -> dict[str, Door]:
    data = page.parts[data_tab.NAME]

    def prefers(config_json: str | None) -> bool:
        return data_rows.holds_preferences(config_json, page.workspace)

    def fill(filled: tuple[RunConfig, Any]) -> dict[Any, Any]:
        config, message = filled
        run = run_to_show(run_files.current_job(page.workspace), page.workspace)
        mine = run_panel.meant(tab.panel, run.id if run else None, page.workspace)
        return {**tab.form.fill(config), **data.form.fill(config), **mine, tab.message: message}

    return {
        "data": Door([], lambda config_json: {}, lambda config_json: not prefers(config_json)),
        "settings": Door(
            [*tab.form.inputs, *data.form.inputs, *tab.panel.main, tab.message],
            fill,
            lambda filled: filled[0].stage in SUPERVISED_STAGES,
        ),
    }


def followers(tab: TrainTab, page: Page) -> list[Follower]:
    config_json = page.parts[data_tab.NAME].config_json
    base = tab.form.components["model.base"]
    replayed = {tab.form.components[path]: path for path in _REPLAYED}
    filled = [tab.form.components[path] for path in _PRESET]

    def chosen(seen: Look) -> dict[Any, Any]:
        """The base on the page; at first the stored selection, else that of the latest run."""
        name = seen.values[base]
        if seen.notes.get("opened"):
            return {base: gr.update(value=name)}
        seen.notes["opened"] = "yes"
        if name == STARTER and not kept_choices(page.workspace).base:
            name = latest_base(page.workspace) or STARTER
        suits = {component: gr.update(value=_usual_replay(path, name)) for component, path in replayed.items()}
        return {base: gr.update(value=name)} | ({} if name == STARTER else suits) | thorough(name)

    def thorough(base_name: str) -> dict[Any, Any]:
        """The stored preset, applied to the form."""
        picked = kept_choices(page.workspace).preset
        if picked not in PRESETS or picked == PRESET:
            return {}
        config, workspace = build_config(forms.nested({"model.base": base_name})), page.workspace
        run = run_to_show(run_files.current_job(workspace), workspace)
        before = run_files.config(run) if run else None
        another = before is not None and preset_of(before, _shape(before)) != picked
        meant = {tab.panel.changed: run.id} if run and another else {}
        return {tab.preset: picked} | meant | _preset(tab, picked, config, _shape(config))

    read = [config_json, tab.panel.changed]

    def draw(seen: Look) -> dict[Any, Any]:
        return show(tab, seen.job, page.workspace, *(seen.values[component] for component in read))

    return [
        Follower(tab.panel.outputs, draw, read),
        Follower(
            [base, *replayed, tab.preset, tab.panel.changed, *filled],
            chosen,
            [base, *replayed, tab.preset],
            [base],
            remembers={"base": base, "preset": tab.preset},
        ),
    ]
