"""record.json: what a run leaves behind, as frozen models.

The models hold the keys that tools may rely on (FORMAT.md, section "Record"); more may stand beside them
and survive reading and writing. Accuracies are fractions in 0..1, sizes are bytes on disk, `macs` are
multiply-accumulates for one image, times are wall seconds.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ValidationError, model_validator

from flashdd.core.errors import ArtifactError
from flashdd.core.facts import Amount, Count, Fraction, Positive, Ratio
from flashdd.core.facts import Facts as _Facts
from flashdd.core.files import pretty_json, write_atomic
from flashdd.core.labelfacts import EqualBytes, FittedOffsets, LabelNetwork
from flashdd.core.scores import Ranking, Score, Spread
from flashdd.core.simulated import SimulatedLabeler, SimulatedScheme, SimulatedTask
from flashdd.core.stats import standard_error, t_quantile

RECORD_FORMAT = 1
CLAIMING_SEEDS = 5
"""Below so many a difference shows its interval and is not claimed."""


class Accuracy(Spread):
    """Accuracy over seeds, in 0..1."""

    noun: ClassVar[str] = "accuracy"
    mean: Fraction
    values: tuple[Fraction, ...]


class Difference(_Facts):
    """Mean of paired differences with its 95 % t-interval; `low` and `high` are None at n = 1."""

    mean: float
    low: float | None
    high: float | None
    n: Positive


def paired_difference(a_values: Sequence[float], b_values: Sequence[float]) -> Difference:
    """a - b, paired by position (the same seed in both): mean and 95 % t-interval with n - 1 degrees.

    Raises ValueError where the lengths differ or are 0.
    """
    if len(a_values) != len(b_values) or not a_values:
        raise ValueError(f"{len(a_values)} values against {len(b_values)}: pair the same seeds of both.")
    gaps = [float(a) - float(b) for a, b in zip(a_values, b_values, strict=True)]
    n, mean = len(gaps), statistics.fmean(gaps)
    if n == 1:
        return Difference(mean=mean, low=None, high=None, n=1)
    half = t_quantile(n - 1) * standard_error(gaps)
    return Difference(mean=mean, low=mean - half, high=mean + half, n=n)


class EnvironmentFacts(_Facts):
    python: str
    torch: str
    device: str
    cpu: str
    threads: Positive
    commit: str | None  # of the flashdd checkout; None for an installed package
    peak_memory: Count | None = None  # bytes, resident, of the process that finished the run


class DataFacts(_Facts):
    name: str
    num_classes: Positive
    num_train: Positive  # after the validation split
    num_val: Count
    num_test: Count
    shape: tuple[Positive, Positive, Positive]  # C, H, W
    codec: str | None = None  # encoding of the source images: "JPEG q75", "PNG", "raw"
    content_hash: str | None = None


class ReferenceFacts(_Facts):
    """The ResNet-18 that percentages refer to; bytes = 4 params."""

    params: Positive
    bytes: Positive
    macs: Positive


class ImageFacts(_Facts):
    method: str
    ipc: Positive | None  # images per class; None where classes differ
    num_images: Positive
    bytes: Positive  # of the parquet


class TeacherFacts(_Facts):
    name: str
    params: Positive
    bytes: Positive  # of the fp32 safetensors
    macs: Positive
    accuracy: Fraction  # test


class Candidate(_Facts):
    """One point of a search. Its own accuracy is that on the validation split."""

    name: str
    params: Positive
    bytes: Positive
    macs: Positive
    epochs: Amount
    temperature: Ratio
    val_accuracy: Fraction | None  # the candidate's own
    proxy_mean: Fraction | None  # of the proxy students; None where none was trained
    proxy_stderr: Amount | None  # None below n = 2
    n: Count
    plain_mean: Fraction | None = None  # of the same students, not corrected by class offsets of their own
    logit_scale: Ratio | None = None
    offsets: tuple[float, ...] | None = None  # one per class, added to logits after the scale
    bits: Positive | None = None  # of the weights
    num_members: Positive | None = None
    length: Ratio | None = None  # factor on the configured training, in `epochs` already
    shift: Fraction | None = None  # share of its side by which a real image moved at most in training
    tutor_epochs: Count | None = (
        None  # of the teacher that the network imitates; 0 where it learned the classes
    )
    depth: Count | None = None
    rung: Count | None = None
    values: tuple[Fraction, ...] | None = None  # proxy accuracy by seed


class Search(_Facts):
    """Candidates by capacity, smallest first; `chosen` is an index into them."""

    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1)]
    chosen: Count
    seconds: Amount
    flops: Amount | None = None
    reference_epochs: Amount | None = None  # for which the reference could be trained instead

    @model_validator(mode="after")
    def _chosen_exists(self) -> Self:
        if self.chosen >= len(self.candidates):
            raise ValueError(f"chosen is {self.chosen}, but there are {len(self.candidates)} candidates")
        return self


class TutorFacts(_Facts):
    """The network that the labeler's members imitate."""

    name: str
    epochs: Positive
    shift: Fraction  # share of its side by which a real image moved at most in training
    num_networks: Positive = 1  # so many of it, whose logits are averaged


class LabelerFacts(_Facts):
    num_members: Positive
    params: Positive
    bits: Positive
    bytes: Positive  # of labeler.safetensors
    macs: Positive
    temperature: Ratio
    accuracy: Fraction  # test, as a classifier
    budget_bytes: Positive | None
    bytes_ratio: Ratio  # labeler over reference
    macs_ratio: Ratio  # reference over labeler
    backend: str
    tutor: TutorFacts | None = None


class ThroughputRow(_Facts):
    device: str
    batch: Positive
    dtype: str
    teacher_labels_per_second: Ratio
    labeler_labels_per_second: Ratio
    ratio: Ratio  # labeler over teacher


class StudentRow(_Facts):
    scheme: str  # bare name, a variant after "@"
    images: str  # the image method, "random", "real-equal-passes" or "real-whole"
    student: str
    protocol: str
    label_bytes: Count
    accuracy: Accuracy  # test, last epoch
    best_epoch: Accuracy | None  # test, the best of each seed's four checks: beside, never the headline
    seconds: Amount
    paired_to_teacher: Difference | None = None  # to teacher@searched of the same images, over seeds
    equal_bytes: EqualBytes | None = None  # of scheme stored@equal-bytes: what it was chosen from
    class_offsets: FittedOffsets | None = None  # of the labeler on other images than its own, and of dial o


class ScreenedNetwork(_Facts):
    name: str
    val_accuracy: Fraction


class ShipCandidate(ScreenedNetwork):
    bytes: Positive  # at most, as packed


class ShipFacts(_Facts):
    """The best classifier that fits the bytes of the whole artifact."""

    name: str
    bytes: Positive
    accuracy: Fraction  # test
    val_accuracy: Fraction | None = None
    budget_bytes: Positive | None = None  # of the whole artifact
    candidates: tuple[ShipCandidate, ...] = ()
    screened: tuple[ScreenedNetwork, ...] = ()  # after a short training; the best of them are candidates


class RecordFile(_Facts):
    """A JSON file with `flashdd` and `format` on top."""

    flashdd: str
    format: int
    environment: EnvironmentFacts

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file at `path`. Raises ArtifactError where it is missing, damaged, foreign or newer."""
        data = _read_bytes(path)
        _check_format(path, data)
        try:
            # strict: 1 is not true, "3" is not 3
            return cls.model_validate_json(data, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise ArtifactError(
                f"{path}: field {field_name(first['loc'])} is wrong ({first['msg']}): "
                "the file was changed or comes from another program; run the command that wrote it again."
            ) from None

    def unless_written(self, path: Path) -> Self:
        """What stands at `path` if it differs in nothing but the process that wrote it, whose environment holds; else
        this."""
        try:
            written = self.read(path)
        except ArtifactError:  # none, or of another format: it is written anew
            return self
        return written if written._figures() == self._figures() else self

    def _figures(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_unset=True, exclude={"flashdd", "environment"})

    def write(self, path: Path) -> None:
        """Write to `path`, whole or not at all. Optional keys that were not given stay out."""
        write_atomic(path, pretty_json(self.model_dump(mode="json", exclude_unset=True)))


class Record(RecordFile):
    """record.json of a finished run."""

    config: dict[str, Any]
    data: DataFacts
    reference: ReferenceFacts
    images: ImageFacts
    teacher: TeacherFacts | None
    capacity: Search | None  # None where the capacity was given, not searched
    labeler: LabelerFacts
    throughput: tuple[ThroughputRow, ...]
    students: tuple[StudentRow, ...]
    seconds: dict[str, Amount]  # by stage, in the order of the stages
    artifact_bytes: Count
    teacher_search: Search | None = None
    tutor_search: Search | None = None  # where proxies decided whom the labeler imitates
    ship: ShipFacts | None = None
    notes: tuple[str, ...] = ()  # what a reader must know: "CPU-sized", "CIFAR-10 (JPEG q75)"


class ComparedRow(StudentRow):
    ipc: Positive | None  # images per class; None where classes differ
    network: LabelNetwork | None = None
    labels_per_second: Ratio | None = None  # made, or read, batch by batch as a student asks for them
    seconds_per_epoch: Ratio | None = (
        None  # of a student, with its labels, for one pass over the distilled images
    )
    image_passes: Positive | None = None  # of real images at equal passes


class ComparedLabeler(_Facts):
    """The labeler of a comparison."""

    name: str  # the architectures of its members
    bytes: Positive
    sha256: str  # of its file


class ArtifactImages(_Facts):
    """The images in the artifact whose labeler is compared, as rows name them."""

    images: str
    ipc: Positive | None  # None where classes differ


class Comparison(RecordFile):
    """comparison.json of `flashdd compare`."""

    config: dict[str, Any]
    data: DataFacts
    rows: tuple[ComparedRow, ...]
    notes: tuple[str, ...] = ()
    labeler: ComparedLabeler | None = None
    ship: ShipFacts | None = None  # at the bytes of the artifact whose labeler is compared
    artifact: ArtifactImages | None = None  # also where its images, made elsewhere, are not compared from it
    scores: tuple[Score, ...] = ()
    rankings: tuple[Ranking, ...] = ()


class Bench(RecordFile):
    """bench.json of `flashdd bench`."""

    rows: tuple[ThroughputRow, ...]


class Simulation(RecordFile):
    """record.json of `scripts/simulate_classes`: bytes and times without any training, and no accuracy."""

    simulated: SimulatedTask
    reference: ReferenceFacts
    schemes: tuple[SimulatedScheme, ...]
    labelers: tuple[SimulatedLabeler, ...]
    seconds: Amount  # of the whole simulation
    notes: tuple[str, ...] = ()


def field_name(location: Sequence[int | str]) -> str:
    """("students", 2, "accuracy") -> "students[2].accuracy"; the empty location is "(top level)"."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "(top level)"


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ArtifactError(f"{path.parent} does not exist: give the folder of a finished run.") from None
        raise ArtifactError(
            f"{path} is missing: it is written last, so its run has not finished; start the same command again and "
            "it goes on where it stopped. (flashdd label and flashdd distill leave none, and an artifact has none.)"
        ) from None
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}): check the path and its rights."
        ) from error


def _check_format(path: Path, data: bytes) -> None:
    try:
        content = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is not JSON ({error}): it is damaged or not a file of flashdd; run its command again."
        ) from None
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise ArtifactError(
            f"{path}: field format is missing or no integer: this is not a file of flashdd, which begin with "
            f'"flashdd" and "format": {RECORD_FORMAT}.'
        )
    if content["format"] > RECORD_FORMAT:
        raise ArtifactError(
            f"{path} has format {content['format']}, written by flashdd {content.get('flashdd', '?')}; "
            f"this flashdd reads up to {RECORD_FORMAT}: upgrade it with pip install --upgrade flashdd."
        )
    if content["format"] < 1:
        raise ArtifactError(
            f"{path}: field format is {content['format']}, expected 1 to {RECORD_FORMAT}: the file is "
            "damaged; run its command again."
        )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
