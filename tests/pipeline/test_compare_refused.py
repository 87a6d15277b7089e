"""`flashdd compare` refuses what can be seen to be wrong before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import SETTINGS, Listening, tiny_config

from flashdd.core.errors import FlashddError, UnknownNameError, UsageError
from flashdd.core.recipe import build_config
from flashdd.pipeline.compare import compare
from flashdd.pipeline.networks import NetworkScheme, parse_network


@pytest.mark.parametrize(
    ("axes", "error", "match"),
    [
        (
            {"schemes": ["labeller"]},
            UnknownNameError,
            "unknown label scheme 'labeller': did you mean 'labeler'",
        ),
        ({"schemes": ["teacher@searchd"]}, UnknownNameError, "did you mean 'teacher@searched'"),
        ({"schemes": ["labeler"]}, UsageError, "needs a labeler: give the folder of a run"),
        ({"schemes": ["hard", "ship"]}, UsageError, "within the bytes of an artifact: give the folder of a"),
        ({"schemes": ["ship"]}, UsageError, "'ship' alone trains no student: name a label scheme beside"),
        ({"schemes": ["committee@convnet-2-w4"]}, UsageError, "expected two or more networks that differ"),
        ({"schemes": ["committee"]}, UsageError, "expected two or more networks that differ"),
        ({"schemes": ["committee@convnet-2-w4+convnet-2-v4"]}, UsageError, "convnet-2-v4"),
        ({"schemes": ["committee@h2@convnet-2-w4+strided-1-w4"]}, UsageError, "have less than 1.099 nats"),
        ({"schemes": ["stored@e9999"]}, UsageError, "the teacher's table gives 1 to"),
        ({"schemes": ["convnet-2-w4@h2.4"]}, UsageError, "labels of 3 classes have less than 1.099 nats"),
        ({"schemes": ["stored@5bit"]}, UnknownNameError, "did you mean 'stored@"),
        ({"schemes": ["convnet-2-w4@t4-h1"]}, UsageError, "a temperature or an entropy, not both"),
        ({"schemes": ["convnet-2-w4@q4"]}, UsageError, "got 'q4', which is no dial: there are epochs"),
        ({"schemes": ["convnet-9-w4"]}, UsageError, "largest depth there is 3"),
        ({"schemes": ["hard"], "images": ["rdde"]}, UnknownNameError, "did you mean 'rded'"),
        ({"schemes": ["hard"], "students": ["convnet"]}, UnknownNameError, "unknown model 'convnet'"),
        ({"schemes": ["hard"], "ipc": [1, 5000]}, FlashddError, "IPC 5000 is larger than class"),
    ],
    ids=str,
)
def test_what_can_be_seen_is_refused_before_training(
    axes: dict[str, object], error: type[FlashddError], match: str, tmp_path: Path
) -> None:
    progress = Listening()
    config = build_config({}, [*SETTINGS, *((f"compare.{name}", value) for name, value in axes.items())])
    with pytest.raises(error, match=match):
        compare(config, tmp_path / "out", cache=tmp_path / "cache", progress=progress)
    assert progress.started == []
    assert not (tmp_path / "out").exists()


def test_a_fixed_temperature_is_not_varied(tmp_path: Path) -> None:
    config = tiny_config(protocol__name="rded", compare__schemes=["convnet-2-w4@t4"])
    with pytest.raises(UsageError, match="protocol rded fixes the temperature at 20: vary the logit scale"):
        compare(config, tmp_path / "out", cache=tmp_path / "cache")


def test_a_networks_dials_are_read() -> None:
    assert parse_network("convnet-3-w64") == NetworkScheme(names=("convnet-3-w64",))
    assert parse_network("conv-3-w8@e4-t0.5-x2") == NetworkScheme(
        names=("conv-3-w8",), epochs=4, temperature=0.5, logit_scale=2.0
    )
    assert parse_network("conv-3-w8@h2.1").entropy == 2.1
    assert parse_network("conv-3-w8@e1-s12.5").shift == 0.125
    assert parse_network("conv-3-w8@s0").shift == 0.0
    assert parse_network("conv-3-w8@b8-d2").tutor == 2
    assert parse_network("conv-3-w8@b8-d2").tutors == 1
    assert parse_network("conv-3-w8@d2-k3-t4").tutors == 3
    assert parse_network("conv-3-w8@d2-o5").proxies == 5
    assert parse_network("conv-3-w8+strided-2-w4@b4-m3-c2") == NetworkScheme(
        names=("conv-3-w8", "strided-2-w4"), bits=4, copies=3, cycles=2
    )


@pytest.mark.parametrize(
    ("scheme", "match"),
    [
        ("conv-2-w4@b5", "5 bits; expected one of"),
        ("conv-2-w4@s60", "move by 50 % of their side at most; got s60"),
        ("conv-2-w4@e0", r"got 'e0', expected each at most once and above 0 \(s also 0\): epochs"),
        ("conv-2-w4@m2", "says the bits of its weights"),
        ("conv-2-w4+conv-2-w8", "says the bits of its weights"),
        ("conv-2-w4@b4.5", "whole epochs, teachers, proxies, bits"),
        ("conv-2-w4@d0.5", "whole epochs, teachers, proxies, bits"),
        ("conv-2-w4@k2", "their epochs stand beside it, such as d2-k3"),
        ("conv-2-w4@d2-k17", "the teachers that are imitated, 16 at most"),
        ("conv-2-w4@d2-k1.5", "whole epochs, teachers, proxies, bits"),
        ("conv-2-w4@o2.5", "whole epochs, teachers, proxies, bits"),
        ("conv-2-w4@o101", "fitted to 2 to 100 proxy students"),
        ("conv-2-w4@o1", "fitted to 2 to 100 proxy students, such as o5"),
        ("conv-2-w4+resnet99@b4", "resnet99"),
        ("resnet18@b4", "no labeler can be made of resnet18: leave out the bits"),
        ("conv-2-w4+conv-2-w4@b8", "names a network twice: .* write m2"),
        ("conv-2-w4@b8-m500-c3", "1500 members; a labeler has 1000 at most"),
    ],
)
def test_labelers_that_cannot_be_are_refused(scheme: str, match: str, tmp_path: Path) -> None:
    config = tiny_config(compare__schemes=[scheme])
    with pytest.raises(UsageError, match=match):
        compare(config, tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "out").exists()
