"""The training loop. It handles tensors, steps and ranks, but knows no concrete model, dataset or optimizer."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ranger21.engine.batch_norm import average_over_ranks, unchanged_buffers
from ranger21.engine.boundary import Boundary, Ending
from ranger21.engine.clock import Clock
from ranger21.engine.parts import Callbacks, TrainSetup, TrainState
from ranger21.system import randomness
from ranger21.system.distributed import no_sync


def train(setup: TrainSetup, state: TrainState, callbacks: Callbacks) -> Ending:
    """Train from `state.progress.step` until the run is finished, has diverged, or is stopped by a signal."""
    progress = state.progress
    clock = Clock(progress.seconds, setup.plan.checkpoint_every_minutes)
    clock.restart(progress.step)
    boundary = Boundary(setup, state, callbacks, clock)
    setup.model.train()
    grad_norm: Tensor | None = None
    while (ending := boundary.cross(grad_norm)) is None:
        grad_norm = take_step(setup, state, progress.step + 1, clock)
        progress.step += 1
        callbacks.tracker.progress(progress.step)
    boundary.close()
    return ending


def take_step(setup: TrainSetup, state: TrainState, step: int, clock: Clock) -> Tensor | None:
    """Take one optimizer step; return the norm of the unclipped gradient, if known. The host never waits."""
    world, optimizer, scaler = setup.world, state.optimizer, state.scaler
    torch.manual_seed(randomness.seed(randomness.NOISE, setup.seed, step, world.rank))
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * setup.schedule(step, setup.plan.total_steps)
    if setup.undo:
        setup.undo.remember()
    bad = torch.zeros((), dtype=torch.bool, device=world.device)
    passes = setup.plan.passes(step)
    for number in range(passes):
        batch = clock.wait_for(setup.batches)
        with no_sync(setup.model) if number < passes - 1 else nullcontext():
            bad = bad | ~torch.isfinite(forward_backward(setup, state, batch, passes))
    grad_norm = None
    if setup.plan.logs(step) or setup.undo or setup.clip_grad_norm:
        grad_norm = gradient_norm(state)
    if setup.clip_grad_norm:
        torch.nn.utils.clip_grads_with_norm_(state.model.parameters(), setup.clip_grad_norm, grad_norm)  # type: ignore[arg-type]
    if setup.undo:
        if not scaler.is_enabled():  # an overflow that the scaler handles is not a divergence
            bad = bad | ~torch.isfinite(grad_norm)  # type: ignore[arg-type]
        bad = world.reduce(bad.to(torch.int32), "max").bool()
        setup.undo.mask_gradients(bad)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if setup.averages_statistics:
        average_over_ranks(state.model, world)
    if state.ema:
        state.ema.update(state.model)
    if setup.undo:
        setup.undo.restore(bad)
        state.nonfinite.left_out(step, bad)
    else:
        state.nonfinite.saw(step, bad)
    return grad_norm


def gradient_norm(state: TrainState) -> Tensor:
    """Undo the scaling of the gradients, and return their global norm."""
    state.scaler.unscale_(state.optimizer)
    params = (param for group in state.optimizer.param_groups for param in group["params"])
    return torch.nn.utils.get_total_norm([param.grad for param in params if param.grad is not None])


def forward_backward(setup: TrainSetup, state: TrainState, batch: Any, passes: int) -> Tensor:
    """Add this rank's share of the gradient of one of `passes` passes; return the mean loss of its images."""
    images, rest, labels = batch.to(setup.world.device)
    inputs = setup.to_input(images, rest, setup.precision.inputs, setup.memory_format)
    with setup.precision.autocast():
        logits = setup.model(inputs)
    logits = logits.to(setup.precision.weights)
    loss = setup.loss(logits, labels)
    with unchanged_buffers(state.model) if setup.recomputes else nullcontext():
        state.scaler.scale(loss / passes).backward()
    state.meter.add(loss.detach(), logits.detach(), labels)
    return loss.detach()
