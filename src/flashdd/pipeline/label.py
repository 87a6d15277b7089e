"""A labeler for images that somebody else made: the main job without its students."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from flashdd.core.config import RunConfig
from flashdd.core.errors import DataError, OutputError, UsageError
from flashdd.core.plugins import is_plugin
from flashdd.core.progress import Progress
from flashdd.data.sources import check_source
from flashdd.images.table import METHODS
from flashdd.pipeline.distill import images_stage, open_images
from flashdd.pipeline.package import artifact_stage, publish, tutor_facts
from flashdd.pipeline.real import teacher_network
from flashdd.pipeline.record import at_chance, caveats
from flashdd.pipeline.search import capacity_search, teacher_search, unclimbed
from flashdd.pipeline.setup import resolve, source_options
from flashdd.pipeline.start import started
from flashdd.pipeline.tutors import tutor_of, unimitated


def label(
    config: RunConfig, out: Path | str, *, cache: Path | str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Search a labeler for the image set whose path is `config.images.method`, and write both to OUT/artifact.

    A teacher, trained on the real data or taken from the cache, checks that labels mean the classes that they should:
    DataError where another assignment agrees clearly better. Where trainings shorter than its own are tried
    (`search.teacher_lengths`) it is also searched for the one in which the labeler imitates it, if any. Returns
    {"artifact", "name", "bits", "num_members", "bytes", "bytes_ratio", "macs_ratio", "temperature", "accuracy" (the
    labeler's own, on test), "tutor" (as in a record, where there is one), "notes"}. Raises UsageError where no path is
    given, else as `flashdd.run`, whose stages it shares: `run` on the same folder goes on from them.
    """
    _check_wanted(config, Path(out))
    with started(config, out, cache=cache, progress=progress) as (context, data):
        setup = context.setup
        image_stage = images_stage(context, data, setup.method)
        images = open_images(image_stage)
        courses = partial(teacher_network, context, data)
        searched = partial(teacher_search, context, data, images, courses)
        tutor = tutor_of(context, data, images, searched).design
        capacity = capacity_search(context, data, images, tutor)
        artifact, content = artifact_stage(context, data, images, capacity)
        made = artifact.record
        notes = [f"Images made elsewhere: {note}." for note in image_stage.record["notes"]]
        notes = [*at_chance(data, teacher_network(context, data)), *notes]
        facts = {key: made[key] for key in ("label_bytes", "accuracy", "params", "macs")}
        folder = context.out / "artifact"
        publish(content, {"students": [], "labeler": facts, "notes": notes}, folder)
        return {
            "artifact": str(folder),
            "name": capacity.choice.rung.name,
            "bits": made["bits"],
            "num_members": capacity.choice.rung.num_members,
            "bytes": made["label_bytes"],
            "bytes_ratio": made["label_bytes"] / setup.reference.bytes,
            "macs_ratio": setup.reference.macs / made["macs"],
            "temperature": capacity.choice.setting.temperature,
            "accuracy": made["accuracy"],
            **tutor_facts(setup, capacity),
            "notes": [*notes, *caveats(context, data, ()), *unclimbed(setup), *unimitated(setup, tutor)],
        }


def _check_wanted(config: RunConfig, out: Path) -> None:
    method = config.images.method
    if (
        method not in METHODS
        and not is_plugin("image method", method)
        and not Path(method).expanduser().exists()
    ):
        raise DataError(
            f"no such file or folder: {method}; flashdd label wants the path of images that exist."
        )
    if not resolve(config, check_source(source_options(config))).foreign:
        raise UsageError(
            f"flashdd label wants images that exist: give their path, not the method '{method}' (flashdd "
            "distill makes images, flashdd run everything)."
        )
    if (out / "record.json").exists():
        raise OutputError(
            f"{out} holds a finished run, whose record and artifact belong together: choose another folder with --out."
        )
