"""Training and transfer: one loop, what is minimised, what a step sees, what a pre-trained model is good for."""

from .batches import captioned, crops, in_colour, labelled, plain, to_reconstruct
from .draws import Draws
from .loop import History, Plan, fit, new_fabric
from .objectives import Contrastive, SelfDistillation, Supervised
from .optim import adamw, layers_of, parameter_groups, schedule
from .transfer import accuracy, add_lora, features, freeze, knn, linear_probe, merge_lora

__all__ = [
    "Contrastive",
    "Draws",
    "History",
    "Plan",
    "SelfDistillation",
    "Supervised",
    "accuracy",
    "adamw",
    "add_lora",
    "captioned",
    "crops",
    "features",
    "fit",
    "freeze",
    "in_colour",
    "knn",
    "labelled",
    "layers_of",
    "linear_probe",
    "merge_lora",
    "new_fabric",
    "parameter_groups",
    "plain",
    "schedule",
    "to_reconstruct",
]
