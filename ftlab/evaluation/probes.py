"""General questions whose answers can be checked: what the model knew before, and may have forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import DataConfig, RunConfig, load_config
from ftlab.errors import FtlabError
from ftlab.run_directory import RunDirectory
from ftlab.workspace import Workspace

# The measures of general questions: of kinds that were not replayed (or not known to be), and of kinds that were.
NOT_REPLAYED, REPLAYED = "general_accuracy", "general_accuracy_replayed"


@dataclass(frozen=True)
class Probe:
    """One question as `messages` that end with the user's turn, its short `reference`, its `kind` where the data name
    one, and whether questions of that kind were `replayed` in training (None: not known)."""

    row: int
    messages: list[dict[str, str]]
    reference: str
    kind: str | None = None
    replayed: bool | None = False


def by_replay(replayed: Sequence[bool | None]) -> dict[str, list[int]]:
    """The places of questions by the measure that they belong to, as `replayed` says it of each (see `Probe`); only
    measures with questions."""
    found: dict[str, list[int]] = {NOT_REPLAYED: [], REPLAYED: []}
    for place, known in enumerate(replayed):
        found[REPLAYED if known else NOT_REPLAYED].append(place)
    return {name: places for name, places in found.items() if places}


def replayed_kinds(runs: Sequence[RunDirectory], configs: Sequence[RunConfig]) -> frozenset[str] | None:
    """The kinds of general examples and documents that at least one of `runs` was trained on, or what it started from.

    Empty where nothing was replayed; None where something was whose kinds its data do not name.
    """
    found: set[str] = set()
    for run, config in zip(runs, configs, strict=True):
        mixed_in = [one for name in ("replay", "replay_text") if (one := run.manifest().get(name))]
        for one in mixed_in:
            if one.get("kinds") is None:
                return None
            found |= set(one["kinds"])
        if config.model.start:
            try:
                parent = Workspace.of(run).run(config.model.start)
                earlier = replayed_kinds([parent], [load_config(parent.config_file)])
            except FtlabError:
                return None  # it is gone, or a bare adapter
            if earlier is None:
                return None
            found |= earlier
    return frozenset(found)


def was_replayed(kind: Any, kinds: frozenset[str] | None) -> bool | None:
    """Whether what is of this `kind` is among the replayed `kinds` (see `replayed_kinds`); None where nobody knows."""
    if kinds is not None and not kinds:
        return False
    return kind in kinds if kinds is not None and isinstance(kind, str) else None


def load_probes(config: RunConfig, replayed: frozenset[str] | None = frozenset()) -> tuple[list[Probe], str | None]:
    """The probes that `config.evaluation.probes` names (none for None and "none"), and a note when they cannot be had.

    `replayed` are the kinds that were trained, as of `replayed_kinds`; the column `kind` tells that of a probe. A probe
    set that cannot be read must not cost the comparison on the task, so that is a note and not an error.
    """
    from ftlab.data.documents import is_document
    from ftlab.data.formats import UnusableRow, to_messages
    from ftlab.data.load import load_rows
    from ftlab.data.rendering import prompt_messages, reference
    from ftlab.data.splits import detect_format

    source = config.resolved().evaluation.probes
    if source is None or source.lower() in ("none", ""):
        return [], None
    data = DataConfig(source=source, system_prompt=config.data.system_prompt)
    try:
        loaded = load_rows(data)
        detected = detect_format(loaded, data)
    except FtlabError as error:
        return [], f"No general questions were asked: {error.message()}"
    rows = loaded.splits["test" if "test" in loaded.splits else loaded.main]
    probes = []
    for i, row in enumerate(rows):
        try:
            messages = to_messages(row, detected, data.system_prompt)
        except UnusableRow:
            continue
        if is_document(messages):
            continue
        kind = row.get("kind")
        kind = kind if isinstance(kind, str) else None
        probes.append(Probe(i, prompt_messages(messages), reference(messages), kind, was_replayed(kind, replayed)))
    left_out = len(rows) - len(probes)
    return (
        probes,
        f"{left_out} of {len(rows)} rows of {source} are no questions and were left out." if left_out else None,
    )


def probe_limit(probes: list[Probe], tokenizer: Any, at_most: int | None) -> int:
    """New tokens that suffice for a probe: an answer much longer than every reference is wrong anyhow.

    `at_most` is what a person set for all answers, or None.
    """
    longest = max(len(tokenizer(probe.reference, add_special_tokens=False).input_ids) for probe in probes)
    # Room for a sentence: SmolLM2-135M-Instruct says what is asked within 24 tokens in 16 of the 18 cases in which it
    # says it at all (50 of general_probes, answers of up to 96 tokens).
    enough = max(2 * longest + 8, 24)
    return min(at_most or enough, enough)
