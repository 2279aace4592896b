"""The form of a new blind test: three fields and a button. Settings with defaults are under Advanced.

elem_ids: `blind_form` (`blind_who_1`, `blind_system_1`, `blind_url_1`, `blind_model_1` and so on for every contestant,
`blind_number`, `blind_instructions`), `blind_power`, `blind_make`, `blind_advanced` (`blind_title_1`, `blind_base_1`,
`blind_examples_1`, `blind_more` (another contestant), `blind_from`, `blind_held_out`, `blind_file`, `blind_upload`,
`blind_pasted`, `blind_topic`, `blind_found`, `blind_max_new_tokens`, `blind_title`, `blind_raters`,
`blind_votes_per_prompt`, `blind_overlap`, `blind_planned`, `blind_no_worse_by`, `blind_plan`, `blind_rubric`,
`blind_options`, `blind_completion`, `blind_consent`, `blind_attention`, `blind_min_attention`, `blind_repeats`,
`blind_min_consistency`).

The workspace stores every change to the form, so a reload or a restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ftlab.config import STARTER
from ftlab.core.files import read_cached, write_json
from ftlab.core.workspace import Workspace
from ftlab.models.strength import AS_TRAINED, strength_name
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.html import heading
from ftlab.ui.tabs.data.sources import FILE_TYPES, source_choices
from ftlab.ui.tabs.train.tab import BASES

MOST_CONTESTANTS = 6
USUAL_PROMPTS = 40  # as many as a person judges in one sitting
CRITERION = "Which answer would you rather get?"
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


@dataclass(frozen=True)
class Contestant:
    """As filled in. `who`: "base", "prompted", "run:ID" with or without "@STRENGTH", "endpoint", or empty for none."""

    who: str = ""
    title: str = ""
    base: str = ""
    system: str = ""
    examples: str = ""
    url: str = ""
    model: str = ""

    @property
    def is_run(self) -> bool:
        return self.who.startswith("run:")


@dataclass(frozen=True)
class NewTest:
    """The form as filled in: texts as typed, without the space around them. A component is named like its field,
    those of contestant 1 `who_1` and so on."""

    contestants: tuple[Contestant, ...] = (Contestant(),) * MOST_CONTESTANTS
    from_: str = "held_out"  # a value of FROM
    held_out: str = ""
    file: str = ""
    pasted: str = ""
    number: str = ""
    topic: str = ""
    title: str = ""
    raters: str = "2"
    votes_per_prompt: str = "2"
    overlap: float = 100.0  # percent
    planned: str = ""
    rubric: tuple[str, ...] = ("overall",)
    options: tuple[str, ...] = tuple(option for _, option in OPTIONS)
    instructions: str = CRITERION
    max_new_tokens: str = "256"
    completion: str = ""
    consent: str = ""
    no_worse_by: str = ""
    attention: str = "0"
    repeats: str = "0"
    min_attention: str = ""
    min_consistency: str = ""
    conversations: bool = False

    @property
    def among(self) -> list[tuple[int, Contestant]]:
        """The contestants that are filled in, with their numbers from 1."""
        return [(n, contestant) for n, contestant in enumerate(self.contestants, 1) if contestant.who]

    @property
    def runs(self) -> list[Contestant]:
        return [contestant for contestant in self.contestants if contestant.is_run]

    @property
    def live(self) -> bool:
        return self.from_ == "live"

    @property
    def of_rows(self) -> bool:
        """Whether the prompts are rows of data, which have columns and turns."""
        return self.from_ in ("held_out", "file")

    def by_component(self) -> dict[str, Any]:
        """The values as the browser and the stored form have them."""
        values = {
            f"{name}_{n}": value
            for n, contestant in enumerate(self.contestants, 1)
            for name, value in vars(contestant).items()
        }
        for name, value in vars(self).items():
            if name != "contestants":
                values[name.rstrip("_")] = list(value) if isinstance(value, tuple) else value
        return values

    def changed(self, values: Mapping[str, Any]) -> NewTest:
        """With the values of some components. Gradio sends None for an empty one."""
        every = {**self.by_component(), **values}
        among = tuple(
            Contestant(**{name: _as("", every[f"{name}_{n}"]) for name in vars(Contestant())})
            for n in range(1, MOST_CONTESTANTS + 1)
        )
        own = {
            name: _as(usual, every[name.rstrip("_")])
            for name, usual in vars(NewTest()).items()
            if name != "contestants"
        }
        return NewTest(among, **own)


def _as(usual: Any, value: Any) -> Any:
    """`value` as the type of `usual`."""
    if isinstance(usual, str):
        return "" if value is None else str(value).strip()
    if isinstance(usual, tuple):
        return tuple(value or ())
    return value if isinstance(value, int | float) else usual


@dataclass
class Form:
    """The components by name. `box` holds the fields, `actions` the components below them and the advanced settings."""

    fields: dict[str, Any] = field(default_factory=dict)
    groups: list[gr.Group] = field(default_factory=list)  # one for each contestant from the third on
    box: Any = None
    actions: Any = None
    more: Any = None
    upload: Any = None
    preview: Any = None
    power: Any = None
    plan: Any = None
    make: Any = None

    @property
    def inputs(self) -> list[Any]:
        return list(self.fields.values())

    @property
    def outputs(self) -> list[Any]:
        """The components that `fill`, `suit` and a look at the prompts update."""
        return [*self.inputs, *self.groups, self.more, self.upload, self.preview, self.power, self.plan, self.make]

    def read(self, values: Sequence[Any]) -> NewTest:
        return NewTest().changed(dict(zip(self.fields, values, strict=True)))

    def draw(self, name: str, kind: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        settings = {"min_width": 160} | settings
        self.fields[name] = made = kind(*args, elem_id=f"blind_{name}", **settings)
        return made


def build_fields(form: Form) -> None:
    """The three fields of a new test: who answers, how many prompts, what to judge."""
    with gr.Column(elem_id="blind_form", visible=False) as form.box:
        with gr.Row(equal_height=False, elem_classes="ft-blind-who"):
            for n in (1, 2):
                with gr.Column(min_width=240), gr.Group():
                    form.draw(f"who_{n}", gr.Dropdown, [], label=f"Contestant {n}", allow_custom_value=True)
                    _needed(form, n)
        with gr.Row(equal_height=False, elem_classes="ft-blind-asked"):
            form.draw("number", gr.Textbox, label="How many prompts", max_lines=1, min_width=120)
            form.draw(
                "instructions", gr.Textbox, label="What should people judge?", lines=1, max_lines=6, scale=3,
                min_width=240,
            )  # fmt: skip


def build_actions(form: Form) -> None:
    """What the votes can show, the button, and everything that has a default."""
    with gr.Column(elem_id="blind_actions", visible=False) as form.actions:
        form.power = gr.HTML(elem_id="blind_power")
        form.make = gr.Button("Create and get the link", variant="primary", elem_id="blind_make", elem_classes="ft-act")
        with (
            gr.Accordion("Advanced", open=False, elem_id="blind_advanced"),
            gr.Row(equal_height=False, elem_classes="ft-blind-form"),
        ):
            with gr.Column(min_width=300):
                _contestants(form)
            with gr.Column(min_width=300):
                _prompts(form)
            with gr.Column(min_width=300):
                _votes(form)


def _contestants(form: Form) -> None:
    gr.HTML(heading("Contestants", "Raters never see their names.", page="blind_tests#contestants-and-prompts"))
    for n in (1, 2):
        with gr.Group(elem_classes="ft-blind-one"):
            _named(form, n)
    for n in range(3, MOST_CONTESTANTS + 1):
        with gr.Group(visible=False, elem_classes="ft-blind-one") as group:
            form.draw(
                f"who_{n}", gr.Dropdown, [], label=f"Contestant {n}", info="A run at another strength: run:ID@0.75.",
                allow_custom_value=True,
            )  # fmt: skip
            _needed(form, n)
            _named(form, n)
        form.groups.append(group)
    form.more = gr.Button("Add a contestant", size="sm", elem_id="blind_more")


def _prompts(form: Form) -> None:
    draw = form.draw
    gr.HTML(heading("Prompts"))
    draw("from", gr.Radio, FROM, value="held_out", label="Prompts from")
    draw(
        "held_out", gr.Dropdown, [], label="Held-out rows of", allow_custom_value=True,
        info="The test split, which nothing was trained on. All rows if there is none.",
    )  # fmt: skip
    draw("file", gr.Dropdown, [], label="File", allow_custom_value=True, visible=False)
    form.upload = gr.File(
        label="Upload a file: a column of prompts, or a text file with one prompt on each line",
        file_types=FILE_TYPES,
        height=120,
        elem_id="blind_upload",
        visible=False,
    )
    draw("pasted", gr.Textbox, label="One prompt per line", lines=5, max_lines=14, visible=False)
    draw(
        "topic", gr.Dropdown, [("no topics", "")], value="", label="Topic", allow_custom_value=True,
        info="A column. The verdict is broken down by topic, and samples are balanced across topics.",
    )  # fmt: skip
    draw(
        "conversations", gr.Checkbox, label="Whole conversations",
        info="Each contestant answers every turn of the user itself. Raters vote once on both conversations.",
    )  # fmt: skip
    form.preview = gr.HTML(elem_id="blind_found", elem_classes="ft-content")
    draw(
        "max_new_tokens", gr.Textbox, "256", label="Longest answer (tokens)", max_lines=1,
        info="The limit of each answer, for all contestants. All decode greedily.",
    )  # fmt: skip


def _votes(form: Form) -> None:
    draw = form.draw
    gr.HTML(heading("Votes"))
    draw("title", gr.Textbox, label="Title of the test", placeholder="adapted against base", max_lines=1)
    with gr.Row():
        draw("raters", gr.Textbox, "2", label="Raters", info="How many you expect.", max_lines=1)
        draw("votes_per_prompt", gr.Textbox, "2", label="Votes per prompt", info="By different raters.", max_lines=1)
    draw(
        "overlap", gr.Slider, 0, 100, value=100, step=5, label="Overlap (%)",
        info="The share of prompts that this many raters see. Each other prompt goes to one rater. Where raters "
        "overlap, the verdict can say whether they agree.",
    )  # fmt: skip
    draw(
        "planned", gr.Textbox, label="Planned votes", max_lines=1,
        info="The tally stays hidden until they are all in. Empty: as many as the test allows.",
    )  # fmt: skip
    draw(
        "no_worse_by", gr.Textbox, label="No worse by (points)", max_lines=1, placeholder="better",
        info="Tests whether contestant 2 is no worse than 1, within this margin of the win rate. "
        "Empty: tests which is better.",
    )  # fmt: skip
    form.plan = gr.HTML(elem_id="blind_plan", elem_classes="ft-content")
    draw(
        "rubric", gr.CheckboxGroup, ["overall", "correctness", "completeness", "style", "safety"], value=["overall"],
        label="Rubric", info="The verdict uses Overall. The others are asked too.",
    )  # fmt: skip
    draw("options", gr.CheckboxGroup, OPTIONS, value=[name for _, name in OPTIONS], label="Options")
    gr.HTML(heading("Reliable raters", "Items that raters cannot tell apart.", page="raters#how-reliable-they-are"))
    with gr.Row():
        draw("attention", gr.Textbox, "0", label="Attention items", info="Each takes a prompt.", max_lines=1)
        draw("min_attention", gr.Textbox, label="Least attention (%)", info="Empty: nobody is excluded.", max_lines=1)
    with gr.Row():
        draw("repeats", gr.Textbox, "0", label="Repeated prompts (%)", info="With the sides swapped.", max_lines=1)
        draw(
            "min_consistency", gr.Textbox, label="Least consistency (%)", info="Empty: nobody is excluded.", max_lines=1
        )
    draw(
        "completion", gr.Textbox, label="Completion code", max_lines=1,
        info="For panels such as Prolific: a code, or an https address, that raters see when they are done.",
    )  # fmt: skip
    draw(
        "consent", gr.Textbox, label="Consent", lines=2, max_lines=8,
        info="A text that raters agree to before their first comparison. Empty: none.",
    )  # fmt: skip


def _needed(form: Form, n: int) -> None:
    """The fields that a contestant of some kinds requires."""
    form.draw(
        f"url_{n}", gr.Textbox, label="Address", placeholder="http://127.0.0.1:8000/v1", max_lines=1, visible=False,
        info="OpenAI-compatible. Set its key as FTLAB_ENDPOINT_KEY before you start ftlab.",
    )  # fmt: skip
    form.draw(f"model_{n}", gr.Textbox, label="Model name", max_lines=1, visible=False)
    form.draw(f"system_{n}", gr.Textbox, label="System prompt", lines=1, max_lines=8, visible=False)


def _named(form: Form, n: int) -> None:
    form.draw(
        f"title_{n}",
        gr.Textbox,
        label=f"Name of contestant {n}",
        placeholder="Empty: named after the model",
        max_lines=1,
    )
    form.draw(
        f"base_{n}", gr.Dropdown, [("The base of the run in this test", ""), *BASES], value="",
        label=f"Base of contestant {n}", allow_custom_value=True, visible=False,
    )  # fmt: skip
    form.draw(
        f"examples_{n}", gr.Textbox, label=f"Examples for contestant {n}", info="One per line: prompt => answer.",
        lines=2, max_lines=8, visible=False,
    )  # fmt: skip


def load(workspace: Workspace) -> NewTest:
    """The values filled in before, on top of the defaults: the base against the newest run, on its held-out rows."""
    return usual(workspace).changed(read_cached(workspace.new_test_file) or {})


def keep(test: NewTest, workspace: Workspace) -> None:
    """Store only values that differ from the defaults: the rest follows the newest run."""
    as_usual = usual(workspace).by_component()
    values = test.by_component().items()
    write_json(workspace.new_test_file, {name: value for name, value in values if value != as_usual[name]})


def forget(workspace: Workspace) -> None:
    workspace.new_test_file.unlink(missing_ok=True)


def usual(workspace: Workspace) -> NewTest:
    newest = next(iter(run_files.runs_that_answer(workspace)), None)
    who = ["base", f"run:{newest.id}" if newest else "prompted", *[""] * (MOST_CONTESTANTS - 2)]
    base = "" if newest else STARTER  # empty: the base of the selected run
    return NewTest(tuple(Contestant(kind, base=base) for kind in who))


def fill(
    form: Form, test: NewTest, topics: list[str], workspace: Workspace, limit: tuple[int, str] | None = None
) -> dict[Any, Any]:
    """Updates that show `test` in the form, with the current choices."""
    runs = [(name, f"run:{run}") for name, run in run_names.choices(run_files.runs_that_answer(workspace))]
    who = [("The base model", "base"), ("The base model with its own prompt", "prompted")]
    who += [*_at_strengths(workspace), ("Another server (OpenAI-compatible)", "endpoint")]
    updates, values = suit(form, test, topics, limit), test.by_component()
    uploads = [(title, value) for title, value in source_choices(workspace) if title.startswith("Upload: ")]
    more = [*who, ("None: remove this contestant", "")]
    choices = {f"who_{n}": who if n <= 2 else more for n in range(1, MOST_CONTESTANTS + 1)}
    data = [choice for choice in source_choices(workspace) if choice not in uploads]
    choices |= {"held_out": [("The run in this test", ""), *runs, *data], "file": uploads}
    for name, component in form.fields.items():
        settings: dict[str, Any] = {"value": values[name]}
        if name in choices:
            settings["choices"] = choices[name]
        updates[component] = gr.update(**{**_settings(updates.get(component)), **settings})
    return updates


def _at_strengths(workspace: Workspace) -> list[tuple[str, str]]:
    """The runs as contestants: at the current strength, and as trained or at the recommended one if that differs."""
    from ftlab.evaluation.strengths import strengths_of

    choices = []
    answering = run_files.runs_that_answer(workspace)
    for run, name in zip(answering, run_names.told_apart(answering), strict=True):
        used, measured = run_files.strength(run), strengths_of(run)
        others = {AS_TRAINED, measured["proposed"] if measured else AS_TRAINED} - {used}
        choices.append((", ".join(filter(None, [name, strength_name(used)])), f"run:{run.id}"))
        for at in sorted(others):
            choices.append((f"{name}, {strength_name(at) or 'as trained'}", f"run:{run.id}@{at:g}"))
    return choices


def suit(form: Form, test: NewTest, topics: list[str], limit: tuple[int, str] | None = None) -> dict[Any, Any]:
    """Updates that show only the fields that the choices require. `limit`: how many prompts there are, and why no
    more."""
    updates: dict[Any, Any] = {}
    last = max([2, *(n for n, _ in test.among)])
    for n, group in enumerate(form.groups, 3):
        updates[group] = gr.update(visible=n <= last)
    for n, contestant in enumerate(test.contestants, 1):
        wanted = _OF_KIND.get(contestant.who, ())
        for name in ("base", "system", "examples", "url", "model"):
            updates[form.fields[f"{name}_{n}"]] = gr.update(visible=name in wanted)
    updates[form.more] = gr.update(visible=last < MOST_CONTESTANTS)
    for name in ("held_out", "file", "pasted"):
        updates[form.fields[name]] = gr.update(visible=test.from_ == name)
    updates[form.upload] = gr.update(visible=test.from_ == "file")
    usual = {"placeholder": "", "info": None}
    if limit is not None:
        most, why = limit
        usual = {"placeholder": f"{min(USUAL_PROMPTS, most)}", "info": f"{most:,} at most: {why}."}
    updates[form.fields["number"]] = gr.update(visible=not test.live, **usual)
    updates[form.fields["topic"]] = gr.update(
        visible=test.of_rows and bool(topics), choices=[("no topics", ""), *topics]
    )
    updates[form.fields["conversations"]] = gr.update(visible=test.of_rows)
    for name in ("votes_per_prompt", "overlap", "attention", "min_attention", "repeats", "min_consistency"):
        updates[form.fields[name]] = gr.update(visible=not test.live)
    return updates


def _settings(update: Any) -> dict[str, Any]:
    return {name: value for name, value in (update or {}).items() if name != "__type__"}
