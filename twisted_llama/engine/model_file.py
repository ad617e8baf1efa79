"""
The model's file: where it is, and that it looks like a GGUF file.

Only the first bytes are read; a hostile file is the engine's to parse, in a
process of its own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from attrs import frozen

from twisted_llama.errors import StartupError

_MAGIC = b"GGUF"
_HEAD_BYTES = 64
_LISTED = 20
_ENTRIES_LOOKED_AT = 5000
_LFS_POINTER = b"version https://git-lfs"
_OLD_MAGICS = (b"ggml", b"ggmf", b"ggjt", b"lmgg", b"fmgg", b"tjgg")


@frozen
class ModelFile:
    """
    A file that can be given to the engine.
    """

    path: Path
    size_bytes: int


def find_model(*, model_path: Path | None, models_dir: Path, model_name: str | None) -> ModelFile:
    """
    The model that C{MODEL_PATH}, or else C{MODEL_NAME} in C{MODELS_DIR}, names.

    @raise StartupError: there is none, or it cannot be a GGUF file; the message
        says why and lists the ones that are there.
    """
    if model_path is not None:
        setting, path, shelf = "MODEL_PATH", model_path, model_path.parent
        if not shelf.is_dir():
            shelf = models_dir
    elif model_name:
        setting, path, shelf = "MODEL_NAME", models_dir / _checked_name(model_name), models_dir
    else:
        raise StartupError(
            "No model is named. Set MODEL_NAME to a file in MODELS_DIR, or MODEL_PATH to a GGUF "
            f"file. {describe_shelf(models_dir)}"
        )
    problem = gguf_problem(path)
    if problem is not None:
        raise StartupError(f"{setting}: {path} {problem} {describe_shelf(shelf)}")
    return ModelFile(path.absolute(), path.stat().st_size)


def _checked_name(model_name: str) -> str:
    name = PurePath(model_name)
    if name.is_absolute() or ".." in name.parts or "\0" in model_name:
        raise StartupError(
            f"MODEL_NAME={model_name!r} must be a file inside MODELS_DIR, without '..'. "
            "Use MODEL_PATH for a file elsewhere."
        )
    return model_name


def gguf_problem(path: Path) -> str | None:
    """
    @return: what is wrong with the file and what to do, to be read after its
        name, or L{None}.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "is a directory; name the .gguf file in it."
        if not stat.S_ISREG(mode):
            return "is not an ordinary file; name a .gguf file."
        with path.open("rb") as model:
            head = model.read(_HEAD_BYTES)
    except FileNotFoundError:
        return "does not exist; check the name, or download the model there."
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or "not a valid path"
        return f"cannot be read ({reason}); check its path and permissions."
    if head.startswith(_MAGIC):
        return None
    if not head:
        return "is empty; download it again."
    if head.startswith(_LFS_POINTER):
        return "is a Git LFS pointer, not the model itself; fetch it with 'git lfs pull'."
    if head[:4] in _OLD_MAGICS:
        return "is in a format older than GGUF; download the model as GGUF."
    return "is not a GGUF file (it does not begin with 'GGUF'); download it again, or convert it."


def describe_shelf(models_dir: Path) -> str:
    """
    @return: a sentence that lists the .gguf files in a directory and its
        sub-directories, at most 20 of them.
    """
    if not models_dir.is_dir():
        return f"The directory {models_dir} does not exist."
    names: list[str] = []
    for name in _gguf_names(models_dir):
        if len(names) == _LISTED:
            names.append("...")
            break
        names.append(name)
    if not names:
        return f"There are no .gguf files in {models_dir}."
    return f"The .gguf files in {models_dir}: {', '.join(names)}."


def _gguf_names(models_dir: Path) -> Iterator[str]:
    found: list[str] = []
    looked_at = 0
    shelves = [models_dir]
    for shelf in shelves:
        try:
            entries = sorted(shelf.iterdir())
        except OSError:
            continue
        for entry in entries:
            looked_at += 1
            if looked_at > _ENTRIES_LOOKED_AT:
                break
            # os.path, not pathlib: what may not be looked at is no model, and no error.
            if not os.path.isdir(entry):
                if entry.suffix.lower() == ".gguf":
                    found.append(_printable(str(entry.relative_to(models_dir))))
            elif not os.path.islink(entry):
                shelves.append(entry)
    yield from sorted(found)


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)
