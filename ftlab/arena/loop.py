"""The loop from votes to the next run, with simulated raters whose preferences are known."""

from __future__ import annotations

import difflib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import TypedDict

from ftlab.arena import answers, blind_tests, links, preferences, prompt_sources, trials
from ftlab.arena.asking import ContestantSpec, PromptSpec, TestSettings, base_contestant, run_contestant
from ftlab.arena.results import TallyJson
from ftlab.arena.store import Store, open_store
from ftlab.arena.tally import evaluate, watch
from ftlab.config import STARTER
from ftlab.core.files import locked
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.partition import prompt_fingerprint
from ftlab.errors import InputError


def taste(score: Callable[[str], float], *, temper: float = 0.0) -> Callable[..., str]:
    """A rater who prefers the answer with the higher `score`, as a function of (left, right, rng) that returns a
    choice.

    `temper` makes the choice random if scores are close (a logistic curve of this width, in units of the score).
    Equal scores become both good if they are positive, else both bad.
    """

    def choose(left: str, right: str, rng: random.Random) -> str:
        scores = score(left), score(right)
        difference = scores[0] - scores[1]
        if not difference:
            return "both_good" if sum(scores) > 0 else "both_bad"
        if temper:
            # Beyond 30 widths the curve is flat, and exp would overflow.
            chance = 1 / (1 + math.exp(-max(-30.0, min(30.0, difference / temper))))
            return "left" if rng.random() < chance else "right"
        return "left" if difference > 0 else "right"

    return choose


# Runs the training described by a dictionary of settings to its end; raises on failure.
Train = Callable[[dict[str, Any]], RunDirectory]
# Quality of an answer: (answer, prompt, reference or None).
Score = Callable[[str, str, str | None], float]
Tell = Callable[[str], None]

VOICE = "brand_voice"
# The evaluations of the blind tests.
_UNEVALUATED = {"after_training": False}
_RATERS = ("Ana", "Ben", "Cleo", "Dev", "Eve", "Finn")


@dataclass(frozen=True)
class LoopSettings:
    """What is tuned and asked. `sft` and `dpo` are settings of the runs.

    `prompts` names the source of prompts (a file or data; None: the held-out rows of the first run). Each test takes
    `prompts_per_test`, and every rater votes on each. `rival`: None compares the tuned model with its base; a system
    prompt compares it with itself under that prompt, whose answers are nearly as good, so that votes are more
    informative. `temper`: the randomness of a vote between nearly equal answers (0: none), see `taste`.
    """

    source: str = VOICE
    base: str = STARTER
    prompts: str | None = None
    prompts_per_test: int = 60
    raters: int = 3
    rival: str | None = None
    temper: float = 0.5
    seed: int = 0
    max_new_tokens: int = 64
    sft: Mapping[str, Any] = field(default_factory=dict)
    dpo: Mapping[str, Any] = field(default_factory=dict)


def voice_settings(base: str = STARTER) -> LoopSettings:
    """The loop on the house style of brand_voice: training too short to learn it, and votes that finish the job.

    The tuned model meets itself under a prompt: a base that was not tuned rambles, and answers that are cut at the
    length limit teach nothing.
    """
    from ftlab.samples import sample_path

    steps, rate = (25, {"learning_rate": 5e-5}) if base == STARTER else (25, {})
    return LoopSettings(
        base=base,
        # Customers who do not occur in the tuning data.
        prompts=str(sample_path("brand_voice_preferences") / "train.jsonl"),
        prompts_per_test=70,
        rival="You write short letters for the shop.",
        max_new_tokens=64 if base == STARTER else 128,
        sft={"optimisation": {"max_steps": steps, "evaluations_per_epoch": 1}},
        dpo={"optimisation": {"epochs": 2, "evaluations_per_epoch": 1, **rate}},
    )


class LoopJson(TypedDict):
    """The ids of both runs and both tests, the folder of the votes, and the verdicts on both tests. `fresh` prompts
    were asked in the second test, `left_out` were not: their votes trained a contestant."""

    sft: str
    dpo: str
    first: str
    second: str
    export: str
    pairs: int
    fresh: int
    left_out: int
    verdicts: list[TallyJson]


def run_loop(workspace: Workspace, train: Train, settings: LoopSettings | None = None, *, tell: Tell) -> LoopJson:
    """Run the loop once.

    `tell` gets a sentence at each step. `score` determines the simulated raters' preferences: for brand_voice its house
    style, otherwise the similarity of an answer to the reference. Raises InputError if there are too few prompts or
    votes.
    """
    settings = settings or LoopSettings()
    score = house_style if settings.source == VOICE else nearness
    store = open_store(workspace)
    tell("1 of 6: supervised fine-tuning")
    model = {"base": settings.base}
    data = {"source": settings.source}
    tuning = {"name": "loop-sft", "model": model, "data": data, "evaluation": _UNEVALUATED}
    sft = train(_merged(tuning, settings.sft))
    asked = _prompts(workspace, settings, sft)

    tuned, other = run_contestant(workspace, sft.id, title="Tuned"), base_contestant(settings.base)
    if settings.rival:
        other = run_contestant(workspace, sft.id, title="Tuned, prompted", system_prompt=settings.rival)
    tell(f"2 of 6: blind test, {other.title} against {tuned.title}")
    first, _ = hold_test(store, f"{other.title} against {tuned.title}", [other, tuned], asked, settings, score)
    tell(f"    {evaluate(store, first)['text']}")

    tell("3 of 6: the votes become preference data")
    folder, exported = preferences.export(store, first)
    if not exported.pairs:
        raise InputError("No vote preferred an answer, so there is nothing for DPO to learn", given=exported.text())
    tell(f"    {exported.text()}")

    tell("4 of 6: direct preference optimization on the votes, starting from the tuned model")
    # The next blind test serves as the test, so few rows need to be held out.
    votes = {"source": str(folder / preferences.DPO_FILE), "test_fraction": 0.0}
    learning = {"name": "loop-dpo", "stage": "dpo", "model": model | {"start": sft.id}, "data": votes}
    learning["preference"] = exported.settings()
    dpo = train(_merged(learning | {"evaluation": _UNEVALUATED}, settings.dpo))

    tell("5 of 6: blind test of the tuned model against the one trained on votes, on fresh prompts")
    voted = run_contestant(workspace, dpo.id, title="Tuned on votes")
    second, left_out = hold_test(store, "Tuned against tuned on votes", [tuned, voted], asked, settings, score)
    fresh = len(blind_tests.list_prompts(store, second))
    tell(f"    {counted(left_out, 'prompt')} left out, whose votes trained a contestant; {fresh} are fresh")

    tell("6 of 6: the verdict")
    verdicts = [evaluate(store, test_id) for test_id in (first, second)]
    tell(f"    {verdicts[1]['text']}")
    return {
        "sft": sft.id,
        "dpo": dpo.id,
        "first": first,
        "second": second,
        "export": str(folder),
        "pairs": len(exported.pairs),
        "fresh": fresh,
        "left_out": left_out,
        "verdicts": verdicts,
    }


def house_style(answer: str, prompt: str, reference: str | None) -> float:
    """The share of the rules of Pinebrook's house style that an answer follows."""
    from ftlab.samples.house_style import RULES, follows_house_style

    return 1 - len(follows_house_style(answer, prompt=prompt)) / len(RULES)


def nearness(answer: str, prompt: str, reference: str | None) -> float:
    """The share of matching text in an answer and its reference, from 0 to 1 (Ratcliff and Obershelp)."""
    return difflib.SequenceMatcher(None, answer.strip(), (reference or "").strip(), autojunk=False).ratio()


def vote_as(store: Store, test_id: str, rater_ids: Sequence[str], score: Score, *, temper: float, seed: int) -> int:
    """Have simulated raters vote in turn on all their trials, each preferring the answer with the higher score.

    Returns the number of votes. The evidence is checked afterwards, as with people.
    """
    known = {prompt.fingerprint: prompt.reference for prompt in blind_tests.list_prompts(store, test_id)}
    waiting = {rater_id: random.Random(f"{seed} {number}") for number, rater_id in enumerate(rater_ids)}
    count = 0
    while waiting:
        for rater_id, rng in list(waiting.items()):
            trial = trials.next_trial(store, rater_id)
            if trial is None:
                del waiting[rater_id]
                continue
            prompt = trial.messages[-1]["content"]
            reference = known[prompt_fingerprint(trial.messages)]

            def score_here(text: str, prompt: str = prompt, reference: str | None = reference) -> float:
                return score(text, prompt, reference)

            prefer = taste(score_here, temper=temper / 10)
            trials.vote(store, rater_id, trial.id, prefer(trial.left, trial.right, rng), seconds=1.0)
            count += 1
    watch(store, test_id)
    return count


def hold_test(
    store: Store,
    title: str,
    contestants: Sequence[ContestantSpec],
    asked: Sequence[PromptSpec],
    settings: LoopSettings,
    score: Score,
) -> tuple[str, int]:
    """Run a complete blind test, from its prompts to its end. Returns its id and the number of stale prompts."""
    fresh, left_out = prompt_sources.fresh(asked, [contestant.spec for contestant in contestants], store.workspace)
    chosen = prompt_sources.sample(fresh, settings.prompts_per_test, seed=settings.seed)
    generation = answers.check_generation({"max_new_tokens": settings.max_new_tokens})
    how = TestSettings(generation, votes_per_prompt=settings.raters)
    planned = len(chosen) * settings.raters
    # Simulated raters ignore sides, so a known secret makes the votes reproducible.
    test_id = blind_tests.create_test(store, title, contestants, chosen, how, planned, secret=f"loop {settings.seed}")
    with locked(store.workspace.device_lock):
        answers.generate(store, test_id)
    blind_tests.open_test(store, test_id)
    names = [_RATERS[n % len(_RATERS)] for n in range(settings.raters)]
    people = [link.rater_id for link in links.create_raters(store, test_id, names)]
    vote_as(store, test_id, people, score, temper=settings.temper, seed=settings.seed)
    blind_tests.close_test(store, test_id)
    return test_id, left_out


def _prompts(workspace: Workspace, settings: LoopSettings, sft: RunDirectory) -> list[PromptSpec]:
    if settings.prompts is None:
        return prompt_sources.held_out(f"{prompt_sources.RUN_PREFIX}{sft.id}", workspace)
    return prompt_sources.named(settings.prompts, workspace)


def _merged(settings: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run, overridden by those of `over` section by section."""
    merged = dict(settings)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = {**merged[key], **value} if both else value
    return merged
