"""The training loop: references, exact resume, averaging, and two processes equal to one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flashdd.core.files import write_atomic
from flashdd.core.seeds import generator
from flashdd.models.table import build
from flashdd.training import loop
from flashdd.training.engine import Engine
from flashdd.training.loop import Training, fit
from flashdd.training.optim import build_optimizer, cosine

ENGINE = Engine(torch.device("cpu"))
SHAPE = (1, 8, 8)


def _model(name: str = "convnet-2-w4") -> nn.Module:
    return build(name, num_classes=3, shape=SHAPE, seed=0)


def _batch(step: int) -> tuple[Tensor, Tensor]:
    stream = generator(0, "batch", step)
    return torch.rand(8, *SHAPE, generator=stream), torch.randint(0, 3, (8,), generator=stream)


def _loss(net: nn.Module, step: int) -> tuple[Tensor, int, int]:
    pixels, labels = _batch(step)
    return F.cross_entropy(net(pixels), labels), 8, 8


def _training(model: nn.Module, steps: int = 12, **options: object) -> Training:
    optimizer = build_optimizer(model, "adamw", lr=1e-2, weight_decay=0.1)
    return Training(steps=steps, loss=_loss, optimizer=optimizer, lr=cosine(1e-2, steps), **options)  # type: ignore[arg-type]


def test_the_loop_is_the_plain_loop() -> None:
    model, twin = _model(), _model()
    losses = fit(model, _training(model), ENGINE).losses
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in twin.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in twin.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
    )
    expected = []
    twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for step in range(12):
        for group in optimizer.param_groups:
            group["lr"] = cosine(1e-2, 12)(step)
        pixels, labels = _batch(step)
        loss = F.cross_entropy(twin(pixels), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ema", [None, 0.8])
def test_a_resumed_training_is_bitwise_the_uninterrupted_one(
    ema: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    visit: dict[str, Any] = {"visits": [3, 9, 12], "visit": lambda step, net: net(_batch(99)[0]).sum().item()}
    whole = _model()
    expected = fit(whole, _training(whole, ema=ema, **visit), ENGINE)

    class KilledError(Exception):
        pass

    def kill_at(limit: int, step: int) -> None:
        if step == limit:
            raise KilledError

    for limit in (5, 10):
        cut = _model()
        with pytest.raises(KilledError):
            fit(
                cut,
                _training(cut, ema=ema, **visit),
                ENGINE,
                checkpoint=tmp_path / "c.pt",
                on_step=lambda step, limit=limit: kill_at(limit, step),  # type: ignore[misc]
            )
    resumed = _model()
    found = fit(resumed, _training(resumed, ema=ema, **visit), ENGINE, checkpoint=tmp_path / "c.pt")
    assert found.visited == expected.visited
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_average_is_the_recursion_of_its_definition() -> None:
    model, twin = _model(), _model()
    fit(model, _training(model, ema=0.9), ENGINE)
    average = {name: value.clone() for name, value in twin.state_dict().items()}
    states: list[dict[str, Tensor]] = []
    visit = lambda step, net: states.append({k: v.clone() for k, v in net.state_dict().items()})  # noqa: E731
    fit(twin, _training(twin, visits=range(1, 13), visit=visit), ENGINE)
    for state in states:
        for name, value in state.items():
            if value.is_floating_point():
                average[name] = 0.9 * average[name] + 0.1 * value
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, average[name], atol=1e-5), name


def test_visits_see_eval_mode_and_leave_no_trace() -> None:
    modes: list[bool] = []
    visited, plain = _model(), _model()
    fit(
        visited, _training(visited, visits=[4, 8], visit=lambda step, net: modes.append(net.training)), ENGINE
    )
    fit(plain, _training(plain), ENGINE)
    assert modes == [False, False]
    for name, value in plain.state_dict().items():
        assert torch.equal(value, visited.state_dict()[name]), name


def test_time_is_that_of_the_steps_through_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes a second, a visit 100 and a checkpoint 10; only steps count."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def slow_write(path: Path, data: bytes) -> None:
        now[0] += 10
        write_atomic(path, data)

    monkeypatch.setattr(loop, "write_atomic", slow_write)

    def timed(net: nn.Module, step: int) -> tuple[Tensor, int, int]:
        now[0] += 1
        return _loss(net, step)

    def visit(step: int, net: nn.Module) -> None:
        now[0] += 100

    def cut(step: int) -> None:
        if step == 7:
            raise KeyboardInterrupt

    def seconds(**options: Any) -> float:
        model = _model()
        training = replace(_training(model, visits=[3, 12], visit=visit), loss=timed)
        return fit(model, training, ENGINE, **options).seconds

    assert seconds() == 12
    assert seconds(checkpoint=tmp_path / "whole.pt") == 12
    with pytest.raises(KeyboardInterrupt):
        seconds(checkpoint=tmp_path / "cut.pt", on_step=cut)
    now[0] = -1000.0  # of another process
    assert seconds(checkpoint=tmp_path / "cut.pt") == 12


def test_two_processes_have_the_loss_of_one_at_the_same_global_batch(tmp_path: Path) -> None:
    """Instance norm: no statistic crosses the images of a batch, so nothing may differ but summation order."""
    script = Path(__file__).with_name("two_processes.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    found = {}
    for count in (1, 2):
        out = tmp_path / f"losses{count}.json"
        launcher = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={count}",
        ]
        command = ([sys.executable] if count == 1 else launcher) + [str(script), str(out)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found[count] = json.loads(out.read_text())
    assert len(found[1]) == 6
    assert found[2] == pytest.approx(found[1], rel=1e-5)
