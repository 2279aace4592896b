"""The model card of an export: metadata for the Hub, and prose for the users of the model.

Texts of data, models and people are escaped; rows of the data are not quoted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from ftlab.config import RunConfig, load_config
from ftlab.config.methods import fields_of
from ftlab.config.stages import PRETRAINING
from ftlab.core.comparison import ComparisonJson
from ftlab.core.files import write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.prompt_template import asked_of
from ftlab.evaluation.forgetting import is_unmeasured
from ftlab.export.serving import loading_code, serving_section
from ftlab.export.shape import Shape
from ftlab.export.to_gguf import PLAIN
from ftlab.export.verify import VerificationJson, evaluation_at, lines
from ftlab.models.bases.get import record_of
from ftlab.models.bases.known import KNOWN
from ftlab.models.identity import is_made_of
from ftlab.models.strength import AS_TRAINED, strength_name
from ftlab.report.facts import origin_of, source_name, tuned_on, written_rows
from ftlab.report.markdown import bullets, comparison_rows, escaped, kept_rows, moved_rows, table
from ftlab.report.measures import measures_of
from ftlab.report.report import contents

_FEW_ROWS = 100
_SCORES = "This is a reward model: it scores answers and does not write any."
_UNKNOWN = "This model has not been evaluated."
# The Hub's names of common measures.
_METRICS = {"macro_f1": "f1", "rouge_l": "rougeL", "token_f1": "f1"}


def write_card(
    run: RunDirectory,
    config: RunConfig,
    shape: Shape,
    folder: Path,
    finding: VerificationJson,
    licence: str | None,
    *,
    repository: str | None = None,
    data: str | None = None,
) -> None:
    """Write README.md: metadata and prose. `repository` and `data` are the Hub ids of the model and its data."""
    known = licence or _licence_of_base(config)
    head = metadata(run, config, shape, known, data=data)
    text = _prose(run, config, shape, folder, finding, known, repository)
    write_text(folder / "README.md", f"---\n{head.to_yaml().strip()}\n---\n\n{text}")
    if entries := _entries(run, config, shape, repository, data):
        write_text(folder / ".eval_results" / "ftlab.yaml", yaml.safe_dump(entries, sort_keys=False))


def _entries(
    run: RunDirectory, config: RunConfig, shape: Shape, repository: str | None, data: str | None
) -> list[dict[str, Any]]:
    """The figures of the task as the Hub shows them beside a model (`.eval_results/*.yaml`; hub docs, "Evaluation
    results"). Each names its data set on the Hub: there are none for data that is not there."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    on_hub = config.data.source if _data_on_hub(run) else None
    comparison = evaluation_at(run, shape.strength).comparison()
    if not (data or on_hub) or comparison is None or not is_made_of(comparison, run.result):
        return []
    entries = []
    for result in _results(run, config, comparison):
        if result.dataset_split is None:  # general questions, which are not of that data set
            continue
        interval = (result.metric_args or {}).get("interval_95")
        within = f", 95% interval {interval[0]:g} to {interval[1]:g}" if interval else ""
        entries.append(
            EvalResultEntry(
                dataset_id=str(data or on_hub),
                task_id=result.metric_type,
                value=result.metric_value,
                dataset_revision=None if data else _revision_of_data(run),
                source_url=f"https://huggingface.co/{repository}" if repository else None,
                source_name="Model card" if repository else None,
                notes=f"{result.metric_name}, {result.dataset_split} split{within}; measured by ftlab",
            )
        )
    return eval_result_entries_to_yaml(entries)


def _revision_of_data(run: RunDirectory) -> str | None:
    return next((source.get("revision") for source in run.manifest().get("sources", [])), None)


def metadata(
    run: RunDirectory, config: RunConfig, shape: Shape, licence: str | None, *, data: str | None = None
) -> Any:
    """The metadata of the card, as huggingface_hub's ModelCardData."""
    from huggingface_hub import ModelCardData

    from ftlab.models.load import is_hub_id

    comparison = evaluation_at(run, shape.strength).comparison()
    on_hub = is_hub_id(config.model.base)
    known = comparison and (shape.strength == AS_TRAINED or is_made_of(comparison, run.result))
    results = _results(run, config, comparison) if comparison and known else []
    return ModelCardData(
        base_model=config.model.base if on_hub else _origin_on_hub(config),
        datasets=[data] if data else [config.data.source] if _data_on_hub(run) else None,
        language=_language(run),
        library_name=_library(shape),
        license=licence or "unknown",
        pipeline_tag="text-ranking" if shape.scores else "text-generation",
        tags=_tags(config, shape, on_hub),
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=config.name or run.id,
        eval_results=results or None,
    )


def _library(shape: Shape) -> str:
    if shape.gguf:
        return "gguf"
    return "peft" if shape.is_adapter and not shape.needs_ftlab else "transformers"


def _prose(
    run: RunDirectory,
    config: RunConfig,
    shape: Shape,
    folder: Path,
    finding: VerificationJson,
    licence: str | None,
    repository: str | None,
) -> str:
    """The card below its metadata."""
    report = contents(run) if run.comparison() is not None else None
    name = escaped(config.name or run.id)
    parts = [f"# {name}"]
    verdict = escaped(report["verdict"]) if report else _SCORES if shape.scores else _UNKNOWN
    at = _strength(run, shape, evaluated=report is not None)
    parts += [*at, f"As trained: {verdict}" if at and report else verdict]
    parts += ["## How to load it", loading_code(shape, config, run, repository), *_loading_notes(shape, config, run)]
    rank = config.method.rank if "rank" in fields_of(config.method.name) and config.method.name != "dora" else None
    served = serving_section(shape, folder, run, is_starter=config.is_starter, rank=rank, notes=[])
    parts += ["## How to serve it", served] if served else []
    parts += ["## How these files were verified", bullets(escaped(line) for line in lines(finding))]
    # The strength of these files is stated at the top.
    facts = [fact for fact in report["facts"] if fact[0] != "Strength"] if report else tuned_on(run, config)
    trained = [("Stages", _stages(run, config)), *facts]
    parts += ["## How it was trained", bullets(f"**{label}:** {escaped(text)}" for label, text in trained if text)]
    parts += _evaluated(run, report, at="The figures in this section are for the model as trained." if at else "")
    parts += _blind_votes(run)
    parts += ["## Limits", bullets(_limits(run, config, shape, report, licence))]
    parts.append(f"Run {escaped(run.id)}, exported with ftlab. The settings are in `ftlab/config.yaml`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _stages(run: RunDirectory, config: RunConfig) -> str:
    """The training stages in order, unless it was only SFT on one data set; the last is this run."""
    stages = [f"{config.stage} on {source_name(config.data.source)}"]
    known = {earlier_run.id: earlier_run for earlier_run in Workspace(run.path.parent.parent).runs()}
    start, seen = config.model.start, {run.id}
    while start and start not in seen:
        seen.add(start)
        earlier = load_config(known[start].config_file) if start in known else None
        text = f"{earlier.stage} on {source_name(earlier.data.source)}" if earlier else "an earlier adapter"
        stages.insert(0, f"{text} ({source_name(start)})")
        start = earlier.model.start if earlier else None
    return "" if stages == [f"sft on {source_name(config.data.source)}"] else ", then ".join(stages)


def _strength(run: RunDirectory, shape: Shape, *, evaluated: bool) -> list[str]:
    """The strength of the weights, and its verdict if it was measured; empty for a model as trained."""
    at = strength_name(shape.strength)
    if not at:
        return []
    sentences = [f"These weights are at {at}: they contain {shape.strength:.0%} of the change made by training."]
    here = evaluation_at(run, shape.strength).comparison()
    if here is not None and is_made_of(here, run.result):
        sentences.append(f"At this strength: {here['verdict']['text']}")
    elif evaluated:
        sentences.append("The figures below are for the model as trained (strength 1), not for these weights.")
    return [escaped(" ".join(sentences))]


def _evaluated(run: RunDirectory, report: dict[str, Any] | None, at: str = "") -> list[str]:
    if report is None:
        return _preferred(run)
    parts = [
        "## How it was evaluated",
        at,
        f"**{report['badge'][1]}.** {escaped(report['gained'])}",
        comparison_rows(report),
    ]
    parts += [bullets(escaped(note) for note in report["notes"])]
    parts += [bullets(escaped(line) for line in report["worse"])]
    parts += ["### What the base knew", *kept_rows(report), moved_rows(report)]
    if report["checked"]:
        parts += ["### What else was checked"]
        parts += [bullets(f"**{label}:** {escaped(text)}" for label, text in report["checked"])]
    if report["before_after"]:
        after = report["before_after"]
        parts += ["### Before and after", table(after["head"], after["rows"]), escaped(after["how"])]
        parts += [bullets(escaped(line) for line in after["lines"])]
    parts += _preferred(run, level="###")
    parts += ["### How it was measured", bullets(escaped(line) for line in report["measured"])]
    return parts


def _preferred(run: RunDirectory, level: str = "##") -> list[str]:
    """The win rate of the chosen answer on held-out preferences."""
    preferences = run.preferences()
    if not preferences or "accuracy" not in preferences:
        return []
    interval = preferences["interval"]
    text = f"On held-out preferences, the chosen answer wins in {preferences['accuracy']:.1%} of the pairs"
    if interval:
        text += f" (95% interval {interval[0]:.1%} to {interval[1]:.1%})"
    return [f"{level} Preferences", escaped(f"{text}.")]


def _blind_votes(run: RunDirectory) -> list[str]:
    """The revealed verdicts of blind tests in which the run took part."""
    from ftlab.arena.blind_tests import list_contestants, list_tests
    from ftlab.arena.store import DATABASE_VARIABLE, open_store
    from ftlab.arena.tally import evaluate

    workspace = Workspace(run.path.parent.parent)
    if not workspace.arena_database.exists() and not os.environ.get(DATABASE_VARIABLE):
        return []
    store = open_store(workspace)
    verdicts = []
    for test in list_tests(store):
        mine = [
            contestant.title for contestant in list_contestants(store, test.id) if contestant.spec.get("run") == run.id
        ]
        verdict = evaluate(store, test.id) if mine else None
        if verdict is None or verdict["revealed"] is None:
            continue
        votes = verdict["votes"]
        tally = f"votes: {votes['cast']}, raters: {votes['raters']}, prompts: {votes['prompts']}"
        early = " The tally was opened early." if verdict["revealed"] == "early" else ""
        verdicts.append(f"This model is “{escaped(mine[0])}”. {escaped(verdict['text'])} ({tally}.){early}")
    return ["## Blind votes", "Raters did not know whose answer was whose.", bullets(verdicts)] if verdicts else []


def _limits(
    run: RunDirectory, config: RunConfig, shape: Shape, report: dict[str, Any] | None, licence: str | None
) -> list[str]:
    limits = []
    if config.is_starter:
        limits.append(
            "The base is the toy model that ships with ftlab: it demonstrates methods and is not for real use."
        )
    if origin := origin_of(config.model.base):
        limits.append(
            f"The base is {escaped(origin)}. Its weights were quantized to that format and dequantized, so they differ "
            "slightly from those its authors published."
        )
    if shape.scores:
        limits.append(
            "Its scores are a model's opinion, not people's. Only differences between answers are meaningful."
        )
    elif report is None:
        limits.append("It was not compared with its base, so nothing shows that it is better.")
    else:
        rows = report["comparison"].get("rows") or report["comparison"]["adapted"].get("rows") or 0
        where = report["comparison"]["split"]
        figures = f"The figures apply to {counted(rows, 'row')} of the {where} split and to similar prompts"
        limits.append(f"{figures}." if rows >= _FEW_ROWS else f"{figures}. That is few: consider the intervals.")
    if report and report["comparison"]["verdict"].get("forgot"):
        changed = (report["comparison"]["verdict"].get("lost") or "forgot") != "forgot"
        what = "Outside the task, many of its answers changed" if changed else "It forgot some of what its base knew"
        limits.append(f"{what}; see above.")
    elif not config.is_starter and report and is_unmeasured(report["comparison"]):
        limits.append("Forgetting was not measured.")
    if written := written_rows(run):
        limits.append(f"{escaped(written)}: figures on such rows tell of the model that wrote them.")
    if shape.gguf and shape.gguf not in PLAIN:
        limits.append(
            f"The figures are those of the model before it was quantized to {shape.gguf}; how far the file differs is "
            "under “How these files were verified”."
        )
    if shape.merged_from_quantised:
        limits.append(
            "It was trained and evaluated on a quantized base but merged into the unquantized one, whose weights are "
            "slightly different, so the figures are approximate for these files."
        )
    limits += [
        "It reproduces the errors and gaps of its training data, which were not checked for personal data or rights.",
        f"The license of the base {'(' + escaped(licence) + ') ' if licence else ''}also applies to this model.",
    ]
    return limits


def _loading_notes(shape: Shape, config: RunConfig, run: RunDirectory) -> list[str]:
    notes = []
    if config.stage != PRETRAINING and not config.is_reward_model:
        notes.append(
            "The chat template is the one used in training. `generation_config.json` has the stop tokens of the "
            "evaluation and greedy decoding; other settings give other answers than those evaluated."
        )
    asked = asked_of(run)
    if not asked.is_plain:
        notes.append(
            "The code builds prompts as in training and evaluation; with other prompts, answers are worse. "
            "`ftlab/asked.json` has the same information for programs."
        )
    if asked.system and asked.system_rows < asked.rows:
        notes.append(f"{asked.system_rows} of {asked.rows} training rows had this system prompt.")
    if shape.base == "base" and shape.is_adapter:
        dequantized = origin_of(config.model.base)
        kind = (
            "These weights of the base are not on the Hub, so they are"
            if dequantized
            else "The base is not on the Hub, so it is"
        )
        notes.append(f"{kind} included in `base/`.")
    if shape.quantisation:
        notes.append(
            "It was trained and evaluated on the quantized base, so the code quantizes the base. On the unquantized "
            "base, it answers slightly differently."
        )
    return notes


def _tags(config: RunConfig, shape: Shape, on_hub: bool) -> list[str]:
    tags = ["ftlab", config.method.name.replace("_", "-"), config.stage]
    if shape.is_adapter and on_hub:
        tags.append(f"base_model:adapter:{config.model.base}")
    return tags


def _results(run: RunDirectory, config: RunConfig, comparison: ComparisonJson) -> list[Any]:
    """The figures of the task in the format of the Hub's model-index."""
    from huggingface_hub import EvalResult

    on_hub = _data_on_hub(run)
    data = source_name(config.data.source)
    results = []
    for measure in measures_of(comparison):
        value = measure["values"].get("adapted")
        if value is None or measure["group"] in ("style", "cost") or measure.get("better") is None:
            continue
        interval = (measure.get("intervals") or {}).get("adapted")
        results.append(
            EvalResult(
                task_type="text-generation",
                dataset_type=config.data.source if on_hub else "private",
                dataset_name="general questions" if measure["group"] == "general" else data,
                dataset_split=comparison["split"] if measure["group"] != "general" else None,
                metric_type=_METRICS.get(name := str(measure["name"]), name),
                metric_name=measure["title"],
                metric_value=round(float(value), 4),
                metric_args={"interval_95": [round(float(end), 4) for end in interval]} if interval else None,
            )
        )
    return results


def _data_on_hub(run: RunDirectory) -> bool:
    return any(source.get("kind") == "hub" for source in run.manifest().get("sources", []))


def _language(run: RunDirectory) -> str | None:
    from ftlab.data.checks.duplicates import main_language
    from ftlab.data.splits import read_split

    rows = read_split(run, "test") or read_split(run, "train")
    return main_language([message["content"] for row in rows[:200] for message in row["messages"]])


def _origin_on_hub(config: RunConfig) -> str | None:
    known = KNOWN.get(config.model.base)
    return known.origin if known else None


def _licence_of_base(config: RunConfig) -> str | None:
    """The metadata of the base's own card, if it is on this machine."""
    from huggingface_hub import ModelCard, try_to_load_from_cache

    from ftlab.models.load import base_path, is_hub_id

    if config.model.base in KNOWN:
        return KNOWN[config.model.base].license
    if (record := record_of(config.model.base)) is not None:
        return record.license
    path = base_path(config.model.base)
    if is_hub_id(config.model.base):
        card = try_to_load_from_cache(path, "README.md", revision=config.model.revision)
    else:
        card = str(Path(path) / "README.md")
    if not isinstance(card, str) or not Path(card).is_file():
        return None
    declared = ModelCard.load(card, ignore_metadata_errors=True).data.license
    return declared if isinstance(declared, str) else None
