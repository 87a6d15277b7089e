"""Whom a run's labelers imitate: the teacher as its search stopped it, or as proxies like it as a tutor; or nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.flash.candidates import Measured
from flashdd.labels.flash.choice import gains
from flashdd.pipeline.context import Context
from flashdd.pipeline.members import TutorDesign
from flashdd.pipeline.search import SearchResult, tutor_trial
from flashdd.pipeline.setup import Setup
from flashdd.report.text import counted


@dataclass(frozen=True, kw_only=True)
class Tutoring:
    """design: whom labelers imitate, None for nobody; trials: what was tried where the teacher's search does not say,
    the first with nobody, the others each with one teacher; chosen: the index of the one that decided."""

    design: TutorDesign | None
    trials: tuple[SearchResult, ...] = ()
    chosen: int = 0


def tutor_of(
    context: Context, data: RealDataset, images: ImageSet, searched: Callable[[], SearchResult]
) -> Tutoring:
    """Whom the run's labelers imitate: the teacher in the course that its search chose, where that is a short one.

    Where it is the whole training, or a longer one, that may be a worse tutor than the classes themselves or a better
    one, as may be a shorter one (docs/LOG.md, 2026-11-28 and -30): proxies decide (`tutor_trial`), from the longest on
    for as long as shorter ones gain. Nobody is imitated where no shorter training is tried.
    """
    setup = context.setup
    if not setup.tutors:
        found = Tutoring(design=None)
    else:
        course = searched().choice.setting.course
        own = TutorDesign(epochs=setup.teacher_at(course).epochs, shift=course.shift, copies=setup.tutors)
        if own.epochs < setup.teacher_recipe.epochs:
            return Tutoring(design=own)
        shorter = [replace(own, epochs=epochs) for epochs in setup.teacher_epochs if epochs < own.epochs]
        found = _tried(context, data, images, [own, *shorter])
    if found.trials:
        for note in unimitated(setup, found.design):
            context.progress.message(note)
    return found


def _tried(context: Context, data: RealDataset, images: ImageSet, designs: list[TutorDesign]) -> Tutoring:
    """The best of `designs`, the longest first, if it gains more than a standard error over nobody."""

    def trial(tutor: TutorDesign | None) -> SearchResult:
        whom = f"the teacher after {counted(tutor.epochs, 'epoch')}" if tutor else "nobody"
        context.progress.message(f"tutor-search: a network that imitates {whom}")
        return tutor_trial(context, data, images, tutor)

    trials = [trial(None)]
    for design in designs:
        trials.append(trial(replace(design, copies=1)))
        if len(trials) > 2 and _best(trials[-1]).mean <= _best(trials[-2]).mean:
            break
    top = max(range(1, len(trials)), key=lambda index: _best(trials[index]).mean)
    if not gains(_best(trials[top]), _best(trials[0])):
        return Tutoring(design=None, trials=tuple(trials))
    return Tutoring(design=designs[top - 1], trials=tuple(trials), chosen=top)


def unimitated(setup: Setup, tutor: TutorDesign | None) -> list[str]:
    """That nobody is imitated, and why, unless `labeler.tutor` says so."""
    if tutor or setup.config.labeler.tutor == "none":
        return []
    if setup.stops_teacher:
        return [
            "The teacher makes the best students after its whole training, and a network that imitates it, then or "
            "stopped earlier, no clearly better ones than one that learns the classes, as the labeler's do "
            "(labeler.tutor)."
        ]
    whole = setup.teacher_recipe.epochs
    remedy = "search.teacher_lengths" if whole > 1 else "teacher.epochs"
    return [
        f"No training of the teacher shorter than {counted(whole, 'epoch')} is tried ({remedy}), so the labeler's "
        "networks learn the classes instead of imitating it (labeler.tutor)."
    ]


def _best(trial: SearchResult) -> Measured:
    return trial.measured[trial.chosen]
