"""Base against adapted model on the frozen held-out rows: the same questions, the same settings, one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig
from ftlab.data.documents import STAGE
from ftlab.data.prompts_only import REWARD_STAGES
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.asking import Asked, memorisation_of, own_of, questions_to, result_of
from ftlab.evaluation.batches import Stopped
from ftlab.evaluation.collect import Progress, collect
from ftlab.evaluation.drift import AGREEMENT, KL
from ftlab.evaluation.harness import kept_measures
from ftlab.evaluation.held_out import has_references
from ftlab.evaluation.keeping import question_of, write_comparison
from ftlab.evaluation.material import Material, gather
from ftlab.evaluation.measuring import check_choice, left_out, measured
from ftlab.evaluation.metrics.form import label_notes
from ftlab.evaluation.prompting import prompting_of
from ftlab.evaluation.row_changes import changed
from ftlab.evaluation.samples import right_of, samples_note
from ftlab.evaluation.scores import compare_results
from ftlab.evaluation.settings import settings_of
from ftlab.evaluation.sides import (
    Side,
    adapted_side,
    base_side,
    config_of,
    prompted_side,
    result_identity,
    tokenizer_of,
)
from ftlab.evaluation.verdict import warnings
from ftlab.files import append_jsonl, read_jsonl
from ftlab.models.strength import AS_TRAINED, check_strength
from ftlab.run_directory import RunDirectory

__all__ = ["Stopped", "evaluate_before", "evaluate_run", "evaluate_together"]


def evaluate_run(run: RunDirectory, **settings: Any) -> dict[str, Any]:
    """Score base and adapted model of `run` on its held-out split; as `evaluate_together` with one run."""
    return evaluate_together([run], **settings)


def evaluate_together(
    runs: Sequence[RunDirectory],
    *,
    suite: str | None = None,
    max_rows: int | None = None,
    max_new_tokens: int | None = None,
    settings: Mapping[str, Any] | None = None,
    strength: float | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Score the results of `runs` and the base of the first on its held-out split, write the comparison to the
    directory of the first, and return it. The run's own comparison (its rows and settings, the base beside it) is
    replaced by the same question only; any other question lies beside it (`keeping.question_of`).

    The test split is used, or the validation split when there is none (said in the notes); with `suite` (a sample, a
    file, a Hub id) the rows of that. `settings` replace those of `evaluation` in the first run's configuration; with a
    `strength` the first run is scored at that and not as it was trained.
    `progress` gets a phase in words, rows done and rows in all. What a side has said before, in any run of the
    workspace, is not asked again. Raises Stopped when `should_stop` says so (earlier results stay as they are),
    InputError when there are no held-out rows, FtlabError when a run has no result.
    """
    began = time.monotonic()
    runs = list(dict.fromkeys(runs))
    before = _seconds_before(runs[0])
    tell = progress or (lambda phase, done, total: None)
    configs = _configs(runs, {**(settings or {}), "max_rows": max_rows, "max_new_tokens": max_new_tokens})
    tell("reading the held-out rows", 0, 0)
    at = check_strength(configs[0], AS_TRAINED if strength is None else strength)
    check_runs(runs, configs, suite)
    material = gather(runs, configs, suite)
    check_choice(material, configs[0])
    question = question_of(
        config_of(runs[0]),
        configs[0],
        rows=len(material.rows),
        available=material.available,
        suite=suite,
        others=[run.id for run in runs[1:]],
        strength=at,
    )
    sides = _sides(runs, configs, material, at)
    tell("looking up earlier answers", 0, 0)  # only what is missing needs a model
    asked = questions_of(sides, material, configs[0])
    if suite is None and configs[0].evaluation.memorisation:
        asked["adapted"].questions["memorisation"] = memorisation_of(sides[-len(runs)])
    said = collect(sides, asked, batch_rows=configs[0].evaluation.batch_size, tell=tell, should_stop=should_stop)
    total = sum(question.steps for one in asked.values() for question in one.questions.values())
    tell("working out the scores", total, total)
    results = {side.name: result_of(asked[side.name], said[side.name], material) for side in sides}
    first = asked[sides[0].name]
    sizes = first.pieces.sizes if first.pieces else None
    more, per_row = measured(material, sides, asked, results, configs[0])
    comparison, predictions, probes = compare_results(
        material.rows, material.references, sizes, material.probes, results, more["measures"], material.clusters
    )
    for one in more["measures"]:
        if one["name"].startswith((AGREEMENT.name, KL.name)):
            for side in sides[1:]:
                comparison[side.name][one["name"]] = one["values"].get(side.name)
    if suite is None and at == AS_TRAINED:
        more["measures"] += kept_measures(runs[0])
    remembered = said["adapted"].get("memorisation")
    for number, shown in enumerate(predictions):
        shown["scores"] = {
            name: {side: values[number] for side, values in one.items()} for name, one in per_row.items()
        }
        shown["columns"] = material.columns[number]
        if material.clusters:
            shown["cluster"] = material.clusters[number]
        if not material.documents and (right := right_of(per_row, number, configs[0].evaluation.samples)):
            shown |= {"samples": configs[0].evaluation.samples, "right": right}
    comparison = {
        "run": runs[0].id,
        "created": time.time(),
        "weights_sha256": result_identity(runs[0])[0],
        "strength": at,
        "split": material.split,
        "suite": suite,
        "question": question.described(),
        "seconds": round(time.monotonic() - began, 2),
        "seconds_before": before,
        **comparison,
        "sides": [side.described() for side in sides],
        **more,
        "verdict": more["verdicts"]["adapted"],
        "changed": changed(predictions, more["measures"], more["verdicts"]["adapted"]["measure"]),
        "memorisation": remembered.found if remembered else None,
        "settings": settings_of(material, sides, first, configs[0]),
        "notes": [
            *material.notes,
            *_sampling(material, configs[0]),
            *left_out(configs[0]),
            *_notes(asked, results, material),
            *label_notes(more["measures"], {side.name: side.spoken for side in sides}),
            *warnings(comparison["base"], comparison["adapted"], str(material.limit), more["forgetting"]),
        ],
    }
    write_comparison(runs[0], question, comparison, predictions, probes)
    append_jsonl(_seconds_file(runs[0]), {"what": "comparison", "seconds": comparison["seconds"]})
    return comparison


def evaluate_before(
    run: RunDirectory,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Ask the base of `run` everything that the comparison after training will ask it, and keep what it says.

    Nothing is asked that is known from this or another run. Raises Stopped, and InputError as `evaluate_run` does.
    """
    began = time.monotonic()
    tell = progress or (lambda phase, done, total: None)
    config = config_of(run)
    tell("reading the held-out rows", 0, 0)
    _, sides, asked = asked_before_training(run, config)
    collect(
        sides,
        asked,
        batch_rows=config.evaluation.batch_size,
        tell=tell,
        should_stop=should_stop,
    )
    append_jsonl(_seconds_file(run), {"what": "base before training", "seconds": round(time.monotonic() - began, 2)})


def asked_before_training(run: RunDirectory, config: RunConfig) -> tuple[Material, list[Side], dict[str, Asked]]:
    """What the base of `run` (and the prompted one) is asked, and what of it: material, sides, questions by side."""
    material = gather([run], [config], None)
    sides = [side for side in _sides([run], [config], material) if not side.adapted]
    return material, sides, questions_of(sides, material, config)


def _seconds_file(run: RunDirectory) -> Path:
    """What evaluating `run` took so far, a line for each time: what was asked earlier is taken over, not free."""
    return run.evaluation / "seconds.jsonl"


def _seconds_before(run: RunDirectory) -> float | None:
    """What evaluating `run` took until now; None where an earlier version asked and did not count."""
    if not _seconds_file(run).exists() and any((run.evaluation / "results").glob("*.json")):
        return None
    return round(sum(_amount(line) for line in read_jsonl(_seconds_file(run))), 2)


def _amount(line: dict[str, Any]) -> float:
    seconds = line.get("seconds")
    return seconds if isinstance(seconds, int | float) else 0.0


def _configs(runs: Sequence[RunDirectory], settings: dict[str, Any]) -> list[RunConfig]:
    """The configurations of `runs`; the first one with `settings` of evaluation that are not None."""
    from ftlab.config import with_settings

    configs = [config_of(run) for run in runs]
    for config in configs[1:]:
        config.launcher.device = configs[0].launcher.device
    given = {f"evaluation.{name}": value for name, value in settings.items() if value is not None}
    return [with_settings(configs[0], given).resolved() if given else configs[0], *configs[1:]]


def check_runs(runs: Sequence[RunDirectory], configs: Sequence[RunConfig], suite: str | None) -> None:
    """Raises InputError and FtlabError for runs that cannot be compared on held-out rows."""
    for run, config in zip(runs, configs, strict=True):
        if config.stage == "reward":
            raise InputError(
                f"The run {run.id} is a reward model: it scores answers and writes none",
                try_="choose the run that it was made to judge",
            )
        if not run.has_result:
            raise FtlabError(
                f"The run {run.id} has no trained model yet", try_="wait until it has ended, or train it again"
            )
        if (config.stage == STAGE) != (configs[0].stage == STAGE):
            raise InputError(
                "Runs on plain text and runs on answers cannot be compared",
                given=f"{runs[0].id} and {run.id}",
                try_="compare them in two evaluations, or with lm-evaluation-harness tasks (--tasks)",
            )
    if suite is None and configs[0].stage in REWARD_STAGES and not has_references(runs[0]):
        raise InputError(
            "The held-out prompts have no answers to compare with",
            given=f"run {runs[0].id}, which learned from rewards",
            try_=f"python -m ftlab runs show {runs[0].id}, which tells the mean reward before and after",
        )


def _sides(
    runs: Sequence[RunDirectory], configs: Sequence[RunConfig], material: Material, strength: float = AS_TRAINED
) -> list[Side]:
    sides = [base_side(runs[0], configs[0])]
    if configs[0].evaluation.prompted and not material.documents:
        sides.append(prompted_side(runs[0], configs[0], prompting_of(runs[0], configs[0])))
    for number, (run, config) in enumerate(zip(runs, configs, strict=True)):
        at = AS_TRAINED if number else strength
        sides.append(adapted_side(run, config, first=number == 0, strength=at))
    return sides


def questions_of(sides: Sequence[Side], material: Material, config: RunConfig) -> dict[str, Asked]:
    """The questions to each side by its name; sides of one tokenizer and prompt share them."""
    made: dict[Any, Asked] = {}
    found = {}
    for side in sides:
        shared = (side.config.model.base, side.config.model.revision, side.prompting is not None)
        if shared not in made:
            made[shared] = questions_to(side, material, tokenizer_of(side), config)
        questions = own_of(side, sides[0], dict(made[shared].questions))
        found[side.name] = replace(made[shared], questions=questions)
    return found


def _sampling(material: Material, config: RunConfig) -> list[str]:
    note = samples_note(len(material.rows), config.evaluation.samples, config.evaluation.temperature)
    return [note] if note and not material.documents else []


def _notes(asked: Mapping[str, Asked], results: Mapping[str, Any], material: Material) -> list[str]:
    notes = []
    halved = [result.halved_to for result in results.values() if result.halved_to]
    if halved:
        notes.append(f"Memory ran out in between; it went on with {min(halved)} rows at once.")
    rolled = max(one.rolled for one in asked.values())
    if rolled:
        notes.append(
            f"{rolled} of {len(material.rows)} held-out rows are longer than the model's context ({material.context} "
            "tokens). Their loss was taken in rolling windows, and of their prompts the model read the end."
        )
    notes += dict.fromkeys(one.note for one in asked.values() if one.note)
    unshown = max(one.unshown for one in asked.values())
    if unshown:
        notes.append(
            f"The context has no room for all examples of the prompted base: {unshown} were left out, over all rows."
        )
    return notes
