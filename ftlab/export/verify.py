"""Verify an export: given the prompts of its run, it must give the same answers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from ftlab.config import load_config
from ftlab.config.stages import PRETRAINING
from ftlab.core.processes import child_environment
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.core.words import listed
from ftlab.data.shapes import without_weights
from ftlab.errors import FtlabError, shorten
from ftlab.evaluation.batches import Progress
from ftlab.evaluation.material import limit_used, some
from ftlab.evaluation.metrics.text import is_exact
from ftlab.export.reference import Carried, Reference, apart, ask_reference, carried, gap_between, load_reference
from ftlab.export.shape import Shape
from ftlab.export.to_gguf import as_plain
from ftlab.models.identity import is_made_of
from ftlab.models.strength import AS_TRAINED, strength_name

MOST = 20
_MOST_OF_QUANTISED = 100  # rows on which a merged model is compared with the evaluated quantized one
_LONGEST_DOCUMENT = 256  # tokens
_CONTINUATION = 32  # tokens, of a document
_ALONG = 64  # tokens of an answer along which logits are compared


@dataclass(frozen=True)
class Prompt:
    """One prompt: `ids` as in the evaluation (`messages` is None for plain text), the `expected` answer as text and
    tokens, and `continued`, the tokens along which logits are compared."""

    row: int
    text: str  # for messages
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
    """`compared_with` says whose answers are expected ("that the evaluation recorded"), empty if none are. Of `more`,
    only the answers are compared, with the recorded ones."""

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
                "messages": prompt.messages,
                "ids": prompt.ids,
                "max_new_tokens": prompt.max_new_tokens,
                "continued": list(prompt.continued),
            }
            for prompt in [*self.prompts, *self.more]
        ]

    def name_of(self, token: int) -> str:
        return f"{self.tokenizer.decode([token])!r} ({token})"

    def text_of(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)

    def same_as_recorded(self, answers: list[dict[str, Any]]) -> int | None:
        """The number of answers that equal those of the evaluation; None if it recorded none."""
        if any(prompt.recorded is None for prompt in self.prompts):
            return None
        return sum(prompt.recorded == answer["answer"] for prompt, answer in zip(self.prompts, answers, strict=True))

    def against_recorded(self, answers: list[dict[str, Any]]) -> dict[str, int]:
        """How the answers differ from those that the evaluation recorded, as in `_against`."""
        pairs = [
            (prompt, entry["answer"])
            for prompt, entry in zip([*self.prompts, *self.more], answers, strict=True)
            if prompt.recorded is not None
        ]
        return _against([(prompt.recorded or "", answer, prompt.reference) for prompt, answer in pairs])


def prepare(run: RunDirectory, shape: Shape, tell: Progress) -> tuple[Reference, Questions]:
    """The prompts for an export of `run`, and the results of the run's own model.

    The model is loaded once and freed before this returns. Raises FtlabError without held-out rows.
    """
    from ftlab.data.rendering import stop_token_ids
    from ftlab.evaluation.batches import free_memory
    from ftlab.evaluation.generate import generate_answers

    tell("loading the run's own model", 0, 0)
    model, tokenizer = load_reference(run, shape)
    every, split, notes = _asked(run, tokenizer, shape)
    asked = some(every, MOST)
    more = [prompt for prompt in every if prompt not in asked] if shape.merged_from_quantised else []
    stops = [] if shape.scores else stop_token_ids(tokenizer, model.generation_config)
    recorded = all(prompt.recorded is not None for prompt in asked)
    compared_with, who = "", ""
    if not shape.scores:
        fresh = not recorded or shape.merged_from_quantised
        if fresh:
            tell("answers of the run's own model", 0, len(asked))
            made = [
                generate_answers(
                    model, tokenizer, [prompt.ids], max_new_tokens=prompt.max_new_tokens, stop_ids=stops
                ).answers[0]
                for prompt in asked
            ]
            compared_with, who = "that the run's own model gives now", "the run's own model"
        else:
            compared_with, who = "that the evaluation recorded", "the evaluation"
        asked = [
            _expecting(prompt, made[place].text if fresh else prompt.recorded, stops, tokenizer)
            for place, prompt in enumerate(asked)
        ]
    tell("logits of the run's own model", 0, 0)
    pairs = [(prompt.ids, list(prompt.continued)) for prompt in asked]
    reference = ask_reference(run, shape, model, pairs)
    del model
    free_memory()
    return reference, Questions(asked, split, stops, compared_with, who, tokenizer, notes, more)


def _expecting(prompt: Prompt, text: str | None, stops: list[int], tokenizer: Any) -> Prompt:
    ids = tokenizer.encode(text or "", add_special_tokens=False)
    end = [stop for stop in (tokenizer.eos_token_id,) if stop in stops] or stops[:1]
    along = tuple([*ids, *end][:_ALONG])
    return replace(prompt, expected=text, expected_ids=(*ids, *end), continued=along)


def _asked(run: RunDirectory, tokenizer: Any, shape: Shape) -> tuple[list[Prompt], str, list[str]]:
    """Held-out rows as prompts, more than most exports need, with the recorded answers if the evaluation used these
    weights."""
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
        notes.append("The evaluation is older than the weights, so reference answers were generated for this check.")
    elif rows and comparison and comparison["settings"].get("decoding", "greedy") != "greedy":
        rows = []
        notes.append("The evaluation sampled its answers, so greedy ones were generated for this check.")
    elif not rows and not shape.scores:
        at = strength_name(shape.strength)
        notes.append(
            f"The run has no evaluation {f'at {at}' if at else 'yet'}: reference answers were generated for this check."
        )
    split = (comparison.get("split") if comparison else None) or "test"
    room = limit_used(run, config)
    if not rows:
        split, examples = next(
            ((name, kept) for name in ("test", "validation", "train") if (kept := read_split(run, name))), ("", [])
        )
        rows = [
            {"row": number, "whole": without_weights(example["messages"])} for number, example in enumerate(examples)
        ]
    if config.stage == PRETRAINING:
        return _documents(some(rows, MOST), tokenizer), split, notes
    prompts: list[Prompt] = []
    for row in rows:
        whole = row.get("whole") or [*row["messages"], {"role": "assistant", "content": row.get("reference") or ""}]
        messages = whole if shape.scores else whole[:-1] if whole[-1]["role"] == "assistant" else whole
        # Rows that the evaluation shortened, or whose text contains a control token, are not encoded by the template
        # alone.
        if guard(messages, tokenizer)[1]:
            continue
        ids = encode(whole, tokenizer).input_ids if shape.scores else encode_prompt(whole, tokenizer)
        if context and len(ids) + room > context:
            continue
        text = str(row.get("prompt") or messages[-1]["content"])
        recorded = row.get("adapted") if "whole" not in row else None
        prompts.append(
            Prompt(int(row["row"]), text, messages, ids, room, recorded, reference=str(row.get("reference") or ""))
        )
    prompts = some(prompts, _MOST_OF_QUANTISED)
    if not prompts:
        raise FtlabError(
            f"The run {run.id} has no held-out prompts to verify an export with",
            try_="train with data.test_fraction above 0, or with shorter rows",
        )
    return prompts, split, notes


def evaluation_at(run: RunDirectory, strength: float) -> RunDirectory | Question:
    """Where the answers to the run's own held-out rows at `strength` are stored, if there are any."""
    at = strength_name(strength)
    return run.question(at.replace(" ", "-")) if at else run


def _documents(rows: list[dict[str, Any]], tokenizer: Any) -> list[Prompt]:
    """Beginnings of documents for the model to continue."""
    from ftlab.data.conversion import document
    from ftlab.data.rendering import encode_prompt

    documents = []
    for row in rows:
        text = row["document"] if "document" in row else row["whole"][0]["content"]
        ids = encode_prompt(document(text), tokenizer)
        documents.append(Prompt(int(row["row"]), text, None, ids[:_LONGEST_DOCUMENT], _CONTINUATION))
    return documents


# The tolerated difference of logits, relative to the largest one, in steps of the dtype (torch.finfo.eps). Measured on
# the starter: merging in float32 changes the order of summation and moves them by 9 steps (a single weight that is off
# by 0.001 moves them by 750); rounding all weights to 16 bits moves them by 1.7 steps of that dtype. Errors add up like
# a random walk: a base of 40 layers moves 2.6 times as far as the 6 layers of the starter.
TOLERANCES = {"float32": 64, "float16": 6, "bfloat16": 6}
# The tolerated error of an export relative to the change made by training: a tenth, so that an adapter at 0.8 of its
# strength is rejected. The reference is the run's own model, merged and rounded here in the same way. For models that
# compute in 16 bits, rounding may explain one and a half times the error that it causes here.
_APART, _ROUNDING = 0.1, 1.5
_SLOPE_OFF = 0.1  # tolerated error of the carried part of the change
_SURE = 0.997  # confidence level of its interval
# Rounding that moves the logits by a larger part of the change could hide the adapter of another run.
_HIDES = 0.5
_MOVED = 0.03  # worth mentioning, as a part of the change
_STEPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_MOST_SHOWN = 3


class ChangeJson(TypedDict):
    """The fields of `reference.Carried`; None where training changed nothing."""

    slope: float | None
    error: float | None
    apart: float | None
    effect: float | None


class GgufJson(TypedDict):
    """A quantized GGUF file on the prompts of the verification: `counts` against the answers before quantizing, as in
    `_against`; `slope` and `apart` as in `reference.Carried`."""

    type: str
    counts: dict[str, int]
    slope: float | None
    apart: float | None


class VerificationJson(TypedDict):
    """The results of `verify`, as stored in the record of an export. Logit gaps and differences are in logits."""

    prompts: int
    split: str
    compared_with: str
    same_answers: int
    near_ties: int
    largest_gap: NotRequired[float | None]
    same_as_evaluated: NotRequired[int | None]
    largest_logit_difference: float
    allowed_logit_difference: float
    carried: NotRequired[ChangeJson]
    rounding: NotRequired[float]
    unproven: NotRequired[str]
    quantised: NotRequired[dict[str, int] | None]
    gguf: NotRequired[GgufJson]
    dtype: str
    strength: NotRequired[float]
    loaded_in: NotRequired[str]
    device: NotRequired[str]
    without_ftlab: bool
    notes: list[str]


@dataclass(frozen=True)
class Outside:
    """The results of the fresh process: tokens and answer per prompt, the stop tokens, and logits by prompt."""

    prompts: list[dict[str, Any]]
    stops: list[int] | None
    logits: list[Any]


def verify(
    run: RunDirectory,
    folder: Path,
    shape: Shape,
    *,
    tell: Progress = lambda *_: None,
    ask: Callable[[Path, Shape, Questions, Progress], Outside] | None = None,
) -> VerificationJson:
    """Load the export in `folder` without ftlab and compare it with `run`. `ask` defaults to `ask_outside`.

    Returns the results as stored in the export's record. Raises FtlabError naming the prompt and the difference when
    the export answers differently.
    """
    reference, questions = prepare(run, shape, tell)
    # A quantized GGUF file moves every logit. The same weights in 16 bits prove the conversion; the file is measured.
    proven = as_plain(shape) if shape.gguf else shape
    every = (ask or ask_outside)(folder, proven, questions, tell)
    outside = Outside(every.prompts[: len(questions.prompts)], every.stops, every.logits[: len(questions.prompts)])
    _check_stops(outside, questions)
    _check_prompts(outside, questions)
    largest, allowed = _check_logits(outside, questions, reference, shape)
    change = carried(outside.logits, reference, scores=shape.scores)
    unproven, rounding = _check_change(change, outside.logits, reference, shape, len(questions.prompts))
    same, gaps = _check_answers(outside, questions, reference, run, shape)
    finding: VerificationJson = {
        "prompts": len(questions.prompts),
        "split": questions.split,
        "compared_with": questions.compared_with,
        "same_answers": same,
        "near_ties": len(gaps),
        "largest_gap": max(gaps, default=None),
        "same_as_evaluated": questions.same_as_recorded(outside.prompts),
        "largest_logit_difference": largest,
        "allowed_logit_difference": allowed,
        "carried": {
            "slope": _finite(change.slope),
            "error": _finite(change.error),
            "apart": _finite(change.apart),
            "effect": _finite(change.effect),
        },
        "rounding": rounding,
        "unproven": unproven,
        "quantised": questions.against_recorded(every.prompts) if shape.merged_from_quantised else None,
        "dtype": shape.dtype,
        "strength": shape.strength,
        "loaded_in": shape.load_dtype,
        "device": shape.device,
        "without_ftlab": not shape.needs_ftlab,
        "notes": questions.notes,
    }
    if shape.gguf and shape.gguf != proven.gguf:
        asked = replace(questions, more=[])
        file = (ask or ask_outside)(folder, shape, asked, tell)
        _check_prompts(file, asked)
        finding["gguf"] = _of_coarse(shape.gguf, file, asked, reference)
    return finding


def _against(rows: Sequence[tuple[str, str, str]]) -> dict[str, int]:
    """Answers (before, now, reference) of `rows`: how many are the `same`, and how many equal their reference `before`
    and `now`; `lost` and `won` do so only before, or only now."""
    right = [(is_exact(before, reference), is_exact(now, reference)) for before, now, reference in rows]
    return {
        "rows": len(rows),
        "same": sum(before == now for before, now, _ in rows),
        "before": sum(before for before, _ in right),
        "now": sum(now for _, now in right),
        "lost": sum(before and not now for before, now in right),
        "won": sum(now and not before for before, now in right),
    }


def _right(counts: dict[str, int]) -> str:
    """How many answers are right before and after, and whether chance explains it; empty where none ever is."""
    from scipy.stats import binomtest

    if not counts["before"] and not counts["now"]:
        return ""
    text = f"; {counts['before']} equaled the reference before, {counts['now']} do now"
    if "lost" not in counts or not (moved := counts["lost"] + counts["won"]):
        return text
    p = float(binomtest(counts["lost"], moved).pvalue)
    chance = "more than chance explains" if p < 0.05 else "which chance explains"
    return f"{text} ({counts['lost']} lost, {counts['won']} won, {chance}; exact McNemar test, p = {p:.2g})"


def _of_coarse(kind: str, file: Outside, questions: Questions, reference: Reference) -> GgufJson:
    pairs = [(asked, entry["answer"]) for asked, entry in zip(questions.prompts, file.prompts, strict=True)]
    change = carried(file.logits, reference)
    counts = _against([(asked.expected or "", answer, asked.reference) for asked, answer in pairs])
    return {"type": kind, "counts": counts, "slope": _finite(change.slope), "apart": _finite(change.apart)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def ask_outside(folder: Path, shape: Shape, questions: Questions, tell: Progress) -> Outside:
    """The answers of the export in a separate process without ftlab on its path."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as place:
        job = shape.job(folder) | {"prompts": questions.job()}
        (Path(place) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-P", str(Path(__file__).with_name("outside.py")), f"{place}/job.json", place]
        with (Path(place) / "errors.txt").open("w+b") as errors:
            process = subprocess.Popen(
                command,
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(shape),
                text=True,
            )
            try:
                tell("loading the export without ftlab", 0, 0)
                for line in process.stdout or ():
                    if line.startswith("asked "):
                        tell("asking the export", int(line.split()[1]), len(job["prompts"]))
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
            if code != 0:
                errors.seek(0)
                last = errors.read().decode("utf-8", errors="replace").strip().splitlines()[-1:] or ["no message"]
                raise FtlabError(
                    "The exported model does not load in a fresh process without ftlab", why=shorten(last[0], 300)
                )
        results = json.loads((Path(place) / "found.json").read_text(encoding="utf-8"))
        tensors = load_file(f"{place}/logits.safetensors")
    return Outside(results["prompts"], results["stops"], [tensors[str(i)] for i in range(len(results["prompts"]))])


def _environment(shape: Shape) -> dict[str, str]:
    """Without the folder that contains ftlab, and offline: all files are already on this machine."""
    inherited = child_environment({})
    inherited.pop("PYTHONPATH", None)
    if shape.needs_ftlab:
        inherited["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    return inherited | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }


def _check_stops(outside: Outside, questions: Questions) -> None:
    if outside.stops is None:
        return
    missing = sorted(set(questions.stops) - set(outside.stops))
    more = sorted(set(outside.stops) - set(questions.stops))
    if missing or more:
        names = [questions.name_of(token) for token in missing or more]
        raise _differs(
            "generation_config.json has other stop tokens than the evaluation",
            f"it {'lacks' if missing else 'additionally has'} {listed(names)}",
        )


def _check_prompts(outside: Outside, questions: Questions) -> None:
    for number, (answer, asked) in enumerate(zip(outside.prompts, questions.prompts, strict=True), start=1):
        if asked.messages is not None and answer["ids"] != asked.ids:
            raise _differs(
                f"the chat template renders prompt {number} of {len(questions.prompts)} differently "
                f"(row {asked.row} of the {questions.split} split)",
                f"it renders {shorten(answer['text'], 160)!r}, but the model was trained on "
                f"{shorten(questions.text_of(asked.ids), 160)!r}",
            )


def _check_logits(outside: Outside, questions: Questions, reference: Reference, shape: Shape) -> tuple[float, float]:
    """The largest difference and the allowed one. Raises FtlabError if it is exceeded."""
    scale = max(float(logits.abs().max()) for logits in reference.logits)
    allowed = tolerance(shape.dtype, shape.load_dtype) * scale
    differences = [
        float((mine - theirs).abs().max()) for mine, theirs in zip(outside.logits, reference.logits, strict=True)
    ]
    worst = max(range(len(differences)), key=differences.__getitem__)
    # "not <=", so that NaN counts as a difference.
    if not differences[worst] <= allowed:
        where = questions.prompts[worst]
        raise _differs(
            f"its logits at prompt {worst + 1} of {len(differences)} (row {where.row} of the "
            f"{questions.split} split: {shorten(where.text, 80)!r}) are up to {differences[worst]:.3g} away "
            "from those of the run's own model",
            f"{allowed:.2g} is allowed in {shape.dtype}, where the largest logit is {scale:.3g}",
        )
    return differences[worst], allowed


def _check_change(
    change: Carried, export: Sequence[Any], reference: Reference, shape: Shape, prompts: int
) -> tuple[str, float]:
    """Why the check is inconclusive (or an empty string), and how far rounding moves the logits relative to the change
    made by training. Raises FtlabError when the export does not carry the change of the run's training."""
    if reference.largest_change <= tolerance("float32"):
        return "training changed nothing on these prompts, so the base alone would pass too", 0.0
    expected, rounding, right = reference.logits, 0.0, 1.0
    if reference.rounded is not None:
        expected = reference.rounded
        rounding = apart(expected, reference.logits, reference)
        right = carried(expected, reference).slope
    if shape.load_dtype == "float32" or shape.is_adapter:
        # Both are computed the same way, so the expected logits are known to the last digit.
        chance, allowed = 0.0, _APART
        off = apart(export, expected, reference, scores=shape.scores)
        if reference.merged is not None and not apart(reference.merged, reference.logits, reference) <= _APART:
            raise _differs("merging the adapter into the base changes its answers", "the merge of the method is faulty")
    else:
        # 16-bit formats round each of them differently, and so the change itself.
        chance, allowed = _chance(change.error, prompts), max(_APART, _ROUNDING * rounding)
        off = change.apart
    if not (off <= allowed and abs(change.slope - right) - chance <= _SLOPE_OFF * abs(right)):
        raise _differs(
            f"it carries {change.slope:.0%} of the change that training made to the logits, with an error of {off:.0%} "
            "of that change",
            f"{right:.0%} is expected in {shape.dtype}, and an error of {allowed:.0%} is allowed",
        )
    finer = "a finer number format" if shape.is_adapter or shape.dtype == "float32" else "an export in float32"
    if not rounding <= _HIDES:
        return (
            f"rounding to {shape.dtype} moves the logits by {rounding:.0%} of the change made by training; {finer} "
            "would show it"
        ), rounding
    if chance > _SLOPE_OFF * right:
        return (
            f"on {prompts} prompts, an adapter at 0.8 of its strength could pass, since {change.slope:.0%} may be off "
            f"by {chance:.0%}; more held-out prompts or {finer} would show it"
        ), rounding
    return "", rounding


def _chance(error: float, prompts: int) -> float:
    """Half the confidence interval of a slope with this standard error over `prompts`."""
    from scipy.stats import t

    return float(t.ppf((1 + _SURE) / 2, prompts - 1)) * error if prompts > 1 else math.inf


def tolerance(*formats: str) -> float:
    """The tolerated difference of logits relative to the largest, for the coarsest of the compared `formats`."""
    return max(TOLERANCES[name] * _STEPS[name] for name in formats)


def _check_answers(
    outside: Outside, questions: Questions, reference: Reference, run: RunDirectory, shape: Shape
) -> tuple[int, list[float]]:
    """The number of equal answers, and the logit gap at the first differing token of each other one. Raises FtlabError
    if a gap is larger than the dtypes can explain."""
    if outside.stops is None:
        return 0, []
    pairs = list(zip(outside.prompts, questions.prompts, strict=True))
    differing = [place for place, (answer, asked) in enumerate(pairs) if answer["answer"] != asked.expected]
    if not differing:
        return len(pairs), []
    gaps = gap_between(run, shape, [(pairs[place][1], pairs[place][0]["made"]) for place in differing])
    # Each of the two tokens may have moved by the tolerance.
    scale = max(float(logits.abs().max()) for logits in reference.logits)
    tie = 2 * tolerance(shape.dtype, shape.load_dtype, shape.evaluated_dtype) * scale
    wrong = [place for place, gap in zip(differing, gaps, strict=True) if gap > tie]
    if wrong:
        differences = [
            f"prompt {place + 1} (row {pairs[place][1].row}): it says "
            f"{shorten(pairs[place][0]['answer'], 80)!r}, {questions.who} said "
            f"{shorten(pairs[place][1].expected or '', 80)!r}"
            for place in wrong[:_MOST_SHOWN]
        ]
        raise _differs(f"{len(wrong)} of {len(pairs)} answers differ", "; ".join(differences))
    return len(pairs) - len(differing), gaps


def _differs(what: str, how: str) -> FtlabError:
    return FtlabError(f"The export answers differently from the run's model: {what}", why=how)


def summary(finding: VerificationJson) -> str:
    """The verification in a few sentences; exports of earlier versions of ftlab have no figures on the change."""
    count = finding["prompts"]
    where = "in a fresh process without ftlab" if finding["without_ftlab"] else "in a fresh process, with ftlab"
    rest = f"Logits differ by at most {finding['largest_logit_difference']:.2g}, where "
    rest += f"{finding['allowed_logit_difference']:.2g} is allowed in {finding['dtype']}."
    if change := finding.get("carried"):
        if finding["unproven"] or change["slope"] is None:
            rest += f" This does not prove that it is the trained model: {finding['unproven']}."
        else:
            at = strength_name(finding.get("strength", AS_TRAINED))
            rest += f" It carries {change['slope']:.1%} of the change made by training{f' at {at}' if at else ''}"
            moved = finding["dtype"] != "float32" and abs(change["slope"] - 1) > _MOVED
            rest += f" after rounding to {finding['dtype']}; float32 preserves all of it." if moved else "."
    if (coarse := finding.get("gguf")) is not None:
        rest += f" {_of_gguf(coarse)}"
    if (before := finding.get("quantised")) is not None:
        rest += f" {_of_quantised(before, finding['split'])}"
    if not finding["compared_with"]:
        return f"Loaded {where}: on {count} held-out texts, it scores like the run's own model. {rest}"
    same = f"{finding['same_answers']} of {count} held-out prompts get the answer {finding['compared_with']}"
    if ties := finding["near_ties"]:
        gap = finding.get("largest_gap")
        close = "about equally likely" if gap is None else f"at most {gap:.2g} apart in their logits"
        same += f"; {ties} {'differs' if ties == 1 else 'differ'} from it where two tokens were {close}"
    return f"Loaded {where}: {same}. {rest}"


def _of_gguf(file: GgufJson) -> str:
    """A quantized GGUF file against the same weights before; the sentences above are about those."""
    counts = file["counts"]
    text = (
        f"These are the figures before quantizing, which prove the conversion. The {file['type']} file gives the same "
        f"answer to {counts['same']} of {counts['rows']} prompts{_right(counts)}"
    )
    if file["slope"] is not None and file["apart"] is not None:
        text += (
            f". It carries {file['slope']:.0%} of the change made by training, and rounding moves the logits by "
            f"{file['apart']:.0%} of that change"
        )
    return f"{text}."


def _of_quantised(counts: dict[str, int], split: str) -> str:
    """The difference of a merged model from the quantized one, which was trained and evaluated."""
    if not counts["rows"]:
        return (
            "The quantized model that was trained was not evaluated, so the difference of the merged one from it is "
            "unknown."
        )
    text = (
        f"Compared with the quantized model that was trained and evaluated, the merged model gives the same answer to "
        f"{counts['same']} of {counts['rows']} rows of the {split} split{_right(counts)}"
    )
    return f"{text}."


def lines(finding: VerificationJson) -> Sequence[str]:
    """`summary` and the notes."""
    return [summary(finding), *finding["notes"]]
