"""The evaluation form: which runs, which rows, which measures, and whether the base gets a prompt first.

elem_ids: `evaluate_run`, `evaluate_others` (dropdowns), `evaluate_view` (which result is displayed; hidden
while there is one result), `evaluate_rows` (number), `evaluate_start`, `evaluate_more` (folded): `evaluate_suite`,
`evaluate_measures`, `evaluate_prompted`, `evaluate_system_prompt`, `evaluate_examples`, `evaluate_retrieving`,
`evaluate_retrieved`, `evaluate_documents`, `evaluate_labels`, `evaluate_pattern`, `evaluate_probes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ftlab.core.files import keep_copy
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.documents import SUFFIXES
from ftlab.errors import InputError
from ftlab.evaluation.request import Request
from ftlab.ui import run_files

HELD_OUT = ""
NEXT = "(next)"  # the view of a result that is being measured
_AUTO = "auto"
_NEAREST = 3
_PROBES = [
    ("as in the settings of the run", ""),
    ("the base's own answers to neutral prompts", "self"),
    ("the same, plus questions with known answers", "self, known_facts, known_choices"),
    ("not measured", "none"),
]


@dataclass(frozen=True)
class Form:
    run: gr.Dropdown
    others: gr.Dropdown
    view: gr.Dropdown
    rows: gr.Textbox
    start: gr.Button
    suite: gr.Dropdown
    measures: gr.Dropdown
    prompted: gr.Checkbox
    system_prompt: gr.Textbox
    examples: gr.Textbox
    retrieving: gr.Checkbox
    retrieved: gr.Textbox
    documents: gr.File
    labels: gr.Textbox
    pattern: gr.Textbox
    probes: gr.Dropdown

    @property
    def chosen(self) -> list[Any]:
        """The components that select what is displayed, in the order of the arguments of `tab.result_of`."""
        return [self.run, self.others, self.view]

    @property
    def settings(self) -> list[Any]:
        """The others, in the order of the arguments of `read`."""
        return [
            self.others, self.rows, self.suite, self.measures, self.prompted, self.system_prompt, self.examples,
            self.retrieving, self.retrieved, self.documents, self.labels, self.pattern, self.probes,
        ]  # fmt: skip


def build_choice() -> tuple[gr.Dropdown, gr.Dropdown]:
    """The dropdowns that select a run and one of its results (hidden while there is only one)."""
    run = _list("Run", "run", None, scale=3, min_width=280)
    return run, _list("Result on", "view", None, visible=False, scale=2, min_width=200)


def build(run: gr.Dropdown, view: gr.Dropdown, start: gr.Button) -> Form:
    """The settings of an evaluation, collapsed, with the three components above the result."""
    with gr.Accordion("Compare, other rows and measures", open=False, elem_id="evaluate_more"):
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            more = "Other runs, on the same rows. None: only the base."
            others = _list("Compare with", "others", more, value=[], multiselect=True, min_width=240)
            which = "The held-out rows, a sample, or the path of your own file."
            suite = _list("Rows", "suite", which, _suites(), value=HELD_OUT, min_width=240)
            rows = _line(
                "Maximum test rows", "rows", "More rows give narrower intervals.", placeholder="as in its settings"
            )
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            what = (
                "Measures of the answers. Perplexity is always included. Add your own as files in the workspace's "
                "metrics folder."
            )
            known = [("chosen to suit the data", _AUTO), *_measures()]
            measures = _list("Measures", "measures", what, known, value=[_AUTO], multiselect=True, min_width=260)
            elsewhere = "What the model kept of the base, apart from the task. Or your own questions: a file or Hub id."
            probes = _list("Forgetting", "probes", elsewhere, _PROBES, value="", min_width=260)
        with gr.Row(equal_height=False, elem_classes="ft-controls"):
            named = "For classification, comma-separated. Empty: taken from the data."
            labels = _line("Labels", "labels", named)
            pattern = _line("Pattern", "pattern", "A regular expression that answers must match.")
        prompted = gr.Checkbox(
            False,
            label="Also ask the base with a prompt",
            info="The base gets a system prompt and examples instead of training: was tuning needed at all?",
            elem_id="evaluate_prompted",
        )
        with gr.Row(equal_height=False, elem_classes="ft-controls", visible=False) as prompting:
            told = "Instructions for the base. Empty: examples only."
            system_prompt = _line("System prompt", "system_prompt", told, lines=2, max_lines=8, scale=3)
            examples = _line("Examples", "examples", "Training rows included in the prompt.", "3")
        retrieving = gr.Checkbox(
            False,
            label="Also put the nearest training rows, or passages of documents, before each question",
            info="For the base and for the adapted model: does looking things up do as well as training?",
            elem_id="evaluate_retrieving",
        )
        with gr.Row(equal_height=False, elem_classes="ft-controls", visible=False) as looking_up:
            retrieved = _line("Nearest", "retrieved", "Rows or passages before each question.", "3")
            documents = gr.File(
                label="Documents in place of training rows",
                file_count="multiple",
                file_types=list(SUFFIXES),
                height=110,
                scale=3,
                elem_id="evaluate_documents",
            )
    for box, fields in ((prompted, prompting), (retrieving, looking_up)):
        box.change(lambda on: gr.update(visible=on), [box], [fields], api_visibility="private", queue=False)
    models = (prompted, system_prompt, examples, retrieving, retrieved, documents)
    return Form(run, others, view, rows, start, suite, measures, *models, labels, pattern, probes)


def read(
    run: RunDirectory,
    workspace: Workspace,
    others: Sequence[str] | None,
    rows: str | None,
    suite: str | None,
    measures: Sequence[str] | None,
    prompted: bool,
    system_prompt: str | None,
    examples: str | None,
    retrieving: bool,
    retrieved: str | None,
    documents: Sequence[str] | None,
    labels: str | None,
    pattern: str | None,
    probes: str | None,
) -> Request:
    """The request that the form describes. Untouched fields keep the settings of `run`. Uploaded documents are copied
    into the workspace.

    Raises InputError for an invalid number.
    """
    settings: dict[str, Any] = {"measures": ", ".join(_named(measures)) or None}
    if prompted:
        settings |= {"prompted": True, "system_prompt": _text(system_prompt)}
        settings |= {"examples": _whole("Examples", examples, least=0)}
    if retrieving:
        settings["retrieved"] = _whole("Nearest", retrieved, least=1) or _NEAREST
        # By their folders, which hold nothing else: a file's own name may have a comma.
        folders = [str(keep_copy(Path(path), workspace.documents).parent) for path in documents or []]
        settings["documents"] = ", ".join(dict.fromkeys(folders)) or None
    own = [name for name in measures or [] if name.endswith(".py")]
    settings |= {"labels": _text(labels), "pattern": _text(pattern), "own_metrics": ", ".join(own) or None}
    settings |= {"probes": _text(probes)}
    return Request(
        others=[workspace.run(name) for name in others or [] if name != run.id],
        suite=_text(suite),
        max_rows=_whole("Maximum test rows", rows, least=1),
        settings={name: value for name, value in settings.items() if value is not None},
    )


def list_runs(
    form: Form, choices: list[tuple[str, str]], chosen: str | None, others: Sequence[str] | None
) -> dict[Any, Any]:
    """New `choices` of runs (name, id); `chosen` is the displayed one."""
    known = [run for _, run in choices]
    return {
        form.run: gr.update(choices=choices, value=chosen),
        # The selected run is included: the selection may change in a moment.
        form.others: gr.update(choices=choices, value=[run for run in others or [] if run in known]),
    }


def _named(measures: Sequence[str] | None) -> list[str]:
    """The measures selected by name. auto stands for the suitable ones, and any name replaces it."""
    return [name for name in measures or [] if name != _AUTO and not name.endswith(".py")]


def _suites() -> list[tuple[str, str]]:
    return [("held out from training", HELD_OUT), *((title, name) for name, title in run_files.sample_titles().items())]


def _measures() -> list[tuple[str, str]]:
    from ftlab.evaluation.metrics.measures import NAMES, describe

    return [(describe(name)["title"], name) for name in NAMES]


def _text(value: str | None) -> str | None:
    return (value or "").strip() or None


def _whole(title: str, value: str | None, *, least: int) -> int | None:
    text = (value or "").strip()
    if not text:
        return None
    if not text.isdigit() or int(text) < least:
        allowed = "a whole number, or empty" if least < 2 else f"a whole number from {least}"
        raise InputError(f"{title} cannot take this value", given=text, allowed=allowed)
    return int(text)


def _list(label: str, name: str, info: str | None, choices: Sequence[Any] = (), **settings: Any) -> gr.Dropdown:
    """A dropdown. Values that are no choice (from a page opened before a restart) are not an error."""
    settings = {"value": None, "allow_custom_value": True} | settings
    return gr.Dropdown(list(choices), label=label, info=info, elem_id=f"evaluate_{name}", **settings)


def _line(label: str, name: str, info: str, value: str = "", **settings: Any) -> gr.Textbox:
    settings = {"max_lines": 1, "scale": 1, "min_width": 190} | settings
    return gr.Textbox(value, label=label, info=info, elem_id=f"evaluate_{name}", **settings)
