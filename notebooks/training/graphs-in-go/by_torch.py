"""The gradient of x*x*x at 3 by PyTorch, with the graph kept and broken, beside a difference."""

import torch  # type: ignore[import-not-found, unused-ignore]

WAYS = {
    "kept": lambda x: x * x * x,
    "through a value": lambda x: x * x * x.item(),
    "all through a value": lambda x: torch.tensor(x.item() ** 3),
    "stopped": lambda x: x * x * x.detach(),
}
STEP = 1e-4


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


for name, cube in WAYS.items():
    x = number(3.0).requires_grad_()
    y = cube(x)
    try:
        y.backward()
    except RuntimeError as error:
        print(f"{name}: {str(error).splitlines()[0]}")
        continue
    difference = (cube(number(3 + STEP)) - cube(number(3 - STEP))).item() / (2 * STEP)
    numbers = {"value": y.item(), "gradient": x.grad.item(), "difference": difference}
    print(f"{name}:", ", ".join(f"{what} {each:.4f}" for what, each in numbers.items()))
