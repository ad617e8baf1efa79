"""
Settings from the environment and a YAML file: any text.

Promises: there are settings, or a C{SettingsError} whose every problem names a
setting, where it stands, what is wrong and what to do, on one line of visible
characters; nothing else is raised; loading again gives the same; and a secret is
shown nowhere.
"""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

from fuzz.script import read_script
from twisted_llama.settings import LoadedSettings, Settings, SettingsError
from twisted_llama.settings.documentation import describe

NAMES = sorted(Settings.model_fields)
_FEW = [
    "port",
    "cors_origins",
    "trusted_proxies",
    "proxy_extra_paths",
    "gateway_endpoint",
    "auth_enabled",
    "auth",
    "redis_url",
    "backend_api_key",
    "engine",
    "mock_backend",
    "port_backend",
    "backend_host",
    "model_path",
    "extra_args",
    "log_name",
    "worker_type",
    "instance_id",
    "log_format",
    "queue_timeout",
    "max_queue_size",
    "relay_buffer_bytes",
    "ngl",
    "data_dir",
    "backend_port",
    "threads",
]
SECRET = "TOPSECRET"
PIECES = [
    *(name.encode("ascii") for name in _FEW),
    b"\n",
    b"=",
    b": ",
    b"- ",
    b", ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"&a ",
    b"*a",
    b"!!python/name:os.system ",
    b"!x ",
    b"<<: ",
    b"'",
    b'"',
    b"|\n ",
    b"#",
    SECRET.encode("ascii"),
    b"redis://:TOPSECRET@h:1/0",
    b"true",
    b"external",
    b"8000",
    b"-1",
    b"1e999",
    b"0.5",
    b"99999999999999999999",
    b"10.0.0.0/8",
    b"https://a.test:443",
    b"--api-key TOPSECRET",
    b"null",
    b"\xc3\xa9",
    b"\x00",
]
#: Before the first cut are the environment's lines, behind it is the file.
EVENTS = ["cut"]
_PRIVATE = {name for name in NAMES if describe(name).private} | {"extra_args"}
_PRIVATE_LINE = re.compile(rf"({'|'.join(sorted(_PRIVATE))}): .*")


@cache
def directory() -> tempfile.TemporaryDirectory[str]:
    """
    Where the file of all executions is.
    """
    return tempfile.TemporaryDirectory(prefix="fuzz-")


def check(octets: bytes) -> None:
    """
    See the module.
    """
    steps = [s for s in read_script(octets, PIECES, EVENTS) if isinstance(s, bytes)]
    lines = steps[0].decode("utf-8", "surrogateescape").split("\n") if steps else []
    environ = {}
    for line in lines:
        name, mark, value = line.partition("=")
        if mark and "\x00" not in line:
            environ[name.upper()] = value
    text = b"".join(steps[1:])
    path = None
    if text:
        path = f"{directory().name}/gateway.yaml"
        Path(path).write_bytes(text)
    first = load(environ, path)
    assert load(environ, path) == first
    if only_in_private(environ, text):
        assert SECRET not in first, first


def load(environ: dict[str, str], path: str | None) -> str:
    """
    Load once.

    @return: all that an operator would be shown.
    """
    try:
        loaded = Settings.load(environ, path, exists=lambda _: False)
    except SettingsError as error:
        assert error.problems
        for problem in error.problems:
            shown = str(problem)
            assert problem.name
            assert problem.origin
            assert problem.wrong, problem
            assert problem.cure.endswith((".", "!", "?")), problem
            assert shown.isprintable(), repr(shown)
        return str(error)
    return shown_of(loaded)


def shown_of(loaded: LoadedSettings) -> str:
    """
    What is shown of settings that are good.
    """
    assert set(loaded.sources) == set(NAMES)
    assert all(warning and warning.isprintable() for warning in loaded.warnings), loaded.warnings
    # Arguments are shown as a whole, by their name, in places of their own.
    settings = loaded.settings.model_copy(update={"extra_args": ()})
    return f"{settings!r} {settings} {loaded.warnings} {loaded.sources}"


def only_in_private(environ: dict[str, str], text: bytes) -> bool:
    """
    Whether the secret stands only where secrets belong.
    """
    if any(
        SECRET in name or (SECRET in value and name.lower() not in _PRIVATE)
        for name, value in environ.items()
    ):
        return False
    written = text.decode("utf-8", "replace")
    return all(
        _PRIVATE_LINE.fullmatch(line)
        for line in re.split(r"[\r\n\x85\u2028\u2029]", written)
        if SECRET in line
    )
