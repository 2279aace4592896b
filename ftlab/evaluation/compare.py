"""One comparison from its settings to its verdict.

`evaluate_run` asks what is not cached yet, measures it, and stores the result. `evaluate_whole` adds what belongs
to the stage of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, load_config, why_not_held
from ftlab.config.evaluation import names
from ftlab.config.stages import PREFERENCE_STAGES, PRETRAINING, REWARD_STAGES, STAGES
from ftlab.core.comparison import (
    ComparisonJson,
    whole_form,
)
from ftlab.core.files import DamagedFile, append_jsonl, read_jsonl
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.core.run_results import EvaluatedJson
from ftlab.core.words import listed
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.asking import Asked, collect, memorisation_of, own_of, questions_to, results_of
from ftlab.evaluation.batches import Progress, silent
from ftlab.evaluation.before_after import ANSWERING_STAGES, compare_answers, evaluate_preferences, judge_answers
from ftlab.evaluation.embeddings import EmbeddingPlan, Embeddings, vectors_of
from ftlab.evaluation.embeddings import plan as plan_of_vectors
from ftlab.evaluation.harness import kept_measures
from ftlab.evaluation.keeping import NamedQuestion, question_of, write_comparison
from ftlab.evaluation.material import Material, gather, has_references
from ftlab.evaluation.measuring import check_choice, costs_of, left_out, measured, settings_of
from ftlab.evaluation.metrics.form import label_notes
from ftlab.evaluation.metrics.measures import (
    Rows,
)
from ftlab.evaluation.outside import Outside, Plan, answers_of, carried, notes_on, plan, read_answers
from ftlab.evaluation.request import Request
from ftlab.evaluation.retrieval import INDEX, Embed, Retrieval, passages_near, retrieval_of, texts_of
from ftlab.evaluation.rows import changed, compare_results, right_of, samples_note
from ftlab.evaluation.sides import (
    ADAPTED,
    Side,
    adapted_side,
    base_side,
    config_of,
    prompted_side,
    prompting_of,
    result_identity,
    retrieved_sides,
    tokenizer_of,
)
from ftlab.evaluation.verdict import warnings
from ftlab.models.strength import AS_TRAINED, check_strength


def evaluate_run(
    run: RunDirectory,
    request: Request | None = None,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ComparisonJson:
    """Score the results of `run` and of the other runs of the `request`, and the base of `run`, on its held-out split;
    write the comparison to its directory, and return it. Only the same question replaces the run's own comparison (its
    rows and settings, with the base); any other question is stored next to it (`keeping.question_of`).

    Uses the test split, or the validation split if there is none (stated in the notes). `progress` gets a phase in
    words, rows done and total rows. Replies cached from any run of the workspace are not asked again; texts without a
    stored vector are sent. Raises Stopped when `should_stop` says so (earlier results stay as they are), InputError
    without held-out rows, FtlabError if a run has no result.
    """
    request = request or Request()
    against, embeddings, suite = request.against, request.embeddings, request.suite
    began = time.monotonic()
    runs = _runs(run, request)
    before = _seconds_before(runs[0])
    tell = progress or silent
    configs = _configs(runs, request)
    tell("reading the held-out rows", 0, 0)
    at = check_strength(configs[0], AS_TRAINED if request.strength is None else request.strength)
    check_runs(runs, configs, suite)
    material = gather(runs, configs, suite)
    check_choice(material, configs[0])
    check_embeddings(configs[0], material, embeddings)
    material, question = _asked(runs, configs, material, request, at)
    earlier = _earlier(question.place(runs[0]))
    opponents = [*against, *_carried(earlier or _earlier(runs[0]), request, runs[0], material)]
    used = earlier.get("settings") or {} if earlier else {}  # a damaged file may lack them
    price_per_hour = request.price_per_hour
    if price_per_hour is None:
        price_per_hour = used.get("price_per_hour")
    if configs[0].evaluation.margin is None:
        configs[0].evaluation.margin = used.get("margin")
    embed = partial(vectors_of, runs[0], embeddings, tell=tell, should_stop=should_stop) if embeddings else None
    sides = _sides(runs, configs, material, at, embed, embeddings.index if embeddings else INDEX)
    tell("looking up earlier answers", 0, 0)  # only missing replies need a model
    asked = questions_of(sides, material, configs[0])
    if suite is None and configs[0].evaluation.memorisation:
        adapted = next(side for side in sides if side.name == ADAPTED)
        asked["adapted"].questions["memorisation"] = memorisation_of(adapted)
    batch_rows = configs[0].evaluation.batch_size
    results = results_of(sides, asked, material, batch_rows=batch_rows, tell=tell, should_stop=should_stop)
    first = asked[sides[0].name]
    sizes = first.pieces.sizes if first.pieces else None
    outside = {
        side: answers_of(runs[0], side, material, kept=side not in against, tell=tell, should_stop=should_stop)
        for side in opponents  # last, since it may cost money: free steps fail first
    }
    figures = measured(material, sides, asked, results, configs[0], outside, _margins(runs[0]))
    everyone: list[Side | Outside] = [*sides, *outside]
    compared = compare_results(
        material.rows,
        material.references,
        sizes,
        material.probes,
        results,
        figures.measures,
        material.clusters,
        {side.name: [each.answer for each in replies] for side, replies in outside.items()},
    )
    costs = [] if material.documents else costs_of(sides, asked, outside, len(material.rows), price_per_hour)
    scores, predictions = compared.scores, compared.predictions
    tasks = kept_measures(runs[0]) if suite is None and at == AS_TRAINED else []
    measures, verdict = figures.measures + costs + tasks, figures.verdicts["adapted"]
    _add_row_scores(predictions, figures.rows, material, configs[0].evaluation.samples)
    settings_used = settings_of(material, sides, first, configs[0])
    settings_used |= {"price_per_hour": price_per_hour, "margin": configs[0].evaluation.margin}
    built: ComparisonJson = {
        "run": runs[0].id,
        "created": time.time(),
        "weights_sha256": result_identity(runs[0])[0],
        "strength": at,
        "split": material.split,
        "suite": suite,
        "question": question.described(),
        "seconds": round(time.monotonic() - began, 2),
        "seconds_before": before,
        "tests": compared.tests,
        "sides": [side.described() for side in everyone],
        "measures": measures,
        "forgetting": figures.forgetting,
        "gain_loss": figures.gain_loss,
        "verdicts": figures.verdicts,
        "changed": changed(predictions, measures, verdict["measure"]),
        "memorisation": results["adapted"].memorisation,
        "settings": settings_used,
        "notes": [
            *material.notes,
            *(note for side, replies in outside.items() for note in notes_on(side, replies)),
            *_sampling(material, configs[0]),
            *left_out(configs[0]),
            *_notes(sides, asked, results, material),
            *label_notes(measures, {side.name: side.spoken for side in everyone}),
            *warnings(
                scores["adapted"],
                str(material.limit),
                figures.forgetting,
                can_hold=why_not_held(configs[0]) is None,
            ),
        ],
    }
    comparison = whole_form(built, scores)
    write_comparison(runs[0], question, comparison, predictions, compared.probes)
    append_jsonl(_seconds_file(runs[0]), {"what": "comparison", "seconds": comparison["seconds"]})
    return comparison


def _runs(run: RunDirectory, request: Request) -> list[RunDirectory]:
    return list(dict.fromkeys([run, *request.others]))


def material_against(run: RunDirectory, request: Request) -> Material:
    """The rows that `evaluate_run` would ask, so that a plan can estimate what asking them elsewhere takes. Raises the
    same errors."""
    runs = _runs(run, request)
    configs = _configs(runs, request)
    check_runs(runs, configs, request.suite)
    material = gather(runs, configs, request.suite)
    check_choice(material, configs[0])
    check_embeddings(configs[0], material, request.embeddings)
    return material


def check_embeddings(config: RunConfig, material: Material, embeddings: Embeddings | None) -> None:
    """Raises InputError if there is nothing for `embeddings` to search."""
    if embeddings and (material.documents or not config.evaluation.retrieved):
        why = "plain text has no questions" if material.documents else "evaluation.retrieved=0"
        raise InputError(
            "Embeddings find rows or passages, and none are retrieved", given=why, allowed="1 or more rows"
        )


def plans_to_send(run: RunDirectory, request: Request, material: Material) -> list[Plan | EmbeddingPlan]:
    """What `evaluate_run` would send about `material` to each address. Sends nothing."""
    plans: list[Plan | EmbeddingPlan] = [plan(run, side, material) for side in request.against if side.url]
    if request.embeddings:
        [config] = _configs([run], request)
        texts = texts_of(run, material, names(config.evaluation.documents))
        plans.append(plan_of_vectors(run, request.embeddings, texts))
    return plans


def _check_outside(material: Material, config: RunConfig) -> None:
    """Raises InputError if answers from elsewhere cannot be compared."""
    if material.documents:
        raise InputError(
            "Documents have no answers, so no side from elsewhere can be compared on them",
            given="plain text",
            try_="compare a run on questions and answers",
        )
    if config.evaluation.samples > 1:
        raise InputError(
            "A side from elsewhere gives one answer to a row",
            given=f"{config.evaluation.samples} answers per row (evaluation.samples)",
            allowed="1",
        )


def _asked(
    runs: Sequence[RunDirectory],
    configs: Sequence[RunConfig],
    material: Material,
    request: Request,
    strength: float,
) -> tuple[Material, NamedQuestion]:
    """The part of the material answered by the files that `request` compares with, with notes on what does not match,
    and the resulting question."""
    from ftlab.data.prompt_template import asked_of

    against, embeddings = request.against, request.embeddings
    if against:
        _check_outside(material, configs[0])
    twice = [side.title for place, side in enumerate(against) if side.name in [other.name for other in against[:place]]]
    if twice:
        raise InputError("A side is named twice", given=", ".join(twice), try_="name each side once (--against)")
    answered_by: dict[str, str | None] = {}
    for side in against:
        if side.file is None:
            continue
        places, notes = read_answers(runs[0], side, material, asked_of(runs[0]))
        if len(places) < len(material.rows):
            answered_by[Path(side.file).name] = side.sha256
        material = _only(material, places, notes)
    question = question_of(
        config_of(runs[0]),
        configs[0],
        rows=material.drawn,
        available=material.available,
        suite=request.suite,
        others=[run.id for run in runs[1:]],
        strength=strength,
        answered_by=answered_by,
        embedded_by=f"{embeddings.url}#{embeddings.model}" if embeddings else None,
    )
    return material, question


def _only(material: Material, places: Sequence[int], notes: Sequence[str]) -> Material:
    """`material` with only the rows at `places`."""
    rows = [material.rows[place] for place in places]
    return replace(
        material,
        rows=rows,
        drawn=len({row.get("row", number) for number, row in enumerate(rows)}),
        columns=[material.columns[place] for place in places],
        references=[material.references[place] for place in places],
        clusters=[material.clusters[place] for place in places] if material.clusters else None,
        notes=[*material.notes, *notes],
    )


def _earlier(place: RunDirectory | Question) -> ComparisonJson | None:
    """The comparison that a new one will replace. None without a readable one."""
    try:
        return place.comparison()
    except DamagedFile:
        return None


def _margins(run: RunDirectory) -> dict[str, list[float | None]]:
    """The margins used in earlier comparisons of two sides of `run`, by verdict name (None: no margin)."""
    margins: dict[str, list[float | None]] = {}
    places: list[RunDirectory | Question] = [run, *run.questions()]
    for comparison in [known for place in places if (known := _earlier(place))]:
        for name, verdict in comparison.get("verdicts", {}).items():
            judged = verdict.get("no_worse")
            margins.setdefault(name, []).extend([*judged["earlier"], judged["margin"]] if judged else [None])
    return margins


def _carried(earlier: ComparisonJson | None, request: Request, run: RunDirectory, material: Material) -> list[Outside]:
    """The sides from elsewhere that are kept because all of their answers are cached. Raises InputError if none of them
    has a title that `request` leaves out."""
    known = carried(earlier, run, material)
    titles = [side.title for side in known]
    if unknown := [title for title in request.without if title not in titles]:
        raise InputError(
            "No side of the last evaluation has this title",
            given=", ".join(unknown),
            allowed=listed(titles) if titles else "nothing: it has no side that answers elsewhere",
        )
    named = {side.name for side in request.against}
    return [side for side in known if side.name not in named and side.title not in request.without]


def _add_row_scores(predictions: list[dict[str, Any]], rows: Rows, material: Material, samples: int) -> None:
    """Add the scores of each row, its columns and its cluster to the answers."""
    for number, prediction in enumerate(predictions):
        prediction["scores"] = {
            name: {side: values[number] for side, values in of_measure.items()} for name, of_measure in rows.items()
        }
        prediction["columns"] = material.columns[number]
        if material.clusters:
            prediction["cluster"] = material.clusters[number]
        if not material.documents and (right := right_of(rows, number, samples)):
            prediction |= {"samples": samples, "right": right}


def evaluate_before(
    run: RunDirectory,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Ask the base of `run` everything that the comparison after training needs, and cache its replies.

    Nothing already cached from this or another run is asked. Raises Stopped, and InputError as `evaluate_run` does.
    """
    began = time.monotonic()
    tell = progress or silent
    config = config_of(run)
    tell("reading the held-out rows", 0, 0)
    _, sides, asked = asked_before_training(run, config)
    collect(
        sides,
        {name: each.questions for name, each in asked.items()},
        batch_rows=config.evaluation.batch_size,
        tell=tell,
        should_stop=should_stop,
    )
    append_jsonl(_seconds_file(run), {"what": "base before training", "seconds": round(time.monotonic() - began, 2)})


def asked_before_training(run: RunDirectory, config: RunConfig) -> tuple[Material, list[Side], dict[str, Asked]]:
    """The questions to the base of `run` (and the prompted base) before training: material, sides, questions by
    side."""
    material = gather([run], [config], None)
    sides = [side for side in _sides([run], [config], material) if not side.adapted]
    return material, sides, questions_of(sides, material, config)


def _seconds_file(run: RunDirectory) -> Path:
    """The seconds that evaluating `run` took, one line each, since answers from the cache also took time."""
    return run.evaluation / "seconds.jsonl"


def _seconds_before(run: RunDirectory) -> float | None:
    """The seconds spent on evaluating `run` so far. None if an earlier version asked without recording them."""
    if not _seconds_file(run).exists() and any((run.evaluation / "results").glob("*.json")):
        return None
    return round(sum(_amount(line) for line in read_jsonl(_seconds_file(run))), 2)


def _amount(line: dict[str, Any]) -> float:
    seconds = line.get("seconds")
    return seconds if isinstance(seconds, int | float) else 0.0


def _configs(runs: Sequence[RunDirectory], request: Request) -> list[RunConfig]:
    """The configurations of `runs`; the first one with what `request` changes."""
    from ftlab.config import with_settings

    configs = [config_of(run) for run in runs]
    for config in configs[1:]:
        config.launcher.device = configs[0].launcher.device
    changes = request.changes
    return [with_settings(configs[0], changes).resolved() if changes else configs[0], *configs[1:]]


def check_runs(runs: Sequence[RunDirectory], configs: Sequence[RunConfig], suite: str | None) -> None:
    """Raises InputError or FtlabError for runs that cannot be compared on held-out rows."""
    for run, config in zip(runs, configs, strict=True):
        if config.is_reward_model:
            raise InputError(
                f"The run {run.id} is a reward model: it scores answers and does not write any",
                try_="choose the run it was trained to judge",
            )
        if not run.has_result:
            raise FtlabError(
                f"The run {run.id} has no trained model yet", try_="wait until it has finished, or train it again"
            )
        if (config.stage == PRETRAINING) != (configs[0].stage == PRETRAINING):
            raise InputError(
                "Runs on plain text and runs on answers cannot be compared",
                given=f"{runs[0].id} and {run.id}",
                try_="compare them in two evaluations, or with lm-evaluation-harness tasks (--tasks)",
            )
    if suite is None and configs[0].stage in REWARD_STAGES and not has_references(runs[0]):
        raise InputError(
            "The held-out prompts have no answers to compare with",
            given=f"run {runs[0].id}, which learned from rewards",
            try_=f"python -m ftlab runs show {runs[0].id}, which shows the mean reward before and after training",
        )


def _sides(
    runs: Sequence[RunDirectory],
    configs: Sequence[RunConfig],
    material: Material,
    strength: float = AS_TRAINED,
    embed: Embed | None = None,
    index: str = INDEX,
) -> list[Side]:
    sides = [base_side(runs[0], configs[0])]
    if configs[0].evaluation.prompted and not material.documents:
        sides.append(prompted_side(runs[0], configs[0], prompting_of(runs[0], configs[0])))
    for number, (run, config) in enumerate(zip(runs, configs, strict=True)):
        at = AS_TRAINED if number else strength
        sides.append(adapted_side(run, config, first=number == 0, strength=at))
    if configs[0].evaluation.retrieved and not material.documents:
        settings = configs[0].evaluation
        places = names(settings.documents)
        retrieval = (
            passages_near(places, material, settings.retrieved, embed)
            if places
            else retrieval_of(runs[0], material, settings.retrieved, embed)
        )
        retrieval = replace(retrieval, index=index)
        base, adapted = retrieved_sides(runs[0], configs[0], retrieval, strength)
        place = next(place for place, side in enumerate(sides) if side.name == ADAPTED)
        sides = [*sides[:place], base, *sides[place:], adapted]
    return sides


def questions_of(sides: Sequence[Side], material: Material, config: RunConfig) -> dict[str, Asked]:
    """The questions to each side, by side name. Sides with the same tokenizer and prompt share them."""
    made: dict[Any, Asked] = {}
    by_side = {}
    for side in sides:
        shared = (side.config.model.base, side.config.model.revision, id(side.prompting))
        if shared not in made:
            made[shared] = questions_to(side, material, tokenizer_of(side), config)
        questions = own_of(side, sides[0], dict(made[shared].questions))
        by_side[side.name] = replace(made[shared], questions=questions)
    return by_side


def _sampling(material: Material, config: RunConfig) -> list[str]:
    note = samples_note(len(material.rows), config.evaluation.samples, config.evaluation.temperature)
    return [note] if note and not material.documents else []


def _notes(
    sides: Sequence[Side], asked: Mapping[str, Asked], results: Mapping[str, Any], material: Material
) -> list[str]:
    notes = []
    halved = [result.halved_to for result in results.values() if result.halved_to]
    if halved:
        notes.append(f"Memory ran out during the evaluation; the batch was cut to {min(halved)} rows.")
    rolled = max(each.rolled for each in asked.values())
    if rolled:
        notes.append(
            f"{rolled} of {len(material.rows)} held-out rows are longer than the model's context ({material.context} "
            "tokens). Their loss was computed in rolling windows, and the model read only the end of their prompts."
        )
    notes += dict.fromkeys(each.note for each in asked.values() if each.note)
    for side in sides:
        if side.prompting and asked[side.name].unshown and not (side.adapted and side.name != ADAPTED):
            things = f"{side.prompting.thing}s" if isinstance(side.prompting, Retrieval) else "examples"
            notes.append(
                f"Not all {things} for {side.spoken} fit into the context: {asked[side.name].unshown} were left out "
                "across all rows."
            )
    retrieval = next((side.prompting for side in sides if isinstance(side.prompting, Retrieval)), None)
    notes += retrieval.notes if retrieval else ()
    if retrieval and retrieval.left_out:
        notes.append(
            f"Retrieval never shows {retrieval.left_out} training rows: they are copies or near copies of held-out "
            "questions."
        )
    return notes


def evaluate_whole(
    run: RunDirectory,
    request: Request | None = None,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> EvaluatedJson:
    """Evaluate `run` and write the results to its directory. Returns those of its stage by name.

    `preferences` (held-out pairs), `comparison` (against the base, if there are reference answers) and `before_after`
    (answers of base, start and run). With a reward model in `request`, only `before_after`, whose answers it judges;
    with anything else beyond the usual request, only `comparison`. Results of a question other than the run's own (for
    example, with fewer rows) are stored next to its own. Raises the errors of each of these.
    """
    request = request or Request()
    stage = load_config(run.config_file).stage
    more: dict[str, Any] = {"progress": progress, "should_stop": should_stop}
    if (reward_model := request.reward_model) is not None:
        if not load_config(reward_model.config_file).is_reward_model:
            raise InputError(f"The run {reward_model.id} is not a reward model", try_="name a run of the stage reward")
        question = compare_answers(run, max_rows=request.max_rows, **more).get("question", {"name": ""})["name"]
        judge_answers(run, reward_model, question=question, **more)
        judged = (run.question(question) if question else run).before_after()
        return {"before_after": judged} if judged else {}
    if not request.is_usual:
        return {"comparison": evaluate_run(run, request, **more)}
    results: EvaluatedJson = {}
    if stage in PREFERENCE_STAGES:
        results["preferences"] = evaluate_preferences(run, max_rows=request.max_rows, **more)
    if STAGES[stage].answers and (stage not in REWARD_STAGES or has_references(run)):
        results["comparison"] = evaluate_run(run, request, **more)
    if stage in ANSWERING_STAGES:
        # After the comparison, to reuse its answers.
        results["before_after"] = compare_answers(run, max_rows=request.max_rows, **more)
    return results
