"""Whom a run's labelers imitate: the teacher as its search stopped it, or as proxies like it as a tutor; or nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.pipeline.context import Context
from flashdd.pipeline.members import TutorDesign
from flashdd.pipeline.search import SearchResult, tutor_trial
from flashdd.pipeline.setup import Setup
from flashdd.report.text import counted


@dataclass(frozen=True, kw_only=True)
class Tutoring:
    """design: whom labelers imitate, None for nobody; trials: what was tried where the teacher's search does not say,
    the first with nobody, the others each with one teacher."""

    design: TutorDesign | None
    trials: tuple[SearchResult, ...] = ()

    @property
    def chosen(self) -> int:
        """Index of the trial that decided: the first of the best."""
        means = [_reached(trial) for trial in self.trials]
        return means.index(max(means))


def tutor_of(
    context: Context, data: RealDataset, images: ImageSet, searched: Callable[[], SearchResult]
) -> Tutoring:
    """Whom the run's labelers imitate: the teacher in the course that its search chose, where that is a short one.

    Where it is the whole training, that may be a worse tutor than the classes themselves or a better one, as may be a
    shorter one (docs/LOG.md, 2026-11-28 and -30): proxies decide (`tutor_trial`), from the longest on for as long as
    shorter ones gain. Nobody is imitated where no shorter training is tried.
    """
    setup = context.setup
    if setup.config.labeler.tutor == "none":
        return Tutoring(design=None)
    whole = setup.teacher_recipe.epochs
    course = searched().choice.setting.course if setup.stopped_epochs else setup.published.course
    own = TutorDesign(epochs=setup.teacher_at(course).epochs, shift=course.shift, copies=setup.tutors)
    if own.epochs < whole:
        return Tutoring(design=own)
    shorter = [replace(own, epochs=epochs) for epochs in setup.stopped_epochs]
    found = _tried(context, data, images, [own, *shorter]) if shorter else Tutoring(design=None)
    for note in unimitated(setup, found.design):
        context.progress.message(note)
    return found


def _tried(context: Context, data: RealDataset, images: ImageSet, designs: list[TutorDesign]) -> Tutoring:
    """The best of nobody and of `designs`, the longest first."""
    trials = [tutor_trial(context, data, images, None)]
    for design in designs:
        trials.append(tutor_trial(context, data, images, replace(design, copies=1)))
        if len(trials) > 2 and _reached(trials[-1]) <= _reached(trials[-2]):
            break
    found = Tutoring(design=None, trials=tuple(trials))
    return replace(found, design=[None, *designs][found.chosen])


def unimitated(setup: Setup, tutor: TutorDesign | None) -> list[str]:
    """That nobody is imitated, and why, unless `labeler.tutor` says so."""
    if tutor or setup.config.labeler.tutor == "none":
        return []
    if setup.stopped_epochs:
        return [
            "labeler.tutor: the teacher makes the best students after its whole training, and a network that imitates "
            "it, then or stopped earlier, no better ones than one that learns the classes, as the labeler's do."
        ]
    whole = setup.teacher_recipe.epochs
    remedy = "search.teacher_lengths" if whole > 1 else "teacher.epochs"
    return [
        f"labeler.tutor: no training of the teacher shorter than {counted(whole, 'epoch')} is tried ({remedy}), "
        "so the labeler's networks learn the classes instead of imitating it."
    ]


def _reached(trial: SearchResult) -> float:
    return trial.measured[trial.chosen].mean
