"""
C{llama-gateway doctor}: collects what a bug report needs into one archive, with
the secrets masked.
"""

from __future__ import annotations

import argparse
import io
import os
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

from pydantic import SecretStr

from twisted_llama.cli.doctor_masking import Masking, environment_secrets, keyfile_secrets
from twisted_llama.cli.doctor_sections import Findings, sections
from twisted_llama.settings import LoadedSettings, Settings, SettingsError

_README = """\
Collected by "llama-gateway doctor" for a bug report.  Secrets are masked and no
prompts or answers are in it; look through it all the same before you share it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options of C{doctor}.
    """
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the archive, or a directory for it (default: the working directory)",
    )


def run(args: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """
    Collect, mask, pack, and say where it is.

    @return: 0, or 1 when the archive cannot be written.
    """
    stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime())
    name = f"llama-gateway-doctor-{stamp}"
    target = _target(args.output, name)
    findings = _look(os.environ, args.config)
    mask = Masking(_secrets(findings.settings, os.environ))
    files = {"README.txt": _README}
    files.update((path, mask(text)) for path, text in sections(findings))
    try:
        write_archive(target, name, files)
    except OSError as problem:
        reason = problem.strerror or problem
        print(
            f"llama-gateway: cannot write {target}: {reason}. Name another place with --output.",
            file=err,
        )
        return 1
    print(f"Collected in {target} (secrets masked; look through it before you share it).", file=out)
    return 0


def _target(output: str | None, name: str) -> Path:
    given = Path(output) if output else Path.cwd()
    return given / f"{name}.tar.gz" if given.is_dir() else given


def _look(environ: Mapping[str, str], config_path: str | None) -> Findings:
    """
    The settings; where they are refused, what can be used of them.
    """
    try:
        return Findings(Settings.load(environ, config_path), "")
    except SettingsError as refused:
        problems = str(refused)
        bad = {name for each in refused.problems for name in each.name.split(", ")}
    good = {name: value for name, value in environ.items() if name not in bad}
    for path, variables in ((config_path, good), (None, _without_file(good)), (None, {})):
        try:
            return Findings(Settings.load(variables, path), problems)
        except SettingsError:
            continue
    return Findings(LoadedSettings(Settings(), dict.fromkeys(Settings.model_fields, "?")), problems)


def _without_file(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name != "GATEWAY_CONFIG"}


def _secrets(settings: Settings, environ: Mapping[str, str]) -> Iterable[str]:
    """
    Every secret that is known here.
    """
    yield from environment_secrets(environ)
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield from environment_secrets({"secret": value.get_secret_value()})
    try:
        text = settings.auth_keys_file.read_text("utf-8", "replace")
    except OSError:
        # Its section says what is wrong with it; then none of its keys is here either.
        return
    yield from keyfile_secrets(text)


def write_archive(target: Path, folder: str, files: Mapping[str, str]) -> None:
    """
    Write a tar.gz whole or not at all, readable for its owner only.

    @param folder: the directory that all files are in.
    @raise OSError: it cannot be written.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with (
            os.fdopen(descriptor, "wb") as raw,
            tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.PAX_FORMAT) as archive,
        ):
            for name, text in files.items():
                content = text.encode("utf-8", "backslashreplace")
                member = tarfile.TarInfo(f"{folder}/{name}")
                member.size = len(content)
                member.mtime = int(time.time())
                member.mode = 0o600
                archive.addfile(member, io.BytesIO(content))
        os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
