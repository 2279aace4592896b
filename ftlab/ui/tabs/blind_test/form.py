"""The form of a new blind test: who answers, what is asked, how votes are asked for.

elem_ids: `blind_title`, `blind_who_1`, `blind_title_1`, `blind_base_1`, `blind_system_1`, `blind_examples_1`,
`blind_url_1`, `blind_model_1` and so on for every contestant, `blind_more` (another contestant), `blind_from`,
`blind_held_out`, `blind_file`, `blind_upload`, `blind_pasted`, `blind_topic`, `blind_number`, `blind_found`,
`blind_raters`, `blind_votes_per_prompt`, `blind_overlap`, `blind_planned`, `blind_power`, `blind_rubric`,
`blind_options`, `blind_instructions`, `blind_max_new_tokens`, `blind_make`, `blind_make_message`.

What is filled in is kept in the workspace at each change, so that a reload or a restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ftlab.config import STARTER
from ftlab.core.files import read_cached, write_json
from ftlab.core.workspace import Workspace
from ftlab.models.strength import AS_TRAINED, strength_name
from ftlab.ui import run_files
from ftlab.ui.kit.events import message_box
from ftlab.ui.kit.html import heading
from ftlab.ui.tabs.data.sources import FILE_TYPES, source_choices
from ftlab.ui.tabs.train.tab import BASES

MOST_CONTESTANTS = 6
FROM = [
    ("Held-out rows of a run or of data", "held_out"),
    ("A file", "file"),
    ("Pasted lines", "pasted"),
    ("The raters write them (live)", "live"),
]
OPTIONS = [
    ("left", "left"),
    ("right", "right"),
    ("both good", "both_good"),
    ("both bad", "both_bad"),
    ("skip", "skip"),
]
_OF_KIND = {"base": ("base",), "prompted": ("base", "system", "examples"), "endpoint": ("url", "model", "system")}
_OF_CONTESTANT = ("who", "title", "base", "system", "examples", "url", "model")


@dataclass
class Form:
    """The components by name, in the order in which they are drawn."""

    fields: dict[str, Any] = field(default_factory=dict)
    groups: list[gr.Group] = field(default_factory=list)  # one for each contestant
    box: Any = None
    more: Any = None
    upload: Any = None
    found: Any = None
    power: Any = None
    make: Any = None
    message: Any = None

    @property
    def inputs(self) -> list[Any]:
        return list(self.fields.values())

    @property
    def shown(self) -> list[Any]:
        """What `fill` and `suit` update."""
        return [*self.inputs, *self.groups, self.more, self.upload]

    def read(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self.fields, values, strict=True))


def build(workspace: Workspace) -> Form:
    form = Form()

    def draw(name: str, kind: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        form.fields[name] = made = kind(*args, elem_id=f"blind_{name}", min_width=200, **settings)
        return made

    with (
        gr.Column(elem_id="blind_form", visible=False) as form.box,
        gr.Row(equal_height=False, elem_classes="ft-blind-form"),
    ):
        with gr.Column(min_width=300):
            gr.HTML(
                heading(
                    "1. Who answers",
                    "Raters never see these names, nor anything made from them.",
                    page="blind_tests#contestants-and-prompts",
                )
            )
            for number in range(1, MOST_CONTESTANTS + 1):
                with gr.Group(visible=number <= 2, elem_classes="ft-blind-one") as group:
                    _contestant(draw, number)
                form.groups.append(group)
            form.more = gr.Button("Add a contestant", size="sm", elem_id="blind_more")
            gr.HTML(heading("2. What they are asked"))
            draw("from", gr.Radio, FROM, value="held_out", label="Prompts from")
            draw(
                "held_out",
                gr.Dropdown,
                [],
                label="Held-out rows of",
                info="The test split, which nothing was trained on. Without one: all rows.",
                allow_custom_value=True,
            )
            draw("file", gr.Dropdown, [], label="File", allow_custom_value=True, visible=False)
            form.upload = gr.File(
                label="Upload a file: a column of prompts, or a text file with one prompt on each line",
                file_types=FILE_TYPES,
                height=120,
                elem_id="blind_upload",
                visible=False,
            )
            draw("pasted", gr.Textbox, label="One prompt on each line", lines=5, max_lines=14, visible=False)
            with gr.Row():
                draw("number", gr.Textbox, label="How many", info="Empty: all of them.", max_lines=1)
                draw(
                    "topic",
                    gr.Dropdown,
                    [("no topics", "")],
                    value="",
                    label="Topic",
                    info="A column. The verdict is given per topic, and a sample takes as many of each.",
                    allow_custom_value=True,
                )
            form.found = gr.HTML(elem_id="blind_found")
        with gr.Column(min_width=300):
            gr.HTML(heading("3. How votes are asked for"))
            draw(
                "title",
                gr.Textbox,
                label="Title of the test",
                info="For you and the report.",
                placeholder="Replies of October against the base",
                max_lines=1,
            )
            with gr.Row():
                draw("raters", gr.Textbox, "2", label="Raters", info="A link for each.", max_lines=1)
                draw(
                    "votes_per_prompt",
                    gr.Textbox,
                    "2",
                    label="Votes per prompt",
                    info="How many raters see a prompt.",
                    max_lines=1,
                )
            draw(
                "overlap",
                gr.Slider,
                0,
                100,
                value=100,
                step=5,
                label="Overlap (%)",
                info="The share of prompts that this many raters see; one rater sees each of the others. Where raters "
                "overlap, the verdict can say whether they agree.",
            )
            draw(
                "planned",
                gr.Textbox,
                label="Planned votes",
                info="The tally stays hidden until they are in. Empty: as many as the test allows.",
                max_lines=1,
            )
            form.power = gr.HTML(elem_id="blind_power")
            draw(
                "rubric",
                gr.CheckboxGroup,
                ["overall", "correctness", "completeness", "style", "safety"],
                value=["overall"],
                label="Rubric",
                info="The verdict is about Overall. The others are asked as well.",
            )
            draw("options", gr.CheckboxGroup, OPTIONS, value=[one for _, one in OPTIONS], label="Options")
            draw(
                "instructions",
                gr.Textbox,
                label="What raters are told",
                placeholder="Which answer would you send to the customer?",
                lines=2,
                max_lines=6,
            )
            draw(
                "max_new_tokens",
                gr.Textbox,
                "256",
                label="Longest answer (tokens)",
                info="Same settings for all: greedy decoding, one answer per prompt.",
                max_lines=1,
            )
            form.make = gr.Button("Make the test", variant="primary", elem_id="blind_make")
            form.message = message_box("blind_make_message")
    return form


def _contestant(draw: Callable[..., Any], number: int) -> None:
    info = "A run at another strength: run:ID@0.75." if number > 1 else None
    draw(f"who_{number}", gr.Dropdown, [], label=f"Contestant {number}", info=info, allow_custom_value=True)
    draw(f"title_{number}", gr.Textbox, label="Called", placeholder="for you and the report", max_lines=1)
    draw(
        f"base_{number}",
        gr.Dropdown,
        [("The base of the run in this test", ""), *BASES],
        value="",
        label="Base model",
        allow_custom_value=True,
        visible=False,
    )
    draw(
        f"url_{number}",
        gr.Textbox,
        label="Address",
        info="OpenAI-compatible. Its key: FTLAB_ENDPOINT_KEY, set where ftlab starts.",
        placeholder="http://127.0.0.1:8000/v1",
        max_lines=1,
        visible=False,
    )
    draw(f"model_{number}", gr.Textbox, label="Name of its model", max_lines=1, visible=False)
    draw(f"system_{number}", gr.Textbox, label="System prompt", lines=2, max_lines=8, visible=False)
    draw(
        f"examples_{number}",
        gr.Textbox,
        label="Examples",
        info="One per line: prompt => answer.",
        lines=2,
        max_lines=8,
        visible=False,
    )


def load(workspace: Workspace) -> dict[str, Any]:
    """What was filled in before, over what is usual: the base against the newest run, on the run's held-out rows."""
    return usual(workspace) | (read_cached(workspace.new_test_file) or {})


def keep(values: dict[str, Any], workspace: Workspace) -> None:
    write_json(workspace.new_test_file, values)


def forget(workspace: Workspace) -> None:
    workspace.new_test_file.unlink(missing_ok=True)


def usual(workspace: Workspace) -> dict[str, Any]:
    newest = next(iter(run_files.runs_that_answer(workspace)), None)
    base = "" if newest else STARTER  # the base of whichever run is chosen
    values: dict[str, Any] = {f"{name}_{n}": "" for n in range(1, MOST_CONTESTANTS + 1) for name in _OF_CONTESTANT}
    values |= {f"base_{n}": base for n in range(1, MOST_CONTESTANTS + 1)}
    values |= {"who_1": "base", "title_1": "base"}
    values |= {"who_2": f"run:{newest.id}", "title_2": "adapted"} if newest else {"who_2": "prompted"}
    values |= {"from": "held_out", "held_out": f"run:{newest.id}" if newest else "brand_voice"}
    values |= {"file": "", "pasted": "", "number": "", "topic": "", "title": "", "raters": "2"}
    values |= {"votes_per_prompt": "2", "overlap": 100, "planned": "", "rubric": ["overall"]}
    values |= {"options": [one for _, one in OPTIONS], "instructions": "", "max_new_tokens": "256"}
    return values


def fill(form: Form, values: dict[str, Any], topics: list[str], workspace: Workspace) -> dict[Any, Any]:
    """Updates that show `values` in the form, with the choices that there are now."""
    runs = [(f"Run {run.id}", f"run:{run.id}") for run in run_files.runs_that_answer(workspace)]
    who = [("The base model", "base"), ("The base model with a prompt of its own", "prompted")]
    who += [*_at_strengths(workspace), ("Another server (OpenAI-compatible)", "endpoint")]
    updates = suit(form, values, topics)
    uploads = [(title, value) for title, value in source_choices(workspace) if title.startswith("Upload: ")]
    more = [*who, ("Nobody: take this contestant away", "")]
    choices = {f"who_{n}": who if n <= 2 else more for n in range(1, MOST_CONTESTANTS + 1)}
    data = [one for one in source_choices(workspace) if one not in uploads]
    choices |= {"held_out": [*runs, *data], "file": uploads}
    for name, component in form.fields.items():
        shown: dict[str, Any] = {"value": values.get(name)}
        if name in choices:
            shown["choices"] = choices[name]
        updates[component] = gr.update(**{**_settings(updates.get(component)), **shown})
    return updates


def _at_strengths(workspace: Workspace) -> list[tuple[str, str]]:
    """The runs as contestants: at the strength in use, and as trained or at the one proposed where that is another."""
    from ftlab.evaluation.strengths import strengths_of

    found = []
    for run in run_files.runs_that_answer(workspace):
        used, measured = run_files.strength(run), strengths_of(run)
        others = {AS_TRAINED, measured["proposed"] if measured else AS_TRAINED} - {used}
        found.append((", ".join(filter(None, [f"Run {run.id}", strength_name(used)])), f"run:{run.id}"))
        for at in sorted(others):
            found.append((f"Run {run.id}, {strength_name(at) or 'as trained'}", f"run:{run.id}@{at:g}"))
    return found


def suit(form: Form, values: dict[str, Any], topics: list[str]) -> dict[Any, Any]:
    """Updates that show what the choices ask for, and nothing else."""
    updates: dict[Any, Any] = {}
    last = max([2, *(n for n in range(3, MOST_CONTESTANTS + 1) if values.get(f"who_{n}"))])
    for n, group in enumerate(form.groups, 1):
        updates[group] = gr.update(visible=n <= last)
        wanted = _OF_KIND.get(values.get(f"who_{n}") or "", ())
        for name in ("base", "system", "examples", "url", "model"):
            updates[form.fields[f"{name}_{n}"]] = gr.update(visible=name in wanted)
    updates[form.more] = gr.update(visible=last < MOST_CONTESTANTS)
    place = values.get("from")
    for name in ("held_out", "file", "pasted"):
        updates[form.fields[name]] = gr.update(visible=place == name)
    updates[form.upload] = gr.update(visible=place == "file")
    updates[form.fields["number"]] = gr.update(visible=place != "live")
    updates[form.fields["topic"]] = gr.update(
        visible=place in ("held_out", "file") and bool(topics), choices=[("no topics", ""), *topics]
    )
    for name in ("votes_per_prompt", "overlap"):
        updates[form.fields[name]] = gr.update(visible=place != "live")
    return updates


def _settings(update: Any) -> dict[str, Any]:
    return {name: value for name, value in (update or {}).items() if name != "__type__"}
