"""How far the search's choice of a labeler is from the best of a grid of networks, by the students of both."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from flashdd import __version__
from flashdd.core.config import CompareSection, RegretSection, RunConfig
from flashdd.core.errors import UsageError
from flashdd.core.files import read_object
from flashdd.core.progress import Progress
from flashdd.core.record import RECORD_FORMAT, ComparedRow, Comparison, paired_difference
from flashdd.core.regret import Regret
from flashdd.data.dataset import RealDataset
from flashdd.data.sources import check_source
from flashdd.models.family import LabelerSpec
from flashdd.pipeline.compare import compare
from flashdd.pipeline.cost import Workload
from flashdd.pipeline.distill import images_stage, open_images
from flashdd.pipeline.members import TutorDesign
from flashdd.pipeline.real import teacher_network
from flashdd.pipeline.record import capacity_facts, plain, resolved_config, tutor_search_facts
from flashdd.pipeline.schemes import check_scheme
from flashdd.pipeline.search import capacity_search, design_of, teacher_search
from flashdd.pipeline.setup import Setup, resolve, source_options
from flashdd.pipeline.start import claim_output, started
from flashdd.pipeline.tutors import tutor_of

SWEEP_SEEDS, FINAL_SEEDS = 3, 10
_BEST = 2  # of the grid, that are trained again with more seeds


def regret(
    config: RunConfig, out: Path | str, *, cache: Path | str | None = None, progress: Progress | None = None
) -> Regret:
    """For every IPC and every multiple of the protocol's image passes in `config.regret`: the search's choice, made on
    validation data, beside its grid with test students (n = 3) at the temperature of the choice; choice and the grid's
    best two then get n = 10. Regret is the better of these two less the choice, so chance makes it larger, not smaller.

    Writes OUT/regret.json last; cells are kept one by one, so that the same call goes on. Raises UsageError, before any
    training, where the search may not choose a network of the grid, and after its searches where these networks imitate
    others than `config.regret.tutors` says.
    """
    out, cases = Path(out), checked_cases(config)
    claim_output(out, check_source(source_options(config)))
    _make_way(cases[0], out, cache, progress)
    studied = [_studied(case, out / case.folder, cache, progress) for case in cases]
    finals = [entry.finals for entry in studied]
    record = Regret.model_validate(
        plain(
            {
                "flashdd": __version__,
                "format": RECORD_FORMAT,
                "environment": finals[-1].environment,
                "config": studied[0].config,
                "data": finals[0].data,
                "cases": [entry.facts for entry in studied],
                "notes": list(dict.fromkeys(note for final in finals for note in final.notes)),
            }
        )
    )
    record.write(out / "regret.json")
    return record


@dataclass(frozen=True, kw_only=True)
class _Case:
    """times: a student's image passes, as a multiple of the protocol's; grid: every network in every length of its
    training."""

    config: RunConfig
    ipc: int
    times: int
    grid: list[tuple[str, int]]

    @property
    def folder(self) -> str:
        return f"ipc{self.ipc}-x{self.times}"

    def schemes(self, softness: str) -> list[str]:
        """Of the grid, at 8 bits, as `flashdd compare` spells them; softness: the last dials, "t4"."""
        dials = f"-{self.config.regret.tutors}" if self.config.regret.tutors else ""
        return [f"{name}@e{epochs}-b8{dials}-{softness}" for name, epochs in self.grid]


def checked_cases(config: RunConfig) -> list[_Case]:
    """The cases of a study; UsageError for what arguments and data alone show to be wrong."""
    if not config.regret.ipc:
        raise UsageError(
            "regret.ipc: nothing says at how many images per class: a recipe of a study has a section [regret] with "
            "ipc = [1, 10] and, unless all that the search may choose is to be trained, names and epochs."
        )
    facts, cases = check_source(source_options(config)), []
    for ipc, times in itertools.product(config.regret.ipc, config.regret.passes):
        once = _with(config, "images", ipc=ipc)
        setup = resolve(once, facts)
        longer = _with(once, "protocol", image_passes=times * setup.protocol.passes(setup.num_images))
        longer = _with(longer, "search", class_offsets=False)  # the grid has none
        case = _Case(config=longer, ipc=ipc, times=times, grid=_grid(setup))
        _check_case(case, resolve(longer, facts))
        cases.append(case)
    return cases


def _grid(setup: Setup) -> list[tuple[str, int]]:
    """The networks and lengths that are asked for, by default all that the search may choose."""
    asked = setup.config.regret
    chains = itertools.chain.from_iterable(setup.families)
    names = asked.names or [rung.name for rung in itertools.chain.from_iterable(chains)]
    lengths = asked.epochs or sorted({setup.member_at(setting.course).epochs for setting in setup.settings})
    return list(itertools.product(names, lengths))


def _check_case(case: _Case, setup: Setup) -> None:
    if setup.foreign:
        raise UsageError(
            f"images.method: {setup.foreign.name} was made elsewhere, and a study of regret turns the images per "
            "class: name a method."
        )
    for name in dict.fromkeys(name for name, _ in case.grid):
        rung = setup.room.rung(LabelerSpec.parse(name))
        if not setup.room.holds(rung):
            raise UsageError(
                f"{name}: {rung.bytes:,} bytes and {rung.macs:,} multiply-accumulates; the search may use "
                f"{setup.budget_bytes:,} and {setup.max_macs:,}: sweep smaller networks, or raise labeler.budget and "
                "labeler.max_macs."
            )
    if case.config.regret.tutors and not setup.tutors:
        raise _other_tutors("", case.config.regret)
    for scheme in case.schemes(_softness(setup, setup.settings[0].temperature, 1.0)):
        check_scheme(scheme, setup, has_labeler=False)


def _with(config: RunConfig, section: str, **values: Any) -> RunConfig:
    changed = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: changed})


def _softness(setup: Setup, temperature: float, logit_scale: float) -> str:
    """The dial of what the search turns under this protocol."""
    return f"t{temperature:g}" if setup.protocol.temperature is None else f"x{logit_scale:g}"


def _make_way(case: _Case, out: Path, cache: Path | str | None, progress: Progress | None) -> None:
    """regret.json stands for a finished study: one of another configuration goes."""
    path = out / "regret.json"
    if not path.exists():
        return
    with started(case.config, out / case.folder, cache=cache, progress=progress) as (context, data):
        if read_object(path).get("config") != _record_config(context.setup, data):
            path.unlink()


def _record_config(setup: Setup, data: RealDataset) -> dict[str, Any]:
    return {**resolved_config(setup, data), "regret": setup.config.regret.model_dump(mode="json")}


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """scheme: of the labeler that the search chose; softness: the dial of its temperature or scale; config, facts: for
    the record."""

    scheme: str
    softness: str
    config: dict[str, Any]
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Studied:
    config: dict[str, Any]
    facts: dict[str, Any]
    finals: Comparison


def _studied(case: _Case, out: Path, cache: Path | str | None, progress: Progress | None) -> _Studied:
    trained = partial(_compared, case.config, out, cache, progress)
    choice = _choice(case, out, cache, progress)
    swept = trained(case.schemes(choice.softness), SWEEP_SEEDS)
    best = [row.scheme for row in sorted(swept.rows, key=lambda row: -row.accuracy.mean)[:_BEST]]
    final = trained(list(dict.fromkeys([choice.scheme, *best])), FINAL_SEEDS)
    rows: dict[str, ComparedRow] = {row.scheme: row for row in final.rows}
    top = max((rows[scheme] for scheme in best), key=lambda row: row.accuracy.mean)
    facts = {
        "ipc": case.ipc,
        "times": case.times,
        **choice.facts,
        "chosen": choice.scheme,
        "best": top.scheme,
        "regret": paired_difference(top.accuracy.values, rows[choice.scheme].accuracy.values),
        "finals": final.rows,
        "sweep": [
            {"name": name, "epochs": epochs, "row": row}
            for (name, epochs), row in zip(case.grid, swept.rows, strict=True)
        ],
    }
    return _Studied(config=choice.config, facts=facts, finals=final)


def _choice(case: _Case, out: Path, cache: Path | str | None, progress: Progress | None) -> _Choice:
    with started(case.config, out, cache=cache, progress=progress) as (context, data):
        setup = context.setup
        images = open_images(images_stage(context, data, setup.method))
        courses = partial(teacher_network, context, data)
        searched = partial(teacher_search, context, data, images, courses)
        tutoring = tutor_of(context, data, images, searched)
        tutor = tutoring.design
        _check_tutors(setup, tutor)
        found = capacity_search(context, data, images, tutor)
        searches = (*tutoring.trials, found)
        rung, setting = found.choice.rung, found.choice.setting
        design = replace(design_of(context, rung, setting.course, tutor), shift=None)  # the run's own
        softness = _softness(setup, setting.temperature, setting.logit_scale)
        work = Workload.of(context, len(data.train.labels), len(data.val.labels), images.num_images)
        return _Choice(
            scheme=f"{design}-{softness}",
            softness=softness,
            config=_record_config(setup, data),
            facts={
                "image_passes": setup.protocol.passes(images.num_images),
                "proxies": sum(len(entry.values) for search in searches for entry in search.measured),
                "seconds": sum(search.stage.seconds for search in searches),
                "search": capacity_facts(context, data, found, work),
                **(tutor_search_facts(context, data, searched(), tutoring, work) if tutoring.trials else {}),
            },
        )


def _check_tutors(setup: Setup, tutor: TutorDesign | None) -> None:
    """UsageError unless the grid's networks learn from whom the search's do."""
    imitated = "" if tutor is None else f"d{tutor.epochs}" + (f"-k{tutor.copies}" if tutor.copies > 1 else "")
    if imitated != setup.config.regret.tutors:
        raise _other_tutors(imitated, setup.config.regret)
    if tutor and tutor.shift != setup.member_recipe.shift:  # the name of a scheme cannot say it
        raise UsageError(
            f"the teachers that are imitated saw images move by {tutor.shift:g} of their side, labelers "
            f"{setup.member_recipe.shift:g}: no scheme's name says so; set teacher.shift to labeler.shift."
        )


def _other_tutors(imitated: str, asked: RegretSection) -> UsageError:
    return UsageError(
        f"regret.tutors: the search's networks imitate {imitated or 'nobody'}, the grid's {asked.tutors or 'nobody'}: "
        "sweep those, or set labeler.tutor."
    )


def _compared(
    config: RunConfig,
    out: Path,
    cache: Path | str | None,
    progress: Progress | None,
    schemes: Sequence[str],
    seeds: int,
) -> Comparison:
    alone = CompareSection(schemes=tuple(schemes))  # a recipe's own axes are another study's
    asked = _with(config, "student", seeds=seeds).model_copy(update={"compare": alone})
    return compare(asked, out, cache=cache, progress=progress)
