"""The command `flashdd`: flags, messages, exit codes. Only this floor prints or exits.

torch is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flashdd.cli.export import export
from flashdd.cli.process import interruptible, say, spare_a_busy_machine
from flashdd.core.errors import FlashddError

app = typer.Typer(
    name="flashdd",
    help="Dataset distillation with a label generator of a few KB instead of teachers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any recipe key, e.g. teacher.epochs=20."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        from flashdd import __version__

        typer.echo(__version__)
        raise typer.Exit


RecipeArgument = Annotated[
    Path | None, typer.Argument(help="A recipe (TOML); without one, the embedded default.")
]
DataOption = Annotated[
    str | None, typer.Option(metavar="SRC", help="digits, a folder, or a hub name such as uoft-cs/cifar10.")
]
ImagesOption = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD|PATH", help="random, herding, kmeans, rded, dm; or an image set made elsewhere."
    ),
]
IpcOption = Annotated[int | None, typer.Option(help="Images per class.")]
ResolutionOption = Annotated[int | None, typer.Option(help="Pixels of a side.")]
TeacherOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="resnet18, resnet50, convnet-3-w64, ...")
]
SeedOption = Annotated[int | None, typer.Option(help="The one seed that everything is derived from.")]
StudentOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="convnet-3-w32, resnet18, mobilenetv2, ...")
]
BudgetOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Ceiling on the labeler's file: 13408, 16KB or 0.03%.")
]
ProtocolOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="flash, rded, sre2l, g-vbsm, edc, cv-dd, delt or rd3.")
]
OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Where the run goes.")]
CacheOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Decoded data and trained networks, shared by runs.")
]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")]
_GOES_ON = "finished stages are kept; the same command goes on from here."


@app.command()
def run(
    recipe: RecipeArgument = None,
    data: DataOption = None,
    images: ImagesOption = None,
    ipc: IpcOption = None,
    resolution: ResolutionOption = None,
    label_budget: BudgetOption = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    protocol: ProtocolOption = None,
    seeds: Annotated[int | None, typer.Option(help="Students per row of the result table.")] = None,
    seed: SeedOption = None,
    out: OutOption = Path("flashdd-out"),
    cache: CacheOption = None,
    device: DeviceOption = None,
    settings: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show stages, sizes and bytes; train nothing.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """From a real dataset to an artifact, and to students trained from it alone.

    Killed or interrupted, the same command goes on where it stopped.
    """
    flags = {
        "data.source": data,
        "images.method": images,
        "images.ipc": ipc,
        "data.resolution": resolution,
        "labeler.budget": label_budget,
        "teacher.name": teacher,
        "student.name": student,
        "protocol.name": protocol,
        "student.seeds": seeds,
        "seed": seed,
        "device": device,
    }
    from flashdd.cli import commands

    with interruptible(_GOES_ON):
        commands.run(recipe, flags, settings or [], out=out, cache=cache, dry_run=dry_run, as_json=json_)


@app.command()
def distill(
    recipe: RecipeArgument = None,
    data: DataOption = None,
    images: ImagesOption = None,
    ipc: IpcOption = None,
    resolution: ResolutionOption = None,
    teacher: TeacherOption = None,
    seed: SeedOption = None,
    out: OutOption = Path("flashdd-out"),
    cache: CacheOption = None,
    device: DeviceOption = None,
    settings: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Make the distilled images alone: DIR/images.parquet. `run` on the same DIR goes on from them."""
    flags = {
        "data.source": data,
        "images.method": images,
        "images.ipc": ipc,
        "data.resolution": resolution,
        "teacher.name": teacher,
        "seed": seed,
        "device": device,
    }
    from flashdd.cli import commands

    with interruptible(_GOES_ON):
        commands.distill(recipe, flags, settings or [], out=out, cache=cache, as_json=json_)


@app.command()
def label(
    images: Annotated[Path, typer.Argument(help="An image set: class folders, a tensor file or parquet.")],
    recipe: Annotated[Path | None, typer.Option(metavar="TOML", help="A recipe for all the rest.")] = None,
    data: DataOption = None,
    resolution: ResolutionOption = None,
    label_budget: BudgetOption = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    protocol: ProtocolOption = None,
    seed: SeedOption = None,
    out: OutOption = Path("flashdd-out"),
    cache: CacheOption = None,
    device: DeviceOption = None,
    settings: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """A labeler for images made elsewhere: DIR/artifact. `run --images` on the same DIR trains students, too.

    Killed or interrupted, the same command goes on where it stopped.
    """
    flags = {
        "images.method": _as_path(images),
        "data.source": data,
        "data.resolution": resolution,
        "labeler.budget": label_budget,
        "teacher.name": teacher,
        "student.name": student,
        "protocol.name": protocol,
        "seed": seed,
        "device": device,
    }
    from flashdd.cli import commands

    with interruptible(_GOES_ON):
        commands.label(recipe, flags, settings or [], out=out, cache=cache, as_json=json_)


def _as_path(path: Path) -> str:
    """What exists here is meant, even where a method has its name."""
    return str(path.resolve()) if path.exists() else str(path)


@app.command()
def compare(
    subject: Annotated[
        Path | None,
        typer.Argument(help="The folder of a run or of an artifact, or a recipe (TOML)."),
    ] = None,
    artifact: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The run or artifact whose labeler is compared; by default the one that is compared.",
        ),
    ] = None,
    data: DataOption = None,
    images: Annotated[
        str | None, typer.Option(metavar="METHOD,...", help="Image methods, or paths of image sets.")
    ] = None,
    ipc: Annotated[str | None, typer.Option(metavar="N,...", help="Images per class.")] = None,
    resolution: ResolutionOption = None,
    teacher: TeacherOption = None,
    schemes: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME,...",
            help="hard, labeler, teacher@searched, teacher@published, static, stored[@4bit, @equal-bytes], lpld, "
            "lpqld, hald, lowrank, vq, ship, real-whole, NETWORK@e4-t4, committee@A+B; the first is the yardstick.",
        ),
    ] = None,
    student: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="convnet-3-w32, resnet18, mobilenetv2, ...")
    ] = None,
    protocol: ProtocolOption = None,
    seeds: Annotated[int | None, typer.Option(help="Students per row.")] = None,
    seed: SeedOption = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the comparison goes.")] = Path(
        "flashdd-compare"
    ),
    cache: CacheOption = None,
    device: DeviceOption = None,
    settings: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Students of every label scheme on every image set, in one table.

    Killed or interrupted, the same command goes on where it stopped.
    """
    flags = {
        "data.source": data,
        "compare.images": _listed(images),
        "compare.ipc": _listed(ipc),
        "data.resolution": resolution,
        "teacher.name": teacher,
        "compare.schemes": _listed(schemes),
        "compare.students": _listed(student),
        "protocol.name": protocol,
        "student.seeds": seeds,
        "seed": seed,
        "device": device,
    }
    from flashdd.cli import commands

    with interruptible(_GOES_ON):
        commands.compare(
            subject, flags, settings or [], artifact=artifact, out=out, cache=cache, as_json=json_
        )


def _listed(text: str | None) -> list[str] | None:
    """ "a, b" -> ["a", "b"]."""
    return None if text is None else [part.strip() for part in text.split(",")]


@app.command()
def train(
    artifact: Annotated[Path, typer.Argument(help="The folder of an artifact.")],
    student: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default the artifact's own.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many students.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The seed that the students' seeds are derived from.")] = 0,
    test: Annotated[
        str | None,
        typer.Option(metavar="SRC", help="Real data for a test accuracy; without, none is reported."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the trained students as safetensors files there.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")] = "auto",
    json_: JsonOption = False,
) -> None:
    """Train students from an artifact alone."""
    from flashdd.cli import commands

    with interruptible(
        "students that were finished are kept if --out was given; start again for the others."
    ):
        commands.train(
            artifact,
            student=student,
            seeds=seeds,
            seed=seed,
            test=test,
            out=out,
            device=device,
            as_json=json_,
        )


@app.command()
def report(
    run_: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
) -> None:
    """Write RUN/report.html again from its record and report files."""
    from flashdd.report.build import build_report

    typer.echo(build_report(run_))


@app.command()
def inspect(
    artifact: Annotated[Path, typer.Argument(help="The folder of an artifact.")], json_: JsonOption = False
) -> None:
    """Show what is inside an artifact, in bytes."""
    from flashdd.cli import commands

    commands.inspect(artifact, as_json=json_)


@app.command()
def verify(
    artifact: Annotated[Path, typer.Argument(help="The folder of an artifact.")], json_: JsonOption = False
) -> None:
    """Check hashes, format and a replayed batch; exit code 1 on any damage."""
    from flashdd.cli import commands

    if not commands.verify(artifact, as_json=json_):
        raise typer.Exit(1)


app.command()(export)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed or damaged, 2 unusable arguments, 130 interrupted, 143
    terminated."""
    spare_a_busy_machine()
    try:
        app(args=arguments, prog_name="flashdd")
    except FlashddError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if (
            not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError"
        ):  # torch's, not loaded here
            raise
        say("out of memory: use a smaller teacher or student, or a machine with more memory.")
        sys.exit(FlashddError.exit_code)
    sys.exit(0)
