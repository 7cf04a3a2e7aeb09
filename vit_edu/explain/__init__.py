"""What a trained model looks at, as plain functions; the explorers draw what these compute."""

from .attention import AttentionMap, attention_distance, attention_entropy, attention_maps, rollout
from .evaluating import evaluating, unwrapped
from .receptive_field import effective_receptive_field, effective_receptive_fields, layers_of

__all__ = [
    "AttentionMap",
    "attention_distance",
    "attention_entropy",
    "attention_maps",
    "effective_receptive_field",
    "effective_receptive_fields",
    "evaluating",
    "layers_of",
    "rollout",
    "unwrapped",
]
