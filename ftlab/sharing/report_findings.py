"""What a report finds beside the verdict: what was forgotten, where it is worse, what else was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.drift import kinds_in_words
from ftlab.evaluation.figures import in_sentence, nats, number, percent, value_text
from ftlab.evaluation.forgetting import answer_of, what_was_lost
from ftlab.evaluation.keeping import also_asked
from ftlab.evaluation.metrics.form import label_notes
from ftlab.evaluation.row_changes import LOSS, gain, measured
from ftlab.evaluation.significance import p_text
from ftlab.evaluation.slices import Slice, columns_of, findings, slices
from ftlab.run_directory import RunDirectory
from ftlab.sharing.measures import Comparison, improved, measures_of, sides_of

_KNOWS_TOO_LITTLE = 0.2
_MOST_COLUMNS = 12
_MOST_BESIDE = 3
_ANSWERS = {"kept": ("kept", "good"), "lost": ("lost", "bad"), "unknown": ("cannot tell", "warn")}
_FEWEST_ROWS = 5  # of a slice that is worth a sentence


def badge(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """Colour and word above the verdict."""
    forgot, lost = verdict.get("forgot"), verdict.get("lost") or "forgot"
    if verdict["better"] is None:
        word = (verdict.get("opposed") or "not decided").capitalize()
        return "open", f"{word}; it {lost}" if forgot else word
    if not verdict["better"]:
        return "worse", "Worse than its base"
    if forgot:
        return "open", f"Better, but it {lost}"
    if verdict.get("forgetting") == "unknown":
        return "better", "Better; whether it forgot is open"
    return "better", "Better than its base"


def kept_answer(comparison: Comparison) -> tuple[str, str] | None:
    """What became of what the base knew, as a word and its color (good, bad, warn); None where it was not measured."""
    answer, found = answer_of(comparison), comparison.get("forgetting") or {}
    if answer == "lost" and found.get("parts") and what_was_lost(found) != "forgot":
        return "changed", "bad"
    return _ANSWERS[answer] if answer else None


def kept_rows(comparison: Comparison) -> list[dict[str, str]]:
    """A line for each figure on what was kept: what it was `measured` on, the figures of `base` and `adapted`, and the
    `answer` (kept, changed, lost, cannot tell; empty where the line above gives it)."""
    found = []
    for part in (comparison.get("forgetting") or {}).get("parts") or []:
        word = "changed" if "kl" in part and part["answer"] == "lost" else _ANSWERS[part["answer"]][0]
        answer = word if part.get("decides", True) else f"{word}, does not decide"
        if "kl" in part:
            on = f"{part['prompts']:,} {part['title']}"
            share, kl = (
                f"{text(part[key])} ({' to '.join(map(text, part[f'{key}_interval']))})"
                if part[f"{key}_interval"]
                else text(part[key])
                for key, text in (("agreement", percent), ("kl", nats))
            )
            found.append(_kept_row(f"{on}: same next token as the base", "100%", share, answer))
            found.append(_kept_row(f"{on}: KL to the base, nats a token", "0", kl, ""))
        elif "accuracy" in part:
            sides = (percent(part["accuracy"][side]) for side in ("base", "adapted"))
            found.append(_kept_row(f"{part['asked']:,} {part['title']}: right", *sides, answer))
        elif "bits_per_byte" in part:
            sides = (number(part["bits_per_byte"][side]) for side in ("base", "adapted"))
            on = f"{part['documents']:,} {part['title']}" if "documents" in part else part["title"]
            found.append(_kept_row(f"{on}: bits per byte, lower is better", *sides, answer))
    return found


def _kept_row(measured_on: str, base: str, adapted: str, answer: str) -> dict[str, str]:
    return {"measured": measured_on, "base": base, "adapted": adapted, "answer": answer}


def forgetting(comparison: Comparison) -> str:
    """One paragraph on what the model still knows."""
    if (comparison.get("forgetting") or {}).get("text"):
        return " ".join(filter(None, [comparison["forgetting"]["text"], kinds_in_words(comparison)]))
    base, adapted = comparison["base"], comparison["adapted"]
    before, after = base.get("general_accuracy"), adapted.get("general_accuracy")
    if before is None or after is None:
        return "Not measured: neither the base's own answers nor general questions were compared (evaluation.probes)."
    p = comparison.get("tests", {}).get("general_accuracy")
    evidence = (
        f"{percent(before)} of {adapted['general_rows']:,} general questions right before, {percent(after)} after"
    )
    evidence += f" ({p_text(p)})." if p is not None else "."
    if before < _KNOWS_TOO_LITTLE:
        return f"Cannot be told: the base itself knows too few answers. {evidence}"
    if answer_of(comparison) == "lost":
        return f"The model has forgotten some of what it knew: {evidence}"
    return f"Whether something was forgotten cannot be told from these questions: {evidence}"


def where_worse(comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the adapted model is worse than the first side, in sentences: measures, rows, slices."""
    first = sides_of(comparison)[0]["name"]
    said = []
    for measure in measures_of(comparison):
        if measure["group"] == "task" and improved(measure, "adapted", first) is False:
            values = [value_text(measure, measure["values"][side]) for side in ("adapted", first)]
            said.append(f"{measure['title']} is worse: {values[0]} against {values[1]}.")
    deciding = _deciding(comparison, rows, first)
    if deciding is None:
        return said or ["No measure of the task is shown to be worse."]
    name, title, higher = deciding
    changes = [gain(row, name, (first, "adapted"), higher=higher) for row in rows]
    worse = sum(change is not None and change < 0 for change in changes)
    better = sum(change is not None and change > 0 for change in changes)
    told = sum(change is not None for change in changes)
    said.append(f"By {title}, {worse:,} of {told:,} rows got worse and {better:,} got better.")
    said += label_notes(measures_of(comparison), {"adapted": "the adapted model"})
    return [*said, *_slices(comparison, rows, name, title, higher, first)]


def also_checked(comparison: Comparison) -> list[tuple[str, str]]:
    """Was tuning needed, was it learnt by heart, what did a judge say: pairs of label and text."""
    found = []
    verdicts = comparison.get("verdicts") or {}
    if "adapted_vs_prompted" in verdicts:
        found.append(("Against a prompt", verdicts["adapted_vs_prompted"]["text"]))
    titles = {side["name"]: side["title"] for side in sides_of(comparison)}
    for name in titles:
        if name in verdicts and name not in ("adapted", "prompted"):
            found.append((titles[name], verdicts[name]["text"]))
    memory = comparison.get("memorisation") or {}
    if memory.get("text"):
        found.append(("Learnt by heart?", memory["text"]))
    return found


def asked_beside(run: RunDirectory) -> list[tuple[str, str]]:
    """The newest verdicts on other questions (other rows, a prompted base): what was asked, and the text."""
    found = [(f"Also asked: {asked}", verdict) for _, asked, verdict in also_asked(run) if verdict]
    return found[:_MOST_BESIDE]


def _deciding(comparison: Comparison, rows: Sequence[Mapping[str, Any]], first: str) -> tuple[str, str, bool] | None:
    """Name, title and whether higher is better of the measure that single rows are judged by; None without any."""
    known = measured(rows, [first, "adapted"])
    wanted = (comparison.get("verdict") or {}).get("measure")
    name = wanted if wanted in known else LOSS if LOSS in known else next(iter(known), None)
    if name is None:
        return None
    listed = {one["name"]: one for one in measures_of(comparison)}
    if name not in listed:
        return name, "the loss on the reference" if name == LOSS else name.replace("_", " "), name != LOSS
    return name, in_sentence(listed[name]["title"]), listed[name]["better"] != "lower"


def _slices(
    comparison: Comparison, rows: Sequence[Mapping[str, Any]], name: str, title: str, higher: bool, first: str
) -> list[str]:
    """The slices that got worse, and the weakest one where none did."""
    sides = [first, "adapted"]
    found: list[tuple[str, Slice]] = [
        (column, one)
        for column in columns_of(rows)[:_MOST_COLUMNS]
        for one in slices(rows, column, name, sides)
        if one.rows >= _FEWEST_ROWS
    ]
    if not found:
        return []
    sign = 1 if higher else -1
    # Dozens of slices are looked at: by their own intervals one in forty would fall by chance.
    certain = findings([one for _, one in found], "adapted")
    fallen = [
        pair for pair, sure in zip(found, certain, strict=True) if sure and sign * pair[1].differences["adapted"] < 0
    ]
    looked = f"Of {len(found)} slices by {', '.join(dict.fromkeys(column for column, _ in found))}"
    if fallen:
        return [
            f"{looked}, {len(fallen)} got worse by more than chance explains.",
            *(
                f"Where {column} is {one.value} ({one.rows} rows), {title} got worse: "
                f"{_text(comparison, name, one, 'adapted')} against {_text(comparison, name, one, first)}."
                for column, one in fallen[:2]
            ),
        ]
    column, weakest = min(found, key=lambda pair: sign * pair[1].means["adapted"])
    none = f"{looked}, none is shown to be worse."
    if not _is_share(comparison, name):
        return [none]
    value = _text(comparison, name, weakest, "adapted")
    return [f"{none} The weakest: where {column} is {weakest.value}, {title} is {value} of {weakest.rows} rows."]


def _text(comparison: Comparison, name: str, one: Slice, side: str) -> str:
    measure = next((found for found in measures_of(comparison) if found["name"] == name), None)
    return value_text(measure or {"kind": "loss"}, one.means[side])


def _is_share(comparison: Comparison, name: str) -> bool:
    return any(one["name"] == name and one["kind"] == "share" for one in measures_of(comparison))
