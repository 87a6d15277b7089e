"""What holds for every scheme: bytes, budgets, and files that changed or were made to harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from label_samples import (
    CLASSES,
    EPOCHS,
    NAMES,
    NUM_IMAGES,
    SEED,
    VIEWS,
    T,
    every_label,
    make_images,
    make_logits,
    make_subject,
    reseal,
    stored,
    view_batch,
)

from flashdd.core.errors import ArtifactError, UsageError
from flashdd.core.files import canonical_json
from flashdd.data.views import ViewSpec
from flashdd.labels.catalog import equal_bytes, open_labels, parse_scheme
from flashdd.labels.lpqld import Lpqld
from flashdd.labels.static import Static
from flashdd.labels.stored import Stored
from flashdd.labels.vq import Vq

RESIZABLE = [name for name in NAMES if name != "static"]


def _table(name: str) -> torch.Tensor:
    return make_logits(1 if name == "static" else EPOCHS + 30)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_on_disk(name: str, tmp_path: Path) -> None:
    table, subject = _table(name), make_subject()
    scheme = parse_scheme(name)
    for temperature in (4.0, 0.123456789):
        written = scheme.write(tmp_path / "labels", table, subject, temperature=temperature)
        on_disk = sum(file.stat().st_size for file in (tmp_path / "labels").iterdir())
        counted = scheme.bytes_of(subject, epochs=len(table), temperature=temperature)
        assert written == on_disk == counted
    assert {file.name for file in (tmp_path / "labels").iterdir()} == {"labels.bin", "manifest.json"}


@pytest.mark.parametrize("name", RESIZABLE)
@pytest.mark.parametrize("budget", [500, 700, 1500])
def test_a_budget_is_filled_and_kept(name: str, budget: int) -> None:
    subject = make_subject()
    fitted = parse_scheme(name).within(budget, subject, epochs=41, temperature=T)
    if fitted is None:
        amount = 0
    else:
        assert fitted.bytes_of(subject, epochs=41, temperature=T) <= budget
        settings = fitted.settings()
        amount = settings.get("epochs") or settings.get("labels") or settings["per_image"]
    whole = parse_scheme(name).resolve(subject.size(41))
    if amount < whole.largest_amount(subject.size(41)):
        more = whole.with_amount(amount + 1)
        assert more.bytes_of(subject, epochs=41, temperature=T) > budget


def test_a_budget_below_one_label_is_none() -> None:
    assert parse_scheme("stored@2bit").within(350, make_subject(), epochs=5, temperature=T) is None
    assert Static().within(300, make_subject(), epochs=1, temperature=T) is None
    assert Static().within(500, make_subject(), epochs=1, temperature=T) == Static()


def test_equal_bytes_lists_every_kind_that_fits() -> None:
    subject = make_subject()
    found = equal_bytes(900, subject, epochs=41, temperature=T)
    assert {scheme.kind for scheme in found} == {"stored", "lpld", "lpqld", "lowrank", "vq"}
    assert [s.settings()["bits"] for s in found if isinstance(s, Stored)] == [16, 4, 3, 2]
    assert [s.settings()["k"] for s in found if isinstance(s, Lpqld)] == [1, 2]
    for scheme in found:
        assert scheme.bytes_of(subject, epochs=41, temperature=T) <= 900
    assert equal_bytes(200, subject, epochs=41, temperature=T) == []
    assert equal_bytes(900, subject, epochs=1, temperature=T)  # a table of nine labels is no error


@pytest.mark.parametrize("name", NAMES)
def test_equal_logits_give_equal_files(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        parse_scheme(name).write(tmp_path / folder, _table(name), make_subject(), temperature=T)
    for file in ("labels.bin", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_labels_do_not_depend_on_their_company(name: str, tmp_path: Path) -> None:
    source = stored(name, tmp_path / "labels", _table(name))
    epochs, ids = source.schedule(5, NUM_IMAGES)
    whole = source.logits(view_batch(epochs, ids))
    assert whole.dtype == torch.float32
    for row in range(NUM_IMAGES):
        alone = source.logits(view_batch(epochs[row : row + 1], ids[row : row + 1]))
        if name == "static":  # mixed by exp and log, which round by the place in a vector
            assert torch.allclose(alone[0], whole[row], atol=1e-5)
        else:
            assert torch.equal(alone[0], whole[row])
    assert source.temperature == T
    assert source.num_classes == CLASSES


# ------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_other_images_are_refused(name: str, tmp_path: Path) -> None:
    table = _table(name)
    for wrong in (table[:, :-1], table[:, :, :-1], table[0], torch.cat([table, table])):
        if name != "static" and wrong.shape[1:] == table.shape[1:]:
            continue  # more epochs suit all schemes but static
        with pytest.raises(UsageError, match="are not those of the images"):
            parse_scheme(name).write(tmp_path / "labels", wrong, make_subject(), temperature=T)
    assert not (tmp_path / "labels").exists()


def test_logits_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    table = make_logits()
    with pytest.raises(UsageError, match="beyond float16"):
        Stored().write(tmp_path / "labels", 1e6 * table, make_subject(), temperature=T)
    table[3, 1, 2] = torch.nan
    with pytest.raises(UsageError, match="not finite"):
        Vq(codewords=4).write(tmp_path / "labels", table, make_subject(), temperature=T)
    assert list(tmp_path.iterdir()) == []


def test_views_that_cannot_be_replayed_are_refused() -> None:
    with pytest.raises(UsageError, match="no labels can be stored for them"):
        make_subject(views=ViewSpec(mix="cutmix-batch"))


# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("name", NAMES)
def test_changed_images_and_other_views_are_refused(name: str, tmp_path: Path) -> None:
    stored(name, tmp_path / "labels", _table(name))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"images": make_images(change=1)}, "made for other images"),
        ({"views": ViewSpec(flip=True)}, "made for other views"),
        ({"augmentation_seed": SEED + 1}, "made for other views"),
    ]
    for change, match in changes:
        with pytest.raises(ArtifactError, match=match):
            open_labels(tmp_path / "labels", make_subject(**change))


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bytes_and_other_lengths_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    stored(name, folder, _table(name))
    payload, manifest = ((folder / file).read_bytes() for file in ("labels.bin", "manifest.json"))
    for at in range(0, len(payload), max(1, len(payload) // 24)):
        (folder / "labels.bin").write_bytes(payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :])
        with pytest.raises(ArtifactError, match="its hash is not the manifest's"):
            open_labels(folder, make_subject())
    cuts = [payload[:length] for length in range(0, len(payload), max(1, len(payload) // 12))]
    for cut in (*cuts, payload[:-1], payload + b"\0"):
        reseal(folder, payload=cut)
        with pytest.raises(ArtifactError, match=f"expected {len(payload)} bytes, got {len(cut)} bytes"):
            open_labels(folder, make_subject())
    (folder / "labels.bin").unlink()
    with pytest.raises(ArtifactError, match="got no file"):
        open_labels(folder, make_subject())
    for length in range(0, len(manifest), 7):
        (folder / "manifest.json").write_bytes(manifest[:length])
        with pytest.raises(ArtifactError, match=r"manifest\.json"):
            open_labels(folder, make_subject())


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_of_the_manifest_is_refused_or_does_no_harm(name: str, tmp_path: Path) -> None:
    """Where JSON and fields still hold, as with another temperature, labels are read and are numbers."""
    folder = tmp_path / "labels"
    stored(name, folder, _table(name))
    manifest = (folder / "manifest.json").read_bytes()
    other = torch.randint(1, 256, (len(manifest),), generator=torch.Generator().manual_seed(0))
    refused = 0
    for at, change in list(enumerate(other.tolist()))[::3]:
        changed = manifest[:at] + bytes([manifest[at] ^ change]) + manifest[at + 1 :]
        (folder / "manifest.json").write_bytes(changed)
        try:
            source = open_labels(folder, make_subject())
        except ArtifactError:
            refused += 1
            continue
        assert not torch.isnan(source.logits(view_batch(*source.schedule(0, NUM_IMAGES)))).any()
    assert refused > 0.9 * len(manifest) / 3


@pytest.mark.parametrize("name", NAMES)
def test_random_payloads_under_a_right_hash_do_no_harm(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    stored(name, folder, _table(name))
    size = (folder / "labels.bin").stat().st_size
    stream = torch.Generator().manual_seed(0)
    outcomes = set()
    for _ in range(8):
        noise = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=stream)
        reseal(folder, payload=noise.numpy().tobytes())
        try:
            source = open_labels(folder, make_subject())
        except ArtifactError:
            outcomes.add("refused")
            continue
        logits = source.logits(view_batch(*source.schedule(0, NUM_IMAGES)))
        assert not torch.isnan(logits).any()
        outcomes.add("read")
    assert outcomes <= {"refused", "read"}


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("schema", 2, "newer flashdd"),
        ("schema", 0, "'schema' must be at least 1"),
        ("epochs", 0, "'epochs' must be at least 1"),
        ("epochs", "4", "field 'epochs' must be of type int"),
        ("epochs", True, "field 'epochs' must be of type int"),
        ("epochs", 10, "field 'settings' cannot be used"),
        ("num_images", NUM_IMAGES + 1, "field 'num_images' is 10, the images have 9"),
        ("num_classes", 10**9, "field 'num_classes' is 1000000000"),
        ("views", None, "field 'views' must be of type dict"),
        ("views", {}, "made for other views"),
        ("temperature", 4, "field 'temperature' must be of type float"),
        ("temperature", 0.0, "field 'temperature' must be above 0"),
        ("temperature", -1.0, "field 'temperature' must be above 0"),
        ("scheme", "magic", "field 'scheme' is 'magic'"),
        ("scheme", "vq", "field 'settings' cannot be used"),
        ("settings", {}, "field 'settings' cannot be used"),
        ("settings", {"bits": 4, "epochs": 11, "more": 1}, "field 'settings' cannot be used"),
        ("settings", {"bits": 4.0, "epochs": 11}, "expected whole numbers"),
        ("settings", {"bits": True, "epochs": 11}, "expected whole numbers"),
        ("settings", {"bits": 5, "epochs": 11}, "5 bits per logit"),
        ("settings", {"bits": 4, "epochs": 12}, "12 epochs"),
        ("settings", {"bits": 4, "epochs": -1}, "-1 epochs"),
        ("settings", {"bits": 4, "epochs": 10}, "expected 167 bytes, got"),
        ("extra", 1, "field 'extra' is unknown"),
    ],
)
def test_every_field_of_the_manifest_is_checked(field: str, value: Any, match: str, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    stored("stored@4bit", folder)
    reseal(folder, **{field: value})
    with pytest.raises(ArtifactError, match=match):
        open_labels(folder, make_subject())


def test_sizes_far_beyond_the_file_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    for name, settings in [
        ("lpld@n23", {"labels": 10**15}),
        ("stored", {"bits": 16, "epochs": 10**15}),
        ("hald", {"per_image": 10**15}),
        ("vq@16", {"codewords": 65536, "epochs": 10**15}),
    ]:
        stored(name, folder)
        reseal(folder, settings=settings, epochs=10**15)
        with pytest.raises(ArtifactError, match=r"expected \d{12,} bytes, got"):
            open_labels(folder, make_subject())


def test_manifests_that_are_no_json_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    stored("stored", folder)
    whole = json.loads((folder / "manifest.json").read_text())
    for text, match in [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 90_000, "is not JSON"),
        (b"[]", "expected an object"),
        (canonical_json({**whole, "views": {"x": "y" * 100_000}}), "more than 100000 bytes"),
        (canonical_json(whole).replace(b'"temperature":4.0', b'"temperature":NaN'), "must be above 0"),
    ]:
        (folder / "manifest.json").write_bytes(text)
        with pytest.raises(ArtifactError, match=match):
            open_labels(folder, make_subject())
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="holds no stored labels"):
        open_labels(folder, make_subject())
    with pytest.raises(ArtifactError, match="holds no stored labels"):
        open_labels(tmp_path / "nowhere", make_subject())


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    for name, section in [
        ("stored", "logits"),
        ("stored@4bit", "levels"),
        ("lowrank@r2-int8", "mean"),
        ("vq@5", "codebook"),
    ]:
        for bad in (b"\x00\x7e", b"\x00\x7c", b"\x00\xfc"):  # NaN, infinity, minus infinity
            stored(name, folder)
            payload = (folder / "labels.bin").read_bytes()
            reseal(folder, payload=bad + payload[2:])
            with pytest.raises(ArtifactError, match=f"section '{section}' is not finite"):
                open_labels(folder, make_subject())


def test_integers_out_of_range_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    for name, match in [
        ("vq@5", "an integer of section 'codes' is above 4"),
        ("lpqld@k2-n31", "an integer of section 'classes' is above 2"),
        ("lowrank@r2-int8", "an integer of section 'coefficients' is above 254"),
    ]:
        stored(name, folder)
        payload = (folder / "labels.bin").read_bytes()
        reseal(folder, payload=payload[:-2] + b"\xff" + payload[-1:])
        with pytest.raises(ArtifactError, match=match):
            open_labels(folder, make_subject())


def test_bits_behind_the_last_integer_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    stored("vq@5", folder)  # 99 codes of 3 bits leave 7 bits of the last byte
    payload = (folder / "labels.bin").read_bytes()
    reseal(folder, payload=payload[:-1] + bytes([payload[-1] | 128]))
    with pytest.raises(ArtifactError, match="goes on after its last integer"):
        open_labels(folder, make_subject())


def test_the_first_bytes_of_a_folder_are_these(tmp_path: Path) -> None:
    """FORMAT.md, byte by byte: what another language would have to write."""
    folder = tmp_path / "labels"
    logits = torch.zeros(1, NUM_IMAGES, CLASSES)
    logits[0, 1] = torch.tensor([1.0, -2.0, 0.5])
    stored("stored@2bit", folder, logits)
    payload = (folder / "labels.bin").read_bytes()
    levels = torch.frombuffer(bytearray(payload[:8]), dtype=torch.float16).tolist()
    assert levels == [-3.0, -0.5, 0.0, 0.0]
    codes = [2] * 3 + [2, 0, 1] + [2] * 21
    number = sum(code << (2 * place) for place, code in enumerate(codes))
    assert payload[8:] == number.to_bytes(7, "little")
    assert (folder / "manifest.json").read_bytes() == canonical_json(
        {
            "augmentation_seed": SEED,
            "content_hash": make_images().content_hash,
            "epochs": 1,
            "num_classes": CLASSES,
            "num_images": NUM_IMAGES,
            "schema": 1,
            "scheme": "stored",
            "settings": {"bits": 2, "epochs": 1},
            "sha256": json.loads((folder / "manifest.json").read_text())["sha256"],
            "temperature": T,
            "views": VIEWS.to_json(),
        }
    )
    found = every_label(open_labels(folder, make_subject()), 1)
    assert found[0, 1].tolist() == [0.0, -3.0, -0.5]
