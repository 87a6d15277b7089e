"""What a run finds in its folder: itself, a run of another configuration, or something else."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from tiny import Listening, tiny_config

from flashdd.artifact.format import IMAGES
from flashdd.core.errors import OutputError
from flashdd.core.record import Record
from flashdd.pipeline import run as run_module
from flashdd.pipeline.run import run


def test_a_finished_run_is_not_made_again(finished: tuple[Path, Record], tmp_path: Path) -> None:
    out, record = finished
    copy = shutil.copytree(out, tmp_path / "out")  # its record is written again, and others read the original
    again = run(tiny_config(), copy, cache=out.parent / "cache")
    skipped = {"seconds", "throughput", "environment"}
    assert again.model_dump(exclude=skipped) == record.model_dump(exclude=skipped)
    assert again.seconds == record.seconds  # of every stage, as it took when it was made


@pytest.mark.parametrize("damaged", ['{"config":', "[]", "\xff"])
def test_a_record_that_cannot_be_read_is_written_anew(
    finished: tuple[Path, Record], tmp_path: Path, damaged: str
) -> None:
    copy, heard = shutil.copytree(finished[0], tmp_path / "out"), Listening()
    (copy / "record.json").write_text(damaged, encoding="latin-1")
    run(tiny_config(), copy, cache=finished[0].parent / "cache", progress=heard)
    assert any("holds a record that cannot be read" in message for message in heard.messages)
    assert Record.read(copy / "record.json").config == finished[1].config


def test_an_output_folder_of_another_source_is_refused(finished: tuple[Path, Record], tmp_path: Path) -> None:
    out, _ = finished
    with pytest.raises(OutputError, match="holds a run of another data source"):
        run(tiny_config(data__classes=["0", "1"]), out, cache=out.parent / "cache")
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="is not empty and holds no flashdd run"):
        run(tiny_config(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        run(tiny_config(), tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="file is a file: choose a folder with --out"):
        run(tiny_config(), tmp_path / "file")


def test_a_finished_run_stays_whole_until_another_configuration_has_ended(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, heard = shutil.copytree(finished[0], tmp_path / "out"), Listening()
    before = {
        name: (copy / name).read_bytes() for name in ("record.json", "artifact/README.md", "report.html")
    }
    other = tiny_config(student__seeds=3)
    with monkeypatch.context() as broken:
        broken.setattr(run_module, "student_rows", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(other, copy, cache=finished[0].parent / "cache", progress=heard)
    assert any("holds a finished run of another configuration" in message for message in heard.messages)
    assert before == {name: (copy / name).read_bytes() for name in before}
    with monkeypatch.context() as broken:  # from here on the old record would speak of another artifact
        broken.setattr(run_module, "publish", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(other, copy, cache=finished[0].parent / "cache")
    assert not (copy / "record.json").exists()
    assert run(other, copy, cache=finished[0].parent / "cache").students[0].accuracy.n == 3


def test_a_record_goes_with_the_artifact_that_it_stands_for(
    finished: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while its own artifact is published again it stays; not where that is another one, as of other images of
    the same file name."""
    copy = shutil.copytree(finished[0], tmp_path / "out")
    monkeypatch.setattr(run_module, "publish", Mock(side_effect=KeyboardInterrupt))
    for whole in (True, False):
        if not whole:
            (copy / "artifact" / IMAGES).write_bytes(b"of another set")
        with pytest.raises(KeyboardInterrupt):
            run(tiny_config(), copy, cache=finished[0].parent / "cache")
        assert (copy / "record.json").exists() == whole
