"""The sides of a comparison: base, prompted base, start of a run, runs and strengths, and how each is loaded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ftlab.config import ModelConfig, RunConfig, load_config
from ftlab.config.methods import METHODS, fields_of
from ftlab.config.stages import SFT
from ftlab.core.comparison import SideJson
from ftlab.core.files import read_json
from ftlab.core.run_directory import RunDirectory
from ftlab.data.shapes import Message
from ftlab.data.tool_calls import TOOLS
from ftlab.errors import InputError
from ftlab.models.strength import AS_TRAINED, set_strength, strength_name

if TYPE_CHECKING:
    from ftlab.evaluation.retrieval import Retrieval


@dataclass(frozen=True)
class Prompting:
    """A system prompt (None: that of the data stays) and few-shot examples that precede each question."""

    system: str | None
    examples: tuple[tuple[Message, ...], ...]

    @property
    def count(self) -> int:
        return len(self.examples)

    def described(self) -> str:
        count = len(self.examples)
        parts = ["system prompt"] if self.system else []
        parts += [f"{count} {'example' if count == 1 else 'examples'}"] if count else []
        return " and ".join(parts)

    def before(self, messages: Sequence[Message], count: int) -> list[Message]:
        """`messages` preceded by the system prompt and the first `count` examples."""
        system_turns = [turn for turn in messages if turn["role"] == "system"]
        tools = [turn for turn in messages if turn["role"] == TOOLS]
        system = [{"role": "system", "content": self.system}] if self.system else system_turns
        example_turns = [turn for example in self.examples[:count] for turn in example]
        return [*system, *tools, *example_turns, *(turn for turn in messages if turn["role"] not in ("system", TOOLS))]

    def fitted(self, messages: Sequence[Message], fits: Callable[[list[Message]], bool]) -> tuple[list[Message], int]:
        """`messages` with as many examples as fit, and their number."""
        for count in range(len(self.examples), 0, -1):
            prompted = self.before(messages, count)
            if fits(prompted):
                return prompted, count
        return self.before(messages, 0), 0


def prompting_of(run: RunDirectory, config: RunConfig) -> Prompting:
    """The prompt that `config.evaluation` describes, with examples from the training split of `run`.

    Examples are drawn with seed 0, different answers first: for a classification, one of each label before a second of
    any. Raises InputError if there is neither a system prompt nor an example.
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
    chosen = [row for *_, row in sorted(ranked, key=lambda entry: entry[:2])[: settings.examples]]
    turns = tuple(
        tuple(
            {"role": t["role"], "content": t["content"]} for t in row["messages"] if t["role"] not in ("system", TOOLS)
        )
        for row in chosen
    )
    return Prompting(settings.system_prompt, turns)


def nothing_to_prompt_with() -> InputError:
    return InputError(
        "No prompt for the base",
        given="no evaluation.system_prompt and evaluation.examples=0",
        try_="give a system prompt, or 1 example or more",
    )


BASE, PROMPTED, START, ADAPTED = "base", "prompted", "start", "adapted"
RETRIEVED, ADAPTED_RETRIEVED = "retrieved", "adapted_retrieved"
_SPOKEN = {
    BASE: "the base",
    PROMPTED: "the prompted base",
    START: "the model it started from",
    ADAPTED: "the adapted model",
    RETRIEVED: "the base with retrieval",
    ADAPTED_RETRIEVED: "the adapted model with retrieval",
}


@dataclass(frozen=True)
class Side:
    """One side of a comparison by its `weights`: the `base` that `config` names, with `prompting` or without; the
    adapter that the run began with (`start`); or the `result` of the run, at `strength`."""

    name: str
    title: str
    what: str
    run: RunDirectory
    config: RunConfig
    weights: Literal["base", "start", "result"] = "base"
    prompting: Prompting | Retrieval | None = None
    strength: float = AS_TRAINED

    @property
    def adapted(self) -> bool:
        return self.weights == "result"

    @property
    def spoken(self) -> str:
        """Its name in a sentence, as shown in progress messages."""
        if at := strength_name(self.strength):
            return f"the adapted model at {at}" + (" with retrieval" if self.prompting else "")
        return _SPOKEN.get(self.name, f"the run {self.title}")

    def described(self) -> SideJson:
        return {"name": self.name, "title": self.title, "what": self.what}


def base_side(run: RunDirectory, config: RunConfig) -> Side:
    return Side(BASE, "Base", Path(config.model.base).name if config.model.base else "", run, config)


def prompted_side(run: RunDirectory, config: RunConfig, prompting: Prompting) -> Side:
    return Side(PROMPTED, "Base, prompted", prompting.described(), run, config, prompting=prompting)


def retrieved_sides(run: RunDirectory, config: RunConfig, retrieval: Retrieval, strength: float) -> list[Side]:
    """The base and the result of `run`, each with retrieved rows before a question."""
    what = retrieval.described()
    return [
        Side(RETRIEVED, "Base, retrieving", what, run, config, prompting=retrieval),
        Side(ADAPTED_RETRIEVED, "Adapted, retrieving", what, run, config, "result", retrieval, strength),
    ]


def adapted_side(run: RunDirectory, config: RunConfig, *, first: bool, strength: float = AS_TRAINED) -> Side:
    """The result of `run` at `strength`. The `first` of several is called adapted, the others by the id of their
    run."""
    at = f", {strength_name(strength)}" if strength_name(strength) else ""
    title = ("Adapted" if first else config.name or run.id) + at
    what = f"run {run.id}, {_method(config)}{at}"
    return Side(ADAPTED if first else run.id, title, what, run, config, "result", strength=strength)


def start_side(run: RunDirectory, config: RunConfig) -> Side:
    """The model that `run` started from: the adapter stored in its folder, else the base of `config` (a fully tuned run
    is the base of the run that continues it)."""
    weights: Literal["base", "start"] = "start" if run.start.exists() else "base"
    return Side(START, "Start", f"start of run {run.id}", run, config, weights)


def _method(config: RunConfig) -> str:
    rank = f" rank {config.method.rank}" if "rank" in fields_of(config.method.name) else ""
    stage = "" if config.stage == SFT else f", {config.stage}"
    return f"{METHODS[config.method.name].title}{rank}{stage}"


def identity(side: Side) -> list[Any]:
    """What determines the answers of `side`: its weights, their number format, the device, the strength.
    JSON-serializable."""
    from ftlab.models.load import pick_device, pick_dtype

    config = side.config
    device = pick_device(config.launcher.device)
    place = [device, str(pick_dtype(config.model, device)).removeprefix("torch.")]
    method = config.method
    quantised = [method.quantisation, method.double_quantisation] if method.is_quantised else None
    # Omitted for a model as trained, so that replies from before there were strengths stay valid.
    at = [] if not side.adapted or side.strength == AS_TRAINED else [["strength", side.strength]]
    if side.adapted and not side.run.adapter.exists():
        below = base_identity(config.model) if at else []  # a strength interpolates between the two
        return [*place, None, *result_identity(side.run), *below, *at]
    folder = {"base": None, "start": side.run.start, "result": side.run.result}[side.weights]
    return [*place, quantised, *base_identity(config.model), *(_trained_identity(folder) if folder else []), *at]


def result_identity(run: RunDirectory) -> list[Any]:
    """The hashes of the weights that `run` trained, and its adapter settings (LoRA's alpha changes answers)."""
    return _trained_identity(run.result)


def _trained_identity(folder: Path) -> list[Any]:
    from ftlab.models.identity import weights_sha256

    settings = read_json(folder / "adapter_config.json")
    if settings is not None:
        # PEFT writes sets in an order that differs from process to process; the rest is the text that it writes.
        ordered = {name: sorted(value) for name, value in settings.items() if _are_names(value)}
        settings = json.dumps(settings | ordered, indent=2, sort_keys=True)
    return [weights_sha256(folder), settings]


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def base_identity(model: ModelConfig) -> list[Any]:
    """For a folder, the sizes and times of its weights, since a base can be too large to read again. For a Hub id, the
    commit in the cache. For a base bundled with ftlab, the hash of the file it was made from."""
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
    """The tokenizer used for `side`: the one saved with the run, or that of the base before there is one."""
    from ftlab.models.load import run_tokenizer

    return run_tokenizer(side.run, side.config)


def visit(
    sides: Sequence[Side], work: Callable[[Side, Any], None], loading: Callable[[str], None] = lambda what: None
) -> None:
    """Call `work` with each of `sides` and its model in evaluation mode, with one copy of the weights at a time.

    An adapter, its base and all its strengths share that copy. The model of a reward run is its reward model. `loading`
    is told what is loaded.
    """
    from ftlab.evaluation.batches import free_memory
    from ftlab.models.adapters import adapter_disabled, attach_adapter
    from ftlab.models.load import load_run, load_trained_base
    from ftlab.models.reward import load_reward_model

    def use(what: str, load: Callable[[], Any], loaded: Sequence[Side], *, switched: bool = False) -> None:
        if not loaded:
            return
        loading(what)
        model, strength = load(), AS_TRAINED
        for side in loaded:
            if switched and not side.adapted:
                with adapter_disabled(model) as below:
                    work(side, below)
                continue
            if switched and side.strength != strength:
                strength = side.strength
                set_strength(model, strength)
            work(side, model)
        del model
        free_memory()

    def base_of(config: RunConfig) -> Any:
        return load_trained_base(config, device=config.launcher.device)

    def start_of(run: RunDirectory, config: RunConfig) -> Any:
        return attach_adapter(base_of(config), run.start)

    def result_of(run: RunDirectory, config: RunConfig, strength: float) -> Any:
        model, _ = load_reward_model(run) if config.is_reward_model else load_run(run, strength=strength)
        return model

    groups: dict[str, list[Side]] = {}
    for side in sides:
        groups.setdefault(f"{side.run.path} {side.config.model.model_dump_json()}", []).append(side)
    for group in groups.values():
        run, config = group[0].run, group[0].config
        bare, begun, tuned = ([side for side in group if side.weights == of] for of in ("base", "start", "result"))
        if tuned and run.adapter.exists() and not config.is_reward_model:
            use("the model", partial(result_of, run, config, AS_TRAINED), [*bare, *tuned], switched=True)
        else:
            use("the base", partial(base_of, config), bare)
            for strength in dict.fromkeys(side.strength for side in tuned):
                same = [side for side in tuned if side.strength == strength]
                use("the model", partial(result_of, run, config, strength), same)
        use("the model it started from", partial(start_of, run, config), begun)


def config_of(run: RunDirectory) -> RunConfig:
    return load_config(run.config_file).resolved()
