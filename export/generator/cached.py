"""The graph that every format of a generator comes from: ids, mask, positions and the keys and values so far in; logits out."""

from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, Cache
from transformers.cache_utils import DynamicLayer
from transformers.utils import logging as transformers_logging

from twinline.contract.errors import ContractError

INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
POSITION_IDS: Final = "position_ids"
LOGITS: Final = "logits"


class CachedModel(torch.nn.Module):
    """A causal language model as a pure function of its inputs, without the state that transformers keeps."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.layers = int(config.num_hidden_layers)
        self.kv_heads = int(config.num_key_value_heads)
        self.head_size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self.vocabulary = int(config.vocab_size)
        self.most_positions = int(config.max_position_embeddings)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the logits `(batch, new, vocabulary)`, then keys and values `(batch, heads, all, size)` of each layer.

        Args:
            input_ids: `(batch, new)`.
            attention_mask: `(batch, past + new)`, 0 for padding.
            position_ids: `(batch, new)`.
            past: keys and values of each layer by turns, `(batch, heads, past, size)`.
        """
        layers = [_layer(past[2 * index], past[2 * index + 1]) for index in range(self.layers)]
        new, whole = input_ids.shape[1], attention_mask.shape[1]
        # transformers' own code for this mask cannot be traced.
        rows = torch.arange(new) + (whole - new)
        causal = torch.arange(whole)[None, :] <= rows[:, None]
        mask = causal[None, None, :, :] & attention_mask[:, None, None, :].to(torch.bool)
        found = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=Cache(layers=layers),
            use_cache=True,
        )
        present = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
        return (found.logits, *present)

    def example(self) -> tuple[torch.Tensor, ...]:
        """Return inputs to trace with: two rows of three new ids after two."""
        past = [torch.zeros((2, self.kv_heads, 2, self.head_size)) for _ in self.past_names()]
        positions = torch.arange(2, 5)[None].expand(2, 3).contiguous()
        return (torch.ones((2, 3), dtype=torch.int64), torch.ones((2, 5), dtype=torch.int64), positions, *past)

    def past_names(self) -> list[str]:
        """Return the names of the inputs that hold keys and values, in order."""
        return [f"past.{index}.{part}" for index in range(self.layers) for part in ("key", "value")]

    def present_names(self) -> list[str]:
        """Return the names of the outputs that hold keys and values, in order."""
        return [name.replace("past", "present", 1) for name in self.past_names()]


def load_generator(folder: Path) -> Any:
    """Return the causal language model of a folder in float32, ready to run.

    Raises:
        ContractError: the folder holds none, or one whose keys and values are not those of a plain decoder.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if not folder.is_dir():
        raise ContractError(f"{folder} does not exist: name the folder of a generator, with config.json and model.safetensors")
    try:
        # Plain calls of torch's fused attention: OpenVINO knows them and turns them into paged attention.
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    except (OSError, ValueError, KeyError, RuntimeError) as exc:
        raise ContractError(
            f"{folder} holds no causal language model that transformers can open ({exc}): it needs config.json and "
            "model.safetensors"
        ) from exc
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or not getattr(config, "num_key_value_heads", None):
        raise ContractError(
            f"{folder} is a {config.model_type} with layers of {', '.join(sorted(kinds))}: the export knows models whose layers "
            "all attend to every earlier token (llama, qwen2, qwen3)"
        )
    return model.eval()  # type: ignore[no-untyped-call]


def _layer(keys: torch.Tensor, values: torch.Tensor) -> Any:
    # Without `is_initialized` the layer would begin with a tensor of rank 1, which no frontend takes.
    layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
    layer.keys, layer.values, layer.is_initialized = keys, values, True
    layer.dtype, layer.device = keys.dtype, keys.device
    return layer
