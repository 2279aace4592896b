"""TRL's SFTTrainer with what ftlab's own adapters and quantised bases need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from trl import SFTTrainer

from ftlab.models.bottleneck import has_bottlenecks, load_weights, save_bottlenecks


class FineTuner(SFTTrainer):
    """Checkpoints of bottleneck adapters hold the adapters alone, as PEFT's do; adapters are float32 on any base."""

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        # TRL casts adapters on a quantised base to bfloat16: slow on a CPU, and not possible on cards without it.
        if is_peft_model(self.model):
            for parameter in self.model.parameters():
                if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
                    parameter.data = parameter.data.float()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not has_bottlenecks(self.model):
            return super()._save(output_dir, state_dict)
        if not self.args.should_save:
            return None
        folder = Path(output_dir or self.args.output_dir)
        save_bottlenecks(self.model, folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(str(folder))
        return None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not has_bottlenecks(self.model):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        return load_weights(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if not has_bottlenecks(self.model):
            return super()._load_best_model()
        return load_weights(self.model, Path(self.state.best_model_checkpoint))
