"""On what proxy students are validated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tiny import tiny_config
from torch import Tensor, nn

from flashdd.core.record import Record
from flashdd.pipeline import proxies
from flashdd.pipeline.context import Context
from flashdd.pipeline.distill import images_stage, open_images
from flashdd.pipeline.proxies import Proxy, ProxyJob, train_proxy, training_rows
from flashdd.pipeline.start import started


class _OneHot(nn.Module):
    """A student that is right on the real images `right`, and says class 2 of all others."""

    def __init__(self, right: dict[bytes, int]) -> None:
        super().__init__()
        self.right = right
        self.device = nn.Parameter(torch.zeros(()))  # as any network has

    def forward(self, pixels: Tensor) -> Tensor:
        raw = (pixels * 255).round().to(torch.uint8).numpy()
        return torch.eye(3)[[self.right.get(image.tobytes(), 2) for image in raw]] * 9


def _proxy(context: Context, data: Any, images: Any, right: dict[bytes, int], *, corrected: bool) -> Proxy:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxies, "_trained", lambda *_: _OneHot(right).eval())
        job = ProxyJob(
            stage="s", label="l", protocol=context.setup.protocol, source=cast(Any, None), corrected=corrected
        )
        return train_proxy(context, data, images, cast(Any, None), job, 0)


def test_held_out_images_and_training_images_that_the_proxy_did_not_learn_validate(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    config = tiny_config(images__method="random")
    with started(config, tmp_path / "out", cache=finished[0].parent / "cache", progress=None) as (
        context,
        data,
    ):
        images = open_images(images_stage(context, data, "random"))
        own = {image.tobytes() for image in images.images.numpy()}
        parts = {
            name: {
                image.tobytes(): int(label)
                for image, label in zip(part.images, part.labels.tolist(), strict=True)
            }
            for name, part in (("train", data.train), ("val", data.val))
        }
        rows = training_rows(len(data.train.labels), 3)
        assert len(rows) == len(data.train.labels)
        unseen = [row for row in rows if data.train.images[row].tobytes() not in own]
        assert len(unseen) == len(rows) - len(own)
        count = len(data.val.labels) + len(unseen)
        twos = [int((part == 2).sum()) for part in (data.train.labels[unseen], data.val.labels)]
        for corrected in (False, True):
            right = {**parts["train"], **parts["val"]}
            assert _proxy(context, data, images, right, corrected=corrected).accuracy == 1
            found = _proxy(context, data, images, parts["val"], corrected=corrected)
            assert found.accuracy == (len(data.val.labels) + twos[0]) / count
            found = _proxy(context, data, images, parts["train"], corrected=corrected)
            assert found.accuracy == (len(unseen) + twos[1]) / count


def test_training_images_are_of_every_class_in_a_sorted_set() -> None:
    assert training_rows(365, 3).tolist() == list(range(365))
    rows = training_rows(50_000, 10)
    assert 4000 < len(rows) <= 5000
    assert rows[-1] >= 49_990
    assert len(training_rows(1_281_167, 1000)) <= 10_000
