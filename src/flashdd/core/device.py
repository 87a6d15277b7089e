"""The device, the threads and the allocator of a run, and what the record says of them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from flashdd.core.errors import UsageError

_tuned = False
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_TOP_PAD = -4, -1, -2


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is a device, else the CPU; UsageError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if name == "cuda" or name.startswith("cuda:"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = name.removeprefix("cuda").removeprefix(":") or "0"
        if index.isdecimal() and int(index) < count:
            return torch.device(name)
        if count:
            raise UsageError(f"--device {name}: there are {count} CUDA devices, cuda:0 to cuda:{count - 1}.")
        raise UsageError(
            f"--device {name}: this PyTorch sees no CUDA device; use --device cpu or --device auto."
        )
    raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:INDEX.")


def tune_allocator() -> bool:
    """Keep freed activations in the process instead of unmapping them after every operation.

    On Linux with glibc this made small convolutional nets 1.6 to 2.5 times faster on a CPU. It is left alone
    where the environment already sets the allocator. For the command line only: a library does not change its
    host's allocator. Returns whether it was set.
    """
    global _tuned
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        done = [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, 64 << 20)]
        _tuned = all(done)
    return _tuned


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Float32 without TF32, whatever precision the surrounding training uses (labels are made so)."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic CUDA kernels for the length of a run; a CPU needs nothing."""
    if not torch.cuda.is_available():
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])


def training_precision(setting: str, device: torch.device) -> str:
    """Fabric's name of the precision that `auto` stands for: bf16-mixed on CUDA, 32-true elsewhere."""
    if setting != "auto":
        return setting
    return "bf16-mixed" if device.type == "cuda" else "32-true"


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _peak_memory() -> int | None:
    """Bytes, the largest resident size of this process so far; None where the platform does not tell."""
    with contextlib.suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux KiB
    return None


def environment(device: torch.device, *, commit: str | None) -> dict[str, Any]:
    """The `environment` of a record: versions, hardware, threads."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "allocator": "tuned" if _tuned else "default",
        "platform": platform.system(),
        "commit": commit,
        "peak_memory": _peak_memory(),
    }
