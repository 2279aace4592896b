"""The sections of a run's description. Every field carries its title, help, unit and range once."""

from __future__ import annotations

import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

STARTER = "starter"
LARGEST_SEED = 2**32 - 1  # what numpy takes
AUTO, SELF = "auto", "self"  # of data.replay
REPLAY_PROMPTS = "replay_prompts"  # the sample of prompts that the base answers
FEWEST_OWN_ANSWERS = 30  # of the base, in whatever share: they held SmolLM2 to 0.038 nats a token (issue 18)
# What is mixed in where the starter shows its way: it is too small to be held by what it says itself.
STARTER_REPLAY = {"replay": "general_replay", "replay_text": "general_documents"}


Value = TypeVar("Value")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


def filled(value: Value | None) -> Value:
    """A setting that may be left empty, of a configuration that has every value (`RunConfig.resolved`). Raises
    ValueError where it is empty."""
    if value is None:
        raise ValueError("A setting is still empty: call RunConfig.resolved first")
    return value


def field(default: Any, title: str, help: str, *, unit: str = "", advanced: bool = False, **limits: Any) -> Any:
    return Field(
        default, title=title, description=help, json_schema_extra={"unit": unit, "advanced": advanced}, **limits
    )


def kind_of(annotation: Any) -> Any:
    """The type of a field without `| None`."""
    if get_origin(annotation) in (types.UnionType, Union):
        return next(kind for kind in get_args(annotation) if kind is not type(None))
    return annotation


def range_of(info: FieldInfo) -> str:
    """The range of a field in words, such as `from 1 up to 64`; empty for a field without one."""
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
    limits = ((words[name], getattr(limit, name, None)) for limit in info.metadata for name in words)
    return " ".join(f"{word} {value:,}" for word, value in limits if value is not None)


class ModelConfig(Section):
    base: str = field(
        STARTER,
        "Base model",
        "`starter` (the toy that ships with ftlab), `smollm2` (SmolLM2 135M Instruct, 93 MB from the Python package "
        "index; a folder of that name goes by ./smollm2), a local folder, a GGUF file, or a Hub id such as "
        "Qwen/Qwen3-0.6B.",
        min_length=1,
    )
    start: str | None = field(
        None,
        "Start from",
        "An earlier run (its id, or last) whose result is trained further, or the folder of its adapter. "
        "Empty starts from the base itself.",
        min_length=1,
    )
    revision: str | None = field(
        None, "Revision", "Branch, tag or commit of a Hub model. Empty takes the newest.", advanced=True
    )
    thinking: bool = field(
        False,
        "Thinking",
        "Whether a base that can think aloud does so before it answers, in training, evaluation, chat and export. "
        "Off suits data whose answers hold no thoughts.",
        advanced=True,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        "auto",
        "Number format",
        "auto: bfloat16 where the GPU has it, else float16; on a CPU bfloat16 where it is faster than float32 (timed).",
        advanced=True,
    )


class DataConfig(Section):
    source: str = field(
        "support_triage",
        "Data",
        "A sample that ships with ftlab, a file (JSONL, JSON, CSV, Parquet, Arrow, text, zip), a Hub data set id, or "
        "version:<id>.",
        min_length=1,
    )
    subset: str | None = field(None, "Hub configuration", "The configuration of a Hub data set.", advanced=True)
    split: str | None = field(None, "Hub split", "The split of a Hub data set. Empty takes train.", advanced=True)
    columns: dict[str, str] = field(
        {}, "Columns", "Which column plays which part, e.g. {prompt: question}. Empty: detected.", advanced=True
    )
    prompt_template: str | None = field(
        None,
        "Prompt template",
        "Makes the prompt out of columns, e.g. Question: {question} Context: {context}. Empty: the prompt column.",
        advanced=True,
        min_length=1,
    )
    system_prompt: str | None = field(
        None, "System prompt", "Put before every example, in training, evaluation and chat alike.", advanced=True
    )
    group_by: str | None = field(
        None,
        "Keep together",
        "A column (customer, document): rows with the same value stay on one side of the split. "
        "Empty: rows with the same prompt do.",
        advanced=True,
        min_length=1,
    )
    near_duplicates: Literal["auto", "together", "apart"] = field(
        "auto",
        "Near-equal prompts",
        "together: prompts that differ in a word more, a typing error, politeness or a sentence that asks nothing stay "
        "on one side of the split, else the scores measure memory. auto: so up to 100,000 rows. apart: only equal "
        "prompts stay together.",
        advanced=True,
    )
    stratify_by: str | None = field(
        None,
        "Stratify by",
        "A column of labels: every split gets the same share of each label. Empty: at random.",
        advanced=True,
        min_length=1,
    )
    max_rows: int | None = field(
        None,
        "Rows at most",
        "Take a random part of the data. Empty takes all rows.",
        unit="rows",
        advanced=True,
        ge=10,
    )
    validation_fraction: float = field(
        0.1,
        "Validation share",
        "Held out to stop at the best moment. Ignored when the data brings a validation split.",
        advanced=True,
        ge=0,
        le=0.5,
    )
    test_fraction: float = field(
        0.1,
        "Test share",
        "Held out for the comparison with the base. Ignored when the data brings a test split.",
        advanced=True,
        ge=0,
        le=0.5,
    )
    replay: str | None = field(
        AUTO,
        "Replay data",
        "What keeps the model from forgetting. self: the base's own answers to prompts that ship with ftlab "
        "(self:FILE: to your own prompts). A source: general examples mixed into the training split, e.g. "
        "general_replay, which keep the kinds that they hold. auto: self in the stages sft and pretraining of a real "
        "base, nothing elsewhere. none: nothing.",
    )
    replay_fraction: float = field(
        0.35,
        "Replay share",
        "Rows of replay for each row of training data; of the base's own answers (self) at least 30. More protects "
        "more, and takes longer.",
        ge=0.01,
        le=2,
    )
    replay_loss: Literal["kl", "nll"] = field(
        "kl",
        "Replay loss",
        "For the base's own answers. kl: the distance to the base's probabilities of each next word, so that they do "
        "not move. nll: the answers are learnt like all others, which holds less.",
        advanced=True,
    )
    replay_text: str | None = field(
        None,
        "Replay text",
        "Plain documents mixed in as well, e.g. general_documents: they keep how the model reads text outside a chat.",
    )
    replay_text_fraction: float = field(
        0.2,
        "Replay text share",
        "Documents of replay text for each row of training data.",
        ge=0.01,
        le=2,
    )
    seed: int = field(0, "Split seed", "The same seed gives the same split.", advanced=True, ge=0, le=LARGEST_SEED)

    @field_validator("replay", "replay_text", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value

    @property
    def replay_prompts(self) -> str | None:
        """The source of prompts whose answers by the base itself are replayed; None where no such are."""
        if self.replay is None or not (self.replay == SELF or self.replay.startswith(f"{SELF}:")):
            return None
        return self.replay.removeprefix(SELF).removeprefix(":") or REPLAY_PROMPTS

    @property
    def replay_source(self) -> str | None:
        """The source of general examples that are mixed in; `auto` is none until it is settled (RunConfig.resolved)."""
        return None if self.replay == AUTO or self.replay_prompts else self.replay

    @property
    def replayed(self) -> list[str]:
        """The sources of what is replayed: examples, documents, or prompts that the base answers."""
        return [source for source in (self.replay_source or self.replay_prompts, self.replay_text) if source]


class MethodConfig(Section):
    """Each method reads some of the settings (method_table.fields_of); others are ignored, with a note if changed."""

    name: Literal["lora", "dora", "qlora", "ia3", "bottleneck", "prefix_tuning", "prompt_tuning", "full"] = field(
        "lora",
        "Method",
        "lora: small matrices beside the weights, the usual choice. dora: the same with a learned size, slower. "
        "qlora: lora on a base in 4 or 8 bits, to save memory. bottleneck: small layers between the layers. "
        "ia3: a factor per channel, the smallest. prefix_tuning, prompt_tuning: learned tokens before the text. "
        "full: all weights.",
    )
    rank: int = field(16, "LoRA rank", "More rank can learn more, and forgets and overfits more easily.", ge=1, le=512)
    alpha: int = field(
        32, "LoRA alpha", "Scales what LoRA adds. Twice the rank is usual.", advanced=True, ge=1, le=1024
    )
    rank_stabilised: bool = field(
        False,
        "Rank-stabilised scaling",
        "rsLoRA: divides alpha by the root of the rank, not by the rank. With a rank above 32 learning is faster; "
        "with the same alpha every step is larger, so lower alpha or the learning rate.",
        advanced=True,
    )
    dropout: float = field(
        0.0, "LoRA dropout", "Above 0 can help against overfitting on few rows.", advanced=True, ge=0, le=0.9
    )
    targets: str = field(
        "all-linear",
        "LoRA targets",
        "all-linear; mlp: the feed-forward layers alone, whatever the base calls them; or names of layers separated by "
        "commas (q_proj, v_proj). Fewer targets train fewer weights.",
        advanced=True,
        min_length=1,
    )
    initialisation: Literal["default", "gaussian", "orthogonal", "pissa", "pissa_niter_16", "olora"] = field(
        "default",
        "LoRA initialisation",
        "pissa and olora start from the largest directions of the weights and learn faster at first; their start "
        "takes longer (pissa_niter_16: a quick approximation) and the saved adapter is twice as large. lora only.",
        advanced=True,
    )
    quantisation: Literal["nf4", "fp4", "int8"] = field(
        "nf4",
        "QLoRA number format",
        "nf4: the base in 4 bits, the usual choice. fp4: 4 bits, less exact. int8: 8 bits, nearer to the original "
        "and twice the memory.",
        advanced=True,
    )
    double_quantisation: bool = field(
        True,
        "Double quantisation",
        "Stores the scales of the 4-bit base in 8 bits too: about 0.4 bits less per weight, and no visible loss.",
        advanced=True,
    )
    virtual_tokens: int = field(
        20,
        "Virtual tokens",
        "Learned tokens before every text (prefix and prompt tuning). More can learn more; they take room in the "
        "context and time in every answer.",
        advanced=True,
        ge=1,
        le=1000,
    )
    initial_text: str | None = field(
        None,
        "Initial text",
        "What the virtual tokens start from, such as a description of the task; repeated or cut to their number. "
        "Usually learns faster than from random words, which is what empty gives.",
        advanced=True,
        min_length=1,
    )
    placement: Literal["houlsby", "pfeiffer"] = field(
        "houlsby",
        "Adapter placement",
        "houlsby: a small layer after attention and one after the feed-forward part. pfeiffer: only the latter, half "
        "the weights and a little faster.",
        advanced=True,
    )
    reduction_factor: int = field(
        8,
        "Reduction factor",
        "The adapter's width is the model's width divided by this. Higher trains fewer weights; 8 with houlsby trains "
        "2 to 4% of them.",
        advanced=True,
        ge=1,
        le=1024,
    )
    activation: Literal["relu", "gelu", "silu"] = field(
        "relu",
        "Adapter activation",
        "The nonlinear function in the middle of the adapter. It seldom matters.",
        advanced=True,
    )


class OptimisationConfig(Section):
    learning_rate: float | None = field(
        None,
        "Learning rate",
        "Too high forgets and diverges, too low learns nothing. Empty takes the usual rate of the method and base.",
        gt=0,
        le=0.1,
    )
    epochs: float | None = field(
        None,
        "Epochs",
        "How often every example is seen. More than a few overfits. Empty takes what suits the base.",
        unit="passes",
        gt=0,
        le=1000,
    )
    max_steps: int | None = field(
        None, "Steps at most", "Stops after so many steps, whatever the epochs.", unit="steps", advanced=True, ge=1
    )
    batch_size: int | None = field(
        None,
        "Batch size",
        "Examples per step. Lower it when memory runs out. Empty takes what suits the base.",
        unit="examples",
        ge=1,
        le=4096,
    )
    gradient_accumulation: int | None = field(
        None,
        "Gradient accumulation",
        "Batches added up before the weights change: a larger step for no more memory. Empty takes what suits the "
        "stage.",
        unit="steps",
        advanced=True,
        ge=1,
        le=1024,
    )
    max_length: int = field(
        512,
        "Longest example",
        "Examples with more tokens are left out and counted; plain text is cut into pieces. Longer costs memory.",
        unit="tokens",
        ge=16,
        le=1_000_000,
    )
    warmup_fraction: float = field(
        0.05, "Warm-up", "Part of the steps in which the rate rises.", advanced=True, ge=0, le=0.5
    )
    loss: Literal["nll", "dft", "eaft"] = field(
        "nll",
        "Loss",
        "Of each trained token. nll: its negative log likelihood, the usual one. Two that pull less where the model "
        "disagrees: dft weighs a token by its probability (arXiv 2508.05629), eaft by how unsure the model is of it "
        "(arXiv 2601.02151). They are meant against forgetting; on SmolLM2 both learned less and held nothing. The "
        "validation loss is nll in any case. sft and pretraining only.",
        advanced=True,
    )
    schedule: Literal["cosine", "linear", "constant"] = field(
        "cosine", "Schedule", "How the learning rate falls after the warm-up.", advanced=True
    )
    weight_decay: float = field(0.0, "Weight decay", "Pulls weights towards zero.", advanced=True, ge=0, le=1)
    max_grad_norm: float = field(
        1.0, "Gradient clipping", "The longest gradient step that is allowed.", advanced=True, gt=0, le=1000
    )
    gradient_checkpointing: bool = field(
        False, "Gradient checkpointing", "Saves memory and costs a third of the speed.", advanced=True
    )
    evaluations_per_epoch: int = field(
        2, "Validations per epoch", "How often the validation loss is taken.", advanced=True, ge=1, le=100
    )
    early_stopping: int = field(
        3,
        "Early stopping",
        "Ends training after so many validations without improvement; the best weights are kept. 0 turns it off.",
        unit="validations",
        ge=0,
        le=100,
    )
    seed: int = field(0, "Seed", "The same seed and machine give the same run.", advanced=True, ge=0, le=LARGEST_SEED)

    @property
    def rows_per_step(self) -> int:
        """Examples that one process reads for an optimizer step. Raises ValueError before `RunConfig.resolved`."""
        return filled(self.batch_size) * filled(self.gradient_accumulation)


class TrackingConfig(Section):
    """Trackers that a run reports to beside its own files. Nothing is sent unless one is named here."""

    report_to: list[str] = field(
        [],
        "Report to",
        "Experiment trackers that also get the curves: trackio and tensorboard stay on this machine; others, such as "
        "wandb or mlflow, may send them to a server. Empty reports to none.",
        advanced=True,
    )
    folder: str | None = field(
        None,
        "Tracking folder",
        "Where trackers that write to this machine leave their logs, e.g. one folder for all runs. Empty: tracking/ "
        "in the run's own folder.",
        advanced=True,
        min_length=1,
    )

    @field_validator("report_to", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list):
            return value
        names = [name.strip() if isinstance(name, str) else name for name in names]
        return [name for name in names if name not in ("", "none")]


class LauncherConfig(Section):
    device: Literal["auto", "cpu", "cuda"] = field(
        "auto", "Device", "auto takes a GPU where there is one.", advanced=True
    )
    threads: int | None = field(
        None,
        "CPU threads",
        "Threads of each process that trains. Empty takes all cores, or shares them out among several processes.",
        unit="threads",
        advanced=True,
        ge=1,
        le=1024,
    )
    processes: int = field(
        1,
        "Processes",
        "Processes that train together, one for each GPU, over all machines. The batch size is that of one process.",
        unit="processes",
        advanced=True,
        ge=1,
        le=4096,
    )
    machines: int = field(1, "Machines", "Machines that train together.", unit="machines", advanced=True, ge=1, le=1024)
    config_file: str | None = field(
        None,
        "accelerate configuration",
        "A YAML file made by `accelerate config`, for FSDP, DeepSpeed or several machines. The run keeps a copy.",
        advanced=True,
        min_length=1,
    )
