"""The command line: exit codes, messages, and that nothing slow is loaded for nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashdd.cli import commands
from flashdd.cli import main as cli


def _call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main(arguments)
    captured = capsys.readouterr()
    return int(done.value.code or 0), captured.out, captured.err


def test_help_loads_no_torch_and_names_every_command() -> None:
    code = (
        "import sys; from flashdd.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: assert not done.code\n"
        "assert 'torch' not in sys.modules and 'datasets' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for command in ("run", "distill", "label", "compare", "train", "inspect", "verify", "report", "export"):
        assert f"  {command} " in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from flashdd import __version__

    assert _call(capsys, "--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "No such command 'rum'"),
        (["run", "--ipc", "many"], "valid integer"),
        (["run", "--ipc", "0"], "images.ipc: got 0"),
        (["run", "--set", "x"], "--set x: expected KEY=VALUE"),
        (["run", "--set", "images.ipcc=1"], "did you mean 'images.ipc'?"),
        (["run", "absent.toml"], "recipe absent.toml does not exist"),
        (["run", "--label-budget", "100", "--dry-run"], "the smallest that works here is"),
        (["run", "--teacher", "resnet-18", "--dry-run"], "did you mean 'resnet18'?"),
        (["label", "rded", "--data", "digits"], "label wants images that exist: give their path"),
        (["label", "nothere", "--data", "digits"], "no such file or folder: nothere"),
        (["compare", "--ipc", "1,ten"], "compare.ipc.1: got 'ten'"),
        (["compare", "absent.toml"], "recipe absent.toml does not exist"),
        (["compare", "--schemes", "hart"], "did you mean 'hard'?"),
        (["compare", "nowhere"], "nowhere does not exist: give the folder of a run or of an artifact"),
        (["compare", "--schemes", "hard,hard"], "needs entries that differ"),
        (["compare", "."], "neither the folder of a finished run"),
        (["compare", "--artifact", "absent"], "absent is neither the folder of a finished run"),
        (["train", "a", "--seeds", "0"], "greater than or equal to 1"),
        (["export", "a", "--to", "dd-rank", "--out", "b"], "did you mean 'dd-ranking'?"),
    ],
    ids=str,
)
def test_unusable_arguments_exit_with_two(
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = _call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


@pytest.mark.parametrize("command", ["inspect", "train", "report"])
def test_what_is_no_artifact_exits_with_one(
    capsys: pytest.CaptureFixture[str], command: str, tmp_path: Path
) -> None:
    code, _, err = _call(capsys, command, str(tmp_path / "absent"))
    assert code == 1
    assert err.startswith("flashdd: ")


def test_verify_says_damaged_and_exits_with_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = _call(capsys, "verify", str(tmp_path))
    assert code == 1
    assert "FAIL" in out
    assert out.endswith("damaged\n")


@pytest.fixture
def in_a_terminal() -> Iterator[None]:
    """Interrupts are heard: what a shell starts in the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("in_a_terminal")
@pytest.mark.parametrize(
    ("sent", "expected", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interrupt_has_its_exit_code_and_says_how_to_go_on(
    sent: signal.Signals,
    expected: int,
    word: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(sent)
    monkeypatch.setattr("flashdd.cli.commands.build_config", lambda *_, **__: signal.raise_signal(sent))
    code, _, err = _call(capsys, "run")
    assert code == expected
    assert f"{word}: finished stages are kept; the same command goes on from here" in err
    assert signal.getsignal(sent) is before


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = _call(capsys, "run", "--dry-run", "--json", "--ipc", "1")
    facts = json.loads(out)
    assert code == 0
    assert facts["stages"][0]["name"] == "data"
    assert facts["bytes"] == {
        "label_budget": 13407,
        "reference": 44691240,
        "raw_images": 640,
        "teacher": 44691240,
    }
    assert list(tmp_path.iterdir()) == []


def test_a_scheme_s_name_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    name = "+".join(f"conv-3-w{width}@e8" for width in range(4, 30))
    commands._show_table(["labels", "test accuracy, %"], [[name, "34.3 ± 1.2 (n=3)"]])
    _, *lines = capsys.readouterr().out.splitlines()
    assert "".join(line.split(" ")[0] for line in lines) == name
