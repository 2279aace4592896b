"""Load a base, its tokenizer, and the result of a run. Safetensors only, and never code from a model folder."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.config import STARTER, MethodConfig, ModelConfig, RunConfig, load_config
from ftlab.config.methods import BaseShape
from ftlab.config.sections import virtual_tokens
from ftlab.core.files import read_json
from ftlab.core.hub import is_offline, newest_commit, unreachable
from ftlab.core.run_directory import RunDirectory
from ftlab.data.safe_templates import limit_templates
from ftlab.errors import FtlabError, InputError, nearest, shorten
from ftlab.models.bases.get import check_kept, ensure_base, is_kept_here, kept_folder
from ftlab.models.bases.gguf_file import gguf_of, read_facts
from ftlab.models.bases.known import KNOWN
from ftlab.models.identity import check_result
from ftlab.models.starter import starter_path

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ROWS = 32  # per block of the repacked layout


def quantisation_of(method: MethodConfig, compute_dtype: torch.dtype) -> Any:
    """The BitsAndBytesConfig of `method`, or None when it does not quantize the base.

    4 bits: nf4 with double quantization (Dettmers et al. 2023, arXiv 2305.14314) or fp4, computing in `compute_dtype`.
    8 bits: LLM.int8 (Dettmers et al. 2022, arXiv 2208.07339).
    """
    if not method.is_quantised:
        return None
    from transformers import BitsAndBytesConfig

    if method.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=method.quantisation,
        bnb_4bit_use_double_quant=method.double_quantisation,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def set_repacking(model: Any, on: bool) -> None:
    """Set whether the 4-bit layers of `model` may be repacked for inference; call before its first forward pass.

    On CPUs with AVX512-BF16, bitsandbytes (checked with 0.50.2) permanently repacks a Linear4bit in its first forward
    pass in evaluation mode. The kernel for that layout is faster (SmolLM2-135M on one core: 2.1 times in batches of 8),
    rounds to bfloat16 and has no backward: gradients do not pass a repacked layer, and torch only warns. So a loaded
    model is not repacked unless an inference-only caller allows it.
    """
    try:
        from bitsandbytes.functional import has_avx512bf16
        from bitsandbytes.nn import Linear4bit
    except ImportError:
        return  # then nothing can be quantized
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # bitsandbytes asserts the number of rows, and splits the columns into blocks.
            blocks = module.weight.blocksize  # type: ignore[attr-defined]  # a Params4bit, declared as a Tensor
            even = module.out_features % _ROWS == 0 and module.in_features % blocks == 0
            module.support_avx512bf16_for_cpu = on and even and bool(has_avx512bf16())


# In narrow bases, operations around the matrix products dominate: a step of the starter (width 192) is 1.3 times as
# fast in bfloat16, one of SmolLM2 (576) 1.4 times on two cores and 1.9 times on one. Not worth the rounding in a toy.
SMALLEST_WIDTH = 512
# The speedup of a product that makes the rounding worthwhile.
_GAIN = 1.3
_TOKENS = 256
_REPEATS = 12
_PATIENCE = 0.4  # seconds: where bfloat16 is slow it is very slow


def cpu_dtype(width: int | None) -> torch.dtype:
    """bfloat16 if this CPU multiplies matrices of a base of `width` channels (None: unknown) faster in it, else
    float32."""
    import torch

    if width is not None and width < SMALLEST_WIDTH:
        return torch.float32
    return torch.bfloat16 if bfloat16_gain(min(width or 1024, 1024)) >= _GAIN else torch.float32


@functools.cache
def bfloat16_gain(width: int = 1024) -> float:
    """The speedup of matrix products in bfloat16 over float32 on this CPU, including casts of the activations: the best
    of a few interleaved tries of each, so that other load slows both."""
    import torch

    with torch.inference_mode():
        states = torch.ones(_TOKENS, width)
        weight = torch.ones(3 * width, width)
        short = weight.to(torch.bfloat16)
        linear = torch.nn.functional.linear
        whole, half = _best(
            lambda: linear(states, weight),
            lambda: linear(states.to(torch.bfloat16), short).float(),
        )
    return whole / half


def _best(*products: Callable[[], Any]) -> list[float]:
    """The seconds of the fastest of a few calls of each, after a warm-up call."""
    for product in products:
        product()
    tries: list[list[float]] = []
    while len(tries) < _REPEATS and sum(map(sum, tries)) < _PATIENCE:
        tries.append([])
        for product in products:
            began = time.perf_counter()
            product()
            tries[-1].append(time.perf_counter() - began)
    return [min(times) for times in zip(*tries, strict=True)]


_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_LOCAL_SIGNS = ("/", "./", "../", "~", "\\")


def base_path(base: str) -> str:
    """The path or id from which transformers loads `base`: the starter's folder, a local folder, or the Hub id itself.

    For a base that ftlab keeps (`smollm2`, a GGUF file), the folder where it is or will be; see `present_path`.
    Raises InputError for a folder without a model, and for text that is neither a folder nor a possible Hub id.
    """
    if base == STARTER:
        return str(starter_path())
    if (kept := kept_folder(base)) is not None:
        return str(kept)
    folder = Path(base).expanduser()
    if folder.is_dir():
        if (folder / "adapter_config.json").exists():
            raise InputError(
                "This folder contains an adapter, not a base model", given=base, try_="name the model it was trained on"
            )
        if not (folder / "config.json").exists():
            raise InputError(
                "This folder does not contain a model: config.json is missing",
                given=base,
                allowed="a folder with config.json, *.safetensors and a tokenizer",
            )
        if not list(folder.glob("*.safetensors")):
            raise InputError(
                "This folder does not contain safetensors weights",
                given=base,
                allowed="weights as *.safetensors (pickled .bin files can run code and are refused)",
                try_="convert them with save_pretrained(..., safe_serialization=True) if you trust them",
            )
        return str(folder.absolute())
    is_file = folder.exists() or base.lower().endswith(".gguf")
    if base.startswith(_LOCAL_SIGNS) or is_file or not _HUB_ID.match(base):
        raise InputError(
            "There is no such model folder",
            given=base,
            allowed=f"starter, {', '.join(KNOWN)}, a folder with config.json and *.safetensors, a GGUF file, or a Hub "
            "id such as Qwen/Qwen3-0.6B",
        )
    if "/" not in base and (meant := nearest(base, (STARTER, *KNOWN))):
        raise InputError("No base has this name", given=base, try_=f"did you mean {meant}?")
    return base


def present_path(base: str) -> str:
    """As `base_path`, but first fetches or dequantizes a base that ftlab keeps, if it is not here yet."""
    ensure_base(base)
    return base_path(base)


def is_hub_id(base: str) -> bool:
    """Whether loading `base` may need the network."""
    return base != STARTER and not Path(base).expanduser().exists() and kept_folder(base) is None


def check_base(model: ModelConfig) -> None:
    """Raise InputError, within seconds, when `model` cannot be loaded. Downloads nothing."""
    path = base_path(model.base)
    check_kept(model.base)
    if not is_hub_id(model.base):
        return
    from huggingface_hub import try_to_load_from_cache

    if is_offline() or isinstance(try_to_load_from_cache(path, "config.json", revision=model.revision), str):
        return
    newest_commit("model", path, model.revision)


def load_tokenizer(base: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of `base`, with a padding token. Raises InputError when it cannot be loaded."""
    from transformers import AutoTokenizer

    limit_templates()
    with _explained(base):
        tokenizer = AutoTokenizer.from_pretrained(present_path(base), revision=revision)
    if tokenizer.pad_token is None:
        # Padding is masked everywhere, so sharing a token is harmless; a new one would resize the embedding.
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.eos_token is None:
        raise InputError(
            "The tokenizer of this base has no stop token (eos_token), so answers could never end", given=base
        )
    return tokenizer


def context_length(model: ModelConfig) -> int | None:
    """The context length of the base, in tokens; None when its configuration does not state one."""
    length = getattr(load_config_of(model).get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None


def context_of(base: str) -> int | None:
    """The `context_length` of a base without further settings."""
    return context_length(ModelConfig(base=base))


def text_length(config: RunConfig) -> int | None:
    """The longest text that the model of a run can read: the context length minus the method's virtual tokens."""
    context = context_length(config.model)
    return None if context is None else context - virtual_tokens(config.method)


def load_config_of(model: ModelConfig) -> Any:
    """The configuration of the base. Raises InputError when it cannot be loaded."""
    from transformers import AutoConfig

    with _explained(model.base):
        if model.base in KNOWN and not is_kept_here(model.base):
            return AutoConfig.from_pretrained(KNOWN[model.base].described)
        return AutoConfig.from_pretrained(present_path(model.base), revision=model.revision)


def pick_device(wanted: str = "auto") -> str:
    """`cuda` or `cpu`. Raises InputError when a GPU is requested and there is none."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("No usable CUDA GPU was found", given="device: cuda", try_="device: auto, or cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def pick_dtype(model: ModelConfig, device: str) -> torch.dtype:
    """The dtype of the base `model` on `device`: the requested one, else the fastest safe one.

    On a GPU bfloat16, or float16 if the card lacks bfloat16; on a CPU, float32 or bfloat16, whichever multiplies
    matrices of this base faster (see `cpu_dtype`).
    """
    import torch

    if model.dtype != "auto":
        return getattr(torch, model.dtype)
    if device == "cpu":
        shape = shape_of(model)
        return cpu_dtype(shape.width if shape else None)
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def shape_of(model: ModelConfig, *, fetch: bool = False) -> BaseShape | None:
    """Family and width of a base, from its config.json or the header of its GGUF file; None if neither is here.

    With `fetch`, the config.json of a Hub id is downloaded if it is not cached. Raises InputError for anything that is
    not a base, and, with `fetch`, when the Hub cannot be reached.
    """
    file: str | Path | None = Path(base_path(model.base)) / "config.json"
    if is_hub_id(model.base):
        file = _config_of_hub(model, fetch)
    elif not is_kept_here(model.base):
        if model.base in KNOWN:
            file = KNOWN[model.base].described / "config.json"
        elif (gguf := gguf_of(model.base)) is not None:
            facts = read_facts(gguf)
            return BaseShape(facts.architecture, facts.width) if facts.width else None
    described = read_json(Path(file), {}) if file else {}
    text = described.get("text_config") or described
    width = next((text[name] for name in ("hidden_size", "n_embd", "d_model") if text.get(name)), None)
    return BaseShape(str(described.get("model_type", "")), int(width)) if width else None


def _config_of_hub(model: ModelConfig, fetch: bool) -> str | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(model.base, "config.json", revision=model.revision)
    if isinstance(cached, str) or not fetch:
        return cached if isinstance(cached, str) else None
    with _explained(model.base):
        return hf_hub_download(model.base, "config.json", revision=model.revision)


def load_base(
    model: ModelConfig, *, device: str = "auto", method: MethodConfig | None = None, scores: bool = False
) -> PreTrainedModel:
    """The base in evaluation mode on `device`, as `method` needs it: in 4 or 8 bits for QLoRA. With `scores` it returns
    one number per text instead of the next token (with a new, random head if the base has none).

    It remains trainable: 4-bit layers are not repacked (see `set_repacking`). Raises InputError when it cannot be
    loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    device = pick_device(device)
    dtype = pick_dtype(model, device)
    settings: dict[str, Any] = {}
    quantisation = quantisation_of(method, dtype) if method else None
    if quantisation is not None:
        settings["quantization_config"] = quantisation
        settings["device_map"] = {"": torch.cuda.current_device() if device == "cuda" else "cpu"}
    if scores:
        settings["num_labels"] = 1
        if quantisation is not None:
            quantisation.llm_int8_skip_modules = ["score"]  # it is trained
    elif quantisation is not None:
        quantisation.llm_int8_skip_modules = _kept_whole(model)
    with _explained(model.base):
        loaded = (AutoModelForSequenceClassification if scores else AutoModelForCausalLM).from_pretrained(
            present_path(model.base), revision=model.revision, dtype=dtype, use_safetensors=True, **settings
        )
    if quantisation is None:
        loaded.to(torch.device(device))  # type: ignore[arg-type]  # transformers wraps `to` without its self
    else:
        set_repacking(loaded, False)
    if device == "cpu" and (head := loaded.get_output_embeddings()) is not None:
        head.register_forward_pre_hook(_whole)
    return loaded.eval()


def _kept_whole(model: ModelConfig) -> list[str] | None:
    """All layers that must not be quantized; None: only the usual ones.

    A base that reads the weights of a layer without calling it (Mamba) needs them unquantized.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.quantizers.base import get_keys_to_not_convert

    from ftlab.models.families import unread_layers

    config = load_config_of(model)
    with _explained(model.base), torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    unread = unread_layers(empty)
    return sorted({*unread, *get_keys_to_not_convert(empty)}) if unread else None


def run_tokenizer(run: RunDirectory, config: RunConfig) -> PreTrainedTokenizerBase:
    """The tokenizer for training and evaluating `run`: the one saved with its result, before that the one of its base
    with the chat template chosen by training."""
    from transformers import AutoTokenizer

    from ftlab.data.rendering import ensure_chat_template

    limit_templates()
    if run.has_result:
        return AutoTokenizer.from_pretrained(str(run.result))
    tokenizer = load_tokenizer(config.model.base, config.model.revision)
    if run.template_file.exists():
        tokenizer.chat_template = run.template_file.read_text(encoding="utf-8")
    else:
        ensure_chat_template(tokenizer, thinking=config.model.thinking)
    return tokenizer


def load_run(
    run: RunDirectory, *, device: str | None = None, strength: float = 1.0
) -> tuple[Any, PreTrainedTokenizerBase]:
    """The adapted model of a finished run at `strength` (1: as trained) and its tokenizer: an adapter on its base, or
    the fully tuned model.

    Raises FtlabError when the run has no result yet, InputError for a strength that its method does not support.
    """
    from ftlab.models.adapters import attach_adapter
    from ftlab.models.strength import AS_TRAINED, check_strength, set_strength

    if not run.has_result:
        raise FtlabError(
            f"The run {run.id} has no trained model yet", try_="wait until it has finished, or train it again"
        )
    config = load_config(run.config_file)
    if config.is_reward_model:
        raise InputError(
            f"The run {run.id} is a reward model: it scores answers and does not write any",
            try_="choose a run that answers prompts",
        )
    check_strength(config, strength)
    check_result(run)
    device = device or config.launcher.device
    folder = run.result
    tokenizer = run_tokenizer(run, config)
    if folder == run.model:
        tuned = ModelConfig(base=str(folder), dtype=config.model.dtype)
        below = load_base(config.model, device=device) if strength != AS_TRAINED else None
        return set_strength(load_base(tuned, device=device), strength, base=below), tokenizer
    adapted = attach_adapter(load_trained_base(config, device=device), folder)
    return (adapted if strength == AS_TRAINED else set_strength(adapted, strength)), tokenizer


def load_trained_base(config: RunConfig, *, device: str = "auto") -> PreTrainedModel:
    """The base as it was when the adapter was trained, for inference only: in 4 or 8 bits for QLoRA."""
    base = load_base(config.model, device=device, method=config.method)
    if config.method.is_quantised:
        set_repacking(base, True)
    return base


def _whole(head: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make the hidden states contiguous: with a slice of a batch, torch multiplies each row by its own copy of a frozen
    weight, which takes 1.8 GB for 32 prompts of SmolLM2 (torch 2.13, `should_fold` of matmul)."""
    return (inputs[0].contiguous(), *inputs[1:])


@contextlib.contextmanager
def _explained(base: str) -> Iterator[None]:
    """Turn errors of transformers and the Hub into one clear message."""
    try:
        yield
    except FtlabError:
        raise
    except Exception as error:
        text = str(error)
        if is_hub_id(base) and _unreachable(error):
            raise unreachable("base model", base, error) from error
        if is_hub_id(base) and ("not a valid model identifier" in text or "404" in text):
            raise InputError("The Hub has no such model, or it is private", given=base) from error
        if "gated" in text.lower() or "401" in text or "403" in text:
            raise InputError(
                "This base needs permission on the Hub",
                given=base,
                try_="accept its terms on its page and set HF_TOKEN in the environment",
            ) from error
        if "trust_remote_code" in text or "custom code" in text:
            raise InputError(
                "This base requires its own code, which ftlab never runs",
                given=base,
                try_="use a base whose architecture is part of transformers",
            ) from error
        if isinstance(error, (OSError, ValueError, KeyError)):
            raise InputError(f"This base cannot be loaded: {shorten(text, 300)}", given=base) from error
        raise


def _unreachable(error: BaseException) -> bool:
    names = ("ConnectionError", "ConnectError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "Timeout")
    cause: BaseException | None = error
    while cause is not None:
        if any(name in type(cause).__name__ for name in names):
            return True
        if "couldn't connect" in str(cause).lower() or "offline mode" in str(cause).lower():
            return True
        cause = cause.__cause__ or cause.__context__
    return False
