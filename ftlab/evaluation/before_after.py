"""What training on preferences or rewards changed: held-out pairs, answers before and after, win rates by a reward
model."""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlab.config import ModelConfig, RunConfig
from ftlab.config.stages import JUDGED_STAGES, STAGES, WITH_REFERENCE, scores_means
from ftlab.core.files import digest, write_json, write_jsonl
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.core.run_results import (
    AnswersJson,
    BeforeAfterJson,
    MarginJson,
    PairAccuracyJson,
    PreferencesJson,
    RewardVerdictJson,
    WinRateJson,
)
from ftlab.data.shapes import Example, Message
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.asking import collect
from ftlab.evaluation.batches import Progress, silent
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.keeping import Reply, Request, ToAnswer, ToGrade, ToScore, question_of_rows
from ftlab.evaluation.losses import Losses
from ftlab.evaluation.material import answer_limit, drawn, groups_of, held_out_rows
from ftlab.evaluation.metrics.text import repetition
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
from ftlab.evaluation.significance import LEVEL, Clusters, difference_p, mean_difference, share_interval, sign_p

Pair = tuple[list[Message], list[Message], list[Message]]  # prompt, chosen, rejected
_FEW_STEPS = 30  # 20 at the usual rate showed nothing clear on 20 held-out pairs (SmolLM2, dpo_en_demo)
_MOST_PAIRS = 20  # of one prompt, if single answers are paired
_PLACES = {"chosen": 1, "rejected": 2}  # indices in a Pair


def evaluate_preferences(
    run: RunDirectory,
    *,
    max_rows: int | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PreferencesJson:
    """Score the held-out preferences of `run`, write preferences.json, and return it. With a number of pairs other than
    the run's own, the file goes to a separate folder.

    `accuracy`: the share of pairs whose chosen answer has the higher reward, with its 95% Wilson interval and the `p`
    of the exact sign test over pairs that are not `ties`. `margin`: the mean difference, with its 95% bootstrap
    interval and `margin_p`. Pairs with the same prompt, or the same value of data.group_by, form a cluster. The reward
    is the score of a reward model; for dpo and kto, beta times the gain in log probability over the start (Rafailov et
    al. 2023, eq. 5); for orpo and cpo, beta times the mean log probability per token (simpo, ipo, orpo) or their sum.
    `by_log_probability` compares plain log probabilities per token, for the starting model and the trained model.
    Raises Stopped, InputError without held-out rows, and FtlabError if the run has no result.
    """
    began = time.monotonic()
    config = config_of(run)
    tell = progress or silent
    tell("reading the held-out preferences", 0, 0)
    split, rows, notes = held_out_rows(run, None, judged=True)
    every, most = _pairs(rows), max_rows or config.evaluation.max_rows
    groups = groups_of(run, split, rows, config.data.group_by)
    belongs = {repr(row["prompt"]): group for row, group in zip(rows, groups, strict=True) if group}
    question = question_of_rows(config, max_rows, len(every))
    if config.stage in JUDGED_STAGES:
        notes.append("Good and bad answers to the same prompt were paired.")
    pairs, more = drawn(split, every, most, config.evaluation.max_rows, called="pairs")
    trained = adapted_side(run, config, first=True)

    def replies_of(sides: Sequence[Side], questions: Mapping[str, Request]) -> dict[str, dict[str, Reply]]:
        return collect(
            sides,
            {side.name: questions for side in sides},
            batch_rows=config.evaluation.batch_size,
            tell=tell,
            should_stop=should_stop,
        )

    if config.is_reward_model:
        graded: dict[str, Request] = {
            name: ToGrade([[*pair[0], *pair[place]] for pair in pairs]) for name, place in _PLACES.items()
        }
        replies = replies_of([trained], graded)[trained.name]
        chosen, rejected = (replies[name].rewards or [] for name in _PLACES)
        figures = _figures(chosen, rejected, "score of the reward model", _clusters_of(pairs, belongs))
        about = list[str]()
    else:
        pairs, scored, about = _to_score(run, config, pairs, tokenizer_of(trained))
        before = start_side(run, config) if run.start.exists() else base_side(run, config)
        answers = replies_of([before, trained], scored)
        start, result = ({name: _losses(answers[at][name]) for name in _PLACES} for at in (before.name, ADAPTED))
        figures = _by_probability(config, start, result, _clusters_of(pairs, belongs))
        about += _about_effect(run, config, figures)
    preferences: PreferencesJson = {
        "run": run.id,
        "stage": config.stage,
        "created": time.time(),
        "split": split,
        "question": question.described(),
        "seconds": round(time.monotonic() - began, 2),
        **figures,
        "notes": [*notes, *more, *about],
    }
    write_json(question.place(run).preferences_file, preferences)
    return preferences


def _losses(reply: Reply) -> Losses:
    assert reply.losses is not None  # the reply to a ToScore
    return reply.losses


def _to_score(
    run: RunDirectory, config: RunConfig, pairs: Sequence[Pair], tokenizer: Any
) -> tuple[list[Pair], dict[str, Request], list[str]]:
    """The pairs that can be scored, both of their answers as questions, and notes on the rest.

    As in training, pairs that are too long are left out, or cut if training had to cut.
    """
    from ftlab.data.rendering import encode_completions
    from ftlab.models.load import text_length

    cutting = bool(run.manifest().get("tokens", {}).get("train", {}).get("cut"))
    limit = min(config.optimisation.max_length, text_length(config) or config.optimisation.max_length)
    used, encoded, cut = list[Pair](), list[list[Any]](), 0
    for pair in pairs:
        prompt, chosen, rejected = pair
        both = encode_completions(prompt, [chosen, rejected], tokenizer)
        too_long = any(len(answer.whole.input_ids) > limit for answer in both)
        if too_long and not cutting:
            continue
        whole = [answer.whole.cut(limit) for answer in both]
        if len(both[0].prompt_ids) < limit and (whole[0].input_ids != whole[1].input_ids or chosen == rejected):
            used.append(pair)
            encoded.append(whole)
            cut += too_long
    if not used:
        raise InputError(
            f"There is no held-out pair that differs within {limit} tokens",
            given=f"{len(pairs)} pairs in {run.id}",
            try_="raise optimisation.max_length, or choose a base with a longer context",
        )
    notes = []
    if len(used) < len(pairs):
        notes.append(
            f"{len(pairs) - len(used)} of {len(pairs)} held-out pairs are longer than {limit} tokens, or do not "
            "differ within them, and were left out."
        )
    if cut:
        notes.append(f"{cut} of {len(pairs)} held-out pairs are longer than {limit} tokens and were cut there.")
    places = range(len(used))
    questions: dict[str, Request] = {
        name: ToScore([whole[number] for whole in encoded], places, len(used)) for number, name in enumerate(_PLACES)
    }
    return used, questions, notes


def _by_probability(
    config: RunConfig, start: Mapping[str, Losses], trained: Mapping[str, Losses], clusters: Sequence[str]
) -> MarginJson:
    """The figures from the losses of the chosen and rejected answers, before and after training."""
    chosen, rejected = (_rewards_of(config, trained[name], start[name]) for name in _PLACES)
    both = {"before": start, "after": trained}

    def by_token(losses: Mapping[str, Losses]) -> PairAccuracyJson:
        of_chosen, of_rejected = ([-loss for loss in losses[name].per_token] for name in _PLACES)
        return _accuracy(of_chosen, of_rejected, clusters)

    return {
        **_figures(chosen, rejected, _reward_name(config), clusters),
        "by_log_probability": {"before": by_token(start), "after": by_token(trained)},
        "logp_chosen": {when: _mean_log(losses["chosen"]) for when, losses in both.items()},
        "logp_rejected": {when: _mean_log(losses["rejected"]) for when, losses in both.items()},
    }


def _mean_log(losses: Losses) -> float:
    return -sum(losses.nll) / len(losses.nll)


def _about_effect(run: RunDirectory, config: RunConfig, figures: MarginJson) -> list[str]:
    """Advice if the margin over the start may be due to chance."""
    if config.stage not in WITH_REFERENCE or (figures["margin"] > 0 and figures["margin_p"] < LEVEL):
        return []
    if figures["margin"] < 0 and figures["margin_p"] < LEVEL:
        return [
            f"The margin fell below that of the start by more than chance ({figures['margin']:+.3g}): check whether "
            "chosen and rejected are swapped, and try a lower learning rate."
        ]
    steps = max((int(row["step"]) for row in run.metrics()), default=0)
    settings = config.optimisation
    assert settings.batch_size and settings.gradient_accumulation  # the configuration is resolved
    rows = steps * settings.batch_size * settings.gradient_accumulation
    advice = (
        "Too few steps to expect an effect: use more rows, more epochs or a smaller batch."
        if steps < _FEW_STEPS
        else "Try a learning rate three times as high, or check whether the pairs contradict each other."
    )
    counted = f"{steps} step{'s' if steps != 1 else ''} on {rows} rows"
    return [
        f"No clear effect: the margin may be chance ({counted}, learning rate {settings.learning_rate:g}). {advice}"
    ]


def _rewards_of(config: RunConfig, trained: Losses, before: Losses) -> list[float]:
    beta = config.preference.beta or 0.1
    if config.stage in WITH_REFERENCE:
        return [beta * (old - new) for old, new in zip(before.nll, trained.nll, strict=True)]
    return [-beta * nll for nll in (trained.per_token if _is_per_token(config) else trained.nll)]


def _reward_name(config: RunConfig) -> str:
    if config.stage in WITH_REFERENCE:
        return "beta times the gain in log probability over the start"
    return f"beta times the {'mean log probability per token' if _is_per_token(config) else 'log probability'}"


def _is_per_token(config: RunConfig) -> bool:
    return scores_means(config.stage, config.preference.loss)


def _clusters_of(pairs: Sequence[Pair], groups: Mapping[str, str]) -> list[str]:
    """The cluster of each pair: its value of `groups`, else its prompt, since pairs with the same prompt share
    answers."""
    keys = [repr(prompt) for prompt, _, _ in pairs]
    return [groups.get(key, key) for key in keys]


def _figures(chosen: Sequence[float], rejected: Sequence[float], measure: str, prompts: Sequence[str]) -> MarginJson:
    rows = len(chosen)
    margin, interval = mean_difference(rejected, chosen, prompts)
    return {
        "rows": rows,
        "measure": measure,
        **_accuracy(chosen, rejected, prompts),
        "margin": margin,
        "margin_interval": interval,
        "margin_p": difference_p(rejected, chosen, prompts),
        "reward_chosen": sum(chosen) / rows,
        "reward_rejected": sum(rejected) / rows,
    }


def _accuracy(chosen: Sequence[float], rejected: Sequence[float], prompts: Sequence[str]) -> PairAccuracyJson:
    """A tie is neither a win nor a loss, so the test leaves it out."""
    right = [a > b for a, b in zip(chosen, rejected, strict=True)]
    return {
        "accuracy": sum(right) / len(right),
        "interval": share_interval(right, prompts) or [],
        "ties": sum(a == b for a, b in zip(chosen, rejected, strict=True)),
        "p": sign_p(rejected, chosen, prompts),
    }


def _pairs(rows: Sequence[Example]) -> list[Pair]:
    """(prompt, chosen, rejected) from pairs, or from judged answers to the same prompt.

    Raises InputError if no prompt has both a good and a bad answer.
    """
    if "chosen" in rows[0]:
        return [(row["prompt"], row["chosen"], row["rejected"]) for row in rows]
    by_prompt: dict[str, dict[bool, list[Any]]] = defaultdict(lambda: {True: [], False: []})
    for row in rows:
        by_prompt[repr(row["prompt"])][row["label"]].append(row)
    pairs = [
        (good["prompt"], good["completion"], bad["completion"])
        for answers in by_prompt.values()
        for good, bad in _some([(good, bad) for good in answers[True] for bad in answers[False]])
    ]
    if not pairs:
        raise InputError(
            "No held-out prompt has both a good and a bad answer, so there is no pair to compare",
            given=f"{len(rows)} held-out answers",
            try_="judge two answers to the same prompt in some of the rows",
        )
    return pairs


def _some(pairs: list[Any]) -> list[Any]:
    step = -(-len(pairs) // _MOST_PAIRS) or 1
    return pairs[::step]


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
    """Have all contestants answer the held-out prompts of `run`, write before_after.json, and return it. With a number
    of prompts other than the run's own, the files go to a separate folder.

    Contestants are `base`, `start` (only if the run was started from an earlier one) and `adapted`. Raises Stopped,
    InputError for a stage that writes no answers or without held-out prompts, FtlabError if the run has no result.
    """
    began = time.monotonic()
    config = config_of(run)
    if config.stage not in ANSWERING_STAGES:
        raise InputError(
            "This run has no answers from before and after training",
            given=f"{run.id}, stage {config.stage}",
            allowed=", ".join(ANSWERING_STAGES),
        )
    if not run.has_result:
        raise FtlabError(f"The run {run.id} has no trained model yet", try_="wait until it has finished")
    tell = progress or silent
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
        | {name: of_side[number].as_dict() for name, of_side in answers.items()}
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
    """The sides, in the order of CONTESTANTS. If the run started from a fully tuned run, the start is a whole model.
    The base is then what that run started from, and is left out if the run is gone."""
    first = _first_base(config.model)
    base = base_side(run, config.model_copy(update={"model": first}))
    start, adapted = start_side(run, config), adapted_side(run, config, first=True)
    if start.weights == "start":
        return [base, start, adapted]
    if not config.model.start:
        return [base, adapted]
    return [base, start, adapted] if first != config.model else [start, adapted]


def _first_base(model: ModelConfig) -> ModelConfig:
    """The model at the beginning of a chain of fully tuned runs, as far back as the runs still exist."""
    while True:
        parent = RunDirectory(Path(model.base).parent)
        if not parent.config_file.is_file() or Path(model.base) != parent.model:
            return model
        model = config_of(parent).model


def _prompts(
    run: RunDirectory, config: RunConfig, most: int
) -> tuple[str, list[Prompt], int, dict[str, str], list[str]]:
    """The split and its distinct prompts (at most `most`), the number available, the data.group_by cluster of each
    prompt, and notes on the choice."""
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


def figures(answers: Sequence[Answer]) -> AnswersJson:
    """Means over `answers`: words and tokens per answer, the shares that were cut and repeated, and distinct_2.

    `repetition`: the share of word triples that already occurred in the same answer (rep-n, Welleck et al. 2020, arXiv
    1908.04319). `distinct_2`: distinct word pairs divided by all word pairs of all answers together (Li et al. 2016,
    arXiv 1510.03055); it falls as answers become more alike. Both are 0 to 1.
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
    """The rows with the scores from reward models, and the win rates, if the answers have not changed."""
    earlier, before = place.before_after(), place.before_after_answers()

    def bare(row: dict[str, Any]) -> dict[str, Any]:
        sides = [name for name in CONTESTANTS if name in row]
        return row | {name: {key: row[name][key] for key in row[name] if key != "scores"} for name in sides}

    if earlier is None or [bare(row) for row in before] != rows:
        return rows, {}
    return before, earlier["win_rates"]


def _plain(messages: Sequence[Message]) -> Prompt:
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages]


def _key_of_prompt(prompt: Sequence[Message]) -> str:
    return json.dumps(_plain(prompt), ensure_ascii=False)


def _digest(who: Any) -> str:
    return digest(who)


PROXY = "A proxy: it is a reward model's opinion, not people's."


def judge_answers(
    run: RunDirectory,
    reward_run: RunDirectory,
    *,
    question: str = "",
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RewardVerdictJson:
    """Score the answers before and after `run` with the reward model of `reward_run`. Returns the win rates.

    They are added to before_after.json as `win_rates[id of reward_run]`, and the scores to its answers; with
    `question`, to those of that question, stored next to the run's own. Raises FtlabError without answers, InputError
    if `reward_run` is not a reward model, Stopped.
    """
    place = run.question(question) if question else run
    stored, rows = place.before_after(), place.before_after_answers()
    if not stored or not rows:
        raise FtlabError(
            f"The run {run.id} has no answers from before and after training yet",
            try_=f"python -m ftlab evaluate {run.id}",
        )
    config = config_of(reward_run)
    if not config.is_reward_model:
        raise InputError(f"The run {reward_run.id} is not a reward model", given=f"stage: {config.stage}")
    side = adapted_side(reward_run, config, first=True)
    weights = _digest(identity(side))
    known = stored["win_rates"].get(reward_run.id)
    if known and known["weights"] == weights:
        return known
    names = list(stored["contestants"])
    # Score each conversation once: equal answers get equal scores, regardless of the rest of the batch.
    chats = {_answer_key(row, name): [*row["prompt"], _as_turn(row, name)] for row in rows for name in names}
    replies = collect(
        [side],
        {side.name: {"rewards": ToGrade(list(chats.values()))}},
        batch_rows=config.evaluation.batch_size,
        tell=progress or silent,
        should_stop=should_stop,
    )
    scores = dict(zip(chats, replies[side.name]["rewards"].rewards or [], strict=True))
    by_name = {name: [scores[_answer_key(row, name)] for row in rows] for name in names}
    # A prompt without a group is one of its own.
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

    `win_rate` is the share of wins among the decided prompts, with its 95% Wilson interval. Ties count for neither
    side, and both are None if all are ties. `p` is from the exact sign test. `difference` is the mean of after minus
    before over all prompts, with a paired 95% bootstrap interval and `difference_p`. `clusters`: the cluster of each
    prompt, used in all of these.
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
    """Why this judge may favor this run."""
    if any(reward.kind == "model" and reward.model == reward_run.id for reward in config.reinforcement.rewards):
        return ["The run was trained on the scores of this very reward model, so they prove nothing."]
    if reward_config.data.source == config.data.source:
        return ["The reward model learned from the same preferences as the run, so both may share their mistakes."]
    return []


def _as_turn(row: dict[str, Any], name: str) -> dict[str, str]:
    return {"role": "assistant", "content": row[name]["answer"]}


def _answer_key(row: dict[str, Any], name: str) -> str:
    return json.dumps([row["prompt"], row[name]["answer"]])
