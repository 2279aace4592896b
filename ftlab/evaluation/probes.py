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
        probes.append(Probe(i, prompt_messages(messages), reference(messages)))
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
