"""The SFT trainer: logits only where there are labels, and rows of the base's answers beside training rows."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from trl import SFTConfig, SFTTrainer

from ftlab.errors import FtlabError
from ftlab.models.bottleneck import has_bottlenecks, load_weights, save_bottlenecks
from ftlab.training import holding
from ftlab.training.checkpoints import WarmsUp, check_sealed
from ftlab.training.launching import together
from ftlab.training.self_replay import Teacher
from ftlab.training.speed import base_of

ENTROPY_WORDS = 20  # of eaft, as in its paper
_SAME = 0.1  # of an entropy, far above what short formats round away
MOST_BYTES = 256 << 20  # of float32 logits; beyond, TRL's tiles save memory and lose little


def fits(inputs: dict[str, Any], vocabulary: int) -> bool:
    """Whether `inputs` are one row without padding on a CPU with few enough labels."""
    ids, labels = inputs["input_ids"], inputs.get("labels")
    if labels is None or ids.shape[0] != 1 or "position_ids" not in inputs or ids.device.type != "cpu":
        return False
    return int((labels != -100).sum()) * vocabulary * 4 <= MOST_BYTES


def score_labels(model: Any, inputs: dict[str, Any], loss: str = "nll") -> tuple[torch.Tensor, int, int]:
    """Sum of the losses (`summed_loss`, nats) of the labels of one row, their number, and how many rank first."""
    targets = inputs["labels"][0, 1:]
    places = (targets != -100).nonzero()[:, 0]
    targets = targets[places]
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, logits_to_keep=places).logits[0].float()
    correct = int((logits.argmax(-1) == targets).sum())
    return summed_loss(loss, logits, targets), len(targets), correct


def summed_loss(loss: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over the tokens of the negative log likelihood (nats) of `targets` [tokens] under `logits` [tokens,
    words] (float32), each times the weight that `loss` gives it:

    - nll: 1.
    - dft: the probability of the token (Wu et al. 2025, arXiv 2508.05629): what the model holds unlikely pulls less.
    - eaft: the entropy of the likeliest 20 words among themselves, from 0 to 1 (Diao et al. 2026, arXiv 2601.02151):
      where the model is sure of something, it is moved less.

    No gradient goes through the weights.
    """
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    if loss != "nll":
        each = each * (torch.exp(-each.detach()) if loss == "dft" else _entropy(logits.detach()))
    return each.sum()


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    """Of the likeliest words at each token, as a part of the most that it can be."""
    most = min(ENTROPY_WORDS, logits.shape[-1])
    log_p = logits.topk(most, dim=-1).values.float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1) / math.log(most)


@contextlib.contextmanager
def weighted(model: Any, loss: str) -> Iterator[None]:
    """Within it the log-probabilities of TRL's fused head (trl.trainer.utils.add_fused_lm_head, TRL 1.16) are weighted
    as in `summed_loss`, so that what TRL makes of them is that loss. Raises FtlabError for eaft on a base whose logits
    are not those of its head alone."""
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
                hidden = seen[-1][:, :-1][on]
                _check_head(model, hidden[:4], output.entropy[on][:4])
                weights[on] = _entropies(model, hidden).to(weights)
        output.log_probs = output.log_probs * weights

    with holding.hidden_states(model) as seen:
        hook = model.register_forward_hook(weigh)
        try:
            yield
        finally:
            hook.remove()


def _check_head(model: Any, hidden: torch.Tensor, entropy: torch.Tensor) -> None:
    """`entropy` [tokens] is TRL's; that of the logits as they are computed here is to be the same, but for rounding."""
    log_p = holding.head_logits(model, hidden).log_softmax(-1)
    computed = -(log_p.exp() * log_p).sum(-1)
    if not bool(((computed - entropy).abs() <= _SAME * (1 + computed)).all()):
        raise FtlabError(
            "The loss eaft cannot be computed on this base",
            why="its logits are not those of its head alone",
            try_="optimisation.loss=dft or nll",
        )


def _entropies(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """`_entropy` at each of the `hidden` states [tokens, width], without the logits of all of them at once."""
    words = holding.base_of(model).get_output_embeddings().weight.shape[0]
    pieces = hidden.split(max(1, MOST_BYTES // (4 * words)))
    return torch.cat([_entropy(holding.head_logits(model, piece)) for piece in pieces])


class FineTuner(WarmsUp, SFTTrainer):
    """Checkpoints of bottleneck adapters hold the adapters alone, as PEFT's do."""

    args: SFTConfig
    _evaluated = (0.0, 0)  # nats and trained tokens of the evaluation that goes on

    def __init__(self, *arguments: Any, teacher: Teacher | None = None, token_loss: str = "nll", **settings: Any):
        """`teacher` is what the base holds likely along the rows of the data that name one in their column `held`;
        `token_loss` is that of all others (head.summed_loss)."""
        super().__init__(*arguments, **settings)
        self._token_loss = token_loss
        self._holds = teacher is not None
        if teacher is not None:
            self.data_collator = holding.HoldingCollator(**vars(self.data_collator), teacher=teacher)
        base = base_of(self.model)
        self._vocabulary = base.get_output_embeddings().weight.shape[0]
        # Anything but the plain loss is TRL's own business.
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
        targets = holding.take_targets(inputs)
        # The validation loss is always the plain one: that of dft is least where the model holds nothing likely.
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
        """All processes answer the same: each way of the loss has them exchange different figures."""
        if self.accelerator.device.type != "cpu":
            return False  # for all of them, so there is nothing to ask at every step
        return not together.total(not fits(inputs, self._vocabulary))[0]

    def _held_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any, targets: holding.Targets
    ) -> torch.Tensor:
        """TRL's loss of the other tokens, and the divergence of the held ones from the same forward pass."""
        labels = inputs["labels"]
        inputs["labels"] = labels.masked_fill(targets.places, -100)
        with holding.hidden_states(self.model) as seen:
            loss = super().compute_loss(model, inputs, False, num_items_in_batch)
        apart = holding.divergence_of(self.model, seen[-1], targets)
        held = len(targets.top)
        self._metrics["train"]["kl"].append(float(apart.detach()) / max(1, held))
        if num_items_in_batch is not None:
            scale = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            return loss + scale * apart / torch.as_tensor(num_items_in_batch).clamp(min=1)
        others = int((inputs["labels"][..., 1:] != -100).sum())
        return (loss * others + apart) / max(1, others + held)

    def _labeled_loss(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any, targets: holding.Targets | None, loss: str
    ) -> torch.Tensor:
        """TRL's loss and figures, from the logits of the labeled positions alone; the divergence of the held ones."""
        inputs["use_cache"] = False
        if targets is None:
            total, tokens, correct = score_labels(model, inputs, loss)
            every = tokens
        else:
            logits, labels, apart = holding.score_held(model, inputs, targets)
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
        """As the Trainer's, but each token counts once: it takes the mean of the batches, whatever their size."""
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
            # transformers declares it by its first value, None.
            self._signature_columns = [*columns, "held"]  # type: ignore[assignment]

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        # Before they are counted: the loss is the mean over the tokens that are trained.
        if batch_samples and self._is_training:
            self._leave_repeated_rows_out(batch_samples[-1])
        return super()._get_num_items_in_batch(batch_samples, device)

    def _leave_repeated_rows_out(self, inputs: dict[str, Any]) -> None:
        """Nothing is learned or counted of rows that accelerate repeats at the end of the data, so that each of several
        processes has a whole batch: the loss is that of one process with all rows of the step."""
        state = self.accelerator.gradient_state
        # 0: the rows came out even; -1: accelerate cannot tell, and repeats none.
        if self.args.world_size == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return
        size = self.args.per_device_train_batch_size if self._is_training else self.args.per_device_eval_batch_size
        own = max(0, state.remainder - self.args.process_index * size)  # rows of this process that are no repetition
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
