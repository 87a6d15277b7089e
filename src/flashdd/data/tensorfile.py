"""Arrays out of files that others wrote, without ever running what a pickle asks for."""

from __future__ import annotations

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flashdd.core.errors import DataError

_NUMBERS = "biufc"  # numpy's kinds; texts beside the images, such as classes' names, are left
SUFFIXES = (".pt", ".pth", ".npy", ".npz", ".safetensors")


def read_tensors(path: Path) -> Any:
    """What `path` holds: a tensor, or dicts and lists of tensors, numbers and strings, all on the CPU.

    `.pt` and `.pth` are read by torch.load with `weights_only`, `.npy` and `.npz` without pickles. Raises DataError
    for a file that is missing, damaged, of another kind, or that holds objects besides arrays. Texts in an `.npz` are
    left out.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist: give the path of a file ending in {', '.join(SUFFIXES)}.")
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} ends in '{path.suffix}': files of images end in {', '.join(SUFFIXES)}.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if path.suffix in (".pt", ".pth"):
            with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickle protocols, before it refuses
                return torch.load(path, map_location="cpu", weights_only=True)
        with path.open("rb") as file:  # numpy leaves a damaged archive open
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                return _tensor(held)
            arrays = {name: held[name] for name in held.files}
            return {name: _tensor(array) for name, array in arrays.items() if array.dtype.kind in _NUMBERS}
    except MemoryError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): check the file and its rights.") from error
    except Exception as error:  # damaged bytes make the three readers raise a dozen classes
        objects = isinstance(error, UnpicklingError) or "bject" in str(error)  # numpy says no more
        what = "tensors (numpy's arrays are some)" if path.suffix in (".pt", ".pth") else "arrays"
        reason = (
            f"it holds objects besides {what}, or is damaged" if objects else "it is damaged, or another file"
        )
        raise DataError(
            f"{path} cannot be read safely: {reason} ({type(error).__name__}). Copy it again, or where it was made "
            'save {"images": ..., "labels": ...} with torch.save (tensors), numpy.savez (arrays) or safetensors.'
        ) from error


def _numpy_numbers() -> list[Any]:
    """Constructors of numpy's scalars, as accuracies beside the images are kept by some; they run nothing."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [np.float32, np.float64, np.int64]
    # the name under which numpy before 2 pickled the same function
    return [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
    ]


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
