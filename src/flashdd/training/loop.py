"""The one training loop: teachers, members of a labeler and students all run through `fit`."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flashdd.core.files import write_atomic
from flashdd.training.engine import Engine
from flashdd.training.optim import Schedule

# Part of every stage's key: raised whenever the same training, or evaluation, ends with other bits.
TRAINING_REVISION = 3
# Shorter trainings are cheaper to repeat than to keep; time never changes the bits of a result.
_SECONDS_BETWEEN_CHECKPOINTS = 10.0


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training is, apart from the network.

    loss: (model, step) -> (mean loss over this process's rows, rows of the global batch, own rows).
    lr: learning rate at a step, a pure function.
    visits: after so many steps `visit(step, model)` is called, the model in eval mode (with averaged weights
        where `ema` is set); it returns a JSON value, kept in `Fitted.visited`.
    ema: decay of the moving average of weights and of float buffers, so that both belong together.
    """

    steps: int
    loss: Callable[[nn.Module, int], tuple[Tensor, int, int]]
    optimizer: torch.optim.Optimizer
    lr: Schedule
    ema: float | None = None
    visits: Sequence[int] = ()
    visit: Callable[[int, nn.Module], Any] = field(default=lambda step, model: None)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """losses: mean loss of every step since the last resume; visited: (step, value) of every visit; seconds: of all
    steps, those of earlier tries that a checkpoint kept among them, without visits and checkpoints."""

    losses: list[float]
    visited: list[tuple[int, Any]]
    seconds: float


def fit(
    model: nn.Module,
    training: Training,
    engine: Engine,
    *,
    checkpoint: Path | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> Fitted:
    """Train `model` in place; at the end it is in eval mode, holding the averaged weights where `ema` is set.

    `checkpoint` is a file in which long trainings keep their state: if it exists the training goes on from it,
    bit for bit as if it had never stopped.
    """
    model.to(device=engine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped, optimizer = engine.setup(model, training.optimizer)
    average = None if training.ema is None else _Average(model, training.ema)
    state = _State(model, optimizer, average)
    first = state.load(checkpoint) if checkpoint is not None and checkpoint.exists() else 0
    # one tensor: a small one per step would pin the allocator's large blocks (gigabytes after ten minutes)
    losses = torch.zeros(training.steps - first, device=engine.device)
    clock = _Clock(engine.device, state.seconds)
    file = checkpoint if engine.rank == 0 else None
    kept = time.monotonic()
    for step in range(first, training.steps):
        if (
            step == first or step in training.visits
        ):  # after a visit; a small network feels a walk at every step
            wrapped.train()
        losses[step - first] = _descend(wrapped, optimizer, training, engine, step)
        if average is not None:
            average.update(model)
        if step + 1 in training.visits:
            with clock.stopped():
                state.visited.append((step + 1, _visit(training, step + 1, model, average)))
        if file is not None and time.monotonic() - kept > _SECONDS_BETWEEN_CHECKPOINTS:
            with clock.stopped():
                state.seconds = clock.seconds
                state.save(file, step + 1)
            kept = time.monotonic()
        on_step(step + 1)
    with clock.stopped():
        if average is not None:
            average.swap(model)
        model.eval()
    return Fitted(losses=engine.sum(losses).tolist(), visited=state.visited, seconds=clock.seconds)


def _descend(
    model: nn.Module, optimizer: torch.optim.Optimizer, training: Training, engine: Engine, step: int
) -> Tensor:
    """One step of the optimizer; this process's share of the mean loss over the global batch."""
    for group in optimizer.param_groups:
        group["lr"] = training.lr(step)
    loss, global_rows, own_rows = training.loss(model, step)
    weight = engine.weight(global_rows, own_rows)
    optimizer.zero_grad()
    engine.backward(loss if weight == 1 else loss * weight)
    optimizer.step()
    return loss.detach() * weight / engine.world_size


def _visit(training: Training, step: int, model: nn.Module, average: _Average | None) -> Any:
    model.eval()
    if average is None:
        return training.visit(step, model)
    average.swap(model)
    value = training.visit(step, model)
    average.swap(model)
    return value


class _Clock:
    """Seconds that steps take; it goes on from `before`, and stands still in `stopped`."""

    def __init__(self, device: torch.device, before: float) -> None:
        self._device = device
        self.seconds = before
        self._started = time.monotonic()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # steps are queued, and belong to the time before
        self.seconds += time.monotonic() - self._started
        yield
        self._started = time.monotonic()


class _Average:
    """Exponential moving average of a model's parameters and of its float buffers (batch-norm statistics)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value, 1 - self.decay)
            else:
                self.tensors[name].copy_(value)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's tensors with the averages; twice is none."""
        for name, value in model.state_dict().items():
            held = self.tensors[name].clone()
            self.tensors[name].copy_(value)
            value.copy_(held)


class _State:
    """Everything that a training needs to go on: nothing random, for randomness is a function of the step."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: _Average | None) -> None:
        self.model, self.optimizer, self.average = model, optimizer, average
        self.visited: list[tuple[int, Any]] = []
        self.seconds = 0.0

    def save(self, path: Path, step: int) -> None:
        buffer = io.BytesIO()
        state = {
            "step": step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.tensors,
            "visited": self.visited,
            "seconds": self.seconds,
        }
        torch.save(state, buffer)
        write_atomic(path, buffer.getvalue())

    def load(self, path: Path) -> int:
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            for name, value in state["average"].items():
                self.average.tensors[name].copy_(value)
        self.visited = [(step, value) for step, value in state["visited"]]
        self.seconds = state.get("seconds", 0.0)  # a draft that an earlier version left has none
        step: int = state["step"]
        return step
