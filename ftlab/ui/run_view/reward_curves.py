"""Views of a run that learns from rewards: the reward and what it may hide, and the sampled answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.core.run_results import RewardsJson
from ftlab.evaluation.significance import LEVEL, p_text
from ftlab.report.charts import Series, distribution, metric_points, run_curves
from ftlab.training.signs import Sign, read_signs
from ftlab.training.status import RunStatus
from ftlab.ui.kit.html import badge, count, details, heading, join, list_items, notice, percent, short, table
from ftlab.ui.run_view.preference_curves import progress_facts, reading

_SHOWN = 6  # sample answers
_COLOURS = "cdab"
_FIRST = "Mean reward"


def pictures(
    metrics: list[dict[str, Any]],
    samples: list[dict[str, Any]],
    config: RunConfig | None,
    total_steps: int | None = None,
) -> tuple[Markup, Markup]:
    """The main chart of an rloo or grpo run, and the others with some of its latest sampled answers."""
    signs = {sign.code: sign for sign in current_signs(metrics, config)}

    def chart(series: Sequence[Series], title: str, unit: str, how: str, *codes: str) -> Markup:
        present = [signs[code] for code in codes if code in signs]
        return reading(series, title, unit, how, present, total_steps, always=title == _FIRST)

    def points(key: str, scale: float = 1.0) -> list[tuple[float, float]]:
        return [(step, scale * value) for step, value in metric_points(metrics, key)]

    names = list(dict.fromkeys(key for row in metrics for key in row if key.startswith("rewards/")))
    each = [
        Series(name.removeprefix("rewards/"), points(name), colour)
        for name, colour in zip(names, _COLOURS, strict=False)
    ]
    parts = [
        chart(
            [
                Series("training", points("reward"), "a"),
                Series("validation", points("eval_reward"), "b", dots=True),
            ],
            _FIRST,
            "weighted sum of all rewards",
            "The average reward of the sampled answers. It should rise. It is only as meaningful as the rewards, so "
            "read the answers too.",
            "flat",
        ),
        chart(
            each if len(each) > 1 else [],
            "Each reward",
            "before weighting",
            "Which reward drives the progress. A reward that rises while another falls comes at its expense.",
        ),
        answers(samples),
        chart(
            [Series("KL", points("kl"), "c")],
            "Distance from the start",
            "KL, nats per token",
            "How far the model has moved from where it started. Some distance is needed to learn; it should level off.",
            "kl",
        ),
        chart(
            [Series("tokens", points("completion_length"), "a")],
            "Length of the answers",
            "tokens",
            "Longer is not better. If length and reward rise together, the reward may favor length itself.",
            "longer",
        ),
        chart(
            [
                Series("cut", points("cut_share", 100), "b"),
                Series("repeated", points("repetition", 100), "d"),
            ],
            "Cut answers and repetition",
            "%",
            "Cut: answers that hit the length limit, so their end was never judged. Repeated: word triples that "
            "recur within an answer.",
            "repeats",
        ),
    ]
    more = details("Loss, learning rate and speed", run_curves(metrics, total_steps))
    first, *others = filter(None, parts)
    return first, Markup('<div class="ft-readings">{}{}</div>').format(join(others), more)


def current_signs(metrics: list[dict[str, Any]], config: RunConfig | None) -> list[Sign]:
    length_counts = config is not None and any(reward.kind == "length" for reward in config.reinforcement.rewards)
    return read_signs(metrics, length_counts=length_counts)


def answers(samples: list[dict[str, Any]]) -> Markup:
    """The spread of the rewards, and the answers of the latest and of the first step. Model output stays plain text."""
    if not samples:
        return Markup("")
    first_step, last_step = samples[0]["step"], samples[-1]["step"]
    first = [row for row in samples if row["step"] == first_step]
    last = [row for row in samples if row["step"] == last_step]
    # A few answers show no distribution: compare the first logged quarter of the run with the last.
    quarter = max(len(first), len(samples) // 4)
    parts = [("first quarter", [row["reward"] for row in samples[:quarter]], "c")]
    if last_step != first_step:
        parts.append(("last quarter", [row["reward"] for row in samples[-quarter:]], "a"))
    spread = distribution(parts, title="Distribution of rewards", help="Of the sampled answers.")
    how = (
        "The distribution should move right. Two peaks: some answers get the reward, others do not. One spike: all "
        "answers score alike, so nothing is left to learn."
    )
    before = details(f"Answers at step {count(first_step)}", _listed(first)) if last_step != first_step else ""
    return Markup(
        '<div class="ft-reading">{}<p class="ft-how">{}</p></div><div class="ft-reading">{}{}{}</div>'
    ).format(
        spread,
        how,
        heading(f"Answers at step {count(last_step)}", "What the model sampled then, with each answer's reward."),
        _listed(last),
        before,
    )


def _listed(rows: Sequence[dict[str, Any]]) -> Markup:
    return Markup('<div class="ft-tried">{}</div>').format(join(_tried(row) for row in rows[:_SHOWN]))


def _tried(row: dict[str, Any]) -> Markup:
    prompt = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
    rewards = row.get("rewards") or {}
    each = ", ".join(f"{name} {short(value)}" for name, value in rewards.items()) if len(rewards) > 1 else ""
    return Markup(
        '<article class="ft-tried-one"><div class="ft-text ft-help">{}</div><div class="ft-text">{}</div>'
        '<footer>{} <span class="ft-help">{}</span></footer></article>'
    ).format(prompt, row["completion"] or "(nothing)", badge(f"reward {short(row['reward'])}"), each)


def numbers(status: RunStatus, metrics: list[dict[str, Any]]) -> Markup:
    """The current figures of the run, each with a short explanation."""
    reward, held = metric_points(metrics, "reward"), metric_points(metrics, "eval_reward")
    length, cut = metric_points(metrics, "completion_length"), metric_points(metrics, "cut_share")
    steps = max([step for step, _ in reward], default=0)
    rows = [
        ("Mean reward", short(reward[-1][1]) if reward else None, "of the answers tried last"),
    ]
    if held:
        rows.append(("Validation", short(held[-1][1]), f"mean reward; {short(held[0][1])} at first"))
    if length:
        rows.append(("Answers", f"{length[-1][1]:.0f} tokens", f"{length[0][1]:.0f} at first"))
    if cut:
        rows.append(("Cut answers", percent(cut[-1][1], 0), "hit the length limit"))
    return progress_facts(status, steps, rows)


def result(held_out: RewardsJson) -> Markup:
    """The rewards of greedy answers to held-out prompts, before and after."""
    return verdict(held_out) + figures(held_out)


def verdict(held_out: RewardsJson) -> Markup:
    """The rewards of greedy answers to held-out prompts in a sentence."""
    start, adapted, (low, high) = held_out["start"], held_out["adapted"], held_out["interval"]
    kind, verdict = "warn", "That may be chance."
    certain = held_out["p"] < LEVEL if "p" in held_out else low > 0 or high < 0
    if certain and held_out["difference"]:
        better = held_out["difference"] > 0
        kind, verdict = ("good", "That is more than chance.") if better else ("bad", "It got worse.")
    tested = f", {p_text(held_out['p'])}" if "p" in held_out else ""
    text = (
        f"The mean reward on {count(held_out['rows'])} held-out prompts went from {short(start['reward'])} to "
        f"{short(adapted['reward'])} ({held_out['difference']:+.3g}, 95% interval {low:+.3g} to {high:+.3g}{tested}). "
        f"{verdict}"
    )
    return notice(Markup("<strong>{}</strong>").format(text), kind=kind)


def figures(held_out: RewardsJson) -> Markup:
    """The table behind `verdict`."""
    start, adapted = held_out["start"], held_out["adapted"]
    shapes: dict[str, Any] = {"reward": short, "completion_length": short, "cut_share": percent, "repetition": percent}
    titles = {
        "reward": "Mean reward",
        "completion_length": "Tokens per answer",
        "cut_share": "Cut answers",
        "repetition": "Repeated word triples",
    }
    sides: list[Any] = [start, adapted]
    rows = [[titles[key], *(shape(side[key]) for side in sides)] for key, shape in shapes.items()]
    if len(adapted["rewards"]) > 1:
        rows[1:1] = [
            [f"Reward {name}", short(start["rewards"][name]), short(value)]
            for name, value in adapted["rewards"].items()
        ]
    listed = list_items(held_out.get("notes", []))
    return Markup('<div class="ft-result" data-difference="{}">{}{}</div>').format(
        f"{held_out['difference']:.4f}",
        table(["Greedy answers", "Start", "Now"], rows, label="Rewards before and after", numbers=(1, 2)),
        Markup('<ul class="ft-notes">{}</ul>').format(listed) if listed else "",
    )
