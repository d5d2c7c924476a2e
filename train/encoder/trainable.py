"""Which weights are trained: all of them, those above the first layers, or low-rank updates that are merged in at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from train.encoder.params import LoraParams, TrainParams
from twinline.contract.errors import SettingsError

if TYPE_CHECKING:
    from peft import LoraModel
    from transformers import PreTrainedModel


class Adapted:
    """A backbone whose linear layers have low-rank updates beside their weights, which do not move."""

    def __init__(self, model: LoraModel) -> None:
        self._model = model

    def merge(self) -> None:
        """Add the updates to the weights, and take the layers apart again: what is left is a model like any other.

        The layers are exchanged in place, so whoever holds the backbone has the merged one.
        """
        self._model.merge_and_unload(safe_merge=True)


def choose_trainable(backbone: PreTrainedModel, params: TrainParams) -> Adapted | None:
    """Freeze what the parameters say; return what has to be merged after the training, or None.

    Raises:
        SettingsError: the backbone has fewer layers than are to be frozen, or none of LoRA's targets.
    """
    if params.lora.rank:
        return _add_lora(backbone, params.lora)
    if params.freeze_layers is not None:
        freeze(backbone, params.freeze_layers)
    return None


def freeze(backbone: PreTrainedModel, count: int) -> None:
    """Keep the embeddings and the first `count` layers as they are. Their gradients are not computed either.

    Raises:
        SettingsError: there are not that many layers, or none would be left to train.
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
    """Return how many numbers are trained, and how many there are."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def _layers(backbone: PreTrainedModel) -> nn.ModuleList:
    """Return the transformer's layers, whatever a family of models calls them: the list that is as long as the config says."""
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
        # Not get_peft_model: the wrapper's own forward and files are not wanted, only layers exchanged in the backbone.
        return Adapted(LoraModel(backbone, {"default": config}, "default"))
    except ValueError as exc:
        raise SettingsError(
            f"params.yaml encoder.train.lora.targets = {params.targets} does not fit {type(backbone).__name__}: {exc}; "
            "name ends of its linear layers' names, or leave the list empty for all of them"
        ) from exc
