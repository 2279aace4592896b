"""One comparison from its settings to its verdict.

`evaluate_together` asks what was not asked yet, measures it, and keeps the result; `evaluate_whole` adds what belongs
to the stage of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.config.evaluation import names
from ftlab.config.stages import PREFERENCE_STAGES, PRETRAINING, REWARD_STAGES, STAGES
from ftlab.core.comparison import (
    ComparisonJson,
    ForgettingJson,
    GainLossJson,
    MeasureJson,
    NoWorseJson,
    SettingsJson,
    VerdictJson,
    whole_form,
)
from ftlab.core.files import DamagedFile, append_jsonl, read_jsonl
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.core.run_results import EvaluatedJson
from ftlab.data.documents import find_documents
from ftlab.data.tool_calls import spoken
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.asking import Asked, collect, memorisation_of, own_of, questions_to, results_of
from ftlab.evaluation.batches import Progress, Stopped, silent
from ftlab.evaluation.before_after import ANSWERING_STAGES, compare_answers, evaluate_preferences, judge_answers
from ftlab.evaluation.drift import RULE, general_forgetting, general_measures
from ftlab.evaluation.embeddings import EmbeddingPlan, Embeddings, plan, vectors_of
from ftlab.evaluation.forgetting import gain_loss
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.harness import kept_measures
from ftlab.evaluation.keeping import NamedQuestion, ToAnswer, question_of, seconds_per_answer, write_comparison
from ftlab.evaluation.losses import bits_per_byte
from ftlab.evaluation.margins import no_worse
from ftlab.evaluation.material import Material, gather, has_references
from ftlab.evaluation.metrics.form import label_notes, told_apart, with_companions
from ftlab.evaluation.metrics.measures import (
    Measured,
    MeasureOptions,
    Rows,
    check_measures,
    measure_likelihoods,
    measure_losses,
    suggest,
)
from ftlab.evaluation.metrics.own import may_run
from ftlab.evaluation.metrics.table import BUILT_IN, of_values
from ftlab.evaluation.metrics.tools import TOOL_MEASURES
from ftlab.evaluation.outside import Outside, OutsideAnswer, answers_of, carried, notes_on, read_answers, spent
from ftlab.evaluation.probes import HELD_RULE
from ftlab.evaluation.retrieval import INDEX, Embed, Retrieval, passages_near, retrieval_of, texts_of
from ftlab.evaluation.rows import OF_CORPUS, Result, changed, compare_results, measure_samples, right_of, samples_note
from ftlab.evaluation.sides import (
    ADAPTED,
    ADAPTED_RETRIEVED,
    PROMPTED,
    RETRIEVED,
    Prompting,
    Side,
    adapted_side,
    base_side,
    config_of,
    identity,
    nothing_to_prompt_with,
    prompted_side,
    prompting_of,
    result_identity,
    retrieved_sides,
    tokenizer_of,
)
from ftlab.evaluation.significance import MEAN_TEST
from ftlab.evaluation.verdict import judge, warnings
from ftlab.models.strength import AS_TRAINED, check_strength


@dataclass(frozen=True)
class Figures:
    """The `measures`, what follows from them, and the value of each row by measure and side."""

    measures: list[MeasureJson]
    forgetting: ForgettingJson | None
    gain_loss: GainLossJson
    verdicts: dict[str, VerdictJson]
    rows: Rows


def measured(
    material: Material,
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    results: Mapping[str, Result],
    config: RunConfig,
    outside: Mapping[Outside, Sequence[OutsideAnswer]] | None = None,
    margins: Mapping[str, Sequence[float | None]] | None = None,
) -> Figures:
    """The `Figures` of `sides`, and of those `outside`, which have answers alone. `margins` are those of
    earlier comparisons, by the name of the verdict."""
    texts = {side.name: [each.answer for each in answers] for side, answers in (outside or {}).items()}
    measures, rows = _of_task(material, asked, results, config, texts)
    measures += _of_losses(material, sides, asked, results)
    first, limit = asked[sides[0].name], config.evaluation.forgetting_limit
    measures += general_measures(material, first, results)
    forgetting = {
        side.name: general_forgetting(material, first, results, limit=limit, side=side.name) for side in sides[1:]
    }
    verdicts = _verdicts(measures, sides, config, forgetting)
    spoken = {side.name: side.spoken for side in sides} | {side.name: side.spoken for side in outside or {}}
    verdicts |= {side.name: judge(measures, side.name, names=spoken) for side in outside or {}}
    pairs = _pairs(material, sides, asked, results, config, outside or {})
    verdicts |= {f"adapted_vs_{rival}": judge(pair, "adapted", names=spoken) for rival, pair in pairs.items()}
    verdicts |= _verdicts_between(material, sides, asked, results, config)
    if config.evaluation.margin is not None:
        for rival, pair in {"base": measures, **pairs}.items():
            key = "adapted" if rival == "base" else f"adapted_vs_{rival}"
            earlier = (margins or {}).get(key, ())
            judged = _by_margin(verdicts[key], pair, rival, rows, material, config.evaluation.margin, earlier)
            _add_margin(verdicts[key], judged)
    changes = gain_loss(measures, forgetting=forgetting["adapted"])
    return Figures(measures, forgetting["adapted"], changes, verdicts, rows)


def task_measures(
    material: Material,
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    results: Mapping[str, Result],
    config: RunConfig,
) -> list[MeasureJson]:
    """The measures of the task for some of the sides, each later one against the first of them."""
    names = [side.name for side in sides]
    of_sides = {name: asked[name] for name in names}, {name: results[name] for name in names}
    return _of_task(material, *of_sides, config)[0] + _of_losses(material, sides, *of_sides)


def _verdicts(
    measures: Sequence[MeasureJson],
    sides: Sequence[Side],
    config: RunConfig,
    forgetting: Mapping[str, ForgettingJson | None],
) -> dict[str, VerdictJson]:
    """Each later side against the base."""
    spoken = {side.name: side.spoken for side in sides}
    verdicts = {
        side.name: judge(
            measures, side.name, names=spoken, forgetting=None if side.prompting else forgetting[side.name]
        )
        for side in sides[1:]
    }
    if forgetting["adapted"] is None and not config.is_starter:
        text = verdicts["adapted"]["text"].removesuffix(".")
        verdicts["adapted"]["text"] = f"{text}; what it forgot was not measured (evaluation.probes)."
    return verdicts


def _pairs(
    material: Material,
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    results: Mapping[str, Result],
    config: RunConfig,
    outside: Mapping[Outside, Sequence[OutsideAnswer]],
) -> dict[str, list[MeasureJson]]:
    """The measures of the adapted model against each side that takes no training, by the name of that side."""
    adapted = next(side for side in sides if side.name == "adapted")
    pairs = {
        side.name: task_measures(material, [side, adapted], asked, results, config)
        for side in sides
        if side.prompting and not side.adapted
    }
    own = {"adapted": asked["adapted"]}, {"adapted": results["adapted"]}
    for other, answers in outside.items():
        texts = {other.name: [each.answer for each in answers]}
        pairs[other.name], _ = _of_task(material, *own, config, texts, order=(other.name, "adapted"))
    return pairs


def _verdicts_between(
    material: Material,
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    results: Mapping[str, Result],
    config: RunConfig,
) -> dict[str, VerdictJson]:
    """Retrieval against fixed examples, what it adds to the adapted model, and what tuning adds to it."""
    by_name = {side.name: side for side in sides}
    spoken = {side.name: side.spoken for side in sides}
    verdicts = {}
    pairs = [(RETRIEVED, PROMPTED), *((ADAPTED_RETRIEVED, first) for first in (ADAPTED, RETRIEVED, PROMPTED))]
    for later, first in pairs:
        if later in by_name and first in by_name:
            pair = task_measures(material, [by_name[first], by_name[later]], asked, results, config)
            verdicts[f"{later}_vs_{first}"] = judge(pair, later, names=spoken)
    return verdicts


def _by_margin(
    verdict: VerdictJson,
    pair: Sequence[MeasureJson],
    rival: str,
    rows: Rows,
    material: Material,
    margin: float,
    earlier: Sequence[float | None],
) -> NoWorseJson | None:
    """Whether the adapted model is no worse than `rival` by the measure that decided; None where none did."""
    measure = next((measure for measure in pair if measure["name"] == verdict["measure"]), None)
    if measure is None:
        return None
    values = rows.get(measure["name"], {}) if measure["name"] not in OF_CORPUS else {}
    before, after = values.get(rival, ()), values.get("adapted", ())
    return no_worse(measure, "adapted", before, after, margin, clusters=material.clusters, earlier=earlier)


def _add_margin(verdict: VerdictJson, judged: NoWorseJson | None) -> None:
    """Say in `verdict` what its margin tells, where it is not better anyway."""
    if judged is None:
        return
    verdict["no_worse"] = judged
    if verdict["better"] is not True:
        verdict["text"] = f"{verdict['text']} {judged['text']}"


def _of_task(
    material: Material,
    asked: Mapping[str, Asked],
    results: Mapping[str, Result],
    config: RunConfig,
    outside: Mapping[str, Sequence[Answer]] | None = None,
    *,
    order: Sequence[str] = (),
) -> Measured:
    """The measures of answers, with a value of each side in their `order` (empty: as they come)."""
    if (pieces := next(iter(asked.values())).pieces) is not None:
        per_document = {
            side: [bits_per_byte([nll], [size]) for nll, size in zip(result.losses.nll, pieces.sizes, strict=True)]
            for side, result in results.items()
        }
        return [], {"bits_per_byte": per_document}
    answers = {
        side: [[spoken(answer.text) for answer in sample] for sample in result.samples]
        for side, result in results.items()
    }
    answers |= {side: [[spoken(answer.text) for answer in known]] for side, known in (outside or {}).items()}
    answers = {side: answers[side] for side in order or answers}
    chosen, options = _chosen(material, config)
    measures, rows = measure_samples(chosen, answers, material.references, options=options)
    # A measure of calls says nothing where no row has one.
    measures = [measure for measure in measures if measure["rows"] or measure["name"] not in TOOL_MEASURES]
    measures = told_apart(measures, names(config.evaluation.measures))
    rows = {measure["name"]: rows[measure["name"]] for measure in measures if measure["name"] in rows}
    losses = {side: result.labels for side, result in results.items() if result.labels is not None}
    if len(losses) == len(results):
        likeliest, more = measure_likelihoods(losses, material.labels, material.references, clusters=material.clusters)
        return measures + likeliest, rows | more
    return measures, rows


def _costs(
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    outside: Mapping[Outside, Sequence[OutsideAnswer]],
    rows: int,
    price_per_hour: float | None,
) -> list[MeasureJson]:
    """What an answer of each side takes: seconds, tokens read, and money as far as there are prices. Nothing where all
    sides are asked the same on this machine, and no price is given."""
    if not outside and price_per_hour is None and not any(side.prompting for side in sides):
        return []
    seconds: dict[str, float | None] = {}
    read: dict[str, float | None] = {}
    thousand: dict[str, float | None] = {}
    for side in sides:
        question = asked[side.name].questions.get("answers")
        assert isinstance(question, ToAnswer)  # only documents have none
        took = seconds_per_answer(side.run, identity(side), question)
        if took is not None and isinstance(side.prompting, Retrieval):
            took += side.prompting.seconds
        seconds[side.name] = took
        read[side.name] = sum(map(len, question.prompts)) / len(question.prompts)
        thousand[side.name] = None if took is None or price_per_hour is None else 1000 * took * price_per_hour / 3600
    for other, replies in outside.items():
        each = spent(other, replies)
        seconds[other.name], read[other.name], thousand[other.name] = each["seconds"], each["read"], each["thousand"]
    named = {"seconds_per_answer": seconds, "prompt_tokens": read, "cost_per_thousand": thousand}
    return [
        of_values(BUILT_IN[name], values, rows)
        for name, values in named.items()
        if any(value is not None for value in values.values())
    ]


def check_choice(material: Material, config: RunConfig) -> None:
    """Raises InputError for measures that do not suit these rows, before any model is asked."""
    if not material.documents:
        chosen, options = _chosen(material, config)
        check_measures(chosen, material.references, options)


def check_settings(config: RunConfig, references: Sequence[str]) -> None:
    """Raises InputError for settings of the section evaluation that would stop a comparison after training.

    `references` are held-out answers. Which measures suit them, and which labels there are, is found out later.
    """
    settings = config.evaluation
    labels = names(settings.labels)
    chosen = [name for name in names(settings.measures) if name != "auto"] + (["pattern"] if settings.pattern else [])
    if not labels:
        chosen = [name for name in chosen if name not in ("accuracy", "macro_f1")]
    check_measures(chosen, references, options_of(config, labels or None))
    if settings.prompted and settings.system_prompt is None and not settings.examples:
        raise nothing_to_prompt_with()
    if settings.documents:
        find_documents(names(settings.documents))


def _chosen(material: Material, config: RunConfig) -> tuple[list[str], MeasureOptions]:
    # Losses are always measured, so that asking for them changes nothing.
    chosen = [name for name in names(config.evaluation.measures) if name not in ("perplexity", "bits_per_byte")]
    if chosen == ["auto"]:
        chosen = suggest(material.references, labels=material.labels or None, tools=material.tools is not None)
        chosen += ["pattern"] if config.evaluation.pattern else []
        chosen += ["json_valid"] if config.evaluation.schema_file and "json_valid" not in chosen else []
    # How much is form is told whatever was asked for.
    chosen = with_companions(chosen, material.references) if chosen else chosen
    clusters = tuple(material.clusters) if material.clusters else None
    options = options_of(config, material.labels or None)
    return chosen, replace(options, commonest=material.commonest, clusters=clusters, tools=material.tools)


def options_of(config: RunConfig, labels: Sequence[str] | None) -> MeasureOptions:
    """What the measures need to know beside answers and references. Raises InputError for a schema without JSON.

    Metric files that only a stored configuration names are left out (see `left_out`).
    """
    return MeasureOptions(
        labels=tuple(labels) if labels else None,
        schema=_schema(config.evaluation.schema_file),
        pattern=config.evaluation.pattern,
        extra=tuple(path for path in names(config.evaluation.own_metrics) if may_run(path)),
    )


def left_out(config: RunConfig) -> list[str]:
    """Which metric files of `config` are not run, as a note: they are code, and only the stored settings name them."""
    files = [path for path in names(config.evaluation.own_metrics) if not may_run(path)]
    if not files:
        return []
    named = ", ".join(files)
    return [
        f"Not measured: {named}. A metric file is code, and only the stored settings of the run name it. To run it, "
        f"pass it yourself: --metric {','.join(files)} with evaluate."
    ]


def _of_losses(
    material: Material, sides: Sequence[Side], asked: Mapping[str, Asked], results: Mapping[str, Result]
) -> list[MeasureJson]:
    """Perplexity where all sides count the same tokens; bits per byte where they do not, and for documents."""
    first = results[sides[0].name].losses
    alike = {name: result for name, result in results.items() if result.losses.tokens == first.tokens}
    pieces = asked[sides[0].name].pieces
    sizes = pieces.sizes if pieces else None
    measures = measure_losses(
        {name: result.losses.nll for name, result in alike.items()},
        {name: result.losses.tokens for name, result in alike.items()},
        sizes if len(alike) == len(results) else None,
        clusters=material.clusters,
    )
    if len(alike) < len(results):
        # Tokens of different tokenizers are different units; bytes are not.
        sizes = sizes or [max(1, len(text.encode())) for text in material.references]
        every = {name: result.losses for name, result in results.items()}
        measures += measure_losses(
            {name: losses.nll for name, losses in every.items()},
            {name: losses.tokens for name, losses in every.items()},
            sizes,
            name="bits_per_byte",
            clusters=material.clusters,
        )
    return measures


def _schema(path: str | None) -> dict[str, Any] | None:
    from ftlab.core.parsing import parse_json

    if path is None:
        return None
    try:
        schema = parse_json(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The JSON schema cannot be read: {error}", given=path) from None
    if not isinstance(schema, dict):
        raise InputError("A JSON schema must be an object", given=f"{path}, which holds {type(schema).__name__}")
    return schema


_PACKAGES = ("torch", "transformers", "peft", "evaluate", "sacrebleu", "scipy")


def _decoding(config: RunConfig) -> SettingsJson:
    samples, temperature = config.evaluation.samples, config.evaluation.temperature
    if not temperature:
        return {"decoding": "greedy"}
    return {"decoding": f"sampled (temperature {temperature:g})", "samples": samples, "temperature": temperature}


def settings_of(material: Material, sides: Sequence[Side], asked: Asked, config: RunConfig) -> SettingsJson:
    """How the sides were asked and measured."""
    from importlib.metadata import version

    from ftlab.evaluation.metrics import EXACT_MATCH_RULE, PROBE_RULE

    tests = {"perplexity": f"summed losses: {MEAN_TEST}"}
    if asked.pieces:
        rules: SettingsJson = {
            "window": max(len(window.input_ids) for window in asked.pieces.windows),
            "bits_per_byte_rule": "summed loss in bits by the UTF-8 bytes of the text, end-of-text tokens included",
        }
    else:
        rules = {"exact_match_rule": EXACT_MATCH_RULE}
        tests |= {"exact_match": "exact McNemar", "bleu": "approximate randomisation, 9999 exchanges"}
        if config.evaluation.samples > 1:
            tests["exact_match"] = MEAN_TEST
    more: SettingsJson = {}
    if material.neutral:
        more |= {"neutral_prompts": len(material.neutral), "drift_rule": RULE}
    if prompting := next((side.prompting for side in sides if isinstance(side.prompting, Prompting)), None):
        more["prompted"] = {"system": prompting.system, "examples": [list(turns) for turns in prompting.examples]}
    if retrieval := next((side.prompting for side in sides if isinstance(side.prompting, Retrieval)), None):
        more["retrieved"] = {"rows": retrieval.count, "index": retrieval.index, "left_out": retrieval.left_out}
        if retrieval.documents:
            more["retrieved"]["documents"] = list(retrieval.documents)
    device, dtype, *_ = identity(sides[0])
    return {
        **_decoding(config),
        "max_new_tokens": material.limit.tokens,
        "longest_answer": str(material.limit),
        "batch_size": config.evaluation.batch_size,
        "rows": len(material.rows),
        "split": material.split,
        "probes": config.evaluation.probes,
        "replayed_kinds": None if material.replayed is None else sorted(material.replayed),
        "probe_max_new_tokens": asked.probe_tokens,
        "context": material.context,
        **rules,
        "general_accuracy_rule": HELD_RULE if any(probe.held for probe in material.probes) else PROBE_RULE,
        "tests": tests | {"general_accuracy": "exact McNemar"},
        **more,
        "device": device,
        "dtype": dtype,
        "quantised": config.method.is_quantised,
        "versions": {name: version(name) for name in _PACKAGES},
    }


__all__ = ["Stopped", "evaluate_before", "evaluate_run", "evaluate_together"]


def evaluate_run(run: RunDirectory, **settings: Any) -> ComparisonJson:
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
    against: Sequence[Outside] = (),
    embeddings: Embeddings | None = None,
    price_per_hour: float | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ComparisonJson:
    """Score the results of `runs` and the base of the first on its held-out split, write the comparison to the
    directory of the first, and return it. The run's own comparison (its rows and settings, the base beside it) is
    replaced by the same question only; any other question lies beside it (`keeping.question_of`).

    The test split is used, or the validation split when there is none (said in the notes); with `suite` (a sample, a
    file, a Hub id) the rows of that. `settings` replace those of `evaluation` in the first run's configuration; with a
    `strength` the first run is scored at that and not as it was trained. `against` are sides that answer elsewhere:
    they stand beside the others, also when the same question is asked again without them. `embeddings` are the index of
    retrieval in place of TF-IDF: texts without a kept vector are sent. `price_per_hour` of this machine makes seconds a
    cost.
    `progress` gets a phase in words, rows done and rows in all. What a side has said before, in any run of the
    workspace, is not asked again. Raises Stopped when `should_stop` says so (earlier results stay as they are),
    InputError when there are no held-out rows, FtlabError when a run has no result.
    """
    began = time.monotonic()
    runs = list(dict.fromkeys(runs))
    before = _seconds_before(runs[0])
    tell = progress or silent
    configs = _configs(runs, {**(settings or {}), "max_rows": max_rows, "max_new_tokens": max_new_tokens})
    tell("reading the held-out rows", 0, 0)
    at = check_strength(configs[0], AS_TRAINED if strength is None else strength)
    check_runs(runs, configs, suite)
    material = gather(runs, configs, suite)
    check_choice(material, configs[0])
    check_embeddings(configs[0], material, embeddings)
    material, question = _asked(runs, configs, material, against, suite, at, embeddings)
    earlier = _earlier(question.place(runs[0]))
    opponents = [*against, *_carried(earlier, against, runs[0], material)]
    if price_per_hour is None and earlier:
        price_per_hour = earlier["settings"].get("price_per_hour")
    if configs[0].evaluation.margin is None and earlier:
        configs[0].evaluation.margin = earlier["settings"].get("margin")
    embed = partial(vectors_of, runs[0], embeddings, tell=tell, should_stop=should_stop) if embeddings else None
    sides = _sides(runs, configs, material, at, embed, embeddings.index if embeddings else INDEX)
    tell("looking up earlier answers", 0, 0)  # only what is missing needs a model
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
        for side in opponents  # last: what costs nothing fails first
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
    costs = [] if material.documents else _costs(sides, asked, outside, len(material.rows), price_per_hour)
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
            *warnings(scores["adapted"], str(material.limit), figures.forgetting),
        ],
    }
    comparison = whole_form(built, scores)
    write_comparison(runs[0], question, comparison, predictions, compared.probes)
    append_jsonl(_seconds_file(runs[0]), {"what": "comparison", "seconds": comparison["seconds"]})
    return comparison


def material_against(
    runs: Sequence[RunDirectory],
    *,
    suite: str | None = None,
    max_rows: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Material:
    """The rows that `evaluate_together` would ask, so that a plan can say what asking them elsewhere takes. Raises as
    that does."""
    configs = _configs(runs, {**(settings or {}), "max_rows": max_rows})
    check_runs(runs, configs, suite)
    material = gather(runs, configs, suite)
    check_choice(material, configs[0])
    return material


def check_embeddings(config: RunConfig, material: Material, embeddings: Embeddings | None) -> None:
    """Raises InputError where there is nothing that `embeddings` could find."""
    if embeddings and (material.documents or not config.evaluation.retrieved):
        why = "plain text has no questions" if material.documents else "evaluation.retrieved=0"
        raise InputError(
            "Embeddings find rows or passages, and none are retrieved", given=why, allowed="1 or more rows"
        )


def embedding_plan(
    runs: Sequence[RunDirectory],
    embeddings: Embeddings,
    *,
    suite: str | None = None,
    max_rows: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> EmbeddingPlan:
    """What `evaluate_together` would send to the address of `embeddings`; sends nothing. Raises as that does."""
    material = material_against(runs, suite=suite, max_rows=max_rows, settings=settings)
    config = _configs(runs[:1], dict(settings or {}))[0]
    check_embeddings(config, material, embeddings)
    return plan(runs[0], embeddings, texts_of(runs[0], material, names(config.evaluation.documents)))


def _check_outside(material: Material, config: RunConfig) -> None:
    """Raises InputError where answers from elsewhere cannot be compared."""
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
    against: Sequence[Outside],
    suite: str | None,
    strength: float,
    embeddings: Embeddings | None,
) -> tuple[Material, NamedQuestion]:
    """The material as far as the files among `against` answer it, with notes on what does not match, and what that
    asks."""
    from ftlab.data.prompt_template import asked_of

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
        suite=suite,
        others=[run.id for run in runs[1:]],
        strength=strength,
        answered_by=answered_by,
        embedded_by=f"{embeddings.url}#{embeddings.model}" if embeddings else None,
    )
    return material, question


def _only(material: Material, places: Sequence[int], notes: Sequence[str]) -> Material:
    """`material` with the rows at `places` alone."""
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
    """The comparison that lies where a new one will; None without one that can be read."""
    try:
        return place.comparison()
    except DamagedFile:
        return None


def _margins(run: RunDirectory) -> dict[str, list[float | None]]:
    """The margins under which two sides of `run` were compared before, by the name of the verdict (None: without)."""
    margins: dict[str, list[float | None]] = {}
    places: list[RunDirectory | Question] = [run, *run.questions()]
    for comparison in [known for place in places if (known := _earlier(place))]:
        for name, verdict in comparison.get("verdicts", {}).items():
            judged = verdict.get("no_worse")
            margins.setdefault(name, []).extend([*judged["earlier"], judged["margin"]] if judged else [None])
    return margins


def _carried(
    earlier: ComparisonJson | None, against: Sequence[Outside], run: RunDirectory, material: Material
) -> list[Outside]:
    """The sides from elsewhere that stay because all of their answers are kept."""
    names_ = {side.name for side in against}
    return [side for side in carried(earlier, run, material) if side.name not in names_]


def _add_row_scores(predictions: list[dict[str, Any]], rows: Rows, material: Material, samples: int) -> None:
    """Put the scores of each row, its columns and its cluster beside the answers."""
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
    """Ask the base of `run` everything that the comparison after training needs, and keep its replies.

    Nothing is asked that is known from this or another run. Raises Stopped, and InputError as `evaluate_run` does.
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
    """What the base of `run` (and the prompted base) is asked before training: material, sides, questions by side."""
    material = gather([run], [config], None)
    sides = [side for side in _sides([run], [config], material) if not side.adapted]
    return material, sides, questions_of(sides, material, config)


def _seconds_file(run: RunDirectory) -> Path:
    """The seconds that evaluating `run` took, one line each: answers taken over from earlier were not free."""
    return run.evaluation / "seconds.jsonl"


def _seconds_before(run: RunDirectory) -> float | None:
    """What evaluating `run` took until now; None if an earlier version asked and did not count."""
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
    changes = {f"evaluation.{name}": value for name, value in settings.items() if value is not None}
    return [with_settings(configs[0], changes).resolved() if changes else configs[0], *configs[1:]]


def check_runs(runs: Sequence[RunDirectory], configs: Sequence[RunConfig], suite: str | None) -> None:
    """Raises InputError and FtlabError for runs that cannot be compared on held-out rows."""
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
    """The questions to each side by its name; sides of one tokenizer and prompt share them."""
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
    *,
    max_rows: int | None = None,
    reward_model: RunDirectory | None = None,
    others: Sequence[RunDirectory] = (),
    suite: str | None = None,
    settings: Mapping[str, Any] | None = None,
    strength: float | None = None,
    against: Sequence[Outside] = (),
    embeddings: Embeddings | None = None,
    price_per_hour: float | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> EvaluatedJson:
    """Evaluate `run` and write the results to its directory; returns those of its stage by name.

    `preferences` (held-out pairs), `comparison` (against the base, where there are reference answers) and
    `before_after` (answers of base, start and run). With `reward_model` only `before_after`, whose answers it judges;
    with `others` (runs to compare with), a `suite` (other rows), `settings` (of the section evaluation), a `strength`,
    sides `against` which to compare, `embeddings` to retrieve by, or a `price_per_hour` only `comparison`. Results of
    another question than the run's own (fewer rows, say) lie beside its own. Raises as each of them does.
    """
    stage = load_config(run.config_file).stage
    more: dict[str, Any] = {"max_rows": max_rows, "progress": progress, "should_stop": should_stop}
    if reward_model is not None:
        if not load_config(reward_model.config_file).is_reward_model:
            raise InputError(f"The run {reward_model.id} is not a reward model", try_="name a run of the stage reward")
        question = compare_answers(run, **more).get("question", {"name": ""})["name"]
        judge_answers(run, reward_model, question=question, progress=progress, should_stop=should_stop)
        judged = (run.question(question) if question else run).before_after()
        return {"before_after": judged} if judged else {}
    if others or suite or settings or strength is not None or against or embeddings or price_per_hour is not None:
        asked: dict[str, Any] = {"suite": suite, "settings": settings, "strength": strength}
        asked |= {"against": against, "embeddings": embeddings, "price_per_hour": price_per_hour}
        return {"comparison": evaluate_together([run, *others], **asked, **more)}
    results: EvaluatedJson = {}
    if stage in PREFERENCE_STAGES:
        results["preferences"] = evaluate_preferences(run, **more)
    if STAGES[stage].answers and (stage not in REWARD_STAGES or has_references(run)):
        results["comparison"] = evaluate_run(run, **more)
    if stage in ANSWERING_STAGES:
        # After the comparison, whose answers it takes over.
        results["before_after"] = compare_answers(run, **more)
    return results
