"""From what all sides said to `measures`: values, intervals and tests, in the shape that the app and reports draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftlab.config import RunConfig
from ftlab.config_evaluation import names
from ftlab.errors import InputError
from ftlab.evaluation.asking import Asked
from ftlab.evaluation.documents import bits_per_byte
from ftlab.evaluation.gain_loss import gain_loss
from ftlab.evaluation.general import general_forgetting, general_measures
from ftlab.evaluation.material import Material
from ftlab.evaluation.measures import (
    MeasureOptions,
    check_measures,
    measure_likelihoods,
    measure_losses,
    suggest,
)
from ftlab.evaluation.metrics.form import told_apart, with_companions
from ftlab.evaluation.metrics.own import may_run
from ftlab.evaluation.prompting import nothing_to_prompt_with
from ftlab.evaluation.samples import measure_samples
from ftlab.evaluation.scores import Result
from ftlab.evaluation.sides import Side
from ftlab.evaluation.verdict import judge

Rows = dict[str, dict[str, list[float | None]]]


def measured(
    material: Material,
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    results: Mapping[str, Result],
    config: RunConfig,
) -> tuple[dict[str, Any], Rows]:
    """`measures` and what follows from them, and per measure and side the value of each row."""
    measures, rows = _of_task(material, asked, results, config)
    measures += _of_losses(material, sides, asked, results)
    first, limit = asked[sides[0].name], config.evaluation.forgetting_limit
    measures += general_measures(material, first, results)
    forgetting = {
        side.name: general_forgetting(material, first, results, limit=limit, side=side.name) for side in sides[1:]
    }
    return {
        "measures": measures,
        "forgetting": forgetting["adapted"],
        "gain_loss": gain_loss(measures, forgetting=forgetting["adapted"]),
        "verdicts": _verdicts(measures, material, sides, asked, results, config, forgetting),
    }, rows


def task_measures(
    material: Material,
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    results: Mapping[str, Result],
    config: RunConfig,
) -> list[dict[str, Any]]:
    """The measures of the task for some of the sides, each later one against the first of them."""
    names = [side.name for side in sides]
    said = {name: asked[name] for name in names}, {name: results[name] for name in names}
    return _of_task(material, *said, config)[0] + _of_losses(material, sides, *said)


def _verdicts(
    measures: Sequence[Mapping[str, Any]],
    material: Material,
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    results: Mapping[str, Result],
    config: RunConfig,
    forgetting: Mapping[str, Mapping[str, Any] | None],
) -> dict[str, dict[str, Any]]:
    """Each later side against the base, and the adapted model against the base that was only prompted."""
    spoken = {side.name: side.spoken for side in sides}
    found = {
        side.name: judge(measures, side.name, names=spoken, forgetting=forgetting[side.name]) for side in sides[1:]
    }
    if forgetting["adapted"] is None and not config.is_starter:
        text = found["adapted"]["text"].removesuffix(".")
        found["adapted"]["text"] = f"{text}; what it forgot was not measured (evaluation.probes)."
    two = [side for side in sides if side.name in ("prompted", "adapted")]
    if len(two) == 2:
        found["adapted_vs_prompted"] = judge(task_measures(material, two, asked, results, config), "adapted")
    return found


def _of_task(
    material: Material, asked: Mapping[str, Asked], results: Mapping[str, Result], config: RunConfig
) -> tuple[list[dict[str, Any]], Rows]:
    if material.documents:
        sizes = next(iter(asked.values())).pieces.sizes
        per_document = {
            side: [bits_per_byte([nll], [size]) for nll, size in zip(result.losses.nll, sizes, strict=True)]
            for side, result in results.items()
        }
        return [], {"bits_per_byte": per_document}
    answers = {side: [[answer.text for answer in one] for one in result.samples] for side, result in results.items()}
    chosen, options = _chosen(material, config)
    measures, rows = measure_samples(chosen, answers, material.references, options=options)
    measures = told_apart(measures, names(config.evaluation.measures))
    rows = {one["name"]: rows[one["name"]] for one in measures if one["name"] in rows}
    losses = {side: result.labels for side, result in results.items() if result.labels is not None}
    if len(losses) == len(results):
        likeliest, more = measure_likelihoods(losses, material.labels, material.references, clusters=material.clusters)
        return measures + likeliest, rows | more
    return measures, rows


def check_choice(material: Material, config: RunConfig) -> None:
    """Raises InputError for measures that cannot be taken of these rows, while no model has been asked anything."""
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


def _chosen(material: Material, config: RunConfig) -> tuple[list[str], MeasureOptions]:
    # Losses are always measured, so that asking for them changes nothing.
    chosen = [name for name in names(config.evaluation.measures) if name not in ("perplexity", "bits_per_byte")]
    if chosen == ["auto"]:
        chosen = suggest(material.references, labels=material.labels or None)
        chosen += ["pattern"] if config.evaluation.pattern else []
        chosen += ["json_valid"] if config.evaluation.schema_file and "json_valid" not in chosen else []
    # How much is form is told whatever was asked for.
    chosen = with_companions(chosen, material.references) if chosen else chosen
    clusters = tuple(material.clusters) if material.clusters else None
    options = options_of(config, material.labels or None)
    return chosen, replace(options, commonest=material.commonest, clusters=clusters)


def options_of(config: RunConfig, labels: Sequence[str] | None) -> MeasureOptions:
    """What the measures need to know beside answers and references. Raises InputError for a schema without JSON.

    Metric files that a stored configuration names and nobody has named anew are no part of it (`left_out`).
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
        f"name it yourself: --metric {','.join(files)} with evaluate."
    ]


def _of_losses(
    material: Material, sides: Sequence[Side], asked: Mapping[str, Asked], results: Mapping[str, Result]
) -> list[dict[str, Any]]:
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
    from pathlib import Path

    from ftlab.parsing import parse_json

    if path is None:
        return None
    try:
        found = parse_json(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The JSON schema cannot be read: {error}", given=path) from None
    if not isinstance(found, dict):
        raise InputError("A JSON schema is an object", given=f"{path}, which holds {type(found).__name__}")
    return found
