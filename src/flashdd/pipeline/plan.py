"""`flashdd run --dry-run`: the stages of a run, sizes and expected bytes; nothing is decoded or trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flashdd.core.config import RunConfig
from flashdd.core.device import resolve_device
from flashdd.data.sources import check_source
from flashdd.labels.catalog import SHORTLISTED
from flashdd.labels.flash.candidates import Course, Setting
from flashdd.labels.flash.capacity import default_setting, softness_dial
from flashdd.pipeline.setup import Setup, resolve, source_options
from flashdd.report.text import counted
from flashdd.training.classifier import ClassifierRecipe


def plan(config: RunConfig) -> dict[str, Any]:
    """{"stages": [{"name", "what"}], "sizes": {...}, "bytes": {...}} of the run that `config` asks for.

    Raises UsageError for everything that would be refused before training.
    """
    resolve_device(config.device)
    setup = resolve(config, check_source(source_options(config)))
    artifact = setup.facts.shape[0] * setup.facts.shape[1] * setup.facts.shape[2] * setup.num_images
    return {
        "stages": [{"name": name, "what": what} for name, what in _stages(setup)],
        "sizes": {
            "label budget": f"{setup.budget_bytes:,} bytes, {setup.max_macs:,} MACs per image",
            "reference": f"ResNet-18, {setup.reference.bytes:,} bytes, {setup.reference.macs:,} MACs per image",
            "artifact": f"{artifact + setup.budget_bytes:,} bytes (pixels as they are, label budget) and some KB of "
            "file formats and card",
        },
        "bytes": {
            "label_budget": setup.budget_bytes,
            "reference": setup.reference.bytes,
            "raw_images": artifact,
            "teacher": setup.teacher_size.bytes,
        },
    }


def _stages(setup: Setup) -> list[tuple[str, str]]:
    config, facts, protocol = setup.config, setup.facts, setup.protocol
    height, width = facts.shape[1:]
    search = config.search
    rungs = sum(len(chain) for family in setup.families for chain in family)
    raised = max(0, search.finalist_seeds - search.seeds)
    settings = 1 + _others(setup.teacher_settings)[1]
    teacher = settings * search.seeds + min(2 * search.finalists, settings) * raised + _with_offsets(setup)
    epochs = protocol.epochs(setup.num_images)
    return [
        (
            "data",
            f"decode {facts.name}: {facts.num_train} + {facts.num_val} + {facts.num_test} images, {height}x{width}",
        ),
        ("teacher", f"train {config.teacher.name} for {_training(setup, setup.teacher_recipe)}"),
        ("images", f"{setup.num_images} images {_made(setup)}, IPC {setup.ipc or 'uneven'}"),
        ("labels", f"{epochs * setup.num_images:,} views labeled by the teacher"),
        (
            "teacher-search",
            f"up to {teacher} proxy students ({setup.proxy}, {counted(protocol.steps, 'step')}){_retrained(setup)}",
        ),
        *_tutor_search(setup),
        (
            "capacity",
            f"up to {rungs} networks of {_training(setup, setup.member_recipe)}{_relearned(setup)}{_imitating(setup)}"
            f"; {_reduced(setup)}{_proxies(setup)} proxy students",
        ),
        ("artifact", "pack images and labeler"),
        *_offsets(setup),
        (
            "stored-within",
            f"the best stored labels within the labeler's bytes: up to {SHORTLISTED * search.seeds} proxy students",
        ),
        (
            "students",
            f"{counted(config.student.seeds, 'seed')} of {setup.student} per row, "
            f"{counted(protocol.steps, 'step')} ({protocol.name})",
        ),
        ("ship", "the best network that fits the bytes of the whole artifact"),
    ]


def _made(setup: Setup) -> str:
    return f"of {setup.foreign}, made elsewhere" if setup.foreign else f"by {setup.method}"


def _proxies(setup: Setup) -> str:
    """Of the labeler's search, at least and at most; it comes close to the former where capacity settles early, and of
    the candidates that the latter gives twice the seeds few need them."""
    search = setup.config.search
    rungs = sum(len(chain) for family in setup.families for chain in family)
    climbed = sum(min(len(chain), 1 + search.patience) for family in setup.families for chain in family)
    few, many = _others(setup.settings)
    raised = max(0, search.finalist_seeds - search.seeds)
    finalists, chains = min(search.finalists, climbed), sum(map(len, setup.families))
    least = (climbed + max(finalists, chains) * few) * search.seeds + finalists * raised
    most = (rungs + min(search.finalists + chains - 1, rungs) * many) * search.seeds  # the best leads a chain
    most += 3 * search.finalists * raised  # contenders on either side
    other_courses = len(_courses(setup.settings)) - 1
    most += other_courses * rungs * search.seeds  # each may be climbed once
    final = max(search.seeds, search.finalist_seeds)
    most += _variants(setup) * final
    most += (3 * search.finalists + _variants(setup)) * max(0, search.settling_seeds - final)
    return f"{least + _with_offsets(setup)} to {most + _with_offsets(setup)}"


def _offsets(setup: Setup) -> list[tuple[str, str]]:
    """Of the labeler on random images, beside another method's."""
    if not setup.config.search.class_offsets or setup.method == "random":
        return []
    most = 2 * _with_offsets(setup)
    return [("offsets", f"for random images, if the labeler has any: up to {most} proxy students")]


def _with_offsets(setup: Setup) -> int:
    """Proxies of the choice with class offsets."""
    search = setup.config.search
    return max(search.seeds, search.finalist_seeds) if search.class_offsets else 0


def _retrained(setup: Setup) -> str:
    """The teacher's trainings beside its own, each of which labels the views anew."""
    own = setup.published.course
    others = [setup.teacher_at(course).epochs for course in _courses(setup.teacher_settings) if course != own]
    return f" of the teacher{_as_far(others, 'it')}" if others else ""


def _relearned(setup: Setup) -> str:
    """The trainings of labelers' networks beside the whole one."""
    own = default_setting(setup.settings).course
    others = [setup.member_at(course).epochs for course in _courses(setup.settings) if course != own]
    return _as_far(others, "them") if others else ""


def _as_far(epochs: Sequence[int], whose: str) -> str:
    number, most = counted(len(epochs), "other training"), counted(max(epochs), "epoch")
    lengths = most if min(epochs) == max(epochs) else f"{min(epochs)} to {most}"
    return f" and, as far as they make better ones, of {number} of {whose} ({lengths})"


def _tutor_search(setup: Setup) -> list[tuple[str, str]]:
    """Of trials whom to imitate, where the teacher's search does not say."""
    if not setup.tutors:
        return []
    search = setup.config.search
    settings = len(softness_dial(setup.settings, default_setting(setup.settings)))
    raised = max(0, search.finalist_seeds - search.seeds)
    trials, networks = 1 + len(setup.teacher_epochs), len(setup.tried_rungs)
    tried = networks + settings - 1  # of one of them every softness
    # the best, and a contender on either side
    most = trials * (tried * search.seeds + min(3, tried) * raised)
    names = ", ".join(rung.name for rung in setup.tried_rungs)
    return [
        (
            "tutor-search",
            f"if the teacher is best after its whole training: up to {trials * networks} networks ({names}), which "
            f"learn the classes or imitate it, then or stopped earlier; up to {most} proxy students",
        )
    ]


def _imitating(setup: Setup) -> str:
    whom, count = setup.config.teacher.name, setup.tutors
    if count == 0:
        return ""
    if count > 1:
        whom = f"the mean of {count} {whom} ({count - 1} of them trained for it)"
    return (
        f", which imitate {whom} in the training that the teacher's search chooses or, where that is the whole one, as "
        "tutor-search finds"
    )


def _reduced(setup: Setup) -> str:
    """What is made of the choice alone, before "; "."""
    labeler = setup.config.labeler
    parts = [
        f"refits to {labeler.bits[-1]} bits" if len(labeler.bits) > 1 else "",
        f"ensembles of up to {labeler.max_members}" if labeler.max_members > 1 else "",
    ]
    told = [part for part in parts if part]
    return f"of the choice {' and '.join(told)}; " if told else ""


def _training(setup: Setup, recipe: ClassifierRecipe) -> str:
    """ "8 epochs (images move by 4 pixels at most)"."""
    pixels = round(recipe.shift * min(setup.facts.shape[1:]))
    moved = f"move by {counted(pixels, 'pixel')} at most" if pixels else "do not move"
    return f"{counted(recipe.epochs, 'epoch')} (images {moved})"


def _others(settings: Sequence[Setting]) -> tuple[int, int]:
    """Settings that a rung is tried at beside the default, at least (a step to each side that there is) and at most."""
    default = default_setting(settings)
    dial = softness_dial(settings, default)
    here, courses = dial.index(default), len(_courses(settings)) - 1
    steps = (here > 0) + (here < len(dial) - 1)
    return steps + min(1, courses), len(dial) - 1 + courses


def _courses(settings: Sequence[Setting]) -> list[Course]:
    return list(dict.fromkeys(setting.course for setting in settings))


def _variants(setup: Setup) -> int:
    """At most so many rungs of fewer bits, two for each number of them, and ensembles of every size."""
    return 2 * (len(setup.config.labeler.bits) - 1) + setup.config.labeler.max_members - 1
