"""Held-out preferences: how often the chosen answer wins, for the trained model and for its starting point."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftlab.config import RunConfig
from ftlab.core.files import write_json
from ftlab.core.results import AccuracyJson, PreferenceFiguresJson, PreferencesJson
from ftlab.core.run_directory import RunDirectory
from ftlab.data.conversion import Message
from ftlab.errors import InputError
from ftlab.evaluation.asking import Progress, collect
from ftlab.evaluation.keeping import question_of_rows
from ftlab.evaluation.material import drawn, groups_of, held_out_rows
from ftlab.evaluation.perplexity import Losses
from ftlab.evaluation.results import Reply, Request, ToGrade, ToScore
from ftlab.evaluation.sides import ADAPTED, Side, adapted_side, base_side, config_of, start_side, tokenizer_of
from ftlab.evaluation.significance import LEVEL, difference_p, mean_difference, share_interval, sign_p

Pair = tuple[list[Message], list[Message], list[Message]]  # prompt, chosen, rejected
_WITH_REFERENCE = ("dpo", "kto")
_FEW_STEPS = 30  # 20 at the usual rate showed nothing clear on 20 held-out pairs (SmolLM2, dpo_en_demo)
_MOST_PAIRS = 20  # of one prompt, where single answers are paired
_PLACES = {"chosen": 1, "rejected": 2}  # in a Pair


def evaluate_preferences(
    run: RunDirectory,
    *,
    max_rows: int | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PreferencesJson:
    """Score the held-out preferences of `run`, write preferences.json, and return it. With another number of pairs than
    the run's own, the file is written to a folder beside it.

    `accuracy`: the share of pairs whose chosen answer has the higher reward, with its 95% Wilson interval and the `p`
    of the exact sign test over the pairs that are no `ties`; `margin`: the mean difference, with its 95% bootstrap
    interval and `margin_p`. Pairs of one prompt, and of one value of data.group_by, count together. The reward is the
    score of a reward model; for dpo and kto beta times the gain in log probability over the start (Rafailov et al.
    2023, eq. 5); for orpo and cpo beta times the mean log probability per token (simpo, ipo, orpo) or their sum.
    `by_log_probability` compares plain log probabilities per token, of what it started from and of the trained model.
    Raises Stopped, InputError without held-out rows, and FtlabError if the run has no result.
    """
    began = time.monotonic()
    config = config_of(run)
    tell = progress or (lambda phase, done, total: None)
    tell("reading the held-out preferences", 0, 0)
    split, rows, notes = held_out_rows(run, None, judged=True)
    every, most = _pairs(rows), max_rows or config.evaluation.max_rows
    groups = groups_of(run, split, rows, config.data.group_by)
    belongs = {repr(row["prompt"]): group for row, group in zip(rows, groups, strict=True) if group}
    question = question_of_rows(config, max_rows, len(every))
    if config.stage == "kto":
        notes.append("Judged answers to the same prompt were paired, a good one with a bad one.")
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

    if config.stage == "reward":
        graded: dict[str, Request] = {
            name: ToGrade([[*pair[0], *pair[place]] for pair in pairs]) for name, place in _PLACES.items()
        }
        replies = replies_of([trained], graded)[trained.name]
        chosen, rejected = (replies[name].rewards or [] for name in _PLACES)
        figures = _figures(chosen, rejected, "score of the reward model", _clusters(pairs, belongs))
        about = list[str]()
    else:
        pairs, scored, about = _to_score(run, config, pairs, tokenizer_of(trained))
        before = start_side(run, config) if run.start.exists() else base_side(run, config)
        answers = replies_of([before, trained], scored)
        start, result = ({name: _losses(answers[at][name]) for name in _PLACES} for at in (before.name, ADAPTED))
        figures = _by_probability(config, start, result, _clusters(pairs, belongs))
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
    """The pairs that can be scored, both answers of them as questions, and notes on the others.

    As in training: pairs that are too long are left out, or cut where training had to cut.
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
) -> PreferenceFiguresJson:
    """The figures by the losses of the chosen and the rejected answers, before training and after it."""
    chosen, rejected = (_rewards(config, trained[name], start[name]) for name in _PLACES)
    both = {"before": start, "after": trained}

    def by_token(losses: Mapping[str, Losses]) -> AccuracyJson:
        of_chosen, of_rejected = ([-loss for loss in losses[name].per_token] for name in _PLACES)
        return _accuracy(of_chosen, of_rejected, clusters)

    return {
        **_figures(chosen, rejected, _reward_name(config), clusters),
        "by_log_probability": {when: by_token(losses) for when, losses in both.items()},
        "logp_chosen": {when: _mean_log(losses["chosen"]) for when, losses in both.items()},
        "logp_rejected": {when: _mean_log(losses["rejected"]) for when, losses in both.items()},
    }


def _mean_log(losses: Losses) -> float:
    return -sum(losses.nll) / len(losses.nll)


def _about_effect(run: RunDirectory, config: RunConfig, figures: PreferenceFiguresJson) -> list[str]:
    """What to make of a margin over the start that may be chance."""
    if config.stage not in _WITH_REFERENCE or (figures["margin"] > 0 and figures["margin_p"] < LEVEL):
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


def _rewards(config: RunConfig, trained: Losses, before: Losses) -> list[float]:
    beta = config.preference.beta or 0.1
    if config.stage in _WITH_REFERENCE:
        return [beta * (old - new) for old, new in zip(before.nll, trained.nll, strict=True)]
    return [-beta * nll for nll in (trained.per_token if _is_per_token(config) else trained.nll)]


def _reward_name(config: RunConfig) -> str:
    if config.stage in _WITH_REFERENCE:
        return "beta times the gain in log probability over the start"
    return f"beta times the {'mean log probability per token' if _is_per_token(config) else 'log probability'}"


def _is_per_token(config: RunConfig) -> bool:
    return config.stage == "orpo" or config.preference.loss in ("simpo", "alphapo", "ipo")


def _clusters(pairs: Sequence[Pair], groups: Mapping[str, str]) -> list[str]:
    """What each pair belongs to, by `groups` of prompts, else its prompt: pairs of one prompt share their answers."""
    keys = [repr(prompt) for prompt, _, _ in pairs]
    return [groups.get(key, key) for key in keys]


def _figures(
    chosen: Sequence[float], rejected: Sequence[float], measure: str, prompts: Sequence[str]
) -> PreferenceFiguresJson:
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


def _accuracy(chosen: Sequence[float], rejected: Sequence[float], prompts: Sequence[str]) -> AccuracyJson:
    """A tie is not a win, and no loss either: the test leaves it out."""
    right = [a > b for a, b in zip(chosen, rejected, strict=True)]
    return {
        "accuracy": sum(right) / len(right),
        "interval": share_interval(right, prompts) or [],
        "ties": sum(a == b for a, b in zip(chosen, rejected, strict=True)),
        "p": sign_p(rejected, chosen, prompts),
    }


def _pairs(rows: list[dict[str, Any]]) -> list[Pair]:
    """(prompt, chosen, rejected) of pairs, or of the judged answers to the same prompt.

    Raises InputError when no prompt has both a good and a bad answer.
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
