"""The findings of a report in sentences: gains and losses, answers before and after, judge verdicts, examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftlab.core.comparison import VerdictJson, decided_by, parts_of
from ftlab.core.endpoint import money
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import BeforeAfterJson, JudgementJson, RewardVerdictJson
from ftlab.core.words import counted
from ftlab.evaluation.before_after import CONTESTANTS
from ftlab.evaluation.drift import kinds_in_words
from ftlab.evaluation.figures import in_sentence, nats, number, percent, value_text
from ftlab.evaluation.forgetting import KNEW, answer_of, kept_word
from ftlab.evaluation.judge import is_current
from ftlab.evaluation.keeping import also_asked
from ftlab.evaluation.metrics.form import label_notes
from ftlab.evaluation.rows import LOSS, Slice, columns_of, findings, gain, measured, slices
from ftlab.evaluation.significance import p_text
from ftlab.report.measures import Comparison, improved, measures_of, sides_of

_KNOWS_TOO_LITTLE = 0.2
_MOST_COLUMNS = 12
_MOST_BESIDE = 3
_COLORS = {"kept": "good", "lost": "bad", "unknown": "warn"}
_FEWEST_ROWS = 5  # of a slice for it to be mentioned


def badge(verdict: VerdictJson) -> tuple[str, str]:
    """Color and word above the verdict."""
    forgot = verdict.get("forgot")
    lost = f"{KNEW}: {'lost' if verdict.get('lost', 'forgot') == 'forgot' else 'changed'}"
    if verdict["better"] is None:
        if (judged := verdict.get("no_worse")) and judged["no_worse"] and not forgot:
            return "better", f"No worse than its base, within {judged['margin']:g} points"
        word = (verdict.get("opposed") or "not decided").capitalize()
        return "open", f"{word}; {lost}" if forgot else word
    if not verdict["better"]:
        return "worse", "Worse than its base"
    if forgot:
        return "open", f"Better; {lost}"
    if verdict.get("forgetting") == "unknown":
        return "better", f"Better; {KNEW}: cannot tell"
    return "better", "Better than its base"


def kept_answer(comparison: Comparison) -> tuple[str, str] | None:
    """What became of the base's knowledge, as a word and its color (good, bad, warn). None if not measured."""
    answer = answer_of(comparison)
    return (kept_word(answer, comparison.get("forgetting")), _COLORS[answer]) if answer else None


def kept_rows(comparison: Comparison) -> list[dict[str, str]]:
    """A line for each figure on what was kept: what it was `measured` on, the figures of `base` and `adapted`, and the
    `answer` (kept, changed, lost, cannot tell; empty if the line above gives it)."""
    rows = []
    for part in parts_of(comparison):
        word = "changed" if "kl" in part and part["answer"] == "lost" else kept_word(part["answer"], None)
        answer = word if part.get("decides", True) else f"{word}, does not decide"
        if "kl" in part:
            on = f"{part['prompts']:,} {part['title']}"
            share = _with_interval(percent, part["agreement"], part["agreement_interval"])
            kl = _with_interval(nats, part["kl"], part["kl_interval"])
            rows.append(_kept_row(f"{on}: same next token as the base", "100%", share, answer))
            rows.append(_kept_row(f"{on}: KL to the base, nats a token", "0", kl, ""))
        elif "accuracy" in part:
            base, adapted = (percent(part["accuracy"][side]) for side in ("base", "adapted"))
            rows.append(_kept_row(f"{part['asked']:,} {part['title']}: right", base, adapted, answer))
        elif "bits_per_byte" in part:
            base, adapted = (number(part["bits_per_byte"][side]) for side in ("base", "adapted"))
            on = f"{part['documents']:,} {part['title']}" if "documents" in part else part["title"]
            rows.append(_kept_row(f"{on}: bits per byte, lower is better", base, adapted, answer))
    return rows


def _with_interval(text: Callable[[float], str], value: float, interval: list[float] | None) -> str:
    return f"{text(value)} ({' to '.join(map(text, interval))})" if interval else text(value)


def _kept_row(measured_on: str, base: str, adapted: str, answer: str) -> dict[str, str]:
    return {"measured": measured_on, "base": base, "adapted": adapted, "answer": answer}


def forgetting(comparison: Comparison) -> str:
    """One paragraph on what the model still knows."""
    if (scored := comparison.get("forgetting")) and scored.get("text"):
        return " ".join(filter(None, [scored["text"], kinds_in_words(comparison)]))
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
        return f"Inconclusive: the base itself knows too few answers. {evidence}"
    if answer_of(comparison) == "lost":
        return f"The model has forgotten some of what it knew: {evidence}"
    return f"These questions cannot show whether anything was forgotten: {evidence}"


def where_worse(comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the adapted model is worse than the first side, in sentences: measures, rows, slices."""
    first = sides_of(comparison)[0]["name"]
    sentences = []
    for measure in measures_of(comparison):
        if measure["group"] == "task" and improved(measure, "adapted", first) is False:
            values = [value_text(measure, measure["values"][side]) for side in ("adapted", first)]
            sentences.append(f"{measure['title']} is worse: {values[0]} against {values[1]}.")
    deciding = _deciding(comparison, rows, first)
    if deciding is None:
        return sentences or ["No task measure is shown to be worse."]
    name, title, higher = deciding
    changes = [gain(row, name, (first, "adapted"), higher=higher) for row in rows]
    worse = sum(change is not None and change < 0 for change in changes)
    better = sum(change is not None and change > 0 for change in changes)
    compared = sum(change is not None for change in changes)
    sentences.append(f"By {title}, {worse:,} of {compared:,} rows got worse and {better:,} got better.")
    sentences += label_notes(measures_of(comparison), {"adapted": "the adapted model"})
    return [*sentences, *_slices(comparison, rows, name, title, higher, first)]


def also_checked(comparison: Comparison) -> list[tuple[str, str]]:
    """Was tuning needed, was anything memorized, what did a judge say: pairs of label and text."""
    lines = []
    verdicts = comparison.get("verdicts") or {}
    sides = {side["name"]: side for side in sides_of(comparison)}
    for name, verdict in verdicts.items():
        if name in ("adapted_retrieved_vs_retrieved", "adapted_retrieved_vs_prompted"):
            continue  # covered by the sentence on which of them to use
        rival = name.removeprefix("adapted_vs_")
        if rival != name:
            against = "a prompt" if rival == "prompted" else sides[rival]["title"] if rival in sides else rival
            lines.append((f"Against {against}", verdict["text"]))
        elif "_vs_" in name:
            first, _, second = name.partition("_vs_")
            titles = [sides[side]["title"] if side in sides else side for side in (first, second)]
            lines.append((f"{titles[0]} against {titles[1].lower()}", verdict["text"]))
    for name, side in sides.items():
        # A side that the adapted model was compared with directly needs no second line against the base.
        if name in verdicts and name != "adapted" and f"adapted_vs_{name}" not in verdicts:
            lines.append((side["title"], verdicts[name]["text"]))
    memory = comparison.get("memorisation")
    if memory and memory.get("text"):
        lines.append(("Memorization", memory["text"]))
    return lines


def asked_beside(run: RunDirectory) -> list[tuple[str, str]]:
    """The newest verdicts on other questions (other rows, a prompted base): the question, and the text."""
    verdicts = [(f"Also asked: {asked}", verdict) for _, asked, verdict in also_asked(run) if verdict]
    return verdicts[:_MOST_BESIDE]


def _deciding(comparison: Comparison, rows: Sequence[Mapping[str, Any]], first: str) -> tuple[str, str, bool] | None:
    """Name, title and whether higher is better of the measure used to judge single rows. None if there is none."""
    known = measured(rows, [first, "adapted"])
    wanted = decided_by(comparison)
    name = wanted if wanted in known else LOSS if LOSS in known else next(iter(known), None)
    if name is None:
        return None
    listed = {measure["name"]: measure for measure in measures_of(comparison)}
    if name not in listed:
        return name, "the loss on the reference" if name == LOSS else name.replace("_", " "), name != LOSS
    return name, in_sentence(listed[name]["title"]), listed[name]["better"] != "lower"


def _slices(
    comparison: Comparison, rows: Sequence[Mapping[str, Any]], name: str, title: str, higher: bool, first: str
) -> list[str]:
    """The slices that got worse, or if none did, the weakest one."""
    sides = [first, "adapted"]
    parts: list[tuple[str, Slice]] = [
        (column, part)
        for column in columns_of(rows)[:_MOST_COLUMNS]
        for part in slices(rows, column, name, sides)
        if part.rows >= _FEWEST_ROWS
    ]
    if not parts:
        return []
    sign = 1 if higher else -1
    # There are dozens of slices: by unadjusted intervals, one in forty would fall by chance.
    certain = findings([part for _, part in parts], "adapted")
    fallen = [
        pair for pair, sure in zip(parts, certain, strict=True) if sure and sign * pair[1].differences["adapted"] < 0
    ]
    looked = f"Of {len(parts)} slices by {', '.join(dict.fromkeys(column for column, _ in parts))}"
    if fallen:
        return [
            f"{looked}, {len(fallen)} got worse by more than chance explains.",
            *(
                f"Where {column} is {part.value} ({counted(part.rows, 'row')}), {title} got worse: "
                f"{_text(comparison, name, part, 'adapted')} against {_text(comparison, name, part, first)}."
                for column, part in fallen[:2]
            ),
        ]
    column, weakest = min(parts, key=lambda pair: sign * pair[1].means["adapted"])
    none = f"{looked}, none got worse by more than chance explains."
    if not _is_share(comparison, name):
        return [none]
    value = _text(comparison, name, weakest, "adapted")
    return [
        f"{none} The weakest: where {column} is {weakest.value}, {title} is {value} of {counted(weakest.rows, 'row')}."
    ]


def _text(comparison: Comparison, name: str, part: Slice, side: str) -> str:
    measure = next((entry for entry in measures_of(comparison) if entry["name"] == name), None)
    return value_text(measure or {"kind": "loss"}, part.means[side])


def _is_share(comparison: Comparison, name: str) -> bool:
    return any(measure["name"] == name and measure["kind"] == "share" for measure in measures_of(comparison))


HEADINGS = ("Answers of", "Words", "Tokens", "Cut off", "Repeated", "Variety")
# The meaning of each figure, in the order of the columns.
MEANINGS = (
    "Words, tokens: the mean length of an answer.",
    "Cut off: hit the length limit.",
    "Repeated: word triples that occurred before in the same answer.",
    "Variety: distinct word pairs among all pairs of all answers. It falls as answers become alike.",
)


def figure_rows(result: BeforeAfterJson) -> list[list[str]]:
    """The table of before_after.json: headings, then a row each for base, start and run."""
    rows = [list(HEADINGS)]
    for name, title in CONTESTANTS.items():
        if name in result["contestants"]:
            figures = result["contestants"][name]
            rows.append(
                [
                    title,
                    f"{figures['words']:.1f}",
                    f"{figures['tokens']:.1f}",
                    percent(figures["cut_share"]),
                    percent(figures["repetition"]),
                    percent(figures["distinct_2"]),
                ]
            )
    return rows


def win_lines(result: BeforeAfterJson) -> list[str]:
    """One sentence for each reward model and opponent, each marked as a proxy, and why the judge may be biased."""
    return [line for judged in result["win_rates"].values() for line in lines_of(judged)]


def lines_of(judged: RewardVerdictJson) -> list[str]:
    """The sentences on the verdict of one reward model."""
    lines = []
    for name in ("start", "base"):
        if name not in judged["against"]:
            continue
        figures, against = judged["against"][name], CONTESTANTS[name]
        decided = figures["wins"] + figures["losses"]
        low, high = figures["difference_interval"]
        tested = f", {p_text(figures['difference_p'])}" if "difference_p" in figures else ""
        scores = f"Its score is {figures['difference']:+.3g} on average ({low:+.3g} to {high:+.3g}{tested})."
        rate, interval = figures["win_rate"], figures["interval"]
        if rate is None or interval is None:
            lines.append(f"Against {against}: all {figures['ties']} answers score the same.")
            continue
        share, (least, most) = percent(rate), map(percent, interval)
        sign = f", {p_text(figures['p'])}" if "p" in figures else ""
        lines.append(
            f"Against {against}: this run wins {share} of {decided} prompts (95% interval {least} to {most}{sign}), "
            f"with {figures['ties']} ties. {scores}"
        )
    return [*lines, f"Judged by {judged['reward_model']}. {judged['proxy']}", *judged["notes"]]


STALE = "The answers have changed since. Judge them again."


def judgements_of(run: RunDirectory) -> list[tuple[str, str]]:
    """The last two judge verdicts on the current answers, as pairs of label and text."""
    current = [judgement for judgement in run.judgements() if is_current(run, judgement)]
    return [
        (f"Judged by {judgement['judge']['model']}", f"{judgement['text']} {judgement['proxy']}")
        for judgement in current[:2]
    ]


def judge_lines(judgement: JudgementJson, *, current: bool = True) -> list[str]:
    """The sentences on one judgment: its verdict first, then who judged and how far it can be trusted."""
    place, tokens = judgement["position"], judgement["tokens"]
    decided = f"{judgement['judged']} of {judgement['rows']} rows"
    same = f", {judgement['same_answers']} of them with equal answers" if judgement["same_answers"] else ""
    lines = [judgement["text"]]
    if not current:
        lines.append(STALE)
    lines.append(
        f"Judged by {judgement['judge']['model']} at {judgement['judge']['url']}: {decided}{same}. {judgement['proxy']}"
    )
    if place["share"] is not None:
        lines.append(
            f"Asked in both orders, it made the same choice in {percent(place['share'])} of {place['rows']} rows."
        )
    spent = (
        f"{counted(judgement['requests'], 'request')}, {tokens['prompt']:,} tokens out, {tokens['completion']:,} back"
    )
    if judgement["cost"] is not None:
        spent += f": {money(judgement['cost'])}"
    return [*lines, f"{spent}.", *judgement["notes"]]


def judge_figures(judgement: JudgementJson) -> list[tuple[str, str]]:
    """Wins, ties and losses as a small table."""
    before, after = (judgement["titles"][side] for side in judgement["sides"])
    return [
        (f"{after} is better", str(judgement["wins"])),
        ("Tie", str(judgement["ties"])),
        (f"{before} is better", str(judgement["losses"])),
    ]


_EXAMPLES = 5
_KINDS = ("improved", "got worse", "wrong on both sides", "right on both sides")
_PARTLY = "equally often right on both sides"  # of several answers


def choose_examples(predictions: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """A mix of rows that improved, got worse and stayed, each with its `kind`, and the rule in words.

    The rule uses only the order of the rows, so that nobody can choose flattering ones. For free text, where hardly any
    answer equals its reference, it uses the change in loss instead.
    """
    of_texts = bool(predictions) and "document" in predictions[0]
    right = 0 if of_texts else sum(row["base_correct"] or row["adapted_correct"] for row in predictions)
    if of_texts or right < 0.05 * len(predictions):
        ranked = sorted(predictions, key=lambda row: row["adapted_loss"] - row["base_loss"])
        last = len(ranked) - 1
        places = sorted({round(i * last / (_EXAMPLES - 1)) for i in range(_EXAMPLES)})
        chosen = [ranked[place] | {"kind": _loss_kind(ranked[place])} for place in places]
        what = "document" if of_texts else "reference"
        return chosen, f"From the greatest gain to the greatest loss in the probability of the {what}, evenly spaced."
    kinds = [*_KINDS, *([_PARTLY] if any("right" in row for row in predictions) else [])]
    by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for row in predictions:
        by_kind[_kind(row)].append(row | {"kind": _kind(row)})
    counts = ", ".join(f"{len(rows):,} {kind}" for kind, rows in by_kind.items())
    wanted = ["improved", "got worse", "wrong on both sides", "improved", "got worse", "right on both sides"]
    wanted += [kind for kind in kinds for _ in range(_EXAMPLES)]
    chosen = []
    for kind in wanted:
        taken = sum(row["kind"] == kind for row in chosen)
        if len(chosen) < _EXAMPLES and taken < len(by_kind[kind]):
            chosen.append(by_kind[kind][taken])
    chosen.sort(key=lambda row: kinds.index(row["kind"]))
    return chosen, f"Of the rows, {counts}. The first of each kind are shown, in data order."


def right_text(row: dict[str, Any], side: str) -> str:
    """How many of several answers to this row are right, in parentheses after the side. Empty if there is only one."""
    right = (row.get("right") or {}).get(side)
    return "" if right is None else f" (first of {row['samples']} answers, {right} right)"


def _kind(row: dict[str, Any]) -> str:
    if "right" in row:
        before, after = row["right"]["base"], row["right"]["adapted"]
        if before == after:
            return {0: "wrong on both sides", row["samples"]: "right on both sides"}.get(before, _PARTLY)
        return "improved" if after > before else "got worse"
    if row["base_correct"] == row["adapted_correct"]:
        return "right on both sides" if row["base_correct"] else "wrong on both sides"
    return "improved" if row["adapted_correct"] else "got worse"


def _loss_kind(row: dict[str, Any]) -> str:
    change = row["adapted_loss"] - row["base_loss"]
    word = "improved" if change < 0 else "got worse" if change > 0 else "unchanged"
    return f"{word}: loss {row['base_loss']:.2f} to {row['adapted_loss']:.2f}"
