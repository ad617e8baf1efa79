"""
Command lines and environments.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.engine.commands import engine_argv, engine_environment, tethered
from twisted_llama.engine.spec import EngineSpec

MODEL = Path("/models/a b.gguf")
KEY_FILE = Path("/dev/shm/k/api-key")


def argv(spec: EngineSpec) -> list[str]:
    return engine_argv(spec, port=9, key_file=KEY_FILE, python="/py")


def test_llama_server() -> None:
    """
    The command line of the contract, threads only if they are set.
    """
    spec = EngineSpec(
        kind="llama-server",
        binary=Path("/bin/ls"),
        model_path=MODEL,
        ctx=512,
        ngl=3,
        threads=2,
        extra_args=("--flash-attn", "on"),
    )
    assert argv(spec) == [
        *("/bin/ls", "-m", "/models/a b.gguf", "--host", "127.0.0.1", "--port", "9"),
        *("-c", "512", "-ngl", "3", "-t", "2", "--api-key-file", str(KEY_FILE)),
        *("--flash-attn", "on"),
    ]


@pytest.mark.parametrize("kind", ["embedded", "mock"])
def test_our_own_programs(kind: str) -> None:
    """
    They run in the same interpreter, with the same arguments.
    """
    made = argv(EngineSpec(kind=kind, model_path=MODEL))  # type: ignore[arg-type]  # a parameter
    assert made[:5] == ["/py", "-m", f"twisted_llama.engine.{kind}", "-m", str(MODEL)]
    assert "-t" not in made


def test_no_model() -> None:
    """
    The mock engine needs none.
    """
    assert argv(EngineSpec(kind="mock"))[3] == "--host"


@pytest.mark.parametrize("kind", ["external", "llama-server"])
def test_nothing_to_run(kind: str) -> None:
    """
    An external engine, and a program that nobody found, have no command line.
    """
    with pytest.raises(ValueError, match="no command line"):
        argv(EngineSpec(kind=kind))  # type: ignore[arg-type]  # a parameter


def test_tether_comes_first() -> None:
    """
    With the process to whose life the child is tied.
    """
    made = tethered(["/x", "y"], python="/py", tether=Path("/t.py"), parent_pid=5)
    assert made == ["/py", "-I", "-S", "/t.py", "5", "/x", "y"]


def test_environment_keeps_what_drives_engines() -> None:
    """
    And nothing that might be a secret, whatever its prefix.
    """
    kept = {"PATH": "a", "HOME": "b", "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C", "GGML_X": "1"}
    secret_names = (
        *("AUTH_KEYS_FILE", "BACKEND_API_KEY", "REDIS_URL", "HF_TOKEN", "X_SECRET", "OTHER"),
        *("CUDA_API_KEY", "NVIDIA_TOKEN", "LC_PASSWORD", "LLAMA_ARG_HOST"),
    )
    dropped = dict.fromkeys(secret_names, "secret")
    assert engine_environment({**kept, **dropped}) == kept


def test_environment_of_python_children() -> None:
    """
    They find this package, and not what lies in the working directory.
    """
    made = engine_environment({"PYTHONPATH": "/mine"}, python_path="/pkg")
    assert made == {"PYTHONPATH": "/pkg:/mine", "PYTHONSAFEPATH": "1"}
    assert engine_environment({}, python_path="/pkg")["PYTHONPATH"] == "/pkg"


@given(st.dictionaries(st.text(), st.text()))
def test_environment_is_a_part(environ: dict[str, str]) -> None:
    """
    Nothing is made up.
    """
    assert engine_environment(environ).items() <= environ.items()
