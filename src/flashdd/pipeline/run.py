"""The main job, from a real dataset to students trained from the shipped artifact: every stage in its order."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from flashdd.artifact.format import IMAGES, LABELER
from flashdd.artifact.read import load
from flashdd.core.config import RunConfig
from flashdd.core.device import environment
from flashdd.core.files import folder_bytes, read_json, read_object, write_atomic
from flashdd.core.progress import Progress
from flashdd.core.record import Record
from flashdd.core.stages import StageResult
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.pipeline.context import Context
from flashdd.pipeline.distill import images_stage, learned_labels, open_images
from flashdd.pipeline.labels import labels_stage
from flashdd.pipeline.material import Material, shipped_labeler
from flashdd.pipeline.members import labeler_stage
from flashdd.pipeline.package import artifact_stage, publish
from flashdd.pipeline.real import teacher_network, tutor_stage
from flashdd.pipeline.record import build_record, figures_of, resolved_config
from flashdd.pipeline.reportfiles import write_report_files
from flashdd.pipeline.search import (
    SearchResult,
    capacity_search,
    design_of,
    teacher_search,
)
from flashdd.pipeline.ship import ship_classifier
from flashdd.pipeline.start import source_commit, started
from flashdd.pipeline.students import student_rows
from flashdd.pipeline.suited import suited_labeler
from flashdd.pipeline.throughput import throughput_stage
from flashdd.pipeline.tutors import tutor_of
from flashdd.report.build import ReportFiles, render_page


def run(
    config: RunConfig, out: Path | str, *, cache: Path | str | None = None, progress: Progress | None = None
) -> Record:
    """Run the main job into folder `out` and return its record; finished stages are taken as they are.

    `out` gets artifact/, record.json, report.html, report/ and stages/; record.json is written last. Trained
    networks and decoded data go to `cache`, by default `default_cache()`. Raises UsageError for what cannot be
    done, StorageError where the disk fails; killed at any point, the same call goes on and ends with the same
    figures.
    """
    with started(config, out, cache=cache, progress=progress) as (context, data):
        return _run(context, data)


def _run(context: Context, data: RealDataset) -> Record:
    setup, progress = context.setup, context.progress
    commit = source_commit()  # of the code that is running, whatever is committed meanwhile
    replaces = _replaces_another(context, data)
    for stray in context.out.glob(".artifact.*"):  # a kill in the middle of publishing
        shutil.rmtree(stray)
    image_stage = images_stage(context, data, setup.method)
    teacher = teacher_network(context, data)
    images = open_images(image_stage)
    searched = teacher_search(context, data, images, partial(teacher_network, context, data))
    tutoring = tutor_of(context, data, images, lambda: searched)
    capacity = capacity_search(context, data, images, tutoring.design)
    artifact, content = artifact_stage(context, data, images, capacity)
    material = Material(
        data=data,
        images=images,
        method=setup.method,
        teacher=partial(teacher_network, context, data),
        searched=lambda: searched,
        shipped=shipped_labeler(artifact.folder / "artifact"),
        learned=learned_labels(image_stage),
    )
    others = {}
    if setup.method != "random":
        others["random"] = open_images(images_stage(context, data, "random"))
    beside = [_beside(context, material, name, its) for name, its in others.items()]
    students = student_rows(context, material, beside)
    ship = ship_classifier(context, data, teacher, capacity, artifact.record["artifact_bytes"])
    throughput = throughput_stage(context, content.labeler, artifact.record["labeler_sha256"])
    _retire_record(context, artifact.folder / "artifact", replaces)
    publish(
        content, figures_of(context, data, image_stage, students, artifact, ship), context.out / "artifact"
    )
    write_report_files(load(context.out / "artifact"), others, students, context.out / "report")
    record = build_record(
        context=context,
        data=data,
        teacher=teacher,
        image_stage=image_stage,
        teacher_search=searched,
        tutoring=tutoring,
        capacity=capacity,
        artifact=artifact,
        students=students,
        ship=ship,
        throughput=throughput,
        seconds=_seconds(context, data, images, searched, (*tutoring.trials, capacity)),
        environment=environment(context.device, commit=commit),
        artifact_bytes=folder_bytes(context.out / "artifact"),
    ).unless_written(context.out / "record.json")
    page = render_page(record, ReportFiles.read(context.out / "report"))
    write_atomic(context.out / "report.html", page.encode())
    record.write(context.out / "record.json")
    progress.close()
    return record


def _beside(context: Context, material: Material, method: str, images: ImageSet) -> Material:
    """What the row of other images with the same labeler is made of."""
    shipped = material.shipped
    assert shipped is not None, "a run has made one"
    suited = cache(partial(suited_labeler, context, material.data, images, shipped, method))
    return replace(material, images=images, method=method, suited=suited if shipped.has_offsets else None)


def _replaces_another(context: Context, data: RealDataset) -> bool:
    """Whether a finished run of another configuration, or a record that nobody can read, is in the folder; it stays
    whole until this one is published."""
    path = context.out / "record.json"
    held = read_object(path).get("config") if path.exists() else None
    if not path.exists() or held == resolved_config(context.setup, data):
        return False
    what = "a finished run of another configuration" if held else "a record that cannot be read"
    context.progress.message(f"{context.out} holds {what}, which this one will replace when it ends")
    return True


def _retire_record(context: Context, made: Path, replaces: bool) -> None:
    """A record stands for the artifact beside it: it goes where another one, `made`, is about to be published."""
    held, parts = context.out / "artifact", (IMAGES, LABELER)
    kept = [(held / part).exists() and filecmp.cmp(held / part, made / part, shallow=False) for part in parts]
    if replaces or not all(kept):
        (context.out / "record.json").unlink(missing_ok=True)


def _seconds(
    context: Context,
    data: RealDataset,
    images: ImageSet,
    searched: SearchResult,
    labelers: Sequence[SearchResult],
) -> dict[str, float]:
    """Of the stages that the others share: decoding, teachers of other courses, their labels, the labelers' networks
    with those whom they imitate."""
    courses = dict.fromkeys(entry.candidate.setting.course for entry in searched.measured)
    teachers = [teacher_network(context, data, course) for course in courses]
    beside = {teacher.stage.folder for teacher in teachers}
    parts = {part.folder: part.seconds for found in labelers for part in _members(context, data, found)}
    return {
        "data": read_json(context.out / "stages" / "data.json")["seconds"],
        "labels": sum(labels_stage(context, teacher, images)[0].seconds for teacher in teachers),
        "members": sum(seconds for folder, seconds in parts.items() if folder not in beside),
        "teacher": sum(teacher.stage.seconds for teacher in teachers),
    }


def _members(context: Context, data: RealDataset, found: SearchResult) -> list[StageResult]:
    """What the search's labelers are made of: their networks, the tutors of these and the tutors' labels."""
    rungs = dict.fromkeys((entry.candidate.rung, entry.candidate.setting.course) for entry in found.measured)
    made = [labeler_stage(context, data, design_of(context, *rung, found.tutor)) for rung in rungs]
    parts = [part for labeler in made for part in (*labeler.parts, labeler.stage)]
    if found.tutor:
        tutors = found.tutor.networks(context, data)
        parts += [
            tutor_stage(context, tutors, context.setup.member_recipe),
            *(tutor.stage for tutor in tutors),
        ]
    return parts
