"""The parts of a blind test (contestants, prompts, settings), their validation, and how contestants are prompted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ftlab.arena.conversations import is_script, script_of
from ftlab.config import ModelConfig, load_config
from ftlab.core.endpoint import Request
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data import tool_templates
from ftlab.data.partition import prompt_fingerprint
from ftlab.data.prompt_template import AsTrained, asked_of
from ftlab.data.shapes import Message
from ftlab.data.tool_calls import TOOLS
from ftlab.errors import FtlabError, InputError, shorten

CHOICES = ("left", "right", "both_good", "both_bad", "skip")
CRITERIA = ("overall", "correctness", "completeness", "style", "safety")
KINDS = ("base", "run", "endpoint")


@dataclass(frozen=True)
class ContestantSpec:
    """A contestant. Keys of `spec`, as applicable: kind (base, run, endpoint), base, run, adapter_sha256, strength (of
    a run not used as trained), system_prompt, examples, url, model."""

    title: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class PromptSpec:
    """A prompt: messages of role and content, ending with the user's. `reference`: a known good answer."""

    messages: list[dict[str, str]]
    topic: str | None = None
    reference: str | None = None


LONGEST_COMPLETION = 300
LONGEST_CONSENT = 8000
LEAST_MARGIN, LARGEST_MARGIN = 1, 40  # points of the win rate
FEWEST_ATTENTION, MOST_REPEATS = 2, 0.5


@dataclass(frozen=True)
class TestSettings:
    """How answers are generated and votes are collected; the same for all contestants.

    The share `overlap` of the prompts gets votes from `votes_per_prompt` raters each; the others get one vote each.
    `gave_away` is the number of prompts left out before the test opened, see `blind_tests.leave_out`. `completion` is a
    code, or an https address, that raters see when they are done. `margin` plans a test of "no worse than" by so many
    points of the win rate; 0 plans one of "better". Each rater gets `attention` attention items, from as many prompts
    set aside, and votes again on the share `repeats` of the prompts, see `controls`; they are excluded below the share
    `min_attention` of correct ones and the share `min_consistency` of equal votes (0: never). `conversations`: the
    prompts are scripts, whose turns each contestant answers itself. `consent` is a text that raters agree to before
    their first comparison.
    """

    __test__: ClassVar[bool] = False  # not a pytest test

    generation: dict[str, Any]
    options: tuple[str, ...] = CHOICES
    rubric: tuple[str, ...] = ("overall",)
    instructions: str = ""
    votes_per_prompt: int = 1
    overlap: float = 1.0
    live: bool = False
    gave_away: int = 0
    completion: str = ""
    margin: float = 0.0
    attention: int = 0
    repeats: float = 0.0
    min_attention: float = 0.0
    min_consistency: float = 0.0
    conversations: bool = False
    consent: str = ""


def check(
    title: str,
    contestants: Sequence[ContestantSpec],
    prompts: Sequence[PromptSpec],
    settings: TestSettings,
    planned_votes: int,
) -> None:
    """Raise InputError for an invalid test, naming what is allowed."""
    if not title.strip():
        raise InputError("The test has no title", try_="enter one; raters do not see it")
    if len(settings.consent) > LONGEST_CONSENT:
        raise InputError(
            "The text of consent is too long",
            given=f"{len(settings.consent):,} characters",
            allowed=f"{LONGEST_CONSENT:,} at most",
        )
    if len(settings.completion) > LONGEST_COMPLETION or settings.completion.lower().startswith("http:"):
        raise InputError(
            "The completion code cannot be used",
            given=shorten(settings.completion),
            allowed=f"a code, or an address that begins with https://, of at most {LONGEST_COMPLETION} characters",
        )
    if len(contestants) < 2:
        raise InputError("A blind test compares at least two contestants", given=len(contestants), allowed="2 or more")
    titles = [contestant.title.strip() for contestant in contestants]
    if len(set(titles)) < len(titles) or not all(titles):
        raise InputError("Every contestant needs its own title", given=", ".join(titles))
    for contestant in contestants:
        if contestant.spec.get("kind") not in KINDS:
            raise InputError(
                f"{contestant.title} has an unknown kind", given=contestant.spec.get("kind"), allowed=", ".join(KINDS)
            )
    if settings.live:
        if prompts:
            raise InputError("In a live test the raters write the prompts", given=f"{len(prompts)} prompts")
    elif not prompts:
        raise InputError("The test has no prompts", try_="use the held-out split or a file, or paste some")
    for number, prompt in enumerate(prompts, 1):
        if not prompt.messages or prompt.messages[-1].get("role") == "assistant":
            raise InputError(f"Prompt {number} asks nothing: its last message is not the user's")
    if settings.conversations:
        _check_scripts(prompts, settings)
    prints = [prompt_fingerprint(prompt.messages) for prompt in prompts]
    if len(set(prints)) < len(prints):
        double = next(number for number, fingerprint in enumerate(prints, 1) if fingerprint in prints[: number - 1])
        raise InputError(f"Prompt {double} is in the test twice", try_="leave one of them out")
    unknown = [option for option in settings.options if option not in CHOICES]
    if unknown or not {"left", "right"} <= set(settings.options):
        raise InputError(
            "These options cannot be offered",
            given=", ".join(settings.options),
            allowed=f"left, right, and any of {', '.join(CHOICES[2:])}",
        )
    unknown = [criterion for criterion in settings.rubric if criterion not in CRITERIA]
    if unknown:
        raise InputError("There is no such criterion", given=", ".join(unknown), allowed=", ".join(CRITERIA))
    if settings.votes_per_prompt < 1:
        raise InputError(
            "Each prompt needs at least one vote", given=settings.votes_per_prompt, allowed="1 or more votes per prompt"
        )
    if not 0 <= settings.overlap <= 1:
        raise InputError("The overlap is a share of the prompts", given=settings.overlap, allowed="0 to 1")
    if settings.margin and (len(contestants) > 2 or not LEAST_MARGIN <= settings.margin <= LARGEST_MARGIN):
        raise InputError(
            "This margin cannot be tested",
            given=f"{settings.margin:g} points, {len(contestants)} contestants",
            allowed=f"{LEAST_MARGIN} to {LARGEST_MARGIN} points of the win rate, between two contestants; 0: better",
        )
    check_controls(settings, len(contestants), len(prompts))
    if planned_votes < 1:
        raise InputError("The planned number of votes is too small", given=planned_votes, allowed="1 or more")
    possible = capacity(len(contestants), len(prompts), settings)
    if possible is not None and planned_votes > possible:
        raise InputError(
            "The test cannot collect that many votes",
            given=f"{planned_votes} votes planned",
            allowed=f"at most {possible}, from {len(prompts)} prompts",
            try_="add prompts, or ask for more votes per prompt",
        )


def _check_scripts(prompts: Sequence[PromptSpec], settings: TestSettings) -> None:
    if settings.live:
        raise InputError("A live test has no conversations: raters write single questions")
    for number, prompt in enumerate(prompts, 1):
        if script_of(prompt.messages) != prompt.messages:
            raise InputError(f"Prompt {number} holds answers: in a conversation, each contestant writes its own")
    if not any(is_script(prompt.messages) for prompt in prompts):
        raise InputError(
            "None of these prompts is a conversation",
            given=f"{len(prompts)} prompts with one turn of the user each",
            allowed="rows of messages with several turns of the user",
            try_="use other data, or create the test without conversations",
        )


def check_controls(settings: TestSettings, contestants: int, prompts: int) -> None:
    """Raise InputError for control items that a test of so many `contestants` and `prompts` cannot have."""
    attention, repeats = settings.attention, settings.repeats
    if settings.live and (attention or repeats):
        raise InputError("A live test has no attention items and no repeated ones: raters write the prompts")
    if attention and not FEWEST_ATTENTION <= attention < prompts:
        raise InputError(
            "This number of attention items is not possible: each takes a prompt that gets no votes of its own",
            given=f"{attention}, of {prompts} prompts",
            allowed=f"0, or {FEWEST_ATTENTION} or more, and fewer than there are prompts",
        )
    if not 0 <= repeats <= MOST_REPEATS:
        raise InputError(
            "This share of prompts cannot be repeated", given=f"{repeats:g}", allowed=f"0 to {MOST_REPEATS:g}"
        )
    for what, least, there_are in (
        ("attention", settings.min_attention, attention),
        ("consistency", settings.min_consistency, repeats),
    ):
        if not 0 <= least <= 1 or (least and not there_are):
            raise InputError(
                f"Raters cannot be excluded by their {what} like this",
                given=f"{least:g}",
                allowed="0 to 1, in a test with attention items"
                if what == "attention"
                else "0 to 1, in a test with repeated items",
            )
    if (settings.min_attention or settings.min_consistency) and contestants > 2:
        raise InputError("Raters are excluded in tests of two contestants only", given=f"{contestants} contestants")


def capacity(contestants: int, prompts: int, settings: TestSettings) -> int | None:
    """The maximum number of votes of a test. None for a live test, which has no limit."""
    if settings.live:
        return None
    pairs = contestants * (contestants - 1) // 2
    prompts = max(0, prompts - settings.attention)
    shared = round(prompts * settings.overlap)
    return pairs * (shared * settings.votes_per_prompt + prompts - shared)


Example = Sequence[Message]


@dataclass(frozen=True)
class Writer:
    """A loaded model that answers for one or more contestants. `context` is in tokens."""

    model: Any
    tokenizer: Any
    context: int | None


def base_contestant(
    base: str,
    *,
    title: str | None = None,
    system_prompt: str | None = None,
    examples: Sequence[Example] = (),
    revision: str | None = None,
) -> ContestantSpec:
    """A base, optionally with its own system prompt. Raises InputError if it cannot be loaded."""
    from ftlab.models.load import check_base

    check_base(ModelConfig(base=base, revision=revision))
    spec = {"kind": "base", "base": base, "revision": revision} | _prompt(system_prompt, examples)
    prompted = ", prompted" if system_prompt or examples else ""
    return ContestantSpec(title or f"Base{prompted}", {key: value for key, value in spec.items() if value is not None})


def base_beside(runs: Iterable[RunDirectory]) -> tuple[str, str | None]:
    """The base and revision for a test that names none: those of its runs. Raises InputError if there is no run, or the
    runs have different bases."""
    bases = {}
    for run in runs:
        model = load_config(run.config_file).model
        bases[model.base, model.revision] = run.id
    if len(bases) == 1:
        return next(iter(bases))
    known = ", ".join(f"{base} ({run})" for (base, _), run in bases.items())
    raise InputError(
        "The runs of this test have different bases: choose the one that answers"
        if bases
        else "Choose the base that answers: no run of this test names one",
        given=known or None,
        allowed=", ".join(base for base, _ in bases) or "a base such as smollm2, a folder, or a Hub id",
        try_=f"name it: base={next(iter(bases), ('smollm2', None))[0]}",
    )


def run_contestant(
    workspace: Workspace,
    run_id: str,
    *,
    title: str | None = None,
    system_prompt: str | None = None,
    examples: Sequence[Example] = (),
) -> ContestantSpec:
    """The trained model of a run, pinned to its weights, with the system prompt of its training unless another is
    given.

    `run_id@0.75` is the run at that strength; the default is the strength chosen for it. Raises InputError for an
    unknown run, a strength that it does not have or a reward model, FtlabError for a run without a result.
    """
    from ftlab.models.strength import check_strength, chosen_strength, strength_name

    name, strength = split_strength(run_id)
    run = workspace.run(name)
    config = load_config(run.config_file)
    if config.is_reward_model:
        raise InputError(f"The run {run.id} is a reward model: it scores answers and writes none", try_="another run")
    if not run.has_result:
        raise FtlabError(f"The run {run.id} has no trained model yet", try_="wait until it has ended")
    known_as = run.id if Workspace.of(run) == workspace else str(run.path)
    base, sha256 = config.model.base, result_sha256(run)
    spec: dict[str, Any] = {"kind": "run", "run": known_as, "base": base, "adapter_sha256": sha256}
    how = asked_of(run)
    spec |= {"template": how.template} if how.template else {}
    strength = check_strength(config, chosen_strength(run) if strength is None else strength)
    at = strength_name(strength)
    spec |= {"strength": strength} if at else {}
    own = how.system if system_prompt is None else system_prompt
    called = title or (config.name or run.id) + (f", {at}" if at else "")
    return ContestantSpec(called, spec | _prompt(own, examples))


def split_strength(text: str) -> tuple[str, float | None]:
    """`run@0.75` as run and strength; None if no number follows the last @."""
    name, at, number = text.rpartition("@")
    try:
        return (name, float(number)) if at else (text, None)
    except ValueError:
        return text, None


def endpoint_contestant(
    url: str,
    model: str,
    *,
    title: str | None = None,
    system_prompt: str | None = None,
    examples: Sequence[Example] = (),
) -> ContestantSpec:
    """A model behind an OpenAI-compatible address. Raises InputError for an invalid address or a missing model."""
    from ftlab.core.endpoint import CONTESTANT, endpoint_url

    if not model.strip():
        raise InputError("The endpoint needs a model name", try_="the model's name on that server")
    spec = {"kind": "endpoint", "url": endpoint_url(url, CONTESTANT), "model": model.strip()}
    return ContestantSpec(title or model.strip(), spec | _prompt(system_prompt, examples))


def result_sha256(run: RunDirectory) -> str:
    """A hash of the trained weights of a run: of its only weights file, or over the hashes of all of them."""
    import hashlib

    from ftlab.models.identity import weights_sha256

    hashes = weights_sha256(run.result)
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256("\n".join(f"{hashes[name]}  {name}" for name in sorted(hashes)).encode()).hexdigest()


def weights_of(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    """A key shared by contestants that differ only in their prompt, so that their weights are loaded once."""
    return tuple(spec.get(key) for key in ("kind", "base", "revision", "run", "strength", "url", "model"))


def load_writer(workspace: Workspace, spec: Mapping[str, Any], device: str = "auto") -> Writer:
    """The model of a base or a run. Raises InputError if it is gone or has changed since the test was created."""
    from ftlab.data.rendering import ensure_chat_template
    from ftlab.models.load import context_length, load_base, load_run, load_tokenizer, text_length

    if spec["kind"] == "run":
        run = workspace.run(spec["run"])
        if spec.get("adapter_sha256") not in (None, result_sha256(run)):
            raise InputError(
                f"The weights of the run {run.id} have changed since the test was created",
                try_="create a new test: this one would mix the answers of two models",
            )
        model, tokenizer = load_run(run, device=device, strength=spec.get("strength", 1.0))
        return Writer(model, tokenizer, text_length(load_config(run.config_file)))
    settings = ModelConfig(base=spec["base"], revision=spec.get("revision"))
    tokenizer = load_tokenizer(settings.base, settings.revision)
    ensure_chat_template(tokenizer)
    return Writer(load_base(settings, device=device), tokenizer, context_length(settings))


def asked(spec: Mapping[str, Any], messages: Sequence[Message], examples: int | None = None) -> list[Message]:
    """`messages` as sent to the contestant: with its system prompt, its first `examples` (None: all), and the prompt
    template of its training, unless already applied."""
    own, system_turns = spec.get("system_prompt"), [turn for turn in messages if turn["role"] == "system"]
    system = [{"role": "system", "content": own}] if own else system_turns
    example_turns = [turn for example in spec.get("examples", [])[:examples] for turn in example]
    rest = [turn for turn in messages if turn["role"] != "system"]
    return [*system, *example_turns, *AsTrained(spec.get("template")).messages(rest)]


def request_of(key: str, spec: Mapping[str, Any], messages: Sequence[Message]) -> Request:
    """The request for `messages` to a contestant at an endpoint."""
    return tool_templates.request_of(key, asked(spec, messages))


def same_question(contestants: Sequence[ContestantSpec]) -> list[ContestantSpec]:
    """`contestants` with shared prompts: every base and endpoint without its own prompt gets the template and system
    prompt common to all runs in the test, as in evaluation and chat."""
    runs = [contestant.spec for contestant in contestants if contestant.spec["kind"] == "run"]

    def shared(key: str) -> dict[str, Any]:
        values = {spec.get(key) for spec in runs}
        value = values.pop() if len(values) == 1 else None
        return {key: value} if value else {}

    filled = []
    for contestant in contestants:
        # A contestant's own prompt is part of what is tested; the question in it is the same for all.
        has_own = contestant.spec["kind"] == "run" or {"system_prompt", "examples"} & contestant.spec.keys()
        more = shared("template") | ({} if has_own else shared("system_prompt"))
        filled.append(ContestantSpec(contestant.title, more | contestant.spec))
    return filled


def encoded(writer: Writer, spec: Mapping[str, Any], messages: Sequence[Message], room: int) -> tuple[list[int], str]:
    """The tokens of the prompt, with as many examples as leave `room` tokens for the answer, and a remark for the owner
    (empty if all fit)."""
    from ftlab.data.rendering import encode_prompt

    count = len(spec.get("examples", []))
    for kept in range(count, -1, -1):
        # encode_prompt leaves out the last assistant turn.
        ids = encode_prompt([*asked(spec, messages, kept), {"role": "assistant", "content": ""}], writer.tokenizer)
        if writer.context is None or len(ids) + room <= writer.context:
            return ids, "" if kept == count else f"Only {kept} of its {count} examples fit before this prompt"
    left = max(0, (writer.context or 0) - len(ids))
    if left:
        return ids, f"The prompt leaves room for {left} tokens of answer"
    return ids, "The prompt is longer than the model can read"


def _prompt(system_prompt: str | None, examples: Sequence[Example]) -> dict[str, Any]:
    """The prompt settings of a spec. Raises InputError for an example that is not a question with an answer."""
    prompt: dict[str, Any] = {"system_prompt": system_prompt.strip()} if system_prompt and system_prompt.strip() else {}
    kept = [
        [
            {"role": turn["role"], "content": turn["content"]}
            for turn in example
            if turn["role"] not in ("system", TOOLS)
        ]
        for example in examples
    ]
    for number, example in enumerate(kept, 1):
        if len(example) < 2 or example[-1]["role"] != "assistant":
            raise InputError(f"Example {number} is not a question with its answer", given=example)
    return prompt | ({"examples": kept} if kept else {})
