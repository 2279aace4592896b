"""The SFT trainer: logits only where there are labels, and a KL divergence that keeps the model close to its base along
the base's own answers (held rows)."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ftlab.errors import FtlabError
from ftlab.models.bottleneck import has_bottlenecks, load_weights, save_bottlenecks
from ftlab.training import together
from ftlab.training.checkpoints import WarmsUp, check_sealed
from ftlab.training.speed import base_of

_KEYS = ("held", "held_top", "held_log_probs")


@dataclass(frozen=True)
class Teacher:
    """The base's log-probabilities (nats) at each token of its answers: `top` [tokens, k] are words, `log_probs`
    [tokens, k + 1] those of these words and of all others together. Row i has the tokens from `starts[i]` to
    `starts[i + 1]`."""

    top: Any
    log_probs: Any
    starts: list[int]

    def of(self, row: int) -> slice:
        return slice(self.starts[row], self.starts[row + 1])


@dataclass
class HoldingCollator(DataCollatorForLanguageModeling):
    """TRL's batches, with three more entries if a batch has held rows: `held` (bool, shaped as the labels) marks their
    tokens, and `held_top` and `held_log_probs` (see Teacher) have a row for each of these, in order."""

    teacher: Teacher | None = None

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        rows = [example.get("held", -1) for example in examples]
        if self.teacher is None or max(rows) < 0:
            return batch
        # The same layout, with the labels of the held rows alone.
        alone = [
            {**example, "labels": example["labels"] if row >= 0 else [-100] * len(example["labels"])}
            for example, row in zip(examples, rows, strict=True)
        ]
        slices = [self.teacher.of(row) for row in rows if row >= 0]
        batch["held"] = super().torch_call(alone)["labels"] != -100
        batch["held_top"] = torch.cat([self.teacher.top[tokens] for tokens in slices])
        batch["held_log_probs"] = torch.cat([self.teacher.log_probs[tokens] for tokens in slices])
        return batch


@dataclass(frozen=True)
class Targets:
    """The held tokens of a batch: `places` (bool, shaped as the labels), and the base's probabilities there."""

    places: torch.Tensor
    top: torch.Tensor
    log_probs: torch.Tensor


def take_targets(inputs: dict[str, Any]) -> Targets | None:
    """Remove from `inputs` what the model does not read; None without held tokens. Tokens whose label was removed in
    the meantime do not count."""
    places, top, log_probs = (inputs.pop(name, None) for name in _KEYS)
    if places is None:
        return None
    still = inputs["labels"][places] != -100
    return Targets(places & (inputs["labels"] != -100), top[still], log_probs[still])


def shortened(logits: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `most` likeliest words [tokens, k] (int32) of `logits` [tokens, words] (float32), and their log-probabilities
    followed by that of all other words together [tokens, k + 1]."""
    top = logits.topk(min(most, logits.shape[-1] - 1), dim=-1).indices
    return top.int(), _log_probs(logits, top)


def divergence(logits: torch.Tensor, top: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
    """The sum over the tokens of KL(base || model), in nats, from the model's `logits` [tokens, words] (float32) and
    the base's `log_probs` of the words `top` and of the rest. At most the divergence over all words, and 0 if nothing
    changed."""
    return (log_probs.exp() * (log_probs - _log_probs(logits, top.long()))).sum()


def _log_probs(logits: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    # The rest is computed by itself: one minus the sum of the others would be noise where it is small.
    rest = logits.scatter(-1, top, float("-inf")).logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(-1, top), rest], -1) - logits.logsumexp(-1, keepdim=True)


def score_held(model: Any, inputs: dict[str, Any], targets: Targets) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For one row without padding that has held tokens: the logits [tokens, words] (float32) at the other labels, these
    labels, and the divergence of the held tokens."""
    labels = inputs["labels"][0, 1:]
    places = (labels != -100).nonzero()[:, 0]
    labels, held = labels[places], targets.places[0, 1:][places]
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, logits_to_keep=places).logits[0].float()
    return logits[~held], labels[~held], divergence(logits[held], targets.top, targets.log_probs)


@contextlib.contextmanager
def hidden_states(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect the last hidden states [rows, tokens, width] of each forward pass of `model` in the list."""
    states: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output.last_hidden_state)

    hook = base_of(model).base_model.register_forward_hook(keep)
    try:
        yield states
    finally:
        hook.remove()


def divergence_of(model: Any, hidden: torch.Tensor, targets: Targets) -> torch.Tensor:
    """The `divergence` of the held tokens, from the last `hidden` states of a batch; virtual tokens may precede it."""
    wanted = targets.places[:, 1:]
    hidden = hidden[:, -targets.places.shape[1] :][:, :-1]
    return divergence(head_logits(model, hidden[wanted]), targets.top, targets.log_probs)


def head_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The logits [tokens, words] (float32) of `hidden` [tokens, width], as the forward of `model` computes them: scaled
    and capped by the settings that trl.trainer.utils.add_fused_lm_head reads (TRL 1.16)."""
    base = base_of(model)
    head, text = base.get_output_embeddings(), base.config.get_text_config()
    logits = torch.nn.functional.linear(hidden.to(head.weight.dtype), head.weight, head.bias).float()
    names = ("logit_scale", "output_multiplier", "lm_head_multiplier")
    scale = next((value for name in names if (value := getattr(text, name, None)) is not None), 1.0)
    if (divided := getattr(text, "logits_scaling", None)) is not None:
        scale = divided if text.model_type == "hyperclovax" else 1 / divided
    cap = getattr(text, "final_logit_softcapping", None)
    logits = logits * scale
    return torch.tanh(logits / cap) * cap if cap else logits


ENTROPY_WORDS = 20  # for eaft, as in its paper
_SAME = 0.1  # relative difference of two entropies, far above the rounding of short formats
MOST_BYTES = 256 << 20  # of float32 logits; beyond that, TRL's tiles save memory at little cost


def fits(inputs: dict[str, Any], vocabulary: int) -> bool:
    """Whether `inputs` are one row without padding, on a CPU, with few enough labels."""
    ids, labels = inputs["input_ids"], inputs.get("labels")
    if labels is None or ids.shape[0] != 1 or "position_ids" not in inputs or ids.device.type != "cpu":
        return False
    return int((labels != -100).sum()) * vocabulary * 4 <= MOST_BYTES


def score_labels(model: Any, inputs: dict[str, Any], loss: str = "nll") -> tuple[torch.Tensor, int, int]:
    """For the labels of one row: the sum of the losses (`summed_loss`, nats), their number, and how many rank first."""
    targets = inputs["labels"][0, 1:]
    places = (targets != -100).nonzero()[:, 0]
    targets = targets[places]
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, logits_to_keep=places).logits[0].float()
    correct = int((logits.argmax(-1) == targets).sum())
    return summed_loss(loss, logits, targets), len(targets), correct


def summed_loss(loss: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over the tokens of the negative log likelihood (nats) of `targets` [tokens] under `logits` [tokens,
    words] (float32), each weighted by `loss`:

    - nll: 1.
    - dft: the probability of the token (Wu et al. 2025, arXiv 2508.05629), so that unlikely tokens count less.
    - eaft: the entropy among the 20 likeliest words, from 0 to 1 (Diao et al. 2026, arXiv 2601.02151), so that tokens
      count less where the model is certain.

    No gradient goes through the weights.
    """
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    if loss != "nll":
        each = each * (torch.exp(-each.detach()) if loss == "dft" else _entropy(logits.detach()))
    return each.sum()


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    """The entropy of the likeliest words at each token, divided by its maximum."""
    most = min(ENTROPY_WORDS, logits.shape[-1])
    log_p = logits.topk(most, dim=-1).values.float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1) / math.log(most)


@contextlib.contextmanager
def weighted(model: Any, loss: str) -> Iterator[None]:
    """Weight the log-probabilities of TRL's fused head (trl.trainer.utils.add_fused_lm_head, TRL 1.16) as in
    `summed_loss`, so that TRL computes that loss from them. Raises FtlabError for eaft on a base whose logits are not
    those of its head alone."""
    if loss == "nll":
        yield
        return

    def weigh(_model: Any, _inputs: Any, output: Any) -> None:
        on = getattr(output, "label_mask", None)
        if on is None:
            return
        with torch.no_grad():
            if loss == "dft":
                weights = output.log_probs.exp()
            else:
                weights = torch.zeros_like(output.log_probs)
                hidden = states[-1][:, :-1][on]
                _check_head(model, hidden[:4], output.entropy[on][:4])
                weights[on] = _entropies(model, hidden).to(weights)
        output.log_probs = output.log_probs * weights

    with hidden_states(model) as states:
        hook = model.register_forward_hook(weigh)
        try:
            yield
        finally:
            hook.remove()


def _check_head(model: Any, hidden: torch.Tensor, entropy: torch.Tensor) -> None:
    """Raise FtlabError unless `entropy` [tokens], which is TRL's, equals that of the logits computed here."""
    log_p = head_logits(model, hidden).log_softmax(-1)
    computed = -(log_p.exp() * log_p).sum(-1)
    if not bool(((computed - entropy).abs() <= _SAME * (1 + computed)).all()):
        raise FtlabError(
            "The loss eaft cannot be computed on this base",
            why="Its logits do not come from its head alone.",
            try_="optimisation.loss=dft or nll",
        )


def _entropies(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """`_entropy` at each of the `hidden` states [tokens, width], a part of the logits at a time."""
    words = base_of(model).get_output_embeddings().weight.shape[0]
    pieces = hidden.split(max(1, MOST_BYTES // (4 * words)))
    return torch.cat([_entropy(head_logits(model, piece)) for piece in pieces])


class FineTuner(WarmsUp, SFTTrainer):
    """Checkpoints of bottleneck adapters contain the adapters alone, as those of PEFT do."""

    args: SFTConfig
    _evaluated = (0.0, 0)  # nats and trained tokens of the current evaluation

    def __init__(self, *arguments: Any, teacher: Teacher | None = None, token_loss: str = "nll", **settings: Any):
        """`teacher` has the base's probabilities for the rows with a number in the column `held`; `token_loss` is the
        loss of all other rows (`summed_loss`)."""
        super().__init__(*arguments, **settings)
        self._token_loss = token_loss
        self._holds = teacher is not None
        if teacher is not None:
            self.data_collator = HoldingCollator(**vars(self.data_collator), teacher=teacher)
        base = base_of(self.model)
        self._vocabulary = base.get_output_embeddings().weight.shape[0]
        # Any other loss is left to TRL.
        self._plain_loss = (
            self.args.loss_type == "nll"
            and self.compute_loss_func is None
            and self.label_smoother is None
            and not self.aux_loss_enabled
            and "logits_to_keep" in inspect.signature(type(base).forward).parameters
        )

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not model.training:
            self._leave_repeated_rows_out(inputs)
        targets = take_targets(inputs)
        # The validation loss is always the plain one: that of dft is lowest where all tokens are unlikely.
        loss = self._token_loss if model.training else "nll"
        if not return_outputs and self._plain_loss and self._head_fits(inputs):
            result: Any = self._labeled_loss(model, inputs, num_items_in_batch, targets, loss)
        else:
            with weighted(self.model, loss):
                if targets is not None:
                    result = self._held_loss(model, inputs, num_items_in_batch, targets)
                else:
                    result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not model.training:
            mean = result[0] if isinstance(result, tuple) else result
            tokens = int((inputs["labels"][..., 1:] != -100).sum())
            self._evaluated = (self._evaluated[0] + float(mean) * tokens, self._evaluated[1] + tokens)
        return result

    @property
    def _is_training(self) -> bool:
        return self.model is not None and self.model.training

    def _head_fits(self, inputs: dict[str, Any]) -> bool:
        """The same in all processes, because each way to compute the loss exchanges other figures between them."""
        if self.accelerator.device.type != "cpu":
            return False  # in all of them, so there is nothing to exchange at every step
        return not together.total(not fits(inputs, self._vocabulary))[0]

    def _held_loss(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any, targets: Targets) -> torch.Tensor:
        """TRL's loss on the other tokens plus the divergence of the held ones, from the same forward pass."""
        labels = inputs["labels"]
        inputs["labels"] = labels.masked_fill(targets.places, -100)
        with hidden_states(self.model) as states:
            loss = super().compute_loss(model, inputs, False, num_items_in_batch)
        apart = divergence_of(self.model, states[-1], targets)
        held = len(targets.top)
        self._metrics["train"]["kl"].append(float(apart.detach()) / max(1, held))
        if num_items_in_batch is not None:
            scale = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            return loss + scale * apart / torch.as_tensor(num_items_in_batch).clamp(min=1)
        others = int((inputs["labels"][..., 1:] != -100).sum())
        return (loss * others + apart) / max(1, others + held)

    def _labeled_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any, targets: Targets | None, loss: str
    ) -> torch.Tensor:
        """TRL's loss and figures from the logits at the labels alone, plus the divergence of the held tokens."""
        inputs["use_cache"] = False
        if targets is None:
            total, tokens, correct = score_labels(model, inputs, loss)
            every = tokens
        else:
            logits, labels, apart = score_held(model, inputs, targets)
            tokens, correct = len(labels), int((logits.argmax(-1) == labels).sum())
            self._metrics["train"]["kl"].append(float(apart.detach()) / max(1, len(targets.top)))
            total, every = summed_loss(loss, logits, labels) + apart, tokens + len(targets.top)
        mean = total / torch.as_tensor(every if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            mean = mean * self.accelerator.num_processes
        mode = "train" if model.training else "eval"
        if mode == "train":
            read = torch.tensor(inputs["input_ids"].numel())
            self._total_train_tokens += int(self.accelerator.gather_for_metrics(read).sum())
        right, all_tokens = (
            self.accelerator.gather_for_metrics(torch.tensor(value)).sum().item() for value in (correct, tokens)
        )
        self._metrics[mode]["mean_token_accuracy"].append(right / max(1, all_tokens))
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        return mean

    def evaluation_loop(self, *arguments: Any, **settings: Any) -> Any:
        """As the Trainer's, which averages over batches of any size; here each token counts once."""
        self._evaluated = (0.0, 0)
        output = super().evaluation_loop(*arguments, **settings)
        name = f"{settings.get('metric_key_prefix', 'eval')}_loss"
        total, tokens = together.total(*self._evaluated)
        if output.metrics is not None and name in output.metrics and tokens:
            output.metrics[name] = total / tokens
        return output

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: list[str] = self._signature_columns or []
        if self._holds and "held" not in columns:
            # transformers declares it with its first value, None.
            self._signature_columns = [*columns, "held"]  # type: ignore[assignment]

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        # Before the count, because the loss is the mean over the trained tokens.
        if batch_samples and self._is_training:
            self._leave_repeated_rows_out(batch_samples[-1])
        return super()._get_num_items_in_batch(batch_samples, device)

    def _leave_repeated_rows_out(self, inputs: dict[str, Any]) -> None:
        """Remove the labels of rows that accelerate repeats at the end of the data to fill the batches of all
        processes: the loss is then that of one process with all rows of the step."""
        state = self.accelerator.gradient_state
        # 0: no rows are left over; -1: accelerate cannot tell, and repeats none.
        if self.args.world_size == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return
        size = self.args.per_device_train_batch_size if self._is_training else self.args.per_device_eval_batch_size
        own = max(0, state.remainder - self.args.process_index * size)  # rows of this process that are not repeated
        labels = inputs["labels"]
        if "cu_seq_lens_q" not in inputs:
            labels[own:] = -100
        elif own + 1 < len(inputs["cu_seq_lens_q"]):
            labels[:, int(inputs["cu_seq_lens_q"][own]) :] = -100

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not has_bottlenecks(self.model):
            return super()._save(output_dir, state_dict)
        if not self.args.should_save:
            return None
        folder = Path(output_dir or str(self.args.output_dir))
        save_bottlenecks(self.model, folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(str(folder))
        return None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not has_bottlenecks(self.model):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        return load_weights(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best is None or not has_bottlenecks(self.model):
            return super()._load_best_model()
        check_sealed(Path(best))
        return load_weights(self.model, Path(best))
