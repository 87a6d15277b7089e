"""How every job starts: its data looked at, its output folder claimed, its data decoded, its stages opened."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from flashdd import __version__
from flashdd.core.config import RunConfig
from flashdd.core.device import deterministic, resolve_device, training_precision
from flashdd.core.errors import OutputError, UsageError
from flashdd.core.files import canonical_json, explain_os_errors, read_json, sha256_bytes, write_atomic
from flashdd.core.progress import Progress, Silent
from flashdd.core.stages import Store
from flashdd.data.dataset import RealDataset
from flashdd.data.sources import SourceFacts, check_source
from flashdd.labels.table import LABELS_REVISION
from flashdd.pipeline.context import Context
from flashdd.pipeline.real import data_stage, open_data
from flashdd.pipeline.setup import plugin_fingerprints, resolve, source_options
from flashdd.training.engine import Engine
from flashdd.training.loop import TRAINING_REVISION


def default_cache() -> Path:
    """The user's cache folder: $XDG_CACHE_HOME/flashdd, by default ~/.cache/flashdd."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flashdd"


@contextlib.contextmanager
def started(
    config: RunConfig,
    out: Path | str,
    *,
    cache: Path | str | None,
    progress: Progress | None,
    finished: Path | None = None,
) -> Iterator[tuple[Context, RealDataset]]:
    """What the stages of a job share, and the decoded data; kernels are deterministic for as long as it is open.

    finished: stages of another job, taken where they are the same, never written to.
    Raises UsageError for everything that can be refused before any work.
    """
    out, progress = Path(out), progress or Silent()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "flashdd works in one process: start it without torchrun or SLURM tasks. "
            "(The training loop itself, flashdd.training, is data-parallel under torchrun.)"
        )
    facts = check_source(source_options(config))
    resolve(config, facts)
    device = resolve_device(config.device)
    claim_output(out, facts)
    with deterministic():
        cache = Path(cache) if cache else default_cache()
        yield _prepare(config, facts, out, cache, finished, device, progress)
        progress.close()


def _prepare(
    config: RunConfig,
    facts: SourceFacts,
    out: Path,
    cache: Path,
    finished: Path | None,
    device: torch.device,
    progress: Progress,
) -> tuple[Context, RealDataset]:
    """Decode the data, and resolve the run again on what they turned out to be."""
    identity = {
        "torch": str(torch.__version__),
        "device": device.type,
        "threads": str(torch.get_num_threads()),  # another number of threads adds in another order
        "plugins": str(sorted(plugin_fingerprints(config).items())),
        "revisions": f"training {TRAINING_REVISION}, labels {LABELS_REVISION}",
    }
    shared = Store(cache, identity=identity, progress=progress)
    stage = data_stage(shared, source_options(config), facts, progress)
    data = open_data(stage)
    setup = resolve(config, replace(facts, shape=data.shape))
    context = Context(
        setup=setup,
        out=out,
        shared=shared,
        local=Store(out / "stages", identity=identity, progress=progress, finished=finished),
        engine=Engine(device, precision=training_precision(config.precision, device)),
        progress=progress,
    )
    write_atomic(out / "stages" / "data.json", canonical_json({"seconds": stage.seconds}))
    return context, data


def claim_output(out: Path, facts: SourceFacts) -> None:
    """Make `out` the folder of a run on this data source; OutputError if it is something else's."""
    identity = {
        "data": facts.name,
        "kind": facts.source,
        "classes": sha256_bytes(canonical_json(list(facts.class_names)))[:16],
        "counts": sha256_bytes(canonical_json(list(facts.class_counts)))[:16],
    }
    marker = out / "run.json"
    if out.is_file():
        raise OutputError(f"{out} is a file: choose a folder with --out.")
    with explain_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    if marker.exists():
        held = read_json(marker)
        if held.get("identity") != identity:
            raise OutputError(
                f"{out} holds a run of another data source ('{held.get('identity', {}).get('data')}', not "
                f"'{facts.name}' as it is now): choose another folder with --out, or delete that one."
            )
        return
    if any(not path.name.startswith(".") for path in out.iterdir()):  # dots: a kill may leave half a marker
        raise OutputError(f"{out} is not empty and holds no flashdd run: choose another folder with --out.")
    write_atomic(marker, canonical_json({"flashdd": __version__, "identity": identity}))


def source_commit() -> str | None:
    """The commit of the checkout that flashdd runs from, `-dirty` if files differ; None for an installed package."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        changes = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"]
        dirty = subprocess.run(changes, capture_output=True, text=True, check=True).stdout.strip()
        return f"{commit}-dirty" if dirty else commit
    except (OSError, subprocess.CalledProcessError):
        return None
