"""`flashdd verify`: all that can be checked about an artifact, as a list; damage is never an exception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from flashdd.artifact.format import IMAGES, LABELER, MANIFEST, REMEDY, Manifest, check_file, read_manifest
from flashdd.artifact.read import artifact_folder, open_images, open_labeler
from flashdd.artifact.replay import LOGITS_TOLERANCE, params_digest, replay_ids, replayed_logits
from flashdd.core.errors import ArtifactError, FlashddError
from flashdd.data.imageset import ImageSet
from flashdd.data.views import ViewMaker
from flashdd.labels.flash.pack import Labeler

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: its name, whether it passed, and what was seen, for people."""

    check: str
    ok: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """All checks, in their order; `ok` if every one passed."""

    path: Path
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "ok": self.ok,
            "checks": [{"check": c.check, "ok": c.ok, "detail": c.detail} for c in self.checks],
        }


def verify(path: str | Path) -> VerifyReport:
    """Check format, hashes, contents, and a replayed batch of views and labels.

    Every check is listed, also after one has failed; those that cannot be made count as failed. Never raises
    for damage.
    """
    checks = _Checks()
    folder = checks.run("folder", lambda: artifact_folder(path), str)
    manifest = checks.run(
        MANIFEST,
        lambda: read_manifest(_need(folder, "folder")),
        lambda found: f"format 1, written by flashdd {found.flashdd}",
    )
    for name in (IMAGES, LABELER):
        checks.run(f"{name}: hash", partial(_check_hash, folder, name, manifest), str)
    images = checks.run(
        f"{IMAGES}: contents",
        lambda: open_images(_need(folder, "folder"), manifest),
        lambda found: f"{found.num_images} images of shape {found.shape} in {found.num_classes} classes",
    )
    labeler = checks.run(
        f"{LABELER}: contents",
        lambda: open_labeler(_need(folder, "folder"), manifest),
        lambda found: f"{found.num_members} members, {found.params} parameters, {found.num_classes} classes",
    )
    checks.run("replayed views", lambda: _check_params(manifest, images), str)
    checks.run("replayed labels", lambda: _check_logits(manifest, images, labeler), str)
    return VerifyReport(path=Path(path), checks=tuple(checks.made))


class _Checks:
    def __init__(self) -> None:
        self.made: list[Check] = []

    def run(self, name: str, check: Callable[[], T], describe: Callable[[T], str]) -> T | None:
        """Make one check; its value, or None where it failed."""
        try:
            value = check()
            self.made.append(Check(check=name, ok=True, detail=describe(value)))
        except FlashddError as error:
            self.made.append(Check(check=name, ok=False, detail=str(error)))
        except Exception as error:  # damage that no reader foresaw is damage all the same
            detail = f"failed with {type(error).__name__}: {error}"
            self.made.append(Check(check=name, ok=False, detail=detail))
        else:
            return value
        return None


def _need(value: T | None, what: str) -> T:
    if value is None:
        raise ArtifactError(f"not checked, because the check '{what}' failed.")
    return value


def _check_hash(folder: Path | None, name: str, manifest: Manifest | None) -> str:
    entry = _need(manifest, MANIFEST).files[name]
    check_file(_need(folder, "folder"), name, entry)
    return f"{entry.num_bytes} bytes, sha256 {entry.sha256}"


def _check_params(manifest: Manifest | None, images: ImageSet | None) -> str:
    manifest, images = _need(manifest, MANIFEST), _need(images, f"{IMAGES}: contents")
    if manifest.replay is None:
        return f"views of mix '{manifest.views.mix}' cannot be replayed"
    maker = _maker(manifest, images)
    epochs, ids = replay_ids(images.num_images)
    got = params_digest(maker.params(epochs, ids))
    if got != manifest.replay.params_sha256:
        raise ArtifactError(
            f"the parameters of the first {len(ids)} views of epoch 0 have sha256 {got}, expected "
            f"{manifest.replay.params_sha256} (views.replay.params_sha256 in {MANIFEST}): {REMEDY}."
        )
    return f"parameters of {len(ids)} views of epoch 0 are bitwise equal"


def _check_logits(manifest: Manifest | None, images: ImageSet | None, labeler: Labeler | None) -> str:
    manifest, images = _need(manifest, MANIFEST), _need(images, f"{IMAGES}: contents")
    labeler = _need(labeler, f"{LABELER}: contents")
    if manifest.replay is None:
        return f"views of mix '{manifest.views.mix}' cannot be replayed"
    got = replayed_logits(_maker(manifest, images), labeler)
    expected = torch.tensor(manifest.replay.logits, dtype=torch.float64)
    difference = float((got.double() - expected).abs().max())
    if not difference <= LOGITS_TOLERANCE:  # not `>`: NaN must fail
        raise ArtifactError(
            f"the labeler's logits on the replayed views differ by up to {difference:.3g} from "
            f"views.replay.logits in {MANIFEST}, expected at most {LOGITS_TOLERANCE}: {REMEDY}."
        )
    return f"logits of {len(got)} views differ by at most {difference:.1e}"


def _maker(manifest: Manifest, images: ImageSet) -> ViewMaker:
    return ViewMaker(images.images, manifest.views, seed=manifest.augmentation_seed)
