"""Held-out preferences: how often the chosen answer wins, for the trained model and for its starting point."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import MarginJson, PairAccuracyJson, PreferencesJson
from ftlab.data.conversion import Message
from ftlab.errors import InputError
from ftlab.evaluation.batches import Stopped, free_memory
from ftlab.evaluation.keeping import question_of_rows
from ftlab.evaluation.material import groups_of, held_out_rows, nested
from ftlab.evaluation.perplexity import score_losses
from ftlab.evaluation.significance import LEVEL, difference_p, mean_difference, share_interval, sign_p

__all__ = ["evaluate_preferences"]

Progress = Callable[[str, int, int], None]
Pair = tuple[list[Message], list[Message], list[Message]]  # prompt, chosen, rejected
_WITH_REFERENCE = ("dpo", "kto")
_FEW_STEPS = 30  # 20 at the usual rate showed nothing clear on 20 held-out pairs (SmolLM2, dpo_en_demo)
_MOST_PAIRS = 20  # of one prompt, where single answers are paired


def evaluate_preferences(
    run: RunDirectory,
    *,
    max_rows: int | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PreferencesJson:
    """Score the held-out preferences of `run`, write preferences.json (of another number of pairs than the run's own:
    in a folder beside it), and return it.

    `accuracy`: the share of pairs whose chosen answer has the higher reward, with its 95% Wilson interval and the `p`
    of the exact sign test over the pairs that are no `ties`; `margin`: the mean difference, with its 95% bootstrap
    interval and `margin_p`. Pairs of one prompt, and of one value of data.group_by, count together. The reward is the
    score of a reward model; for dpo and kto beta times the gain in log probability over the start (Rafailov et al.
    2023, eq. 5); for orpo and cpo beta times the mean log probability per token (simpo, ipo, orpo) or their sum.
    `by_log_probability` compares plain log probabilities per token, of what it started from and of the trained model.
    Raises Stopped, InputError without held-out rows, and FtlabError when the run has no result.
    """
    began = time.monotonic()
    config = load_config(run.config_file).resolved()
    tell = progress or (lambda phase, done, total: None)
    tell("reading the held-out preferences", 0, 0)
    split, rows, notes = held_out_rows(run, None, judged=True)
    pairs, most = _pairs(rows), max_rows or config.evaluation.max_rows
    groups = groups_of(run, split, rows, config.data.group_by)
    belongs = {repr(row["prompt"]): group for row, group in zip(rows, groups, strict=True) if group}
    question = question_of_rows(config, max_rows, len(pairs))
    if config.stage == "kto":
        notes.append("Judged answers to the same prompt were paired, a good one with a bad one.")
    if len(pairs) > most:
        notes.append(f"{most} of {len(pairs)} pairs of the {split} split were used, drawn with seed 0.")
        pairs = nested(pairs, most, config.evaluation.max_rows)
    work = _scored if config.stage == "reward" else _by_probability
    margin = work(run, config, pairs, belongs, tell, should_stop)
    figures: PreferencesJson = {
        "run": run.id,
        "stage": config.stage,
        "created": time.time(),
        "split": split,
        "question": question.described(),
        "seconds": round(time.monotonic() - began, 2),
        **margin,
        "notes": notes + margin["notes"],
    }
    write_json(question.place(run).preferences_file, figures)
    return figures


def _scored(
    run: RunDirectory,
    config: RunConfig,
    pairs: list[Pair],
    groups: Mapping[str, str],
    tell: Progress,
    should_stop: Callable[[], bool] | None,
) -> MarginJson:
    from ftlab.models.reward import load_reward_model, score

    model, tokenizer = load_reward_model(run)
    done, chats = 0, [[*pair[0], *pair[side]] for side in (1, 2) for pair in pairs]

    def advance(count: int) -> None:
        nonlocal done
        done += count
        tell("scoring the held-out answers", done, len(chats))
        if should_stop and should_stop():
            raise Stopped

    scores = score(model, tokenizer, chats, advance=advance)
    del model
    free_memory()
    measure = "score of the reward model"
    return {**_figures(scores[: len(pairs)], scores[len(pairs) :], measure, _clusters(pairs, groups)), "notes": []}


def _by_probability(
    run: RunDirectory,
    config: RunConfig,
    pairs: list[Pair],
    groups: Mapping[str, str],
    tell: Progress,
    should_stop: Callable[[], bool] | None,
) -> MarginJson:
    from ftlab.data.rendering import encode_completions
    from ftlab.models.load import adapter_disabled, attach_adapter, load_base, load_run, load_trained_base, text_length

    tell("loading the model", 0, 0)
    model, tokenizer = load_run(run)
    notes = []
    # As in training: pairs that are too long are left out, or cut where training had to cut.
    cutting = bool(run.manifest().get("tokens", {}).get("train", {}).get("cut"))
    limit = min(config.optimisation.max_length, text_length(config) or config.optimisation.max_length)
    sides, used, cut = [], [], 0
    for pair in pairs:
        prompt, chosen, rejected = pair
        both = encode_completions(prompt, [chosen, rejected], tokenizer)
        too_long = any(len(one.whole.input_ids) > limit for one in both)
        if too_long and not cutting:
            continue
        whole = [one.whole.cut(limit) for one in both]
        if len(both[0].prompt_ids) < limit and (whole[0].input_ids != whole[1].input_ids or chosen == rejected):
            sides.append(whole)
            used.append(pair)
            cut += too_long
    if len(sides) < len(pairs):
        notes.append(
            f"{len(pairs) - len(sides)} of {len(pairs)} held-out pairs are longer than {limit} tokens, or do not "
            "differ within them, and were left out."
        )
    if cut:
        notes.append(f"{cut} of {len(pairs)} held-out pairs are longer than {limit} tokens and were cut there.")
    if not sides:
        raise InputError(
            f"There is no held-out pair that differs within {limit} tokens",
            given=f"{len(pairs)} pairs in {run.id}",
            try_="raise optimisation.max_length, or take a base that reads more",
        )
    encoded = [both[side] for side in (0, 1) for both in sides]
    done = 0

    def losses(model: Any, name: str) -> Any:
        def advance(count: int) -> None:
            nonlocal done
            done += count
            tell(f"scoring {name} on the held-out pairs", done, 2 * len(encoded))

        return score_losses(
            model, encoded, pad_token_id=tokenizer.pad_token_id, advance=advance, should_stop=should_stop
        )

    trained = losses(model, "the trained model")
    name = "what it started from"
    if run.start.exists():
        del model
        free_memory()
        model = attach_adapter(load_trained_base(config, device=config.launcher.device), run.start)
        before = losses(model, name)
    elif config.method.name == "full":
        del model
        free_memory()
        model = load_base(config.model, device=config.launcher.device)
        before = losses(model, name)
    else:
        with adapter_disabled(model) as base:
            before = losses(base, name)
    del model
    free_memory()
    rewards, measure = _rewards(config, trained, before)
    clusters = _clusters(used, groups)
    figures = _figures(rewards[: len(sides)], rewards[len(sides) :], measure, clusters)
    plain = [
        _accuracy([-loss for loss in losses[: len(sides)]], [-loss for loss in losses[len(sides) :]], clusters)
        for losses in (before.per_token, trained.per_token)
    ]
    figures["by_log_probability"] = {"before": plain[0], "after": plain[1]}
    figures["logp_chosen"], figures["logp_rejected"] = (
        {when: -sum(losses.nll[part]) / len(sides) for when, losses in (("before", before), ("after", trained))}
        for part in (slice(len(sides)), slice(len(sides), None))
    )
    return {**figures, "notes": notes + _about_effect(run, config, figures)}


def _about_effect(run: RunDirectory, config: RunConfig, figures: MarginJson) -> list[str]:
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


def _rewards(config: RunConfig, trained: Any, before: Any) -> tuple[list[float], str]:
    beta, loss = config.preference.beta or 0.1, config.preference.loss
    if config.stage in _WITH_REFERENCE:
        gains = [old - new for old, new in zip(before.nll, trained.nll, strict=True)]
        return [beta * gain for gain in gains], "beta times the gain in log probability over the start"
    if config.stage == "orpo" or loss in ("simpo", "alphapo", "ipo"):
        return [-beta * nll for nll in trained.per_token], "beta times the mean log probability per token"
    return [-beta * nll for nll in trained.nll], "beta times the log probability"


def _clusters(pairs: Sequence[Pair], groups: Mapping[str, str]) -> list[str]:
    """What each pair belongs to, by `groups` of prompts, else its prompt: pairs of one prompt share their answers."""
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
    """A tie is not a win, and no loss either: the test leaves it out."""
    right = [a > b for a, b in zip(chosen, rejected, strict=True)]
    return {
        "accuracy": sum(right) / len(right),
        "interval": share_interval(right, prompts),
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
