"""Votes as preference data and as examples to read."""

from __future__ import annotations

import contextlib
import datetime
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired

from sqlalchemy import select
from typing_extensions import TypedDict

from ftlab.arena.ballots import Ballot, judged, pair_of
from ftlab.arena.blind_tests import find_test, list_contestants
from ftlab.arena.conversations import BETWEEN, as_text, dialogue, parts_of, texts_of, user_turns
from ftlab.arena.registration import ORIGIN
from ftlab.arena.store import Store, answers, contestants, prompts
from ftlab.arena.tally import count, evaluate, read_votes, revealed_now
from ftlab.config import RunConfig, load_config
from ftlab.config.methods import CONTINUED
from ftlab.core.files import read_cached, write_json, write_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.figures import percent

RULE = "The first prompt, in test order, that each contestant won, that was a tie, and that divided raters."


class AnswerJson(TypedDict):
    title: str
    text: str


class ExampleJson(TypedDict):
    """A prompt (the text of its last turn, of all turns of the user in a conversation) with two answers, how the votes
    went, and comments of raters."""

    kind: str
    prompt: str
    answers: list[AnswerJson]
    comments: list[str]


class VoteOriginJson(TypedDict):
    trial: str
    rater: str
    choice: str
    preferred: str | None
    left: str
    ratings: dict[str, Any]
    comment: str
    seconds: float | None
    time: str


class OriginJson(TypedDict):
    """Where a row of votes comes from, as a line of provenance.jsonl. `chosen` and `rejected`, or `completion`, are the
    contestants that wrote the answers."""

    test: str
    test_title: str
    prompt: str
    prompt_fingerprint: str
    topic: str | None
    generation: dict[str, Any]
    conflict: bool
    share_of_votes: float
    votes: list[VoteOriginJson]
    chosen: NotRequired[dict[str, Any]]
    rejected: NotRequired[dict[str, Any]]
    completion: NotRequired[dict[str, Any]]


class PairJson(TypedDict):
    prompt: list[dict[str, str]]
    chosen: list[dict[str, str]]
    rejected: list[dict[str, str]]


class SummaryJson(TypedDict):
    """Of an export of votes: numbers of examples; `left_out` by reason; `wrong`: the estimated share of wrong votes."""

    pairs: int
    judged: int
    conflicts: int
    left_out: dict[str, int]
    wrong: float | None


class LabelledJson(TypedDict):
    prompt: list[dict[str, str]]
    completion: list[dict[str, str]]
    label: bool


def examples(store: Store, test_id: str, most: int = 4) -> list[ExampleJson]:
    """Up to `most` prompts, one for each pattern of votes."""
    known = _read(store, test_id)
    titles = {name: origin["title"] for name, origin in known.origins.items()}
    by_kind: dict[str, ExampleJson] = {}
    for prompt, pair, ballots in _by_pair(store, test_id, known):
        kind = _kind(ballots, titles)
        if kind not in by_kind:
            by_kind[kind] = {
                "kind": kind,
                "prompt": BETWEEN.join(known.asked_of(prompt)),
                "answers": [{"title": titles[name], "text": known.answer_of(prompt, name)} for name in pair],
                "comments": [ballot.comment for ballot in ballots if ballot.comment][:3],
            }
    return list(by_kind.values())[:most]


def _by_pair(store: Store, test_id: str, known: _Known) -> list[tuple[str, tuple[str, str], list[Ballot]]]:
    """The informative votes by prompt and pair of contestants, in prompt order, without those of excluded raters."""
    grouped: dict[tuple[str, str, str], list[Ballot]] = defaultdict(list)
    out = {row["rater"] for row in read_votes(store, test_id).quality if row["excluded"]}
    for ballot in count(store, test_id):
        if judged(ballot) and ballot.rater not in out:
            grouped[(ballot.prompt, *pair_of(ballot, known.order))].append(ballot)
    in_order = sorted(grouped.items(), key=lambda item: item[1][0].number)
    return [(prompt, (first, second), ballots) for (prompt, first, second), ballots in in_order]


def _kind(ballots: list[Ballot], titles: dict[str, str]) -> str:
    winners = {ballot.winner for ballot in ballots}
    if None in winners and len(winners) == 1:
        words = {"both_good": "both good", "both_bad": "both bad"}
        choices = {ballot.choice for ballot in ballots}
        return f"called {words[choices.pop()]}" if len(choices) == 1 else "called alike"
    chosen = {winner for winner in winners if winner is not None}
    return f"won by {titles[chosen.pop()]}" if len(chosen) == 1 else "the raters disagree"


DPO_FILE, KTO_FILE, PROVENANCE_FILE, SUMMARY_FILE = "dpo.jsonl", "kto.jsonl", "provenance.jsonl", "export.json"

CONFLICT = "the raters are evenly split"
EMPTY = "one of the answers is empty"
CUT = "an answer was cut at the length limit"
APART = "the conversations differ before their last turn, and a vote on the whole says nothing about single answers"
_BY_CHANCE = 0.4  # a share of wrong pairs from which on they teach little, and an estimate says less
_FEWEST_TWICE = 10  # prompts with two votes, below which nothing is said about how often votes are wrong


@dataclass
class VotesAsData:
    """Rows for training, and the origin of each in the same order.

    `pairs`: prompt, chosen, rejected. `judged`: prompt, completion, label. `conflicts`: prompts on which raters
    preferred different answers, whether kept or not. `left_out`: prompts without a row, by reason. `preferences`: of
    each prompt, the votes for either answer; `ahead`: of each pair, by how many votes its chosen answer is ahead.
    """

    pairs: list[PairJson] = field(default_factory=list)
    judged: list[LabelledJson] = field(default_factory=list)
    pair_origins: list[OriginJson] = field(default_factory=list)
    judged_origins: list[OriginJson] = field(default_factory=list)
    conflicts: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    preferences: list[tuple[int, int]] = field(default_factory=list)
    ahead: list[int] = field(default_factory=list)

    @property
    def wrong(self) -> float | None:
        """The share of pairs that are expected to be the wrong way round; None if too few prompts have two votes.

        Votes are taken to err independently, each with the chance of `flip_rate`; before the votes, either answer is as
        likely to be the better one.
        """
        rate = flip_rate(self.preferences)
        if rate is None or not self.ahead:
            return None
        if rate == 0:
            return 0.0
        return sum(1 / (1 + ((1 - rate) / rate) ** ahead) for ahead in self.ahead) / len(self.ahead)

    def settings(self, stage: str = "dpo") -> dict[str, Any]:
        """The settings of `preference` with which `stage`, dpo or kto, should learn; empty if votes do not tell."""
        if self.wrong is None or not 0.005 <= self.wrong < _BY_CHANCE:
            return {}
        loss = {"loss": "robust"} if stage == "dpo" else {}  # the losses of kto allow for it by their weights
        return loss | {"label_smoothing": round(self.wrong, 2)}

    def summary(self) -> SummaryJson:
        return {
            "pairs": len(self.pairs),
            "judged": len(self.judged),
            "conflicts": self.conflicts,
            "left_out": dict(self.left_out),
            "wrong": None if self.wrong is None else round(self.wrong, 4),
        }

    def text(self) -> str:
        """The export, in sentences."""
        pairs = "1 pair" if len(self.pairs) == 1 else f"{len(self.pairs):,} pairs"
        parts = [f"{pairs} for DPO and {counted(len(self.judged), 'judged answer')} for KTO."]
        if self.conflicts:
            prompts_ = "1 prompt" if self.conflicts == 1 else f"{self.conflicts:,} prompts"
            parts.append(f"On {prompts_} raters preferred different answers; they are marked in {PROVENANCE_FILE}.")
        for reason, number in self.left_out.items():
            parts.append(f"Left out: {number:,}, because {reason}.")
        if self.wrong is not None and self.pairs:
            twice = len(_twice(self.preferences))
            if self.wrong >= _BY_CHANCE:
                parts.append(
                    f"On {twice:,} prompts with two or more votes, raters hardly agree more than by chance: the pairs "
                    "teach little. Ask more raters, or about something that they agree on."
                )
            elif self.settings():
                parts.append(
                    f"How far raters agree on {twice:,} prompts suggests that about {percent(self.wrong)} of the "
                    "pairs are the wrong way round. The loss robust corrects for this."
                )
        return " ".join(parts)


def _twice(preferences: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [votes for votes in preferences if sum(votes) > 1]


def flip_rate(preferences: Sequence[tuple[int, int]]) -> float | None:
    """The chance that a vote for an answer is wrong, from 0 to 0.5; None with fewer than 10 prompts with two votes.

    `preferences` are the votes for either answer of each prompt. If votes err independently with the chance f, two of
    one prompt differ with the chance 2f(1 - f) (the double-rating estimate; A. P. Dawid and A. M. Skene, 1979, fit the
    same model with a chance for each rater). Every prompt counts once, however many votes it has.
    """
    twice = _twice(preferences)
    if len(twice) < _FEWEST_TWICE:
        return None
    differ = sum(2 * a * b / ((a + b) * (a + b - 1)) for a, b in twice) / len(twice)
    return (1 - math.sqrt(max(0.0, 1 - 2 * differ))) / 2


def collect(store: Store, test_id: str, *, with_cut: bool = False) -> VotesAsData:
    """The votes of a test as preference data.

    A prompt with a preferred answer becomes a pair. "Both good" and "both bad" become two judged answers, as does a
    pair (the chosen one good, the rejected one bad). Ties never become pairs. Truncated answers are left out unless
    `with_cut`, since a model trained on them learns to stop midway. Of conversations, only those are kept whose answers
    are equal but for the last: the prompt is then the conversation before it. Raises InputError while the tally is
    hidden: the rows would show who leads.
    """
    if revealed_now(store, test_id) is None:
        raise InputError(
            "The votes are still hidden, and this data would show who leads",
            try_="wait for the planned number of votes, or open the test early, which the report will mention",
        )
    known, data = _read(store, test_id), VotesAsData()
    for prompt, pair, ballots in _by_pair(store, test_id, known):
        _add(data, known, prompt, pair, ballots, with_cut=with_cut)
    return data


def export(
    store: Store, test_id: str, folder: Path | None = None, *, with_cut: bool = False
) -> tuple[Path, VotesAsData]:
    """Write dpo.jsonl, kto.jsonl, provenance.jsonl and export.json to `folder` (by default one of the test's own in the
    workspace). Returns it and what was written. `with_cut` is as in `collect`.

    A file without rows is not written. Raises InputError while the tally is hidden, or if no vote yields a row.
    """
    data = collect(store, test_id, with_cut=with_cut)
    if not data.judged:
        raise InputError(
            "No vote of this test can be used for training",
            given=data.text(),
            allowed="votes that prefer an answer, or call both good or both bad",
            try_="create a test of single prompts, not of conversations" if data.left_out[APART] else None,
        )
    folder = folder or store.workspace.votes_folder(test_id)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in ((DPO_FILE, data.pairs), (KTO_FILE, data.judged)):
        if rows:
            write_jsonl(folder / name, rows)
        else:
            (folder / name).unlink(missing_ok=True)
    write_jsonl(
        folder / PROVENANCE_FILE,
        [
            {"file": name, "row": number, **origin}
            for name, origins in ((DPO_FILE, data.pair_origins), (KTO_FILE, data.judged_origins))
            for number, origin in enumerate(origins)
        ],
    )
    write_json(folder / SUMMARY_FILE, {"test": test_id, **data.summary()})
    return folder, data


def trains_further(run: RunDirectory, config: RunConfig) -> bool:
    """Whether a run can continue the finished `run`: its method can, or it changed all weights."""
    return config.method.name in CONTINUED or not run.adapter.exists()


def start_after(store: Store, test_id: str, workspace: Workspace) -> tuple[str, str]:
    """(run id, base) that training on the votes continues: of the contestants that raters preferred, then of the last
    ones, the first whose run is here and can be trained further. Empty where there is none."""
    specs = {contestant.id: contestant.spec for contestant in list_contestants(store, test_id)}
    winner = evaluate(store, test_id).get("winner")
    order = [*([specs[winner]] if winner in specs else []), *reversed(specs.values())]
    for spec in order:
        with contextlib.suppress(FtlabError):  # deleted since
            run = workspace.run(spec["run"]) if spec.get("run") else None
            if run is not None and run.has_result:
                config = load_config(run.config_file)
                if trains_further(run, config):
                    return run.id, config.model.base
    return "", next((spec["base"] for spec in order if spec.get("base")), "")


def is_export(path: Path) -> bool:
    """Whether `path` is a file of votes written by `export`."""
    return path.name in (DPO_FILE, KTO_FILE) and "test" in (read_cached(path.with_name(SUMMARY_FILE)) or {})


@dataclass(frozen=True)
class _Known:
    test: Any
    order: dict[str, int]
    origins: dict[str, dict[str, Any]]  # of contestants
    prompts: dict[str, Any]
    texts: dict[tuple[str, str], list[str]]  # by prompt and contestant: one, or one for each turn of a conversation
    cut: set[tuple[str, str]]

    @property
    def conversations(self) -> bool:
        return bool(self.test.settings.get("conversations"))

    def asked_of(self, prompt: str) -> list[str]:
        turns = self.prompts[prompt].messages
        return user_turns(turns) if self.conversations else [turns[-1]["content"]]

    def answer_of(self, prompt: str, name: str) -> str:
        texts = self.texts[prompt, name]
        return as_text(self.prompts[prompt].messages, texts) if self.conversations else texts[0]


def _read(store: Store, test_id: str) -> _Known:
    with store.reading() as connection:
        test = find_test(connection, test_id)
        query = select(contestants).where(contestants.c.test_id == test_id).order_by(contestants.c.position)
        among = connection.execute(query).all()
        asked = connection.execute(select(prompts).where(prompts.c.test_id == test_id)).all()
        texts = connection.execute(
            select(answers.c.prompt_id, answers.c.contestant_id, answers.c.text, answers.c.cut, answers.c.turns)
            .join(prompts, answers.c.prompt_id == prompts.c.id)
            .where(prompts.c.test_id == test_id)
        ).all()
    return _Known(
        test,
        {contestant.id: contestant.position for contestant in among},
        {
            contestant.id: {"title": contestant.title}
            | {key: contestant.spec[key] for key in ORIGIN if key in contestant.spec}
            for contestant in among
        },
        {prompt.id: prompt for prompt in asked},
        {(text.prompt_id, text.contestant_id): texts_of(text.text, text.turns) for text in texts},
        {(text.prompt_id, text.contestant_id) for text in texts if text.cut},
    )


def _add(
    data: VotesAsData,
    known: _Known,
    prompt_id: str,
    pair: tuple[str, str],
    ballots: Sequence[Ballot],
    *,
    with_cut: bool,
) -> None:
    """The rows of one prompt and pair of contestants."""
    first, second = pair
    outcomes = Counter(ballot.winner or ballot.choice for ballot in ballots)
    conflict = bool(outcomes[first] and outcomes[second])
    data.conflicts += conflict
    data.preferences.append((outcomes[first], outcomes[second]))
    (choice, times), *others = outcomes.most_common()
    if others and others[0][1] == times:
        data.left_out[CONFLICT] += 1
        return
    answers_ = {name: known.texts[prompt_id, name] for name in (first, second)}
    if answers_[first][:-1] != answers_[second][:-1]:
        data.left_out[APART] += 1
        return
    texts = {name: answers_[name][-1] for name in (first, second)}
    if not all(text.strip() for text in texts.values()):
        data.left_out[EMPTY] += 1
        return
    if not with_cut and any((prompt_id, name) in known.cut for name in pair):
        data.left_out[CUT] += 1
        return
    origin = _origin(known, prompt_id, ballots, conflict, times / len(ballots))
    prompt = known.prompts[prompt_id].messages
    if known.conversations:
        prompt = dialogue(parts_of(prompt), answers_[first][:-1])
    turns = {name: [{"role": "assistant", "content": text}] for name, text in texts.items()}
    if choice in turns:
        rejected = second if choice == first else first
        data.pairs.append({"prompt": prompt, "chosen": turns[choice], "rejected": turns[rejected]})
        data.ahead.append(outcomes[choice] - outcomes[rejected])
        data.pair_origins.append({**origin, "chosen": known.origins[choice], "rejected": known.origins[rejected]})
        labels = {choice: True, rejected: False}
    else:
        labels = {first: choice == "both_good", second: choice == "both_good"}
    for name, label in labels.items():
        data.judged.append({"prompt": prompt, "completion": turns[name], "label": label})
        data.judged_origins.append({**origin, "completion": known.origins[name]})


def _origin(known: _Known, prompt_id: str, ballots: Sequence[Ballot], conflict: bool, share: float) -> OriginJson:
    """The origin of a row: the test, the prompt, how answers were made, and every vote."""
    prompt = known.prompts[prompt_id]
    return {
        "test": known.test.id,
        "test_title": known.test.title,
        "prompt": prompt_id,
        "prompt_fingerprint": prompt.fingerprint,
        "topic": prompt.topic,
        "generation": known.test.settings["generation"],
        "conflict": conflict,
        "share_of_votes": round(share, 4),
        "votes": [_vote(ballot, known.origins) for ballot in ballots],
    }


def _vote(ballot: Ballot, origins: Mapping[str, Mapping[str, Any]]) -> VoteOriginJson:
    moment = datetime.datetime.fromtimestamp(ballot.created, datetime.UTC)
    preferred = origins[ballot.winner]["title"] if ballot.winner else None
    ratings = {
        name: origins[contestant]["title"] if (contestant := ballot.of(side)) else side
        for name, side in ballot.ratings.items()
    }
    return {
        "trial": ballot.trial,
        "rater": ballot.rater,
        "choice": ballot.choice,
        "preferred": preferred,
        "left": origins[ballot.left]["title"],
        "ratings": ratings,
        "comment": ballot.comment,
        "seconds": ballot.seconds,
        "time": moment.isoformat(timespec="seconds"),
    }
