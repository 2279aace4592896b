"""Findings (what is wrong, in which rows, with examples), and the rows as the checks see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from typing_extensions import TypedDict

from ftlab.data.conversion import convert, is_document, remarks_of, turns_of_row
from ftlab.data.load import Loaded
from ftlab.data.normal import CHUNK, Watch
from ftlab.data.shapes import Detected, Message, UnusableRow
from ftlab.data.tool_calls import TOOL, TOOLS

# All but the last two change rows: `raise` changes a training setting, max_length.
REMEDIES = ("drop", "mask", "deduplicate", "move", "relabel", "shorten", "raise", "none")
DONE_TO_ROWS = REMEDIES[:-2]
SEVERITIES = ("error", "warning", "note")


class Kind(NamedTuple):
    """What all findings of one kind share. `why` is one sentence; `others` are alternative remedies."""

    severity: str
    title: str
    why: str
    remedy: str
    others: tuple[str, ...] = ()


_NOT_LOOKED_FOR = "Names and postal addresses are not looked for."

# Display order: first what invalidates a result or harms people.
KINDS: dict[str, Kind] = {
    "overlap": Kind(
        "error",
        "Training rows that are also held out",
        "A held-out row seen in training measures memory, not skill, and makes the result look better than it is.",
        "drop",
        ("move",),
    ),
    "near_overlap": Kind(
        "error",
        "Training rows that nearly repeat a held-out row",
        "A held-out row with a near copy in training is half memorized, so its score says little about new input.",
        "move",
        ("drop",),
    ),
    "secret": Kind(
        "error",
        "Keys and passwords",
        "A model can repeat a key verbatim to anyone who asks, so it must not learn one. Revoke the key, too.",
        "mask",
        ("drop",),
    ),
    "card": Kind(
        "error",
        "Payment card numbers",
        "A model can repeat a card number verbatim, and storing one violates the rules of the card companies.",
        "mask",
        ("drop",),
    ),
    "iban": Kind(
        "error",
        "Bank account numbers (IBAN)",
        "A bank account identifies a person, and a model can repeat it verbatim.",
        "mask",
        ("drop",),
    ),
    "id_number": Kind(
        "error",
        "National and tax numbers",
        "Such a number identifies a person for life, and a model can repeat it verbatim. " + _NOT_LOOKED_FOR,
        "mask",
        ("drop",),
    ),
    "email": Kind(
        "warning",
        "Email addresses",
        "An email address identifies a person, and a model can repeat it to strangers. " + _NOT_LOOKED_FOR,
        "mask",
        ("drop",),
    ),
    "phone": Kind(
        "warning",
        "Phone numbers",
        "A phone number identifies a person, and a model can repeat it to strangers. " + _NOT_LOOKED_FOR,
        "mask",
        ("drop",),
    ),
    "mojibake": Kind(
        "error",
        "Text that was read in the wrong encoding",
        "These letters are those of another encoding, so the model would learn gibberish. Set the encoding of the "
        "file, or save it again from the program that wrote it.",
        "none",
    ),
    "media": Kind(
        "error",
        "Pictures, videos or sounds that are not trained",
        "Only the text of these rows is trained, so the model would learn to describe what it cannot see.",
        "none",
        ("drop",),
    ),
    "left_over": Kind(
        "error",
        "None, nan and the like instead of text",
        "A program wrote these words where there was nothing, and the model would learn to say or to answer them.",
        "drop",
    ),
    "doubled_keys": Kind(
        "error",
        "Keys that stand twice in a row",
        "Only the last value was read; which one is right, nobody knows.",
        "drop",
    ),
    "unusable": Kind(
        "error",
        "Rows that cannot become an example",
        "These rows are left out of training, so the run has fewer examples than the file has rows.",
        "drop",
    ),
    "empty_answer": Kind(
        "error",
        "Empty answers",
        "An empty answer teaches nothing, or teaches the model to say nothing.",
        "drop",
    ),
    "roles": Kind(
        "error",
        "Roles out of order",
        "Chat templates expect user and assistant to alternate, so the model would see conversations that never occur.",
        "drop",
    ),
    "conflicting_answers": Kind(
        "error",
        "The same prompt with different answers",
        "Only one of two labels is right; the model learns to guess between them. Two good sentences may both stay.",
        "relabel",
        ("drop",),
    ),
    "broken_json": Kind(
        "error",
        "Broken JSON among JSON answers",
        "A few broken answers teach the model to break its JSON occasionally, which is hard to notice.",
        "drop",
    ),
    "json_keys": Kind(
        "error",
        "JSON with different keys or types than the rest",
        "A program that reads the answers expects the same keys and types every time.",
        "drop",
    ),
    "call_broken": Kind(
        "error",
        "Tool calls that cannot be read",
        "A call that is not valid JSON with a name and arguments teaches the model calls that no program can run.",
        "drop",
    ),
    "call_unlisted": Kind(
        "error",
        "Calls of tools that the row does not list",
        "The model learns to call tools that it was not offered. List the tool in the row, or drop the row.",
        "drop",
    ),
    "call_schema": Kind(
        "error",
        "Tool calls that break the schema of their tool",
        "The model learns arguments that the tool refuses. Mend the call or the schema, or drop the row.",
        "drop",
    ),
    "no_trained_token": Kind(
        "error",
        "Rows with nothing to train on",
        "The chat template rejects the row or leaves no answer token to train on.",
        "drop",
    ),
    "stop_token": Kind(
        "error",
        "The stop token is not trained",
        "A model that never sees the stop token does not learn when to stop.",
        "none",
    ),
    "unused_label": Kind(
        "warning",
        "A column that seems to judge the answers is not used",
        "Bad answers would be trained on like good ones. Set this column as the label, with words such as good "
        "and bad.",
        "none",
    ),
    "suspicious_label": Kind(
        "warning",
        "Labels that look wrong",
        "A classifier trained on the other rows is sure of another label, and a model learns wrong labels as it learns "
        "right ones. Read these rows: some are only unusual.",
        "none",
        ("drop",),
    ),
    "alike_sides": Kind(
        "warning",
        "Pairs whose answers say the same",
        "Answers that are equal, or differ in white space or Unicode form only, do not say which one is better.",
        "drop",
    ),
    "tie": Kind(
        "note",
        "Ties between two answers",
        "These pairs have no winner or equal scores; they are left out, since they do not say which answer is better.",
        "drop",
    ),
    "against_scores": Kind(
        "warning",
        "The rejected answer has the higher score",
        "The scores contradict the choice, so the model may learn the worse answer.",
        "drop",
    ),
    "few_answers": Kind(
        "warning",
        "Few different answers",
        "The model would learn to choose among these answers, not to write its own. Collect more of them, or train on "
        "labels if a choice is what you need.",
        "none",
    ),
    "stock_answers": Kind(
        "warning",
        "Answers that are alike but for a name",
        "The model would learn this one sentence by heart. Write answers that differ as the questions do.",
        "none",
    ),
    "thoughts_unseen": Kind(
        "warning",
        "Thoughts that the chat template drops",
        "The model never sees them, so it learns the answers without the way to them.",
        "none",
    ),
    "no_thoughts": Kind(
        "note",
        "Answers without thoughts, and the base thinks",
        "The model learns to answer at once and may lose what it gained by thinking; its thinking is turned off.",
        "none",
    ),
    "tools_added": Kind(
        "note",
        "The chat template of this base takes no tools",
        "ftlab writes them in the form of Hermes and saves a template that does so. A base that knows tools needs "
        "fewer rows.",
        "none",
    ),
    "system_unseen": Kind(
        "warning",
        "System prompts that the model never sees",
        "The chat template of this base drops the system prompt, in training and in use.",
        "none",
    ),
    "too_long": Kind(
        "warning",
        "Rows longer than max_length",
        "Rows above max_length are left out of training, and long rows are often the difficult ones.",
        "drop",
        ("shorten",),  # `raise` comes first if the base can read longer rows: see Finding.remedies
    ),
    "exact_duplicate": Kind(
        "warning",
        "Exact duplicates",
        "A repeated row counts twice and is memorized sooner.",
        "deduplicate",
    ),
    "near_duplicate": Kind(
        "warning",
        "Near duplicates",
        "Near-identical rows weigh as much as distinct ones and add almost nothing.",
        "deduplicate",
    ),
    "encoding": Kind(
        "warning",
        "Damaged characters",
        "Text decoded with the wrong encoding teaches the model to write the same damage.",
        "drop",
    ),
    # Notes: in real data most of these rows are fine, and dropping them unread would make the data worse.
    "html": Kind(
        "note",
        "HTML remnants",
        "Tags and entities left over from web pages come back in the answers. Read the rows: some may be about HTML.",
        "drop",
    ),
    "language": Kind(
        "note",
        "Different language than the rest",
        "A stray row can make the model switch languages. Read the rows: translations are meant to differ.",
        "drop",
    ),
    "length": Kind(
        "note",
        "Far longer or shorter than the rest",
        "Some of these are two rows run together, or cut off. Read them: a long question is not a mistake.",
        "drop",
    ),
    "one_word_answer": Kind(
        "note",
        "One-word answers among longer ones",
        "A few one-word answers among sentences are often placeholders (ok, n/a) that nobody meant to teach.",
        "drop",
    ),
    "one_template": Kind(
        "note",
        "Prompts made by one template",
        "People ask in many ways, and a model that saw only one may fail on the others. Add prompts as people write "
        "them.",
        "none",
    ),
    "not_covered": Kind(
        "warning",
        "Held-out prompts unlike anything in training",
        "These prompts are about topics that training does not cover, so the model has to guess.",
        "none",
    ),
}


class DetailJson(TypedDict, total=False):
    """More about a finding; which keys it has depends on its kind (see README.md)."""

    reasons: dict[str, int]  # unusable, empty_answer: rows by reason
    problems: dict[str, int]  # roles: rows by problem
    held_out_rows: dict[str, int]  # overlap, near_overlap: the held-out rows concerned, by split
    threshold: float  # near_overlap, near_duplicate
    groups: list[int]  # conflicting_answers: for each row, a number that rows with its prompt share
    usual: dict[str, str]  # json_keys: the type of each key
    places: int  # secret, card, iban, id_number, email, phone: total number of occurrences
    main: dict[str, str]  # language: of prompts and answers
    languages: dict[str, int]  # language: rows by language
    median_characters: dict[str, int]  # length: of prompts and answers
    topics: list[list[str]]  # not_covered: the terms of each topic
    read_as: str  # mojibake: the encoding used to read the text
    meant: str  # mojibake: the likely original encoding
    suggested: list[str]  # suspicious_label: the likelier label of each row
    first: list[int]  # suspicious_label: the rows to read first
    of: int  # alike_sides, tie, against_scores: number of pairs in the split
    share: float  # few_answers: distinct answers per row; stock_answers, one_template: share of rows
    max_length: int  # too_long, as are all keys below
    tokens: list[int]  # per row
    raise_to: int
    raise_cost: str
    context: int | None


class SuspectJson(TypedDict):
    """A row to read first: its label or answer fits its prompt less well than in other rows. Not a finding."""

    split: str
    row: int
    why: str


class FindingJson(TypedDict):
    """A finding in a report; see `Finding` and README.md."""

    kind: str
    title: str
    severity: str
    split: str
    count: int
    rows: list[int]
    matches: list[list[str | int]]
    why: str
    remedy: str
    remedies: list[str]
    shown: list[str]
    detail: DetailJson


class HistogramJson(TypedDict):
    """`counts[i]` rows have from `edges[i]` up to below `edges[i + 1]` tokens."""

    edges: list[int]
    counts: list[int]


class DistributionJson(TypedDict):
    """Lengths in tokens."""

    mean: float
    p50: int
    p95: int
    p99: int
    max: int
    histogram: HistogramJson


class PackingJson(TypedDict):
    """Whether packing is worth it. `padding_share` is the padding in batches of rows in file order."""

    suggested: bool
    padding_share: float
    why: str


class TokensJson(TypedDict, total=False):
    """Lengths in tokens of the rows of a source, and suggestions (see README.md)."""

    base: str
    max_length: int
    measured_rows: int
    prompt: DistributionJson
    completion: DistributionJson
    whole: DistributionJson
    trained_share: float
    stop_token_trained: bool
    suggested_max_length: int
    suggested_why: str
    packing: PackingJson
    rows: int
    too_long: int
    no_trained_token: int
    notes: list[str]
    context: int | None
    raise_to: int
    raise_cost: str


class RaisedJson(TypedDict, total=False):
    """A larger max_length: `raise_to` tokens, what it costs in words, and the `context` of the base."""

    raise_to: int
    raise_cost: str
    context: int | None


class VocabularyJson(TypedDict):
    """The share of words in the asked prompts that also occur in training, and the most common that do not."""

    covered: float
    new_words: list[str]


class WordsJson(TypedDict):
    """The length of prompts in words."""

    median_words: int
    p95_words: int


class TopicJson(TypedDict):
    """Related prompts; `similarity` is their mean cosine to the nearest training prompt."""

    terms: list[str]
    prompts: int
    covered: bool
    similarity: float
    example: str


class CoverageJson(TypedDict):
    """How well training prompts cover the asked ones. `uncovered` holds the indices of the asked prompts, in a report
    [split, row] or ["asked", index]."""

    train_prompts: int
    asked_prompts: int
    vocabulary: VocabularyJson
    length: dict[str, WordsJson]
    topics: list[TopicJson]
    uncovered: list[Any]


@dataclass
class Finding:
    """`rows` are indices (from 0) into the split `split` of the source, sorted and unique.

    `matches[i]` is the (split, row) that `rows[i]` repeats, if any. `excerpts` are a few texts, personal data masked.
    `detail` depends on the kind.
    """

    kind: str
    split: str
    rows: list[int]
    matches: list[tuple[str, int]] = field(default_factory=list)
    excerpts: list[str] = field(default_factory=list)
    detail: DetailJson = field(default_factory=DetailJson)

    @property
    def about(self) -> Kind:
        return KINDS[self.kind]

    @property
    def why(self) -> str:
        return self.about.why

    @property
    def remedy(self) -> str:
        return self.remedies[0]

    @property
    def remedies(self) -> tuple[str, ...]:
        """The remedies that apply, the default first. Raising max_length comes before leaving rows out if the base can
        read them (`detail.raise_to`, in tokens)."""
        fitting = (self.about.remedy, *self.about.others)
        return ("raise", *fitting) if self.detail.get("raise_to") else fitting

    @classmethod
    def from_dict(cls, values: FindingJson) -> Finding:
        """The inverse of `as_dict`."""
        matches = [(str(split), int(row)) for split, row in values["matches"]]
        return cls(values["kind"], values["split"], values["rows"], matches, values["shown"], values["detail"])

    def as_dict(self) -> FindingJson:
        about = self.about
        return {
            "kind": self.kind,
            "title": about.title,
            "severity": about.severity,
            "split": self.split,
            "count": len(self.rows),
            "rows": self.rows,
            "matches": [list(match) for match in self.matches],
            "why": about.why,
            "remedy": self.remedy,
            "remedies": list(self.remedies),
            "shown": self.excerpts,
            "detail": self.detail,
        }


def by_split(
    kind: str,
    positions: Iterable[int],
    examples: Examples,
    *,
    matches: Mapping[int, int] | None = None,
    excerpts: Mapping[int, str] | None = None,
    detail: DetailJson | None = None,
) -> list[Finding]:
    """One finding per split for the examples at `positions`; `matches` and `excerpts` are by position."""
    places_of: dict[str, list[int]] = {}
    for position in sorted(set(positions)):
        places_of.setdefault(examples.split[position], []).append(position)
    return [
        Finding(
            kind,
            split,
            [examples.row[position] for position in places],
            [examples.place(matches[position]) for position in places] if matches else [],
            [excerpts[position] for position in places[:_SHOWN] if position in excerpts] if excerpts else [],
            {**detail} if detail else {},
        )
        for split, places in places_of.items()
    ]


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The most severe first; within a kind, train before the held-out splits."""
    order = list(KINDS)
    splits = {"train": 0, "validation": 1, "test": 2}
    rank = {kind: (SEVERITIES.index(KINDS[kind].severity), order.index(kind)) for kind in KINDS}
    return sorted(findings, key=lambda finding: (rank[finding.kind], splits.get(finding.split, 3)))


_SHOWN = 5


@dataclass
class Examples:
    """Usable rows as parallel lists: `split`, `row` (index in that split of the source), `turns`.

    `refused` holds (split, row, reason) of rows that cannot become an example; `disordered` holds (split, row, problem)
    of rows whose roles are out of order, usable or not. `looked_at` counts all rows read.
    """

    split: list[str] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    turns: list[list[Message]] = field(default_factory=list)
    refused: list[tuple[str, int, str]] = field(default_factory=list)
    disordered: list[tuple[str, int, str]] = field(default_factory=list)
    rows: int = 0
    looked_at: int = 0

    def __len__(self) -> int:
        return len(self.row)

    def place(self, position: int) -> tuple[str, int]:
        return self.split[position], self.row[position]

    @cached_property
    def prompts(self) -> list[str]:
        """All turns before the last answer except the system prompt, as plain text."""
        return [
            turns[0]["content"]
            if len(turns) == 2 or is_document(turns)
            else "\n".join(turn["content"] for turn in turns[:-1] if turn["role"] not in ("system", TOOLS))
            for turns in self.turns
        ]

    @cached_property
    def answers(self) -> list[str]:
        """The last answers; empty for plain text."""
        return ["" if is_document(turns) else turns[-1]["content"] for turns in self.turns]

    @cached_property
    def are_documents(self) -> bool:
        """Whether this is plain text, without prompts and answers."""
        return bool(self.turns) and is_document(self.turns[0])

    def positions(self, split: str) -> list[int]:
        return [position for position, name in enumerate(self.split) if name == split]


def gather(
    loaded: Loaded, detected: Detected, system_prompt: str | None, most_rows: int | None, watch: Watch
) -> tuple[Examples, list[str]]:
    """The examples of all splits, and notes. Above `most_rows` rows, every n-th is taken."""
    examples, notes = Examples(rows=loaded.rows), []
    step = 1 if not most_rows else max(1, -(-loaded.rows // most_rows))
    if step > 1:
        notes.append(f"Checked one row in {step} of {loaded.rows:,}.")
    done = 0
    remarks: Counter[str] = Counter()
    for name, rows in loaded.splits.items():
        split = "train" if name == loaded.main else name
        numbered = enumerate(rows) if step == 1 else ((index, rows[index]) for index in range(0, len(rows), step))
        for index, row in numbered:
            if done % CHUNK == 0:
                watch.at(done, loaded.rows // step)
            done += 1
            examples.looked_at += 1
            remarks.update(_take(examples, split, index, row, detected, system_prompt))
    watch.at(done, done)
    return examples, notes + remarks_of(remarks)


def _take(
    examples: Examples, split: str, index: int, row: Any, detected: Detected, system_prompt: str | None
) -> list[str]:
    """Add the example made from `row`, or the reason why there is none. Notes what was changed."""
    try:
        turns = turns_of_row(row, detected)
    except UnusableRow as refused:
        examples.refused.append((split, index, refused.reason))
        return []
    problem = role_problem(turns)
    if problem:
        examples.disordered.append((split, index, problem))
    try:
        messages, remarks = convert(row, detected, system_prompt)
    except UnusableRow as refused:
        if not (problem and refused.reason in ("no assistant turn", "empty prompt")):
            examples.refused.append((split, index, refused.reason))
        return []
    examples.split.append(split)
    examples.row.append(index)
    examples.turns.append(messages)
    return remarks


def role_problem(turns: Sequence[Message]) -> str | None:
    """What is wrong with the order of the roles, in words. None if it is valid."""
    if is_document(turns):
        return None
    roles = [turn["role"] for turn in turns]
    if len(roles) == 2 and roles == ["user", "assistant"]:
        return None
    if "user" not in roles:
        return "no user turn"
    if "assistant" not in roles:
        return "no assistant turn"
    if "system" in roles[1:]:
        return (
            "two system turns" if roles[0] == "system" and roles.count("system") > 1 else "a system turn in the middle"
        )
    spoken = [role for role in roles if role not in ("system", TOOLS)]
    if spoken[0] == "assistant":
        return "the assistant speaks first"
    for turn_role, other in pairwise(spoken):
        if turn_role == other != TOOL:  # one turn may hold several calls, each with its reply
            return f"two {turn_role} turns in a row"
    if spoken[-1] == "user":
        return "the last turn has no answer"
    return None
