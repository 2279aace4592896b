"""A blind test from a notebook: made, answered, voted on, closed, and its votes as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftlab.api.display import BlindVerdict
from ftlab.api.run import Run
from ftlab.api.series import Folder, blind_verdict
from ftlab.arena.store import Store, open_store
from ftlab.config.stages import FROM_JUDGED, FROM_PAIRS
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError

if TYPE_CHECKING:
    from ftlab.arena.preferences import OriginJson, PairJson
    from ftlab.arena.results import FlagJson, PooledJson, ProgressJson

# How good an answer is: (answer, prompt, reference or None).
Score = Callable[[str, str, str | None], float]


@dataclass(frozen=True)
class Votes:
    """The votes of a blind test as rows: `pairs` (prompt, chosen, rejected) and where each comes from (`origins`, in
    the same order). `source` and `stage` go into `ftlab.train`: dpo learns from pairs; without one, kto from answers
    that were called good or bad."""

    source: str
    stage: str
    pairs: list[PairJson]
    origins: list[OriginJson]
    text: str

    def __repr__(self) -> str:
        return self.text


class BlindTest:
    """A blind test of a workspace: `ftlab.blind_test(...)` makes one."""

    def __init__(self, store: Store, id: str, left_out: int = 0):
        self._store, self.id, self.left_out = store, id, left_out

    @property
    def plan(self) -> str:
        """What the planned number of votes can show, in words."""
        from ftlab.arena.blind_tests import get_test, list_prompts
        from ftlab.arena.power import plan_in_words

        settings = get_test(self._store, self.id).settings
        prompts = len(list_prompts(self._store, self.id)) - settings.get("attention", 0)
        return plan_in_words(
            self.progress["planned"], prompts, settings["votes_per_prompt"], margin=settings.get("margin", 0.0)
        )

    @property
    def progress(self) -> ProgressJson:
        """How many `answers` and `votes` there are, how many votes are `planned`, and whether the tally may be seen
        (`revealed`)."""
        from ftlab.arena.blind_tests import progress

        return progress(self._store, self.id)

    def generate(self) -> list[FlagJson]:
        """Let all contestants answer all prompts that they have not answered; returns what could tell raters whose
        answer is whose (`prompt`, `contestant`, `what`). Raises FtlabError when a model cannot be loaded."""
        from ftlab.arena import answers
        from ftlab.arena.blind_tests import flags
        from ftlab.core.files import locked

        with locked(self._store.workspace.device_lock):
            answers.generate(self._store, self.id)
        return flags(self._store, self.id)

    def open(self, raters: Sequence[str]) -> BlindTest:
        """Open the test for these `raters`, each with a link of their own. `ftlab.rater_links()` serves their page and
        gives the links. Raises InputError when answers are missing."""
        from ftlab.arena import blind_tests, links

        blind_tests.open_test(self._store, self.id)
        links.create_raters(self._store, self.id, list(raters))
        return self

    def simulate(self, score: Score | str = "nearness", *, temper: float = 0.5, seed: int = 0) -> int:
        """Let simulated raters stand in for those of `open`; returns the number of votes.

        Each prefers the answer of the higher `score`: "nearness" to the reference, the "house_style" of the sample
        brand_voice, or a function of answer, prompt and reference. `temper`: how random a vote is where answers are
        nearly as good (0: never). Raises InputError for another name.
        """
        from ftlab.arena import links, loop

        named: dict[str, Score] = {"nearness": loop.nearness, "house_style": loop.house_style}
        if isinstance(score, str):
            if score not in named:
                raise InputError("There is no such score", given=score, allowed=", ".join(named))
            score = named[score]
        people = [link.rater_id for link in links.links(self._store, self.id)]
        return loop.vote_as(self._store, self.id, people, score, temper=temper, seed=seed)

    def close(self) -> BlindTest:
        """Take no more votes: from now on the verdict may be seen."""
        from ftlab.arena.blind_tests import close_test

        close_test(self._store, self.id)
        return self

    def verdict(self) -> BlindVerdict:
        """What the votes say. Raises FtlabError while they are to stay hidden."""
        return blind_verdict(self.id, self._store.workspace.root)

    def repeat(self, source: str, prompts: int | None = None) -> BlindTest:
        """A new test with the contestants and the plan of this one, on at most `prompts` of `source` (as in
        `blind_test`) that no test of this plan has asked. Raises InputError if none is left."""
        from ftlab.arena import pooling

        every = pooling.prompts_for(self._store, self.id, source)
        return BlindTest(self._store, *pooling.repeat(self._store, self.id, every, prompts))

    def pooled(self) -> PooledJson:
        """This test and its repetitions, judged together. Raises InputError without a repetition whose votes may be
        seen."""
        from ftlab.arena import pooling

        return pooling.pool(self._store, pooling.repetitions(self._store, self.id))

    def report(self) -> Path:
        """The file of a report for people, a page of its own. Raises FtlabError while the votes are to stay hidden."""
        from ftlab.report.arena import write_arena_report

        return write_arena_report(self._store, self.id)

    def votes(self) -> Votes:
        """The votes as data to learn from. Raises InputError while they are to stay hidden, or when none can be
        learned from."""
        from ftlab.arena.preferences import DPO_FILE, KTO_FILE, export

        folder, rows = export(self._store, self.id)
        file, stage = (DPO_FILE, FROM_PAIRS) if rows.pairs else (KTO_FILE, FROM_JUDGED)
        return Votes(str(folder / file), stage, rows.pairs, rows.pair_origins, rows.text())

    def __repr__(self) -> str:
        from ftlab.arena.blind_tests import votes_in_words

        return f"<BlindTest {self.id}: {votes_in_words(self.progress)}>"


def blind_test(
    contestants: Mapping[str, Run | str],
    *,
    prompts: int | float | None = None,
    source: str | None = None,
    votes_per_prompt: int = 2,
    no_worse_by: float = 0.0,
    max_new_tokens: int = 256,
    conversations: bool = False,
    attention: int = 0,
    repeats: float = 0.0,
    min_attention: float = 0.0,
    min_consistency: float = 0.0,
    workspace: Folder = None,
) -> BlindTest:
    """A new blind test of `contestants`: by title, runs and bases (by name), the one to compare with first.

    It asks at most `prompts` (a share of them, where that is a float; None: all) of the held-out prompts of `source`
    (a sample, a file, `run:<id>`; None: the first run of the contestants); those that a contestant was trained on, or
    nearly, are left out and counted in `left_out`. Each is to get `votes_per_prompt` votes, decided before anybody has
    voted. `no_worse_by` tests whether the second is no worse than the first, within this many points of the win
    rate (1 to 40), instead of better. With `conversations`, every contestant answers each turn of the user in a row
    itself, and raters vote on whole conversations. Each rater gets `attention` attention items, from as many prompts
    set aside, and votes again on the share `repeats` of the prompts; those below the share `min_attention` of right
    ones or `min_consistency` of equal votes do not count (0: everybody counts). Raises InputError for what cannot be
    tested.
    """
    from ftlab.arena import answers, asking, blind_tests, prompt_sources

    run = next((contestant for contestant in contestants.values() if isinstance(contestant, Run)), None)
    of_run = Path(run.directory).parents[1] if run else None
    opened = Workspace.open(workspace or of_run)
    among = [
        asking.run_contestant(opened, contestant.id, title=title)
        if isinstance(contestant, Run)
        else asking.base_contestant(contestant, title=title)
        for title, contestant in contestants.items()
    ]
    if source is None and run is None:
        raise InputError("There is no source of prompts", try_="name a source, or a run among the contestants")
    place = source or f"{prompt_sources.RUN_PREFIX}{run.id if run else ''}"
    every = prompt_sources.held_out(place, opened, conversations=conversations)
    fresh, left_out = prompt_sources.fresh(every, [contestant.spec for contestant in among], opened)
    most = round(prompts * len(fresh)) if isinstance(prompts, float) else prompts
    chosen = prompt_sources.sample(fresh, most)
    generation = answers.check_generation({"max_new_tokens": max_new_tokens})
    how = asking.TestSettings(
        generation,
        votes_per_prompt=votes_per_prompt,
        margin=no_worse_by,
        attention=attention,
        repeats=repeats,
        min_attention=min_attention,
        min_consistency=min_consistency,
        conversations=conversations,
    )
    store, title = open_store(opened), " against ".join(contestants)
    planned = asking.capacity(len(among), len(chosen), how) or 1
    test = blind_tests.create_test(store, title, among, chosen, how, planned)
    return BlindTest(store, test, left_out)
