"""README.md of an artifact: a Hugging Face dataset card, written once and then free to be edited."""

from __future__ import annotations

import json
import re
from typing import Any

from flashdd.artifact.format import IMAGES, LABELER, MANIFEST, Manifest, has_class_offsets
from flashdd.labels.flash.pack import Labeler
from flashdd.training.protocols import protocol_from_json

# Characters that YAML 1.1 does not print, or takes for line breaks, and that JSON leaves as they are.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_OFFSETS = (
    "The labeler has class offsets: numbers added to its logits, one per class, that undo which classes students of "
    "these images neglect and favor under this protocol. On other images, also as a teacher, they may mislead."
)
_SIZES = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]


def card_text(manifest: Manifest, labeler: Labeler, *, title: str) -> str:
    """The card: YAML header for the Hub and `datasets`, then contents, accuracies, provenance and usage."""
    title = " ".join(title.split())
    sections = [
        f"# {_cell(title)}",
        f"{_counts(manifest)}, distilled from a larger dataset, and a labeler that gives soft labels to "
        f"their augmented views while a student trains. Written by flashdd {manifest.flashdd}.",
        "## Contents",
        _contents(manifest, labeler),
        "## Accuracy",
        _accuracy(manifest.figures),
        "## Provenance",
        _table(["what", "value"], [[key, value] for key, value in sorted(manifest.provenance.items())]),
        "## Protocol",
        _table(["setting", "value"], [[key, value] for key, value in sorted(manifest.protocol.items())]),
        "## Use",
        _use(manifest),
    ]
    return f"---\n{_header(manifest, title)}---\n\n" + "\n\n".join(sections) + "\n"


def _header(manifest: Manifest, title: str) -> str:
    """YAML by hand: every string is a JSON string, which is a YAML string once odd characters are escaped."""
    size = next((name for bound, name in _SIZES if manifest.num_images < bound), "n>1M")
    lines = [
        'license: "other"',
        f"pretty_name: {_yaml(title)}",
        "task_categories:",
        '- "image-classification"',
        "tags:",
        '- "dataset-distillation"',
        '- "flashdd"',
        "size_categories:",
        f"- {_yaml(size)}",
        "configs:",
        '- config_name: "default"',
        "  data_files:",
        '  - split: "train"',
        '    path: "data/train-*"',
        "dataset_info:",
        "  features:",
        '  - name: "image"',
        '    dtype: "image"',
        '  - name: "label"',
        "    dtype:",
        "      class_label:",
        "        names:",
    ]
    lines += [f"          '{index}': {_yaml(name)}" for index, name in enumerate(manifest.class_names)]
    return "\n".join(lines) + "\n"


def _yaml(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _counts(manifest: Manifest) -> str:
    channels, height, width = manifest.shape
    kind = "gray" if channels == 1 else "RGB"
    size = f"{height} x {width} pixels"
    return f"{manifest.num_images} {kind} images of {size} in {len(manifest.class_names)} classes"


def _contents(manifest: Manifest, labeler: Labeler) -> str:
    members = "1 network" if labeler.num_members == 1 else f"{labeler.num_members} networks"
    what = {
        IMAGES: f"{manifest.num_images} images as PNG, with labels",
        LABELER: f"the labeler: {members}, {labeler.params} parameters of {labeler.bits} bits, "
        f"{labeler.macs} multiply-accumulates per image",
    }
    rows = [[f"`{name}`", manifest.files[name].num_bytes, text] for name, text in what.items()]
    rows.append([f"`{MANIFEST}`", "", "format, views, protocol, class names, hashes, figures, provenance"])
    table = _table(["file", "bytes", "what"], rows)
    return f"{table}\n\n{_OFFSETS}" if has_class_offsets(manifest.provenance) else table


def _accuracy(figures: dict[str, Any]) -> str:
    """Every row of the run's table, then the two classifiers that need no student, then what a reader must know."""
    students, notes = figures.get("students"), figures.get("notes")
    rows = [row for row in students if isinstance(row, dict)] if isinstance(students, list) else []
    if not rows:
        return "No student was trained when this artifact was written."
    labeler, ship = figures.get("labeler"), figures.get("ship")
    rows += [
        {"scheme": "the labeler itself", "label_bytes": _entry(labeler, "label_bytes"), **_single(labeler)},
        {
            "scheme": f"ship the classifier {_entry(ship, 'name')}",
            "label_bytes": _entry(ship, "bytes"),
            **_single(ship),
        },
    ]
    lines = [f"- {_cell(note)}" for note in notes] if isinstance(notes, list) else []
    return (
        "Last epoch, on the test split of the real data, in percent: mean ± standard deviation over n "
        "students. Images `random`, `real-equal-passes` and `real-whole` are real ones, for comparison.\n\n"
        + _table(
            ["labels", "images", "student", "protocol", "label bytes", "accuracy", "n"],
            [
                [
                    row.get("scheme", ""),
                    row.get("images", ""),
                    row.get("student", ""),
                    row.get("protocol", ""),
                    row.get("label_bytes", ""),
                    _percent(row.get("accuracy")),
                    _entry(row.get("accuracy"), "n"),
                ]
                for row in rows
            ],
        )
        + "".join(f"\n{line}" for line in ["", *lines])
    ).rstrip()


def _single(classifier: object) -> dict[str, Any]:
    return {"accuracy": {"mean": _entry(classifier, "accuracy"), "n": 1}}


def _percent(accuracy: object) -> str:
    mean, std = _entry(accuracy, "mean"), _entry(accuracy, "std")
    if not isinstance(mean, (int, float)):
        return ""
    return f"{100 * mean:.2f} ± {100 * std:.2f}" if isinstance(std, (int, float)) else f"{100 * mean:.2f}"


def _entry(value: object, key: str) -> Any:
    return value.get(key, "") if isinstance(value, dict) else ""


def _table(names: list[str], rows: list[list[Any]]) -> str:
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    """A value as text that neither breaks a Markdown table nor starts HTML."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _use(manifest: Manifest) -> str:
    """How to train from the folder, for as many epochs as the protocol has."""
    try:
        protocol = protocol_from_json(manifest.protocol)
        epochs, batch_size = protocol.epochs(manifest.num_images), protocol.batch_size
    except (KeyError, TypeError, ValueError):  # written by hand: an artifact may describe its protocol freely
        epochs, batch_size = 300, 100
    return _USE.replace("BATCH", str(batch_size)).replace("EPOCHS", str(epochs))


_USE = """With flashdd, which gives the augmented views and their soft labels:

```python
import flashdd

artifact = flashdd.load("PATH")
for views, soft_labels in artifact.batches(BATCH, seed=0, epochs=EPOCHS):
    ...  # views: float32 (N, C, H, W) in [0, 1]; soft_labels: float32 (N, classes)
```

`artifact.labeler.as_teacher(mean, std)` is a module on normalized images, for code that has a teacher.

Images and class labels alone, without flashdd:

```python
import datasets

images = datasets.load_dataset("PATH", split="train")
```"""
