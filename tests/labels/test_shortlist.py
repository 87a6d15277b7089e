"""The few schemes that stored labels at equal bytes are chosen from: by their sizes alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from label_samples import NUM_IMAGES, T, make_logits, make_subject

from flashdd.core.errors import UsageError
from flashdd.data.imageset import ImageSet
from flashdd.labels.catalog import SHORTLISTED, equal_bytes, num_labels, parse_scheme, shortlist
from flashdd.labels.lowrank import Lowrank
from flashdd.labels.lpld import Lpld
from flashdd.labels.lpqld import Lpqld
from flashdd.labels.scheme import Scheme, Subject
from flashdd.labels.stored import Stored
from flashdd.labels.vq import Vq


def _of_classes(classes: int) -> Subject:
    labels = torch.arange(classes)
    names = tuple(f"class {label}" for label in range(classes))
    pixels = torch.zeros(classes, 1, 8, 8, dtype=torch.uint8)
    return make_subject(images=ImageSet(images=pixels, labels=labels, class_names=names))


def test_few_settings_of_every_scheme() -> None:
    subject = _of_classes(100)
    kept = shortlist(equal_bytes(40_000, subject, epochs=300, temperature=T), 100)
    assert [type(scheme) for scheme in kept] == [*[Stored] * 4, Lpld, Lpqld, Lowrank, Vq]
    assert len(kept) == SHORTLISTED
    assert [scheme.bits for scheme in kept if isinstance(scheme, Stored)] == [16, 4, 3, 2]


def test_finer_labels_that_cover_less_than_4_bits_do_are_passed_over() -> None:
    """At 100 classes a 4-bit label has 50 bytes: 16 classes of 23 bits and rank 32 of 8 bits are the most below."""
    subject = _of_classes(100)
    listed = equal_bytes(40_000, subject, epochs=300, temperature=T)
    kept = {type(scheme): scheme for scheme in shortlist(listed, 100)}
    coarse = next(num_labels(s, 100) for s in listed if isinstance(s, Stored) and s.bits == 4)
    for kind in (Lpqld, Lowrank, Vq):
        settings: list[Scheme] = [scheme for scheme in listed if isinstance(scheme, kind)]
        finer = settings[settings.index(kept[kind]) + 1 :]
        assert num_labels(kept[kind], 100) >= coarse or kept[kind] is settings[0]
        assert all(num_labels(scheme, 100) < coarse for scheme in finer)
    assert kept[Lpqld].settings()["k"] == 16


def test_labels_are_counted_as_they_are_stored() -> None:
    subject = make_subject()
    for scheme in equal_bytes(900, subject, epochs=41, temperature=T):
        settings, size = scheme.settings(), subject.size(41)
        rows = {section.rows for section in scheme.resolve(size).sections(size)}
        assert num_labels(scheme, NUM_IMAGES) in rows, settings


@pytest.mark.parametrize("budget", [200, 450, 500, 600, 900])
def test_little_room_leaves_few(budget: int) -> None:
    listed = equal_bytes(budget, make_subject(), epochs=41, temperature=T)
    kept = shortlist(listed, NUM_IMAGES)
    assert {scheme.kind for scheme in kept} == {scheme.kind for scheme in listed}
    assert all(scheme in listed for scheme in kept)
    assert len({scheme.name for scheme in kept}) == len(kept) <= SHORTLISTED


def test_where_no_whole_epoch_fits_the_setting_that_covers_most_stays() -> None:
    """A thousand classes and 13 KB: one class each of many labels, not all classes of a few."""
    subject = _of_classes(1000)
    kept = shortlist(equal_bytes(13_174, subject, epochs=3000, temperature=T), 1000)
    assert not any(isinstance(scheme, Stored) for scheme in kept)
    pruned = next(scheme for scheme in kept if isinstance(scheme, Lpqld))
    assert pruned.k == 1
    assert num_labels(pruned, 1000) > 3000


@pytest.mark.parametrize("most", [1, 7, 300])
def test_no_scheme_keeps_more_epochs_than_memory_holds(most: int) -> None:
    subject = _of_classes(100)
    size = subject.size(300)
    free = equal_bytes(200_000, subject, epochs=300, temperature=T)
    capped = equal_bytes(200_000, subject, epochs=300, temperature=T, most_epochs=most)
    assert len(capped) == len(free)
    for before, after in zip(free, capped, strict=True):
        assert after.leading_epochs(size) == min(before.leading_epochs(size), most)


def test_first_epochs_write_what_the_whole_table_does(tmp_path: Path) -> None:
    subject = make_subject()
    logits = make_logits()
    for name in ("stored@4bit-e3", "lpld@n20", "lpqld@k2-n20", "hald@2", "vq@4-e3", "lowrank@r2-int8-e3"):
        scheme = parse_scheme(name)
        first = scheme.leading_epochs(subject.size(len(logits)))
        assert first == 3 if name != "hald@2" else first == 2
        files = [tmp_path / f"{name}-{part}" for part in ("whole", "first")]
        scheme.write(files[0], logits, subject, temperature=T)
        scheme.write(files[1], logits[:first], subject, temperature=T, epochs=len(logits))
        for file in files[0].iterdir():
            assert file.read_bytes() == (files[1] / file.name).read_bytes()
        with pytest.raises(
            UsageError, match=f"need the first {first} of them or more; logits have {first - 1}"
        ):
            scheme.write(tmp_path / "few", logits[: first - 1], subject, temperature=T, epochs=len(logits))
