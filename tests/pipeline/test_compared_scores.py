"""The rows that scores need, trained: real data once per student, and every row without augmentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import Listening, tiny_config

from flashdd.core.recipe import build_config
from flashdd.core.record import Comparison, Record
from flashdd.data.viewspec import ViewSpec
from flashdd.pipeline.compare import compare
from flashdd.pipeline.subject import open_subject

SETS, SCHEMES = ["random", "herding", "kmeans"], ["hard", "labeler", "real-whole", "real-equal-passes"]


@pytest.fixture(scope="module")
def scored(
    finished: tuple[Path, Record], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Comparison, Path, Listening]:
    out, _ = finished
    subject, progress = open_subject(out), Listening()
    axes = {"schemes": SCHEMES, "images": SETS, "plain": True}
    config = build_config(subject.settings, [(f"compare.{name}", value) for name, value in axes.items()])
    folder = tmp_path_factory.mktemp("scored") / "out"
    comparison = compare(
        config,
        folder,
        artifact=subject.artifact,
        stages=subject.stages,
        cache=out.parent / "cache",
        progress=progress,
    )
    return comparison, folder, progress


def test_real_data_come_once_and_from_the_run(
    scored: tuple[Comparison, Path, Listening], finished: tuple[Path, Record]
) -> None:
    comparison, _, progress = scored
    real = [row for row in comparison.rows if row.images.startswith("real-")]
    assert [(row.scheme, row.images, row.ipc) for row in real] == [
        ("hard", "real-whole", None),
        ("hard", "real-equal-passes", None),
    ]
    assert [row.image_passes for row in real] == [None, 600]
    for row in real:
        theirs = next(other for other in finished[1].students if other.images == row.images)
        assert (row.accuracy, row.protocol) == (theirs.accuracy, theirs.protocol)
    trained = [label for label in progress.started if "real-" in label or label == "train convnet-2-w4"]
    assert trained == []  # the run had trained both


def test_rows_without_augmentation_see_the_images_as_they_are(
    scored: tuple[Comparison, Path, Listening],
) -> None:
    comparison, folder, _ = scored
    plain = [row for row in comparison.rows if row.protocol == "flash@plain"]
    assert [(row.images, row.scheme) for row in plain] == [
        (images, scheme) for images in SETS for scheme in ("hard", "labeler")
    ]
    protocols = [
        json.loads(path.read_text())["config"]["protocol"]
        for path in folder.glob("stages/student-*/stage.json")
    ]
    views = {protocol["name"]: protocol["views"] for protocol in protocols}
    assert views["flash@plain"] == ViewSpec().to_json() != views["flash"]
    assert sum(protocol["name"] == "flash@plain" for protocol in protocols) == 2 * len(plain)  # seeds


def test_scores_and_rankings_are_complete_and_shown(scored: tuple[Comparison, Path, Listening]) -> None:
    comparison, folder, _ = scored
    assert [(score.images, score.scheme) for score in comparison.scores] == [
        (images, scheme)
        for images in SETS
        for scheme in ("hard", "labeler")
        if (images, scheme) != ("random", "labeler")
    ]
    for score in comparison.scores:
        assert score.hlr is not None
        assert (None in (score.ior, score.lrs, score.ars)) == (score.images == "random")
    assert [(ranking.protocol, ranking.num_sets) for ranking in comparison.rankings] == [
        ("flash", 3),
        ("flash@plain", 3),
    ]
    assert not [note for note in comparison.notes if "DD-Ranking" in note]
    text = (folder / "comparison.md").read_text()
    page = (folder / "comparison.html").read_text()
    assert "**DD-Ranking's scores**" in text
    assert "HLR, points" in text
    assert 'id="side-2">Do labels rank images alike?' in page
    assert Comparison.read(folder / "comparison.json") == comparison


def test_other_amounts_share_the_real_rows_where_the_passes_are_the_same(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    """`flash` sees 600 images at every IPC, `rded` so many for each that it makes."""
    rows = {}
    for name, passes in (("flash", 600), ("rded", None)):
        config = tiny_config(
            protocol__name=name,
            protocol__image_passes=passes,
            compare__schemes=["real-equal-passes"],
            compare__ipc=[1, 2],
            images__method="random",
            student__seeds=1,
        )
        comparison = compare(config, tmp_path / name, cache=finished[0].parent / "cache")
        rows[name] = [row.image_passes for row in comparison.rows]
    assert rows["flash"] == [600]
    assert len(rows["rded"]) == len(set(rows["rded"])) == 2
