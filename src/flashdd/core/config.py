"""The configuration of a run: the keys of a recipe as frozen, validated models (`core.recipe` reads them).

A default stands here and nowhere else. `None` means "derived from the data", as each field's text says.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

MOST_SHIFT = 0.5
"""Share of its side by which an image may move."""
MOST_TUTORS = 16
Shift = Annotated[float, Field(ge=0, le=MOST_SHIFT)]


def _differing(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values) or "" in values:
        raise ValueError("needs entries that differ, none of them empty")
    return values


Names = Annotated[tuple[str, ...], AfterValidator(_differing)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(_differing)]
Numbers = Annotated[tuple[float, ...], AfterValidator(_differing)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSection(Section):
    """The real dataset."""

    source: str = "digits"
    """`digits`, a folder, or a hub name such as `uoft-cs/cifar10`"""
    resolution: int | None = Field(default=None, ge=4, le=1024)
    """pixels; by default the images' own size if all are equal and at most 64, else 64"""
    classes: tuple[str, ...] | None = None
    """names or indices of the classes to keep; by default all"""
    validation: float = Field(default=0.15, gt=0, le=0.5)
    """share of the training images held out, to validate networks and, beside training images, proxy students"""
    label_column: str | None = None
    """the label's column, where a dataset has several"""

    @field_validator("classes", mode="before")
    @classmethod
    def _indices(cls, value: Any) -> Any:
        return (
            [str(entry) if type(entry) is int else entry for entry in value]
            if isinstance(value, list)
            else value
        )


class ViewsSection(Section):
    """What augmentation depends on the data rather than on the protocol."""

    flip: bool | None = None
    """horizontal flips; by default on, except for `digits`"""
    augmentation_seed: int = Field(default=0, ge=0, lt=2**63)
    """drives every view; fixed in the artifact and shared by all students"""
    mix: Literal["cutmix", "cutmix-batch"] = "cutmix"
    """`cutmix-batch` is the field's habit, one box and permutation per batch: it cannot be replayed, so labels are
    made at every step and none are stored"""


class RdedSection(Section):
    """Mosaics of realistic crops; as the released code has them."""

    factor: int | None = Field(default=None, ge=1, le=8)
    """side of the mosaic in patches; by default 1 up to 64 pixels, 2 above"""
    candidates: int = Field(default=300, ge=1)
    """real images per class from which crops are taken"""
    crops: int = Field(default=5, ge=1)
    """crops per real image"""


class DmSection(Section):
    """Distribution matching; as the released code has it, the rate's default by IPC."""

    iterations: int = Field(default=20_000, ge=1)
    """steps of the images' optimizer"""
    real_batch: int = Field(default=256, ge=1)
    """real images of a class in an iteration"""
    lr: float | None = Field(default=None, gt=0)
    """of SGD on normalized pixels; by default 1, from IPC 100 on 10"""
    momentum: float = Field(default=0.5, ge=0, lt=1)
    """of the same"""
    network: str | None = None
    """whose random weights embed the images; by default `convnet-D-w128-in`, D = 3 at 32 pixels, 4 at 64, 5 at 128"""


class ImagesSection(Section):
    """How the distilled images are made."""

    method: str = "rded"
    """`random`, `herding`, `kmeans`, `rded` or `dm`, the path of an image set that was made elsewhere, or a method of
    your own as `module:name`"""
    ipc: int = Field(default=10, ge=1)
    """images per class; of a set made elsewhere, what it has"""
    labels: str | None = None
    """path of the labels of a set made elsewhere, where they stand in a file of their own"""
    mean: tuple[float, ...] | None = None
    """per channel: what a set made elsewhere was normalized with; by default estimated"""
    std: tuple[float, ...] | None = None
    """as `mean`"""
    check_classes: bool = True
    """whether a set made elsewhere is refused where a teacher finds its classes in another order"""
    rded: RdedSection = RdedSection()
    dm: DmSection = DmSection()
    options: dict[str, Any] = Field(default_factory=dict)
    """dials of a method of your own"""


class TeacherSection(Section):
    """The network trained on the real dataset; used while distilling, never shipped."""

    name: str = "resnet18"
    """architecture: README.md lists them"""
    epochs: int = Field(default=10, ge=1)
    """passes over the real training images"""
    batch_size: int = Field(default=128, ge=2)
    """real images in a step"""
    shift: Shift = 1 / 8
    """random crops move a real image by up to this share of its side, 4 pixels at 32 as in the field, and a pixel at
    least; 0: not at all"""


class LabelerSection(Section):
    """The label generator that is shipped."""

    budget: str = "0.03%"
    """ceiling on the labeler's file: `13408`, `16KB`, `1.2MB`, or `0.03%` of the reference"""
    max_macs: int | None = Field(default=None, ge=1)
    """ceiling on multiply-accumulates per image; by default reference / 843.81 x max(1, budget / 0.03 %)"""
    image_passes: int = Field(default=400_000, ge=1)
    """length of a candidate's training, in real images seen, rounded to epochs"""
    max_epochs: int = Field(default=60, ge=1)
    """a small dataset is not repeated more often than this, but for `search.lengths`"""
    batch_size: int = Field(default=128, ge=2)
    """as `teacher.batch_size`"""
    shift: Shift = 1 / 32
    """as `teacher.shift`; small networks learn more from images that move by a pixel than by four (docs/LOG.md)"""
    stems: Names = Field(default=("conv", "strided", "patch"), min_length=1)
    """the ladders that are climbed; also with a network's other dials, such as `conv-ds` (depthwise separable blocks),
    `strided-gap` (a head on averages), `patch-r8` (a head of rank 8), `conv-p16` (pooled to 16 pixels) or
    `conv-gap-r8`, and a family of your own as `module:name`"""
    bits: tuple[Literal[8, 6, 4, 3, 2], ...] = Field(default=(8, 4), min_length=1)
    """of the weights, descending, such as [8, 4, 3, 2]: the first while capacity is searched, then fewer as long as
    students lose nothing; [8] for no fewer"""
    tutor: Literal["none", "searched"] | None = None
    """whom the labeler's networks imitate on the real images: nobody, they learn the classes; or the full teacher, in
    the training that the search finds to make the best students; where that is its whole one, in the one that makes the
    best tutor, or nobody if that gains nothing over the classes; by default `searched` where shorter ones are tried
    (`search.teacher_lengths`)"""
    tutors: int | None = Field(default=None, ge=1, le=MOST_TUTORS)
    """so many full teachers, from other weights, whose mean they imitate; by default 3"""
    refit_steps: int = Field(default=300, ge=0)
    """of a member's refit to its own logits after rounding to fewer than 8 bits"""
    max_members: int = Field(default=1, ge=1, le=1000)
    """of an ensemble, tried while the budget holds it and more members make better students"""

    @field_validator("bits")
    @classmethod
    def _descending(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if sorted(set(values), reverse=True) != list(values):
            raise ValueError("needs descending numbers of bits, each once")
        return values

    @field_validator("tutors")
    @classmethod
    def _asked_for(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value > 1 and info.data.get("tutor") == "none":
            raise ValueError('needs labeler.tutor = "searched" beside it: without it nobody is imitated')
        return value

    @field_validator("budget", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value


class SearchSection(Section):
    """How capacity and settings are chosen; the full teacher gets the same search."""

    temperatures: Numbers = (1.0, 4.0, 20.0)
    """tried where the protocol takes the source's temperature"""
    logit_scales: Numbers = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
    """tried instead where the protocol fixes the temperature, from 1 on if that is among them"""
    lengths: tuple[float, ...] | None = None
    """factors on a labeler's epochs of training, each with a schedule of its own; by default the whole and, from 16
    pixels of the shorter side on, an eighth, a quarter and a half as well"""
    teacher_lengths: tuple[float, ...] | None = None
    """the same of the full teacher; by default these and `lengths`"""
    teacher_shifts: tuple[Shift, ...] | None = None
    """of the full teacher, tried beside `teacher.shift`; by default `labeler.shift`"""
    seeds: int = Field(default=2, ge=2)
    """proxy students of a candidate, two or more"""
    finalists: int = Field(default=4, ge=1)
    """the best so many rungs vary their settings, beside the best of every chain; so many candidates get
    `finalist_seeds`, as do up to so many contenders on either side of their choice"""
    finalist_seeds: int = Field(default=5, ge=2)
    """proxy students of each of these, and of every trial of class offsets, two or more; the best and a smaller choice
    get twice as many before that is taken"""
    patience: int = Field(default=2, ge=1)
    """a chain is climbed until so many rungs in a row bring no gain"""
    class_offsets: bool = True
    """whether the choice is tried with class offsets, which are added to the logits of all labels so that students
    predict each class as often as it is, and proxies are compared without the bias that these will take away; a labeler
    that has some gets others on images that it was not made for"""
    student: str | None = None
    """architecture of the proxies; by default the smaller of the run's student and `convnet-3-w32`"""

    @property
    def settling_seeds(self) -> int:
        """Proxy students of a candidate, and of the best, before it is chosen for being smaller."""
        return 2 * self.finalist_seeds

    @field_validator("temperatures", "logit_scales", "lengths", "teacher_lengths")
    @classmethod
    def _positive(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is None:
            return None
        if not values or any(value <= 0 for value in values):
            raise ValueError("needs at least one number, all above 0")
        return values

    @field_validator("temperatures", "logit_scales")
    @classmethod
    def _short(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(value >= 1000 or round(value, 2) != value for value in values):
            raise ValueError(
                "needs numbers below 1000 with at most two decimals: they stand in the labeler's file"
            )
        return values

    @field_validator("lengths", "teacher_lengths")
    @classmethod
    def _ascending(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is None:
            return None
        if 1.0 not in values or sorted(set(values)) != list(values):
            raise ValueError("needs ascending factors, each once, 1.0 among them")
        return values


class StudentSection(Section):
    """The networks that are trained from the distilled images."""

    name: str | None = None
    """architecture; by default `convnet-3-w32`, below 16 pixels `convnet-2-w32`"""
    seeds: int = Field(default=3, ge=1)
    """students of every row; below five no difference is claimed"""


class ProtocolSection(Section):
    """How students are trained."""

    name: str = "flash"
    """`flash`, `rded`, `sre2l`, `g-vbsm`, `edc`, `cv-dd`, `delt` or `rd3`: docs/protocols.md"""
    image_passes: int | None = Field(default=None, ge=1)
    """views seen by a student; by default what the protocol says"""


class CompareSection(Section):
    """What `flashdd compare` crosses with each other; `flashdd run` does not read it."""

    schemes: Names = ("hard", "teacher@searched", "teacher@published", "stored", "labeler")
    """label schemes; the first is the one that the others are compared to"""
    images: Names = ()
    """image methods, or paths of sets made elsewhere; by default `images.method`"""
    ipc: Counts = ()
    """images per class; by default `images.ipc`"""
    students: Names = ()
    """architectures; by default the run's student"""
    plain: bool = False
    """every row once more without any augmentation, which the augmentation-robust score wants; doubles the cost"""


class RegretSection(Section):
    """The grid beside which `scripts/regret` puts the search's choice; nothing else reads it."""

    names: Names = ()
    """labelers of one member, at 8 bits, such as `conv-3-w8`; by default every one that the search climbs to"""
    epochs: Counts = ()
    """lengths of their training; by default those of `search.lengths`"""
    tutors: str = ""
    """whom they imitate, as a scheme's dials say it (`d2-k3`); by default nobody"""
    ipc: Counts = ()
    """images per class; has no default"""
    passes: Counts = Field(default=(1,), min_length=1)
    """a student's image passes, as multiples of the protocol's"""


class RunConfig(Section):
    """Everything that decides a run's figures; where files go is not part of it.

    >>> RunConfig.model_validate({"images": {"ipc": 1}}).images.ipc
    1
    """

    title: str = ""
    """heading of the report and of the artifact's card"""
    data: DataSection = DataSection()
    views: ViewsSection = ViewsSection()
    images: ImagesSection = ImagesSection()
    teacher: TeacherSection = TeacherSection()
    labeler: LabelerSection = LabelerSection()
    search: SearchSection = SearchSection()
    student: StudentSection = StudentSection()
    protocol: ProtocolSection = ProtocolSection()
    compare: CompareSection = CompareSection()
    regret: RegretSection = RegretSection()
    seed: int = Field(default=0, ge=0, lt=2**63)
    """of everything random but the views"""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` is CUDA where there is one"""
    precision: str = Field(default="auto", pattern=r"^(auto|32-true|bf16-mixed)$")
    """of training; `auto` is bf16-mixed on CUDA and float32 elsewhere. Labels are always made in float32."""
