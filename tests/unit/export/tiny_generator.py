"""A llama of two layers whose weights are random and whose answers vary."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY, POSITIONS, STOP = 300, 512, 2


def write_tiny_generator(folder: Path) -> Path:
    """Write config.json and model.safetensors, the same at every call; return the folder."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        # Larger than a trained model's: else the input alone decides every answer.
        initializer_range=0.5,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=STOP,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    return folder
