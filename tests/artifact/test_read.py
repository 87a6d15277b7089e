"""Opening an artifact, and the two ways to train from it."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from artifact_samples import SHAPE, VIEWS, make_artifact, make_images, make_labeler, reseal
from torch.utils.data import DataLoader

from flashdd.artifact.format import IMAGES, LABELER, MANIFEST
from flashdd.artifact.read import Artifact, load
from flashdd.artifact.verify import verify
from flashdd.core.errors import ArtifactError, UsageError
from flashdd.core.seeds import derive, generator
from flashdd.data.imageset import ImageSet, write_parquet
from flashdd.data.views import ViewMaker
from flashdd.data.viewspec import ViewSpec
from flashdd.labels.flash.pack import write_labeler


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("sound") / "artifact")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "artifact"))


@pytest.fixture(scope="module")
def artifact(sound: Path) -> Artifact:
    return load(sound)


def test_what_was_written_is_read(artifact: Artifact, sound: Path) -> None:
    images, labeler = make_images(), make_labeler()
    assert artifact.path == sound
    assert torch.equal(artifact.images, images.images)
    assert torch.equal(artifact.labels, images.labels)
    assert artifact.class_names == images.class_names
    assert artifact.image_set.content_hash == images.content_hash
    assert artifact.views == VIEWS
    assert artifact.augmentation_seed == 7
    assert artifact.protocol == {"name": "flash", "batch_size": 100, "temperature": None}
    assert artifact.provenance["data"] == "digits"
    assert artifact.figures["students"][0]["accuracy"]["n"] == 3
    pixels = images.images / 255
    assert torch.equal(artifact.labeler.logits_of(pixels), labeler.logits_of(pixels))
    assert load(str(sound)).augmentation_seed == 7


def test_extra_files_and_an_edited_card_are_fine(folder: Path) -> None:
    (folder / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (folder / "data" / "notes.txt").write_text("mine")
    (folder / "README.md").write_text("edited")
    edited = load(folder)
    (folder / "README.md").unlink()
    assert load(folder).image_set.content_hash == edited.image_set.content_hash


@pytest.mark.parametrize("name", [MANIFEST, IMAGES, LABELER])
def test_missing_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing, expected a file of every flashdd artifact"):
        load(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="none does not exist: expected the folder of an artifact"):
        load(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="file is no folder"):
        load(tmp_path / "file")


def test_the_folder_of_a_run_stands_for_the_artifact_in_it(folder: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    shutil.copytree(folder, run_folder / "artifact")
    assert load(run_folder).path == run_folder / "artifact"
    assert verify(run_folder).ok


def test_what_is_printed_of_an_artifact_is_a_line(artifact: Artifact) -> None:
    shown = repr(artifact)
    assert shown.startswith(f"Artifact('{artifact.path}': 6 images {SHAPE} of 3 classes, labeler of ")
    assert len(shown.splitlines()) == 1


def test_files_of_other_artifacts_are_refused_though_hashes_agree(folder: Path) -> None:
    fewer = make_images(per_class=1)
    write_parquet(fewer, folder / IMAGES)
    reseal(folder)
    with pytest.raises(
        ArtifactError, match=r"parquet: num_images is 3, expected 6 as field 'num_images' of flash"
    ):
        load(folder)
    write_parquet(make_images(shape=(1, 8, 8)), folder / IMAGES)
    reseal(folder)
    with pytest.raises(ArtifactError, match=r"parquet: shape is \(1, 8, 8\), expected \(3, 8, 8\)"):
        load(folder)
    write_parquet(make_images(names=("cat", "dog", "cow")), folder / IMAGES)
    reseal(folder)
    with pytest.raises(ArtifactError, match=r"parquet: class_names is \('cat', 'dog', 'cow'\), expected"):
        load(folder)
    write_parquet(make_images(), folder / IMAGES)
    write_labeler(make_labeler(num_classes=4), folder / LABELER)
    reseal(folder)
    with pytest.raises(
        ArtifactError, match=r"safetensors: number of classes is 4, expected 3 as field 'class_n"
    ):
        load(folder)
    write_labeler(make_labeler(shape=(3, 8, 9)), folder / LABELER)
    reseal(folder)
    with pytest.raises(ArtifactError, match=r"safetensors: shape is \(3, 8, 9\), expected \(3, 8, 8\)"):
        load(folder)
    write_labeler(make_labeler(seed=5), folder / LABELER)
    with pytest.raises(ArtifactError, match=r"labeler.safetensors.*files.labeler.safetensors"):
        load(folder)


def test_loading_imports_neither_datasets_nor_pandas(sound: Path) -> None:
    code = (
        "import sys, flashdd\n"
        f"flashdd.load({str(sound)!r})\n"
        "print([name for name in ('datasets', 'pandas', 'huggingface_hub') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------- batches


def naive(
    artifact: Artifact, batch_size: int, seed: int, epochs: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The same by hand: one view at a time, one image at a time."""
    count = len(artifact.images)
    maker = ViewMaker(artifact.images, artifact.views, seed=artifact.augmentation_seed)
    pairs = []
    for epoch in range(epochs):
        order = torch.randperm(count, generator=generator(derive(seed, "student"), "order", epoch))
        pairs.append([(epoch, int(image)) for image in order])
    groups = [[pair for epoch in pairs for pair in epoch]] if count < batch_size else pairs
    batches = []
    for group in groups:
        for start in range(0, len(group), batch_size):
            views = [
                maker.make(torch.tensor([epoch]), torch.tensor([image])).pixels
                for epoch, image in group[start : start + batch_size]
            ]
            logits = torch.cat([artifact.labeler.logits_of(view) for view in views])
            batches.append((torch.cat(views), (logits / artifact.labeler.temperature).softmax(1)))
    return batches


@pytest.mark.parametrize(
    ("batch_size", "lengths"), [(1, [1] * 18), (4, [4, 2] * 3), (6, [6] * 3), (10, [10, 8])]
)
def test_batches(artifact: Artifact, batch_size: int, lengths: list[int]) -> None:
    batches = artifact.batches(batch_size, seed=3, epochs=3)
    found = list(batches)
    assert len(batches) == len(lengths)
    assert [len(views) for views, _ in found] == lengths
    for (views, labels), (own_views, own_labels) in zip(
        found, naive(artifact, batch_size, 3, 3), strict=True
    ):
        assert views.dtype == labels.dtype == torch.float32
        assert views.shape[1:] == SHAPE
        assert 0 <= views.min() <= views.max() <= 1
        assert torch.equal(views, own_views)
        assert torch.allclose(labels, own_labels, atol=1e-6)
        assert torch.allclose(labels.sum(1), torch.ones(len(labels)))
        assert not labels.requires_grad


def test_batches_can_be_iterated_again(artifact: Artifact) -> None:
    batches = artifact.batches(4, seed=0, epochs=2)
    for (one, one_labels), (two, two_labels) in zip(batches, batches, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one_labels, two_labels)


def test_seed_orders_and_augmentation_seed_draws(artifact: Artifact) -> None:
    def views(seed: int) -> torch.Tensor:
        return torch.cat([views for views, _ in artifact.batches(6, seed=seed, epochs=1)])

    one, two = views(0), views(1)
    assert not torch.equal(one, two)
    key = lambda view: view.flatten().tolist()  # noqa: E731
    assert sorted(map(key, one)) == sorted(map(key, two))


def test_batches_take_views_that_depend_on_the_batch(tmp_path: Path) -> None:
    artifact = load(make_artifact(tmp_path / "artifact", views=ViewSpec(mix="cutmix-batch")))
    assert [len(views) for views, _ in artifact.batches(4, seed=0, epochs=1)] == [4, 2]
    with pytest.raises(UsageError, match=r"'cutmix-batch' depend on their batch.*\.batches"):
        artifact.dataset()


@pytest.mark.parametrize(("batch_size", "epochs"), [(0, 1), (1, 0), (-1, 1), (1.5, 1)])
def test_batches_refuse(artifact: Artifact, batch_size: int, epochs: int) -> None:
    with pytest.raises(UsageError, match="expected an integer of at least 1"):
        artifact.batches(batch_size, seed=0, epochs=epochs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu(artifact: Artifact) -> None:
    on_gpu = list(artifact.batches(4, seed=3, epochs=2, device="cuda"))
    on_cpu = list(artifact.batches(4, seed=3, epochs=2))
    for (views, labels), (own_views, own_labels) in zip(on_gpu, on_cpu, strict=True):
        assert views.is_cuda
        assert labels.is_cuda
        assert torch.allclose(views.cpu(), own_views, atol=1e-5)
        assert torch.allclose(labels.cpu(), own_labels, atol=1e-4)
    assert not artifact.labeler.mean.is_cuda, "the artifact itself stays where it was"


# ---------------------------------------------------------------------------------- dataset


def test_dataset_items(artifact: Artifact) -> None:
    dataset = artifact.dataset(epoch=2)
    maker = ViewMaker(artifact.images, artifact.views, seed=artifact.augmentation_seed)
    assert len(dataset) == 6
    for epoch in (2, 5):
        dataset.set_epoch(epoch)
        assert dataset.epoch == epoch
        for index in range(6):
            view, label = dataset[index]
            own = maker.make(torch.tensor([epoch]), torch.tensor([index])).pixels
            assert torch.equal(view, own[0])
            own_label = (artifact.labeler.logits_of(own) / 4.0).softmax(1)
            assert torch.allclose(label, own_label[0], atol=1e-6)
    assert torch.equal(dataset[-1][0], dataset[5][0])
    with pytest.raises(IndexError):
        dataset[6]
    with pytest.raises(IndexError):
        dataset[-7]
    with pytest.raises(UsageError, match="epoch is -1"):
        dataset.set_epoch(-1)


def test_dataset_pickles(artifact: Artifact) -> None:
    dataset = artifact.dataset(epoch=1)
    expected = dataset[3]
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301, our own bytes, as spawned workers get them
    assert torch.equal(copy[3][0], expected[0])
    assert torch.equal(copy[3][1], expected[1])
    assert copy.epoch == 1


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_loader_with_workers_that_stay(artifact: Artifact, context: str) -> None:
    """`set_epoch` must reach workers that are already running."""
    dataset = artifact.dataset()
    loader = DataLoader(
        dataset, batch_size=4, num_workers=1, persistent_workers=True, multiprocessing_context=context
    )
    for epoch in (0, 3):
        dataset.set_epoch(epoch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking a process that has threads
            found = list(loader)
        own = artifact.dataset(epoch)
        assert torch.equal(
            torch.cat([views for views, _ in found]), torch.stack([own[i][0] for i in range(6)])
        )
        assert [views.shape for views, _ in found] == [(4, *SHAPE), (2, *SHAPE)]
        assert [labels.shape for _, labels in found] == [(4, 3), (2, 3)]


def test_labeler_stands_in_for_a_teacher(artifact: Artifact) -> None:
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    pixels = artifact.images / 255
    normalized = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    teacher = artifact.labeler.as_teacher(mean, std)
    assert teacher.temperature == artifact.labeler.temperature
    logits = teacher(normalized)
    assert torch.allclose(logits, artifact.labeler.logits_of(pixels), atol=1e-4)
    with pytest.raises(UsageError, match="1 means and 3 deviations: expected 3 of each"):
        artifact.labeler.as_teacher([0.5], std)
    for wrong in ([0.2, 0.0, 0.3], [0.2, float("nan"), 0.3]):
        with pytest.raises(UsageError, match="expected finite numbers, deviations above 0"):
            artifact.labeler.as_teacher(mean, wrong)
    with pytest.raises(UsageError, match=r"labels images \(3, .*\); got \(1, 8, 8\)"):
        artifact.labeler.as_teacher(mean, std)(torch.zeros(2, 1, 8, 8))


def test_uneven_classes(tmp_path: Path) -> None:
    images = make_images()
    uneven = ImageSet(
        images=images.images, labels=torch.tensor([0, 0, 0, 0, 2, 2]), class_names=images.class_names
    )
    assert load(make_artifact(tmp_path / "artifact", images=uneven)).labels.tolist() == [0, 0, 0, 0, 2, 2]
