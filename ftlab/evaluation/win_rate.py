"""Which answers a reward model prefers: a proxy, a reward model's opinion and not people's."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.errors import FtlabError
from ftlab.evaluation.batches import Stopped, free_memory
from ftlab.evaluation.significance import Clusters, difference_p, mean_difference, share_interval, sign_p
from ftlab.files import write_json, write_jsonl
from ftlab.run_directory import RunDirectory

PROXY = "A proxy: it is a reward model's opinion, not people's."

Progress = Callable[[str, int, int], None]


def judge_answers(
    run: RunDirectory,
    reward_run: RunDirectory,
    *,
    question: str = "",
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
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
    chats = {_key(row, name): [*row["prompt"], _answer(row, name)] for row in rows for name in names}
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
    by_name = {name: [scores[_key(row, name)] for row in rows] for name in names}
    # Files from before prompts said their group have none.
    clusters = [row.get("group") or _prompt_key(row) for row in rows]
    judged = {
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
            row[name].setdefault("scores", {})[reward_run.id] = scores[_key(row, name)]
    write_jsonl(place.before_after_answers_file, rows)
    write_json(place.before_after_file, found | {"win_rates": found["win_rates"] | {reward_run.id: judged}})
    return judged


def win_rate(before: Sequence[float], after: Sequence[float], clusters: Clusters = None) -> dict[str, Any]:
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
        return ["The run was trained to please this very reward model, so its praise is no proof of anything."]
    if load_config(reward_run.config_file).data.source == config.data.source:
        return ["The reward model learned from the same preferences as the run, so both may share their mistakes."]
    return []


def _answer(row: dict[str, Any], name: str) -> dict[str, str]:
    return {"role": "assistant", "content": row[name]["answer"]}


def _prompt_key(row: dict[str, Any]) -> str:
    return json.dumps(row["prompt"])


def _key(row: dict[str, Any], name: str) -> str:
    return json.dumps([row["prompt"], row[name]["answer"]])
