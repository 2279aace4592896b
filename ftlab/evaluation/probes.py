"""General questions whose answers can be checked: what the model knew before, and may have forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftlab.config import DataConfig, RunConfig
from ftlab.errors import FtlabError


@dataclass(frozen=True)
class Probe:
    """One question as `messages` that end with the user's turn, and its short `reference`."""

    row: int
    messages: list[dict[str, str]]
    reference: str


def load_probes(config: RunConfig) -> tuple[list[Probe], str | None]:
    """The probes that `config.evaluation.probes` names (none for None and "none"), and a note when they cannot be had.

    A probe set that cannot be read must not cost the comparison on the task, so that is a note and not an error.
    """
    from ftlab.data.formats import detect, to_messages
    from ftlab.data.load import load_rows
    from ftlab.data.rendering import prompt_messages, reference

    source = config.resolved().evaluation.probes
    if source is None or source.lower() in ("none", ""):
        return [], None
    try:
        loaded = load_rows(DataConfig(source=source))
        split = next(name for name in ("test", "validation", *loaded.splits) if name in loaded.splits)
        rows = list(loaded.splits[split])
        detected = detect(loaded.columns, rows)
        examples = [to_messages(row, detected, config.data.system_prompt) for row in rows]
    except FtlabError as error:
        return [], f"The general questions {source!r} could not be used: {error.what}."
    return [Probe(i, prompt_messages(m), reference(m)) for i, m in enumerate(examples)], None


def probe_limit(probes: list[Probe], tokenizer: Any, at_most: int) -> int:
    """New tokens that suffice for a probe: an answer much longer than every reference is wrong anyhow."""
    longest = max(len(tokenizer(probe.reference, add_special_tokens=False).input_ids) for probe in probes)
    return min(at_most, 2 * longest + 8)
