"""Stages: work that is keyed by what goes in, kept when whole, and goes on where it was killed.

A stage's folder is `<root>/<name>-<key>`; while it is made it is `<root>/<name>-<key>.draft`. Inside a draft,
tasks that are finished leave a JSON file each, and long trainings leave checkpoints, so that a killed run loses
a task at most. `stage.json`, written last, lists every file with its hash: a folder without it does not exist.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flashdd.core.files import (
    canonical_json,
    explain_os_errors,
    file_name,
    pretty_json,
    read_json,
    replace_folder,
    sha256_bytes,
    sha256_file,
    write_atomic,
)
from flashdd.core.progress import Progress

# Above this size a reused file is checked by its length only: hashing gigabytes would cost more than it saves.
_HASH_CHECK_LIMIT = 64_000_000
_SECONDS_BETWEEN_TICKS = 5.0


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """A finished stage. `hash` stands for all its files; `seconds` is what making it took, over all tries."""

    name: str
    folder: Path
    hash: str
    record: Any
    seconds: float
    reused: bool


class StageWork:
    """The draft folder of a stage in the making; its clock goes on from earlier tries."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress
        self._clock = folder / "seconds.json"
        self._before: float = read_json(self._clock) if self._clock.exists() else 0.0
        self._started = self._kept = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def tick(self) -> None:
        """Keep the time spent so far, so that a kill does not lose it."""
        write_atomic(self._clock, canonical_json(round(self.seconds, 3)))
        self._kept = time.monotonic()

    def step(self, done: int) -> None:
        """`done` units of the open bar are finished; the clock is kept every few seconds."""
        self.progress.update(done)
        if time.monotonic() - self._kept > _SECONDS_BETWEEN_TICKS:
            self.tick()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in the block belongs to another stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._before -= time.monotonic() - started

    def task(self, name: str, make: Callable[[], Any]) -> Any:
        """The JSON value of task `name`: read if an earlier try finished it, else made and kept."""
        path = self.folder / "tasks" / f"{name}.json"
        if not path.exists():
            write_atomic(path, canonical_json(make()))
            self.tick()
        return read_json(path)


class Store:
    """A folder of stages. `identity` (torch version, device, threads, shared revisions) is part of every key.

    finished: a folder of another store's stages, taken where they are whole, never written to.
    """

    def __init__(
        self, root: Path, *, identity: Mapping[str, str], progress: Progress, finished: Path | None = None
    ) -> None:
        self.root = root
        self.finished = finished
        self.identity = dict(identity)
        self.progress = progress

    def key(self, name: str, revision: int, config: Any, inputs: Mapping[str, str]) -> str:
        parts = {
            "name": name,
            "revision": revision,
            "config": config,
            "inputs": dict(inputs),
            **self.identity,
        }
        return sha256_bytes(canonical_json(parts))[:16]

    def folder(self, name: str, *, revision: int, config: Any, inputs: Mapping[str, str]) -> Path:
        return self.root / f"{file_name(name)}-{self.key(name, revision, config, inputs)}"

    def make(
        self,
        name: str,
        *,
        revision: int,
        config: Any,
        inputs: Mapping[str, str],
        build: Callable[[StageWork], Any],
    ) -> StageResult:
        """Return the stage, running `build` in a draft folder unless it is there, whole, already.

        `build` gets a StageWork and returns the stage's JSON record. Two processes that want the same stage
        take turns; the second finds it made.
        """
        folder = self.folder(name, revision=revision, config=config, inputs=inputs)
        if self.finished is not None:
            made = _whole_stage(name, self.finished / folder.name)
            if made is not None:
                return made
        with explain_os_errors(folder):
            self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / f".{folder.name}.lock")
        with explain_os_errors(folder):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self.progress.message(f"{name}: another process is making this; waiting for it")
                lock.acquire()
        try:
            made = self._open(name, folder)
            if made is not None:
                return made
            self._build(
                folder, {"name": name, "revision": revision, "config": config, "inputs": dict(inputs)}, build
            )
            return _stage(name, folder, reused=False)
        finally:
            lock.release()

    def _open(self, name: str, folder: Path) -> StageResult | None:
        made = _whole_stage(name, folder)
        if made is None and (folder / "stage.json").exists():
            self.progress.message(
                f"{name}: files in {folder} changed since they were made; making them again"
            )
            shutil.rmtree(folder)
        return made

    def _build(self, folder: Path, facts: dict[str, Any], build: Callable[[StageWork], Any]) -> None:
        draft = folder.with_name(f"{folder.name}.draft")
        with explain_os_errors(draft):
            draft.mkdir(exist_ok=True)
            for stray in draft.rglob(".*"):  # halves of atomic writes that a kill left behind
                stray.unlink() if stray.is_file() else shutil.rmtree(stray)
        work = StageWork(draft, self.progress)
        with explain_os_errors(folder):
            record = build(work)
        self.progress.close()
        (draft / "seconds.json").unlink(missing_ok=True)
        shutil.rmtree(draft / "checkpoints", ignore_errors=True)
        files = {
            path.relative_to(draft).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(draft.rglob("*"))
            if path.is_file()
        }
        content = {"files": {name: entry["sha256"] for name, entry in files.items()}, "record": record}
        stage = {**facts, **self.identity, "files": files, "hash": sha256_bytes(canonical_json(content))}
        write_atomic(
            draft / "stage.json", pretty_json({**stage, "record": record, "seconds": round(work.seconds, 3)})
        )
        replace_folder(draft, folder)


def _stage(name: str, folder: Path, *, reused: bool) -> StageResult:
    stage = read_json(folder / "stage.json")
    return StageResult(
        name=name,
        folder=folder,
        hash=stage["hash"],
        record=stage["record"],
        seconds=stage["seconds"],
        reused=reused,
    )


def _whole_stage(name: str, folder: Path) -> StageResult | None:
    """The stage in `folder`; None if there is none, or if its files are not those that were made."""
    facts = folder / "stage.json"
    if not facts.exists():
        return None
    files = read_json(facts)["files"]
    if not all(_is_intact(folder / path, entry) for path, entry in files.items()):
        return None
    return _stage(name, folder, reused=True)


def _is_intact(path: Path, entry: Mapping[str, Any]) -> bool:
    if not path.is_file() or os.path.getsize(path) != entry["bytes"]:
        return False
    return bool(entry["bytes"] > _HASH_CHECK_LIMIT or sha256_file(path) == entry["sha256"])
