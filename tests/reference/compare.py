"""How numbers are compared: float64, random weights in every parameter, outputs and gradients, to 1e-12."""

import torch
from torch import Tensor, nn


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with N(0, 0.3²) added to every parameter: none stays zero or one, no softmax saturates."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            assert parameter.ne(0).all()
    return module


def normal(*shape: int, seed: int = 1, grad: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


def gradients(outputs: Tensor | tuple[Tensor, ...], of: list[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of a random projection of the outputs; an unused parameter is an error."""
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    loss = sum((output * normal(*output.shape, seed=7, grad=False)).sum() for output in outputs)
    return torch.autograd.grad(loss, of, retain_graph=True)


def assert_equal(ours, theirs, what: str = "outputs", tolerance: float = 1e-12) -> float:
    """Largest difference, against the largest value where that is above one; tensors or tuples of tensors."""
    ours, theirs = ((x,) if isinstance(x, Tensor) else tuple(x) for x in (ours, theirs))
    assert len(ours) == len(theirs), f"{what}: {len(ours)} tensors against {len(theirs)}"
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape, f"{what}: shape {tuple(a.shape)} against {tuple(b.shape)}"
        assert a.dtype == b.dtype, f"{what}: {a.dtype} against {b.dtype}"
        worst = max(worst, ((a - b).abs().max() / b.abs().max().clamp(min=1)).item())
        assert not (torch.isnan(a).any() or torch.isnan(b).any()), f"{what}: NaN"
    assert worst <= tolerance, f"{what} differ by {worst:.2g}"
    print(f"{what} differ by {worst:.2g}")
    return worst
