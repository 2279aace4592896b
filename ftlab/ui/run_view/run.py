"""Views of one run: state, figures, curve, outcome. Shared by the tabs Train and Runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.config.stages import REWARD_STAGES
from ftlab.core.comparison import ComparisonJson
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import ErrorJson, FtlabError, shorten
from ftlab.models.starter import starter_size
from ftlab.report import measures
from ftlab.report.charts import loss_curve, metric_points, speed_curves
from ftlab.training import supervisor
from ftlab.training.self_replay import mixed_in_words
from ftlab.training.status import RunStatus
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.html import (
    badge,
    count,
    details,
    duration,
    error_box,
    join,
    list_items,
    notice,
    short,
)
from ftlab.ui.run_stages import STAGES
from ftlab.ui.run_view import preference_curves as preference_view
from ftlab.ui.run_view import reward_curves as reward_view

_SHOWN_CHARACTERS = 300  # of a prompt or an answer beside the curve
_BEGINNING = 30  # leading characters of a warning, before its figures
_KINDS = {"completed": "good", "failed": "bad", "damaged": "bad", "stopped": "warn", "stopping": "warn"}


def state_badge(state: str, text: str = "") -> Markup:
    return badge(text or state, _KINDS.get(state, "info"))


def headline(run: RunDirectory, status: RunStatus) -> Markup:
    if (at := at_step(run, status)) is None:
        doing = Markup("<span>{}</span>").format(status.phase) if status.is_active and status.phase else Markup("")
    else:
        left = left_in_total(run, status)
        steps = f"{count(status.step)} of {count(status.total_steps)} updates" if status.phase == "training" else ""
        more = ", ".join(filter(None, [steps or status.phase, left]))
        doing = Markup('<span><b>Step {} of {}: {}</b> <span class="ft-help">{}</span></span>').format(*at, more)
    return Markup('<div class="ft-strip-line">{}<strong>{}</strong>{}</div>').format(
        state_badge(status.state), run_names.name_of(run, dated=False), doing
    )


def replayed(run: RunDirectory) -> Markup:
    """What is mixed into the run's rows against forgetting, or why nothing is; empty if its files do not say."""
    config = run_files.config(run)
    try:
        words = mixed_in_words(config, run.manifest()) if config else ""
    except FtlabError:
        words = ""
    return Markup('<p class="ft-help">{}.</p>').format(words[:1].upper() + words[1:]) if words else Markup("")


# Keeps Details open when the view is redrawn.
KEEP_OPEN_JS = """
const open = new Set();
const name = one => one.querySelector('summary')?.textContent.replace(/[\\d,.]+/g, '');
element.addEventListener('toggle', event => {
  if (event.target.isConnected) event.target.open ? open.add(name(event.target)) : open.delete(name(event.target));
}, true);
watch('value', () => element.querySelectorAll('details').forEach(one => { if (open.has(name(one))) one.open = true; }));
"""


def live(run: RunDirectory) -> Markup:
    """The live view of a run. While it runs: progress, one curve, its current answers. Afterwards: the verdict.
    Everything else is collapsed."""
    status, metrics = run_files.status(run), run_files.metrics(run)
    training = status.phase == "training" and status.is_active
    total, stage, config = status.total_steps if training else None, run_files.stage(run), run_files.config(run)
    signs: list[str] = []
    if stage in REWARD_STAGES:
        figures = reward_view.numbers(status, metrics)
        first, others = reward_view.pictures(metrics, run_files.samples(run), config, total)
        signs = [sign.text for sign in reward_view.current_signs(metrics, config)]
    elif stage in STAGES:
        figures = preference_view.numbers(status, metrics)
        first, others = preference_view.pictures(metrics, stage, total)
    else:
        figures, first, others = numbers(status, metrics), loss_curve(metrics, total), speed_curves(metrics, total)
    answers = Markup("") if stage in STAGES else answers_now(run_files.samples(run))
    folded = [replayed(run), _figures(run), figures, _todo(run), problems(status, signs)]
    if status.is_active:
        open_ = [outcome(run, status), *map(_sign, signs), first if status.state != "queued" else Markup(""), answers]
    else:
        open_, folded = [held_out(run), outcome(run, status)], [*folded, first, answers]
    left = [text for text in status.warnings if text[:_BEGINNING] not in [sign[:_BEGINNING] for sign in signs]]
    summary = f"Details ({len(left)} notes)" if left else "Details"
    return join(
        [
            Markup('<section class="ft-card" data-run="{}" data-state="{}" data-at-work="{}">').format(
                run.id, status.state, "yes" if status.is_active else "no"
            ),
            headline(run, status),
            *open_,
            details(summary, join([*folded, others])),
            Markup("</section>"),
        ]
    )


def _sign(text: str) -> Markup:
    return notice(text, kind="warn")


def steps_of(config: RunConfig | None) -> list[str]:
    """The steps of a run, each in a word or two."""
    asks = config is None or config.evaluation.after_training
    before = asks and (config is None or (config.evaluation.before_training and not config.is_reward_model))
    return [*["Asking the base"] * before, "Training", "Saving", *["Evaluating"] * asks]


def at_step(run: RunDirectory, status: RunStatus) -> tuple[int, int, str] | None:
    """(number, total, title) of the current step of an active run; None while it waits."""
    if not status.is_active or status.state == "queued":
        return None
    steps, phase = steps_of(run_files.config(run)), status.phase
    if phase.startswith("before training") or (not status.total_steps and phase == "loading the libraries"):
        title = steps[0]
    elif phase.startswith(("saving the result", "verifying")):
        title = "Saving"
    elif phase != "training" and run_files.verification(run) is not None:
        title = steps[-1]
    else:
        title = "Training"
    return steps.index(title) + 1, len(steps), title


def left_in_total(run: RunDirectory, status: RunStatus) -> str:
    """The remaining time of an active run, in words; empty if unknown: until training has a rate, what the measurement
    before the start (preflight) expects, if there was one."""
    expected, config = run_files.expected(run), run_files.config(run)
    after = expected.get("after_seconds")
    if config is not None and not config.evaluation.after_training:
        after = 0
    if status.eta_seconds is not None and status.phase == "training":
        if after is None:
            return f"about {duration(status.eta_seconds)} of training left, then the evaluation"
        return f"about {duration(status.eta_seconds + after)} left in total"
    total, gone = expected.get("total_seconds"), status.seconds
    if total is None or gone is None:
        return ""
    left, before = total - gone, expected.get("before_seconds")
    begins = not status.total_steps or status.phase == "training"
    if begins and before is not None:  # a slow first phase does not shorten the later ones
        left = max(left, total - before)
    elif not begins and after is not None:  # nor does a quick training lengthen what comes after it
        rows = run_files.metrics(run)
        trained = rows[-1].get("time") if rows else None
        left = after - (time.time() - trained) if trained else min(left, after)
    return f"about {duration(left)} left in total, as measured before the start" if left > 0 else ""


def answers_now(samples: list[dict[str, Any]]) -> Markup:
    """The run's answers to some held-out rows as it learns: at the start, and at the latest step."""
    if not samples:
        return Markup("")
    last = samples[-1]["step"]
    first = {row["row"]: row["answer"] for row in samples if row["step"] == samples[0]["step"]}
    rows = [row for row in samples if row["step"] == last]
    articles = join(
        Markup(
            '<article class="ft-now"><p class="ft-text ft-said">{}</p><dl><dt>Base</dt><dd class="ft-text">{}</dd>'
            '<dt>{}</dt><dd class="ft-text">{}</dd><dt>Reference</dt><dd class="ft-text">{}</dd></dl></article>'
        ).format(
            shorten(row["prompt"], _SHOWN_CHARACTERS),
            _answer(first.get(row["row"], "")),
            f"Step {count(last)}",
            _answer(row["answer"]) if last else "not trained yet",
            shorten(row["reference"], _SHOWN_CHARACTERS),
        )
        for row in rows
    )
    return Markup(
        '<div class="ft-content"><h3 class="ft-h">Held-out rows</h3><div class="ft-nows">{}</div></div>'
    ).format(articles)


def _answer(text: str) -> str:
    return shorten(text, _SHOWN_CHARACTERS) or "(nothing)"


def _figures(run: RunDirectory) -> Markup:
    preferences, rewards = run_files.preferences(run), run_files.rewards(run)
    return join(
        [
            preference_view.figures(preferences) if preferences else Markup(""),
            reward_view.figures(rewards) if rewards else Markup(""),
        ]
    )


def _todo(run: RunDirectory) -> Markup:
    comparison = run_files.comparison(run)
    return todo(run, comparison) if comparison else Markup("")


def held_out(run: RunDirectory, *, whole: bool = False) -> Markup:
    """The held-out preferences or prompts of the result, in a sentence or, with `whole`, with figures; empty for other
    runs and before the result is known."""
    preferences, rewards = run_files.preferences(run), run_files.rewards(run)
    of_preferences = preference_view.result if whole else preference_view.verdict
    of_rewards = reward_view.result if whole else reward_view.verdict
    return join(
        [
            of_preferences(preferences) if preferences else Markup(""),
            of_rewards(rewards) if rewards else Markup(""),
        ]
    )


def numbers(status: RunStatus, metrics: list[dict[str, Any]]) -> Markup:
    """The current figures of the run, each with its unit and a short explanation."""
    loss, validation = metric_points(metrics, "loss"), metric_points(metrics, "eval_loss")
    rate, speed = metric_points(metrics, "learning_rate"), metric_points(metrics, "tokens_per_second")
    steps = max([step for step, _ in loss + validation], default=0)
    best = min(validation, key=lambda point: point[1]) if validation else None
    rows = [
        ("Training loss", short(loss[-1][1]) if loss else None, "nats per token, lower is better"),
        (
            "Validation loss",
            short(validation[-1][1]) if validation else None,
            f"best {short(best[1])} at step {best[0]:g}" if best else "on validation rows",
        ),
        ("Learning rate", short(rate[-1][1]) if rate else None, "size of a step"),
        ("Speed", f"{count(speed[-1][1])} tokens/s" if speed else None, "text read per second"),
    ]
    return preference_view.progress_facts(status, steps, rows)


def outcome(run: RunDirectory, status: RunStatus) -> Markup:
    """How the run ended and what to do next; empty while it runs."""
    if status.is_active:
        if status.state == "queued":
            return notice("Waiting for the device, which one run uses at a time. You can close this page.")
        return Markup("")
    if status.error:
        return failure(status.error)
    comparison = run_files.comparison(run)
    if comparison:
        # What the run was trained for has a sentence of its own, with its figures.
        own = run_files.preferences(run) or run_files.rewards(run)
        verdict = (measures.verdict_short if own else measures.verdict_headline)(comparison)
        return notice(Markup("<strong>{}</strong>").format(verdict), kind=verdict_kind(comparison))
    if status.state == "stopped":
        done = "The model trained so far is saved." if run.has_result else "Nothing was saved."
        return notice(f"Stopped{f': {status.phase}' if status.phase else ' at your request'}. {done}", kind="warn")
    if run_files.preferences(run) or run_files.rewards(run):
        return Markup("")
    return notice("Trained. Not compared with its base yet: press Evaluate.", kind="good")


def on_to_evaluate(run: RunDirectory) -> str:
    """The label of the button that leads from a finished run to the Evaluate tab."""
    known = run_files.comparison(run) or run_files.preferences(run) or run_files.rewards(run)
    return "See the evaluation" if known else "Evaluate it"


def failure(error: ErrorJson) -> Markup:
    """The {what, why, try} of a status file."""
    return error_box(FtlabError(error.get("what") or "It failed.", why=error.get("why"), try_=error.get("try")))


def measuring(run: RunDirectory, task: str, doing: str) -> Markup:
    """The state of the latest evaluation of `run`, if it was for `task` (see supervisor): running, or why it left no
    result. Empty once it is done. Redrawn when its state changes, so it names no phase."""
    status = run_files.evaluation_status(run)
    if status is None or (status.task or supervisor.EVALUATION) != task or status.state == "completed":
        return Markup("")
    if status.is_active:
        now = {"queued": "Waiting for the device", "stopping": "Stopping"}.get(status.state, doing)
        return notice(f"{now}. The strip above shows its progress.")
    if status.error:
        return failure(status.error)
    reasons = status.warnings or [f"Stopped: {status.phase or 'at your request'}."]
    return join(notice(text, kind="warn") for text in reasons)


def verdict_text(run: RunDirectory, comparison: ComparisonJson) -> Markup:
    """The verdict sentence and what to do next."""
    return Markup("<strong>{}</strong>{}").format(measures.verdict_headline(comparison), todo(run, comparison))


def todo(run: RunDirectory, comparison: ComparisonJson) -> Markup:
    """What to do next, as a list; empty if there is nothing."""
    steps = next_steps(run, comparison)
    items = list_items(steps)
    return Markup('<div class="ft-next">What to do next:<ul>{}</ul></div>').format(items) if steps else Markup("")


def verdict_kind(comparison: ComparisonJson) -> str:
    """The color of a verdict: a gain paid for by forgetting is not a plain success."""
    verdict = comparison["verdict"]
    if verdict["better"] is False:
        return "bad"
    return "good" if verdict["better"] and not verdict.get("forgot") else "warn"


def problems(status: RunStatus, signs: Sequence[str] = ()) -> Markup:
    """The run's warnings, without the `signs` already shown beside its chart (there with current figures)."""
    known = [text[:_BEGINNING] for text in signs]
    left = [text for text in status.warnings if text[:_BEGINNING] not in known]
    if not left:
        return Markup("")
    items = list_items(left)
    return notice(Markup("Worth knowing:<ul>{}</ul>").format(items), kind="warn")


def verification(run: RunDirectory) -> str:
    checked = run_files.verification(run)
    if not checked:
        return "not checked"
    change = short(checked.get("largest_change"))
    if checked.get("changes_logits"):
        return f"yes, by up to {change}"
    return f"no (largest change {change})"


def toy_banner(base: str | None) -> Markup:
    """A note that the starter is a toy; empty for any other base."""
    if base != "starter":
        return Markup("")
    return Markup(
        '<div class="ft-banner" id="toy_banner"><strong>Toy model</strong> of {} parameters: it shows the method, not '
        "how good it gets.</div>"
    ).format(starter_size())


def next_steps(run: RunDirectory, comparison: ComparisonJson) -> list[str]:
    """What to do next, in sentences; none if the settings of the run cannot be read."""
    from ftlab.evaluation import verdict

    config = run_files.config(run)
    return verdict.next_steps(comparison, config) if config else []
