"""Stages: kept when whole, made again when changed, resumed at the task that was cut off."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flashdd.core.errors import OutputError, StorageError
from flashdd.core.files import atomic_folder, read_json, write_atomic
from flashdd.core.progress import Silent
from flashdd.core.stages import StageResult, StageWork, Store


def _store(root: Path, **identity: str) -> Store:
    return Store(root, identity=identity or {"torch": "1"}, progress=Silent())


def _make(store: Store, build: Callable[[StageWork], Any], **changes: Any) -> StageResult:
    options: dict[str, Any] = {"revision": 1, "config": {"a": 1}, "inputs": {"x": "h"}, **changes}
    return store.make("work", build=build, **options)


def _writer(calls: list[int]) -> Callable[[StageWork], Any]:
    def build(work: StageWork) -> Any:
        calls.append(1)
        write_atomic(work.folder / "file", b"content")
        return {"answer": 42}

    return build


def test_a_finished_stage_is_not_made_twice(tmp_path: Path) -> None:
    calls: list[int] = []
    first = _make(_store(tmp_path), _writer(calls))
    second = _make(_store(tmp_path), _writer(calls))
    assert len(calls) == 1
    assert (first.reused, second.reused) == (False, True)
    assert (first.hash, first.record, first.seconds) == (second.hash, second.record, second.seconds)


@pytest.mark.parametrize(
    "changes",
    [{"revision": 2}, {"config": {"a": 2}}, {"inputs": {"x": "other"}}],
    ids=lambda c: next(iter(c)),
)
def test_another_key_is_another_stage(tmp_path: Path, changes: dict[str, Any]) -> None:
    calls: list[int] = []
    _make(_store(tmp_path), _writer(calls))
    _make(_store(tmp_path), _writer(calls), **changes)
    assert len(calls) == 2


def test_another_torch_is_another_stage(tmp_path: Path) -> None:
    calls: list[int] = []
    _make(_store(tmp_path, torch="1"), _writer(calls))
    _make(_store(tmp_path, torch="2"), _writer(calls))
    assert len(calls) == 2


def test_a_changed_file_is_noticed_and_made_again(tmp_path: Path) -> None:
    calls: list[int] = []
    stage = _make(_store(tmp_path), _writer(calls))
    (stage.folder / "file").write_bytes(b"CONTENT")
    again = _make(_store(tmp_path), _writer(calls))
    assert len(calls) == 2
    assert (again.folder / "file").read_bytes() == b"content"


def test_a_killed_stage_goes_on_after_its_finished_tasks(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name.upper()

    def build(work: StageWork, fail: bool) -> Any:
        values = []
        for name in ("a", "b"):
            if fail and name == "b":
                raise KeyboardInterrupt
            values.append(work.task(name, partial(make, name)))
        return values

    with pytest.raises(KeyboardInterrupt):
        _make(_store(tmp_path), lambda work: build(work, True))
    assert not list(tmp_path.glob("work-*[!t]/stage.json"))
    stage = _make(_store(tmp_path), lambda work: build(work, False))
    assert made == ["a", "b"]
    assert stage.record == ["A", "B"]
    assert not list(tmp_path.glob("*.draft"))


def test_halves_of_files_and_checkpoints_do_not_stay(tmp_path: Path) -> None:
    def build(work: StageWork) -> Any:
        assert not list(work.folder.glob(".half*"))
        (work.folder / "checkpoints").mkdir()
        (work.folder / "checkpoints" / "c.pt").write_bytes(b"x")
        return None

    store = _store(tmp_path)
    draft = store.folder("work", revision=1, config={"a": 1}, inputs={"x": "h"}).with_suffix(".draft")
    draft.mkdir(parents=True)
    (draft / ".half.1234").write_bytes(b"h")
    stage = _make(store, build)
    assert {path.name for path in stage.folder.iterdir()} == {"stage.json"}


def test_the_clock_goes_on_over_tries_and_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("flashdd.core.stages.time.monotonic", lambda: now[0])
    work = StageWork(tmp_path, Silent())
    now[0] += 7
    work.tick()
    later = StageWork(tmp_path, Silent())
    now[0] += 5
    with later.paused():
        now[0] += 1000
    assert later.seconds == pytest.approx(12)


def test_a_full_disk_and_a_closed_folder_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("flashdd.core.files.os.fsync", full)
    with pytest.raises(StorageError, match=r"no space left while writing .*free some space"):
        write_atomic(tmp_path / "file", b"data")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(OutputError, match=r"cannot write .*choose a folder"):
        write_atomic(tmp_path / "plain" / "file", b"data")


def test_a_full_disk_inside_a_stage_keeps_what_is_finished(tmp_path: Path) -> None:
    def build(work: StageWork, full: bool) -> Any:
        first = work.task("first", lambda: 1)
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return first

    with pytest.raises(StorageError, match="no space left"):
        _make(_store(tmp_path), lambda work: build(work, True))
    assert len(list(tmp_path.glob("*.draft/tasks/first.json"))) == 1
    assert _make(_store(tmp_path), lambda work: build(work, False)).record == 1


def test_an_atomic_folder_is_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "folder"

    def fail() -> None:
        with atomic_folder(target) as draft:
            (draft / "a").write_bytes(b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    for content in (b"1", b"2"):
        with atomic_folder(target) as draft:
            (draft / "a").write_bytes(content)
    assert (target / "a").read_bytes() == b"2"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_stage_json_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    stage = _make(_store(tmp_path), _writer([]))
    facts = read_json(stage.folder / "stage.json")
    assert set(facts["files"]) == {"file"}
    assert facts["files"]["file"]["bytes"] == 7
