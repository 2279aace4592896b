"""The sides of a comparison: base, prompted base, runs, strengths, and how each is loaded and asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import ModelConfig, RunConfig, load_config
from ftlab.config.methods import METHODS, fields_of
from ftlab.core.comparison import SideJson
from ftlab.core.run_directory import RunDirectory
from ftlab.data.conversion import Message
from ftlab.errors import InputError
from ftlab.models.strength import AS_TRAINED, set_strength, strength_name


@dataclass(frozen=True)
class Prompting:
    """A system prompt (None: the one of the data stays) and whole examples that stand before each question."""

    system: str | None
    examples: tuple[tuple[Message, ...], ...]

    def described(self) -> str:
        count = len(self.examples)
        parts = ["system prompt"] if self.system else []
        parts += [f"{count} {'example' if count == 1 else 'examples'}"] if count else []
        return " and ".join(parts)

    def before(self, messages: Sequence[Message], count: int) -> list[Message]:
        """`messages` with the system prompt and the first `count` examples before them."""
        system_turns = [turn for turn in messages if turn["role"] == "system"]
        system = [{"role": "system", "content": self.system}] if self.system else system_turns
        example_turns = [turn for example in self.examples[:count] for turn in example]
        return [*system, *example_turns, *(turn for turn in messages if turn["role"] != "system")]

    def fitted(self, messages: Sequence[Message], fits: Callable[[list[Message]], bool]) -> tuple[list[Message], int]:
        """`messages` with as many examples as fit, and their number."""
        for count in range(len(self.examples), 0, -1):
            prompted = self.before(messages, count)
            if fits(prompted):
                return prompted, count
        return self.before(messages, 0), 0


def prompting_of(run: RunDirectory, config: RunConfig) -> Prompting:
    """The prompt that `config.evaluation` describes, with examples from the training split of `run`.

    Examples are drawn with seed 0, and such that different answers come first: of a classification one of each label
    before a second of any. Raises InputError when there is neither a system prompt nor an example.
    """
    from ftlab.data.splits import read_split

    settings = config.evaluation
    rows = [row for row in read_split(run, "train") if row.get("source") != "replay" and row.get("label") is not False]
    if settings.system_prompt is None and not (settings.examples and rows):
        raise nothing_to_prompt_with()
    random.Random(0).shuffle(rows)
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int, Any]] = []
    for place, row in enumerate(rows):
        answer = row["messages"][-1]["content"]
        ranked.append((seen.get(answer, 0), place, row))
        seen[answer] = seen.get(answer, 0) + 1
    chosen = [row for *_, row in sorted(ranked, key=lambda one: one[:2])[: settings.examples]]
    turns = tuple(
        tuple({"role": t["role"], "content": t["content"]} for t in row["messages"] if t["role"] != "system")
        for row in chosen
    )
    return Prompting(settings.system_prompt, turns)


def nothing_to_prompt_with() -> InputError:
    return InputError(
        "No prompt for the base",
        given="no evaluation.system_prompt and evaluation.examples=0",
        try_="give a system prompt, or 1 example or more",
    )


BASE, PROMPTED, ADAPTED = "base", "prompted", "adapted"


@dataclass(frozen=True)
class Side:
    """One side: the base of `run`, with `prompting` or as it is, or (`adapted`) what the run made of it, at
    `strength`."""

    name: str
    title: str
    what: str
    run: RunDirectory
    config: RunConfig
    adapted: bool = False
    prompting: Prompting | None = None
    strength: float = AS_TRAINED

    @property
    def spoken(self) -> str:
        """As it is named in a sentence of the progress."""
        if at := strength_name(self.strength):
            return f"the adapted model at {at}"
        return {BASE: "the base", PROMPTED: "the prompted base", ADAPTED: "the adapted model"}.get(
            self.name, f"the run {self.title}"
        )

    def described(self) -> SideJson:
        return {"name": self.name, "title": self.title, "what": self.what}


def base_side(run: RunDirectory, config: RunConfig) -> Side:
    return Side(BASE, "Base", Path(config.model.base).name if config.model.base else "", run, config)


def prompted_side(run: RunDirectory, config: RunConfig, prompting: Prompting) -> Side:
    return Side(PROMPTED, "Base, prompted", prompting.described(), run, config, prompting=prompting)


def adapted_side(run: RunDirectory, config: RunConfig, *, first: bool, strength: float = AS_TRAINED) -> Side:
    """The result of `run` at `strength`; the `first` of several is called adapted, the others by the id of their
    run."""
    at = f", {strength_name(strength)}" if strength_name(strength) else ""
    title = ("Adapted" if first else config.name or run.id) + at
    what = f"run {run.id}, {_method(config)}{at}"
    return Side(ADAPTED if first else run.id, title, what, run, config, adapted=True, strength=strength)


def _method(config: RunConfig) -> str:
    rank = f" rank {config.method.rank}" if "rank" in fields_of(config.method.name) else ""
    stage = "" if config.stage == "sft" else f", {config.stage}"
    return f"{METHODS[config.method.name].title}{rank}{stage}"


def identity(side: Side) -> list[Any]:
    """What decides the figures of `side`: its weights, their number format, the device, their strength. JSON-able."""
    from ftlab.models.load import pick_device, pick_dtype

    config = side.config
    device = pick_device(config.launcher.device)
    whole = side.adapted and not side.run.adapter.exists()
    place = [device, str(pick_dtype(config.model, device)).removeprefix("torch.")]
    method = config.method
    quantised = [method.quantisation, method.double_quantisation] if method.is_quantised else None
    # Nothing for a model as trained: what it said before there were strengths stays known.
    at = [] if not side.adapted or side.strength == AS_TRAINED else [["strength", side.strength]]
    if whole:
        below = base_identity(config.model) if at else []  # it stands between the two
        return [*place, None, *result_identity(side.run), *below, *at]
    trained = [*result_identity(side.run), *at] if side.adapted else []
    return [*place, quantised, *base_identity(config.model), *trained]


def result_identity(run: RunDirectory) -> list[Any]:
    """The hashes of what `run` has trained, its settings (LoRA's alpha changes answers) among them."""
    from ftlab.models.identity import weights_sha256

    folder = run.result
    settings = folder / "adapter_config.json"
    return [weights_sha256(folder), settings.read_text(encoding="utf-8") if settings.exists() else None]


def base_identity(model: ModelConfig) -> list[Any]:
    """Of a folder the sizes and times of its weights: a base can be too large to be read once more. Of a Hub id the
    commit that lies in the cache. Of a base that ftlab keeps the sum of the file that it was made of."""
    from huggingface_hub import try_to_load_from_cache

    from ftlab.models.bases.get import sha256_of_source
    from ftlab.models.load import base_path, is_hub_id

    if (sum_of_source := sha256_of_source(model.base)) is not None:
        return ["gguf", None, sum_of_source]
    path = base_path(model.base)
    if is_hub_id(model.base):
        cached = try_to_load_from_cache(path, "config.json", revision=model.revision)
        return [path, model.revision, Path(cached).parent.name if isinstance(cached, str) else None]
    files = sorted(Path(path).glob("*.safetensors"))
    return [path, model.revision, [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]]


def tokenizer_of(side: Side) -> Any:
    """The tokenizer that `side` is asked with: the one saved with the run, before there is one that of the base."""
    from ftlab.models.load import run_tokenizer

    return run_tokenizer(side.run, side.config)


def visit(
    sides: Sequence[Side], work: Callable[[Side, Any], None], loading: Callable[[str], None] = lambda what: None
) -> None:
    """Call `work` with each of `sides` and its model, in evaluation mode; one copy of the weights at a time.

    An adapter, the base under it and all its strengths share that copy. `loading` is told what is loaded.
    """
    from ftlab.evaluation.batches import free_memory
    from ftlab.models.adapters import adapter_disabled
    from ftlab.models.load import load_run, load_trained_base

    for path in dict.fromkeys(side.run.path for side in sides):
        here = [side for side in sides if side.run.path == path]
        bare = [side for side in here if not side.adapted]
        tuned = [side for side in here if side.adapted]
        run = here[0].run
        if bare and not (tuned and run.adapter.exists()):
            loading("the base")
            model = load_trained_base(here[0].config, device=here[0].config.launcher.device)
            for side in bare:
                work(side, model)
            del model
            free_memory()
            bare = []
        if tuned and run.adapter.exists():
            loading("the model")
            model, _ = load_run(run)
            if bare:
                with adapter_disabled(model) as base:
                    for side in bare:
                        work(side, base)
            at = AS_TRAINED
            for side in tuned:
                if side.strength != at:
                    at = side.strength
                    set_strength(model, at)
                work(side, model)
            del model
            free_memory()
        for strength in [] if run.adapter.exists() else dict.fromkeys(side.strength for side in tuned):
            loading("the model")
            model, _ = load_run(run, strength=strength)
            for side in tuned:
                if side.strength == strength:
                    work(side, model)
            del model
            free_memory()


def config_of(run: RunDirectory) -> RunConfig:
    return load_config(run.config_file).resolved()
