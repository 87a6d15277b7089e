"""From a configuration and a look at the data to everything that a run will do; nothing is trained here.

What arguments and data alone show to be wrong is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flashdd.core.budget import parse_budget
from flashdd.core.config import LabelerSection, RunConfig, TeacherSection
from flashdd.core.errors import ConfigError, DataError, UnknownNameError
from flashdd.core.plugins import Kind, fingerprint, is_plugin
from flashdd.data.foreign import Hints, count_foreign
from flashdd.data.sources import SourceFacts, SourceOptions
from flashdd.images.dm import default_network
from flashdd.images.rded import default_factor
from flashdd.images.table import METHODS, method_of
from flashdd.labels.flash.candidates import Course, Rung, Setting
from flashdd.labels.flash.capacity import Variants
from flashdd.models.count import Size, reference
from flashdd.models.table import default_student, size_of_name
from flashdd.pipeline.families import Room, default_max_macs, labeler_families, variants_of
from flashdd.training import protocols
from flashdd.training.classifier import ClassifierRecipe, whole_pixels
from flashdd.training.protocols import Protocol, resolve_protocol

PUBLISHED_TEMPERATURE = 20.0
_SHORT_LENGTHS = (0.125, 0.25, 0.5)
SHORT_FROM = 16
"""Pixels of a side from which trainings so short are tried by default: on digits, 8 pixels, the whole training makes
the best students."""
_TUTORS = 3
FOREIGN = "foreign"
Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A run, resolved.

    room: where a labeler has to fit. families: per family the chains of its depths; a chain has the rungs that fit, in
    ascending order. variants: what a rung may become there. foreign: an image set that was made elsewhere.
    image_counts: distilled images of every class. settings: that a search tries, of labelers and of the full teacher.
    """

    config: RunConfig
    facts: SourceFacts
    flip: bool
    factor: int
    foreign: Path | None
    image_counts: tuple[int, ...]
    student: str
    proxy: str
    protocol: Protocol
    reference: Size
    teacher_size: Size
    room: Room
    families: tuple[tuple[tuple[Rung, ...], ...], ...]
    settings: tuple[Setting, ...]
    teacher_settings: tuple[Setting, ...]
    variants: Variants
    member_recipe: ClassifierRecipe
    teacher_recipe: ClassifierRecipe

    @property
    def budget_bytes(self) -> int:
        return self.room.max_bytes

    @property
    def max_macs(self) -> int:
        return self.room.max_macs

    def member_at(self, course: Course) -> ClassifierRecipe:
        """The members' training in that course; its length is rounded to epochs."""
        return _in_course(self.member_recipe, course)

    def teacher_at(self, course: Course) -> ClassifierRecipe:
        return _in_course(self.teacher_recipe, course)

    def tutor_with(self, epochs: int, shift: float) -> ClassifierRecipe:
        """The training of a tutor: the teacher's, with epochs and a shift of its own."""
        return replace(self.teacher_recipe, epochs=epochs, shift=shift)

    def member_with(
        self, *, epochs: int | None = None, shift: float | None = None, cycles: int = 1
    ) -> ClassifierRecipe:
        """The members' training, with epochs and a shift of its own where they are given."""
        own = self.member_recipe
        return replace(
            own,
            epochs=own.epochs if epochs is None else epochs,
            shift=own.shift if shift is None else whole_pixels(self.facts.shape[1:], shift),
            cycles=cycles,
        )

    @property
    def teacher_epochs(self) -> tuple[int, ...]:
        """Epochs of the trainings of the teacher that its search tries, the most first."""
        tried = {self.teacher_at(setting.course).epochs for setting in self.teacher_settings}
        return tuple(sorted(tried, reverse=True))

    @property
    def stops_teacher(self) -> bool:
        """Whether the teacher's search tries trainings of fewer epochs than its own."""
        return self.teacher_epochs[-1] < self.teacher_recipe.epochs

    @property
    def tried_rungs(self) -> tuple[Rung, ...]:
        """With which networks tutors are tried, by bytes: the widest of every family's first ladder, its deepest."""
        widest = dict.fromkeys(family[0][-1] for family in self.families)
        return tuple(sorted(widest, key=lambda rung: (rung.bytes, rung.macs)))

    @property
    def tutors(self) -> int:
        """Teachers whose mean labelers imitate if they imitate anybody; 0: they never do."""
        labeler = self.config.labeler
        return 0 if labeler.tutor == "none" or not self.stops_teacher else labeler.tutors or _TUTORS

    @property
    def longest_training(self) -> int:
        """Epochs of a labeler's network in the longest course that is searched."""
        return max(self.member_at(setting.course).epochs for setting in self.settings)

    @property
    def num_images(self) -> int:
        return sum(self.image_counts)

    @property
    def method(self) -> str:
        """The image method's name."""
        return FOREIGN if self.foreign else self.config.images.method

    @property
    def ipc(self) -> int | None:
        """Images per class; None where classes differ."""
        return self.image_counts[0] if len(set(self.image_counts)) == 1 else None

    @property
    def published(self) -> Setting:
        """The teacher as published: its whole training, scale 1, the protocol's temperature (20 where it has none)."""
        temperature = self.protocol.temperature or PUBLISHED_TEMPERATURE
        shift = self.teacher_recipe.shift
        return Setting(length=1.0, shift=shift, temperature=temperature, logit_scale=1.0)


def plugin_fingerprints(config: RunConfig) -> dict[str, str]:
    """The user's own parts in a recipe, each with the hash of its source."""
    named: list[tuple[Kind, str | None]] = [
        ("image method", config.images.method),
        ("protocol", config.protocol.name),
        ("model", config.teacher.name),
        ("model", config.student.name),
        ("model", config.search.student),
        ("model", config.images.dm.network),
        *(("labeler family", stem) for stem in config.labeler.stems),
    ]
    return {
        name: fingerprint(kind, name) for kind, name in named if name is not None and is_plugin(kind, name)
    }


def source_options(config: RunConfig) -> SourceOptions:
    data = config.data
    source = str(Path(data.source).expanduser()) if data.source.startswith("~") else data.source
    return SourceOptions(
        source=source,
        resolution=data.resolution,
        classes=data.classes,
        validation=data.validation,
        label_column=data.label_column,
    )


def resolve(config: RunConfig, facts: SourceFacts) -> Setup:
    """The run that `config` asks for on such data. Raises UsageError where it cannot be done."""
    classes, shape = facts.num_classes, facts.shape
    foreign = _foreign(config)
    if config.images.method == "dm":  # raises what is wrong with the name
        size_of_name(config.images.dm.network or default_network(shape), num_classes=classes, shape=shape)
    factor = _factor(config, shape)
    counts = _image_counts(config, facts, foreign, factor)
    flip = facts.source != "digits" if config.views.flip is None else config.views.flip
    student = config.student.name or default_student(shape)
    teacher_size = size_of_name(config.teacher.name, num_classes=classes, shape=shape)
    proxy = _proxy(config.search.student, student, shape, classes)
    yardstick = reference(classes, shape)
    protocol = resolve_protocol(
        config.protocol.name,
        protocols.Setting(
            ipc=max(1, sum(counts) // classes),
            num_images=sum(counts),
            num_classes=classes,
            flip=flip,
            factor=factor,
            student=student,
            side=min(shape[1:]),
            image_passes=config.protocol.image_passes,
            mix=config.views.mix,
        ),
    )
    budget = parse_budget(config.labeler.budget, yardstick.bytes)
    max_macs = config.labeler.max_macs or default_max_macs(yardstick, budget)
    member_recipe = _member_recipe(config, facts, flip)
    room = Room(shape=shape, classes=classes, max_bytes=budget, max_macs=max_macs)
    return Setup(
        config=config,
        facts=facts,
        flip=flip,
        factor=factor,
        foreign=foreign,
        image_counts=counts,
        student=student,
        proxy=proxy,
        protocol=protocol,
        reference=yardstick,
        teacher_size=teacher_size,
        room=room,
        families=labeler_families(config, yardstick, room),
        settings=_settings(config, protocol, _labeler_courses(config, shape, member_recipe)),
        teacher_settings=_settings(config, protocol, _teacher_courses(config, shape)),
        variants=variants_of(config, room),
        member_recipe=member_recipe,
        teacher_recipe=_recipe(config.teacher, config.teacher.epochs, flip, shape),
    )


def _foreign(config: RunConfig) -> Path | None:
    """The path of an image set made elsewhere; None for a method of the table. UsageError for neither."""
    name = config.images.method
    path = Path(name).expanduser()
    if name in METHODS:
        return None
    if is_plugin("image method", name):
        method_of(name)  # raises what is wrong with it
        return None
    if path.exists():
        return path
    if "/" in name or "\\" in name or path.suffix:
        raise DataError(
            f"--images {name}: no such file or folder; give a path or one of {', '.join(METHODS)}."
        )
    try:
        method_of(name)  # raises what is wrong with the name
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} Nor is there a file or folder of that name.") from None
    return None


def foreign_hints(config: RunConfig) -> Hints:
    """What the recipe says of an image set made elsewhere."""
    images = config.images
    labels = Path(images.labels).expanduser() if images.labels else None
    return Hints(labels=labels, mean=images.mean, std=images.std)


def _image_counts(
    config: RunConfig, facts: SourceFacts, foreign: Path | None, factor: int
) -> tuple[int, ...]:
    """Distilled images of every class; DataError where the real data have too few."""
    if foreign:
        counts = tuple(count_foreign(foreign, facts.class_names, facts.shape, foreign_hints(config)))
    else:
        counts = (config.images.ipc,) * facts.num_classes
    _check_counts(min(counts), facts, factor, foreign)
    return counts


def _check_counts(ipc: int, facts: SourceFacts, factor: int, foreign: Path | None) -> None:
    """The random baseline too needs so many real images of every class."""
    needed = ipc * factor**2
    if facts.shape[1] % factor or facts.shape[2] % factor:
        raise ConfigError(
            f"images.rded.factor: {factor} does not divide {facts.shape[1]} pixels; choose a divisor."
        )
    left, name = min(zip(facts.train_counts, facts.class_names, strict=True))
    if left >= needed:
        return
    has = f"class '{name}', which has {left} training images after the validation split"
    if foreign:
        raise DataError(
            f"{foreign}: {ipc} images of every class are more than those of {has}; as many random real ones are the "
            "baseline: give fewer per class, or more real images."
        )
    most = left // factor**2
    remedy = f"use --ipc {most} or less" if most else "use --set images.rded.factor=1"
    mosaic = f", {factor**2} of which make an image" if factor > 1 else ""
    raise DataError(f"IPC {ipc} is larger than {has}{mosaic}: {remedy}, or add images.")


def _factor(config: RunConfig, shape: Shape) -> int:
    """Side of a mosaic, in patches; 1 for images that are none."""
    if config.images.method == "rded":
        return config.images.rded.factor or default_factor(shape[1])
    return 1


def _proxy(asked: str | None, student: str, shape: Shape, classes: int) -> str:
    """The proxies' network, by default the student or, if that is smaller, the default student; UnknownNameError for a
    name of either that is none."""
    own, small = size_of_name(student, num_classes=classes, shape=shape), default_student(shape)
    if asked:
        size_of_name(asked, num_classes=classes, shape=shape)
        return asked
    return student if own.macs <= size_of_name(small, num_classes=classes, shape=shape).macs else small


def _settings(config: RunConfig, protocol: Protocol, courses: Sequence[Course]) -> tuple[Setting, ...]:
    if protocol.temperature is None:
        softness = [(temperature, 1.0) for temperature in config.search.temperatures]
    else:
        softness = [(protocol.temperature, scale) for scale in config.search.logit_scales]
    return tuple(
        Setting(length=course.length, shift=course.shift, temperature=temperature, logit_scale=scale)
        for course in courses
        for temperature, scale in softness
    )


def _labeler_courses(config: RunConfig, shape: Shape, recipe: ClassifierRecipe) -> list[Course]:
    lengths = config.search.lengths or (*_short_lengths(shape), 1.0)
    return _courses(lengths, [recipe.shift], recipe.epochs)


def _teacher_courses(config: RunConfig, shape: Shape) -> list[Course]:
    search = config.search
    lengths = search.teacher_lengths or sorted({*_short_lengths(shape), *(search.lengths or (1.0,))})
    epochs = config.teacher.epochs
    if config.labeler.tutor == "searched" and _epochs(epochs, min(lengths)) >= epochs:
        raise ConfigError(
            "labeler.tutor: whom networks imitate is only searched where shorter trainings of the teacher are, and no "
            f"length leaves fewer than its {epochs} epochs: add --set search.teacher_lengths=[0.125,0.25,0.5,1]."
        )
    others = (config.labeler.shift,) if search.teacher_shifts is None else search.teacher_shifts
    shifts = [whole_pixels(shape[1:], shift) for shift in (config.teacher.shift, *others)]
    return _courses(lengths, shifts, epochs)


def _short_lengths(shape: Shape) -> tuple[float, ...]:
    return _SHORT_LENGTHS if min(shape[1:]) >= SHORT_FROM else ()


def _courses(lengths: Sequence[float], shifts: Sequence[float], epochs: int) -> list[Course]:
    """Every length at every shift, the first shift first; of lengths that round to equally many epochs the longest, but
    1 for the whole training."""
    different = {_epochs(epochs, length): length for length in lengths} | {epochs: 1.0}
    return [
        Course(length=length, shift=shift) for shift in dict.fromkeys(shifts) for length in different.values()
    ]


def _in_course(recipe: ClassifierRecipe, course: Course) -> ClassifierRecipe:
    return replace(recipe, epochs=_epochs(recipe.epochs, course.length), shift=course.shift)


def _epochs(whole: int, length: float) -> int:
    return max(1, round(whole * length))


def _member_recipe(config: RunConfig, facts: SourceFacts, flip: bool) -> ClassifierRecipe:
    epochs = max(1, round(config.labeler.image_passes / facts.num_train))
    return _recipe(config.labeler, min(epochs, config.labeler.max_epochs), flip, facts.shape)


def _recipe(
    section: TeacherSection | LabelerSection, epochs: int, flip: bool, shape: Shape
) -> ClassifierRecipe:
    shift = whole_pixels(shape[1:], section.shift)
    return ClassifierRecipe(epochs=epochs, batch_size=section.batch_size, flip=flip, shift=shift)
