"""Bytes of stored labels as the papers count them: coordinates of every view beside its logits.

Read off the released code of each (layout of a view's record). Files cost some 2.2 KB each on top, which published
sizes of small batches show and these formulas leave out. Ours need no coordinates (`Scheme.bytes_of`).
"""

from __future__ import annotations

_BOX, _FLIP, _PARTNER = 16, 1, 8  # float32 crop box, bool, int64 index of the CutMix partner


def fkd_bytes(labels: int, num_classes: int) -> int:
    """SRe2L, CV-DD, FADRM and LPLD: crop box, flip, CutMix partner, float16 logits: 25 + 2 classes."""
    return labels * (_BOX + _FLIP + _PARTNER + 2 * num_classes)


def gvbsm_bytes(labels: int, num_classes: int) -> int:
    """G-VBSM: an int64 image index more: 33 + 2 classes."""
    return fkd_bytes(labels, num_classes) + 8 * labels


def edc_bytes(labels: int, num_classes: int) -> int:
    """EDC: four int64 patch-shuffle indices more: 65 + 2 classes."""
    return gvbsm_bytes(labels, num_classes) + 32 * labels


def lpqld_bytes(labels: int, k: int) -> int:
    """LPQLD: float16 crop box, flip, uint8 partner, and k logits in float16 with their classes in int16: 10 + 4 k."""
    return labels * (8 + 1 + 1 + 4 * k)


def hald_bytes(labels: int, num_classes: int) -> int:
    """HALD: float16 crop box, flip, int64 partner, float16 probabilities: 17 + 2 classes."""
    return labels * (8 + _FLIP + _PARTNER + 2 * num_classes)
