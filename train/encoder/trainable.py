"""The trained weights: all, the layers above the first ones, or low-rank updates that are merged in at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from train.encoder.params import LoraParams, TrainParams
from twinline.contract.errors import SettingsError

if TYPE_CHECKING:
    from peft import LoraModel
    from transformers import PreTrainedModel


class Adapted:
    """A backbone with frozen weights, and low-rank updates beside those of its linear layers."""

    def __init__(self, model: LoraModel) -> None:
        self._model = model

    def merge(self) -> None:
        """Add the updates to the weights and remove the extra layers, so that a plain model is left.

        The layers are exchanged in place: every reference to the backbone sees the merged model.
        """
        self._model.merge_and_unload(safe_merge=True)


def choose_trainable(backbone: PreTrainedModel, params: TrainParams) -> Adapted | None:
    """Freeze weights by the parameters; return the updates to merge after the training, or None.

    Raises:
        SettingsError: the backbone has too few layers to freeze, or none of LoRA's targets.
    """
    if params.lora.rank:
        return _add_lora(backbone, params.lora)
    if params.freeze_layers is not None:
        freeze(backbone, params.freeze_layers)
    return None


def freeze(backbone: PreTrainedModel, count: int) -> None:
    """Freeze the embeddings and the first `count` layers, without gradients.

    Raises:
        SettingsError: there are too few layers, or none would be left to train.
    """
    layers = _layers(backbone)
    if count >= len(layers):
        raise SettingsError(
            f"params.yaml encoder.train.freeze_layers = {count}: the base model has {len(layers)} layers, and one at least must "
            f"be trained; choose {len(layers) - 1} or less, or null"
        )
    embeddings = getattr(backbone, "embeddings", None) or backbone.get_input_embeddings()
    for part in (embeddings, *layers[:count]):
        part.requires_grad_(False)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of trained parameters, and of all parameters."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def _layers(backbone: PreTrainedModel) -> nn.ModuleList:
    """Return the transformer's layers, under any name: the list whose length is in the config."""
    wanted = backbone.config.num_hidden_layers
    found = [module for module in backbone.modules() if isinstance(module, nn.ModuleList) and len(module) == wanted]
    if not found:
        raise SettingsError(
            f"params.yaml encoder.train.freeze_layers: {type(backbone).__name__} has no list of {wanted} layers; set it to null"
        )
    return found[0]


def _add_lora(backbone: PreTrainedModel, params: LoraParams) -> Adapted:
    from peft import LoraConfig, LoraModel, TaskType

    targets: Any = list(params.targets) or "all-linear"
    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=targets,
        task_type=TaskType.FEATURE_EXTRACTION,
    )
    try:
        # Not get_peft_model: its wrapper brings a forward and files of its own, and only exchanged layers are needed.
        return Adapted(LoraModel(backbone, {"default": config}, "default"))
    except ValueError as exc:
        raise SettingsError(
            f"params.yaml encoder.train.lora.targets = {params.targets} does not fit {type(backbone).__name__}: {exc}; "
            "name ends of its linear layers' names, or leave the list empty for all of them"
        ) from exc
