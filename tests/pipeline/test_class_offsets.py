"""Class offsets in a run: fitted to proxies, verified by others, and then in every label that the choice makes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_config

from flashdd.artifact.read import load
from flashdd.core.files import read_json, sha256_bytes, sha256_file
from flashdd.core.record import Candidate, Record, Search
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewMaker
from flashdd.labels.catalog import open_labels
from flashdd.labels.flash import capacity
from flashdd.labels.flash.pack import labeler_bytes, read_labeler
from flashdd.labels.scheme import Subject
from flashdd.labels.table import read_table
from flashdd.pipeline import offsets as offsets_module
from flashdd.pipeline import schemes
from flashdd.pipeline.material import Material
from flashdd.pipeline.proxies import Proxy, ProxyJob, train_proxy
from flashdd.pipeline.real import teacher_network
from flashdd.pipeline.run import run
from flashdd.pipeline.start import started


@pytest.fixture(scope="module")
def shifted(finished: tuple[Path, Record], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A run that takes class offsets whatever they bring."""
    out = tmp_path_factory.mktemp("shifted") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            capacity,
            "_with_offsets",
            lambda chosen, raised, measure, settling, offsets: measure(offsets.applied(chosen)),
        )
        patch.setattr(offsets_module, "train_proxy", _gaining)
        return out, run(tiny_config(), out, cache=finished[0].parent / "cache")


def _gaining(context: Any, data: Any, images: Any, work: Any, job: ProxyJob, seed: int) -> Proxy:
    """As `train_proxy`, but labels with offsets make perfect students."""
    proxy = train_proxy(context, data, images, work, job, seed)
    return proxy if job.corrected else replace(proxy, accuracy=1.0)


def _choice(search: Search | None) -> Candidate:
    assert search is not None
    return search.candidates[search.chosen]


def _stages(out: Path, name: str, **facts: str) -> list[tuple[Path, dict[str, Any]]]:
    """Folder and record of the stages `name`-HASH whose configuration and inputs hold `facts`."""
    read = [(path.parent, read_json(path)) for path in out.glob(f"stages/{name}-*/stage.json")]
    return [
        (folder, held)
        for folder, held in read
        if facts.items() <= {**held["config"], **held["inputs"]}.items()
    ]


def _row(record: Record, scheme: str) -> Any:
    return next(row for row in record.students if (row.scheme, row.images) == (scheme, "rded"))


def test_both_searches_try_their_choice_with_offsets(finished: tuple[Path, Record]) -> None:
    _, record = finished
    for search in (record.teacher_search, record.capacity):
        assert search is not None
        tried = [candidate for candidate in search.candidates if candidate.offsets]
        assert [candidate.n for candidate in tried] == [3]
        assert tried[0].offsets is not None
        assert len(tried[0].offsets) == 3
        assert sum(tried[0].offsets) == pytest.approx(0, abs=1e-3)
        assert tried[0].plain_mean is None
        assert all(
            candidate.plain_mean is not None for candidate in search.candidates if not candidate.offsets
        )


def test_offsets_are_the_mean_of_those_that_the_choices_proxies_ask_for(
    shifted: tuple[Path, Record],
) -> None:
    out, record = shifted
    choice = _choice(record.capacity)
    (tasks,) = out.glob("stages/capacity-*/tasks")
    held = {path.stem: json.loads(path.read_text()) for path in tasks.iterdir()}
    text = (
        f"{choice.name}-b{choice.bits}-m{choice.num_members}@{choice.length:g}-s{100 * (choice.shift or 0):g}"
        f"-t{choice.temperature:g}-x{choice.logit_scale:g}"
    )
    asked = [value["offsets"] for name, value in held.items() if name.startswith(f"{text}-seed")]
    assert len(asked) == 3
    assert choice.offsets == pytest.approx(torch.tensor(asked).mean(0).tolist(), abs=1e-3)


def test_the_shipped_labeler_is_its_network_plus_offsets_in_as_many_bytes(
    shifted: tuple[Path, Record], finished: tuple[Path, Record]
) -> None:
    out, record = shifted
    choice = _choice(record.capacity)
    ours = load(out / "artifact").labeler
    plain = [
        held
        for path in (finished[0].parent / "cache").glob("labeler-*/labeler.safetensors")
        if (held := read_labeler(path)).members[0].spec == ours.members[0].spec
        and all(
            torch.equal(a, b) for a, b in zip(held.members[0].integers, ours.members[0].integers, strict=True)
        )
    ]
    assert len(plain) == 1
    pixels = torch.rand(20, *ours.shape, generator=torch.Generator().manual_seed(0))
    expected = plain[0].logits_of(pixels) + torch.tensor(choice.offsets)
    assert torch.allclose(ours.logits_of(pixels), expected, atol=5e-3)
    assert choice.bytes >= record.labeler.bytes


def test_the_full_teachers_labels_have_them_online_and_stored(shifted: tuple[Path, Record]) -> None:
    out, record = shifted
    offsets = _choice(record.teacher_search).offsets
    assert offsets is not None
    searched, published = _row(record, "teacher@searched"), _row(record, "teacher@published")
    assert searched.label_bytes == published.label_bytes + 4 * 3  # float32
    stored, made = _stages(out, "stored", scheme="stored")[0]
    ((labels, _),) = _stages(out, "labels", network=made["inputs"]["network"])
    artifact = load(out / "artifact")
    images = ImageSet(images=artifact.images, labels=artifact.labels, class_names=artifact.class_names)
    source = open_labels(stored / "labels", Subject(images=images, views=artifact.views, augmentation_seed=0))
    views = ViewMaker(images.images, artifact.views, seed=0)
    batch = views.make(torch.zeros(6, dtype=torch.int64), torch.arange(6))
    expected = read_table(labels / "logits.npy")[0] + torch.tensor(offsets)
    assert torch.allclose(source.logits(batch), expected, atol=0.01)


def test_the_full_teachers_row_has_them(finished: tuple[Path, Record], tmp_path: Path) -> None:
    out, _ = finished
    artifact = load(out / "artifact")
    images = ImageSet(images=artifact.images, labels=artifact.labels, class_names=artifact.class_names)
    with started(tiny_config(), tmp_path / "out", cache=out.parent / "cache", progress=None) as (
        context,
        data,
    ):
        material = Material(
            data=data,
            images=images,
            method="rded",
            teacher=partial(teacher_network, context, data),
            searched=lambda: pytest.fail("settings are given"),
            shipped=None,
        )
        setting = context.setup.published
        offset = replace(setting, offsets=(1.0, 0.0, -1.0))
        plain, row = (schemes._teacher(context, material, "teacher@searched", s) for s in (setting, offset))
        views = ViewMaker(images.images, artifact.views, seed=0)
        batch = views.make(torch.zeros(6, dtype=torch.int64), torch.arange(6))
        without, having = (each.open()[2].logits(batch) for each in (plain, row))
    assert torch.allclose(having, without + torch.tensor([1.0, 0.0, -1.0]))
    assert row.key != plain.key


def test_random_images_get_offsets_of_their_own(shifted: tuple[Path, Record]) -> None:
    """The row of random images with the same labeler says what the images bring, not whose offsets these are."""
    out, _ = shifted
    artifact = load(out / "artifact")
    assert artifact.provenance["labeler_training"]["class_offsets"] is True
    ((folder, fitted),) = _stages(out, "offsets")
    assert fitted["inputs"]["labeler"] == sha256_file(out / "artifact" / "labeler.safetensors")
    assert fitted["inputs"]["images"] != artifact.image_set.content_hash
    asked = [
        read_json(path)["offsets"]
        for path in (folder / "tasks").glob("labeler-random-without-offsets-seed*.json")
    ]
    assert len(asked) == 3
    offsets = fitted["record"]["offsets"]
    assert offsets == pytest.approx(torch.tensor(asked).mean(0).tolist(), abs=1e-3)
    suited = sha256_bytes(labeler_bytes(artifact.labeler.with_settings(offsets=offsets)))
    assert suited != fitted["inputs"]["labeler"]
    students = _stages(out, "student-labeler-random", images=fitted["inputs"]["images"])
    assert {held["inputs"]["labeler"] for _, held in students} == {suited}


def test_the_record_and_the_card_say_so(shifted: tuple[Path, Record]) -> None:
    out, record = shifted
    own, other = (
        next(row for row in record.students if (row.scheme, row.images) == ("labeler", images))
        for images in ("rded", "random")
    )
    assert own.class_offsets is None
    assert other.class_offsets is not None
    assert len(other.class_offsets.offsets) == 3
    assert record.seconds["offsets"] == other.class_offsets.seconds > 0
    (note,) = [note for note in record.notes if note.startswith("The labeler on random: beside")]
    assert note in (out / "artifact" / "README.md").read_text()


def test_a_search_may_leave_them_out(finished: tuple[Path, Record], tmp_path: Path) -> None:
    record = run(
        tiny_config(search__class_offsets=False), tmp_path / "out", cache=finished[0].parent / "cache"
    )
    for search in (record.teacher_search, record.capacity):
        assert search is not None
        assert all(candidate.offsets is None for candidate in search.candidates)
    assert "offsets" not in record.seconds
    assert not any(note.startswith("The labeler on") for note in record.notes)
    assert not load(tmp_path / "out" / "artifact").provenance["labeler_training"].get("class_offsets")
