"""Settings far from the embedded data: the plan stands, and refusals name a remedy that works."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from flashdd.core.config import RunConfig
from flashdd.core.errors import ConfigError, DataError, UnknownNameError, UsageError
from flashdd.core.recipe import build_config
from flashdd.data.sources import SourceFacts
from flashdd.labels.flash.candidates import Course
from flashdd.labels.flash.capacity import default_setting
from flashdd.models.family import LabelerSpec
from flashdd.pipeline.families import default_max_macs
from flashdd.pipeline.plan import _others
from flashdd.pipeline.search import unclimbed
from flashdd.pipeline.setup import Setup, resolve


def _facts(side: int, classes: int, *, channels: int = 3, per_class: int = 500) -> SourceFacts:
    return SourceFacts(
        name="made-up",
        source="folder",
        class_names=tuple(f"class {index}" for index in range(classes)),
        class_counts=(per_class,) * classes,
        train_counts=(per_class - 50,) * classes,
        num_train=(per_class - 50) * classes,
        num_val=50 * classes,
        num_test=50 * classes,
        shape=(channels, side, side),
    )


def _resolve(facts: SourceFacts, **changes: object) -> Setup:
    return resolve(build_config({}, [(k.replace("__", "."), v) for k, v in changes.items()]), facts)


@pytest.mark.parametrize(
    ("side", "classes"),
    [(8, 2), (28, 10), (32, 100), (64, 200), (96, 10), (128, 100), (224, 10), (224, 1000)],
)
def test_the_default_budget_holds_several_rungs_everywhere(side: int, classes: int) -> None:
    setup = _resolve(_facts(side, classes))
    rungs = [rung for family in setup.families for chain in family for rung in chain]
    assert len(rungs) >= 3
    assert all(rung.bytes <= setup.budget_bytes and rung.macs <= setup.max_macs for rung in rungs)
    for family in setup.families:
        for chain in family:
            assert [rung.bytes for rung in chain] == sorted(rung.bytes for rung in chain)


def test_the_mac_ceiling_is_the_claims_and_grows_with_the_budget() -> None:
    setup = _resolve(_facts(32, 10))
    assert setup.max_macs == int(setup.reference.macs / 843.81)
    large = _resolve(_facts(32, 10), labeler__budget="1.8%")
    assert setup.reference.macs / large.max_macs == pytest.approx(843.81 / 60, rel=1e-3)
    assert default_max_macs(setup.reference, 1) == setup.max_macs


@pytest.mark.parametrize(("side", "classes"), [(32, 10), (128, 100), (224, 1000)])
def test_the_smallest_budget_that_is_named_works(side: int, classes: int) -> None:
    with pytest.raises(ConfigError, match="holds no labeler") as caught:
        _resolve(_facts(side, classes), labeler__budget="50")
    smallest = int(str(caught.value).split("here is ")[1].split(" ")[0])
    assert _resolve(_facts(side, classes), labeler__budget=str(smallest)).families


def test_settings_follow_the_protocols_temperature() -> None:
    assert {s.logit_scale for s in _resolve(_facts(32, 10)).settings} == {1.0}
    rded = _resolve(_facts(32, 10), protocol__name="rded")
    assert {s.temperature for s in rded.settings} == {20.0}
    assert {s.logit_scale for s in rded.settings} == {0.1, 0.25, 0.5, 1.0, 2.0, 4.0}
    assert rded.published.temperature == 20.0


def test_large_images_are_mosaics_and_small_ones_are_not() -> None:
    assert [_resolve(_facts(side, 10)).factor for side in (32, 64, 128)] == [1, 1, 2]
    assert _resolve(_facts(128, 10), images__method="random").factor == 1
    # a recipe may hold the dials of several methods: those of another are not this one's
    assert _resolve(_facts(32, 10), images__method="random", images__rded__factor=2).factor == 1


def test_a_class_that_is_too_small_names_the_ipc_that_works() -> None:
    facts = _facts(32, 10, per_class=53)  # 3 left for training
    with pytest.raises(DataError, match=r"which has 3 training images.*use --ipc 3 or less"):
        _resolve(facts, images__ipc=4)
    assert _resolve(facts, images__ipc=3).num_images == 30
    with pytest.raises(DataError, match=r"4 of which make an image: use --set images\.rded\.factor=1"):
        _resolve(_facts(128, 10, per_class=53), images__ipc=1)


def test_of_several_classes_that_are_too_small_the_smallest_names_the_ipc() -> None:
    facts = replace(_facts(32, 3), train_counts=(9, 5, 7))
    with pytest.raises(DataError, match=r"IPC 10 is larger than class 'class 1'.*use --ipc 5 or less"):
        _resolve(facts, images__ipc=10)


def test_a_wrong_proxy_is_refused_before_training() -> None:
    with pytest.raises(UsageError, match="did you mean"):
        _resolve(_facts(32, 10), search__student="convnet-3-32")


def test_the_proxy_is_never_larger_than_the_student() -> None:
    assert _resolve(_facts(32, 10), student__name="resnet18").proxy == "convnet-3-w32"
    assert _resolve(_facts(32, 10), student__name="convnet-3-w8").proxy == "convnet-3-w8"


def test_cutmix_per_batch_is_the_fields_habit_by_name() -> None:
    assert _resolve(_facts(32, 10), views__mix="cutmix-batch").protocol.views.replayable is False
    assert RunConfig().views.mix == "cutmix"


def test_fewer_bits_come_with_the_width_that_they_pay_for() -> None:
    setup = _resolve(_facts(32, 10), labeler__bits=[8, 4, 2])
    chain = next(chain for family in setup.families for chain in family if chain[0].name == "strided-3-w4")
    fewer, room = setup.variants.fewer_bits, setup.room
    for rung in (chain[0], chain[-1]):
        (same, wide) = fewer(rung)
        assert (same.name, same.bits, wide.bits) == (rung.name, 4, 4)
        assert same.bytes < rung.bytes
        assert rung.params < wide.params
        assert wide.bytes <= rung.bytes
        assert wide.macs <= setup.max_macs
        spec = LabelerSpec.parse(wide.name)
        wider = room.rung(replace(spec, width=spec.width + 1), 4)
        assert wider.bytes > rung.bytes or wider.macs > setup.max_macs
        assert {each.bits for each in fewer(same)} == {2}
        assert fewer(fewer(same)[0]) == []


def test_where_operations_are_the_limit_fewer_bits_bring_no_width() -> None:
    setup = _resolve(_facts(32, 10), labeler__bits=[8, 4])
    chain = next(chain for family in setup.families for chain in family if chain[0].name == "conv-3-w4")
    assert [rung.name for rung in setup.variants.fewer_bits(chain[-1])] == [chain[-1].name]


def test_fewer_bits_widen_a_head_of_low_rank() -> None:
    """Below the rung's own width there may be fewer features than its head has ranks."""
    setup = _resolve(_facts(32, 10), labeler__bits=[8, 4])
    rung = setup.room.rung(LabelerSpec.parse("strided-3-w16-gap-r5"))
    same, wide = setup.variants.fewer_bits(rung)
    assert same.name == rung.name
    assert re.fullmatch(r"strided-3-w(\d+)-gap-r5", wide.name)
    assert same.bytes < wide.bytes <= rung.bytes


def test_ensembles_keep_to_bytes_operations_and_their_number() -> None:
    setup = _resolve(_facts(32, 10), labeler__max_members=4, labeler__budget="20KB")
    rung = setup.families[1][0][0]
    assert rung.name == "strided-3-w4"
    four = setup.variants.with_members(rung, 4)
    assert four is not None
    assert four.num_members == 4
    assert (four.macs, four.params) == (4 * rung.macs, 4 * rung.params)
    assert 3 * rung.bytes < four.bytes <= 20_000
    assert setup.variants.with_members(rung, 5) is None
    small = _resolve(_facts(32, 10), labeler__max_members=4, labeler__budget="4KB")
    assert small.variants.with_members(rung, 4) is None
    tight = _resolve(_facts(32, 10), labeler__max_members=4, labeler__max_macs=100_000)
    assert tight.variants.with_members(rung, 2) is not None
    assert tight.variants.with_members(rung, 3) is None


def test_trainings_of_other_lengths_have_whole_epochs() -> None:
    setup = _resolve(_facts(32, 10), teacher__epochs=8, search__lengths=[0.1, 0.25, 1.0])
    courses = [Course(length=length, shift=0.0) for length in (0.1, 0.25, 1.0)]
    assert [setup.teacher_at(course).epochs for course in courses] == [1, 2, 8]
    assert {setting.length for setting in setup.settings} == {0.1, 0.25, 1.0}
    assert setup.member_at(default_setting(setup.settings).course) == setup.member_recipe
    assert setup.teacher_at(default_setting(setup.teacher_settings).course) == setup.teacher_recipe


def test_the_searched_teacher_may_see_images_moved_less_far() -> None:
    """Shifts by as many pixels are one; the teacher's own comes first, and is that of its published settings."""
    shifts = [1 / 32, 1 / 30, 0.0]  # of 32 pixels the first two are one
    setup = _resolve(_facts(32, 10), search__teacher_lengths=[0.5, 1.0], search__teacher_shifts=shifts)
    found = dict.fromkeys(setting.course for setting in setup.teacher_settings)
    expected = [(length, shift) for shift in (1 / 8, 1 / 32, 0.0) for length in (0.5, 1.0)]
    assert [(course.length, course.shift) for course in found] == expected
    assert setup.published.course == default_setting(setup.teacher_settings).course
    assert {setting.shift for setting in setup.settings} == {1 / 32}  # the labeler's own, not searched
    digits = _resolve(_facts(8, 10))
    assert digits.teacher_recipe.shift == digits.member_recipe.shift == 1 / 8  # one pixel
    assert {setting.shift for setting in digits.teacher_settings} == {1 / 8}
    own = _resolve(_facts(32, 10))
    shifts = [setting.shift for setting in own.teacher_settings if setting.temperature == 4]
    assert shifts == [*[1 / 8] * 4, *[1 / 32] * 4]  # of four lengths each


def test_a_teacher_of_large_enough_images_is_stopped_early_by_default() -> None:
    """After an eighth, a quarter and a half beside the labeler's own lengths; lengths of equally many epochs are one,
    the longest."""

    def lengths(side: int, **changes: object) -> list[float]:
        setup = _resolve(_facts(side, 10), **changes)
        found = list(dict.fromkeys(setting.length for setting in setup.teacher_settings))
        assert setup.stops_teacher == (found[0] < 1)
        return found

    assert [_resolve(_facts(side, 10)).tutors for side in (15, 16)] == [0, 3]
    tried = [rung.name for rung in _resolve(_facts(32, 10)).tried_rungs]
    assert tried == ["conv-3-w11", "strided-3-w15", "patch-3-w21"]
    assert _resolve(_facts(16, 10), labeler__tutor="none").tutors == 0
    assert lengths(16) == [0.125, 0.25, 0.5, 1.0]
    assert lengths(15) == [1.0]
    assert lengths(15, search__teacher_lengths=[0.5, 1.0]) == [0.5, 1.0]
    assert lengths(32, search__lengths=[0.1, 0.5, 1.0, 2.0]) == [0.125, 0.25, 0.5, 1.0, 2.0]
    assert lengths(32, search__lengths=[1.0]) == [0.125, 0.25, 0.5, 1.0]
    assert lengths(32, search__teacher_lengths=[1.0]) == [1.0]
    assert lengths(32, teacher__epochs=2) == [0.5, 1.0]
    assert lengths(32, teacher__epochs=1) == [1.0]
    assert lengths(32, teacher__epochs=2, search__teacher_lengths=[0.5, 1.0, 1.2]) == [0.5, 1.0]
    rounded = _resolve(_facts(32, 10), labeler__image_passes=1, search__lengths=[0.5, 1.0, 1.4])
    assert {setting.length for setting in rounded.settings} == {1.0}


def test_short_trainings_of_labelers_are_tried_by_default_from_sixteen_pixels_on() -> None:
    def epochs(side: int, **changes: object) -> list[int]:
        setup = _resolve(_facts(side, 10), labeler__max_epochs=8, **changes)
        return sorted({setup.member_at(setting.course).epochs for setting in setup.settings})

    assert epochs(16) == [1, 2, 4, 8]
    assert epochs(15) == [8]
    assert epochs(16, search__lengths=[1.0]) == [8]


def test_separable_ladders_are_climbed_on_demand() -> None:
    setup = _resolve(_facts(32, 10), labeler__stems=["strided", "strided-ds"])
    names = [[rung.name for rung in family[0]] for family in setup.families]
    assert names[0][0] == "strided-3-w4"
    assert names[1][0] == "strided-3-w4-ds"
    assert all(name.endswith("-ds") for name in names[1])
    with pytest.raises(ConfigError, match="holds no labeler: the smallest that works here is"):
        _resolve(_facts(32, 10), labeler__stems=["patch-ds"], labeler__budget="500")
    with pytest.raises(
        ConfigError, match="there is no conv-ds network for images of 3 x 3 pixels; take some of"
    ):
        _resolve(
            _facts(3, 10),
            labeler__stems=["conv-ds"],
            **dict.fromkeys(("teacher__name", "student__name", "search__student"), "convnet-1-w4"),
        )


def test_heads_and_resolutions_are_climbed_on_demand() -> None:
    """A thousand classes leave a network with a whole head few channels; with one of low rank it has more."""
    many = _facts(64, 1000)
    whole = _resolve(many, labeler__stems=["conv"])
    ranked = _resolve(many, labeler__stems=["conv", "conv-r6", "strided-gap-r8-p32"])
    assert [rung.name for rung in ranked.families[0][0]] == [rung.name for rung in whole.families[0][0]]
    widest = [max(LabelerSpec.parse(chain[-1].name).width for chain in family) for family in ranked.families]
    assert min(widest[1:]) > widest[0]
    assert all(rung.bytes <= ranked.budget_bytes for f in ranked.families for chain in f for rung in chain)


@pytest.mark.parametrize(
    ("stem", "why"),
    [
        ("conv-r11", "rank 11 between 2048 features and 10 classes: take -r10 or less"),
        ("conv-gap-r200", "rank 200 between 128 features and 10 classes: take -r10 or less"),
        ("strided-p1", "too deep for images of 32x32 pixels, read at most 1 pixels wide: take larger images"),
    ],
)
def test_a_stem_without_a_network_is_refused_beside_others(stem: str, why: str) -> None:
    with pytest.raises(
        ConfigError, match=f"there is no {stem} network for images of 32 x 32 pixels; .*{why}"
    ):
        _resolve(_facts(32, 10), labeler__stems=["conv", stem])


@pytest.mark.parametrize(
    ("scales", "others"),
    [([0.5, 1.0, 2.0], (2, 2)), ([1.0, 2.0, 4.0], (1, 2)), ([0.25, 0.5, 1.0], (1, 2)), ([1.0], (0, 0))],
)
def test_a_default_at_the_end_of_its_dial_has_one_neighbor(
    scales: list[float], others: tuple[int, int]
) -> None:
    setup = _resolve(
        _facts(32, 10), protocol__name="rded", search__logit_scales=scales, search__lengths=[1.0]
    )
    assert _others(setup.settings) == others


@pytest.mark.parametrize(
    "stem", ["conv-gap-gap", "conv-r8-gap", "conv-r0", "conv-p64", "conv-3-w8", "strided-", " conv-gap"]
)
def test_an_option_that_is_none_is_told_apart_from_a_stem(stem: str) -> None:
    with pytest.raises(UnknownNameError) as told:
        _resolve(_facts(32, 10), labeler__stems=[stem])
    name = stem.strip().partition("-")[0]
    assert f"entry {stem!r}: behind '{name}' may stand [-ds][-gap][-rRANK][-pPIXELS], in this order" in str(
        told.value
    )
    assert "did you mean" not in str(told.value)


@pytest.mark.parametrize(("stem", "pixels"), [("conv-p32", 32), ("conv-p100", 32), ("strided-gap-p50", 96)])
def test_a_resolution_that_changes_nothing_is_refused(stem: str, pixels: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"{stem} reads images of {pixels} x {pixels} pixels as it would without"
    ):
        _resolve(_facts(pixels, 10), labeler__stems=["conv", stem])


def test_a_stem_that_no_budget_holds_is_told() -> None:
    setup = _resolve(_facts(32, 10), labeler__stems=["conv", "strided", "conv-ds"], labeler__budget="1350")
    climbed = {
        LabelerSpec.parse(rung.name).family for family in setup.families for chain in family for rung in chain
    }
    assert climbed == {"conv-ds"}
    assert unclimbed(setup) == [
        "labeler.stems: no network of conv, strided was tried, for none fits 1,350 bytes and 658,231 "
        "multiply-accumulates per image."
    ]
    assert unclimbed(_resolve(_facts(32, 10))) == []
