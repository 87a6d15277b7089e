"""From what the stages made to the record of the run."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch

from flashdd import __version__
from flashdd.core.record import CLAIMING_SEEDS, RECORD_FORMAT, Record, paired_difference
from flashdd.core.stages import StageResult
from flashdd.data.dataset import RealDataset
from flashdd.labels import catalog
from flashdd.labels.flash.labeler import Labeler
from flashdd.pipeline.context import Context
from flashdd.pipeline.cost import Workload, reference_epochs, search_flops, tutor_flops
from flashdd.pipeline.package import teacher_bytes, tutor_facts
from flashdd.pipeline.real import Network, tabled_epochs, tutor_tabled
from flashdd.pipeline.search import SearchResult, unclimbed
from flashdd.pipeline.setup import Setup
from flashdd.pipeline.storedrows import BY_LABELER
from flashdd.pipeline.suited import offset_notes
from flashdd.pipeline.tutors import Tutoring, unimitated
from flashdd.report.text import percent_text

_KEPT = ("scheme", "images", "student", "protocol", "label_bytes", "accuracy", "best_epoch", "seconds")
_OPTIONAL = ("equal_bytes", "class_offsets")
_BY_TEACHER = ("teacher", *catalog.SCHEMES)


def build_record(
    *,
    context: Context,
    data: RealDataset,
    teacher: Network,
    image_stage: StageResult,
    teacher_search: SearchResult,
    tutoring: Tutoring,
    capacity: SearchResult,
    artifact: StageResult,
    students: list[dict[str, Any]],
    ship: dict[str, Any],
    throughput: dict[str, Any],
    seconds: dict[str, float],
    environment: dict[str, Any],
    artifact_bytes: int,
) -> Record:
    """The record of a finished run, with every key that FORMAT.md lists."""
    setup, trials = context.setup, tutoring.trials
    rows = [_student(row, students) for row in students]
    work = Workload.of(
        context, len(data.train.labels), len(data.val.labels), image_stage.record["num_images"]
    )
    content = {
        "flashdd": __version__,
        "format": RECORD_FORMAT,
        "config": resolved_config(setup, data),
        "environment": environment,
        "data": data_facts(data),
        "reference": _size(setup.reference.params, setup.reference.bytes, setup.reference.macs),
        "images": {
            "method": setup.method,
            "ipc": setup.ipc,
            "num_images": image_stage.record["num_images"],
            "bytes": image_stage.record["bytes"],
        },
        "teacher": {
            "name": teacher.name,
            **_size(setup.teacher_size.params, teacher_bytes(teacher), setup.teacher_size.macs),
            "accuracy": teacher.accuracy("test"),
        },
        "teacher_search": _search(teacher_search, work, trained=setup.teacher_recipe.shift),
        **tutor_search_facts(context, data, teacher_search, tutoring, work),
        "capacity": capacity_facts(context, data, capacity, work),
        "labeler": _labeler(setup, capacity, artifact),
        "throughput": [throughput],
        "students": rows,
        "ship": {key: value for key, value in ship.items() if key != "seconds"},
        "seconds": {
            **seconds,
            "images": image_stage.seconds,
            "teacher-search": teacher_search.stage.seconds,
            **({"tutor-search": sum(trial.stage.seconds for trial in trials)} if trials else {}),
            "capacity": capacity.stage.seconds,
            "artifact": artifact.seconds,
            **_choice_seconds(students),
            "students": sum(row["seconds"] for row in students),
            "ship": ship["seconds"],
        },
        "artifact_bytes": artifact_bytes,
        "notes": [
            *at_chance(data, teacher),
            *_notes(context, data, image_stage, rows),
            *unclimbed(setup),
            *unimitated(setup, capacity.tutor),
        ],
    }
    return Record.model_validate(plain(content))


def figures_of(
    context: Context,
    data: RealDataset,
    image_stage: StageResult,
    students: list[dict[str, Any]],
    artifact: StageResult,
    ship: dict[str, Any],
) -> dict[str, Any]:
    """What the artifact's card says of accuracy: nothing that depends on the clock."""
    rows = [
        {key: row[key] for key in ("scheme", "images", "student", "protocol", "label_bytes", "accuracy")}
        for row in students
    ]
    labeler = {key: artifact.record[key] for key in ("label_bytes", "accuracy", "params", "macs")}
    return {
        "students": plain(rows),
        "labeler": labeler,
        "ship": {key: ship[key] for key in ("name", "bytes", "accuracy")},
        "notes": _notes(context, data, image_stage, students),
    }


def plain(value: Any) -> Any:
    """Models inside a tree become plain data."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", exclude_unset=True) if dump is not None else value


def resolved_config(setup: Setup, data: RealDataset) -> dict[str, Any]:
    """The configuration without paths: the data's name stands for where they lay."""
    config: dict[str, Any] = setup.config.model_dump(mode="json", exclude={"compare", "regret"})
    config["data"]["source"] = data.name
    if setup.foreign:
        config["images"] |= {"method": setup.foreign.name, "labels": None}
    config["resolved"] = {
        "flip": setup.flip,
        "factor": setup.factor,
        "student": setup.student,
        "proxy": setup.proxy,
        "protocol": setup.protocol.to_json(),
        "max_macs": setup.max_macs,
        "member_recipe": setup.member_recipe.to_json(),
        "teacher_recipe": setup.teacher_recipe.to_json(),
        "lengths": sorted({setting.length for setting in setup.settings}),
        "teacher_lengths": sorted({setting.length for setting in setup.teacher_settings}),
        "teacher_shifts": sorted({setting.shift for setting in setup.teacher_settings}),
    }
    return config


def data_facts(data: RealDataset) -> dict[str, Any]:
    return {
        "name": data.name,
        "codec": data.codec,
        "content_hash": data.content_hash,
        "num_classes": data.num_classes,
        "num_train": len(data.train.labels),
        "num_val": len(data.val.labels),
        "num_test": len(data.test.labels),
        "shape": list(data.shape),
    }


def _size(params: int, num_bytes: int, macs: int) -> dict[str, int]:
    return {"params": params, "bytes": num_bytes, "macs": macs}


def _search(
    result: SearchResult, work: Workload, trained: float | None = None, beside: int = 0
) -> dict[str, Any]:
    flops = search_flops(result.facts, work, trained=trained) + beside
    return {
        "candidates": result.facts,
        "chosen": result.chosen,
        "seconds": result.stage.seconds,
        "flops": flops,
        "reference_epochs": reference_epochs(flops, work),
    }


def capacity_facts(
    context: Context, data: RealDataset, capacity: SearchResult, work: Workload
) -> dict[str, Any]:
    """The record's `capacity`: every candidate, the choice, and what it all cost. Its first tutor was there already."""
    trained = capacity.tutor.copies - 1 if capacity.tutor else 0
    return _search(capacity, work, beside=_tutor_flops(context, data, capacity, work, trained))


def tutor_search_facts(
    context: Context, data: RealDataset, teacher_search: SearchResult, tutoring: Tutoring, work: Workload
) -> dict[str, Any]:
    """The record's `tutor_search`, the trials as one table; nothing where none was made."""
    if not tutoring.trials:
        return {}
    there = {(row["epochs"], row["shift"]) for row in teacher_search.facts}
    found = []
    for trial in tutoring.trials:
        trained = int(trial.tutor is not None and (trial.tutor.epochs, trial.tutor.shift) not in there)
        facts = _search(trial, work, beside=_tutor_flops(context, data, trial, work, trained))
        imitated = trial.tutor.epochs if trial.tutor else 0
        facts["candidates"] = [{**row, "tutor_epochs": imitated} for row in facts["candidates"]]
        found.append(facts)
    before = sum(len(facts["candidates"]) for facts in found[: tutoring.chosen])
    return {
        "tutor_search": {
            "candidates": [row for facts in found for row in facts["candidates"]],
            "chosen": before + found[tutoring.chosen]["chosen"],
            **{key: sum(facts[key] for facts in found) for key in ("seconds", "flops", "reference_epochs")},
        }
    }


def _tutor_flops(
    context: Context, data: RealDataset, found: SearchResult, work: Workload, trained: int
) -> int:
    """Of the labels that the candidates imitated, and of the training of so many tutors."""
    if found.tutor is None:
        return 0
    setup = context.setup
    tabled = tutor_tabled(context, data, setup.member_recipe)
    return tutor_flops(
        found.facts,
        work,
        setup.teacher_size.macs,
        epochs=found.tutor.epochs,
        copies=found.tutor.copies,
        trained=trained,
        views=tabled_epochs(context, setup.member_recipe) if tabled else None,
    )


def _labeler(setup: Setup, capacity: SearchResult, artifact: StageResult) -> dict[str, Any]:
    made = artifact.record
    return {
        "num_members": capacity.choice.rung.num_members,
        "name": capacity.choice.rung.name,
        "params": made["params"],
        "bits": made["bits"],
        "bytes": made["label_bytes"],
        "macs": made["macs"],
        "temperature": capacity.choice.setting.temperature,
        "logit_scale": capacity.choice.setting.logit_scale,
        "accuracy": made["accuracy"],
        "budget_bytes": setup.budget_bytes,
        "bytes_ratio": made["label_bytes"] / setup.reference.bytes,
        "macs_ratio": setup.reference.macs / made["macs"],
        "backend": Labeler.backend,
        **tutor_facts(setup, capacity),
    }


def _choice_seconds(students: list[dict[str, Any]]) -> dict[str, float]:
    """Of what rows chose: class offsets of other images than the labeler's own, stored labels at equal bytes."""
    stages = {"offsets": "class_offsets", "stored-within": "equal_bytes"}
    made = {name: [row[fact]["seconds"] for row in students if fact in row] for name, fact in stages.items()}
    return {name: sum(seconds) for name, seconds in made.items() if seconds}


def _student(row: dict[str, Any], students: list[dict[str, Any]]) -> dict[str, Any]:
    kept = {key: row[key] for key in _KEPT} | {key: row[key] for key in _OPTIONAL if key in row}
    full = next(other for other in students if other["scheme"] == "teacher@searched")
    values, base = row["accuracy"].values, full["accuracy"].values
    comparable = all(row[key] == full[key] for key in ("images", "student", "protocol"))
    if row is not full and comparable and len(values) == len(base):
        kept["paired_to_teacher"] = paired_difference(values, base)
    return kept


def _notes(
    context: Context, data: RealDataset, image_stage: StageResult, rows: list[dict[str, Any]]
) -> list[str]:
    notes = [f"Images made elsewhere: {note}." for note in image_stage.record.get("notes", [])]
    notes += offset_notes(rows)
    schemes = {row["scheme"] for row in rows}
    if not context.setup.protocol.views.replayable:
        return [*notes, "No stored labels: the views cannot be replayed.", *caveats(context, data, schemes)]
    if "stored" not in schemes:
        notes.append("No row of all stored labels: they are over 2 GB as the teacher makes them.")
    if "stored@equal-bytes" not in schemes:
        notes.append("No stored labels at equal bytes: no scheme of them fits the bytes of the labeler.")
    return [*notes, *caveats(context, data, schemes)]


def teachers_own(schemes: Collection[str]) -> set[str]:
    """Those whose labels the full teacher makes."""
    return {
        scheme
        for scheme in schemes
        if scheme.partition("@")[0] in _BY_TEACHER and not scheme.endswith(BY_LABELER)
    }


def _unsearched(setup: Setup, schemes: Collection[str]) -> list[str]:
    """Of the full teacher: dials of its training that may make better labels, and that no search has turned for one of
    the schemes."""
    by_teacher = teachers_own(schemes)
    if not by_teacher:
        return []
    searched = by_teacher - {"teacher@published"}
    tried = setup.teacher_settings if searched else (setup.published,)
    notes = []
    if len({setting.length for setting in tried}) == 1:
        dial = "search.teacher_lengths" if setup.teacher_recipe.epochs > 1 else "teacher.epochs"
        notes.append(
            f"The full teacher's training length was not searched ({dial}): stopped early it may make better labels."
        )
    if searched and len({(setting.temperature, setting.logit_scale) for setting in tried}) == 1:
        dial = "search.temperatures" if setup.protocol.temperature is None else "search.logit_scales"
        notes.append(
            f"How soft the full teacher's labels are was not searched ({dial}): softer or harder ones may be better."
        )
    if not (searched and setup.config.search.class_offsets):
        notes.append(
            "Class offsets of the full teacher's labels were not searched (search.class_offsets): it may make better "
            "labels with them."
        )
    if setup.member_recipe.shift not in {setting.shift for setting in tried}:
        notes.append(
            f"The labeler's networks were trained on images that move by up to {100 * setup.member_recipe.shift:.1f} % "
            "of their side, and the full teacher was not (search.teacher_shifts): it may make better labels so."
        )
    return notes


def at_chance(data: RealDataset, teacher: Network) -> list[str]:
    """That a full teacher cannot be told from the most frequent class on validation images, and what that means."""
    count = len(data.val.labels)
    most = torch.bincount(data.val.labels).max().item() / count
    accuracy = teacher.accuracy("val")
    if accuracy > most + 2 * math.sqrt(most * (1 - most) / count):
        return []
    return [
        f"{teacher.name} after its whole training cannot be told from chance, {percent_text(accuracy)} % of {count} "
        "validation images (teacher.epochs): its labels, and what is compared to them, say little."
    ]


def caveats(context: Context, data: RealDataset, schemes: Collection[str]) -> list[str]:
    """What a reader of any table of these schemes, made on these data and this device, must know."""
    notes = _unsearched(context.setup, schemes)
    if context.setup.protocol.loss.needs_classes:
        notes.append(
            "Hard labels, and stored ones that are no logits, train with cross-entropy: the protocol's loss compares "
            "logits."
        )
    seeds = context.setup.config.student.seeds
    if schemes and seeds < CLAIMING_SEEDS:
        shown = "show their interval" if seeds > 1 else "have no interval"
        notes.append(f"Differences at fewer than {CLAIMING_SEEDS} seeds {shown}; none of them is claimed.")
    if context.device.type == "cpu":
        notes.append(
            "CPU-sized: trained and timed on a CPU. Where other work shared it, factors below 2 between times say "
            "nothing."
        )
    if data.name == "digits":
        notes.append("digits saturate: this is a smoke test, not evidence.")
    if "JPEG" in data.codec:
        notes.append(f"The real images are {data.codec}: not comparable with results on lossless originals.")
    return notes
