"""
The command line and the environment of each kind of child.

Pure: the secret travels in a file, so nothing here ever sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from twisted_llama.engine.spec import EngineSpec

LOOPBACK = "127.0.0.1"
_CHILD_MODULES = {
    "embedded": "twisted_llama.engine.embedded",
    "mock": "twisted_llama.engine.mock",
}
_KEPT_NAMES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH"}
    | {"LD_LIBRARY_PATH", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"}
)
_KEPT_PREFIXES = (
    *("LC_", "CUDA_", "NVIDIA_", "NCCL_", "GGML_", "HIP_", "ROCR_", "ROCM_", "HSA_"),
    *("VK_", "MESA_", "ONEAPI_", "SYCL_", "ZE_", "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_"),
)
_SECRET_NAME = re.compile(r"AUTH|KEY|TOKEN|SECRET|PASSW|CREDENTIAL|REDIS_URL", re.IGNORECASE)


def engine_argv(spec: EngineSpec, *, port: int, key_file: Path, python: str) -> list[str]:
    """
    The command line of a child.

    @param port: the port chosen for this start.
    @param key_file: the file that holds the child's key.
    @param python: the interpreter that runs our own child programs.
    @raise ValueError: the kind has no child.
    """
    argv = _program(spec, python)
    if spec.model_path is not None:
        argv += ["-m", str(spec.model_path)]
    argv += ["--host", LOOPBACK, "--port", str(port), "-c", str(spec.ctx), "-ngl", str(spec.ngl)]
    if spec.threads > 0:
        argv += ["-t", str(spec.threads)]
    return [*argv, "--api-key-file", str(key_file), *spec.extra_args]


def _program(spec: EngineSpec, python: str) -> list[str]:
    if spec.kind in _CHILD_MODULES:
        return [python, "-m", _CHILD_MODULES[spec.kind]]
    if spec.kind == "llama-server" and spec.binary is not None:
        return [str(spec.binary)]
    raise ValueError(f"an engine of kind {spec.kind!r} has no command line")


def tethered(argv: list[str], *, python: str, tether: Path, parent_pid: int) -> list[str]:
    """
    The same command, started by a small program that ties it to our life.

    @param tether: the file of L{twisted_llama.engine.tether}.
    @param parent_pid: the process whose end must be the child's end.
    """
    return [python, "-I", "-S", str(tether), str(parent_pid), *argv]


def engine_environment(
    environ: Mapping[str, str], *, python_path: str | None = None
) -> dict[str, str]:
    """
    What of our environment a child gets: what finds libraries and drives GPUs,
    and nothing that could be a secret.

    @param python_path: where a Python child finds this package, whatever its
        working directory is; L{None} for other programs.
    """
    kept = {name: value for name, value in environ.items() if _is_kept(name)}
    if python_path is not None:
        inherited = kept.get("PYTHONPATH")
        kept["PYTHONPATH"] = f"{python_path}:{inherited}" if inherited else python_path
        # A stray json.py in the working directory must not shadow the real one.
        kept["PYTHONSAFEPATH"] = "1"
    return kept


def _is_kept(name: str) -> bool:
    if _SECRET_NAME.search(name):
        return False
    return name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)
