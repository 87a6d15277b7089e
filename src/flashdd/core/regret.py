"""What a regret study leaves: the search's choice beside the best of a grid of networks."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from flashdd.core.facts import Amount, Facts, Positive
from flashdd.core.record import ComparedRow, DataFacts, Difference, RecordFile, Search


class Swept(Facts):
    """A network of the grid after one length of its training."""

    name: str
    epochs: Positive
    row: ComparedRow  # of its students


class RegretCase(Facts):
    """One number of images per class and one length of the students' training."""

    ipc: Positive
    times: Positive  # a student's image passes, as a multiple of the protocol's
    image_passes: Positive
    chosen: str  # scheme of the search's choice
    proxies: Positive  # students that the search trained, trials of tutors among them
    seconds: Amount  # of these; training the networks that label is not in it
    best: str  # the better one of the grid's finalists
    regret: Difference  # best less chosen, test accuracy, paired over seeds
    finals: Annotated[tuple[ComparedRow, ...], Field(min_length=1)]  # the choice and the grid's best two
    sweep: Annotated[tuple[Swept, ...], Field(min_length=1)]
    search: Search | None = None
    tutor_search: Search | None = None  # where proxies decided whom the labeler imitates

    @model_validator(mode="after")
    def _rows_exist(self) -> Self:
        schemes = {row.scheme for row in self.finals}
        for name in (self.chosen, self.best):
            if name not in schemes:
                raise ValueError(f"{name} is none of the finals")
        return self

    def final(self, scheme: str) -> ComparedRow:
        return next(row for row in self.finals if row.scheme == scheme)


class Regret(RecordFile):
    """regret.json of `scripts/regret`. config: of the first case; others differ in IPC and image passes."""

    config: dict[str, Any]
    data: DataFacts
    cases: Annotated[tuple[RegretCase, ...], Field(min_length=1)]
    notes: tuple[str, ...] = ()
