"""The facts in a report besides scores: what was tuned on what, how long it took, how it was measured."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from ftlab.config import MethodConfig, RunConfig
from ftlab.config.evaluation import names, sized
from ftlab.config.methods import METHODS
from ftlab.config.sections import virtual_tokens
from ftlab.config.stages import PRETRAINING
from ftlab.core.comparison import SettingsJson, SourceJson, scores_of
from ftlab.core.endpoint import money
from ftlab.core.files import read_cached
from ftlab.core.run_directory import EXPORT_RECORD, RunDirectory
from ftlab.core.words import counted, duration, listed
from ftlab.data.splits import REPLAYED
from ftlab.evaluation.figures import percent
from ftlab.evaluation.probes import SELF
from ftlab.models.bases.get import record_of, sha256_of_source
from ftlab.models.bases.known import KNOWN
from ftlab.models.strength import AS_TRAINED, strength_choice
from ftlab.report.measures import Comparison, measures_of, of_documents
from ftlab.synthesis.writing import ANSWERS

_MOST_SOURCES = 5  # documents named in a sentence


def tuned_on(
    run: RunDirectory, config: RunConfig, comparison: Comparison | None = None, price_per_hour: float | None = None
) -> list[tuple[str, str]]:
    """Model, data, method, training and cost, as pairs of label and text."""
    method, settings = config.method, config.optimisation
    adaptation = _method(method)
    status = read_cached(run.status_file) or {}
    trained, total = status.get("trained_parameters"), status.get("total_parameters")
    if trained and total:
        adaptation += f", {trained:,} of {total:,} weights ({percent(trained / total)})"
    base = source_name(config.model.base)
    if config.is_starter:
        base += " (the toy that ships with ftlab)"
    elif origin := origin_of(config.model.base):
        base += f" ({origin})"
    if config.stage == PRETRAINING:
        adaptation += "; continued pretraining on plain text"
    facts = [("Base model", base), ("Data", _data(run, config)), ("Method", adaptation)]
    metrics = run.metrics()
    passes = f"{metrics[-1].get('epoch', settings.epochs):g} passes" if metrics else f"{settings.epochs} passes"
    training = [
        f"{passes} over the data",
        f"learning rate {settings.learning_rate:g}" if settings.learning_rate else "",
    ]
    if len(metrics) > 1:
        training.append(duration(metrics[-1]["time"] - metrics[0]["time"]))
    device = (read_cached(run.environment_file) or {}).get("device")
    training.append(f"on {device.upper() if device == 'cpu' else device}" if device else "")
    facts.append(("Training", ", ".join(filter(None, training))))
    facts.append(("Time and cost", _cost(metrics, comparison, price_per_hour)))
    return facts


def strength_fact(run: RunDirectory) -> list[tuple[str, str]]:
    """The strength at which the run is used and was exported, if it is not the strength as trained that the figures
    refer to."""
    choice, uses = strength_choice(run), []
    if choice is not None:
        uses.append(f"used at {choice['strength']:g} in chat, exports and blind tests, chosen {choice['by']}")
    for kind in ("adapter", "merged"):
        record = read_cached(run.export_folder(kind) / EXPORT_RECORD)
        at = ((record or {}).get("shape") or {}).get("strength", AS_TRAINED)
        if at != AS_TRAINED:
            uses.append(f"exported at {at:g} ({'whole model' if kind == 'merged' else kind})")
    return [("Strength", f"{'; '.join(uses)}. The figures here are those of the model as trained")] if uses else []


def _cost(metrics: list[dict[str, Any]], comparison: Comparison | None, price_per_hour: float | None) -> str:
    """The time of training and evaluation, and its cost if the machine's price per hour is known."""
    trained = metrics[-1]["time"] - metrics[0]["time"] if len(metrics) > 1 else 0.0
    now, before = (comparison.get("seconds"), comparison.get("seconds_before")) if comparison else (None, None)
    hours = (trained + (now or 0) + (before or 0)) / 3600
    text = f"{hours:.2g} machine hours"
    if now is not None:
        text += f", {duration(now)} of them for this comparison"
        text += f" and {duration(before)} for asking the base beforehand" if before else ""
        # Comparisons of earlier versions did not record the time for their base.
        text += "; asking the base beforehand is not counted" if before is None else ""
    return text if price_per_hour is None else f"{text}; {money(hours * price_per_hour)} at {price_per_hour:g} per hour"


def took(comparison: Comparison) -> str:
    """How long a comparison took, and what was asked before it."""
    seconds, before = comparison["seconds"], comparison.get("seconds_before")
    text = "an unknown time" if seconds is None else duration(seconds)
    if before is None:
        return f"{text}, not counting the base's earlier answers"
    return f"{text}, after {duration(before)} of asking the base beforehand" if before else text


def _method(method: MethodConfig) -> str:
    title = METHODS[method.name].title
    if method.is_quantised:
        title += " (8-bit base)" if method.quantisation == "int8" else " (4-bit base)"
    if "rank" in METHODS[method.name].fields:
        return f"{title}, rank {method.rank}"
    if method.name == "bottleneck":
        return f"{title}, {method.placement.capitalize()} placement, reduction factor {method.reduction_factor}"
    return f"{title}, {tokens} virtual tokens" if (tokens := virtual_tokens(method)) else title


def _data(run: RunDirectory, config: RunConfig) -> str:
    counts = {}
    for split in ("train", "validation", "test"):
        if run.split_file(split).exists():
            import pyarrow.parquet

            sources = pyarrow.parquet.read_table(run.split_file(split), columns=["source"]).column("source")
            counts[split] = sum(source != REPLAYED for source in sources.to_pylist())
    sizes = ", ".join(f"{rows:,} {split}" for split, rows in counts.items() if rows)
    source = source_name(config.data.source)
    units = "documents" if config.stage == PRETRAINING else "rows"
    text = f"{source}: {sizes} {units}" if sizes else source
    rows = {
        record["source"]: record.get("rows")
        for record in (run.manifest().get("replay"), run.manifest().get("replay_text"))
        if record
    }

    def mixed(name: str) -> str:
        what = f"the base's own answers to {source_name(name)}" if name == config.data.replay_prompts else None
        known = rows.get(name)
        return f"{counted(known, 'row')} of {what or source_name(name)}" if known else what or source_name(name)

    mixed_in = [mixed(name) for name in config.data.replayed]
    text += f", with {' and '.join(mixed_in)} mixed in" if mixed_in else ""
    return f"{text}. {written}" if (written := written_rows(run)) else text


def written_rows(run: RunDirectory) -> str:
    """Which rows of the data a model wrote, and how many of them nobody read. Empty if there are none."""
    made = run.manifest().get("made")
    if not made or not made["rows"]:
        return ""
    parts = [
        f"{count:,} {split}" + (f" ({unread:,} of them unread)" if (unread := made["unread"].get(split)) else "")
        for split, count in made["rows"].items()
    ]
    done = "Answered" if made["kind"] == ANSWERS else "Written"
    return f"{done} by {made['by']}, not by people: {listed(parts)} rows"


def origin_of(base: str) -> str:
    """The origin of the weights of a bundled base. Empty for other bases."""
    if (known := KNOWN.get(base)) is not None:
        return f"{known.title}, {known.license}, from {known.source}, dequantized from {known.precision}"
    if (sha256 := sha256_of_source(base)) is None:
        return ""
    record = record_of(base)
    return f"dequantized from {record.precision if record else 'GGUF'}, sha256 of the GGUF file {sha256[:16]}"


def precision_of(base: str) -> str | None:
    """The original number format of a base's weights, if ftlab dequantized them. None for other bases."""
    if (known := KNOWN.get(base)) is not None:
        return known.precision
    record = record_of(base)
    return record.precision if record else None


def source_name(source: str) -> str:
    """A sample or Hub id unchanged; for a file only its name, so that no private path is published."""
    path = Path(source)
    is_file = (
        path.is_absolute()
        or source.startswith((".", "~"))
        or path.suffix in (".json", ".jsonl", ".csv", ".parquet", ".txt", ".gguf")
    )
    return path.name if is_file else source


def measured(comparison: Comparison, in_table: Container[str]) -> list[str]:
    """How it was measured, in sentences. The rules of the measures `in_table` come last."""
    settings = comparison["settings"]
    known = scores_of(comparison, "adapted")
    asked = f"the same {comparison.get('rows') or known.get('rows'):,}"
    if of_documents(comparison):
        sentences = [
            f"All sides read {asked} documents of {_where(comparison)}, in windows of at most {settings['window']:,} "
            "tokens.",
            f"Perplexity: over the corpus, on {known['tokens']:,} tokens, including the end of each document.",
            f"Bits per byte: {settings['bits_per_byte_rule']}; {known['bytes']:,} bytes.",
        ]
    else:
        sentences = [
            f"All sides answered {asked} rows of {_where(comparison)}, with {settings['decoding']} decoding of "
            f"{settings.get('longest_answer') or _at_most(settings)}"
            f"{f', {_samples(comparison)} answers to each row' if _samples(comparison) > 1 else ''}.",
            f"Perplexity: over the corpus, on the {known['tokens']:,} tokens of the reference answers.",
        ]
    others, replayed_kinds = known.get("general_rows") or 0, known.get("general_rows_replayed") or 0
    if others or replayed_kinds:
        replayed = f", {replayed_kinds:,} of them of kinds that were replayed" if replayed_kinds else ""
        sentences.append(
            f"General questions: {_questions(settings['probes'])}, {others + replayed_kinds:,} asked{replayed}; "
            f"{settings['general_accuracy_rule']}."
        )
    if settings.get("neutral_prompts"):
        sentences.append(
            f"Change against the base: {settings['neutral_prompts']} neutral prompts; {settings['drift_rule']}. The "
            "limits for kept and lost were fixed beforehand."
        )
    sentences.append(_tests(comparison))
    if settings["quantised"]:
        sentences.append("All sides ran on the quantized base, as in training.")
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    sentences.append(
        f"The comparison took {took(comparison)}, on {settings['device'].upper()} in "
        f"{settings['dtype']}. Versions: {versions}."
    )
    return sentences if of_documents(comparison) else sentences + _rules(comparison, in_table)


def retrieved(comparison: Comparison) -> str:
    """What retrieval put before each question, its source, and the tokens it takes. Empty without retrieval."""
    settings = comparison["settings"].get("retrieved")
    if not settings:
        return ""
    sources = settings.get("documents", [])
    things = "passages" if sources else "training rows"
    whence = f", of {listed([_source(each) for each in sources[:_MOST_SOURCES]])}" if sources else ""
    if len(sources) > _MOST_SOURCES:
        whence += f", and of {counted(len(sources) - _MOST_SOURCES, 'more document')}"
    read = next((row["values"] for row in comparison.get("measures", []) if row["name"] == "prompt_tokens"), {})
    plain, more = read.get("base"), read.get("retrieved")
    tokens = f" Tokens read per answer: {more:,.0f}, without it {plain:,.0f}." if plain and more else ""
    return (
        f"Retrieval ({settings['index']}) put up to {settings['rows']} {things} before each question{whence}.{tokens}"
    )


def _source(document: SourceJson) -> str:
    return f"{document['name']} ({counted(document['passages'], 'passage')}, sha256 {document['sha256'][:12]})"


def _questions(probes: str | None) -> str:
    """The data sets with questions among the probes."""
    return listed([source_name(name) for name in names(probes or "") if sized(name.lower())[0] != SELF])


def _samples(comparison: Comparison) -> int:
    """The number of answers per row from each side."""
    return int(comparison["settings"].get("samples") or 1)


def _at_most(settings: SettingsJson) -> str:
    return f"at most {settings['max_new_tokens']:,} tokens"


def _where(comparison: Comparison) -> str:
    if suite := comparison.get("suite"):
        return f"{source_name(suite)}, which are not those of the run"
    return f"the {comparison['split']} split, which was not trained on"


def _rules(comparison: Comparison, in_table: Container[str]) -> list[str]:
    """The rule of each measure of answers: its normalization or its signature."""
    settings, known = comparison["settings"], comparison["adapted"]
    listed = [measure for measure in measures_of(comparison) if measure["name"] in in_table]
    names = {measure["name"] for measure in listed}
    answers = [measure for measure in listed if measure["group"] == "task" and measure["kind"] != "loss"]
    rules = {measure["title"]: measure["rule"] for measure in answers if measure["rule"]}
    # Comparisons that did not yet list their measures stored these two rules elsewhere.
    if "exact_match" in names and "exact_match_rule" in settings:
        rules.setdefault("Exact match", settings["exact_match_rule"])
    if "bleu" in names and "bleu_signature" in known:
        rules.setdefault("BLEU", known["bleu_signature"])
    return [f"{title}: {rule}." for title, rule in rules.items()]


def _tests(comparison: Comparison) -> str:
    """Which test decided which measure."""
    used: dict[str, list[str]] = {}
    for measure in measures_of(comparison):
        for difference in measure["differences"].values():
            if (test := difference.get("test")) and measure["title"] not in used.setdefault(test, []):
                used[test].append(measure["title"])
    if used:
        tests_used = [f"{test} ({', '.join(titles)})" for test, titles in used.items()]
    else:
        tests = comparison["settings"]["tests"]
        shares = tests.get("exact_match") or tests["general_accuracy"]
        tests_used = [f"{shares} (shares)", tests["perplexity"], *filter(None, [tests.get("bleu")])]
    kinds = "Wilson for shares" if _samples(comparison) == 1 else "Wilson for shares without parts of a row"
    return f"Intervals: 95%, {kinds}, bootstrap for the rest. Tests: {'; '.join(tests_used)}."
