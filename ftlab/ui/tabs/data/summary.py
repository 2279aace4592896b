"""The Data tab's summary of the chosen data: one sentence, three rows, what training adds; all else is collapsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftlab.config import STARTER, DataConfig
from ftlab.core.words import counted
from ftlab.data.cells import likely_texts
from ftlab.data.formats import PREFERENCES
from ftlab.data.shapes import is_trained
from ftlab.data.tool_calls import TOOL, TOOLS
from ftlab.errors import InputError, shorten
from ftlab.ui.kit.html import count, facts, heading, join, list_items, percent
from ftlab.ui.run_names import source_title

WELCOME = Markup(
    '<h2 class="ft-welcome">Teach a language model your task</h2>'
    "<p>Bring a few hundred examples: what people ask, and the right answer.</p>"
    "<p>ftlab trains a model on them and measures, on held-back examples, whether it got better.</p>"
)
TRY_IT = heading("Try it", "Two minutes, nothing to download: a small model learns to sort support messages.")
YOUR_FILE = heading("Your file", "A table, JSON lines or plain text, with at least a few dozen rows.")
_HELD = {"train": "to learn from", "validation": "to check", "test": "to test"}
_ROWS, _TRIED, _CHARACTERS = 3, 20, 240


def sentence(inspection: Any) -> Markup:
    """What the model learns from, and how many rows serve each purpose."""
    from ftlab.data.inspection import WHOLE

    title = Markup('<h2 class="ft-h">{}</h2>').format(source_title(inspection.name))
    if inspection.problem or not inspection.detected:
        rows = (
            f"{counted(inspection.rows, 'row')}, {counted(len(inspection.columns), 'column')}."
            if inspection.rows
            else ""
        )
        return title + Markup("<p>{}</p>").format(rows)
    if inspection.rows > WHOLE:
        sizes = f"{counted(inspection.rows, 'row')}; some are held back when training starts"
    else:
        sizes = ", ".join(f"{count(size)} {_HELD.get(name, name)}" for name, size in inspection.splits.items() if size)
    left_out = sum(inspection.dropped.values())
    why = f" {count(left_out)} left out: {'; '.join(inspection.dropped)}." if left_out else ""
    return title + Markup('<p class="ft-lead" id="data_sentence">{}: {}.{}</p>').format(
        _task(inspection.detected), sizes, why
    )


def _task(detected: Any) -> Markup:
    roles = detected.columns

    def of(*parts: str) -> Markup:
        names = [roles[part] for part in parts if part in roles]
        return join((Markup("<strong>{}</strong>").format(name) for name in names), " and ")

    if detected.format == "text":
        return Markup("Plain text in {}").format(of("text"))
    if "messages" in roles:
        judged = Markup(", judged by {}").format(of("label")) if "label" in roles else Markup("")
        return Markup("Conversations in {}{}").format(of("messages"), judged)
    if detected.format == "comparison":
        asked = Markup("{} to ").format(of("prompt")) if "prompt" in roles else Markup("")
        return Markup("{}the better of {}").format(asked, of("first", "second"))
    if detected.format in PREFERENCES:
        asked = Markup("{} to ").format(of("prompt")) if "prompt" in roles else Markup("")
        return Markup("{}{} rather than {}").format(asked, of("chosen"), of("rejected"))
    if detected.format == "classification":
        return Markup("{} to its {}").format(of("text"), of("label"))
    if detected.template and "prompt" not in roles:
        return Markup("Your template to {}").format(of("completion"))
    judged = Markup(", judged by {}").format(of("label")) if "label" in roles else Markup("")
    asked = of("prompt", "input") + Markup(" with its choices" if detected.choices else "")
    return Markup("{} to {}{}").format(asked, of("completion"), judged)


def bubbles(inspection: Any) -> Markup:
    """The first three usable rows, as question and answer."""
    pairs: list[Markup] = []
    for row in range(min(_TRIED, inspection.source_splits.get(_main(inspection), 0))):
        if inspection.problem or len(pairs) == _ROWS:
            break
        try:
            turns = inspection.messages(row)
        except InputError:
            continue
        spoken = [turn for turn in turns if turn["role"] not in ("system", TOOLS)]
        # From the last question on: tool calls and their replies are between it and the answer.
        last = max((at for at, turn in enumerate(spoken) if turn["role"] == "user"), default=len(spoken) - 2)
        pairs.append(
            join(_bubble(turn["role"], turn["content"], trained=is_trained(turn)) for turn in spoken[last:])
            + _rejected(inspection, row)
        )
    if not pairs:
        return Markup("")
    rows = join(Markup('<li class="ft-pair">{}</li>').format(pair) for pair in pairs)
    return Markup('<ul class="ft-bubbles ft-content" aria-label="The first rows">{}</ul>').format(rows)


def _bubble(role: str, text: str, name: str = "", *, trained: bool = True) -> Markup:
    names = {"user": "Prompt", "assistant": "Call" if "<tool_call>" in text else "Answer", TOOL: "Reply of the tool"}
    name = (name or names.get(role, "Text")) + ("" if trained else ", not trained")
    return Markup(
        '<div class="ft-bubble ft-of-{}"><span class="ft-pane-name">{}</span><div class="ft-text">{}</div></div>'
    ).format(role, name, shorten(text.strip(), _CHARACTERS))


def _rejected(inspection: Any, row: int) -> Markup:
    worse = inspection.row(row).get(inspection.detected.columns.get("rejected", ""))
    turns = worse[-1:] if isinstance(worse, list) else [worse]
    texts = [turn.get("content") or turn.get("value") if isinstance(turn, dict) else turn for turn in turns]
    return join(_bubble("rejected", text, "Rejected answer") for text in texts if isinstance(text, str))


def _main(inspection: Any) -> str:
    return "train" if "train" in inspection.source_splits else next(iter(inspection.source_splits), "")


def mixed_in(inspection: Any, base: str | None) -> Markup:
    """What training adds to these rows, unless changed on the Train tab."""
    if inspection is None or inspection.problem or inspection.format in (*PREFERENCES, "kto"):
        return Markup("")
    if (base or STARTER) == STARTER:
        usual, own = DataConfig(), inspection.splits.get("train", 0)
        examples, documents = (
            max(1, round(share * own)) for share in (usual.replay_fraction, usual.replay_text_fraction)
        )
        added = f"up to {count(examples)} general examples and {count(documents)} general documents"
    else:
        added = "answers of the base itself"
    return Markup('<p class="ft-help">Training mixes in {} to keep what the model already knows.</p>').format(added)


def details(inspection: Any, config: DataConfig) -> Markup:
    """Rows, columns, format and why, splits, lengths and notes."""
    from ftlab.samples import list_samples

    about = next((sample.description for sample in list_samples() if sample.name == config.source), "")
    numbers = facts(
        [("Rows", count(inspection.rows), "in the source")]
        + [(name.capitalize(), counted(size, "row"), _HELD.get(name, "")) for name, size in inspection.splits.items()]
    )
    columns = join((Markup("<code>{}</code>").format(name) for name in inspection.columns), " ")
    left_out = [f"{counted(rows, 'row')} left out: {reason}" for reason, rows in inspection.dropped.items()]
    notes = list_items([*left_out, *inspection.notes])
    lines = [Markup("<p><strong>Columns:</strong> {}</p>").format(columns)]
    if inspection.format:
        sure = "" if inspection.detected.is_guess else f", {percent(inspection.confidence, 0)} sure"
        lines.append(
            Markup("<p><strong>Format:</strong> {}{}: {}.</p>").format(
                inspection.format.replace("_", " "), sure, inspection.why.rstrip(".")
            )
        )
    if inspection.examples:
        lines.append(Markup("<p><strong>Length:</strong> {}</p>").format(_lengths(inspection)))
    return Markup('<section class="ft-card">{}{}{}{}</section>').format(
        heading(Path(inspection.name).name, about),
        numbers,
        join(lines),
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
    )


def _lengths(inspection: Any) -> str:
    answers = f"{inspection.mean_answer_characters:,.0f}"
    if inspection.format == "text":
        return (
            f"{answers} characters of text on average. Every token is trained (continued pretraining). To train "
            "answers to prompts, choose the columns above."
        )
    return f"{inspection.mean_prompt_characters:,.0f} characters of prompt and {answers} of answer on average."


def column_choices(inspection: Any) -> list[tuple[str, str]]:
    """The columns with an example of each, text columns first."""
    rows = inspection.page(0, _TRIED)
    likely = likely_texts(inspection.columns, rows)
    ordered = [*likely, *(name for name in inspection.columns if name not in likely)]
    examples = {name: next((row[name] for row in rows if row[name].strip()), "") for name in ordered}
    return [(f"{name}: {shorten(examples[name], 60)}" if examples[name] else name, name) for name in ordered]


def other_text(inspection: Any, column: str) -> str | None:
    """The only other text column, if `column` is one of two."""
    likely = likely_texts(inspection.columns, inspection.page(0, _TRIED))
    others = [name for name in likely if name != column]
    return others[0] if len(others) == 1 else None
