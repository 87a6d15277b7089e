"""An artifact in the layout that the package DD-Ranking reads, for whoever scores with it.

Relied on is ddranking 0.2.0 (arXiv 2505.13300; github.com/NUS-HPC-AI-Lab/DD-Ranking), as read, not as run:

* demo_soft.py loads `images.pt` and `labels.pt` with torch.load and hands them to
  `LabelRobustScoreSoft.compute_metrics(image_tensor=, soft_labels=)`: images (classes x IPC, 3, H, W), normalized as
  utils/data.py normalizes the real ones; a soft label for each image, whose row of the same class all metrics take for
  granted (metrics/soft_label.py makes hard labels as IPC times 0, IPC times 1, ...).
* loss/kl.py and loss/sce.py take the softmax of both sides at one temperature, so labels are logits before temperature.
* `image_path=` is a torchvision ImageFolder instead: class folders, whose names' order is that of the classes.

One label per image can only be that of the image as it is: DD-Ranking's own augmentations then share it, where a
labeler would label every view anew. For that the README names its mode 'M', with the labeler as the teacher.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flashdd.artifact.read import Artifact
from flashdd.core.errors import DataError, OutputError, unknown_name
from flashdd.core.files import atomic_folder
from flashdd.data.imageset import encode_png

IMAGES, LABELS, CLASS_FOLDERS, README = "images.pt", "labels.pt", "images", "README.md"
_CHUNK = 500  # images labelled at a time


@dataclass(frozen=True, kw_only=True)
class RankedDataset:
    """A dataset as DD-Ranking's utils/data.py has it: its classes, and what its images are normalized with."""

    num_classes: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
DATASETS = {
    "CIFAR10": RankedDataset(num_classes=10, mean=_CIFAR_MEAN, std=_CIFAR_STD),
    "CIFAR100": RankedDataset(num_classes=100, mean=_CIFAR_MEAN, std=_CIFAR_STD),
    "TinyImageNet": RankedDataset(num_classes=200),
    "ImageNet1K": RankedDataset(num_classes=1000),
    **{
        name: RankedDataset(num_classes=10)
        for name in ("ImageNette", "ImageWoof", "ImageMeow", "ImageSquawk", "ImageFruit", "ImageYellow")
    },
}
"""By DD-Ranking's names; CIFAR-100 has CIFAR-10's statistics there."""


def export_dd_ranking(artifact: Artifact, out: Path, *, dataset: str | None = None) -> str:
    """Write `artifact` to the new folder `out` and return the name of the dataset that it is taken for.

    images.pt: float32 (N, 3, H, W), normalized with DD-Ranking's statistics; labels.pt: float32 (N, classes), the
    labeler's logits on the images without any augmentation; both load with weights_only. images/: the same as PNG, a
    folder per class. README.md: how to load them. dataset: a name of `DATASETS`; None takes the one that the artifact's
    data are called by. The folder appears whole or not at all.

    Raises OutputError where `out` is a file or a folder that is not empty, UnknownNameError for a dataset that
    DD-Ranking lacks, DataError for images that it cannot take: classes of different sizes, another number of classes,
    or gray ones.
    """
    _check_out(out)
    name = _dataset_name(artifact, dataset)
    known = DATASETS[name]
    _check_images(artifact, name, known)
    pixels = artifact.images.float().div_(255)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (known.mean, known.std))
    with atomic_folder(out) as draft:
        _save(_logits(artifact, pixels), draft / LABELS)
        # in place: floats of the largest sets fill the memory once
        _save(pixels.sub_(mean).div_(std), draft / IMAGES)
        _write_class_folders(artifact, draft / CLASS_FOLDERS)
        (draft / README).write_text(_readme(artifact, name, known), encoding="utf-8")
    return name


def _save(tensor: Tensor, path: Path) -> None:
    with path.open("wb") as file:  # Python's file, for torch's own says RuntimeError where the disk is full
        torch.save(tensor, file)


def _logits(artifact: Artifact, pixels: Tensor) -> Tensor:
    return torch.cat([artifact.labeler.logits_of(chunk) for chunk in torch.split(pixels, _CHUNK)])


def _write_class_folders(artifact: Artifact, folder: Path) -> None:
    rows = artifact.images.permute(0, 2, 3, 1).numpy()
    for index, (pixels, label) in enumerate(zip(rows, artifact.labels.tolist(), strict=True)):
        path = folder / f"{label:05d}" / f"{index:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(pixels))


def _check_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise OutputError(f"{out} {what}: give a folder that does not exist yet with --out.")


def _dataset_name(artifact: Artifact, dataset: str | None) -> str:
    if dataset is not None:
        if dataset not in DATASETS:
            raise unknown_name("DD-Ranking dataset", dataset, DATASETS)
        return dataset
    data = artifact.provenance.get("data")
    called = str(data.get("name") if isinstance(data, dict) else data)
    letters = re.sub(r"[^a-z0-9]", "", called.rpartition("/")[2].lower())
    for name in DATASETS:
        if letters == name.lower():
            return name
    raise DataError(
        f"the artifact was made from the data '{called}', which is no dataset of DD-Ranking: where it is one under "
        f"another name, say which with --dataset ({', '.join(DATASETS)})."
    )


def _check_images(artifact: Artifact, name: str, known: RankedDataset) -> None:
    images = artifact.image_set
    if images.num_classes != known.num_classes:
        raise DataError(
            f"the artifact has {images.num_classes} classes, DD-Ranking's {name} {known.num_classes}: export an "
            "artifact of the whole dataset, or name another one with --dataset."
        )
    if images.shape[0] != 3:
        raise DataError("DD-Ranking's networks take RGB images, those of the artifact are gray.")
    if images.ipc is None:
        raise DataError(
            "DD-Ranking takes as many images of every class for granted; those of the artifact differ in number."
        )


def _readme(artifact: Artifact, name: str, known: RankedDataset) -> str:
    images, labeler = artifact.image_set, artifact.labeler
    facts = {
        "DATASET": name,
        "SHAPE": str(tuple(images.images.shape)),
        "LABELSHAPE": str((images.num_images, images.num_classes)),
        "IPC": str(images.ipc),
        "COUNT": str(images.num_classes),
        "SIDES": str(images.shape[1:]),
        "MEAN": str(known.mean),
        "STD": str(known.std),
        "TEMPERATURE": f"{labeler.temperature:g}",
        "CLASSES": ", ".join(images.class_names[:10]) + (", ..." if images.num_classes > 10 else ""),
    }
    return re.sub(r"<([A-Z]+)>", lambda found: facts[found[1]], _README)


_README = """# Distilled images and soft labels for DD-Ranking

Written by `flashdd export` for dataset `<DATASET>`: <IPC> images per class, classes in the order of the artifact
(<CLASSES>). DD-Ranking has an order of its own: compare.

| file | what |
| --- | --- |
| `images.pt` | float32 <SHAPE>, sorted by class, normalized with mean <MEAN> and std <STD> |
| `labels.pt` | float32 <LABELSHAPE>: the labeler's logits before temperature, on the images without augmentation |
| `images/` | the same images as PNG, a folder per class |

```python
import torch

images = torch.load("images.pt", weights_only=True)
labels = torch.load("labels.pt", weights_only=True)
```

The normalization is DD-Ranking's own for this dataset, without ZCA.

## One soft label per image (mode 'S')

```python
from ddranking.metrics import LabelRobustScoreSoft

scorer = LabelRobustScoreSoft(
    dataset="<DATASET>", ipc=<IPC>, im_size=<SIDES>, use_zca=False, soft_label_mode="S", soft_label_criterion="kl",
    loss_fn_kwargs={"temperature": <TEMPERATURE>, "scale_loss": False}, ...
)
scorer.compute_metrics(image_tensor=images, soft_labels=labels)
```

DD-Ranking augments the images in training, and all augmentations of an image then share its one label. That is not
what a labeler is for: it labels every view anew. Version 0.2.0, as we read it, stops in this mode when it comes to
random images: it asks for an attribute `teacher_model` that it never sets.

## A soft label for every augmented image (mode 'M')

```python
import flashdd

scorer = LabelRobustScoreSoft(
    dataset="<DATASET>", ipc=<IPC>, im_size=<SIDES>, use_zca=False, soft_label_mode="M", soft_label_criterion="kl",
    loss_fn_kwargs={"temperature": <TEMPERATURE>, "scale_loss": False}, teacher_model_names=[],
    random_data_format="image", ...  # custom_train_trans and custom_val_trans end in the normalization above
)
labeler = flashdd.load("ARTIFACT").labeler
scorer.teacher_models = [labeler.as_teacher(<MEAN>, <STD>).to(scorer.device)]
scorer.compute_metrics(image_path="images")
```

Hard labels, where a metric wants them: `torch.arange(<COUNT>).repeat_interleave(<IPC>)`.

Version 0.2.0 puts percent into the exponentials of its scores: take HLR and IOR from it, and compute LRS and ARS from
fractions, as `flashdd compare` does.
"""
