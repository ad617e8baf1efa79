"""
Finding the model's file.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twisted_llama.engine import model_file
from twisted_llama.engine.model_file import describe_shelf, find_model, gguf_problem
from twisted_llama.errors import StartupError


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """
    A directory with two models.
    """
    (tmp_path / "deep").mkdir()
    for name in ("one.gguf", "deep/two.GGUF"):
        (tmp_path / name).write_bytes(b"GGUF\x03\0\0\0")
    (tmp_path / "notes.txt").write_text("no")
    return tmp_path


def test_path_wins(shelf: Path) -> None:
    """
    MODEL_PATH is used even if MODEL_NAME is set.
    """
    found = find_model(model_path=shelf / "one.gguf", models_dir=Path("/no"), model_name="x")
    assert found.path == shelf / "one.gguf"
    assert found.size_bytes == 8


def test_name_in_a_subdirectory(shelf: Path) -> None:
    """
    MODEL_NAME may hold directories.
    """
    found = find_model(model_path=None, models_dir=shelf, model_name="deep/two.GGUF")
    assert found.path == shelf / "deep/two.GGUF"


@pytest.mark.parametrize("name", ["../one.gguf", "deep/../../x", "/etc/passwd", "a\0b"])
def test_name_stays_inside(shelf: Path, name: str) -> None:
    """
    MODEL_NAME never leads out of MODELS_DIR.
    """
    with pytest.raises(StartupError, match="inside MODELS_DIR"):
        find_model(model_path=None, models_dir=shelf, model_name=name)


@pytest.mark.parametrize("name", [None, ""])
def test_no_guessing(shelf: Path, name: str | None) -> None:
    """
    Nothing named is an error, with a list of what there is.
    """
    with pytest.raises(StartupError, match=r"No model is named.*deep/two.GGUF, one.gguf"):
        find_model(model_path=None, models_dir=shelf, model_name=name)


def test_missing_lists_what_is_there(shelf: Path) -> None:
    """
    On one line, from the directory that was meant.
    """
    for arguments in (
        {"model_path": None, "model_name": "three.gguf"},
        {"model_path": shelf / "three.gguf", "model_name": None},
        {"model_path": shelf / "nowhere" / "three.gguf", "model_name": None},
    ):
        with pytest.raises(StartupError) as caught:
            find_model(models_dir=shelf, **arguments)  # type: ignore[arg-type]  # a table
        message = str(caught.value)
        assert "three.gguf does not exist" in message
        assert "one.gguf" in message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"GGUF\3\0", None),
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"lmgg....", "older than GGUF"),
        (b"tjgg....", "older than GGUF"),
        (b"<html>", "not a GGUF file"),
        (b"GGU", "not a GGUF file"),
    ],
)
def test_first_bytes(tmp_path: Path, content: bytes, expected: str | None) -> None:
    """
    What a file is not is said with what to do.
    """
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    problem = gguf_problem(path)
    assert problem is None if expected is None else expected in str(problem)


def test_not_a_file(tmp_path: Path) -> None:
    """
    A directory, a pipe (which would block) and an impossible name.
    """
    assert "is a directory" in str(gguf_problem(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    assert "ordinary file" in str(gguf_problem(tmp_path / "pipe"))
    assert "not a valid path" in str(gguf_problem(Path("a\0b")))


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The system's reason is passed on.
    """
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in str(gguf_problem(path))


def test_shelf_is_bounded(tmp_path: Path) -> None:
    """
    No more than 20 names, however many there are.
    """
    assert "There are no .gguf files" in describe_shelf(tmp_path)
    assert "does not exist" in describe_shelf(tmp_path / "no")
    for at in range(30):
        (tmp_path / f"{at:02}\n.gguf").write_bytes(b"")
    described = describe_shelf(tmp_path)
    assert described.count(".gguf'") == 20
    assert "..." in described
    assert "\n" not in described


def test_a_huge_or_closed_directory_is_not_searched_for_ever(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The search ends after a number of entries, and passes over what it cannot read.
    """
    monkeypatch.setattr(model_file, "_ENTRIES_LOOKED_AT", 1)
    assert "There are no .gguf files" in describe_shelf(shelf)

    def refuse(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "There are no .gguf files" in describe_shelf(shelf)


def test_a_missing_model_in_a_directory_with_secrets_of_others() -> None:
    """What may not be looked at is passed over; C{/proc} is full of that."""
    with pytest.raises(StartupError, match=r"MODEL_PATH: /proc/1/missing\.gguf"):
        find_model(model_path=Path("/proc/1/missing.gguf"), models_dir=Path("/no"), model_name=None)
