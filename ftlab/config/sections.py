"""The sections of a run's configuration. Each field defines its title, help, unit and range once."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

from ftlab.config.methods import CHANGES_BASE, METHODS, MethodName, fields_of

STARTER = "starter"
LARGEST_SEED = 2**32 - 1  # numpy's limit
AUTO, SELF = "auto", "self"  # values of data.replay
REPLAY_PROMPTS = "replay_prompts"  # the sample of prompts that the base answers
FEWEST_OWN_ANSWERS = 30  # of the base, at any share: they kept SmolLM2 within 0.038 nats per token
# Replay for demos on the starter, which is too small to replay its own answers.
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


def explained(texts: Mapping[str, str]) -> str:
    """A help text from one for each value of a setting: `a, b: the text of both. c: another.`"""
    by_text: dict[str, list[str]] = {}
    for name, text in texts.items():
        by_text.setdefault(text, []).append(name)
    return " ".join(f"{', '.join(names)}: {text}." for text, names in by_text.items() if text)


def kind_of(annotation: Any) -> Any:
    """The type of a field, without `| None`."""
    if get_origin(annotation) in (types.UnionType, Union):
        return next(kind for kind in get_args(annotation) if kind is not type(None))
    return annotation


def range_of(info: FieldInfo) -> str:
    """The range of a field in words, such as `from 1 up to 64`; empty if it has none."""
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
    limits = ((words[name], getattr(limit, name, None)) for limit in info.metadata for name in words)
    return " ".join(f"{word} {value:,}" for word, value in limits if value is not None)


def unit_of(info: FieldInfo) -> str:
    """The unit of a field, such as `tokens`; empty if it has none."""
    return str(_extra(info).get("unit", ""))


def is_advanced_field(info: FieldInfo) -> bool:
    """Whether forms and help hide the field at first."""
    return bool(_extra(info).get("advanced"))


def _extra(info: FieldInfo) -> dict[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


class ModelConfig(Section):
    base: str = field(
        STARTER,
        "Base model",
        "`starter` (the toy that ships with ftlab), `smollm2` (SmolLM2 135M Instruct, 89 MB from the Python package "
        "index; write ./smollm2 for a folder of that name), a local folder, a GGUF file, or a Hub id such as "
        "Qwen/Qwen3-0.6B.",
        min_length=1,
    )
    start: str | None = field(
        None,
        "Start from",
        "An earlier run (its id, or last) to train further, or the folder of its adapter. Empty: the base itself.",
        min_length=1,
    )
    revision: str | None = field(
        None, "Revision", "Branch, tag or commit of a Hub model. Empty: the newest.", advanced=True
    )
    thinking: bool = field(
        False,
        "Thinking",
        "Whether a reasoning base thinks before it answers, in training, evaluation, chat and export. Leave it off for "
        "data without reasoning traces; data in which most answers hold thoughts turns it on.",
        advanced=True,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        "auto",
        "Number format",
        "auto: bfloat16 if the GPU supports it, else float16; on a CPU, bfloat16 if it is faster than float32 (timed).",
        advanced=True,
    )


class DataConfig(Section):
    source: str = field(
        "support_triage",
        "Data",
        "A sample that ships with ftlab, a file (JSONL, JSON, CSV, XLSX, ODS, Parquet, Arrow, text, zip), a Hub data "
        "set id, or version:<id>.",
        min_length=1,
    )
    encoding: str | None = field(
        None,
        "Encoding",
        "The encoding of a text file, such as cp1251, mac_roman or shift_jis. Empty: detected.",
        advanced=True,
        min_length=1,
    )
    subset: str | None = field(None, "Hub subset", "The subset (configuration) of a Hub data set.", advanced=True)
    split: str | None = field(
        None,
        "Split or sheet",
        "The split of the data to use, or the sheet of a spreadsheet. Empty: train; of a spreadsheet, the sheet with "
        "most rows.",
        advanced=True,
    )
    columns: dict[str, str] = field(
        {}, "Columns", "The role of each column, such as {prompt: question}. Empty: detected.", advanced=True
    )
    prompt_template: str | None = field(
        None,
        "Prompt template",
        "Builds the prompt from columns: Question: {question} Context: {context}. Empty: the prompt column.",
        advanced=True,
        min_length=1,
    )
    system_prompt: str | None = field(
        None, "System prompt", "Precedes every example, in training, evaluation and chat.", advanced=True
    )
    group_by: str | None = field(
        None,
        "Keep together",
        "A column such as customer or document: rows with the same value stay in the same split. Empty: rows with the "
        "same prompt do.",
        advanced=True,
        min_length=1,
    )
    near_duplicates: Literal["auto", "together", "apart"] = field(
        "auto",
        "Near-duplicate prompts",
        "together: prompts that differ only in a word, a typo, a polite phrase or an irrelevant sentence stay in the "
        "same split; otherwise the scores reward memorization. auto: together up to 100,000 rows. apart: only "
        "identical prompts stay together.",
        advanced=True,
    )
    stratify_by: str | None = field(
        None,
        "Stratify by",
        "A column of labels: every split gets the same share of each label. Empty: a random split.",
        advanced=True,
        min_length=1,
    )
    max_rows: int | None = field(
        None,
        "Maximum rows",
        "Use a random sample of this many rows. Empty: all rows.",
        unit="rows",
        advanced=True,
        ge=10,
    )
    validation_fraction: float = field(
        0.1,
        "Validation share",
        "Held out to select the best checkpoint. Ignored if the data has a validation split.",
        advanced=True,
        ge=0,
        le=0.5,
    )
    test_fraction: float = field(
        0.1,
        "Test share",
        "Held out for the comparison with the base. Ignored if the data has a test split.",
        advanced=True,
        ge=0,
        le=0.5,
    )
    replay: str | None = field(
        AUTO,
        "Replay data",
        "Mixed into the training data against forgetting. self: the base's own answers to prompts that ship with ftlab "
        "(self:FILE: to your own prompts). A source: general examples such as general_replay, which protect the kinds "
        "of task they cover. auto: self for sft and pretraining on a real base, otherwise none. none: no replay.",
    )
    replay_fraction: float = field(
        0.35,
        "Replay share",
        "Replay rows per row of training data; with self, at least 30 rows. More replay protects more and takes "
        "longer.",
        ge=0.01,
        le=2,
    )
    replay_loss: Literal["kl", "nll"] = field(
        "kl",
        "Replay loss",
        "For the base's own answers (self). kl: the KL divergence from the base's next-token probabilities. nll: the "
        "same loss as for other rows, which protects less.",
        advanced=True,
    )
    replay_text: str | None = field(
        None,
        "Replay text",
        "Plain documents to mix in as well, such as general_documents. They protect the modeling of text outside a "
        "chat.",
    )
    replay_text_fraction: float = field(
        0.2,
        "Replay text share",
        "Replay documents per row of training data.",
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
        """The source of prompts whose answers by the base are replayed; None if the run does not use them."""
        if self.replay is None or not (self.replay == SELF or self.replay.startswith(f"{SELF}:")):
            return None
        return self.replay.removeprefix(SELF).removeprefix(":") or REPLAY_PROMPTS

    @property
    def replay_source(self) -> str | None:
        """The source of general examples to mix in; None for `auto` until RunConfig.resolved decides it."""
        return None if self.replay == AUTO or self.replay_prompts else self.replay

    @property
    def replayed(self) -> list[str]:
        """The sources of replay: examples, documents, or prompts that the base answers."""
        return [source for source in (self.replay_source or self.replay_prompts, self.replay_text) if source]


class MethodConfig(Section):
    """Each method reads some of these settings (methods.fields_of); changes to the others are ignored, with a note."""

    name: MethodName = field("lora", "Method", explained({name: method.about for name, method in METHODS.items()}))
    rank: int = field(
        16, "LoRA rank", "A higher rank can learn more, and forgets and overfits more easily.", ge=1, le=512
    )
    alpha: int = field(
        32, "LoRA alpha", "Scales the LoRA update. Twice the rank is usual.", advanced=True, ge=1, le=1024
    )
    rank_stabilised: bool = field(
        False,
        "Rank-stabilized scaling",
        "rsLoRA: divides alpha by the square root of the rank instead of the rank. Faster above rank 32; at the same "
        "alpha every step is larger, so lower alpha or the learning rate.",
        advanced=True,
    )
    dropout: float = field(
        0.0, "LoRA dropout", "A value above 0 can reduce overfitting on few rows.", advanced=True, ge=0, le=0.9
    )
    targets: str = field(
        "all-linear",
        "LoRA targets",
        "all-linear; mlp (the feed-forward layers, under any name); or layer names separated by commas (q_proj, "
        "v_proj). Fewer targets train fewer weights.",
        advanced=True,
        min_length=1,
    )
    initialisation: Literal["default", "gaussian", "orthogonal", "pissa", "pissa_niter_16", "olora"] = field(
        "default",
        "LoRA initialization",
        "pissa and olora start from the principal directions of the weights: faster learning at first, a slower start "
        "(pissa_niter_16 is a quick approximation), and a saved adapter twice as large. lora only.",
        advanced=True,
    )
    quantisation: Literal["nf4", "fp4", "int8"] = field(
        "nf4",
        "QLoRA number format",
        "nf4: 4 bits, the usual choice. fp4: 4 bits, less precise. int8: 8 bits, closer to the original at twice the "
        "memory.",
        advanced=True,
    )
    double_quantisation: bool = field(
        True,
        "Double quantization",
        "Also quantizes the scales of the 4-bit base, to 8 bits: saves about 0.4 bits per weight without visible loss.",
        advanced=True,
    )
    virtual_tokens: int = field(
        20,
        "Virtual tokens",
        "Learned tokens before every text (prefix and prompt tuning). More tokens can learn more; they take up context "
        "and slow every answer.",
        advanced=True,
        ge=1,
        le=1000,
    )
    initial_text: str | None = field(
        None,
        "Initial text",
        "Initializes the virtual tokens, for example with a description of the task; repeated or cut to fit. Usually "
        "faster than random tokens. Empty: random.",
        advanced=True,
        min_length=1,
    )
    placement: Literal["houlsby", "pfeiffer"] = field(
        "houlsby",
        "Adapter placement",
        "houlsby: an adapter after attention and one after the feed-forward part. pfeiffer: only the second, with half "
        "the weights and slightly faster.",
        advanced=True,
    )
    reduction_factor: int = field(
        8,
        "Reduction factor",
        "The model's width divided by the adapter's. Higher values train fewer weights; 8 with houlsby trains 2 to 4% "
        "of them.",
        advanced=True,
        ge=1,
        le=1024,
    )
    activation: Literal["relu", "gelu", "silu"] = field(
        "relu",
        "Adapter activation",
        "The nonlinearity inside the adapter. It rarely matters.",
        advanced=True,
    )

    @property
    def is_full(self) -> bool:
        """Whether all weights of the base are trained, so that the result is a whole model."""
        return METHODS[self.name].full

    @property
    def is_quantised(self) -> bool:
        """Whether the base is loaded in 4 or 8 bits."""
        return "quantisation" in fields_of(self.name)

    @property
    def changes_base(self) -> bool:
        """Whether the initialization changes the weights of the base."""
        return "initialisation" in fields_of(self.name) and self.initialisation in CHANGES_BASE


def unused(method: MethodConfig) -> list[str]:
    """Settings that differ from their default and that the chosen method does not read."""
    return [
        name
        for name, info in type(method).model_fields.items()
        if name != "name" and name not in fields_of(method.name) and getattr(method, name) != info.default
    ]


def virtual_tokens(method: MethodConfig) -> int:
    """The number of tokens of the base's context that the method itself uses."""
    return method.virtual_tokens if "virtual_tokens" in fields_of(method.name) else 0


def summary(method: MethodConfig) -> str:
    """The method and its main setting: `lora r=16`, `bottleneck houlsby /8`."""
    return METHODS[method.name].brief.format(**method.model_dump())


class OptimisationConfig(Section):
    learning_rate: float | None = field(
        None,
        "Learning rate",
        "Too high: training forgets or diverges. Too low: nothing is learned. Empty: the usual rate of the method and "
        "base.",
        gt=0,
        le=0.1,
    )
    epochs: float | None = field(
        None,
        "Epochs",
        "Passes over the training data. More than a few overfit. Empty: chosen for the base and stage.",
        unit="passes",
        gt=0,
        le=1000,
    )
    max_steps: int | None = field(
        None, "Maximum steps", "Stop after this many steps, whatever the epochs.", unit="steps", advanced=True, ge=1
    )
    batch_size: int | None = field(
        None,
        "Batch size",
        "Examples per forward pass. Lower it if memory runs out. Empty: chosen for the base and stage.",
        unit="examples",
        ge=1,
        le=4096,
    )
    gradient_accumulation: int | None = field(
        None,
        "Gradient accumulation",
        "Batches accumulated before each weight update: larger steps at the same memory. Empty: chosen for the stage.",
        unit="steps",
        advanced=True,
        ge=1,
        le=1024,
    )
    max_length: int = field(
        512,
        "Longest example",
        "Longer examples are left out and counted; plain text is split. Higher values take more memory.",
        unit="tokens",
        ge=16,
        le=1_000_000,
    )
    warmup_fraction: float = field(
        0.05, "Warmup", "The share of steps in which the learning rate rises.", advanced=True, ge=0, le=0.5
    )
    loss: Literal["nll", "dft", "eaft"] = field(
        "nll",
        "Loss",
        "nll: negative log likelihood, the standard loss. dft weights each token by its probability (arXiv "
        "2508.05629), eaft by the model's uncertainty about it (arXiv 2601.02151); both aim to reduce forgetting. On "
        "SmolLM2 both learned less and prevented none. The validation loss is always nll. sft and pretraining only.",
        advanced=True,
    )
    schedule: Literal["cosine", "linear", "constant"] = field(
        "cosine", "Schedule", "How the learning rate decays after the warmup.", advanced=True
    )
    weight_decay: float = field(0.0, "Weight decay", "Pulls weights toward zero.", advanced=True, ge=0, le=1)
    max_grad_norm: float = field(
        1.0, "Gradient clipping", "Gradients with a larger norm are scaled down to it.", advanced=True, gt=0, le=1000
    )
    gradient_checkpointing: bool = field(
        False, "Gradient checkpointing", "Saves memory at the cost of a third of the speed.", advanced=True
    )
    evaluations_per_epoch: int = field(
        2, "Validations per epoch", "How often the validation loss is computed.", advanced=True, ge=1, le=100
    )
    early_stopping: int = field(
        3,
        "Early stopping",
        "Stop after this many validations without improvement and keep the best checkpoint. 0: off.",
        unit="validations",
        ge=0,
        le=100,
    )
    seed: int = field(0, "Seed", "Same seed and machine: same run.", advanced=True, ge=0, le=LARGEST_SEED)

    @property
    def rows_per_step(self) -> int:
        """Examples that one process reads for an optimizer step. Raises ValueError before `RunConfig.resolved`."""
        return filled(self.batch_size) * filled(self.gradient_accumulation)


class TrackingConfig(Section):
    """Experiment trackers, in addition to the run's own files. Nothing is sent unless one is named here."""

    report_to: list[str] = field(
        [],
        "Report to",
        "Experiment trackers that also receive the curves: trackio and tensorboard stay on this machine; others, such "
        "as wandb or mlflow, may send them to a server. Empty: none.",
        advanced=True,
    )
    folder: str | None = field(
        None,
        "Tracking folder",
        "Where local trackers write their logs, such as one folder for all runs. Empty: tracking/ in the folder of the "
        "run.",
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
    device: Literal["auto", "cpu", "cuda"] = field("auto", "Device", "auto: a GPU if there is one.", advanced=True)
    threads: int | None = field(
        None,
        "CPU threads",
        "Threads per training process. Empty: all cores, divided among the processes.",
        unit="threads",
        advanced=True,
        ge=1,
        le=1024,
    )
    processes: int = field(
        1,
        "Processes",
        "Training processes across all machines, one per GPU. The batch size is per process.",
        unit="processes",
        advanced=True,
        ge=1,
        le=4096,
    )
    machines: int = field(1, "Machines", "Machines that train together.", unit="machines", advanced=True, ge=1, le=1024)
    config_file: str | None = field(
        None,
        "accelerate configuration",
        "A YAML file from `accelerate config`, for FSDP, DeepSpeed or several machines. The run keeps a copy.",
        advanced=True,
        min_length=1,
    )
