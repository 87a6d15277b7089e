"""The smallest whole run: seconds, every stage; and one who listens to it."""

from __future__ import annotations

from flashdd.core.config import RunConfig
from flashdd.core.progress import Silent
from flashdd.core.recipe import build_config
from flashdd.core.record import Record
from flashdd.models.count import size_of
from flashdd.models.table import build
from flashdd.pipeline import speed, throughput
from flashdd.pipeline.cost import Workload

throughput._SECONDS, throughput._BATCH = 0.02, 4  # speed is not what these tests look at
speed._SECONDS = 0.002

SETTINGS = [
    ("data.classes", ["0", "1", "2"]),
    ("images.ipc", 2),
    ("images.rded.candidates", 10),
    ("images.rded.crops", 2),
    ("teacher.name", "convnet-2-w8"),
    ("teacher.epochs", 2),
    ("labeler.budget", "4KB"),
    ("labeler.max_macs", 9_000),
    ("labeler.stems", ["strided"]),
    ("labeler.image_passes", 800),
    ("labeler.bits", [8]),
    ("labeler.refit_steps", 4),
    ("search.temperatures", [2.0, 8.0]),
    ("search.teacher_shifts", [0.0]),
    ("search.finalists", 2),
    ("search.finalist_seeds", 3),
    ("search.student", "convnet-2-w4"),
    ("student.name", "convnet-2-w4"),
    ("student.seeds", 2),
    ("protocol.image_passes", 600),
    ("device", "cpu"),
]


def tiny_config(**changes: object) -> RunConfig:
    return build_config({}, [*SETTINGS, *((key.replace("__", "."), value) for key, value in changes.items())])


def tiny_workload(record: Record) -> Workload:
    """Of the searches of a run on these settings."""
    shape = (1, 8, 8)
    return Workload(
        train=record.data.num_train,
        validation=record.data.num_val,
        proxy_validation=record.data.num_val + record.data.num_train,
        views=600,
        proxy_macs=size_of(build("convnet-2-w4", num_classes=3, shape=shape, seed=0), shape).macs,
        reference_macs=record.reference.macs,
        refit_images=4 * 128,
    )


class Listening(Silent):
    """Remembers what was started, and said."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def start(self, label: str, total: int) -> None:
        self.started.append(label)
