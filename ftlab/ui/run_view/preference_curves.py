"""Views of a run that learns from preferences: charts in reading order, each with a sentence on how to read it and a
warning if something goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ftlab.config.stages import JUDGED_STAGES, STAGES
from ftlab.core.run_results import PreferencesJson
from ftlab.evaluation.significance import LEVEL, p_text
from ftlab.report.charts import Series, metric_points, plot, run_curves
from ftlab.training.signs import Sign, read_preference_signs
from ftlab.training.status import RunStatus
from ftlab.ui.kit.html import count, details, duration, facts, join, list_items, notice, percent, short

# Below this margin, both answers are as likely as before: the model has not moved, and the winner is rounding noise.
_TIE = 1e-3
_ENOUGH = 3  # validations that make a curve


def pictures(metrics: list[dict[str, Any]], stage: str, total_steps: int | None = None) -> tuple[Markup, Markup]:
    """The main chart of a run that learns from preferences by `stage`, and the others."""
    scores = not STAGES[stage].answers
    signs = {sign.code: sign for sign in read_preference_signs(metrics)}
    learned = decided(metrics)

    def chart(key: str, title: str, unit: str, how: str, *codes: str, scale: float = 1.0) -> Markup:
        series = [
            Series("training", _scaled(metric_points(learned, key), scale), "a"),
            Series("validation", _scaled(metric_points(learned, f"eval_{key}"), scale), "b", dots=True),
        ]
        present = [signs[code] for code in codes if code in signs]
        return reading(series, title, unit, how, present, total_steps, always=key == "accuracy")

    parts = []
    if stage not in JUDGED_STAGES or metric_points(metrics, "eval_accuracy"):
        parts.append(
            chart("accuracy", "Preference accuracy", "% of pairs", _HOW["accuracy"], "coin", "by heart", scale=100)
        )
    unit = "difference of scores" if scores else "difference of rewards"
    parts.append(chart("margin", "Reward margin", unit, _HOW["margin"]))
    how = _HOW["scores" if scores else "rewards" if STAGES[stage].reference else "likelihoods"]
    parts.append(_sides(metrics, "reward", "Rewards", "reward", how, [], total_steps))
    collapsed = [signs["collapse"]] if "collapse" in signs else []
    parts.append(_sides(metrics, "logp", "Log probabilities", "nats per answer", _HOW["logps"], collapsed, total_steps))
    if metric_points(metrics, "kl"):
        parts.append(chart("kl", "Distance from the start", "KL, nats per answer", _HOW["kl"], "kl"))
    more = details("Loss, learning rate and speed", run_curves(metrics, total_steps))
    first, *others = filter(None, parts)
    return first, Markup('<div class="ft-readings">{}{}</div>').format(join(others), more)


_HOW = {
    "accuracy": "The share of pairs where the model prefers the chosen answer. 50% is a coin toss. It should rise; "
    "watch validation, since the model never trains on those pairs.",
    "margin": "How far the chosen answer is ahead of the rejected one. It should rise, then level off. A margin that "
    "keeps growing means the pairs are being memorized.",
    "rewards": "How much more likely each side has become since the start. The chosen answers should end above the "
    "rejected ones. Both often sink a little, which is fine as long as the rejected ones sink more.",
    # Without a reference there is no starting point to compare with.
    "likelihoods": "How likely the model is to write each side, times beta. The chosen answers should end above the "
    "rejected ones.",
    "scores": "The mean score of each side. Only the gap between the lines matters. It should grow, then level off.",
    "logps": "How likely the model is to write each side word for word. Closer to 0 is likelier. The chosen answers "
    "should stay near where they began.",
    "kl": "How far the model has moved from where it started. Some distance is needed to learn; it should level off.",
}


def reading(
    series: Sequence[Series],
    title: str,
    unit: str,
    how: str,
    signs: Sequence[Sign],
    total_steps: int | None,
    *,
    always: bool = False,
) -> Markup:
    """One chart, a sentence on how to read it, and any warning. Without `always`, empty if nothing was logged."""
    if not always and not any(line.points for line in series):
        return Markup("")
    warnings = join(notice(sign.text, kind="warn") for sign in signs)
    return Markup('<div class="ft-reading">{}<p class="ft-how">{}</p>{}</div>').format(
        plot(series, title=title, unit=unit, x_end=total_steps, height=150), how, warnings
    )


def numbers(status: RunStatus, metrics: list[dict[str, Any]]) -> Markup:
    """The current figures of the run, each with a short explanation."""
    learned = decided(metrics)
    steps = max([step for step, _ in metric_points(metrics, "loss")], default=0)
    rows: list[tuple[str, Any, str]] = []
    for name, where in (("eval_", "on the validation pairs"), ("", "on the training pairs")):
        # At step 0, validation only shows where the run began.
        accuracy, margin = (
            [point for point in metric_points(learned, f"{name}{key}") if point[0]] for key in ("accuracy", "margin")
        )
        if accuracy:
            rows.append(("Chosen wins", percent(accuracy[-1][1], 0), where))
        if margin:
            rows.append(("Margin", short(margin[-1][1]), "chosen minus rejected"))
        if accuracy or margin:
            break
    return progress_facts(status, steps, rows)


def progress_facts(status: RunStatus, steps: float, rows: Sequence[tuple[str, Any, str]]) -> Markup:
    """The current figures of a run: the `steps` that its metrics show, `rows` of its kind, its time and weights."""
    training = status.phase == "training" and status.is_active
    taken = f"{count(status.step)} of {count(status.total_steps)}" if training else count(steps)
    figures: list[tuple[str, Any, str]] = [("Steps", taken, "weight updates"), *rows]
    if training and status.eta_seconds is not None:
        figures.append(("Time left", duration(status.eta_seconds), "for training"))
    else:
        figures.append(("Time", duration(status.seconds), "so far" if status.is_active else "from start to end"))
    if status.trained_parameters and status.total_parameters:
        share = percent(status.trained_parameters / status.total_parameters)
        figures.append(
            ("Trained weights", count(status.trained_parameters), f"{share} of {count(status.total_parameters)}")
        )
    return facts(figures)


def _between(interval: list[float] | None) -> str:
    return f"{short(interval[0])} to {short(interval[1])}, " if interval else ""


def result(held_out: PreferencesJson) -> Markup:
    """The held-out preferences of a finished run: one sentence, the figures, and how they were measured."""
    return verdict(held_out) + figures(held_out)


def verdict(held_out: PreferencesJson) -> Markup:
    """The held-out preferences of a finished run in a sentence."""
    accuracy, (low, high) = held_out["accuracy"], held_out["interval"]
    kind, verdict = "warn", "That may be chance."
    ties = held_out.get("ties", 0)
    if "p" in held_out:
        # Ties are not losses: among decided pairs, are more won than lost?
        won, lost = accuracy * held_out["rows"], (1 - accuracy) * held_out["rows"] - ties
        more, less = (held_out["p"] < LEVEL and won > lost), (held_out["p"] < LEVEL and won < lost)
    else:
        more, less = low > 0.5, high < 0.5
    if more:
        kind, verdict = "good", "That is more than chance."
    elif less:
        kind, verdict = "bad", "That is worse than a coin toss. Are chosen and rejected swapped?"
    text = (
        f"The chosen answer wins in {percent(accuracy)} of {count(held_out['rows'])} held-out pairs (95% interval "
        f"{percent(low)} to {percent(high)}){f', with {ties} ties' if ties else ''}. {verdict}"
    )
    return notice(Markup("<strong>{}</strong>").format(text), kind=kind)


def figures(held_out: PreferencesJson) -> Markup:
    """The figures behind `verdict`, and how they were measured."""
    accuracy, (low, high) = held_out["accuracy"], held_out["interval"]
    tested = f", {p_text(held_out['p'])}" if "p" in held_out else ""
    rows = [
        ("Chosen wins", percent(accuracy), f"{percent(low)} to {percent(high)}{tested}, of pairs it never saw"),
        (
            "Margin",
            short(held_out["margin"]),
            f"{_between(held_out.get('margin_interval'))}chosen minus rejected, on average",
        ),
        ("Chosen", short(held_out["reward_chosen"]), "mean reward"),
        ("Rejected", short(held_out["reward_rejected"]), "mean reward"),
    ]
    plain = held_out.get("by_log_probability")
    if plain:
        before, after = plain["before"]["accuracy"], plain["after"]["accuracy"]
        rows.append(("Likelier answer", f"{percent(before, 0)} → {percent(after, 0)}", "chosen; start → now"))
    notes = [f"The reward is the {held_out['measure']}." if held_out.get("measure") else "", *held_out.get("notes", [])]
    listed = list_items(note for note in notes if note)
    return Markup('<div class="ft-result" data-accuracy="{}">{}<ul class="ft-notes">{}</ul></div>').format(
        f"{accuracy:.4f}", facts(rows), listed
    )


def _sides(
    metrics: list[dict[str, Any]],
    key: str,
    title: str,
    unit: str,
    how: str,
    signs: Sequence[Sign],
    total_steps: int | None,
) -> Markup:
    """Chosen and rejected in one chart. Uses validation, which has the same pairs each time, once it makes a curve."""
    held = "eval_" if len(metric_points(metrics, f"eval_{key}_chosen")) >= _ENOUGH else ""
    series = [
        Series(side, metric_points(metrics, f"{held}{key}_{side}"), css, dots=bool(held))
        for side, css in (("chosen", "a"), ("rejected", "b"))
    ]
    where = "validation" if held else "training"
    return reading(series, f"{title} ({where})", unit, how, signs, total_steps)


def decided(metrics: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`metrics` without accuracies that consist of ties: before the first step, nothing is decided."""
    rows = []
    for row in metrics:
        tied = [
            f"{name}accuracy"
            for name in ("", "eval_")
            if isinstance(row.get(f"{name}margin"), int | float) and abs(row[f"{name}margin"]) < _TIE
        ]
        rows.append({key: value for key, value in row.items() if key not in tied} if tied else row)
    return rows


def _scaled(points: list[tuple[float, float]], scale: float) -> list[tuple[float, float]]:
    return [(step, scale * value) for step, value in points]
