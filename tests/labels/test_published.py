"""Published sizes of stored labels, from the layouts that the papers' code writes."""

from __future__ import annotations

import pytest
from published_bytes import edc_bytes, fkd_bytes, gvbsm_bytes, hald_bytes, lpqld_bytes

from flashdd.labels.lpqld import Lpqld
from flashdd.labels.scheme import Scheme, TableSize
from flashdd.labels.stored import Stored

GIB = 2**30
CLASSES = 1000
EPOCHS = 300


def _labels(ipc: int) -> int:
    return EPOCHS * ipc * CLASSES


@pytest.mark.parametrize(
    ("ipc", "full", "pruned"), [(10, 5.67, 0.14), (50, 28.33, 0.71), (200, 113.33, 2.85)]
)
def test_imagenet_labels_of_sre2l_and_lpld(ipc: int, full: float, pruned: float) -> None:
    """SRe2L, ImageNet-1K, 300 epochs, and LPLD at 40x: the tables of LPLD's README, whose GB are GiB."""
    assert fkd_bytes(_labels(ipc), CLASSES) / GIB == pytest.approx(full, rel=0.005)
    assert fkd_bytes(_labels(ipc) // 40, CLASSES) / GIB == pytest.approx(pruned, rel=0.02)


def test_lpqld_at_eighty() -> None:
    """80x is k = 50 in files that cost as much again as ten logits: 60 without them."""
    ratio = fkd_bytes(_labels(10), CLASSES) / lpqld_bytes(_labels(10) // 10, 60)
    assert ratio == pytest.approx(80, rel=0.05)
    assert lpqld_bytes(_labels(10) // 10, 60) / GIB == pytest.approx(0.07, rel=0.05)
    assert fkd_bytes(_labels(10), CLASSES) / lpqld_bytes(_labels(10) // 10, 10) == pytest.approx(
        400, rel=0.02
    )


def test_a_record_of_each_layout() -> None:
    assert [fkd_bytes(1, 10), gvbsm_bytes(1, 10), edc_bytes(1, 10)] == [45, 53, 85]
    assert [lpqld_bytes(1, 10), hald_bytes(1, 10)] == [50, 37]
    assert fkd_bytes(100 * 300, 10) == 1_350_000  # CIFAR-10, IPC 10


def _payload(scheme: Scheme, size: TableSize) -> int:
    return sum(section.num_bytes for section in scheme.resolve(size).sections(size))


def test_ours_need_no_coordinates() -> None:
    size = TableSize(epochs=EPOCHS, num_images=10 * CLASSES, num_classes=CLASSES)
    assert _payload(Stored(), size) == 2 * CLASSES * _labels(10)
    assert fkd_bytes(_labels(10), CLASSES) - _payload(Stored(), size) == 25 * _labels(10)
    assert _payload(Lpqld(), size) <= 2 * CLASSES * _labels(10) / 80
    assert Lpqld().resolve(size).k == 76  # where coordinates and int16 leave room for 50
    assert _payload(Stored(bits=4), TableSize(epochs=1000, num_images=100, num_classes=10)) == 500_032
