"""What the Data tab says of the chosen data: one sentence, three rows, what training adds; folded, all the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftlab.config import STARTER, DataConfig
from ftlab.data.conversion import likely_texts
from ftlab.data.formats import PREFERENCES
from ftlab.data.tool_calls import TOOL, TOOLS
from ftlab.errors import InputError, shorten
from ftlab.ui.kit.html import count, facts, heading, join, list_items, percent
from ftlab.ui.run_names import source_title

WELCOME = Markup(
    '<h2 class="ft-welcome">Teach a language model your task</h2>'
    "<p>Bring a few hundred examples of what people ask and what the answer should be.</p>"
    "<p>ftlab trains a model on them, and measures on examples held back whether it got better.</p>"
)
TRY_IT = heading("Try it", "Two minutes, nothing to download: a small model learns to sort support messages.")
YOUR_FILE = heading("Your file", "A table, JSON lines or plain text, with a few dozen rows at least.")
_HELD = {"train": "to learn from", "validation": "to check", "test": "to test"}
_ROWS, _TRIED, _CHARACTERS = 3, 20, 240


def sentence(found: Any) -> Markup:
    """What is learned from what, and how many rows of it are for what."""
    from ftlab.data.inspection import WHOLE

    title = Markup('<h2 class="ft-h">{}</h2>').format(source_title(found.name))
    if found.problem or not found.detected:
        rows = f"{count(found.rows)} rows, {count(len(found.columns))} columns." if found.rows else ""
        return title + Markup("<p>{}</p>").format(rows)
    if found.rows > WHOLE:
        sizes = f"{count(found.rows)} rows; some are held back when training starts"
    else:
        sizes = ", ".join(f"{count(size)} {_HELD.get(name, name)}" for name, size in found.splits.items() if size)
    left_out = sum(found.dropped.values())
    why = f" {count(left_out)} left out: {'; '.join(found.dropped)}." if left_out else ""
    return title + Markup('<p class="ft-lead" id="data_sentence">{}: {}.{}</p>').format(
        _task(found.detected), sizes, why
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
    return Markup("{} to {}{}").format(of("prompt", "input"), of("completion"), judged)


def bubbles(found: Any) -> Markup:
    """The first three rows that can be used, as they are asked and answered."""
    shown: list[Markup] = []
    for row in range(min(_TRIED, found.source_splits.get(_main(found), 0))):
        if found.problem or len(shown) == _ROWS:
            break
        try:
            turns = found.messages(row)
        except InputError:
            continue
        said = [turn for turn in turns if turn["role"] not in ("system", TOOLS)]
        # From the last question on: calls and what the tools reply stand between it and the answer.
        last = max((at for at, turn in enumerate(said) if turn["role"] == "user"), default=len(said) - 2)
        shown.append(join(_bubble(turn["role"], turn["content"]) for turn in said[last:]) + _rejected(found, row))
    if not shown:
        return Markup("")
    rows = join(Markup('<li class="ft-pair">{}</li>').format(pair) for pair in shown)
    return Markup('<ul class="ft-bubbles ft-content" aria-label="The first rows">{}</ul>').format(rows)


def _bubble(role: str, text: str, name: str = "") -> Markup:
    names = {"user": "Prompt", "assistant": "Call" if "<tool_call>" in text else "Answer", TOOL: "Reply of the tool"}
    name = name or names.get(role, "Text")
    return Markup(
        '<div class="ft-bubble ft-of-{}"><span class="ft-pane-name">{}</span><div class="ft-text">{}</div></div>'
    ).format(role, name, shorten(text.strip(), _CHARACTERS))


def _rejected(found: Any, row: int) -> Markup:
    worse = found.row(row).get(found.detected.columns.get("rejected", ""))
    turns = worse[-1:] if isinstance(worse, list) else [worse]
    texts = [one.get("content") or one.get("value") if isinstance(one, dict) else one for one in turns]
    return join(_bubble("rejected", text, "Rejected answer") for text in texts if isinstance(text, str))


def _main(found: Any) -> str:
    return "train" if "train" in found.source_splits else next(iter(found.source_splits), "")


def mixed_in(found: Any, base: str | None) -> Markup:
    """What training adds to these rows unless somebody says otherwise on the Train tab."""
    if found is None or found.problem or found.format in (*PREFERENCES, "kto"):
        return Markup("")
    if (base or STARTER) == STARTER:
        usual, own = DataConfig(), found.splits.get("train", 0)
        examples, documents = (
            max(1, round(share * own)) for share in (usual.replay_fraction, usual.replay_text_fraction)
        )
        added = f"up to {count(examples)} general examples and {count(documents)} general documents"
    else:
        added = "answers of the base itself"
    return Markup('<p class="ft-help">Training mixes in {}, so that the model keeps what it knows.</p>').format(added)


def details(found: Any, config: DataConfig) -> Markup:
    """Rows, columns, format and why, splits, lengths and notes."""
    from ftlab.samples import list_samples

    about = next((sample.description for sample in list_samples() if sample.name == config.source), "")
    numbers = facts(
        [("Rows", count(found.rows), "in the source")]
        + [(name.capitalize(), f"{count(size)} rows", _HELD.get(name, "")) for name, size in found.splits.items()]
    )
    columns = join((Markup("<code>{}</code>").format(name) for name in found.columns), " ")
    left_out = [f"{count(rows)} rows left out: {reason}" for reason, rows in found.dropped.items()]
    notes = list_items([*left_out, *found.notes])
    lines = [Markup("<p><strong>Columns:</strong> {}</p>").format(columns)]
    if found.format:
        sure = "" if found.detected.is_guess else f", {percent(found.confidence, 0)} sure"
        lines.append(
            Markup("<p><strong>Format:</strong> {}{}: {}.</p>").format(
                found.format.replace("_", " "), sure, found.why.rstrip(".")
            )
        )
    if found.examples:
        lines.append(Markup("<p><strong>Length:</strong> {}</p>").format(_lengths(found)))
    return Markup('<section class="ft-card">{}{}{}{}</section>').format(
        heading(Path(found.name).name, about),
        numbers,
        join(lines),
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
    )


def _lengths(found: Any) -> str:
    answers = f"{found.mean_answer_characters:,.0f}"
    if found.format == "text":
        return (
            f"{answers} characters of text on average. Every token of it is trained (continued pretraining). For "
            "answers to prompts, choose the columns above."
        )
    return f"{found.mean_prompt_characters:,.0f} characters of prompt and {answers} of answer on average."


def column_choices(found: Any) -> list[tuple[str, str]]:
    """The columns with an example of each, those that hold texts first."""
    rows = found.page(0, _TRIED)
    likely = likely_texts(found.columns, rows)
    ordered = [*likely, *(name for name in found.columns if name not in likely)]
    examples = {name: next((row[name] for row in rows if row[name].strip()), "") for name in ordered}
    return [(f"{name}: {shorten(examples[name], 60)}" if examples[name] else name, name) for name in ordered]


def other_text(found: Any, column: str) -> str | None:
    """The only other column that holds texts, where `column` is one of two."""
    likely = likely_texts(found.columns, found.page(0, _TRIED))
    others = [name for name in likely if name != column]
    return others[0] if len(others) == 1 else None
