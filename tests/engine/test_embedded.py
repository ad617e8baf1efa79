"""
The embedded engine's command line.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.engine.diagnosis import diagnose
from twisted_llama.engine.embedded import apply, read_keys
from twisted_llama.engine.embedded_flags import _BY_NAME, UsageError, parse_flags


def flags(line: str) -> dict[str, object]:
    return {assignment.target: assignment.value for assignment in parse_flags(line.split())}


def test_our_own_command_line(tmp_path: Path) -> None:
    """
    What the supervisor passes is understood.
    """
    line = "-m a.gguf --host 127.0.0.1 --port 9 -c 512 -ngl 99 -t 2 --api-key-file k"
    assert flags(line) == {
        "model.path": "a.gguf",
        "hostnames": ["127.0.0.1"],
        "port": 9,
        "n_ctx": 512,
        "n_gpu_layers": 99,
        "cpuparams.n_threads": 2,
        "cpuparams_batch.n_threads": 2,
        "api_key_file": "k",
    }


def test_words_and_switches() -> None:
    """
    Names of members, switches, and numbers with names.
    """
    line = "-fa on -ctk q8_0 --pooling mean --no-jinja --metrics -ngl all -s -1 -a x,y --fit off"
    assert flags(line) == {
        "flash_attn_type": "LLAMA_FLASH_ATTN_TYPE_ENABLED",
        "cache_type_k": "GGML_TYPE_Q8_0",
        "pooling_type": "LLAMA_POOLING_TYPE_MEAN",
        "use_jinja": False,
        "endpoint_metrics": True,
        "n_gpu_layers": -2,
        "sampling.seed": 0xFFFFFFFF,
        "model_alias": {"x", "y"},
        "fit_params": False,
    }
    assert flags("-ngl 0") == {"n_gpu_layers": 0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--nonsense", "error: invalid argument: --nonsense"),
        ("--api-key x", "error: invalid argument: --api-key"),
        ("-c", "expected value"),
        ("-c many", "invalid value"),
        ("-fa perhaps", "invalid value"),
    ],
)
def test_refusals(line: str, message: str) -> None:
    """
    In words that the diagnosis understands.
    """
    with pytest.raises(UsageError, match=message) as caught:
        parse_flags(line.split())
    assert "argument" in diagnose(1, None, [str(caught.value)])


@given(st.lists(st.sampled_from(sorted(_BY_NAME)) | st.text()))
def test_any_command_line(argv: list[str]) -> None:
    """
    Any command line is understood or refused.
    """
    with suppress(UsageError):
        parse_flags(argv)


class Pooling(Enum):
    """
    As the library's.
    """

    LLAMA_POOLING_TYPE_RANK = 4
    LLAMA_POOLING_TYPE_MEAN = 1


def test_values_are_set(tmp_path: Path) -> None:
    """
    On the right objects, with the library's own members, and the key from its file.
    """
    key_file = tmp_path / "k"
    key_file.write_text("# a comment\n\nsecret\n")
    parameters: Any = SimpleNamespace(model=SimpleNamespace())
    library = SimpleNamespace(llama_pooling_type=Pooling)
    apply(parse_flags(["-m", "a", "--api-key-file", str(key_file)]), parameters, library)
    assert parameters.model.path == "a"
    assert parameters.api_keys == ["secret"]
    apply(parse_flags(["--pooling", "mean"]), parameters, library)
    assert parameters.pooling_type is Pooling.LLAMA_POOLING_TYPE_MEAN
    apply(parse_flags(["--reranking"]), parameters, library)
    assert parameters.pooling_type is Pooling.LLAMA_POOLING_TYPE_RANK
    assert parameters.embedding is True
    with pytest.raises(UsageError, match="cannot read"):
        apply(parse_flags(["--api-key-file", str(tmp_path / "no")]), parameters, library)


def test_keys_of_a_file() -> None:
    """
    One a line.
    """
    assert read_keys(" a \n#b\n\nc") == ["a", "c"]


def test_every_flag_exists_in_the_library(require: Callable[[object, str], None]) -> None:
    """
    A new release that renames something is noticed here.
    """
    require(find_spec("xllamacpp"), "xllamacpp is missing: pip install 'twisted-llama[embedded]'")
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    for flag in _BY_NAME.values():
        for target in flag.targets:
            if target in ("api_key_file", "reranking"):
                continue
            owner = parameters
            for step in target.split("."):
                owner = getattr(owner, step)
        if flag.enum is not None:
            assert hasattr(xllamacpp, flag.enum)
