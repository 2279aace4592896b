"""What an export is asked: held-out prompts, as tokens, with the answers that are expected."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ftlab.config import load_config
from ftlab.data.documents import STAGE
from ftlab.errors import FtlabError
from ftlab.evaluation.answer_limit import limit_used
from ftlab.evaluation.collect import Progress
from ftlab.evaluation.held_out import some
from ftlab.evaluation.metrics.text import is_exact
from ftlab.models.identity import is_made_of
from ftlab.models.strength import strength_name
from ftlab.run_directory import Question, RunDirectory
from ftlab.sharing.reference import Reference, ask_reference, load_reference
from ftlab.sharing.shape import Shape

MOST = 20
_MOST_OF_QUANTISED = 100  # rows on which a merged model is compared with the quantised one that was evaluated
_LONGEST_DOCUMENT = 256  # tokens
_CONTINUATION = 32  # tokens, of a document
_ALONG = 64  # tokens of an answer along which logits are compared


@dataclass(frozen=True)
class Prompt:
    """One question: `ids` as the evaluation asked it (`messages` None: plain text), the answer that is `expected` as
    text and tokens, and `continued`, the tokens along which logits are compared."""

    row: int
    shown: str
    messages: list[dict[str, str]] | None
    ids: list[int]
    max_new_tokens: int
    recorded: str | None = None
    expected: str | None = None
    expected_ids: tuple[int, ...] = ()
    continued: tuple[int, ...] = ()
    reference: str = ""


@dataclass(frozen=True)
class Questions:
    """`compared_with` says whose answers are expected ("that the evaluation recorded"); empty where none are. `more`
    are asked for their answers alone, which are compared with those recorded."""

    prompts: list[Prompt]
    split: str
    stops: list[int]
    compared_with: str
    who: str
    tokenizer: Any
    notes: list[str] = field(default_factory=list)
    more: list[Prompt] = field(default_factory=list)

    def job(self) -> list[dict[str, Any]]:
        return [
            {
                "messages": one.messages,
                "ids": one.ids,
                "max_new_tokens": one.max_new_tokens,
                "continued": list(one.continued),
            }
            for one in [*self.prompts, *self.more]
        ]

    def name_of(self, token: int) -> str:
        return f"{self.tokenizer.decode([token])!r} ({token})"

    def text_of(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)

    def same_as_recorded(self, found: list[dict[str, Any]]) -> int | None:
        """How many answers are those of the evaluation; None where it recorded none."""
        if any(one.recorded is None for one in self.prompts):
            return None
        return sum(one.recorded == said["answer"] for one, said in zip(self.prompts, found, strict=True))

    def against_recorded(self, found: list[dict[str, Any]]) -> dict[str, int]:
        """What changed from the answers that the evaluation recorded, over `rows`: how many are the `same`, and how
        many equal their reference `before` and `now`."""
        pairs = [
            (one, said["answer"])
            for one, said in zip([*self.prompts, *self.more], found, strict=True)
            if one.recorded is not None
        ]
        return {
            "rows": len(pairs),
            "same": sum(one.recorded == answer for one, answer in pairs),
            "before": sum(is_exact(one.recorded or "", one.reference) for one, _ in pairs),
            "now": sum(is_exact(answer, one.reference) for one, answer in pairs),
        }


def prepare(run: RunDirectory, shape: Shape, tell: Progress) -> tuple[Reference, Questions]:
    """The questions to an export of `run`, and what the run's own model says to them.

    The model is loaded once and let go of before this returns. Raises FtlabError without held-out rows.
    """
    from ftlab.data.rendering import stop_token_ids
    from ftlab.evaluation.batches import free_memory
    from ftlab.evaluation.generate import generate_answers

    tell("loading the run's own model", 0, 0)
    model, tokenizer = load_reference(run, shape)
    every, split, notes = _asked(run, tokenizer, shape)
    asked = some(every, MOST)
    more = [one for one in every if one not in asked] if shape.merged_from_quantised else []
    stops = [] if shape.scores else stop_token_ids(tokenizer, model.generation_config)
    recorded = all(one.recorded is not None for one in asked)
    compared_with, who = "", ""
    if not shape.scores:
        fresh = not recorded or shape.merged_from_quantised
        if fresh:
            tell("answers of the run's own model", 0, len(asked))
            made = [
                generate_answers(
                    model, tokenizer, [one.ids], max_new_tokens=one.max_new_tokens, stop_ids=stops
                ).answers[0]
                for one in asked
            ]
            compared_with, who = "that the run's own model gives now", "the run's own model"
        else:
            compared_with, who = "that the evaluation recorded", "the evaluation"
        asked = [
            _expecting(one, made[place].text if fresh else one.recorded, stops, tokenizer)
            for place, one in enumerate(asked)
        ]
    tell("logits of the run's own model", 0, 0)
    pairs = [(one.ids, list(one.continued)) for one in asked]
    found = ask_reference(run, shape, model, pairs)
    del model
    free_memory()
    return found, Questions(asked, split, stops, compared_with, who, tokenizer, notes, more)


def _expecting(one: Prompt, text: str | None, stops: list[int], tokenizer: Any) -> Prompt:
    ids = tokenizer.encode(text or "", add_special_tokens=False)
    end = [stop for stop in (tokenizer.eos_token_id,) if stop in stops] or stops[:1]
    along = tuple([*ids, *end][:_ALONG])
    return replace(one, expected=text, expected_ids=(*ids, *end), continued=along)


def _asked(run: RunDirectory, tokenizer: Any, shape: Shape) -> tuple[list[Prompt], str, list[str]]:
    """Held-out rows as prompts, more than are asked of most exports. Recorded answers come with them where the
    evaluation is of these weights."""
    from ftlab.data.rendering import encode, encode_prompt, guard
    from ftlab.data.splits import read_split
    from ftlab.models.load import text_length

    config = load_config(run.config_file)
    context = text_length(config)
    place = evaluation_at(run, shape.strength)
    comparison = place.comparison()
    rows = place.predictions() if comparison is not None and not shape.scores else []
    notes = []
    if rows and not is_made_of(comparison or {}, run.result):
        rows = []
        notes.append("The evaluation is older than the weights, so answers were made anew to compare with.")
    elif rows and ((comparison or {}).get("settings") or {}).get("decoding", "greedy") != "greedy":
        rows = []
        notes.append("The evaluation drew its answers, so greedy ones were made anew to compare with.")
    elif not rows and not shape.scores:
        at = strength_name(shape.strength)
        notes.append(
            f"The run has no evaluation {f'at {at}' if at else 'yet'}: its answers were made now to compare with."
        )
    split = str((comparison or {}).get("split") or "test")
    room = limit_used(run, config)
    if not rows:
        split, rows = next(
            ((name, found) for name in ("test", "validation", "train") if (found := read_split(run, name))), ("", [])
        )
        rows = [{"row": number, "whole": row["messages"]} for number, row in enumerate(rows)]
    if config.stage == STAGE:
        return _documents(some(rows, MOST), tokenizer), split, notes
    found = []
    for row in rows:
        whole = row.get("whole") or [*row["messages"], {"role": "assistant", "content": row.get("reference") or ""}]
        messages = whole if shape.scores else whole[:-1] if whole[-1]["role"] == "assistant" else whole
        # Rows that the evaluation shortened, or whose text spells a control token, are asked otherwise than the
        # template alone would.
        if guard(messages, tokenizer)[1]:
            continue
        ids = encode(whole, tokenizer).input_ids if shape.scores else encode_prompt(whole, tokenizer)
        if context and len(ids) + room > context:
            continue
        shown = str(row.get("prompt") or messages[-1]["content"])
        recorded = row.get("adapted") if "whole" not in row else None
        found.append(
            Prompt(int(row["row"]), shown, messages, ids, room, recorded, reference=str(row.get("reference") or ""))
        )
    found = some(found, _MOST_OF_QUANTISED)
    if not found:
        raise FtlabError(
            f"The run {run.id} has no held-out prompt to verify an export with",
            try_="train with data.test_fraction above 0, or with shorter rows",
        )
    return found, split, notes


def evaluation_at(run: RunDirectory, strength: float) -> RunDirectory | Question:
    """Where the answers at `strength` to the run's own held-out rows lie, where somebody asked for them."""
    at = strength_name(strength)
    return run.question(at.replace(" ", "-")) if at else run


def _documents(rows: list[dict[str, Any]], tokenizer: Any) -> list[Prompt]:
    """The beginnings of documents; the model goes on with them."""
    from ftlab.data.documents import document
    from ftlab.data.rendering import encode_prompt

    found = []
    for row in rows:
        text = row["document"] if "document" in row else row["whole"][0]["content"]
        ids = encode_prompt(document(text), tokenizer)
        found.append(Prompt(int(row["row"]), text, None, ids[:_LONGEST_DOCUMENT], _CONTINUATION))
    return found
