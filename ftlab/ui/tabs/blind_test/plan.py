"""Turn the form into a blind test: contestants, prompts, settings, and what the planned votes can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftlab.arena import prompt_sources
from ftlab.arena.asking import ContestantSpec, PromptSpec, TestSettings, capacity
from ftlab.arena.evidence import FEWEST_RATERS
from ftlab.arena.power import Chances, plan_in_short, plan_in_words
from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.inspection import files_of
from ftlab.data.load import recall
from ftlab.errors import FtlabError, InputError, sentence
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.html import count, join, notice
from ftlab.ui.tabs.blind_test.form import MOST_CONTESTANTS

SEED = 0
USUAL_TIES = 0.2
_PREVIEWED = 3
_WITHOUT_RUN = "brand_voice"  # if only bases are compared


@dataclass(frozen=True)
class Asked:
    """The prompts of a test. `left_out` counts those that trained a contestant, `of` is how many the source holds."""

    prompts: list[PromptSpec]
    of: int
    left_out: int = 0


def settings(values: dict[str, Any]) -> TestSettings:
    """Raises InputError naming a field that does not hold a number."""
    from ftlab.arena.answers import check_generation

    live = values["from"] == "live"
    return TestSettings(
        check_generation({"max_new_tokens": whole("Longest answer", values["max_new_tokens"])}),
        options=tuple(values["options"]),
        rubric=tuple(dict.fromkeys(["overall", *values["rubric"]])),
        instructions=(values["instructions"] or "").strip(),
        votes_per_prompt=1 if live else whole("Votes per prompt", values["votes_per_prompt"]),
        overlap=1.0 if live else float(values["overlap"]) / 100,
        live=live,
        completion=(values.get("completion") or "").strip(),
    )


def contestants(values: dict[str, Any], workspace: Workspace) -> list[ContestantSpec]:
    """Raises InputError for a contestant that cannot answer."""
    lacking(values)
    specs = [_contestant(values, n, workspace) for n in _who(values)]
    counts = Counter(spec.title for spec in specs)
    # Equal names given by a person are intentional; unnamed contestants are told apart by number.
    unnamed = {n for n in _who(values) if not (values[f"title_{n}"] or "").strip()}
    return [
        replace(spec, title=f"{spec.title} {n}") if counts[spec.title] > 1 and n in unnamed else spec
        for n, spec in zip(_who(values), specs, strict=True)
    ]


def lacking(values: dict[str, Any]) -> None:
    """Raises InputError if there are fewer than two contestants, or one lacks a required field."""
    who = _who(values)
    if len(who) < 2:
        raise InputError("A blind test compares at least two contestants", given=len(who), allowed="2 or more")
    for n in who:
        if (
            values[f"who_{n}"] == "prompted"
            and not ((values[f"system_{n}"] or "") + (values[f"examples_{n}"] or "")).strip()
        ):
            other = "choose another contestant" if _runs(values) else "train a model first"
            raise InputError(f"Contestant {n} needs a system prompt", try_=f"write it, or {other}")
        if values[f"who_{n}"] == "endpoint" and not (values[f"url_{n}"] and values[f"model_{n}"]):
            raise InputError(f"Contestant {n} needs an address and the name of its model")


def title(values: dict[str, Any], among: Sequence[ContestantSpec]) -> str:
    """The title of the test: the owner's, else made from the contestants."""
    return (values["title"] or "").strip() or " against ".join(contestant.title for contestant in reversed(among))


def _who(values: dict[str, Any]) -> list[int]:
    return [n for n in range(1, MOST_CONTESTANTS + 1) if values.get(f"who_{n}")]


def _contestant(values: dict[str, Any], n: int, workspace: Workspace) -> ContestantSpec:
    from ftlab.arena import asking

    who, title = values[f"who_{n}"], (values[f"title_{n}"] or "").strip() or None
    if title is None and (who in ("base", "prompted") or _runs(values) == [n]):
        title = who if who in ("base", "prompted") else "adapted"
    system = (values[f"system_{n}"] or "").strip() or None
    if who.startswith("run:"):
        return asking.run_contestant(workspace, who.removeprefix("run:"), title=title)
    if who == "endpoint":
        return asking.endpoint_contestant(
            values[f"url_{n}"] or "", values[f"model_{n}"] or "", title=title, system_prompt=system
        )
    base, revision = (values[f"base_{n}"] or "").strip(), None
    if who in ("base", "prompted") and not base:
        base, revision = asking.base_beside(workspace.run(_run(values, m)) for m in _runs(values))
    if who == "base":
        return asking.base_contestant(base, title=title, revision=revision)
    if who != "prompted":
        raise InputError(f"Contestant {n} is not known", given=who, allowed="a choice from the list")
    examples = _examples(values[f"examples_{n}"] or "", n)
    return asking.base_contestant(base, title=title, system_prompt=system, examples=examples, revision=revision)


def _examples(text: str, n: int) -> list[list[dict[str, str]]]:
    turns = []
    for line in filter(None, (line.strip() for line in text.split("\n"))):
        question, arrow, answer = line.partition("=>")
        if not arrow or not question.strip() or not answer.strip():
            raise InputError(
                f"An example of contestant {n} cannot be read", given=line, allowed="what is asked => the answer"
            )
        turns.append([{"role": "user", "content": question.strip()}, {"role": "assistant", "content": answer.strip()}])
    return turns


def asked(values: dict[str, Any], workspace: Workspace) -> Asked:
    """The prompts for the test, without those that trained a contestant. Raises InputError if there are none."""
    if values["from"] == "live":
        return Asked([], 0)
    every = _every(values, workspace)
    specs = [{"run": _run(values, n)} for n in _runs(values)]
    fresh, left_out = prompt_sources.fresh(every, specs, workspace)
    number = (values["number"] or "").strip()
    wanted = whole("How many prompts", number) if number else None
    by_topic = any(prompt.topic for prompt in fresh)  # named in the form, or a column of that name
    return Asked(prompt_sources.sample(fresh, wanted, by_topic=by_topic, seed=SEED), len(every), left_out)


def _run(values: dict[str, Any], n: int) -> str:
    """The id of the run that is contestant `n`, at any strength."""
    from ftlab.arena import asking

    return asking.split_strength(values[f"who_{n}"].removeprefix("run:"))[0]


def _every(values: dict[str, Any], workspace: Workspace) -> list[PromptSpec]:
    topic = values["topic"] or None
    if values["from"] == "pasted":
        return prompt_sources.pasted(values["pasted"] or "")
    source = _source(values)
    if not source:
        raise InputError("There are no prompts yet", try_="choose some, or upload a file")
    return list(_read(source, values["from"] == "file", topic, _stamp(source, workspace), str(workspace.root)))


def _source(values: dict[str, Any]) -> str:
    """The source of the prompts: as filled in, else the held-out rows of the first run in the test."""
    source = (values.get(values["from"]) or "").strip()
    if source or values["from"] != "held_out":
        return source
    among = _runs(values)
    return f"run:{_run(values, among[0])}" if among else _WITHOUT_RUN


def source_in_words(values: dict[str, Any], workspace: Workspace) -> str:
    """A description of the prompts, for the line above the button."""
    if values["from"] != "held_out":
        return {"file": "prompts of the file", "pasted": "pasted prompts"}.get(values["from"], "prompts")
    source = _source(values)
    if source.startswith(prompt_sources.RUN_PREFIX):
        config = run_files.config(workspace.run(source.removeprefix(prompt_sources.RUN_PREFIX)))
        source = config.data.source if config else source
    return f"held-out prompts of {run_names.source_title(source)}"


def topics(values: dict[str, Any], workspace: Workspace) -> list[str]:
    """The columns that can name a topic; none if the source cannot be read."""
    source = _source(values) if values["from"] in ("held_out", "file") else ""
    if not source or source.endswith(".txt"):
        return []
    try:
        return list(_topics(source, _stamp(source, workspace), str(workspace.root)))
    except FtlabError:
        return []


def planned(values: dict[str, Any], prompts: int, among: int) -> int:
    """The planned number of votes: as filled in, else all that the test can yield."""
    text = (values["planned"] or "").strip()
    if text:
        return whole("Planned votes", text)
    if values["from"] == "live":
        raise InputError("A live test has no natural end", try_="enter the planned number of votes, for example 50")
    return capacity(among, prompts, settings(values)) or 1


@dataclass(frozen=True)
class Look:
    """The form in words: the prompts, what the votes can show in short and in full, whether the test can be made."""

    preview: Markup
    power: Markup
    plan: Markup
    complete: bool


def look(values: dict[str, Any], workspace: Workspace) -> Look:
    """The test that the form describes. If something is missing, an error, and the test cannot be made."""
    preview = Markup("")
    try:
        lacking(values)
        prompts = asked(values, workspace)
        preview = _prompts(prompts, values)
        what, wanted = source_in_words(values, workspace), (values["number"] or "").strip()
        if wanted and int(wanted) > len(prompts.prompts):
            what += ", all that there are"
        power, told = _power(values, len(prompts.prompts), len(_who(values)), what)
        return Look(preview, power, told, complete=True)
    except FtlabError as error:
        return Look(preview, why_not(error), Markup(""), complete=False)


def why_not(error: FtlabError) -> Markup:
    """The line that says why the button is disabled."""
    more = sentence(error.try_[:1].upper() + error.try_[1:]) if error.try_ else error.why or ""
    return Markup('<p class="ft-why" role="status">{} {}</p>').format(sentence(error.what), more)


def _prompts(prompts: Asked, values: dict[str, Any]) -> Markup:
    if values["from"] == "live":
        return notice("Raters write their own prompts. Both answers appear once both are complete.")
    text = f"{count(len(prompts.prompts))} of {count(prompts.of)} prompts."
    if prompts.left_out:
        text += f" {count(prompts.left_out)} left out: a contestant was trained on them or on near copies."
    by_topic = Counter(prompt.topic for prompt in prompts.prompts if prompt.topic)
    if len(by_topic) > 1:
        text += " By topic: " + ", ".join(f"{name} {number}" for name, number in by_topic.most_common(8)) + "."
    some = join(
        Markup("<li>{}</li>").format(prompt.messages[-1]["content"][:160]) for prompt in prompts.prompts[:_PREVIEWED]
    )
    return Markup('<div class="ft-box ft-info">{}<ul>{}</ul></div>').format(text, some)


def _power(values: dict[str, Any], prompts: int, among: int, what: str) -> tuple[Markup, Markup]:
    """What the votes can show, in a sentence and in full."""
    votes, how = planned(values, prompts, among), settings(values)
    possible = capacity(among, prompts, how)
    if possible is not None and votes > possible:
        raise InputError("The test cannot collect that many votes", given=votes, allowed=f"{count(possible)} at most")
    raters, on = whole("Raters", values["raters"]), None if how.live else prompts
    chances = Chances(0.6, USUAL_TIES, how.votes_per_prompt, overlap=how.overlap, contestants=among)
    which = "" if how.live else f"{count(prompts)} {what}. "
    short = Markup('<p class="ft-help">{}{}</p>').format(which, plan_in_short(votes, on, chances))
    text = plan_in_words(votes, on, how.votes_per_prompt, USUAL_TIES, how.overlap, among)
    if raters:
        text += f" That is about {count(-(-votes // raters))} comparisons for each of {raters} raters."
    if 0 < raters < FEWEST_RATERS:
        text += f" The verdict will apply to these raters only. To speak of others takes at least {FEWEST_RATERS}."
    if how.votes_per_prompt > raters:
        text += f" Each prompt needs {how.votes_per_prompt} votes, but there are only {raters} raters."
        return short, notice(text, kind="warn")
    return short, notice(text)


def whole(what: str, text: Any) -> int:
    """A whole number, 0 or more. Raises InputError naming the field."""
    typed = str(text if text is not None else "").strip()
    if not typed.isdecimal():
        raise InputError(f"{what} takes a whole number", given=typed or "nothing", allowed="a number such as 20")
    return int(typed)


def _runs(values: dict[str, Any]) -> list[int]:
    return [n for n in range(1, MOST_CONTESTANTS + 1) if (values.get(f"who_{n}") or "").startswith("run:")]


def _stamp(source: str, workspace: Workspace) -> tuple[Any, ...]:
    """Changes when the rows or the columns named for them change. The rows of a run are frozen."""
    if source.startswith(prompt_sources.RUN_PREFIX):
        return ()
    return (*files_of(source, workspace), str(recall(DataConfig(source=source), workspace)))


@lru_cache(maxsize=8)
def _read(source: str, is_file: bool, topic: str | None, _files: Any, root: str) -> tuple[PromptSpec, ...]:
    if is_file:
        return tuple(prompt_sources.from_file(Path(source), Workspace(Path(root)), topic=topic))
    return tuple(prompt_sources.held_out(source, Workspace(Path(root)), topic=topic))


@lru_cache(maxsize=8)
def _topics(source: str, _files: Any, root: str) -> tuple[str, ...]:
    return tuple(prompt_sources.topic_columns(source, Workspace(Path(root))))
