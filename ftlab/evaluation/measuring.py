"""The results for several sides: measures, verdicts, margins, costs, and the settings used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig
from ftlab.config.evaluation import names
from ftlab.core.comparison import (
    ForgettingJson,
    GainLossJson,
    MeasureJson,
    NoWorseJson,
    SettingsJson,
    VerdictJson,
)
from ftlab.data.documents import find_documents
from ftlab.data.tool_calls import spoken
from ftlab.errors import InputError
from ftlab.evaluation.asking import Asked
from ftlab.evaluation.drift import RULE, general_forgetting, general_measures
from ftlab.evaluation.forgetting import KNEW, gain_loss
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.keeping import ToAnswer, seconds_per_answer
from ftlab.evaluation.losses import bits_per_byte
from ftlab.evaluation.margins import no_worse
from ftlab.evaluation.material import Material
from ftlab.evaluation.metrics.form import told_apart, with_companions
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
from ftlab.evaluation.outside import Outside, OutsideAnswer, spent
from ftlab.evaluation.probes import HELD_RULE
from ftlab.evaluation.retrieval import Retrieval
from ftlab.evaluation.rows import OF_CORPUS, Result, measure_samples
from ftlab.evaluation.sides import (
    ADAPTED,
    ADAPTED_RETRIEVED,
    PROMPTED,
    RETRIEVED,
    Prompting,
    Side,
    identity,
    nothing_to_prompt_with,
)
from ftlab.evaluation.significance import MEAN_TEST
from ftlab.evaluation.verdict import judge


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
    """The `Figures` of `sides`, and of those `outside`, which only have answers. `margins` are those of earlier
    comparisons, by verdict name."""
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
    # What decides about the adapted model decides about every other pair: else one pair could be compared by the form
    # of its answers, and another by what they say.
    by = verdicts[ADAPTED]["measure"]
    verdicts |= {side.name: judge(measures, side.name, names=spoken, by=by) for side in outside or {}}
    pairs = _pairs(material, sides, asked, results, config, outside or {})
    verdicts |= {f"adapted_vs_{rival}": judge(pair, "adapted", names=spoken, by=by) for rival, pair in pairs.items()}
    verdicts |= _verdicts_between(material, sides, asked, results, config, by)
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
    verdicts: dict[str, VerdictJson] = {}
    for side in sorted(sides[1:], key=lambda side: side.name != ADAPTED):
        verdicts[side.name] = judge(
            measures,
            side.name,
            names=spoken,
            forgetting=None if side.prompting else forgetting[side.name],
            by=verdicts[ADAPTED]["measure"] if verdicts else None,
        )
    if forgetting["adapted"] is None and not config.is_starter:
        text = verdicts["adapted"]["text"].removesuffix(".")
        verdicts["adapted"]["text"] = f"{text}; {KNEW}: not measured (evaluation.probes)."
    return verdicts


def _pairs(
    material: Material,
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    results: Mapping[str, Result],
    config: RunConfig,
    outside: Mapping[Outside, Sequence[OutsideAnswer]],
) -> dict[str, list[MeasureJson]]:
    """The measures of the adapted model against each untrained side, by the name of that side."""
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
    by: str | None,
) -> dict[str, VerdictJson]:
    """Retrieval against fixed examples, what it adds to the adapted model, and what tuning adds to it."""
    by_name = {side.name: side for side in sides}
    spoken = {side.name: side.spoken for side in sides}
    verdicts = {}
    pairs = [(RETRIEVED, PROMPTED), *((ADAPTED_RETRIEVED, first) for first in (ADAPTED, RETRIEVED, PROMPTED))]
    for later, first in pairs:
        if later in by_name and first in by_name:
            pair = task_measures(material, [by_name[first], by_name[later]], asked, results, config)
            verdicts[f"{later}_vs_{first}"] = judge(pair, later, names=spoken, by=by)
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
    """Whether the adapted model is no worse than `rival` by the deciding measure. None if none decided."""
    measure = next((measure for measure in pair if measure["name"] == verdict["measure"]), None)
    if measure is None:
        return None
    values = rows.get(measure["name"], {}) if measure["name"] not in OF_CORPUS else {}
    before, after = values.get(rival, ()), values.get("adapted", ())
    return no_worse(measure, "adapted", before, after, margin, clusters=material.clusters, earlier=earlier)


def _add_margin(verdict: VerdictJson, judged: NoWorseJson | None) -> None:
    """Add the result of its margin to `verdict`, unless it is better anyway."""
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
    """The measures of answers, with the values of each side in `order` (empty: as given)."""
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
    # A measure of calls is meaningless if no row has one.
    measures = [measure for measure in measures if measure["rows"] or measure["name"] not in TOOL_MEASURES]
    measures = told_apart(measures, names(config.evaluation.measures))
    rows = {measure["name"]: rows[measure["name"]] for measure in measures if measure["name"] in rows}
    losses = {side: result.labels for side, result in results.items() if result.labels is not None}
    if len(losses) == len(results):
        likeliest, more = measure_likelihoods(losses, material.labels, material.references, clusters=material.clusters)
        return measures + likeliest, rows | more
    return measures, rows


def costs_of(
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    outside: Mapping[Outside, Sequence[OutsideAnswer]],
    rows: int,
    price_per_hour: float | None,
) -> list[MeasureJson]:
    """What an answer of each side costs: seconds, tokens read, and money if there are prices. Empty if all sides are
    asked the same on this machine, and no price is given."""
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

    `references` are held-out answers. Which measures suit them, and which labels there are, is determined later.
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
    # Losses are always measured, so requesting them changes nothing.
    chosen = [name for name in names(config.evaluation.measures) if name not in ("perplexity", "bits_per_byte")]
    if chosen == ["auto"]:
        chosen = suggest(material.references, labels=material.labels or None, tools=material.tools is not None)
        chosen += ["pattern"] if config.evaluation.pattern else []
        chosen += ["json_valid"] if config.evaluation.schema_file and "json_valid" not in chosen else []
    # How much is form is reported regardless of the requested measures.
    chosen = with_companions(chosen, material.references) if chosen else chosen
    clusters = tuple(material.clusters) if material.clusters else None
    options = options_of(config, material.labels or None)
    return chosen, replace(options, commonest=material.commonest, clusters=clusters, tools=material.tools)


def options_of(config: RunConfig, labels: Sequence[str] | None) -> MeasureOptions:
    """What the measures need besides answers and references. Raises InputError for a schema without JSON.

    Metric files named only in a stored configuration are left out (see `left_out`).
    """
    return MeasureOptions(
        labels=tuple(labels) if labels else None,
        schema=_schema(config.evaluation.schema_file),
        pattern=config.evaluation.pattern,
        extra=tuple(path for path in names(config.evaluation.own_metrics) if may_run(path)),
    )


def left_out(config: RunConfig) -> list[str]:
    """A note on the metric files of `config` that are not run: they are code, and only the stored settings name
    them."""
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
    """Perplexity if all sides count the same tokens; bits per byte if they do not, and for documents."""
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
        # Tokens of different tokenizers are not comparable; bytes are.
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
    """How the sides were prompted and measured."""
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
