"""Leaving a step out after it was taken: the decision stays on the device, so the host never waits for it."""

import torch
from torch import Tensor, nn


class Undo:
    """Keeps a copy of weights, buffers and optimizer state (their memory, once more) while `trainer.on_nonfinite=skip`.

    What an optimizer counts on the host, such as Ranger21's own step, goes on counting: a step left out is one whose
    gradient was zero and whose effect was taken back. What it counts on the device, as a fused step does, is put back.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        self._saved: list[tuple[Tensor, Tensor]] = []

    def _tensors(self) -> list[Tensor]:
        device = next(self._model.parameters()).device
        state = (v for s in self._optimizer.state.values() for v in s.values() if isinstance(v, Tensor))
        return [*self._model.parameters(), *self._model.buffers(), *(t for t in state if t.device == device)]

    @torch.no_grad()
    def remember(self) -> None:
        self._saved = [(tensor, tensor.detach().clone()) for tensor in self._tensors()]

    @torch.no_grad()
    def mask_gradients(self, bad: Tensor) -> None:
        """Zero gradients if the step is bad, so that state made by this very step is clean too."""
        for param in self._model.parameters():
            if param.grad is not None:
                param.grad.copy_(torch.where(bad, 0.0, param.grad))

    @torch.no_grad()
    def restore(self, bad: Tensor) -> None:
        """Puts everything back if the step is bad."""
        for tensor, saved in self._saved:
            tensor.copy_(torch.where(bad, saved, tensor))
        self._saved = []
