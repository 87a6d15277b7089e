"""`flashdd export`: its flags, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flashdd.core.errors import unknown_name

_FORMATS = ("dd-ranking",)


def export(
    artifact: Annotated[Path, typer.Argument(help="The folder of an artifact.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="dd-ranking: for the package DD-Ranking.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for it.")],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What DD-Ranking calls the data, where its name differs."),
    ] = None,
) -> None:
    """Write images and labels of an artifact as another program reads them."""
    if to not in _FORMATS:
        raise unknown_name("export format", to, _FORMATS)
    from flashdd.artifact.ddranking import export_dd_ranking
    from flashdd.artifact.read import load

    name = export_dd_ranking(load(artifact), out, dataset=dataset)
    typer.echo(f"{artifact}, for DD-Ranking's dataset {name}: {out} (its README.md says how to load it)")
