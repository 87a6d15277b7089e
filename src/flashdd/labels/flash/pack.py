"""The labeler's file: one U8 blob in a safetensors container, described by JSON in its metadata.

FORMAT.md specifies every byte. Everything is checked against the architecture before a tensor is made, so that
no file makes a reader allocate more than a small multiple of the file's own size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flashdd.core.errors import ArtifactError, FlashddError
from flashdd.core.files import canonical_json, write_atomic
from flashdd.labels.flash.labeler import Labeler, Member
from flashdd.models.family import LabelerSpec, LayerShape, spec_layers

__all__ = [
    "FORMAT",
    "Labeler",
    "labeler_bytes",
    "packed_bytes",
    "parse_labeler",
    "read_labeler",
    "write_labeler",
]

FORMAT = 1
_TENSOR = "labeler"
_METADATA = "flashdd"
_MAX_FILE = 1 << 30
_MAX_SIDE = 4096


def labeler_bytes(labeler: Labeler) -> bytes:
    """The file of `labeler`; equal labelers give equal bytes."""
    from safetensors.torch import save

    blob = b"".join(_member_blob(member) for member in labeler.members)
    metadata = {
        "format": FORMAT,
        "shape": list(labeler.shape),
        "classes": labeler.num_classes,
        "bits": labeler.bits,
        "members": [[member.spec.name, member.weight] for member in labeler.members],
        "mean": list(labeler.statistics[0]),
        "std": list(labeler.statistics[1]),
        "temperature": labeler.temperature,
        "logit_scale": labeler.logit_scale,
    }
    tensor = torch.from_numpy(np.frombuffer(bytearray(blob), dtype=np.uint8))
    return bytes(save({_TENSOR: tensor}, metadata={_METADATA: canonical_json(metadata).decode()}))


def packed_bytes(spec: LabelerSpec, shape: tuple[int, int, int], num_classes: int) -> int:
    """The largest file that a labeler of one member `spec` can have: real bytes of one with the longest numbers."""
    layers = spec_layers(spec, shape, num_classes)
    member = Member(
        spec=spec,
        integers=tuple(torch.zeros(layer.weight_shape, dtype=torch.int8) for layer in layers),
        scales=tuple(torch.ones(layer.outputs, dtype=torch.float16) for layer in layers),
        biases=tuple(torch.zeros(layer.outputs, dtype=torch.float16) for layer in layers),
    )
    statistics = [0.123456] * shape[0]
    labeler = Labeler(
        [member],
        shape=shape,
        num_classes=num_classes,
        mean=statistics,
        std=statistics,
        temperature=999.25,
        logit_scale=999.25,
    )
    return len(labeler_bytes(labeler))


def write_labeler(labeler: Labeler, path: Path) -> int:
    """Write `labeler` to `path`, whole or not at all; returns the bytes on disk."""
    data = labeler_bytes(labeler)
    write_atomic(path, data)
    return len(data)


def read_labeler(path: Path) -> Labeler:
    """The labeler in `path`. Raises ArtifactError naming the file and the field that is wrong."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ArtifactError(f"{path} is missing: copy the whole artifact again.") from error
    if size > _MAX_FILE:
        raise ArtifactError(
            f"{path} has {size} bytes; a labeler has at most {_MAX_FILE}: this is another file."
        )
    try:
        return parse_labeler(path.read_bytes(), str(path))
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}): check its permissions and the disk."
        ) from error


def parse_labeler(data: bytes, name: str) -> Labeler:
    """The labeler in `data`; `name` is what errors call the file."""
    blob, metadata = _open_container(data, name)
    fields = _Fields(metadata, name)
    version = fields.integer("format", 1, 10**9)
    if version > FORMAT:
        raise ArtifactError(
            f"{name}: written by a newer flashdd (labeler format {version}); this one reads {FORMAT}: upgrade flashdd."
        )
    shape = fields.shape()
    num_classes = fields.integer("classes", 2, 1_000_000)
    if fields.integer("bits", 1, 32) != 8:
        raise fields.wrong("bits", "8")
    specs = fields.members()
    labels = []
    offset = 0
    for spec, weight in specs:
        member, offset = _parse_member(blob, offset, spec, weight, shape, num_classes, name)
        labels.append(member)
    if offset != len(blob):
        raise ArtifactError(
            f"{name}: tensor '{_TENSOR}' has {len(blob)} bytes, the architecture in the metadata needs {offset}: "
            "the file is damaged, copy it again."
        )
    return Labeler(
        labels,
        shape=shape,
        num_classes=num_classes,
        mean=fields.numbers("mean", shape[0], positive=False),
        std=fields.numbers("std", shape[0], positive=True),
        temperature=fields.number("temperature"),
        logit_scale=fields.number("logit_scale"),
    )


def _member_blob(member: Member) -> bytes:
    parts = []
    for integers, scale, bias in zip(member.integers, member.scales, member.biases, strict=True):
        parts += [integers.contiguous().numpy().tobytes()]
        parts += [tensor.contiguous().numpy().astype("<f2").tobytes() for tensor in (scale, bias)]
    return b"".join(parts)


def _parse_member(
    blob: bytes,
    offset: int,
    spec: LabelerSpec,
    weight: float,
    shape: tuple[int, int, int],
    classes: int,
    name: str,
) -> tuple[Member, int]:
    try:
        layers = spec_layers(spec, shape, classes)
    except FlashddError as error:
        raise ArtifactError(f"{name}: field 'members': {error}") from error
    needed = sum(layer.num_weights + 4 * layer.outputs for layer in layers)
    if offset + needed > len(blob):
        raise ArtifactError(
            f"{name}: tensor '{_TENSOR}' ends inside member {spec.name}: it needs {offset + needed} bytes, there are "
            f"{len(blob)}: the file is damaged, copy it again."
        )
    integers, scales, biases = [], [], []
    for layer in layers:
        values, offset = _take(blob, offset, layer)
        integers.append(values[0])
        scales.append(_checked(values[1], name, spec, "scale", positive=True))
        biases.append(_checked(values[2], name, spec, "bias", positive=False))
    member = Member(
        spec=spec, integers=tuple(integers), scales=tuple(scales), biases=tuple(biases), weight=weight
    )
    return member, offset


def _take(blob: bytes, offset: int, layer: LayerShape) -> tuple[tuple[Tensor, Tensor, Tensor], int]:
    weights = np.frombuffer(blob, dtype=np.int8, count=layer.num_weights, offset=offset)
    offset += layer.num_weights
    scale = np.frombuffer(blob, dtype="<f2", count=layer.outputs, offset=offset)
    offset += 2 * layer.outputs
    bias = np.frombuffer(blob, dtype="<f2", count=layer.outputs, offset=offset)
    offset += 2 * layer.outputs
    tensors = [
        torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) for array in (weights, scale, bias)
    ]
    return (tensors[0].view(layer.weight_shape), tensors[1], tensors[2]), offset


def _checked(tensor: Tensor, name: str, spec: LabelerSpec, what: str, *, positive: bool) -> Tensor:
    if not torch.isfinite(tensor).all() or (positive and not (tensor > 0).all()):
        expected = "finite and above 0" if positive else "finite"
        raise ArtifactError(f"{name}: a {what} of member {spec.name} is not {expected}: the file is damaged.")
    return tensor


def _open_container(data: bytes, name: str) -> tuple[bytes, Mapping[str, Any]]:
    """The blob and the metadata's JSON. safetensors checks the offsets; the header is read once more for the
    metadata, which its Python API gives for files only."""
    from safetensors import SafetensorError, deserialize

    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ArtifactError(
            f"{name} is not a safetensors file ({error}): copy the whole artifact again."
        ) from error
    entry = tensors.get(_TENSOR)
    if len(tensors) != 1 or entry is None or entry["dtype"] != "U8":
        raise ArtifactError(f"{name}: expected one tensor '{_TENSOR}' of type U8, found {sorted(tensors)}.")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        metadata = json.loads(header["__metadata__"][_METADATA])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{name}: its metadata lacks a readable '{_METADATA}': this is no labeler."
        ) from error
    if not isinstance(metadata, dict):
        raise ArtifactError(f"{name}: metadata '{_METADATA}' must be a JSON object.")
    return bytes(entry["data"]), metadata


class _Fields:
    """The metadata's fields, each checked for type and range."""

    def __init__(self, metadata: Mapping[str, Any], name: str) -> None:
        self._metadata, self._name = metadata, name

    def wrong(self, field: str, expected: str) -> ArtifactError:
        got = json.dumps(self._metadata.get(field))[:60] if field in self._metadata else "nothing"
        return ArtifactError(
            f"{self._name}: field '{field}' is {got}; expected {expected}: copy the file again."
        )

    def integer(self, field: str, low: int, high: int) -> int:
        value = self._metadata.get(field)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(field, f"an integer in {low}..{high}")
        return value

    def number(self, field: str) -> float:
        value = self._metadata.get(field)
        if value is None or not _is_number(value) or not 0 < value <= 1e6:
            raise self.wrong(field, "a number above 0")
        return float(value)

    def numbers(self, field: str, count: int, *, positive: bool) -> list[float]:
        values = self._metadata.get(field)
        if not isinstance(values, list) or len(values) != count or not all(_is_number(v) for v in values):
            raise self.wrong(field, f"{count} numbers")
        if not all((1e-6 if positive else -1.0) <= value <= 2 for value in values):
            raise self.wrong(field, f"{count} numbers of pixels in 0..1")
        return [float(value) for value in values]

    def shape(self) -> tuple[int, int, int]:
        value = self._metadata.get("shape")
        if not isinstance(value, list) or len(value) != 3 or any(type(side) is not int for side in value):
            raise self.wrong("shape", "three integers")
        channels, height, width = value
        if channels not in (1, 3) or not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
            raise self.wrong("shape", f"[1 or 3, height, width] up to {_MAX_SIDE}")
        return channels, height, width

    def members(self) -> list[tuple[LabelerSpec, float]]:
        value = self._metadata.get("members")
        if not isinstance(value, list) or not 1 <= len(value) <= 1000:
            raise self.wrong("members", "1 to 1000 pairs of a name and a weight")
        members = []
        for pair in value:
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise self.wrong("members", "pairs of a name and a weight")
            if not _is_number(pair[1]) or not 0 < pair[1] <= 1e6:
                raise self.wrong("members", "weights above 0")
            try:
                members.append((LabelerSpec.parse(pair[0]), float(pair[1])))
            except FlashddError as error:
                raise ArtifactError(f"{self._name}: field 'members': {error}") from error
        return members


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
