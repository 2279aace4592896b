"""Everything that is measured of a run, by its stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftlab.config import load_config
from ftlab.data.preferences import PREFERENCE_STAGES
from ftlab.data.prompts_only import REWARD_STAGES
from ftlab.errors import InputError
from ftlab.evaluation.before_after import ANSWERING_STAGES, compare_answers
from ftlab.evaluation.compare import evaluate_run, evaluate_together
from ftlab.evaluation.held_out import has_references
from ftlab.evaluation.preferences import evaluate_preferences
from ftlab.evaluation.win_rate import judge_answers
from ftlab.run_directory import RunDirectory


def evaluate_whole(
    run: RunDirectory,
    *,
    max_rows: int | None = None,
    reward_model: RunDirectory | None = None,
    others: Sequence[RunDirectory] = (),
    suite: str | None = None,
    settings: Mapping[str, Any] | None = None,
    strength: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluate `run` and write the results to its directory; returns those of its stage by name.

    `preferences` (held-out pairs), `comparison` (against the base, where there are reference answers) and
    `before_after` (answers of base, start and run). With `reward_model` only `before_after`, whose answers it judges;
    with `others` (runs to compare with), a `suite` (other rows), `settings` (of the section evaluation) or a `strength`
    only `comparison`. Results of another question than the run's own (fewer rows, say) lie beside its own. Raises as
    each of them does.
    """
    stage = load_config(run.config_file).stage
    more: dict[str, Any] = {"max_rows": max_rows, "progress": progress, "should_stop": should_stop}
    if reward_model is not None:
        if load_config(reward_model.config_file).stage != "reward":
            raise InputError(f"The run {reward_model.id} is no reward model", try_="name a run of the stage reward")
        question = compare_answers(run, **more)["question"]["name"]
        judge_answers(run, reward_model, question=question, progress=progress, should_stop=should_stop)
        return {"before_after": (run.question(question) if question else run).before_after() or {}}
    if others or suite or settings or strength is not None:
        asked: dict[str, Any] = {"suite": suite, "settings": settings, "strength": strength}
        return {"comparison": evaluate_together([run, *others], **asked, **more)}
    found = {}
    if stage in PREFERENCE_STAGES:
        found["preferences"] = evaluate_preferences(run, **more)
    if stage != "reward" and (stage not in REWARD_STAGES or has_references(run)):
        found["comparison"] = evaluate_run(run, **more)
    if stage in ANSWERING_STAGES:
        # After the comparison, whose answers it takes over.
        found["before_after"] = compare_answers(run, **more)
    return found
