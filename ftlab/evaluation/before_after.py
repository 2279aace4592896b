"""Answers before and after training on preferences or rewards, with rewards, and win rates by a reward model."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftlab.config import ModelConfig, RunConfig
from ftlab.config.stages import STAGES
from ftlab.core.files import write_json, write_jsonl
from ftlab.core.results import (
    AnswerFiguresJson,
    BeforeAfterJson,
    RewardVerdictJson,
    WinRateJson,
)
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.data.conversion import Message
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.asking import Progress, collect
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.keeping import question_of_rows
from ftlab.evaluation.material import answer_limit, drawn, groups_of, held_out_rows
from ftlab.evaluation.metrics.text import repetition
from ftlab.evaluation.results import ToAnswer, ToGrade
from ftlab.evaluation.sides import (
    ADAPTED,
    BASE,
    START,
    Side,
    adapted_side,
    base_side,
    config_of,
    identity,
    start_side,
    tokenizer_of,
)
from ftlab.evaluation.significance import Clusters, difference_p, mean_difference, share_interval, sign_p

ANSWERING_STAGES = tuple(name for name, stage in STAGES.items() if stage.usual and stage.answers)
CONTESTANTS = {BASE: "the base", START: "its start", ADAPTED: "this run"}

Prompt = list[Message]


def compare_answers(
    run: RunDirectory,
    *,
    max_rows: int | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> BeforeAfterJson:
    """Let all contestants answer the held-out prompts of `run`, write before_after.json, and return it. With another
    number of prompts than the run's own, the files are written to a folder beside it.

    Contestants are `base`, `start` (only if the run was started from an earlier one) and `adapted`. Raises Stopped,
    InputError for a stage that writes no answers or without held-out prompts, FtlabError if the run has no result.
    """
    began = time.monotonic()
    config = config_of(run)
    if config.stage not in ANSWERING_STAGES:
        raise InputError(
            "This run has no before and after answers",
            given=f"{run.id}, stage {config.stage}",
            allowed=", ".join(ANSWERING_STAGES),
        )
    if not run.has_result:
        raise FtlabError(f"The run {run.id} has no trained model yet", try_="wait until it has ended")
    tell = progress or (lambda phase, done, total: None)
    tell("reading the held-out prompts", 0, 0)
    most = max_rows or config.evaluation.max_rows
    split, prompts, available, groups, notes = _prompts(run, config, most)
    question = question_of_rows(config, most, available)
    place = question.place(run)
    sides = contestants(run, config)
    limit = answer_limit(run, config, tokenizer_of(base_side(run, config)))
    asked = _to_answer(prompts, sides[-1], limit.tokens)
    replies = collect(
        sides,
        {side.name: {"prompts": asked} for side in sides},
        batch_rows=config.evaluation.batch_size,
        tell=tell,
        should_stop=should_stop,
    )
    answers = {name: replies[name]["prompts"].answers or [] for name in replies}
    fits = [at for at in range(len(prompts)) if all(of_side[at].tokens for of_side in answers.values())]
    if not fits:
        raise InputError("Every held-out prompt fills the model's context", given=f"run {run.id}")
    if len(fits) < len(prompts):
        unread = len(prompts) - len(fits)
        notes.append(f"{unread} of {len(prompts)} prompts leave no room for an answer and were left out.")
    prompts = [prompts[at] for at in fits]
    answers = {name: [of_side[at] for at in fits] for name, of_side in answers.items()}
    rows = [
        {"row": number, "prompt": prompt}
        | ({"group": group} if (group := groups.get(_key_of_prompt(prompt))) else {})
        | {name: _saved(of_side[number]) for name, of_side in answers.items()}
        for number, prompt in enumerate(prompts)
    ]
    rows, win_rates = _with_scores(place, rows)
    result: BeforeAfterJson = {
        "run": run.id,
        "stage": config.stage,
        "start": config.model.start,
        "created": time.time(),
        "split": split,
        "question": question.described(),
        "seconds": round(time.monotonic() - began, 2),
        "rows": len(rows),
        "contestants": {
            side.name: {**figures(answers[side.name]), "weights": _digest(identity(side))} for side in sides
        },
        "settings": {
            "decoding": "greedy",
            "device": identity(sides[-1])[0],
            "max_new_tokens": limit.tokens,
            "longest_answer": str(limit),
            "max_rows": most,
        },
        "win_rates": win_rates,
        "notes": notes,
    }
    write_jsonl(place.before_after_answers_file, rows)
    write_json(place.before_after_file, result)
    return result


def contestants(run: RunDirectory, config: RunConfig) -> list[Side]:
    """The sides, in the order of CONTESTANTS. A fully tuned run to start from is a whole model; the base is what that
    run began with, and is left out if the run is gone."""
    first = _first_base(config.model)
    base = base_side(run, config.model_copy(update={"model": first}))
    start, adapted = start_side(run, config), adapted_side(run, config, first=True)
    if start.weights == "start":
        return [base, start, adapted]
    if not config.model.start:
        return [base, adapted]
    return [base, start, adapted] if first != config.model else [start, adapted]


def _first_base(model: ModelConfig) -> ModelConfig:
    """The model at the beginning of a chain of fully tuned runs, as far as the runs still exist."""
    while True:
        parent = RunDirectory(Path(model.base).parent)
        if not parent.config_file.is_file() or Path(model.base) != parent.model:
            return model
        model = config_of(parent).model


def _prompts(
    run: RunDirectory, config: RunConfig, most: int
) -> tuple[str, list[Prompt], int, dict[str, str], list[str]]:
    """The split and its different prompts, at most `most` of them, how many there are, what prompts belong to by
    data.group_by, and notes on the choice."""
    from ftlab.data.rendering import prompt_messages

    split, rows, notes = held_out_rows(run, None, judged=True)
    asked = [_plain(row.get("prompt") or prompt_messages(row["messages"])) for row in rows]
    groups = dict(zip(map(_key_of_prompt, asked), groups_of(run, split, rows, config.data.group_by), strict=True))
    every = list({_key_of_prompt(prompt): prompt for prompt in asked}.values())
    prompts, more = drawn(split, every, most, config.evaluation.max_rows, called="prompts")
    return split, prompts, len(every), groups, notes + more


def _to_answer(prompts: Sequence[Prompt], side: Side, most: int) -> ToAnswer:
    from ftlab.data.rendering import encode_prompt
    from ftlab.models.load import text_length

    tokenizer = tokenizer_of(side)
    ids = [encode_prompt([*prompt, {"role": "assistant", "content": ""}], tokenizer) for prompt in prompts]
    return ToAnswer(ids, most, text_length(side.config))


def figures(answers: Sequence[Answer]) -> AnswerFiguresJson:
    """Means over `answers`: words and tokens of one, the shares that were cut and repeated, and distinct_2.

    `repetition`: the share of word triples that the same answer has said before (rep-n, Welleck et al. 2020, arXiv
    1908.04319). `distinct_2`: different word pairs by all word pairs of all answers together (Li et al. 2016, arXiv
    1510.03055); it falls if the answers become alike. Both are 0 to 1.
    """
    texts, count = [answer.text.split() for answer in answers], len(answers)
    pairs = [pair for words in texts for pair in itertools.pairwise(words)]
    return {
        "words": sum(map(len, texts)) / count,
        "tokens": sum(answer.tokens for answer in answers) / count,
        "cut_share": sum(answer.cut for answer in answers) / count,
        "repetition": sum(repetition(answer.text) for answer in answers) / count,
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else 0.0,
    }


def _with_scores(
    place: RunDirectory | Question, rows: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, RewardVerdictJson]]:
    """The rows with the scores that reward models gave them, and the win rates, if the answers have not changed."""
    earlier, before = place.before_after(), place.before_after_answers()

    def bare(row: dict[str, Any]) -> dict[str, Any]:
        sides = [name for name in CONTESTANTS if name in row]
        return row | {name: {key: row[name][key] for key in row[name] if key != "scores"} for name in sides}

    if earlier is None or [bare(row) for row in before] != rows:
        return rows, {}
    return before, earlier["win_rates"]


def _saved(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.text, "tokens": answer.tokens, "cut": answer.cut}


def _plain(messages: Sequence[Message]) -> Prompt:
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages]


def _key_of_prompt(prompt: Sequence[Message]) -> str:
    return json.dumps(_plain(prompt), ensure_ascii=False)


def _digest(who: Any) -> str:
    return hashlib.sha256(json.dumps(who).encode()).hexdigest()


PROXY = "A proxy: it is a reward model's opinion, not people's."


def judge_answers(
    run: RunDirectory,
    reward_run: RunDirectory,
    *,
    question: str = "",
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RewardVerdictJson:
    """Let the reward model of `reward_run` score the answers before and after of `run`; returns the win rates.

    They are added to before_after.json as `win_rates[id of reward_run]`, and the scores to its answers; with `question`
    to those of that question, beside the run's own. Raises FtlabError without answers, InputError if `reward_run` is
    no reward model, Stopped.
    """
    place = run.question(question) if question else run
    stored, rows = place.before_after(), place.before_after_answers()
    if not stored or not rows:
        raise FtlabError(
            f"The run {run.id} has no answers before and after yet", try_=f"python -m ftlab evaluate {run.id}"
        )
    config = config_of(reward_run)
    if config.stage != "reward":
        raise InputError(f"The run {reward_run.id} is not a reward model", given=f"stage: {config.stage}")
    side = adapted_side(reward_run, config, first=True)
    weights = _digest(identity(side))
    known = stored["win_rates"].get(reward_run.id)
    if known and known["weights"] == weights:
        return known
    names = list(stored["contestants"])
    # Each conversation once: equal answers have equal scores, whatever stands beside them in a batch.
    chats = {_answer_key(row, name): [*row["prompt"], _as_turn(row, name)] for row in rows for name in names}
    replies = collect(
        [side],
        {side.name: {"rewards": ToGrade(list(chats.values()))}},
        batch_rows=config.evaluation.batch_size,
        tell=progress or (lambda phase, done, total: None),
        should_stop=should_stop,
    )
    scores = dict(zip(chats, replies[side.name]["rewards"].rewards or [], strict=True))
    by_name = {name: [scores[_answer_key(row, name)] for row in rows] for name in names}
    # Files of earlier versions do not say the group of a prompt.
    clusters = [row.get("group") or json.dumps(row["prompt"]) for row in rows]
    verdict: RewardVerdictJson = {
        "reward_model": reward_run.id,
        "weights": weights,
        "created": time.time(),
        "rows": len(rows),
        "mean_scores": {name: sum(values) / len(values) for name, values in by_name.items()},
        "against": {name: win_rate(by_name[name], by_name[ADAPTED], clusters) for name in names if name != ADAPTED},
        "proxy": PROXY,
        "notes": _notes(config_of(run), reward_run, config),
    }
    for row in rows:
        for name in names:
            row[name].setdefault("scores", {})[reward_run.id] = scores[_answer_key(row, name)]
    write_jsonl(place.before_after_answers_file, rows)
    write_json(place.before_after_file, {**stored, "win_rates": stored["win_rates"] | {reward_run.id: verdict}})
    return verdict


def win_rate(before: Sequence[float], after: Sequence[float], clusters: Clusters = None) -> WinRateJson:
    """How often `after` scores higher than `before` on the same prompt, and by how much on average.

    `win_rate` is the share of wins among the prompts that were decided, with its 95% Wilson interval; ties count for
    neither side, and both are None when all are ties; `p` is that of the exact sign test. `difference` is the mean of
    after minus before over all prompts, with a paired 95% bootstrap interval and `difference_p`. `clusters`: what each
    prompt belongs to; they count together in all of these.
    """
    pairs = list(zip(before, after, strict=True))
    wins, losses = sum(new > old for old, new in pairs), sum(new < old for old, new in pairs)
    difference, interval = mean_difference(before, after, clusters)
    decided = [place for place, (old, new) in enumerate(pairs) if old != new]
    won = [float(pairs[place][1] > pairs[place][0]) for place in decided]
    return {
        "wins": wins,
        "ties": len(pairs) - wins - losses,
        "losses": losses,
        "win_rate": wins / (wins + losses) if wins + losses else None,
        "interval": share_interval(won, clusters and [clusters[place] for place in decided]),
        "p": sign_p(before, after, clusters),
        "difference": difference,
        "difference_interval": interval,
        "difference_p": difference_p(before, after, clusters),
    }


def _notes(config: RunConfig, reward_run: RunDirectory, reward_config: RunConfig) -> list[str]:
    """Why this judge may be partial to this run."""
    if any(reward.kind == "model" and reward.model == reward_run.id for reward in config.reinforcement.rewards):
        return ["The run was trained against this very reward model, so its scores prove nothing."]
    if reward_config.data.source == config.data.source:
        return ["The reward model learned from the same preferences as the run, so both may share their mistakes."]
    return []


def _as_turn(row: dict[str, Any], name: str) -> dict[str, str]:
    return {"role": "assistant", "content": row[name]["answer"]}


def _answer_key(row: dict[str, Any], name: str) -> str:
    return json.dumps([row["prompt"], row[name]["answer"]])
