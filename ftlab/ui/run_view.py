"""How one run is shown: its state, its numbers, its curve, its end. Shared by the tabs Train and Runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ftlab.config import RunConfig
from ftlab.config.methods import summary
from ftlab.config.stages import REWARD_STAGES
from ftlab.core.comparison import ComparisonJson
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError
from ftlab.models.starter import starter_size
from ftlab.report import measures
from ftlab.report.charts import metric_points, run_curves
from ftlab.training import supervisor
from ftlab.training.self_replay import mixed_in_words
from ftlab.training.status import RunStatus
from ftlab.ui import preference_view, reward_view, run_files
from ftlab.ui.html import NOTHING, badge, count, duration, error_box, facts, join, notice, percent, short, when
from ftlab.ui.stages import STAGES

_BEGINNING = 30  # characters of a warning before its figures
_KINDS = {"completed": "good", "failed": "bad", "damaged": "bad", "stopped": "warn", "stopping": "warn"}


def state_badge(state: str) -> Markup:
    return badge(state, _KINDS.get(state, "info"))


def headline(run: RunDirectory, status: RunStatus) -> Markup:
    phase = Markup("<span>{}</span>").format(status.phase) if status.is_active and status.phase else ""
    return Markup('<div class="ft-strip-line">{}<strong class="ft-runid">{}</strong>{}</div>').format(
        state_badge(status.state), run.id, phase
    )


def replayed(run: RunDirectory) -> Markup:
    """What is mixed into its rows against forgetting, or why nothing is; empty where its files do not tell."""
    config = run_files.config(run)
    try:
        said = mixed_in_words(config, run.manifest()) if config else ""
    except FtlabError:
        said = ""
    return Markup('<p class="ft-help">{}.</p>').format(said[:1].upper() + said[1:]) if said else Markup("")


def live(run: RunDirectory) -> Markup:
    """The whole picture of a run, while it works and after: numbers, warnings, curves, outcome."""
    status, metrics = run_files.status(run), run_files.metrics(run)
    training = status.phase == "training" and status.is_active
    total, stage = status.total_steps if training else None, run_files.stage(run)
    said: list[str] = []
    if stage in REWARD_STAGES:
        config = run_files.config(run)
        shown = reward_view.numbers(status, metrics)
        curves = reward_view.pictures(metrics, run_files.samples(run), config, total)
        said = [sign.text for sign in reward_view.current_signs(metrics, config)]
    elif stage in STAGES:
        shown = preference_view.numbers(status, metrics)
        curves = preference_view.pictures(metrics, stage, total)
    else:
        shown, curves = numbers(status, metrics), run_curves(metrics, total)
    return join(
        [
            Markup('<section class="ft-card" data-run="{}" data-state="{}">').format(run.id, status.state),
            headline(run, status),
            replayed(run),
            held_out(run),
            outcome(run, status),
            shown,
            problems(status, said),
            curves,
            Markup("</section>"),
        ]
    )


def held_out(run: RunDirectory) -> Markup:
    """What the held-out preferences or prompts say of the result; empty for other runs and before it is known."""
    preferences, rewards = run_files.preferences(run), run_files.rewards(run)
    return join(
        [
            preference_view.result(preferences) if preferences else Markup(""),
            reward_view.result(rewards) if rewards else Markup(""),
        ]
    )


def numbers(status: RunStatus, metrics: list[dict[str, Any]]) -> Markup:
    """Where the run stands, each number with its unit and a word of help."""
    loss, validation = metric_points(metrics, "loss"), metric_points(metrics, "eval_loss")
    rate, speed = metric_points(metrics, "learning_rate"), metric_points(metrics, "tokens_per_second")
    steps = max([step for step, _ in loss + validation], default=0)
    best = min(validation, key=lambda point: point[1]) if validation else None
    training = status.phase == "training" and status.is_active
    shown = [
        (
            "Steps",
            f"{count(status.step)} of {count(status.total_steps)}" if training else count(steps),
            "weight updates",
        ),
        ("Training loss", short(loss[-1][1]) if loss else None, "nats per token, lower is better"),
        (
            "Validation loss",
            short(validation[-1][1]) if validation else None,
            f"best {short(best[1])} at step {best[0]:g}" if best else "on rows that are not learned from",
        ),
        ("Learning rate", short(rate[-1][1]) if rate else None, "size of a step"),
        ("Speed", f"{count(speed[-1][1])} tokens/s" if speed else None, "text read per second"),
    ]
    if training and status.eta_seconds is not None:
        shown.append(("Time left", duration(status.eta_seconds), "for training"))
    else:
        shown.append(("Time", duration(status.seconds), "so far" if status.is_active else "from start to end"))
    if status.trained_parameters and status.total_parameters:
        share = percent(status.trained_parameters / status.total_parameters)
        shown.append(
            ("Trained weights", count(status.trained_parameters), f"{share} of {count(status.total_parameters)}")
        )
    return facts(shown)


def outcome(run: RunDirectory, status: RunStatus) -> Markup:
    """How the run ended and what to do next; empty while it works."""
    if status.is_active:
        if status.state == "queued":
            return notice("Queued: one run at a time uses the device. You can close this page.")
        return Markup('<p class="ft-help">You can close this page.</p>')
    if status.error:
        return failure(status.error)
    comparison = run_files.comparison(run)
    if comparison:
        return notice(verdict_text(run, comparison), kind=verdict_kind(comparison))
    if status.state == "stopped":
        done = "What was trained until then is saved." if run.has_result else "Nothing was saved."
        return notice(f"Stopped: {status.phase or 'at your request'}. {done}", kind="warn")
    if run_files.preferences(run) or run_files.rewards(run):
        return Markup("")
    return notice("Trained. Not compared with its base yet: press Evaluate.", kind="good")


def failure(error: dict[str, Any]) -> Markup:
    """The {what, why, try} of a status file."""
    return error_box(FtlabError(error.get("what") or "It failed.", why=error.get("why"), try_=error.get("try")))


def measuring(run: RunDirectory, task: str, doing: str) -> Markup:
    """Where the latest evaluation of `run` stands, if it was for `task` (see supervisor): at work, or why it left
    nothing. Empty once it is done. It is drawn anew when its state changes, so it names no phase."""
    status = run_files.evaluation_status(run)
    if status is None or (status.task or supervisor.EVALUATION) != task or status.state == "completed":
        return Markup("")
    if status.is_active:
        now = {"queued": "Waiting for the device", "stopping": "Stopping"}.get(status.state, doing)
        return notice(f"{now}. The strip above shows how far it is.")
    if status.error:
        return failure(status.error)
    said = status.warnings or [f"Stopped: {status.phase or 'at your request'}."]
    return join(notice(text, kind="warn") for text in said)


def verdict_text(run: RunDirectory, comparison: ComparisonJson) -> Markup:
    """The verdict sentence and what to do next."""
    config = run_files.config(run)
    steps = _next_steps(comparison, config) if config else []
    items = join(Markup("<li>{}</li>").format(step) for step in steps)
    todo = Markup('<div class="ft-next">What to do next:<ul>{}</ul></div>').format(items) if steps else ""
    return Markup("<strong>{}</strong>{}").format(measures.verdict_text(comparison), todo)


def verdict_kind(comparison: ComparisonJson) -> str:
    """The colour of a verdict: a gain that was paid for by forgetting is no plain success."""
    verdict = comparison["verdict"]
    if verdict["better"] is False:
        return "bad"
    return "good" if verdict["better"] and not verdict.get("forgot") else "warn"


def problems(status: RunStatus, said: Sequence[str] = ()) -> Markup:
    """What the run warned of, without what is `said` beside its chart already (there with the figures of now)."""
    known = [text[:_BEGINNING] for text in said]
    left = [text for text in status.warnings if text[:_BEGINNING] not in known]
    if not left:
        return Markup("")
    items = join(Markup("<li>{}</li>").format(text) for text in left)
    return notice(Markup("Worth knowing:<ul>{}</ul>").format(items), kind="warn")


def verification(run: RunDirectory) -> str:
    found = run_files.verification(run)
    if not found:
        return "not checked"
    change = short(found.get("largest_change"))
    if found.get("changes_logits"):
        return f"yes, by up to {change}"
    return f"no (largest change {change})"


def describe(config: RunConfig | None) -> tuple[str, str, str]:
    """(data, method, base) of a run in a few words."""
    if config is None:
        return NOTHING, NOTHING, NOTHING
    replay = "".join(f" + {name}" for name in config.data.replayed)
    return f"{config.data.source.rsplit('/', 1)[-1]}{replay}", summary(config.method), config.model.base


def started_text(status: RunStatus) -> str:
    return when(status.started or status.created)


def toy_banner(base: str | None) -> Markup:
    """Says that the starter is a toy; empty for any other base."""
    if base != "starter":
        return Markup("")
    return Markup(
        '<div class="ft-banner" id="toy_banner"><strong>Toy model.</strong> The starter has {} parameters: it shows '
        "how the method works, not how good it gets. For real work take another base on the Train tab: one of the "
        "list such as smollm2 or Qwen/Qwen3-0.6B, a local folder, a GGUF file, or any Hub id.</div>"
    ).format(starter_size())


def _next_steps(comparison: ComparisonJson, config: RunConfig) -> list[str]:
    from ftlab.evaluation.verdict import next_steps

    return next_steps(comparison, config)
