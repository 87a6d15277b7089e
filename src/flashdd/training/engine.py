"""Lightning Fabric behind one small class: device, precision, data-parallel processes.

One process on a CPU and N processes under torchrun or SLURM run the same code: every process takes its share of
each global batch, gradients are averaged.
"""

from __future__ import annotations

import atexit
import logging
import os
import warnings
from typing import Any

import torch
from torch import Tensor, nn


def _leave() -> None:
    """gloo's threads must end before the interpreter does, which else aborts now and then."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Engine:
    """Where training runs. `precision` is Fabric's name: `32-true` or `bf16-mixed`.

    Under torchrun (WORLD_SIZE > 1) the processes are joined by gloo on CPUs and NCCL on CUDA.
    """

    def __init__(self, device: torch.device, *, precision: str = "32-true") -> None:
        from lightning_fabric import Fabric  # slow to import: only who trains pays for it

        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
        world = int(os.environ.get("WORLD_SIZE", "1"))
        options: dict[str, Any] = {
            "accelerator": "cuda" if device.type == "cuda" else "cpu",
            "precision": precision,
        }
        if world > 1:
            options |= {"strategy": "ddp", "devices": int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))}
            options |= {"num_nodes": world // options["devices"]}
        else:
            options |= {"devices": [device.index or 0] if device.type == "cuda" else 1}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Fabric's hints about hardware that was not asked for
            self._fabric = Fabric(**options)
            if world > 1:
                self._fabric.launch()
                atexit.register(_leave)
        self.device: torch.device = self._fabric.device
        self.rank: int = self._fabric.global_rank
        self.world_size: int = self._fabric.world_size

    def setup(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The model on this process's device, wrapped for precision and gradient averaging."""
        wrapped_model, wrapped_optimizer = self._fabric.setup(model, optimizer)
        return wrapped_model, wrapped_optimizer

    def backward(self, loss: Tensor) -> None:
        self._fabric.backward(loss)

    def share(self, rows: Tensor) -> Tensor:
        """This process's rows of a global batch: every world_size-th from its rank on."""
        return rows[self.rank :: self.world_size]

    def weight(self, global_rows: int, own_rows: int) -> float:
        """Factor on the mean loss of `own_rows`, so that averaged gradients are those of the global mean."""
        return own_rows * self.world_size / global_rows

    def sum(self, value: Tensor) -> Tensor:
        """The sum of `value` over the processes."""
        if self.world_size == 1:
            return value
        total = self._fabric.all_reduce(value, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total
