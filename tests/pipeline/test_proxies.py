"""On what proxy students are validated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tiny import tiny_config
from torch import Tensor, nn

from flashdd.core.errors import DataError
from flashdd.core.record import Record
from flashdd.data.dataset import RealDataset, Split
from flashdd.data.imageset import ImageSet
from flashdd.labels.flash.offsets import fit_offsets
from flashdd.pipeline import proxies
from flashdd.pipeline.context import Context
from flashdd.pipeline.distill import distill, images_stage, open_images
from flashdd.pipeline.proxies import Proxy, ProxyJob, train_proxy, training_rows, unvalidated_classes
from flashdd.pipeline.start import started
from flashdd.training.evaluate import logits_of

Opened = tuple[Context, RealDataset, ImageSet]


class _Biased(nn.Module):
    """A student that says class 2 of all real images that are not `right`; of those its logits tell the class, but for
    a bias that makes them class 2, too, where it is `biased`."""

    def __init__(self, right: dict[bytes, int], *, biased: bool = False) -> None:
        super().__init__()
        self.right, self.bias = right, torch.tensor([0.0, 0.0, 4.0 if biased else 0.0])
        self.device = nn.Parameter(torch.zeros(()))  # as any network has

    def forward(self, pixels: Tensor) -> Tensor:
        raw = (pixels * 255).round().to(torch.uint8).numpy()
        spread = pixels.mean((1, 2, 3)).unsqueeze(1) * torch.tensor([1.0, -1.0, 0.0])
        return torch.eye(3)[[self.right.get(image.tobytes(), 2) for image in raw]] * 3 + self.bias + spread


def _proxy(context: Context, data: Any, images: Any, student: nn.Module, *, corrected: bool = False) -> Proxy:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxies, "_trained", lambda *_: student.eval())
        job = ProxyJob(
            stage="s", label="l", protocol=context.setup.protocol, source=cast(Any, None), corrected=corrected
        )
        return train_proxy(context, data, images, cast(Any, None), job, 0)


@pytest.fixture(scope="module")
def opened(finished: tuple[Path, Record], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A run, its real data, and its distilled images, which are random training images."""
    out = tmp_path_factory.mktemp("proxies")
    config = tiny_config(images__method="random")
    with started(config, out, cache=finished[0].parent / "cache", progress=None) as (context, data):
        yield context, data, open_images(images_stage(context, data, "random"))


def _classes(split: Split) -> dict[bytes, int]:
    return {
        image.tobytes(): int(label) for image, label in zip(split.images, split.labels.tolist(), strict=True)
    }


def _unseen(data: RealDataset, images: ImageSet) -> list[int]:
    rows = training_rows(len(data.train.labels), 3)
    own = {image.tobytes() for image in images.images.numpy()}
    assert len(rows) == len(data.train.labels)
    return [row for row in rows if data.train.images[row].tobytes() not in own]


def test_held_out_images_and_training_images_that_the_proxy_did_not_learn_validate(opened: Opened) -> None:
    context, data, images = opened
    train, val, unseen = _classes(data.train), _classes(data.val), _unseen(data, images)
    assert len(unseen) == len(data.train.labels) - images.num_images
    count = len(data.val.labels) + len(unseen)
    twos = [int((part == 2).sum()) for part in (data.train.labels[unseen], data.val.labels)]
    assert _proxy(context, data, images, _Biased({**train, **val})).accuracy == 1
    assert _proxy(context, data, images, _Biased(val)).accuracy == (len(data.val.labels) + twos[0]) / count
    assert _proxy(context, data, images, _Biased(train)).accuracy == (len(unseen) + twos[1]) / count


def test_held_out_images_that_were_distilled_elsewhere_do_not_validate(opened: Opened) -> None:
    context, data, images = opened
    rows = [row for row, label in enumerate(data.val.labels.tolist()) if label != 2][:3]
    of_val = ImageSet(
        images=torch.from_numpy(data.val.images[rows]),
        labels=data.val.labels[rows].sort().values,
        class_names=images.class_names,
    )
    right = {**_classes(data.train), **_classes(data.val)}
    for image in of_val.images.numpy():
        del right[image.tobytes()]  # the student says class 2 of its own
    assert _proxy(context, data, of_val, _Biased(right)).accuracy == 1


def test_of_images_that_are_all_distilled_none_validates(opened: Opened) -> None:
    context, data, _ = opened
    parts = [np.array(part.images) for part in (data.train, data.val)]
    every = ImageSet(
        images=torch.from_numpy(np.concatenate(parts)),
        labels=torch.cat([data.train.labels, data.val.labels]).sort().values,
        class_names=data.class_names,
    )
    with pytest.raises(DataError, match="give fewer"):
        _proxy(context, data, every, _Biased({}))


def test_classes_without_an_image_to_validate_are_named(opened: Opened) -> None:
    _, data, images = opened
    assert unvalidated_classes(data, images) == []
    taken = [part.images[(part.labels == 1).numpy()] for part in (data.train, data.val)]
    every = torch.from_numpy(np.concatenate([np.array(part) for part in taken]))
    ones = torch.ones(len(every), dtype=torch.int64)
    assert unvalidated_classes(data, replace(images, images=every, labels=ones)) == [data.class_names[1]]
    kept = replace(images, images=every[:-1], labels=ones[:-1])  # one held-out image is left
    assert unvalidated_classes(data, kept) == []


def test_a_set_made_elsewhere_that_leaves_a_class_no_image_is_told_so(
    opened: Opened, finished: tuple[Path, Record], tmp_path: Path
) -> None:
    _, data, _ = opened
    parts = [data.train, data.val]
    taken = [torch.from_numpy(part.images[(part.labels == 1).numpy()]) for part in parts]
    others = [
        torch.from_numpy(data.train.images[(data.train.labels == label).numpy()][:2]) for label in (0, 2)
    ]
    images = torch.cat([*taken, *others])
    ones = len(images) - 4
    held = {"images": images, "labels": torch.tensor([1] * ones + [0, 0, 2, 2])}
    torch.save(held, tmp_path / "set.pt")
    config = tiny_config(images__method=str(tmp_path / "set.pt"), images__check_classes=False)
    made = distill(config, tmp_path / "out", cache=finished[0].parent / "cache")
    assert f"all real images of '{data.class_names[1]}' that could validate" in " ".join(made["notes"])
    torch.save(
        {"images": images[:ones].repeat(3, 1, 1, 1), "labels": torch.arange(3).repeat_interleave(ones)},
        tmp_path / "set.pt",
    )
    with pytest.raises(
        DataError, match=rf"{ones} images of every class are more than those of class '\d'.*give fewer"
    ):
        distill(config, tmp_path / "out", cache=finished[0].parent / "cache")


def test_a_corrected_proxy_by_hand(opened: Opened) -> None:
    """Its offsets are those of all training images that validate; each of these is judged by those of four fifths."""
    context, data, images = opened
    rows = sorted(_unseen(data, images), key=lambda row: int(data.train.labels[row]))
    right = {**_classes(data.train), **_classes(data.val)}
    student = _Biased({image: right[image] for image in list(right)[::2]}, biased=True)
    trained, held = (logits_of(student, part) for part in (data.train.images[rows], data.val.images))
    wanted = data.train.labels[rows]
    asked = fit_offsets(trained, wanted)
    hits = int(((held + asked).argmax(1) == data.val.labels).sum())
    for index in range(len(rows)):
        others = [other for other in range(len(rows)) if other % 5 != index % 5]
        offsets = fit_offsets(trained[others], wanted[others])
        hits += int((trained[index] + offsets).argmax() == wanted[index])
    found = _proxy(context, data, images, student, corrected=True)
    assert found.offsets == pytest.approx(asked.tolist())  # the rows lie in another order
    assert found.corrected == hits / (len(rows) + len(data.val.labels))
    assert found.accuracy < found.corrected < 1


def test_where_every_fifth_image_is_of_one_class_folds_have_all_classes() -> None:
    classes = torch.arange(100) % 5
    logits = 3 * torch.eye(5)[classes] + torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    corrected = proxies._corrected(proxies._Judged(logits=logits, classes=classes))
    assert (corrected.argmax(1) == classes).double().mean() > 0.9


def test_training_images_are_of_every_class_in_a_sorted_set() -> None:
    assert training_rows(365, 3).tolist() == list(range(365))
    for count in (5001, 42_500, 50_000):
        rows = training_rows(count, 10)
        assert len(set(rows.tolist())) == 5000
        assert rows[0] == 0
        assert count - 10 <= rows[-1] < count
    assert len(training_rows(1_281_167, 1000)) == 10_000
