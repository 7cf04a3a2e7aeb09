"""Two models of one set of weights: outputs, every gradient and every buffer compared, in train and eval mode."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.reference.compare import assert_equal, gradients


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in float64 with N(0, 0.3²) added to every parameter, to a matrix N(0, 1 / its inputs): however wide and
    deep the model, none stays zero or one, nothing grows or vanishes, no softmax saturates."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.double().named_parameters():
            matrix = parameter.ndim > 1 and name.endswith("weight")
            std = parameter[0].numel() ** -0.5 if matrix else 0.3
            parameter += std * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            assert parameter.ne(0).all()
    return model


def settled(model: nn.Module, images: Tensor, seed: int = 3) -> nn.Module:
    """`randomised`, and every batch norm's running statistics those of the images, shaken."""
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in randomised(model).modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images.double())
        for norm in norms:
            norm.momentum = 0.1
            norm.running_mean += (
                norm.running_var.sqrt() * 0.3 * torch.randn(norm.running_mean.shape, generator=generator)
            )
            norm.running_var *= 0.5 + torch.rand(norm.running_var.shape, generator=generator)
    return model


def copy_weights(ours: nn.Module, theirs: nn.Module, rename: Callable[[str], str] = str) -> None:
    """Theirs into ours, strictly; rename(their name) is ours."""
    ours.to(next(theirs.parameters()).dtype)
    ours.load_state_dict({rename(name): value for name, value in theirs.state_dict().items()})


def assert_twins(
    ours: nn.Module, theirs: nn.Module, images: Tensor, rename: Callable[[str], str] = str, tolerance: float = 1e-10
) -> None:
    """One forward and backward of each; their weights must lie in ours already. Some peers write into the images."""
    assert all(module.training == ours.training for module in [*ours.modules(), *theirs.modules()])
    mine, reference = (images.detach().clone().requires_grad_() for _ in range(2))
    our_output, their_output = ours(mine), theirs(reference * 1)
    assert_equal(our_output, their_output, tolerance=tolerance)
    named = [(rename(name), parameter) for name, parameter in theirs.named_parameters() if parameter.requires_grad]
    assert {name for name, _ in named} == {n for n, parameter in ours.named_parameters() if parameter.requires_grad}
    our_gradients = gradients(our_output, [mine, *(ours.get_parameter(name) for name, _ in named)])
    their_gradients = gradients(their_output, [reference, *(parameter for _, parameter in named)])
    assert_equal(our_gradients, their_gradients, "gradients", tolerance)
    their_buffers = {rename(name): buffer for name, buffer in theirs.named_buffers()}
    for name, buffer in ours.named_buffers():
        assert_equal(buffer.double(), their_buffers[name].double(), name, tolerance)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def counted(monkeypatch, **functions: tuple[object, str]) -> dict[str, int]:
    """Counts calls by name; counted(monkeypatch, fused=(F, "softmax")) counts those of F.softmax."""
    counts = dict.fromkeys(functions, 0)

    def watch(name: str, function: Callable) -> Callable:
        def call(*args, **words):
            counts[name] += 1
            return function(*args, **words)

        return call

    for name, (module, attribute) in functions.items():
        monkeypatch.setattr(module, attribute, watch(name, getattr(module, attribute)))
    return counts
