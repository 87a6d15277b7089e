"""flashdd.json: what an artifact says about itself, written canonically and read strictly.

FORMAT.md, section "Artifact", specifies every byte. A reader accepts what that section says and nothing
else; each refusal names the file, the field, what was expected and what to do.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from flashdd.core.errors import ArtifactError, DataError, UsageError
from flashdd.core.files import canonical_json, sha256_bytes, sha256_file
from flashdd.data.imageset import class_names_problem, shape_problem
from flashdd.data.viewspec import ViewSpec

FORMAT_VERSION = 1
MANIFEST = "flashdd.json"
IMAGES = "data/train-00000-of-00001.parquet"
LABELER = "labeler.safetensors"
CARD = "README.md"
REPLAYED_IMAGES = 16
"""Views of epoch 0 of image ids 0..15 (or fewer) are replayed by `flashdd verify`."""

REMEDY = "get a fresh copy of the artifact, or write it again with flashdd"
_MAX_MANIFEST_BYTES = 256_000_000
_TAIL = re.compile(rb',"sha256":"([0-9a-f]{64})"\}')
_TAIL_BYTES = len(',"sha256":"') + 64 + len('"}')
_SHA256 = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """Size in bytes and hexadecimal SHA-256 of one file of the artifact."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a reader must get again from the views of epoch 0, image ids 0..min(16, N) - 1."""

    params_sha256: str
    """Digest of the views' integer parameters (`replay.params_digest`)."""
    logits: tuple[tuple[float, ...], ...]
    """The labeler's logits, one row per view, rounded to 5 decimals."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of flashdd.json, format 1; `replay` is None where the views cannot be replayed."""

    flashdd: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    num_images: int
    views: ViewSpec
    augmentation_seed: int
    replay: Replay | None
    files: dict[str, FileEntry]
    protocol: dict[str, Any]
    provenance: dict[str, Any]
    figures: dict[str, Any]


def has_class_offsets(provenance: Mapping[str, Any]) -> bool:
    """Whether the labeler of an artifact has class offsets, as far as the artifact says."""
    training = provenance.get("labeler_training")
    return isinstance(training, dict) and training.get("class_offsets") is True


# ---------------------------------------------------------------------------------------------- writing


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of flashdd.json: canonical JSON, then the field `sha256` over all bytes before it.

    Raises DataError where `protocol`, `provenance` or `figures` hold what JSON cannot.
    """
    replay = manifest.replay
    covered = canonical_json(
        {
            "class_names": list(manifest.class_names),
            "figures": _plain("figures", manifest.figures),
            "files": {
                name: {"bytes": entry.num_bytes, "sha256": entry.sha256}
                for name, entry in manifest.files.items()
            },
            "flashdd": manifest.flashdd,
            "format": FORMAT_VERSION,
            "num_images": manifest.num_images,
            "protocol": _plain("protocol", manifest.protocol),
            "provenance": _plain("provenance", manifest.provenance),
            "shape": list(manifest.shape),
            "views": {
                "augmentation_seed": manifest.augmentation_seed,
                "replay": replay
                and {"logits": [list(row) for row in replay.logits], "params_sha256": replay.params_sha256},
                "spec": _plain("views.spec", manifest.views.to_json()),
            },
        }
    )[:-1]  # without the closing brace, which comes after the hash
    return covered + f',"sha256":"{sha256_bytes(covered)}"}}'.encode()


def _plain(field: str, value: dict[str, Any]) -> Any:
    """The value as JSON reads it back (tuples as lists, keys as strings), so that canonical stays so."""
    try:
        return json.loads(canonical_json(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"cannot keep '{field}' in {MANIFEST} ({error}): expected a dict of what JSON can hold."
        ) from error


# ---------------------------------------------------------------------------------------------- reading


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder`/flashdd.json; the other files are not looked at.

    Raises ArtifactError: missing, foreign, truncated or edited file, newer format, unknown or missing field,
    wrong type or value.
    """
    file = regular_file(folder, MANIFEST)
    return _manifest_of(file, _document_of(file, _read(file)))


def regular_file(folder: Path, name: str) -> Path:
    """`folder / name`, after a check that it is a plain file reached through no link below `folder`.

    Raises ArtifactError. Links are refused because what they point to is not part of the folder, and so
    neither copied nor uploaded with it.
    """
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            raise ArtifactError(
                f"{path} is a symbolic link, expected a plain file: copy the artifact with `cp -rL`, or "
                "download it into a folder of its own (snapshot_download(..., local_dir=...))."
            )
    if not path.is_file():
        hint = "is this the folder that flashdd wrote (OUT/artifact)?" if name == MANIFEST else f"{REMEDY}."
        raise ArtifactError(f"{path} is missing, expected a file of every flashdd artifact: {hint}")
    return path


def check_file(folder: Path, name: str, entry: FileEntry) -> Path:
    """The path of one of the artifact's files; ArtifactError unless size and hash are those of `entry`."""
    path = regular_file(folder, name)
    size = path.stat().st_size
    if size != entry.num_bytes:
        raise ArtifactError(
            f"{path} has {size} bytes, expected {entry.num_bytes} (files.{name}.bytes in {MANIFEST}): "
            + ("it is a Git LFS pointer, run `git lfs pull`." if _is_lfs_pointer(path) else f"{REMEDY}.")
        )
    try:
        got = sha256_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if got != entry.sha256:
        raise ArtifactError(
            f"{path} is damaged or was edited: its sha256 is {got}, expected {entry.sha256} "
            f"(files.{name}.sha256 in {MANIFEST}): {REMEDY}."
        )
    return path


def _unreadable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(f"{path} cannot be read ({error.strerror}): check the disk and its permissions.")


def _is_lfs_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(24) == b"version https://git-lfs."


def _read(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        if size > _MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{file} has {size} bytes, expected at most {_MAX_MANIFEST_BYTES}: {REMEDY}.")
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error


def _document_of(file: Path, data: bytes) -> dict[str, Any]:
    """The JSON object without `sha256`, once the format number, the hash and the canonical form are right."""
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{file} is no JSON ({error}): it is cut short or foreign, {REMEDY}.") from error
    if not isinstance(document, dict) or type(document.get("format")) is not int:
        raise ArtifactError(
            f"{file}: field 'format' is missing or no integer, expected {FORMAT_VERSION}: this is not the "
            f"{MANIFEST} of a flashdd artifact, {REMEDY}."
        )
    number = document["format"]
    if number > FORMAT_VERSION:
        raise ArtifactError(
            f"{file}: written by a newer flashdd (format {number}); this version reads format "
            f"{FORMAT_VERSION}: upgrade flashdd."
        )
    if number != FORMAT_VERSION:
        raise ArtifactError(f"{file}: field 'format' is {number}, expected {FORMAT_VERSION}: {REMEDY}.")
    covered, tail = data[:-_TAIL_BYTES], _TAIL.fullmatch(data[-_TAIL_BYTES:])
    if tail is None:
        raise ArtifactError(
            f"{file}: field 'sha256' is not the last field, of 64 hexadecimal digits; the file was edited: "
            f"{REMEDY}."
        )
    got = sha256_bytes(covered)
    if got != tail[1].decode():
        raise ArtifactError(
            f"{file} is damaged or was edited: the sha256 of what stands before field 'sha256' is {got}, "
            f"expected {tail[1].decode()}: {REMEDY}."
        )
    del document["sha256"]
    if not _is_canonical(document, covered):
        raise ArtifactError(
            f"{file} is not canonical JSON (sorted unique keys, no spaces, finite numbers, UTF-8): {REMEDY}."
        )
    return document


def _is_canonical(document: dict[str, Any], covered: bytes) -> bool:
    try:
        return canonical_json(document) == covered + b"}"
    except (ValueError, RecursionError):  # NaN, infinity, or text that UTF-8 cannot hold
        return False


class _Fields:
    """Strict access to the fields of one JSON object; `prefix` says where in the file it stands."""

    def __init__(self, file: Path, value: dict[str, Any], names: set[str], prefix: str = "") -> None:
        self.file, self.value, self.prefix = file, value, prefix
        for name in sorted(names - value.keys()):
            self.fail(name, "is missing")
        for name in sorted(value.keys() - names):
            self.fail(name, f"is unknown in format {FORMAT_VERSION}")

    def fail(self, name: str, problem: str) -> NoReturn:
        raise ArtifactError(f"{self.file}: field '{self.prefix}{name}' {problem}: {REMEDY}.")

    def get(self, name: str, kind: type[T], expected: str, accept: Callable[[T], bool] = lambda _: True) -> T:
        value = self.value[name]
        if type(value) is not kind or not accept(value):  # not isinstance: True is no integer here
            self.fail(name, f"is {_short(value)}, expected {expected}")
        return value

    def inner(self, name: str, names: set[str]) -> _Fields:
        value = self.get(name, dict, "an object")
        return _Fields(self.file, value, names, f"{self.prefix}{name}.")


def _manifest_of(file: Path, document: dict[str, Any]) -> Manifest:
    names = {"class_names", "figures", "files", "flashdd", "format", "num_images", "protocol", "provenance"}
    fields = _Fields(file, document, names | {"shape", "views"})
    class_names = fields.get("class_names", list, "a list of strings")
    if problem := class_names_problem(class_names):
        fields.fail("class_names", f"is wrong: {problem}")
    num_images = fields.get("num_images", int, "an integer of at least 1", lambda count: count >= 1)
    views = fields.inner("views", {"augmentation_seed", "replay", "spec"})
    shape = _shape_of(fields)
    spec = _spec_of(views, shape)
    return Manifest(
        flashdd=fields.get("flashdd", str, "the version of flashdd that wrote it", bool),
        class_names=tuple(class_names),
        shape=shape,
        num_images=num_images,
        views=spec,
        augmentation_seed=views.get(
            "augmentation_seed", int, "an integer in 0..2^64-1", lambda seed: 0 <= seed < 2**64
        ),
        replay=_replay_of(views, min(REPLAYED_IMAGES, num_images), len(class_names), spec.replayable),
        files=_files_of(fields),
        protocol=fields.get("protocol", dict, "an object"),
        provenance=fields.get("provenance", dict, "an object"),
        figures=fields.get("figures", dict, "an object"),
    )


def _shape_of(fields: _Fields) -> tuple[int, int, int]:
    shape = fields.get("shape", list, "[channels, height, width]", lambda sides: len(sides) == 3)
    if any(type(side) is not int for side in shape):
        fields.fail("shape", f"is {_short(shape)}, expected three integers")
    channels, height, width = shape
    if problem := shape_problem((channels, height, width)):
        fields.fail("shape", f"is wrong: {problem}")
    return channels, height, width


def _spec_of(views: _Fields, shape: tuple[int, int, int]) -> ViewSpec:
    value = views.get("spec", dict, "an object")
    try:
        spec = ViewSpec.from_json(value)
        spec.check_shape(*shape[1:])
    except (ArtifactError, UsageError) as error:
        raise ArtifactError(f"{views.file}: field 'views.spec': {error}") from error
    return spec


def _replay_of(views: _Fields, num_views: int, num_classes: int, replayable: bool) -> Replay | None:
    if not replayable:
        views.get("replay", type(None), "null, as these views cannot be replayed")
        return None
    replay = views.inner("replay", {"logits", "params_sha256"})
    logits = replay.get(
        "logits", list, f"{num_views} rows of {num_classes} numbers", lambda rows: len(rows) == num_views
    )
    for index, row in enumerate(logits):
        if type(row) is not list or len(row) != num_classes or not all(map(_is_finite, row)):
            replay.fail(f"logits[{index}]", f"is {_short(row)}, expected {num_classes} finite numbers")
    digest = replay.get("params_sha256", str, "64 hexadecimal digits", _is_sha256)
    return Replay(params_sha256=digest, logits=tuple(map(tuple, logits)))


def _files_of(fields: _Fields) -> dict[str, FileEntry]:
    files = fields.inner("files", {IMAGES, LABELER})
    entries = {}
    for name in (IMAGES, LABELER):
        entry = files.inner(name, {"bytes", "sha256"})
        entries[name] = FileEntry(
            num_bytes=entry.get("bytes", int, "an integer of at least 1", lambda size: size >= 1),
            sha256=entry.get("sha256", str, "64 hexadecimal digits", _is_sha256),
        )
    return entries


def _is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


def _is_finite(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
