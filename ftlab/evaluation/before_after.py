"""Answers before and after preference training, side by side, with rewards and win rates by a reward model."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import ModelConfig, RunConfig, load_config
from ftlab.config.stages import STAGES
from ftlab.core.files import DamagedFile, write_json, write_jsonl
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.core.run_results import (
    AnswersJson,
    BeforeAfterJson,
    ComparedRewardsJson,
    RewardDifferenceJson,
    RewardedJson,
    RewardVerdictJson,
    WinRateJson,
)
from ftlab.data.conversion import Message
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.batches import Stopped, free_memory
from ftlab.evaluation.generate import Answer, generate_answers
from ftlab.evaluation.keeping import question_of_rows
from ftlab.evaluation.material import AnswerLimit, answer_limit, groups_of, held_out_rows, nested, still_holds
from ftlab.evaluation.metrics.text import repetition
from ftlab.evaluation.sides import base_identity, base_side, tokenizer_of
from ftlab.evaluation.significance import MEAN_TEST, Clusters, difference_p, mean_difference, share_interval, sign_p
from ftlab.models.identity import is_made_of

ANSWERING_STAGES = tuple(name for name, stage in STAGES.items() if stage.usual and stage.answers)
CONTESTANTS = {"base": "the base", "start": "its start", "adapted": "this run"}

Progress = Callable[[str, int, int], None]
Prompt = list[Message]


def compare_answers(
    run: RunDirectory,
    *,
    max_rows: int | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> BeforeAfterJson:
    """Let all contestants answer the held-out prompts of `run`, write before_after.json (of another number of prompts
    than the run's own: in a folder beside it), and return it.

    Contestants are `base`, `start` (only where the run was started from an earlier one) and `adapted`. Answers that
    exist for the same weights, prompt and settings are taken over. Raises Stopped, InputError for a stage that writes
    no answers to compare or without held-out prompts, FtlabError when the run has no result.
    """
    began = time.monotonic()
    config = load_config(run.config_file).resolved()
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
    weights = _identities(run, config)
    limit = answer_limit(run, config, tokenizer_of(base_side(run, config)))
    known = {name: _known(run, config, name, weights[name], limit.tokens) for name in weights}
    missing = {name: [prompt for prompt in prompts if _key_of_prompt(prompt) not in known[name]] for name in weights}
    total, done = sum(map(len, missing.values())), 0

    def ask(name: str, model: Any, tokenizer: Any) -> None:
        nonlocal done
        phase = f"answers of {CONTESTANTS[name]} to the held-out prompts"
        tell(phase, done, total)

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            tell(phase, done, total)

        answers = _answer(config, model, tokenizer, missing[name], limit.tokens, advance, should_stop)
        known[name] |= {_key_of_prompt(prompt): one for prompt, one in zip(missing[name], answers, strict=True)}

    if total:
        tell("loading the model", 0, total)
    _visit(run, config, [name for name in weights if missing[name]], ask)
    unread = [prompt for prompt in prompts if any(not one[_key_of_prompt(prompt)].tokens for one in known.values())]
    if unread:
        notes.append(f"{len(unread)} of {len(prompts)} prompts leave no room for an answer and were left out.")
        prompts = [prompt for prompt in prompts if prompt not in unread]
    if not prompts:
        raise InputError("Every held-out prompt fills the model's context", given=f"run {run.id}")
    rows = [
        {"row": number, "prompt": prompt}
        | ({"group": group} if (group := groups.get(_key_of_prompt(prompt))) else {})
        | {name: _saved(known[name][_key_of_prompt(prompt)]) for name in weights}
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
            name: {**figures([known[name][_key_of_prompt(prompt)] for prompt in prompts]), "weights": weights[name]}
            for name in weights
        },
        "settings": _settings(config, limit) | {"max_rows": most},
        "win_rates": win_rates,
        "notes": notes,
    }
    write_jsonl(place.before_after_answers_file, rows)
    write_json(place.before_after_file, result)
    return result


def figures(answers: Sequence[Answer]) -> AnswersJson:
    """Means over `answers`: words and tokens of one, the shares that were cut and repeated, and distinct_2.

    `repetition`: the share of word triples that the same answer has said before (rep-n, Welleck et al. 2020, arXiv
    1908.04319). `distinct_2`: different word pairs by all word pairs of all answers together (Li et al. 2016, arXiv
    1510.03055); it falls where the answers become alike. Both are 0 to 1.
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


def _prompts(
    run: RunDirectory, config: RunConfig, most: int
) -> tuple[str, list[Prompt], int, dict[str, str], list[str]]:
    """The split and its different prompts, at most `most` of them, how many there are, what prompts belong to by
    data.group_by, and notes on the choice."""
    from ftlab.data.rendering import prompt_messages

    split, rows, notes = held_out_rows(run, None, judged=True)
    asked = [_plain(row.get("prompt") or prompt_messages(row["messages"])) for row in rows]
    groups = dict(zip(map(_key_of_prompt, asked), groups_of(run, split, rows, config.data.group_by), strict=True))
    prompts = list({_key_of_prompt(prompt): prompt for prompt in asked}.values())
    available = len(prompts)
    if available > most:
        notes.append(f"{most} of {len(prompts)} prompts of the {split} split were used, drawn with seed 0.")
        prompts = nested(prompts, most, config.evaluation.max_rows)
    return split, prompts, available, groups, notes


def _visit(run: RunDirectory, config: RunConfig, wanted: Sequence[str], work: Callable[[str, Any, Any], None]) -> None:
    """Call `work` with name, model and tokenizer of each contestant in `wanted`; one copy of the weights at a time.

    An adapter, the adapter that it started from and the model under both share that copy.
    """
    from transformers import AutoTokenizer

    from ftlab.models.load import adapter_disabled, load_base, load_run

    if not wanted:
        return
    bases = {name: model for name, model in _bases(run, config).items() if name in wanted}
    shared = [name for name, model in bases.items() if run.adapter.exists() and model == config.model]
    if shared or set(wanted) - bases.keys():
        model, tokenizer = load_run(run)
        if "adapted" in wanted:
            work("adapted", model, tokenizer)
        for name in shared:
            with adapter_disabled(model) as base:
                work(name, base, tokenizer)
        if "start" in wanted and run.start.exists():
            model.load_adapter(str(run.start), adapter_name="start")
            model.set_adapter("start", inference_mode=True)
            work("start", model.eval(), tokenizer)
        del model
        free_memory()
    folder = run.result
    for name in [name for name in bases if name not in shared]:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        work(name, load_base(bases[name], device=config.launcher.device), tokenizer)
        free_memory()


def _bases(run: RunDirectory, config: RunConfig) -> dict[str, ModelConfig]:
    """The contestants that are whole models. A fully tuned run to start from is one; the base is what that began with,
    and left out when that run is gone."""
    first = _first_base(config.model)
    if config.model.start and not run.start.exists():
        return {"base": first, "start": config.model} if first != config.model else {"start": config.model}
    return {"base": first}


def _first_base(model: ModelConfig) -> ModelConfig:
    """The model at the beginning of a chain of fully tuned runs, as far as the runs are still there."""
    while True:
        parent = RunDirectory(Path(model.base).parent)
        if not parent.config_file.is_file() or Path(model.base) != parent.model:
            return model
        model = load_config(parent.config_file).resolved().model


def _answer(
    config: RunConfig,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    most: int,
    advance: Callable[[int], None],
    should_stop: Callable[[], bool] | None,
) -> list[Answer]:
    from ftlab.data.rendering import encode_prompt, stop_token_ids
    from ftlab.models.load import text_length

    return generate_answers(
        model,
        tokenizer,
        [encode_prompt([*prompt, {"role": "assistant", "content": ""}], tokenizer) for prompt in prompts],
        max_new_tokens=most,
        stop_ids=stop_token_ids(tokenizer, model.generation_config),
        batch_rows=config.evaluation.batch_size,
        context=text_length(config),
        advance=advance,
        should_stop=should_stop,
    ).answers


def _identities(run: RunDirectory, config: RunConfig) -> dict[str, str]:
    """What decides the answers of each contestant: its weights and the number format. In the order of CONTESTANTS."""
    from ftlab.models.identity import weights_sha256
    from ftlab.models.load import pick_device, pick_dtype

    device = pick_device(config.launcher.device)
    place = [device, str(pick_dtype(config.model, device)), config.method.name == "qlora"]
    parts: dict[str, Any] = {name: base_identity(model) for name, model in _bases(run, config).items()}
    below = base_identity(config.model)
    if run.start.exists():
        parts["start"] = [below, weights_sha256(run.start)]
    folder = run.result
    parts["adapted"] = [below, weights_sha256(folder)]
    return {
        name: hashlib.sha256(json.dumps([place, parts[name]]).encode()).hexdigest()
        for name in CONTESTANTS
        if name in parts
    }


def _known(run: RunDirectory, config: RunConfig, name: str, weights: str, limit: int) -> dict[str, Answer]:
    """The answers of `name` that were written before, by prompt, as long as weights and settings are the same."""
    known: dict[str, Answer] = {}

    def take(prompt: Sequence[Message], answer: Answer, settings: dict[str, Any]) -> None:
        if still_holds(answer.tokens, answer.cut, settings["max_new_tokens"], limit):
            known.setdefault(_key_of_prompt(prompt), answer)

    # The comparison with the base asked the model under the adapter and this run.
    folder = run.result
    side = "adapted" if name == "adapted" else "base" if _bases(run, config).get(name) == config.model else None
    places: list[RunDirectory | Question] = [run, *run.questions()]
    for place in places:
        with contextlib.suppress(DamagedFile):  # then it is asked again
            _take_over(place, name, side, weights, folder, config, take)
    return known


def _take_over(
    place: RunDirectory | Question,
    name: str,
    side: str | None,
    weights: Any,
    folder: Path,
    config: RunConfig,
    take: Callable[[Any, Answer, dict[str, Any]], None],
) -> None:
    """Give `take` what is stored in `place` of the answers of `name`."""
    earlier = place.before_after()
    known = earlier["contestants"].get(name) if earlier and _same(earlier["settings"], config) else None
    if earlier and known and known.get("weights") == weights:
        for row in place.before_after_answers():
            if name in row:
                answer = Answer(row[name]["answer"], row[name]["tokens"], row[name]["cut"])
                take(row["prompt"], answer, earlier["settings"])
    comparison = place.comparison()
    if side is None or comparison is None or (side != "base" and comparison.get("strength", 1) != 1):
        return
    if _same(comparison["settings"], config) and is_made_of(comparison, folder):
        for row in place.predictions():
            if f"{side}_tokens" in row:
                answer = Answer(row[side], row[f"{side}_tokens"], row[f"{side}_cut"])
                take(row["messages"], answer, comparison["settings"])


def _same(settings: dict[str, Any], config: RunConfig) -> bool:
    return all(settings.get(name) == value for name, value in _place(config).items())


def _settings(config: RunConfig, limit: AnswerLimit) -> dict[str, Any]:
    return _place(config) | {"max_new_tokens": limit.tokens, "longest_answer": str(limit)}


def _place(config: RunConfig) -> dict[str, Any]:
    from ftlab.models.load import pick_device

    return {"decoding": "greedy", "device": pick_device(config.launcher.device)}


def _with_scores(
    place: RunDirectory | Question, rows: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, RewardVerdictJson]]:
    """The rows with the scores that reward models gave them, and the win rates, when the answers have not changed."""
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
    to those of that question, beside the run's own. What was judged
    before by the same weights is not judged again. Raises FtlabError without answers, InputError when `reward_run` is
    no reward model, Stopped.
    """
    from ftlab.models.identity import weights_sha256
    from ftlab.models.reward import load_reward_model, score

    place = run.question(question) if question else run
    found, rows = place.before_after(), place.before_after_answers()
    if not found or not rows:
        raise FtlabError(
            f"The run {run.id} has no answers before and after yet", try_=f"python -m ftlab evaluate {run.id}"
        )
    tell = progress or (lambda phase, done, total: None)
    folder = reward_run.result
    weights = hashlib.sha256(json.dumps(weights_sha256(folder)).encode()).hexdigest()
    known = found["win_rates"].get(reward_run.id)
    if known and known["weights"] == weights:
        return known
    names = list(found["contestants"])
    # Each conversation once: equal answers have equal scores, whatever stands beside them in a batch.
    chats = {_answer_key(row, name): [*row["prompt"], _as_turn(row, name)] for row in rows for name in names}
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        tell("the reward model reads the answers", done, len(chats))
        if should_stop and should_stop():
            raise Stopped

    tell("loading the reward model", 0, len(chats))
    model, tokenizer = load_reward_model(reward_run)
    scores = dict(zip(chats, score(model, tokenizer, list(chats.values()), advance=advance), strict=True))
    del model
    free_memory()
    by_name = {name: [scores[_answer_key(row, name)] for row in rows] for name in names}
    # Files from before prompts said their group have none.
    clusters = [row.get("group") or _prompt_key(row) for row in rows]
    judged: RewardVerdictJson = {
        "reward_model": reward_run.id,
        "weights": weights,
        "created": time.time(),
        "rows": len(rows),
        "mean_scores": {name: sum(values) / len(values) for name, values in by_name.items()},
        "against": {name: win_rate(by_name[name], by_name["adapted"], clusters) for name in names if name != "adapted"},
        "proxy": PROXY,
        "notes": _notes(load_config(run.config_file), reward_run),
    }
    for row in rows:
        for name in names:
            row[name].setdefault("scores", {})[reward_run.id] = scores[_answer_key(row, name)]
    write_jsonl(place.before_after_answers_file, rows)
    write_json(place.before_after_file, {**found, "win_rates": found["win_rates"] | {reward_run.id: judged}})
    return judged


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


def _notes(config: RunConfig, reward_run: RunDirectory) -> list[str]:
    """Why this judge may be partial to this run."""
    if any(reward.kind == "model" and reward.model == reward_run.id for reward in config.reinforcement.rewards):
        return ["The run was trained against this very reward model, so its scores prove nothing."]
    if load_config(reward_run.config_file).data.source == config.data.source:
        return ["The reward model learned from the same preferences as the run, so both may share their mistakes."]
    return []


def _as_turn(row: dict[str, Any], name: str) -> dict[str, str]:
    return {"role": "assistant", "content": row[name]["answer"]}


def _prompt_key(row: dict[str, Any]) -> str:
    return json.dumps(row["prompt"])


def _answer_key(row: dict[str, Any], name: str) -> str:
    return json.dumps([row["prompt"], row[name]["answer"]])


@dataclass(frozen=True)
class Measured:
    """Answers to held-out prompts and what they are worth: `scores` by the name of the reward, `rewards` the weighted
    sum, one for each answer. `tokens` counts those of each answer, `cut` says where the limit ended it."""

    answers: list[str]
    tokens: list[int]
    cut: list[bool]
    scores: dict[str, list[float]]
    rewards: list[float]

    def as_dict(self) -> RewardedJson:
        """The means, for rewards.json. `repetition` is the mean share of repeated word triples."""
        count = len(self.answers)
        return {
            "reward": sum(self.rewards) / count,
            "rewards": {name: sum(values) / count for name, values in self.scores.items()},
            "completion_length": sum(self.tokens) / count,
            "cut_share": sum(self.cut) / count,
            "repetition": sum(map(repetition, self.answers)) / count,
        }


def measure(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    judge: Callable[[Sequence[str]], tuple[dict[str, list[float]], list[float]]],
    *,
    max_new_tokens: int,
    batch_rows: int,
    context: int | None,
    should_stop: Callable[[], bool] | None = None,
) -> Measured:
    """The most likely answer of `model` to each of `prompts` (token ids), and what `judge` says of them all.

    `judge` gives, for the answers in the order of the prompts, the scores by reward and their weighted sums. Raises
    Stopped when `should_stop` says so.
    """
    from ftlab.data.rendering import stop_token_ids

    was_training = model.training
    model.eval()
    try:
        answers = generate_answers(
            model,
            tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            stop_ids=stop_token_ids(tokenizer, model.generation_config),
            batch_rows=batch_rows,
            context=context,
            should_stop=should_stop,
        ).answers
    finally:
        model.train(was_training)
    texts = [answer.text for answer in answers]
    scores, rewards = judge(texts)
    return Measured(texts, [answer.tokens for answer in answers], [answer.cut for answer in answers], scores, rewards)


def compare(start: Measured, adapted: Measured, clusters: Clusters = None) -> ComparedRewardsJson:
    """Both sides, their difference (adapted minus start), its 95% interval and p, over all and for each reward.

    `clusters`: what the prompt of each answer belongs to; see significance.py.
    """
    rewards: dict[str, RewardDifferenceJson] = {}
    for name in adapted.scores:
        difference, interval = mean_difference(start.scores[name], adapted.scores[name], clusters)
        p = difference_p(start.scores[name], adapted.scores[name], clusters)
        rewards[name] = {"difference": difference, "interval": interval, "p": p}
    difference, interval = mean_difference(start.rewards, adapted.rewards, clusters)
    return {
        "rows": len(adapted.answers),
        "start": start.as_dict(),
        "adapted": adapted.as_dict(),
        "difference": difference,
        "interval": interval,
        "p": difference_p(start.rewards, adapted.rewards, clusters),
        "rewards": rewards,
        "test": MEAN_TEST,
    }
