"""torch's ``nn.MultiheadAttention`` with an adapter. Imported only where adapters are used: it needs ``peft``."""

from typing import Any

import torch as th
from peft.tuners.lora.layer import MultiheadAttention


class AdaptedAttention(MultiheadAttention):
    """
    peft's, but the layer's own weights are read, never written. peft's adds the change to the weights and takes it off
    again at each call, which rounds them.
    """

    def forward(self, query: th.Tensor, *args: Any, **kwargs: Any) -> Any:
        base: Any = self.base_layer
        out = base.out_proj  # the attention reads its weight itself, so its own adapter is not called either
        (adapter,) = self.lora_A
        changed = {
            "in_proj_weight": base.in_proj_weight + self.get_delta_weight(adapter),
            "out_proj.base_layer.weight": out.base_layer.weight + out.get_delta_weight(adapter),
        }
        return th.func.functional_call(base, changed, (query, *args), kwargs)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        base: Any = self.base_layer
        (adapter,) = self.lora_A
        base.in_proj_weight.data += self.get_delta_weight(adapter)

    def _restore_weights(self) -> None:
        """Nothing was taken from the layer that would have to be put back."""
