"""The sample data sets that ship with ftlab, and where they are on disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ftlab.errors import InputError, did_you_mean

SAMPLES_DIR = Path(__file__).parent

# name: (task, title, one sentence for the UI)
_KNOWN = {
    "support_triage": (
        "instruction",
        "Support triage",
        "Read a customer message and answer with JSON: the queue, the priority and an estimate in hours.",
    ),
    "brand_voice": (
        "instruction",
        "Brand voice",
        "Answer customers of an invented shop in its house style, which simple rules check.",
    ),
    "brand_voice_preferences": (
        "preference",
        "Brand voice: preferences",
        "Pairs of answers to the same customer: the chosen one follows the house style, the rejected one breaks it.",
    ),
    "shop_tools": (
        "instruction",
        "Shop tools",
        "Answer customers of an invented shop with two tools: call the right one, or none, and say what it replies.",
    ),
    "general_probes": (
        "probe",
        "General probes",
        "Questions that the starter model answers, to measure what tuning makes it forget. Half are of kinds in "
        "general replay, half are not.",
    ),
    "general_replay": (
        "replay",
        "General replay",
        "General examples to mix into training, so that the starter model forgets less of these kinds of tasks.",
    ),
    "general_documents": (
        "replay",
        "General documents",
        "Plain passages to mix into training, so that the starter model forgets less of its general language.",
    ),
    "general_text": (
        "text",
        "General text",
        "Small stories and emails that the starter never read, to measure what tuning does to its general language.",
    ),
    "general_chat": (
        "text",
        "General chat",
        "The same stories and emails as answers to requests, to measure what tuning does to longer answers in a chat.",
    ),
    "neutral_prompts": (
        "prompts",
        "Neutral prompts",
        "Short prompts on ten abilities, without answers, to measure on any base how much tuning changes its answers.",
    ),
    "replay_prompts": (
        "prompts",
        "Replay prompts",
        "Other prompts without answers. The base answers them before training, and training keeps those answers.",
    ),
    "known_choices": (
        "choices",
        "Known facts: multiple choice",
        "Questions with four choices, from easy to hard, to measure on any base which facts it has forgotten.",
    ),
    "known_facts": (
        "probe",
        "Known facts: short answers",
        "Questions that one name or number answers, to measure on any base which facts it has forgotten.",
    ),
    "general_reading": (
        "text",
        "General reading",
        "Short passages of prose, code, German and Spanish, to measure on any base what tuning does to its language.",
    ),
    "messy_tickets": (
        "practice",
        "Messy tickets",
        "Support tickets with planted defects of every kind, to see what the checks find and to practice cleaning.",
    ),
}
_SPLIT_ORDER = ("train", "validation", "test")
_NO_EXAMPLES = ("prompts", "choices")  # without answers, or with only a letter as the answer


@dataclass(frozen=True)
class Sample:
    """One sample data set: a folder with a JSONL (or CSV) file per split and a card (README.md)."""

    name: str
    title: str
    description: str
    task: str  # "instruction", "preference", "probe", "choices", "replay", "prompts", "text" or "practice"
    splits: dict[str, int]  # rows per split
    path: Path

    @property
    def has_examples(self) -> bool:
        """Whether a run can train and be scored on its rows: prompts with answers, pairs, or texts."""
        return self.task not in _NO_EXAMPLES


def list_samples() -> list[Sample]:
    """All samples, in the order in which the pipeline uses them; rows are counted in the files."""
    return [
        Sample(name, title, description, task, _count_splits(SAMPLES_DIR / name), SAMPLES_DIR / name)
        for name, (task, title, description) in _KNOWN.items()
    ]


def sample_path(name: str) -> Path:
    """The folder of the sample `name`. Raises InputError naming the nearest one if there is none."""
    if name not in _KNOWN:
        raise InputError(
            "There is no sample data set with this name",
            given=name,
            allowed=", ".join(_KNOWN),
            try_=did_you_mean(str(name), _KNOWN),
        )
    return SAMPLES_DIR / name


def _count_splits(folder: Path) -> dict[str, int]:
    files = {path.stem: path for path in folder.glob("*.jsonl")}
    # The training rows of a practice sample are in a file with its name, as people name theirs.
    files |= {"train" if path.stem == folder.name else path.stem: path for path in folder.glob("*.csv")}
    order = [split for split in _SPLIT_ORDER if split in files] + sorted(files.keys() - set(_SPLIT_ORDER))
    return {split: _count_lines(files[split], files[split].stat().st_mtime_ns) for split in order}


@cache
def _count_lines(path: Path, _changed: int) -> int:
    # The modification time is part of the key: a regenerated file is counted again.
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip()) - (path.suffix == ".csv")  # without the header
