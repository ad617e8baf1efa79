"""
What a bug report needs, one section for each question that would be asked.

A section that cannot be collected says why in its own place and spoils no
other. Nothing here masks secrets: L{twisted_llama.cli.doctor} does, for all.
"""

from __future__ import annotations

import http.client
import os
import platform
import resource
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from attrs import frozen

from twisted_llama import __version__
from twisted_llama.auth.keyfile import parse_keyfile
from twisted_llama.engine.model_file import gguf_problem
from twisted_llama.engine.resolution import resolve_engine
from twisted_llama.errors import StartupError
from twisted_llama.settings import LoadedSettings, Settings, effective
from twisted_llama.telemetry.log_files import (
    ACCESS_LOG,
    BOOT_DIRECTORY,
    LATEST,
    engine_directory,
)

_PACKAGES = (
    *("twisted-llama", "Twisted", "treq", "zope.interface", "attrs", "Automat", "httptools"),
    *("pydantic", "PyYAML", "prometheus-client"),
    *("xllamacpp", "txredisapi", "pyOpenSSL"),
)
_COMMAND_SECONDS = 15
_ANSWER_SECONDS = 3
_LAST_BYTES = 64 * 1024
_MOST_BODY = 512 * 1024
_MOST_KEYFILE = 256 * 1024 * 1024


@frozen
class Findings:
    """
    What the sections look at.

    @ivar loaded: the effective settings; where some are refused, those without
        the refused ones.
    @ivar problems: what is wrong with the settings, if anything.
    """

    loaded: LoadedSettings
    problems: str

    @property
    def settings(self) -> Settings:
        """
        The settings alone.
        """
        return self.loaded.settings


def sections(findings: Findings) -> Iterator[tuple[str, str]]:
    """
    Every section, as the name of its file and its text.
    """
    collectors: dict[str, Callable[[Findings], str]] = {
        "versions.txt": _versions,
        "platform.txt": _platform,
        "settings.txt": _settings,
        "problems.txt": _problems,
        "keyfile.txt": _keyfile,
        "model.txt": _model,
        "engine.txt": _engine,
        "gpu.txt": _gpu,
        "disk.txt": _disk,
        "logs/boot.txt": lambda found: _log(found, BOOT_DIRECTORY),
        "logs/engine.txt": lambda found: _log(
            found, engine_directory(found.settings.log_name, found.settings.worker_type)
        ),
        "logs/access.txt": _access_log,
        "gateway/health.txt": lambda found: _ask(found, "/health"),
        "gateway/ready.txt": lambda found: _ask(found, "/ready"),
        "gateway/metrics.txt": lambda found: _ask(found, "/metrics", "application/json"),
        "gateway/prometheus.txt": lambda found: _ask(found, "/metrics", "text/plain"),
        "gateway/health_port.txt": _health_port,
    }
    for name, collect in collectors.items():
        try:
            text = collect(findings)
        except Exception as problem:
            # One thing that is broken here is what the report is about: go on.
            text = f"could not be collected: {type(problem).__name__}: {problem}"
        yield name, text.rstrip() + "\n"


def _versions(findings: Findings) -> str:
    lines = [f"twisted_llama {__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} not installed")
    return "\n".join(lines)


def _platform(findings: Findings) -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    facts = {
        "platform": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?",
        "user id": os.getuid(),
        "open files": f"{soft}, at most {hard}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "in a container": Path("/.dockerenv").exists() or "KUBERNETES_SERVICE_HOST" in os.environ,
    }
    lines = [f"{name}: {fact}" for name, fact in facts.items()]
    for path in ("/proc/meminfo", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max"):
        if Path(path).is_file():
            lines += ["", path, *Path(path).read_text().splitlines()[:3]]
    return "\n".join(lines)


def _settings(findings: Findings) -> str:
    rows = effective(findings.loaded)
    warnings = [f"warning: {warning}" for warning in findings.loaded.warnings]
    return "\n".join([*(f"{name}={value}  ({source})" for name, value, source in rows), *warnings])


def _problems(findings: Findings) -> str:
    return findings.problems or "none"


def _keyfile(findings: Findings) -> str:
    path = findings.settings.auth_keys_file
    status = path.stat()
    lines = [
        f"path: {path}",
        f"mode: {stat.filemode(status.st_mode)}, owner {status.st_uid}:{status.st_gid}",
        f"size: {status.st_size} bytes",
        f"changed: {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(status.st_mtime))}",
    ]
    if status.st_size > _MOST_KEYFILE:
        return "\n".join([*lines, "not read: it is too large"])
    keyfile = parse_keyfile(path.read_text("utf-8"))
    now = time.time()
    entries = list(keyfile.entries)
    expired = sum(entry.expires is not None and entry.expires <= now for entry in entries)
    lines += [
        f"keys: {len(entries)}, of these {expired} expired",
        f"key ids: {len({entry.key_id for entry in entries})}",
        f"keys with a rate of their own: {sum(e.requests_per_minute is not None for e in entries)}",
        f"bad lines: {len(keyfile.problems)}",
    ]
    return "\n".join([*lines, *(f"  line {p.line}: {p.reason}" for p in keyfile.problems[:100])])


def _model(findings: Findings) -> str:
    settings = findings.settings
    path = settings.model_path
    if path is None and settings.model_name:
        path = settings.models_dir / settings.model_name
    lines = []
    if path is None:
        lines.append("no model is named (MODEL_PATH, MODEL_NAME)")
    elif (problem := gguf_problem(path)) is not None:
        lines.append(f"{path} {problem}")
    else:
        lines.append(f"{path}: GGUF, {path.stat().st_size} bytes")
    lines.append(f"in {settings.models_dir}:")
    if settings.models_dir.is_dir():
        for found in sorted(settings.models_dir.glob("*.gguf"))[:50]:
            lines.append(f"  {found.name} {found.stat().st_size} bytes")
    else:
        lines.append("  no such directory")
    return "\n".join(lines)


def _engine(findings: Findings) -> str:
    settings = findings.settings
    lines = [f"ENGINE={settings.engine}"]
    binary: Path | None = settings.llama_server_bin
    try:
        spec = resolve_engine(settings)
    except StartupError as problem:
        lines.append(f"it would not start: {problem}")
    else:
        lines.append(f"kind: {spec.kind}")
        binary = spec.binary or binary
    if binary is not None:
        lines += [f"program: {binary}", run_command([str(binary), "--version"])]
    return "\n".join(lines)


def _gpu(findings: Findings) -> str:
    found = shutil.which("nvidia-smi")
    if found is None:
        return "no nvidia-smi: CPU, or another maker's GPU"
    return run_command([found])


def _disk(findings: Findings) -> str:
    settings = findings.settings
    lines = []
    for name, path in (
        ("DATA_DIR", settings.data_dir),
        ("MODELS_DIR", settings.models_dir),
        ("LOG_DIR", settings.log_dir),
    ):
        if not path.is_dir():
            lines.append(f"{name} {path}: no such directory")
            continue
        usage = shutil.disk_usage(path)
        writable = "writable" if os.access(path, os.W_OK) else "not writable"
        lines.append(f"{name} {path}: {usage.free} of {usage.total} bytes free, {writable}")
    return "\n".join(lines)


def _log(findings: Findings, directory: str) -> str:
    folder = findings.settings.log_dir / directory
    path = folder / LATEST
    if not path.exists():
        newest = sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime)
        if not newest:
            return f"nothing in {folder}"
        path = newest[-1]
    if path.resolve().parent != folder.resolve():
        # A link to anywhere else is not a log of ours.
        return f"{path} leads out of {folder}"
    return f"{path.resolve()}\n{last_lines(path)}"


def _access_log(findings: Findings) -> str:
    path = findings.settings.log_dir / ACCESS_LOG
    if not path.is_file():
        return f"no {path}"
    return f"{path}\n{last_lines(path)}"


def _ask(findings: Findings, path: str, accept: str = "*/*") -> str:
    settings = findings.settings
    if settings.gateway_endpoint is not None:
        return "not asked: GATEWAY_ENDPOINT is set"
    return get(settings.host, settings.port, path, {"Accept": accept})


def _health_port(findings: Findings) -> str:
    settings = findings.settings
    if settings.health_endpoint is not None:
        return "not asked: HEALTH_ENDPOINT is set"
    return get(settings.host, settings.port_health, "/", {})


def get(host: str, port: int, path: str, headers: Mapping[str, str]) -> str:
    """
    What a server on this machine answers: status line, headers, body.
    """
    if host in ("", "0.0.0.0", "::"):  # nosec B104  # compared, not listened on
        host = "127.0.0.1"
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        body = response.read(_MOST_BODY).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as problem:
        return f"no answer from port {port}: {type(problem).__name__}: {problem}"
    finally:
        connection.close()
    head = "".join(f"{name}: {value}\n" for name, value in response.getheaders())
    return f"{response.status} {response.reason}\n{head}\n{body}"


def run_command(argv: list[str]) -> str:
    """
    What a program prints, with its exit status if that is not 0.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]}: no answer within {_COMMAND_SECONDS} s"
    except OSError as problem:
        return f"{argv[0]}: {problem.strerror or problem}"
    text = done.stdout[-_LAST_BYTES:].decode("utf-8", "replace")
    return text if done.returncode == 0 else f"{text}\nexit status {done.returncode}"


def last_lines(path: Path) -> str:
    """
    The end of a text file, beginning with a whole line.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LAST_BYTES))
        text = file.read().decode("utf-8", "replace")
    return text.partition("\n")[2] if size > _LAST_BYTES else text
