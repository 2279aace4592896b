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
from ftlab.arena.asking import (
    LARGEST_MARGIN,
    LEAST_MARGIN,
    ContestantSpec,
    PromptSpec,
    TestSettings,
    capacity,
    check_controls,
)
from ftlab.arena.conversations import is_script, user_turns
from ftlab.arena.evidence import FEWEST_RATERS
from ftlab.arena.power import Chances, plan_in_short, plan_in_words
from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.inspection import files_of
from ftlab.data.load import recall
from ftlab.errors import FtlabError, InputError, sentence
from ftlab.ui import run_files, run_names
from ftlab.ui.kit.html import count, join, notice
from ftlab.ui.tabs.blind_test.form import USUAL_PROMPTS, Contestant, NewTest

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


def settings(test: NewTest) -> TestSettings:
    """Raises InputError naming a field that does not hold a number."""
    from ftlab.arena.answers import check_generation

    how = TestSettings(
        check_generation({"max_new_tokens": whole("Longest answer", test.max_new_tokens)}),
        options=test.options,
        rubric=tuple(dict.fromkeys(["overall", *test.rubric])),
        instructions=test.instructions,
        live=test.live,
        completion=test.completion,
        consent=test.consent,
        margin=_margin(test),
        conversations=_conversations(test),
    )
    if test.live:
        return how
    return replace(
        how,
        votes_per_prompt=whole("Votes per prompt", test.votes_per_prompt),
        overlap=test.overlap / 100,
        attention=whole("Attention items", test.attention or "0"),
        repeats=whole("Repeated prompts", test.repeats or "0") / 100,
        min_attention=whole("Exclude below (attention)", test.min_attention or "0") / 100,
        min_consistency=whole("Exclude below (repeated)", test.min_consistency or "0") / 100,
    )


def _conversations(test: NewTest) -> bool:
    return test.conversations and test.of_rows


def _margin(test: NewTest) -> float:
    text, among = test.no_worse_by, len(test.among)
    try:
        margin = float(text or 0)
    except ValueError:
        margin = -1.0
    if text and not (LEAST_MARGIN <= margin <= LARGEST_MARGIN and among == 2):
        raise InputError(
            "No worse by takes points of the win rate, for two contestants",
            given=f"{text}, {among} contestants",
            allowed=f"{LEAST_MARGIN} to {LARGEST_MARGIN}; empty: better",
        )
    return margin


def contestants(test: NewTest, workspace: Workspace) -> list[ContestantSpec]:
    """Raises InputError for a contestant that cannot answer."""
    lacking(test)
    specs = [_contestant(test, n, contestant, workspace) for n, contestant in test.among]
    counts = Counter(spec.title for spec in specs)
    # Equal names given by a person are intentional; unnamed contestants are told apart by number.
    return [
        replace(spec, title=f"{spec.title} {n}") if counts[spec.title] > 1 and not contestant.title else spec
        for (n, contestant), spec in zip(test.among, specs, strict=True)
    ]


def lacking(test: NewTest) -> None:
    """Raises InputError if there are fewer than two contestants, or one lacks a required field."""
    if len(test.among) < 2:
        raise InputError("A blind test compares at least two contestants", given=len(test.among), allowed="2 or more")
    for n, contestant in test.among:
        if contestant.who == "prompted" and not (contestant.system or contestant.examples):
            other = "choose another contestant" if test.runs else "train a model first"
            raise InputError(f"Contestant {n} needs a system prompt", try_=f"write it, or {other}")
        if contestant.who == "endpoint" and not (contestant.url and contestant.model):
            raise InputError(f"Contestant {n} needs an address and the name of its model")


def title(test: NewTest, among: Sequence[ContestantSpec], workspace: Workspace) -> str:
    """The title of the test: the owner's, else made from the contestants and the data of their runs, if those are of
    one kind: "Support triage: adapted against base"."""
    if test.title:
        return test.title
    runs = [contestant.spec["run"] for contestant in among if contestant.spec.get("run")]
    data = {run_names.data_name(config) for run in runs if (config := run_files.config(workspace.run(run)))}
    who = " against ".join(contestant.title for contestant in reversed(among))
    return f"{data.pop()}: {who}" if len(data) == 1 else who


def _contestant(test: NewTest, n: int, contestant: Contestant, workspace: Workspace) -> ContestantSpec:
    from ftlab.arena import asking

    who, title, base, revision = contestant.who, contestant.title or None, contestant.base, None
    if title is None and (who in ("base", "prompted") or test.runs == [contestant]):
        title = who if who in ("base", "prompted") else "adapted"
    system = contestant.system or None
    if contestant.is_run:
        return asking.run_contestant(workspace, who.removeprefix("run:"), title=title)
    if who == "endpoint":
        return asking.endpoint_contestant(contestant.url, contestant.model, title=title, system_prompt=system)
    if who in ("base", "prompted") and not base:
        base, revision = asking.base_beside(workspace.run(_run(run)) for run in test.runs)
    if who == "base":
        return asking.base_contestant(base, title=title, revision=revision)
    if who != "prompted":
        raise InputError(f"Contestant {n} is not known", given=who, allowed="a choice from the list")
    examples = _examples(contestant.examples, n)
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


def asked(test: NewTest, workspace: Workspace) -> Asked:
    """The prompts for the test, without those that trained a contestant. Raises InputError if there are none."""
    if test.live:
        return Asked([], 0)
    every = _every(test, workspace)
    fresh, left_out = prompt_sources.fresh(every, [{"run": _run(run)} for run in test.runs], workspace)
    wanted = whole("How many prompts", test.number) if test.number else USUAL_PROMPTS
    by_topic = any(prompt.topic for prompt in fresh)  # named in the form, or a column of that name
    return Asked(prompt_sources.sample(fresh, wanted, by_topic=by_topic, seed=SEED), len(every), left_out)


def _run(contestant: Contestant) -> str:
    """The id of the run, at any strength."""
    from ftlab.arena import asking

    return asking.split_strength(contestant.who.removeprefix("run:"))[0]


def _every(test: NewTest, workspace: Workspace) -> list[PromptSpec]:
    if test.from_ == "pasted":
        return prompt_sources.pasted(test.pasted)
    source = _source(test)
    if not source:
        raise InputError("There are no prompts yet", try_="choose some, or upload a file")
    files, talks = _stamp(source, workspace), _conversations(test)
    every = list(_read(source, test.from_ == "file", test.topic or None, talks, files, str(workspace.root)))
    if talks and not any(is_script(prompt.messages) for prompt in every):
        raise InputError(
            "None of these prompts is a conversation", try_="choose other prompts, or untick Whole conversations"
        )
    return every


def _source(test: NewTest) -> str:
    """The source of the prompts: as filled in, else the held-out rows of the first run in the test."""
    if test.from_ != "held_out":
        return test.file if test.from_ == "file" else ""
    return test.held_out or (f"run:{_run(test.runs[0])}" if test.runs else _WITHOUT_RUN)


def source_in_words(test: NewTest, workspace: Workspace) -> str:
    """A description of the prompts, for the line above the button."""
    if test.from_ != "held_out":
        return {"file": "prompts of the file", "pasted": "pasted prompts"}.get(test.from_, "prompts")
    source = _source(test)
    if source.startswith(prompt_sources.RUN_PREFIX):
        config = run_files.config(workspace.run(source.removeprefix(prompt_sources.RUN_PREFIX)))
        source = config.data.source if config else source
    return f"held-out prompts of {run_names.source_title(source)}"


def topics(test: NewTest, workspace: Workspace) -> list[str]:
    """The columns that can name a topic; none if the source cannot be read."""
    source = _source(test) if test.of_rows else ""
    if not source or source.endswith(".txt"):
        return []
    try:
        return list(_topics(source, _stamp(source, workspace), str(workspace.root)))
    except FtlabError:
        return []


def planned(test: NewTest, prompts: int, among: int) -> int:
    """The planned number of votes: as filled in, else all that the test can yield."""
    if test.planned:
        return whole("Planned votes", test.planned)
    if test.live:
        raise InputError("A live test has no natural end", try_="enter the planned number of votes, for example 50")
    return capacity(among, prompts, settings(test)) or 1


@dataclass(frozen=True)
class Look:
    """The form in words: the prompts, what the votes can show in short and in full, whether the test can be made, and
    how many prompts there are, with the reason why no more."""

    preview: Markup
    power: Markup
    plan: Markup
    complete: bool
    limit: tuple[int, str] | None = None


def look(test: NewTest, workspace: Workspace) -> Look:
    """The test that the form describes. If something is missing, an error, and the test cannot be made."""
    preview, limit = Markup(""), None
    try:
        lacking(test)
        prompts = asked(test, workspace)
        preview, limit = _prompts(prompts, test), _limit(prompts, test)
        what, wanted = source_in_words(test, workspace), test.number
        if wanted and int(wanted) > len(prompts.prompts):
            what += " (no more are available)"
        power, told = _power(test, len(prompts.prompts), len(test.among), what)
        return Look(preview, power, told, complete=True, limit=limit)
    except FtlabError as error:
        return Look(preview, why_not(error), Markup(""), complete=False, limit=limit)


def why_not(error: FtlabError) -> Markup:
    """The line that says why the button is disabled."""
    more = sentence(error.try_[:1].upper() + error.try_[1:]) if error.try_ else error.why or ""
    return Markup('<p class="ft-why" role="status">{} {}</p>').format(sentence(error.what), more)


def _limit(prompts: Asked, test: NewTest) -> tuple[int, str] | None:
    """The largest number of prompts, and the reason for it; None if the raters write them."""
    if test.live:
        return None
    where = {"file": "all rows of the file", "pasted": "all pasted lines"}.get(test.from_, "all rows to ask")
    without = f" but {count(prompts.left_out)} that trained a contestant" if prompts.left_out else ""
    return prompts.of - prompts.left_out, where + without


def _prompts(prompts: Asked, test: NewTest) -> Markup:
    if test.live:
        return notice("Raters write their own prompts. Both answers appear once both are complete.")
    text = f"{count(len(prompts.prompts))} of {count(prompts.of)} prompts."
    if _conversations(test):
        talks = sum(is_script(prompt.messages) for prompt in prompts.prompts)
        text += f" {count(talks)} of them with several turns of the user."
    if prompts.left_out:
        text += f" {count(prompts.left_out)} left out: a contestant was trained on them or on near copies."
    by_topic = Counter(prompt.topic for prompt in prompts.prompts if prompt.topic)
    if len(by_topic) > 1:
        text += " By topic: " + ", ".join(f"{name} {number}" for name, number in by_topic.most_common(8)) + "."
    some = join(
        Markup("<li>{}</li>").format(_in_short(prompt.messages, test)) for prompt in prompts.prompts[:_PREVIEWED]
    )
    return Markup('<div class="ft-box ft-info">{}<ul>{}</ul></div>').format(text, some)


def _in_short(messages: list[dict[str, str]], test: NewTest) -> str:
    texts = user_turns(messages) if _conversations(test) else [messages[-1]["content"]]
    return " / ".join(text[:160] for text in texts)


def _power(test: NewTest, prompts: int, among: int, what: str) -> tuple[Markup, Markup]:
    """What the votes can show, in a sentence and in full."""
    votes, how = planned(test, prompts, among), settings(test)
    check_controls(how, among, prompts)
    possible = capacity(among, prompts, how)
    if possible is not None and votes > possible:
        raise InputError("The test cannot collect that many votes", given=votes, allowed=f"{count(possible)} at most")
    raters, on = whole("Raters", test.raters), None if how.live else prompts - how.attention
    shape: dict[str, Any] = {"overlap": how.overlap, "contestants": among}
    chances = Chances(0.6, USUAL_TIES, how.votes_per_prompt, **shape, margin=how.margin / 100)
    which = "" if how.live else f"{count(prompts)} {what}. "
    short = Markup('<p class="ft-help">{}{}</p>').format(which, plan_in_short(votes, on, chances))
    text = plan_in_words(votes, on, how.votes_per_prompt, USUAL_TIES, **shape, margin=how.margin)
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
        raise InputError(f"{what} takes a whole number", given=typed or "nothing", allowed="0 or more, such as 20")
    return int(typed)


def _stamp(source: str, workspace: Workspace) -> tuple[Any, ...]:
    """Changes when the rows or the columns named for them change. The rows of a run are frozen."""
    if source.startswith(prompt_sources.RUN_PREFIX):
        return ()
    return (*files_of(source, workspace), str(recall(DataConfig(source=source), workspace)))


@lru_cache(maxsize=8)
def _read(
    source: str, is_file: bool, topic: str | None, conversations: bool, _files: Any, root: str
) -> tuple[PromptSpec, ...]:
    workspace = Workspace(Path(root))
    if is_file:
        return tuple(prompt_sources.from_file(Path(source), workspace, topic=topic, conversations=conversations))
    return tuple(prompt_sources.held_out(source, workspace, topic=topic, conversations=conversations))


@lru_cache(maxsize=8)
def _topics(source: str, _files: Any, root: str) -> tuple[str, ...]:
    return tuple(prompt_sources.topic_columns(source, Workspace(Path(root))))
