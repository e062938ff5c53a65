"""Skips a step after it was taken. The decision stays on the device, so the host never waits for it."""

import torch
from torch import Tensor, nn


class Undo:
    """Copies weights, buffers, their average and optimizer state before each step, for `trainer.on_nonfinite=skip`.

    The copy needs as much memory as the originals. Counters that an optimizer keeps on the host, such as Ranger21's
    step, still advance in a skipped step; counters on the device, such as those of a fused step, are restored.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None = None) -> None:
        self._model, self._optimizer = model, optimizer
        self._models = nn.ModuleList([model] if average is None else [model, average])
        self._saved: list[tuple[Tensor, Tensor]] = []

    def _tensors(self) -> list[Tensor]:
        device = next(self._model.parameters()).device
        state = (v for s in self._optimizer.state.values() for v in s.values() if isinstance(v, Tensor))
        return [*self._models.parameters(), *self._models.buffers(), *(t for t in state if t.device == device)]

    @torch.no_grad()
    def remember(self) -> None:
        self._saved = [(tensor, tensor.detach().clone()) for tensor in self._tensors()]

    @torch.no_grad()
    def mask_gradients(self, bad: Tensor) -> None:
        """Set the gradients to zero if the step is bad, so that optimizer state created in this step is finite."""
        for param in self._model.parameters():
            if param.grad is not None:
                param.grad.copy_(torch.where(bad, 0.0, param.grad))

    @torch.no_grad()
    def restore(self, bad: Tensor) -> None:
        """Restore the copies if the step is bad."""
        for tensor, saved in self._saved:
            tensor.copy_(torch.where(bad, saved, tensor))
        self._saved = []
