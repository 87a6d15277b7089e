"""Files that are whole or absent: atomic writes, hashes, canonical JSON."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from flashdd.core.errors import OutputError, StorageError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn the OS errors of writing `path` into OutputError or StorageError with the remedy."""
    try:
        yield
    except OSError as error:
        # numpy reports a full disk as "N requested and M written", without a number
        cut_off = error.errno is None and "requested and" in str(error)
        if isinstance(error, StorageError) or (error.errno is None and not cut_off):
            raise
        if cut_off or error.errno in _NO_SPACE:
            raise StorageError(
                f"no space left while writing {path}: free some space on that disk, or choose another folder "
                "with --out or --cache, and start again; finished stages are kept."
            ) from error
        if error.errno in _NOT_WRITABLE:
            raise OutputError(
                f"cannot write {path} ({os.strerror(error.errno)}): choose a folder that you may write to "
                "with --out or --cache."
            ) from error
        raise StorageError(f"writing {path} failed ({error}): check the disk and start again.") from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    Raises OutputError where the folder cannot be written, StorageError where the disk is full.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends without an error; errors as for `write_atomic`."""
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new empty folder beside `path` that takes its place when the block ends without an error."""
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield draft
            os.chmod(draft, 0o755)
            replace_folder(draft, path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def replace_folder(draft: Path, path: Path) -> None:
    """Move `draft` to `path`; an existing folder there is moved aside first and then deleted."""
    with explain_os_errors(path):
        if path.exists():
            aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            os.replace(path, aside / path.name)
            os.replace(draft, path)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(draft, path)


def sha256_bytes(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_name(text: str) -> str:
    """`text` as part of a file's name: what is neither word character nor one of .@- becomes a dash."""
    return re.sub(r"[^\w.@-]", "-", text)


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces and no NaN: equal values give equal bytes."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def pretty_json(value: Any) -> bytes:
    """UTF-8 JSON for people, keys in the order given."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; an empty one where that is damaged or no object. Raises OSError."""
    try:
        held = read_json(path)
    except ValueError:  # JSON or UTF-8
        return {}
    return held if isinstance(held, dict) else {}


def folder_bytes(path: Path) -> int:
    """Bytes of all files below `path`."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
