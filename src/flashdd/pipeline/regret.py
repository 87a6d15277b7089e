"""How far the search's choice of a labeler is from the best of an exhaustive sweep, by the students of both."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from flashdd import __version__
from flashdd.core.config import RunConfig
from flashdd.core.errors import UsageError
from flashdd.core.progress import Progress
from flashdd.core.record import RECORD_FORMAT, ComparedRow, Comparison, paired_difference
from flashdd.core.regret import Regret
from flashdd.data.sources import check_source
from flashdd.models.table import size_of_name
from flashdd.pipeline.compare import compare
from flashdd.pipeline.distill import images_stage, open_images
from flashdd.pipeline.members import TutorDesign
from flashdd.pipeline.real import teacher_network
from flashdd.pipeline.record import plain
from flashdd.pipeline.search import SearchResult, capacity_search, design_of, teacher_search, tutor_of
from flashdd.pipeline.setup import Setup, resolve, source_options
from flashdd.pipeline.start import started

SWEEP_SEEDS, FINAL_SEEDS = 3, 10
_BEST = 2  # of the sweep, that are trained again with more seeds


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """names x epochs: every network in every length of training, at 8 bits. tutors: whom they imitate, as a scheme's
    dials say it ("d2-k3"); "" for nobody."""

    names: tuple[str, ...]
    epochs: tuple[int, ...]
    tutors: str = ""

    def schemes(self, softness: str) -> list[str]:
        """As `flashdd compare` spells them; softness: the last dials, "t4"."""
        dials = f"-{self.tutors}" if self.tutors else ""
        return [f"{name}@e{epochs}-b8{dials}-{softness}" for name, epochs in self.networks]

    @property
    def networks(self) -> list[tuple[str, int]]:
        return list(itertools.product(self.names, self.epochs))


def regret(
    config: RunConfig,
    out: Path | str,
    *,
    sweep: Sweep,
    ipc: Sequence[int],
    times: Sequence[int],
    cache: Path | str | None = None,
    progress: Progress | None = None,
) -> Regret:
    """For every IPC and every multiple of the protocol's image passes: the search's choice, made on validation data,
    beside a sweep with test students (n = 3) at the temperature of the choice; choice and the sweep's best two then
    get n = 10. Regret is the better of these two less the choice, so chance makes it larger, not smaller.

    Writes OUT/regret.json last; cells are kept one by one, so that the same call goes on. Raises UsageError where the
    search may not choose a network of the sweep, or where its networks imitate others than `sweep.tutors` says.
    """
    out, cases, finals = Path(out), [], []
    for images_per_class, factor in itertools.product(ipc, times):
        asked = _case_config(config, sweep, images_per_class, factor)
        folder = out / f"ipc{images_per_class}-x{factor}"
        choice = _choice(asked, sweep, folder, cache, progress)
        trained = partial(_compared, asked, folder, cache, progress)
        swept = trained(sweep.schemes(choice.softness), SWEEP_SEEDS)
        best = sorted(swept.rows, key=lambda row: -row.accuracy.mean)[:_BEST]
        final = trained(list(dict.fromkeys([choice.scheme, *(row.scheme for row in best)])), FINAL_SEEDS)
        case = _case(choice, sweep, swept, final, [row.scheme for row in best])
        cases.append({"ipc": images_per_class, "times": factor, **case})
        finals.append(final)
    record = Regret.model_validate(
        plain(
            {
                "flashdd": __version__,
                "format": RECORD_FORMAT,
                "environment": finals[-1].environment,
                "config": finals[0].config,
                "data": finals[0].data,
                "cases": cases,
                "notes": finals[0].notes,
            }
        )
    )
    record.write(out / "regret.json")
    return record


def _case_config(config: RunConfig, sweep: Sweep, ipc: int, times: int) -> RunConfig:
    """The configuration of one case, after a look at whether its search may choose what is swept."""
    once = _with(config, "images", ipc=ipc)
    setup = resolve(once, check_source(source_options(once)))
    for name in sweep.names:
        size = size_of_name(name, num_classes=setup.facts.num_classes, shape=setup.facts.shape)
        if size.macs > setup.max_macs or size.params > setup.budget_bytes:
            raise UsageError(
                f"{name}: {size.macs:,} multiply-accumulates and at least {size.params:,} bytes; the search may use "
                f"{setup.max_macs:,} and {setup.budget_bytes:,}: sweep smaller networks, or raise labeler.max_macs and "
                "labeler.budget."
            )
    return _with(once, "protocol", image_passes=times * setup.protocol.passes(setup.num_images))


def _with(config: RunConfig, section: str, **values: Any) -> RunConfig:
    changed = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: changed})


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """scheme: of the labeler that the search chose; softness: the dials of its temperature or scale."""

    scheme: str
    softness: str
    found: SearchResult
    image_passes: int


def _choice(
    config: RunConfig, sweep: Sweep, out: Path, cache: Path | str | None, progress: Progress | None
) -> _Choice:
    with started(config, out, cache=cache, progress=progress) as (context, data):
        images = open_images(
            images_stage(context, data, teacher_network(context, data), context.setup.method)
        )
        courses = partial(teacher_network, context, data)
        tutor = tutor_of(context, lambda: teacher_search(context, data, images, courses))
        _check_tutors(context.setup, sweep, tutor)
        found = capacity_search(context, data, images, tutor)
        rung, setting = found.choice.rung, found.choice.setting
        design = replace(design_of(context, rung, setting.course, tutor), shift=None)  # the run's own
        fixed = context.setup.protocol.temperature is not None
        softness = f"x{setting.logit_scale:g}" if fixed else f"t{setting.temperature:g}"
        return _Choice(
            scheme=f"{design}-{softness}",
            softness=softness,
            found=found,
            image_passes=context.setup.protocol.passes(images.num_images),
        )


def _check_tutors(setup: Setup, sweep: Sweep, tutor: TutorDesign | None) -> None:
    """UsageError unless the sweep's networks learn from whom the search's do."""
    told = "" if tutor is None else f"d{tutor.epochs}" + (f"-k{tutor.copies}" if tutor.copies > 1 else "")
    if told != sweep.tutors:
        raise UsageError(
            f"the search's networks imitate {told or 'nobody'}, the sweep's {sweep.tutors or 'nobody'}: sweep "
            "those, or set labeler.tutor."
        )
    if tutor and tutor.shift != setup.member_recipe.shift:  # the name of a scheme cannot say it
        raise UsageError(
            f"the teachers that are imitated saw images move by {tutor.shift:g} of their side, labelers "
            f"{setup.member_recipe.shift:g}: no scheme's name says so; set teacher.shift to labeler.shift."
        )


def _compared(
    config: RunConfig,
    out: Path,
    cache: Path | str | None,
    progress: Progress | None,
    schemes: Sequence[str],
    seeds: int,
) -> Comparison:
    asked = _with(_with(config, "compare", schemes=tuple(schemes)), "student", seeds=seeds)
    return compare(asked, out, cache=cache, progress=progress)


def _case(
    choice: _Choice, sweep: Sweep, swept: Comparison, final: Comparison, best: Sequence[str]
) -> dict[str, Any]:
    rows: dict[str, ComparedRow] = {row.scheme: row for row in final.rows}
    top = max((rows[scheme] for scheme in best), key=lambda row: row.accuracy.mean)
    return {
        "image_passes": choice.image_passes,
        "chosen": choice.scheme,
        "proxies": sum(len(entry.values) for entry in choice.found.measured),
        "seconds": choice.found.stage.seconds,
        "best": top.scheme,
        "regret": paired_difference(top.accuracy.values, rows[choice.scheme].accuracy.values),
        "finals": final.rows,
        "sweep": [
            {"name": name, "epochs": epochs, "row": row}
            for (name, epochs), row in zip(sweep.networks, swept.rows, strict=True)
        ],
    }
