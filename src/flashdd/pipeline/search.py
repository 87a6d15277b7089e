"""Stages: the search for settings (teacher) and for capacity (labeler), and trials of a labeler's tutor.

All score a candidate by proxy students trained on the distilled images for the protocol's own length,
validated on real images other than these (`train_proxy`). Test data are never read here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache
from typing import Any

from flashdd.core.stages import StageResult, StageWork
from flashdd.data.dataset import RealDataset
from flashdd.data.imageset import ImageSet
from flashdd.labels.flash.candidates import Candidate, Course, Measured, Rung, Setting
from flashdd.labels.flash.capacity import (
    Offsets,
    SearchBudget,
    Variants,
    default_setting,
    search,
    softness_dial,
)
from flashdd.labels.table import Labels
from flashdd.models.family import LabelerSpec, parse_family
from flashdd.pipeline.context import Context
from flashdd.pipeline.labels import TABLE_REVISION, labels_of, labels_stage
from flashdd.pipeline.members import MEMBERS_REVISION, Design, Made, TutorDesign, labeler_stage
from flashdd.pipeline.proxies import Proxy, ProxyJob, mean_offsets, proxy_key, train_proxy
from flashdd.pipeline.real import NETWORK_REVISION, TUTOR_EPOCHS, TUTOR_REVISION, TUTOR_TEMPERATURE, Network
from flashdd.pipeline.setup import Setup

_TEACHER_REVISION, _CAPACITY_REVISION, _TRIAL_REVISION = 13, 18, 5
_IN_SETTINGS = {"temperatures", "logit_scales", "lengths", "teacher_lengths", "teacher_shifts"}


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """measured: every candidate, by capacity; chosen: its index; facts: rows of the record; tutor: whom labelers
    imitate."""

    stage: StageResult
    measured: list[Measured]
    chosen: int
    facts: list[dict[str, Any]]
    tutor: TutorDesign | None = None

    @property
    def choice(self) -> Candidate:
        return self.measured[self.chosen].candidate


@dataclass(frozen=True, kw_only=True)
class _SearchSpace:
    """What a search chooses from: rungs, and settings that each may have. prepare: makes the networks of a rung and
    course; labels, accuracy (validation): of these; epochs: of a course. revision, key: of the stage; the key holds
    what other searches do not depend on. for_trial: whether one finalist, unsettled, and no class offsets are enough.
    """

    revision: int
    key: dict[str, Any]
    families: Sequence[Sequence[Sequence[Rung]]]
    variants: Variants | None
    settings: Sequence[Setting]
    prepare: Callable[[Rung, Course], Any]
    labels: Callable[[Rung, Course], Labels]
    accuracy: Callable[[Rung, Course], float]
    epochs: Callable[[Course], int]
    for_trial: bool = False


def teacher_search(
    context: Context, data: RealDataset, images: ImageSet, teacher: Callable[[Course], Network]
) -> SearchResult:
    """The full teacher's best settings, by the labeler's own search over its course, temperature and scale.

    teacher: the network trained in a course.
    """
    whole, size = teacher(context.setup.published.course), context.setup.teacher_size
    rung = Rung(
        name=whole.name, params=size.params, bytes=whole.path().stat().st_size, macs=size.macs, bits=32
    )

    @lru_cache(maxsize=2)
    def labels(rung: Rung, course: Course) -> Labels:
        return labels_stage(context, teacher(course), images)[1]

    choices = _SearchSpace(
        revision=_TEACHER_REVISION,
        key={"labeler": None, "ceilings": None, "recipe": context.setup.teacher_recipe.to_json()},
        families=[[[rung]]],
        variants=None,
        settings=context.setup.teacher_settings,
        prepare=labels,
        labels=labels,
        accuracy=lambda rung, course: teacher(course).accuracy("val"),
        epochs=lambda course: context.setup.teacher_at(course).epochs,
    )
    return _search_stage(
        context, data, images, name="teacher-search", choices=choices, inputs={"network": whole.stage.hash}
    )


def unclimbed(setup: Setup) -> list[str]:
    """That a ladder of `labeler.stems` has no rung within both ceilings."""
    climbed = {LabelerSpec.parse(chain[0].name).family for family in setup.families for chain in family}
    left_out = [stem for stem in setup.config.labeler.stems if parse_family(stem) and stem not in climbed]
    if not left_out:
        return []
    return [
        f"labeler.stems: no network of {', '.join(left_out)} was tried, for none fits {setup.budget_bytes:,} bytes and "
        f"{setup.max_macs:,} multiply-accumulates per image."
    ]


def capacity_search(
    context: Context, data: RealDataset, images: ImageSet, tutor: TutorDesign | None
) -> SearchResult:
    """The labeler's capacity, training length, temperature and logit scale, bits and number of members."""
    setup = context.setup
    choices = _labelers(context, data, images, tutor, setup.families, setup.settings)
    return _labeler_search(context, data, images, tutor, "capacity", choices)


def tutor_trial(
    context: Context, data: RealDataset, images: ImageSet, tutor: TutorDesign | None
) -> SearchResult:
    """The best of `Setup.tried_rungs` and the best softness of its labels, if the networks imitate `tutor`: they are
    one chain, with one finalist, unsettled, and no class offsets in the labels."""
    setup = context.setup
    dial = softness_dial(setup.settings, default_setting(setup.settings))
    choices = _labelers(context, data, images, tutor, [[setup.tried_rungs]], dial)
    choices = replace(choices, revision=_TRIAL_REVISION, variants=None, for_trial=True)
    return _labeler_search(context, data, images, tutor, "tutor-search", choices)


def _labelers(
    context: Context,
    data: RealDataset,
    images: ImageSet,
    tutor: TutorDesign | None,
    families: Sequence[Sequence[Sequence[Rung]]],
    settings: Sequence[Setting],
) -> _SearchSpace:
    """Labelers whose networks imitate `tutor`."""

    @cache
    def made(rung: Rung, course: Course) -> Made:
        return labeler_stage(context, data, design_of(context, rung, course, tutor))

    @lru_cache(maxsize=4)
    def labels(rung: Rung, course: Course) -> Labels:
        return labels_of(context, made(rung, course).open(), images)

    setup = context.setup
    return _SearchSpace(
        revision=_CAPACITY_REVISION,
        key={
            # without the tutors: where there are any they are an input
            "labeler": setup.config.labeler.model_dump(mode="json", exclude={"tutor", "tutors"}),
            "ceilings": [setup.budget_bytes, setup.max_macs],
            "recipe": setup.member_recipe.to_json(),
        },
        families=families,
        variants=setup.variants,
        settings=settings,
        prepare=made,
        labels=labels,
        accuracy=lambda rung, course: made(rung, course).accuracy("val"),
        epochs=lambda course: setup.member_at(course).epochs,
    )


def _labeler_search(
    context: Context,
    data: RealDataset,
    images: ImageSet,
    tutor: TutorDesign | None,
    name: str,
    choices: _SearchSpace,
) -> SearchResult:
    inputs = {"data": data.content_hash, "split": f"{len(data.val.labels)}"}
    if tutor:
        networks = tutor.networks(context, data)
        inputs["tutor"] = " ".join(network.stage.hash for network in networks)
        inputs["imitation"] = f"{TUTOR_REVISION} {TUTOR_TEMPERATURE} {TUTOR_EPOCHS}"
    found = _search_stage(context, data, images, name=name, choices=choices, inputs=inputs)
    return replace(found, tutor=tutor)


def design_of(context: Context, rung: Rung, course: Course, tutor: TutorDesign | None = None) -> Design:
    return Design(
        names=(rung.name,),
        epochs=context.setup.member_at(course).epochs,
        shift=course.shift,
        bits=rung.bits,
        copies=rung.num_members,
        tutor=tutor,
    )


def _search_stage(
    context: Context,
    data: RealDataset,
    images: ImageSet,
    *,
    name: str,
    choices: _SearchSpace,
    inputs: dict[str, str],
) -> SearchResult:
    setup = context.setup
    options = setup.config.search
    budget = SearchBudget(
        seeds=options.seeds,
        finalists=1 if choices.for_trial else options.finalists,
        finalist_seeds=options.finalist_seeds,
        settling_seeds=options.finalist_seeds if choices.for_trial else options.settling_seeds,
        patience=options.patience,
    )

    def make(work: StageWork) -> Any:
        proxies = _Proxies(context, data, images, work, name, choices)
        measured, chosen = search(
            choices.families, choices.settings, proxies.score, budget, choices.variants, proxies.offsets()
        )
        rows = [{**_facts(entry, choices), **proxies.uncorrected(entry)} for entry in measured]
        return {"rows": rows, "chosen": chosen}

    stage = context.local.make(
        name,
        revision=choices.revision,
        config={
            **choices.key,
            "families": [[[rung.name for rung in chain] for chain in family] for family in choices.families],
            "settings": [[s.length, s.shift, s.temperature, s.logit_scale] for s in choices.settings],
            "search": options.model_dump(mode="json", exclude=_IN_SETTINGS),
            **proxy_key(setup),
            "revisions": [NETWORK_REVISION, MEMBERS_REVISION, TABLE_REVISION],
        },
        inputs={"images": images.content_hash, **inputs},
        build=make,
    )
    return SearchResult(
        stage=stage,
        measured=[_measured(row) for row in stage.record["rows"]],
        chosen=stage.record["chosen"],
        facts=stage.record["rows"],
    )


class _Proxies:
    """Scores candidates; every proxy student is a task, so that a killed search loses one at most."""

    def __init__(
        self,
        context: Context,
        data: RealDataset,
        images: ImageSet,
        work: StageWork,
        name: str,
        choices: _SearchSpace,
    ) -> None:
        self.context, self.data, self.images, self.work = context, data, images, work
        self.name, self.choices = name, choices

    def score(self, candidate: Candidate, seed: int) -> float:
        return self._proxy(candidate, seed).score

    def offsets(self) -> Offsets | None:
        if self.choices.for_trial or not self.context.setup.config.search.class_offsets:
            return None
        return Offsets(applied=self._with_offsets, plain=self.plain)

    def plain(self, entry: Measured) -> Measured:
        """What proxies reach as they are."""
        values = tuple(self._proxy(entry.candidate, seed).accuracy for seed in range(len(entry.values)))
        return replace(entry, values=values)

    def uncorrected(self, entry: Measured) -> dict[str, float]:
        """The fact of a candidate whose proxies were corrected."""
        return {"plain_mean": self.plain(entry).mean} if self._corrects(entry.candidate) else {}

    def _corrects(self, candidate: Candidate) -> bool:
        return self.context.setup.config.search.class_offsets and not candidate.setting.offsets

    def _with_offsets(self, chosen: Measured) -> Candidate:
        """With the mean of the class offsets that its proxies ask for."""
        proxies = [self._proxy(chosen.candidate, seed) for seed in range(len(chosen.values))]
        setting = replace(chosen.candidate.setting, offsets=mean_offsets(proxies))
        return replace(chosen.candidate, setting=setting)

    def _proxy(self, candidate: Candidate, seed: int) -> Proxy:
        def train() -> dict[str, Any]:
            job = self._job(candidate)
            return train_proxy(self.context, self.data, self.images, self.work, job, seed).to_json()

        return Proxy.from_json(self.work.task(f"{candidate}-seed{seed}", train))

    def _job(self, candidate: Candidate) -> ProxyJob:
        with self.work.paused():  # training a rung, or labelling by the teacher, is a stage of its own
            self.choices.prepare(candidate.rung, candidate.setting.course)
        labels, setting = self.choices.labels(candidate.rung, candidate.setting.course), candidate.setting
        return ProxyJob(
            stage=self.name,
            label=str(candidate),
            protocol=self.context.setup.protocol,
            corrected=self._corrects(candidate),
            source=labels.source(
                temperature=setting.temperature, logit_scale=setting.logit_scale, offsets=setting.offsets
            ),
        )


def _facts(entry: Measured, choices: _SearchSpace) -> dict[str, Any]:
    rung, setting = entry.candidate.rung, entry.candidate.setting
    return {
        **asdict(rung),
        "epochs": choices.epochs(setting.course),
        "length": setting.length,
        "shift": setting.shift,
        "temperature": setting.temperature,
        "logit_scale": setting.logit_scale,
        **({"offsets": list(setting.offsets)} if setting.offsets else {}),
        "val_accuracy": choices.accuracy(rung, setting.course),
        "proxy_mean": entry.mean,
        "proxy_stderr": entry.stderr,
        "n": len(entry.values),
        "values": list(entry.values),
    }


def _measured(row: dict[str, Any]) -> Measured:
    rung = Rung(**{field.name: row[field.name] for field in fields(Rung)})
    setting = Setting(
        length=row["length"],
        shift=row["shift"],
        temperature=row["temperature"],
        logit_scale=row["logit_scale"],
        offsets=tuple(row.get("offsets", ())),
    )
    return Measured(candidate=Candidate(rung=rung, setting=setting), values=tuple(row["values"]))
