"""What the commands do, once their flags are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from flashdd.cli.progress import progress_on_stderr
from flashdd.core.config import RunConfig
from flashdd.core.device import tune_allocator
from flashdd.core.recipe import build_config, parse_setting, read_recipe
from flashdd.core.record import Record
from flashdd.report.comparison import comparison_cells, verdicts
from flashdd.report.scores import side_tables
from flashdd.report.tables import student_rows, table_cells, warnings
from flashdd.report.text import bytes_text, counted, labeler_text


def run(
    recipe: Path | None,
    flags: Mapping[str, Any],
    settings: Sequence[str],
    *,
    out: Path,
    cache: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run, or show the plan."""
    config = _config(recipe, flags, settings)
    tune_allocator()
    from flashdd.pipeline.plan import plan
    from flashdd.pipeline.run import run as run_pipeline

    if dry_run:
        _show_plan(plan(config), as_json)
        return
    record = run_pipeline(config, out, cache=cache, progress=progress_on_stderr())
    if as_json:
        typer.echo((out / "record.json").read_text(encoding="utf-8"), nl=False)
    else:
        _show_record(record, out)


def distill(
    recipe: Path | None,
    flags: Mapping[str, Any],
    settings: Sequence[str],
    *,
    out: Path,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Make the images and say where they are."""
    config = _config(recipe, flags, settings)
    tune_allocator()
    from flashdd.pipeline.distill import distill as distill_images

    facts = distill_images(config, out, cache=cache, progress=progress_on_stderr())
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    amount = f"IPC {facts['ipc']}" if facts["ipc"] else "classes of different sizes"
    typer.echo(
        f"{facts['num_images']} images by {facts['method']}, {amount}: {facts['path']} ({bytes_text(facts['bytes'])})"
    )
    for note in facts["notes"]:
        typer.echo(f"note: {note}")


def label(
    recipe: Path | None,
    flags: Mapping[str, Any],
    settings: Sequence[str],
    *,
    out: Path,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Make the labeler and say what it is."""
    config = _config(recipe, flags, settings)
    tune_allocator()
    from flashdd.pipeline.label import label as make_labeler

    facts = make_labeler(config, out, cache=cache, progress=progress_on_stderr())
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    what = labeler_text(facts["name"], facts["bits"], facts["num_members"])
    typer.echo(
        f"labeler: {what}, {bytes_text(facts['bytes'])}, {100 * facts['bytes_ratio']:.3f} % of the reference; "
        f"{facts['macs_ratio']:,.0f}x fewer MACs; {100 * facts['accuracy']:.1f} % on test by itself"
    )
    for sentence in facts["notes"]:
        typer.echo(f"note: {sentence}")
    typer.echo(f"artifact: {facts['artifact']}")


def compare(
    subject: Path | None,
    flags: Mapping[str, Any],
    settings: Sequence[str],
    *,
    artifact: Path | None,
    out: Path,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Compare, and show the table."""
    tune_allocator()
    from flashdd.pipeline.compare import compare as run_comparison
    from flashdd.pipeline.subject import compared_subject

    held = compared_subject(subject, artifact, flags["data.source"])
    origin = f"{subject}: " if subject and not subject.is_dir() else ""
    config = build_config(held.settings, _chosen(flags, settings), origin=origin)
    comparison = run_comparison(
        config,
        out,
        artifact=held.artifact,
        stages=held.stages,
        ship=held.ship,
        cache=cache,
        progress=progress_on_stderr(),
    )
    if as_json:
        typer.echo((out / "comparison.json").read_text(encoding="utf-8"), nl=False)
        return
    _show_table(*comparison_cells(comparison))
    for sentence in verdicts(comparison):
        typer.echo(sentence)
    for side in side_tables(comparison):
        typer.echo(f"\n{side.title}")
        _show_table(side.head, side.body)
    for sentence in comparison.notes:
        typer.echo(f"note: {sentence}")
    typer.echo(f"comparison: {out / 'comparison.json'}")
    typer.echo(f"page:       {out / 'comparison.html'}")


def _config(recipe: Path | None, flags: Mapping[str, Any], settings: Sequence[str]) -> RunConfig:
    """Recipe, flags and `--set`, of which the later wins."""
    held = read_recipe(recipe) if recipe else {}
    return build_config(held, _chosen(flags, settings), origin=f"{recipe}: " if recipe else "")


def _chosen(flags: Mapping[str, Any], settings: Sequence[str]) -> list[tuple[str, Any]]:
    given = [(key, value) for key, value in flags.items() if value is not None]
    return given + [parse_setting(text) for text in settings]


def train(
    artifact: Path,
    *,
    student: str | None,
    seeds: int,
    seed: int,
    test: str | None,
    out: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Train students from an artifact and print their accuracies, if there is data to test on."""
    tune_allocator()
    from flashdd.pipeline.train import train_from_artifact

    result = train_from_artifact(
        artifact,
        student=student,
        seeds=seeds,
        seed=seed,
        test=test,
        out=out,
        device=device,
        progress=progress_on_stderr(),
    )
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    typer.echo(
        f"{result['student']}, protocol {result['protocol']}, {counted(seeds, 'seed')} from {artifact}"
    )
    accuracy = result["accuracy"]
    if accuracy is None:
        typer.echo("no accuracy: give real data with --test SRC to measure one.")
    else:
        spread = "" if accuracy["std"] is None else f" ± {100 * accuracy['std']:.1f}"
        typer.echo(f"test accuracy {100 * accuracy['mean']:.1f}{spread} % (n={accuracy['n']}, last epoch)")
    for path in result["files"]:
        typer.echo(path)


def inspect(artifact: Path, *, as_json: bool) -> None:
    from flashdd.artifact.inspect import describe

    facts = describe(artifact)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    images, labeler, sizes = facts["images"], facts["labeler"], facts["bytes"]
    channels, height, width = images["shape"]
    kind = "grey" if channels == 1 else "RGB"
    typer.echo(
        f"{images['num_images']} images {height}x{width} {kind}, {images['num_classes']} classes, IPC {images['ipc']}"
    )
    typer.echo(
        f"labeler: {labeler['num_members']} member(s), {labeler['params']:,} parameters at {labeler['bits']} bits, "
        f"{labeler['macs']:,} MACs per image, temperature {labeler['temperature']:g}"
    )
    typer.echo(f"protocol: {facts['protocol'].get('name', 'unnamed')}; written by flashdd {facts['flashdd']}")
    for part, size in sizes.items():
        if size or part == "total":
            typer.echo(f"{part:>10} {size:>12,} bytes")


def verify(artifact: Path, *, as_json: bool) -> bool:
    from flashdd.artifact.verify import verify as check

    report = check(artifact)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
        return report.ok
    for entry in report.checks:
        typer.echo(f"{'ok  ' if entry.ok else 'FAIL'} {entry.check}: {entry.detail}")
    typer.echo("sound" if report.ok else "damaged")
    return report.ok


def _show_plan(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    table = Table("stage", "what it does", box=None, pad_edge=False)
    for stage in facts["stages"]:
        table.add_row(stage["name"], stage["what"])
    _console().print(table)
    for name, value in facts["sizes"].items():
        typer.echo(f"{name}: {value}")


def _show_record(record: Record, out: Path) -> None:
    _show_table(*table_cells(student_rows(record)))
    labeler, speed = record.labeler, record.throughput[0]
    typer.echo(
        f"labeler: {bytes_text(labeler.bytes)}, {100 * labeler.bytes_ratio:.3f} % of the reference; "
        f"{labeler.macs_ratio:,.0f}x fewer MACs; {speed.ratio:,.0f}x the labels per second "
        f"({speed.labeler_labels_per_second:,.0f}/s on {speed.device}, batch {speed.batch})"
    )
    for sentence in [*warnings(record), *record.notes]:
        typer.echo(f"note: {sentence}")
    typer.echo(f"artifact: {out / 'artifact'} ({bytes_text(record.artifact_bytes)})")
    typer.echo(f"report:   {out / 'report.html'}")


def _show_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in head:  # a scheme's name is an argument of the next command: folded, never cut
        table.add_column(name, overflow="fold")
    for cells in body:
        table.add_row(*cells)
    _console().print(table)


def _console() -> Console:
    """Wide enough for a table that is piped to a file, which has no width of its own."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
