"""What ftlab uses of other libraries without their promise: private names that it overrides, calls or replaces, and
code whose steps it repeats.

`test_private_names.py` fails when one of them changes, and when ftlab uses a private name that is not listed here.
After reading the difference and what ftlab makes of it, `python -m tests.unit.test_private_names` renews the versions
and hashes.
"""

from __future__ import annotations

from dataclasses import dataclass

# The versions that the hashes are of.
CHECKED_WITH: dict[str, str] = {
    "IPython": "9.18.1",
    "bitsandbytes": "0.50.2",
    "evaluate": "0.4.6",
    "gradio": "6.31.0",
    "httpcore": "1.0.9",
    "httpx": "0.28.1",
    "lm_eval": "0.4.13",
    "peft": "0.21.2",
    "sacrebleu": "2.6.0",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "trl": "1.16.0",
}


@dataclass(frozen=True)
class Inside:
    """`name` is dotted, as it is defined in its file; `attributes` are private ones whose meaning follows from its
    source. `hash` is the beginning of the SHA-256 of that source."""

    name: str
    why: str
    hash: str
    attributes: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        return self.name.split(".")[0]


INSIDES = (
    # training/speed.py: tiles on the CPU
    Inside(
        "trl.kernels.chunked_logprob.ChunkedLogProbFunction",
        "replaced on the CPU by small tiles over labels alone",
        "4f1948be41ebb368",
    ),
    Inside(
        "trl.kernels.chunked_logprob._use_triton",
        "replaced: where it says yes, only positions of labels arrive",
        "8bdca0eb73925ed1",
    ),
    # training/trainer.py
    Inside(
        "trl.trainer.utils.add_fused_lm_head",
        "its logits are repeated, its log-probabilities weighted; it looks up what speed.py replaces",
        "cb5d409ff0e7fcb6",
        attributes=("_ChunkedLogProbFunction", "_use_triton"),
    ),
    Inside(
        "trl.trainer.sft_trainer.SFTTrainer.compute_loss",
        "its figures are logged where the loss is computed from the labels' logits alone",
        "9f7314f00afc948a",
        attributes=("_metrics", "_total_train_tokens"),
    ),
    Inside(
        "trl.trainer.sft_trainer.SFTTrainer._set_signature_columns_if_needed",
        "overridden: the column `held` reaches the collator",
        "c3470cad0224d71b",
        attributes=("_signature_columns",),
    ),
    Inside(
        "transformers.trainer.Trainer._get_num_items_in_batch",
        "overridden: repeated rows do not count",
        "f410c5abcb2c008a",
    ),
    Inside(
        "transformers.trainer.Trainer._save",
        "overridden: bottleneck adapters; no reference adapter",
        "474dccadfb2b62ef",
    ),
    Inside("transformers.trainer.Trainer._load_from_checkpoint", "overridden: bottleneck adapters", "78a1b06202f2abce"),
    Inside(
        "transformers.trainer.Trainer._load_best_model",
        "overridden: a damaged checkpoint is refused",
        "d4b5ca1e64a3fc9a",
    ),
    # training/preflight/rate_trial.py
    Inside("transformers.trainer.Trainer._prepare_inputs", "called: the loss of single rows", "678e73cee20fc6e6"),
    # training/checkpoints.py
    Inside(
        "torch.optim.lr_scheduler.LRScheduler.get_last_lr",
        "what it returns is set: the first rate is above zero",
        "a9a788f4d2ba7e2a",
        attributes=("_last_lr",),
    ),
    # training/preferences.py
    Inside(
        "trl.trainer.dpo_trainer.DPOTrainer._prepare_dataset",
        "overridden: the rows are tokens already",
        "730d746e3e536a18",
    ),
    Inside(
        "trl.trainer.kto_trainer.KTOTrainer._prepare_dataset",
        "overridden: the rows are tokens already",
        "b5da8daedea2bbb4",
    ),
    Inside(
        "trl.trainer.reward_trainer.RewardTrainer.compute_loss",
        "the mean scores of both sides are added to its figures",
        "d079302cee20445e",
        attributes=("_metrics",),
    ),
    # training/reinforcement.py
    Inside(
        "trl.trainer.grpo_trainer.GRPOTrainer._tokenize_prompts",
        "overridden: prompts as evaluation asks",
        "b4e01bf6a98d84e4",
    ),
    Inside(
        "trl.trainer.rloo_trainer.RLOOTrainer._tokenize_prompts",
        "overridden: prompts as evaluation asks",
        "04b6a9e210fb2604",
    ),
    Inside(
        "trl.trainer.grpo_trainer.GRPOTrainer._calculate_rewards", "overridden: repetition, samples", "ac9cbe0e36fc1638"
    ),
    Inside(
        "trl.trainer.rloo_trainer.RLOOTrainer._calculate_rewards", "overridden: repetition, samples", "08b7298ff61dd78e"
    ),
    Inside(
        "trl.trainer.grpo_trainer.GRPOTrainer.log", "figures are added", "8c61eafab8d1d6f8", attributes=("_metrics",)
    ),
    Inside(
        "trl.trainer.rloo_trainer.RLOOTrainer.log", "figures are added", "167882842c26ec6d", attributes=("_metrics",)
    ),
    # training/speed.py: padding, and models/families.py
    Inside(
        "transformers.modeling_utils.PreTrainedModel._supports_attention_backend",
        "read: own attention",
        "bd60288165e3f323",
    ),
    Inside(
        "transformers.modeling_utils.PreTrainedModel._is_stateful",
        "read: a state that runs through text",
        "6d092438f29e4be4",
    ),
    Inside(
        "transformers.configuration_utils.PreTrainedConfig._attn_implementation",
        "read: own attention",
        "fcd96e48783e0d23",
    ),
    # evaluation/generate.py
    Inside("transformers.generation.utils.GenerationMixin._sample", "its steps are repeated", "5a45138adb780e6b"),
    Inside("transformers.generation.utils.GenerationMixin._prefill", "called: a step of _sample", "62ec19b627adbbac"),
    Inside(
        "transformers.generation.utils.GenerationMixin._update_model_kwargs_for_generation",
        "called: a step of _sample",
        "81e72b653d8ab863",
    ),
    Inside(
        "transformers.generation.utils.GenerationMixin._prepare_position_ids_for_generation",
        "called: rows that join a batch that is under way",
        "812c13ed535e4fc2",
    ),
    # evaluation/roomy_cache.py
    Inside(
        "transformers.cache_utils.DynamicLayer.update",
        "overridden: keys and values with room to grow",
        "f23a62b51a9aee07",
    ),
    # data/safe_templates.py
    Inside(
        "transformers.utils.chat_template_utils._compile_jinja_template",
        "replaced: templates run apart",
        "1bc249cd809fe00c",
    ),
    Inside(
        "transformers.utils.chat_template_utils._cached_compile_jinja_template",
        "called in that process",
        "e92569285206ccda",
    ),
    Inside(
        "transformers.utils.chat_template_utils._render_with_assistant_indices",
        "called in that process",
        "9240cb2e3211bbcb",
    ),
    # models/bases/gguf_file.py
    Inside(
        "transformers.modeling_gguf_pytorch_utils.load_gguf_checkpoint",
        "its tqdm is replaced: progress",
        "36738cd43a56fb1a",
    ),
    Inside(
        "transformers.integrations.gguf.kernels.kernelize_ggml_layers",
        "replaced: no code from the Hub",
        "1394004a745b7242",
    ),
    # models/adapters.py
    Inside(
        "peft.tuners.tuners_utils.BaseTunerLayer.enable_adapters",
        "its switch is set directly, which takes less time",
        "08b48e307490962f",
        attributes=("_disable_adapters",),
    ),
    # models/load.py
    Inside("bitsandbytes.nn.modules.Linear4bit.forward", "its repacking for CPUs is switched off", "c1737ee704310e47"),
    # training/speed.py: LoRA
    Inside("peft.tuners.lora.layer.Linear.forward", "replaced: its products are joined", "721a79229df0c5b3"),
    # evaluation/metrics
    Inside("evaluate.module.EvaluationModule._info", "overridden, as its documentation asks", "763c8f4374dec831"),
    Inside(
        "evaluate.module.EvaluationModule._compute",
        "overridden, as its documentation asks; called a row",
        "e9c126064f1c1fe9",
    ),
    Inside(
        "sacrebleu.metrics.base.Metric._extract_corpus_statistics",
        "called: what is counted in each row",
        "cab6e0b11cd366a4",
    ),
    Inside(
        "sacrebleu.metrics.bleu.BLEU.compute_bleu",
        "its formula is repeated, for many corpora at once",
        "a854fc54c42c04b4",
    ),
    Inside(
        "sacrebleu.metrics.chrf.CHRF._compute_f_score",
        "its formula is repeated, for many corpora at once",
        "89a3418b90822b7a",
    ),
    # evaluation/harness.py
    Inside("lm_eval.models.huggingface.HFLM._model_call", "overridden: it can be stopped", "326b05cc34b22dfb"),
    Inside("lm_eval.models.huggingface.HFLM._model_generate", "overridden: it can be stopped", "fd511c6e4d826f40"),
    # core/web.py
    Inside(
        "httpx._client.Client.__init__",
        "its transports are read: private addresses are refused where they are connected to",
        "c43ed5207eb4767e",
        attributes=("_transport", "_mounts"),
    ),
    Inside(
        "httpx._transports.default.HTTPTransport.__init__",
        "its pool is read",
        "ab57e4066080de73",
        attributes=("_pool",),
    ),
    Inside(
        "httpcore._sync.connection_pool.ConnectionPool.__init__",
        "its backend is replaced",
        "a318f2532da4dfaa",
        attributes=("_network_backend",),
    ),
    # api/display.py
    Inside(
        "IPython.core.interactiveshell.InteractiveShell._showtraceback",
        "called: an error in one line",
        "ae5640dbbfeeb211",
    ),
    # ui
    Inside("gradio.events.EventData", "read: what a click brings", "56956f9471a198a5", attributes=("_data",)),
    Inside(
        "gradio.blocks.Block.__init__", "read: names a component on the page", "9bdb487ed9e2da93", attributes=("_id",)
    ),
)
