"""A search that climbs other ladders than the default ones: heads and resolutions, from plan to artifact."""

from __future__ import annotations

from pathlib import Path

from tiny import tiny_config

from flashdd.artifact.read import load
from flashdd.core.record import Record
from flashdd.models.family import LabelerSpec
from flashdd.pipeline.run import run


def test_other_heads_and_resolutions_are_searched_and_shipped(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    stems = ["strided-gap", "patch-gap-r3-p4"]
    config = tiny_config(
        labeler__stems=stems, search__finalists=1, search__temperatures=[4.0], student__seeds=1
    )
    record = run(config, tmp_path / "out", cache=finished[0].parent / "cache")
    assert record.capacity is not None
    tried = {LabelerSpec.parse(entry.name).family for entry in record.capacity.candidates}
    assert tried == set(stems)
    shipped = load(tmp_path / "out" / "artifact").labeler
    assert {member.spec.family for member in shipped.members} <= tried
