"""Every label scheme on every image set, for every student: one table, each cell kept as soon as it is done."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from flashdd import __version__
from flashdd.artifact.format import IMAGES
from flashdd.artifact.read import Artifact, load
from flashdd.core.config import RunConfig
from flashdd.core.device import environment
from flashdd.core.errors import UsageError
from flashdd.core.files import read_object, write_atomic
from flashdd.core.plugins import is_plugin
from flashdd.core.progress import Progress
from flashdd.core.record import RECORD_FORMAT, Comparison, ShipFacts
from flashdd.core.stages import StageResult
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.data.sources import check_source
from flashdd.images.table import METHODS, method_of
from flashdd.labels.flash.candidates import Course
from flashdd.pipeline.committees import replay_note
from flashdd.pipeline.context import Context
from flashdd.pipeline.distill import images_stage, learned_labels, open_images
from flashdd.pipeline.material import Material, Shipped, shipped_labeler, student_statistics
from flashdd.pipeline.package import image_settings
from flashdd.pipeline.real import Network, teacher_network
from flashdd.pipeline.realrows import REAL, real_rows
from flashdd.pipeline.record import at_chance, caveats, data_facts, plain, resolved_config, teachers_own
from flashdd.pipeline.rows import train_row
from flashdd.pipeline.schemes import SHIP, by_labeler, check_scheme, scheme_row
from flashdd.pipeline.scores import with_scores, without_augmentation
from flashdd.pipeline.search import SearchResult, teacher_search
from flashdd.pipeline.setup import FOREIGN, Setup, resolve, source_options
from flashdd.pipeline.ship import comparison_ship
from flashdd.pipeline.speed import row_times
from flashdd.pipeline.start import source_commit, started
from flashdd.pipeline.suited import offset_notes, suited_labeler, unsuited_note
from flashdd.report.comparison import comparison_document, comparison_page

_REMEDY = (
    "Name a scheme that keeps no labels beforehand (hard, labeler or a network), or give replayable views "
    "(views.mix=cutmix) and a larger budget."
)
_DROPPED = ("curves", "confusion")


def compare(
    config: RunConfig,
    out: Path | str,
    *,
    artifact: Path | None = None,
    stages: Path | None = None,
    ship: ShipFacts | None = None,
    cache: Path | str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train the students of every cell of `config.compare`; writes OUT/comparison.md,
    comparison.html and, last, comparison.json, with the scores and rankings that the rows allow.

    artifact: folder of the one whose labeler is compared; its images are taken where a cell asks for just those.
    stages: of a finished run, from which work is taken. ship: what that run found as the best classifier within the
    artifact's bytes; where it is missing, scheme `ship` finds it. A scheme that a set cannot have (labels beyond memory
    or budget) is left out, and a note says so. Killed at any point, the same call goes on. Raises UsageError for what
    arguments and data show to be wrong, before any training, and where no row at all could be made.
    """
    commit = source_commit()
    held = load(artifact) if artifact else None
    crossed = _checked(config, held)
    with started(crossed[0], out, cache=cache, progress=progress, finished=stages) as (context, data):
        if held is not None:
            _check_artifact(held, data)
        shipped = shipped_labeler(artifact) if artifact else None
        contexts = [replace(context, setup=resolve(changed, context.setup.facts)) for changed in crossed]
        sets = [_Set(context=each, data=data, held=held, shipped=shipped) for each in contexts]
        _make_way(context, data, shipped)
        rows, notes = _scheme_rows(config, sets, data)
        for made in real_rows(contexts, data, student_statistics(shipped, data), config.compare.schemes):
            rows.append({"ipc": None, **_kept(made)})
        if not rows:
            raise UsageError(f"compare.schemes: no row can be made. {' '.join(notes)} {_REMEDY}")
        shipped_alone = comparison_ship(contexts[0], data, ship, held, sets[0].teacher)
        extras = {
            "labeler": _labeler_facts(shipped),
            "ship": shipped_alone,
            "artifact": None if held is None else _artifact_images(held, sets),
        }
        comparison = with_scores(_comparison(context, data, rows, notes, commit, extras))
        comparison = comparison.unless_written(context.out / "comparison.json")
        write_atomic(context.out / "comparison.md", comparison_document(comparison).encode())
        write_atomic(context.out / "comparison.html", comparison_page(comparison).encode())
        comparison.write(context.out / "comparison.json")
        return comparison


def _checked(config: RunConfig, held: Artifact | None) -> list[RunConfig]:
    """The configuration of every image set; UsageError for what arguments and data alone show to be wrong."""
    if set(config.compare.schemes) == {SHIP}:
        raise UsageError(f"compare.schemes: '{SHIP}' alone trains no student: name a label scheme beside it.")
    facts = check_source(source_options(config))
    if held is not None and held.class_names != facts.class_names:
        raise _foreign_artifact(held, facts.name, ", ".join(facts.class_names[:5]))
    planned = _once([resolve(changed, facts) for changed in _crossed(config)])
    _check_names(planned)
    for setup, scheme in itertools.product(planned, config.compare.schemes):
        check_scheme(scheme, setup, has_labeler=held is not None)
    return [setup.config for setup in planned]


def _once(planned: Sequence[Setup]) -> list[Setup]:
    """A set that was made elsewhere has its own IPC, so it comes once for every student; UsageError where all have."""
    asked = planned[0].config.compare.ipc
    if asked and all(setup.foreign for setup in planned):
        raise UsageError(
            f"compare.ipc: the images at {planned[0].foreign} were made elsewhere and have their own number per class: "
            "leave --ipc out."
        )
    return list(
        {(setup.foreign or number, setup.student): setup for number, setup in enumerate(planned)}.values()
    )


def _scheme_rows(
    config: RunConfig, sets: Sequence[_Set], data: RealDataset
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of all label schemes on all image sets, and notes about those that are left out or do not replay."""
    rows, notes = [], []
    asked = [scheme for scheme in config.compare.schemes if scheme not in (*REAL, SHIP)]
    views = (False, True) if config.compare.plain else (False,)
    cells = list(itertools.product(sets, views, asked))
    for number, (entry, unaugmented, scheme) in enumerate(cells, start=1):
        shown = without_augmentation(entry.context) if unaugmented else entry.context
        shown.progress.message(f"row {number} of {len(cells)}: {scheme} on {entry.name}, IPC {entry.ipc}")
        row = scheme_row(shown, entry.material, scheme)
        if row is None:
            notes.append(_not_made(scheme, entry, shown))
            continue
        made = train_row(shown, data, row, entry.material.statistics)
        network = {} if row.network is None else {"network": row.network()}
        rows.append({"ipc": entry.ipc, **_kept(made), **network, **row_times(shown, row)})
        if by_labeler(scheme) and entry.foreign_offsets and entry.material.suited is None:
            notes.append(unsuited_note(rows[-1]))
    notes += [note for note in map(replay_note, rows) if note is not None] + offset_notes(rows)
    return rows, list(dict.fromkeys(notes))  # students and protocols may share them


def _kept(made: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in made.items() if key not in _DROPPED}


@dataclass(frozen=True, kw_only=True)
class _Set:
    """One image set for one student; what its rows share is made on demand."""

    context: Context
    data: RealDataset
    held: Artifact | None
    shipped: Shipped | None

    @property
    def name(self) -> str:
        """What the table calls the images: the method, or the file or folder of a set made elsewhere."""
        foreign = self.context.setup.foreign
        return foreign.name if foreign and not self.is_artifacts_file else self.context.setup.method

    @property
    def ipc(self) -> int | None:
        return self.context.setup.ipc

    def teacher(self, course: Course | None = None) -> Network:
        return teacher_network(self.context, self.data, course)

    @cached_property
    def made(self) -> StageResult:
        return images_stage(self.context, self.data, self.context.setup.method)

    @property
    def is_artifacts_file(self) -> bool:
        """Whether this set was made elsewhere and is read from the artifact that was made of it."""
        foreign, held = self.context.setup.foreign, self.held
        if foreign is None or held is None or held.provenance["images"]["method"] != FOREIGN:
            return False
        return foreign.resolve() == (held.path / IMAGES).resolve()

    @property
    def in_artifact(self) -> bool:
        """Whether the artifact holds this very set, which then need not be made from the data."""
        setup, held = self.context.setup, self.held
        if held is None or setup.foreign:
            return self.is_artifacts_file
        if is_plugin("image method", setup.method):  # its code may have changed since
            return False
        made, seed = held.provenance["images"], held.provenance["seed"]
        facts = made["method"], held.image_set.ipc, made.get("settings"), seed
        drawn = held.provenance["data"]["num_train"], held.provenance.get("teacher")
        teacher = setup.config.teacher.name if method_of(setup.method).teacher else drawn[1]
        return (*facts, *drawn) == (
            *(setup.method, setup.ipc, image_settings(setup), setup.config.seed),
            *(len(self.data.train.labels), teacher),
        )

    @cached_property
    def images(self) -> ImageSet:
        return self.held.image_set if self.held and self.in_artifact else open_images(self.made)

    @cached_property
    def foreign_offsets(self) -> bool:
        """Whether the labeler has class offsets of other images than these."""
        held, shipped = self.held, self.shipped
        if held is None or shipped is None or not shipped.has_offsets:
            return False
        return self.images.content_hash != held.image_set.content_hash

    @cached_property
    def material(self) -> Material:
        images, setup = self.images, self.context.setup
        suited: Callable[[], Shipped] | None = None
        if self.shipped and self.foreign_offsets and setup.config.search.class_offsets:
            suited = cache(partial(suited_labeler, self.context, self.data, images, self.shipped, self.name))

        @cache
        def searched() -> SearchResult:
            return teacher_search(self.context, self.data, images, self.teacher)

        return Material(
            data=self.data,
            images=images,
            method=self.name,
            teacher=self.teacher,
            searched=searched,
            shipped=self.shipped,
            suited=suited,
            learned=None if self.held and self.in_artifact else learned_labels(self.made),
        )


def _not_made(scheme: str, entry: _Set, shown: Context) -> str:
    """The note about a row that is left out; its protocol may be another than the set's."""
    where = f"{entry.name}, IPC {entry.ipc}, protocol {shown.setup.protocol.name}"
    if not shown.setup.protocol.views.replayable:
        return f"No {scheme} on {where}: its views do not replay (views.mix)."
    return (
        f"No {scheme} on {where}: the labels that it keeps are over 2 GB as a network makes them, or nothing fits the "
        "budget."
    )


def _check_artifact(held: Artifact, data: RealDataset) -> None:
    """UsageError unless the artifact stands for these data."""
    made = held.provenance["data"]["content_hash"]
    if (held.class_names, held.image_set.shape, made) != (data.class_names, data.shape, data.content_hash):
        raise _foreign_artifact(held, data.name, f"shape {data.shape}, content {data.content_hash[:12]}")


def _foreign_artifact(held: Artifact, name: str, here: str) -> UsageError:
    made = held.provenance["data"]["content_hash"]
    return UsageError(
        f"the artifact {held.path} was made from other data than '{name}' (classes "
        f"{', '.join(held.class_names[:5])}, shape {held.image_set.shape}, content {made[:12]}; here {here}): give the "
        "data that it was made from with --data, at the same resolution and with the same classes."
    )


def _artifact_images(held: Artifact, sets: Sequence[_Set]) -> dict[str, Any] | None:
    """The record's `artifact`; None where a set made elsewhere is compared as another file than the artifact's."""
    method = held.provenance["images"]["method"]
    if method == FOREIGN and not any(entry.is_artifacts_file for entry in sets):
        return None
    return {"images": method, "ipc": held.image_set.ipc}


def _check_names(setups: Sequence[Setup]) -> None:
    """UsageError unless every set made elsewhere has a name of its own: rows and scores know it by nothing else."""
    methods = {setup.method for setup in setups if setup.foreign is None}
    named: dict[str, Path] = {}
    for path in (setup.foreign for setup in setups if setup.foreign is not None):
        if path.name in (*METHODS, *REAL, *methods, FOREIGN):
            raise UsageError(
                f"--images {path}: a set made elsewhere cannot be told from the images that flashdd calls "
                f"'{path.name}': rename it."
            )
        other = named.setdefault(path.name, path)
        if other != path:
            raise UsageError(
                f"--images {other} and {path}: two sets of the name '{path.name}' cannot be told apart in the table: "
                "rename one of them."
            )


def _crossed(config: RunConfig) -> list[RunConfig]:
    """The configuration of every image set and IPC, for every student."""
    axes = config.compare
    methods, amounts = axes.images or (config.images.method,), axes.ipc or (config.images.ipc,)
    return [
        config.model_copy(
            update={
                "images": config.images.model_copy(update={"method": method, "ipc": ipc}),
                "student": config.student.model_copy(update={"name": student}),
            }
        )
        for method, ipc, student in itertools.product(
            methods, amounts, axes.students or (config.student.name,)
        )
    ]


def _config(context: Context, data: RealDataset) -> dict[str, Any]:
    axes = context.setup.config.compare.model_dump(mode="json")
    axes["images"] = [Path(name).name for name in axes["images"]]  # no paths of this machine
    return {**resolved_config(context.setup, data), "compare": axes}


def _labeler_facts(shipped: Shipped | None) -> dict[str, Any] | None:
    return (
        None if shipped is None else {"name": shipped.name, "bytes": shipped.bytes, "sha256": shipped.sha256}
    )


def _make_way(context: Context, data: RealDataset, shipped: Shipped | None) -> None:
    """comparison.json stands for a finished comparison: one of another configuration or labeler goes."""
    path = context.out / "comparison.json"
    if not path.exists():
        return
    found = read_object(path)
    if (found.get("config"), found.get("labeler")) != (_config(context, data), _labeler_facts(shipped)):
        path.unlink()


def _comparison(
    context: Context,
    data: RealDataset,
    rows: list[dict[str, Any]],
    notes: list[str],
    commit: str | None,
    extras: dict[str, dict[str, Any] | None],
) -> Comparison:
    schemes = {row["scheme"] for row in rows}
    chance = at_chance(data, teacher_network(context, data)) if teachers_own(schemes) else []
    return Comparison.model_validate(
        plain(
            {
                "flashdd": __version__,
                "format": RECORD_FORMAT,
                "environment": environment(context.device, commit=commit),
                "config": _config(context, data),
                "data": data_facts(data),
                "rows": rows,
                "notes": [*chance, *notes, *caveats(context, data, schemes)],
                **{name: facts for name, facts in extras.items() if facts is not None},
            }
        )
    )
