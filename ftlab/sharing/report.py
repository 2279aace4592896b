"""The comparison for people: a table for every surface, and one page for whoever decides."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from ftlab.config import MethodConfig, RunConfig, load_config
from ftlab.data.documents import STAGE
from ftlab.errors import FtlabError
from ftlab.evaluation.significance import LEVEL, p_text
from ftlab.evaluation.verdict import has_forgotten, next_steps, percent
from ftlab.method_table import METHODS, virtual_tokens
from ftlab.sharing.before_after import MEANINGS, figure_rows, win_lines
from ftlab.sharing.picture import comparison_chart_svg
from ftlab.sharing.table import comparison_table, of_documents
from ftlab.wording import duration
from ftlab.workspace import RunDirectory, read_json, read_jsonl, write_text

__all__ = ["comparison_chart_svg", "comparison_table", "write_report"]

_EXAMPLES = 5
_LONGEST = 420
_KNOWS_TOO_LITTLE = 0.2
_KINDS = ("improved", "got worse", "wrong on both sides", "right on both sides")


def write_report(run: RunDirectory) -> Path:
    """Write the one-page report of the latest comparison of `run`; returns its path.

    One HTML file without scripts that asks no other host for anything. Raises FtlabError before an evaluation.
    """
    comparison = run.comparison()
    if comparison is None and load_config(run.config_file).stage == "reward":
        raise FtlabError(
            f"The run {run.id} is a reward model: it writes no answers that a report could compare",
            try_="its share of held-out pairs is in evaluation/preferences.json, and on the Evaluate tab",
        )
    if comparison is None:
        raise FtlabError(f"The run {run.id} has not been evaluated", try_=f"python -m ftlab evaluate {run.id}")
    write_text(run.report_file, _page(run, comparison, load_config(run.config_file)))
    return run.report_file


def choose_examples(predictions: list[dict[str, Any]], count: int = _EXAMPLES) -> tuple[list[dict[str, Any]], str]:
    """A mix of rows that improved, got worse and stayed, each with its `kind`, and the rule in words.

    The rule looks at nothing but the order of the rows, so that nobody can choose flattering ones. Free text, where
    hardly an answer equals its reference, goes by the change in loss instead.
    """
    of_texts = bool(predictions) and "document" in predictions[0]
    right = 0 if of_texts else sum(row["base_correct"] or row["adapted_correct"] for row in predictions)
    if of_texts or right < 0.05 * len(predictions):
        ranked = sorted(predictions, key=lambda row: row["adapted_loss"] - row["base_loss"])
        last = len(ranked) - 1
        places = sorted({round(i * last / max(1, count - 1)) for i in range(count)})
        chosen = [ranked[place] | {"kind": _loss_kind(ranked[place])} for place in places]
        what = "document" if of_texts else "reference"
        return chosen, f"From the greatest gain to the greatest loss in the probability of the {what}, evenly spaced."
    by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    for row in predictions:
        by_kind[_kind(row)].append(row | {"kind": _kind(row)})
    counts = ", ".join(f"{len(rows):,} {kind}" for kind, rows in by_kind.items())
    wanted = ["improved", "got worse", "wrong on both sides", "improved", "got worse", "right on both sides"]
    wanted += [kind for kind in _KINDS for _ in range(count)]
    chosen = []
    for kind in wanted:
        taken = sum(row["kind"] == kind for row in chosen)
        if len(chosen) < count and taken < len(by_kind[kind]):
            chosen.append(by_kind[kind][taken])
    chosen.sort(key=lambda row: _KINDS.index(row["kind"]))
    return chosen, f"Of the rows, {counts}. Shown are the first of each kind, in the order of the data."


def _page(run: RunDirectory, comparison: dict[str, Any], config: RunConfig) -> str:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # "p < .001" must not be torn apart at the end of a line.
    environment.filters["unbroken"] = lambda text: text.replace("p < ", "p\u00a0<\u00a0").replace(
        "p = ", "p\u00a0=\u00a0"
    )
    # What a preference run brings along takes the room of two examples: the page stays one page.
    fewer = run.before_after() is not None
    examples, rule = choose_examples(run.predictions(), _EXAMPLES - 2 * fewer)
    return environment.get_template("report.html.jinja").render(
        run=run,
        name=config.name or run.id,
        verdict=comparison["verdict"],
        badge=_badge(comparison["verdict"]),
        facts=_facts(run, config),
        table=comparison_table(comparison),
        chart=Markup(comparison_chart_svg(comparison)),
        notes=comparison["notes"],
        forgetting=_forgetting(comparison),
        before_after=_before_after(run.before_after()),
        lost=[row for row in read_jsonl(run.probes_file) if row["base_correct"] and not row["adapted_correct"]][:2],
        of_documents=of_documents(comparison),
        examples=[{key: _clip(value) for key, value in row.items()} | {"tone": _tone(row["kind"])} for row in examples],
        rule=rule,
        measured=_measured(comparison),
        steps=next_steps(comparison, config),
        date=_date(comparison["created"]),
    )


def _before_after(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """The answers of base, start and run in three figures each; None for runs that have none."""
    if found is None:
        return None
    head, *rows = [[row[0], row[1], row[3], row[4]] for row in figure_rows(found)]
    how = f"Greedy answers to {found['rows']} prompts of the {found['split']} split: {' '.join(MEANINGS[:3])}"
    return {"head": head, "rows": rows, "how": how, "lines": win_lines(found)}


def _badge(verdict: dict[str, Any]) -> tuple[str, str]:
    """Colour and word above the verdict."""
    if verdict["better"] is None:
        return "open", "Not decided"
    if not verdict["better"]:
        return "worse", "Worse than its base"
    return ("open", "Better, but it forgot") if verdict.get("forgot") else ("better", "Better than its base")


def _facts(run: RunDirectory, config: RunConfig) -> list[tuple[str, str]]:
    """What was tuned on what, as pairs of label and text."""
    method, settings = config.method, config.optimisation
    adaptation = _method(method)
    status = read_json(run.status_file, {})
    trained, total = status.get("trained_parameters"), status.get("total_parameters")
    if trained and total:
        adaptation += f", {trained:,} of {total:,} weights ({percent(trained / total)})"
    base = config.model.base + (" (the toy that ships with ftlab)" if config.is_starter else "")
    if config.stage == STAGE:
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
    device = read_json(run.environment_file, {}).get("device")
    training.append(f"on {device.upper() if device == 'cpu' else device}" if device else "")
    facts.append(("Training", ", ".join(filter(None, training))))
    return facts


def _method(method: MethodConfig) -> str:
    title = METHODS[method.name].title
    if method.name == "qlora":
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

            counts[split] = pyarrow.parquet.read_metadata(run.split_file(split)).num_rows
    sizes = ", ".join(f"{rows:,} {split}" for split, rows in counts.items() if rows)
    source = _source_name(config.data.source)
    units = "documents" if config.stage == STAGE else "rows"
    text = f"{source}: {sizes} {units}" if sizes else source
    return text + (f", with {_source_name(config.data.replay)} mixed in" if config.data.replay else "")


def _source_name(source: str) -> str:
    """A sample or a Hub id as it is; of a file its name only: the folders of whoever trained are nobody's business."""
    path = Path(source)
    is_file = (
        path.is_absolute()
        or source.startswith((".", "~"))
        or path.suffix in (".json", ".jsonl", ".csv", ".parquet", ".txt")
    )
    return path.name if is_file else source


def _forgetting(comparison: dict[str, Any]) -> str:
    """One paragraph on what the model still knows."""
    base, adapted = comparison["base"], comparison["adapted"]
    before, after = base.get("general_accuracy"), adapted.get("general_accuracy")
    if before is None or after is None:
        return "Not measured: no general questions were asked (evaluation.probes)."
    p = comparison.get("tests", {}).get("general_accuracy")
    evidence = (
        f"{percent(before)} of {adapted['general_rows']:,} general questions right before, {percent(after)} after"
    )
    evidence += f" ({p_text(p)})." if p is not None else "."
    if before < _KNOWS_TOO_LITTLE:
        return f"Cannot be told: the base itself knows too few answers. {evidence}"
    if has_forgotten(base, adapted):
        return f"The model has forgotten some of what it knew: {evidence}"
    if after < before and p is not None and p < LEVEL:
        return f"Little was forgotten: {evidence}"
    return f"Nothing that these questions can show was forgotten: {evidence}"


def _measured(comparison: dict[str, Any]) -> list[str]:
    """How it was measured, in sentences."""
    settings, adapted = comparison["settings"], comparison["adapted"]
    if of_documents(comparison):
        sentences = [
            f"Both models read the same {adapted['rows']:,} documents of the {comparison['split']} split, which was "
            f"not trained on, in windows of at most {settings['window']:,} tokens.",
            f"Perplexity: over the corpus, on {adapted['tokens']:,} tokens, the end of each document among them.",
            f"Bits per byte: {settings['bits_per_byte_rule']}; {adapted['bytes']:,} bytes.",
        ]
        return sentences + _measured_alike(comparison)
    sentences = [
        f"Both models answered the same {adapted['rows']:,} rows of the {comparison['split']} split, which was not "
        f"trained on, by {settings['decoding']} decoding of at most {settings['max_new_tokens']:,} tokens.",
        f"Exact match: {settings['exact_match_rule']}.",
        f"Perplexity: over the corpus, on the {adapted['tokens']:,} tokens of the reference answers.",
        f"BLEU: {adapted['bleu_signature']}.",
    ]
    return sentences + _measured_alike(comparison)


def _measured_alike(comparison: dict[str, Any]) -> list[str]:
    """What is said of answers and of documents alike."""
    settings, adapted = comparison["settings"], comparison["adapted"]
    sentences = []
    if adapted.get("general_accuracy") is not None:
        sentences.append(
            f"General questions: {_source_name(settings['probes'])}, {adapted['general_rows']:,} asked; "
            f"{settings['general_accuracy_rule']}."
        )
    tests = settings["tests"]
    shares = tests.get("exact_match") or tests["general_accuracy"]
    used = [f"{shares} (shares), {tests['perplexity']}", *filter(None, [tests.get("bleu")])]
    sentences.append(f"Intervals: 95%, Wilson for shares, bootstrap for the rest. Tests: {'; '.join(used)}.")
    if settings["quantised"]:
        sentences.append("Both models ran on the quantised base, as in training.")
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    sentences.append(
        f"The comparison took {duration(comparison['seconds'])} on {settings['device'].upper()} in "
        f"{settings['dtype']}. Versions: {versions}."
    )
    return sentences


def _kind(row: dict[str, Any]) -> str:
    if row["base_correct"] == row["adapted_correct"]:
        return "right on both sides" if row["base_correct"] else "wrong on both sides"
    return "improved" if row["adapted_correct"] else "got worse"


def _loss_kind(row: dict[str, Any]) -> str:
    change = row["adapted_loss"] - row["base_loss"]
    word = "improved" if change < 0 else "got worse" if change > 0 else "unchanged"
    return f"{word}: loss {row['base_loss']:.2f} to {row['adapted_loss']:.2f}"


def _tone(kind: str) -> str:
    return "improved" if kind.startswith("improved") else "worse" if kind.startswith("got worse") else "same"


def _clip(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[: _LONGEST - 1].rstrip() + "…"
    return value


def _date(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds)
    return f"{moment.day} {moment:%B %Y}"
