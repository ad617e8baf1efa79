"""
Reasons in plain words.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.engine.diagnosis import diagnose

NOT_FOUND_MODEL = [
    "0.00.005.162 E gguf_init_from_file: failed to open GGUF file '/secret/x.gguf'",
    "0.00.005.217 E llama_model_load_from_file_impl: failed to load model",
    "0.00.005.865 E srv  llama_server: exiting due to model loading error",
]


@pytest.mark.parametrize(
    ("code", "signal_name", "lines", "expected"),
    [
        (None, "SIGILL", [], "illegal instruction"),
        (None, "SIGILL", ["AMX is not ready to be used!"], "illegal instruction"),
        (1, None, ["AMX is not ready to be used!"], "illegal instruction"),
        (132, None, [], "illegal instruction"),
        (None, "SIGKILL", [], "out of memory"),
        (137, None, [], "out of memory"),
        (1, None, ["ggml_backend_cuda: cudaMalloc failed: out of memory"], "out of memory"),
        (1, None, ["CUDA error: out of memory", "failed to load model"], "out of memory"),
        (1, None, ["failed to allocate buffer of size 123"], "out of memory"),
        (None, "SIGABRT", ["terminate called after throwing 'std::bad_alloc'"], "out of memory"),
        (1, None, NOT_FOUND_MODEL, "bad model file"),
        (1, None, ["invalid magic characters: 'abcd', expected 'GGUF'"], "bad model file"),
        (1, None, ["unknown model architecture: 'new'"], "bad model file"),
        (1, None, ["couldn't bind HTTP server socket, hostname: x, port: 80"], "port taken"),
        (1, None, ["bind(): Address already in use"], "port taken"),
        (
            127,
            None,
            ["x: error while loading shared libraries: libcuda.so.1: cannot open shared object"],
            "missing library: libcuda.so.1",
        ),
        (127, None, ["error: cannot run /x: No such file or directory"], "LLAMA_SERVER_BIN"),
        (126, None, [], "LLAMA_SERVER_BIN"),
        (
            1,
            None,
            ["error: invalid argument: --nonsense"],
            "unknown argument: this engine does not know --nonsense",
        ),
        (1, None, ["error: unknown argument: -zz"], "does not know -zz"),
        (
            1,
            None,
            ['error while handling argument "-c": stoi'],
            "bad argument: this engine does not accept the value given for -c",
        ),
        (None, "SIGSEGV", [], "SIGSEGV"),
        (None, "SIGTERM", [], "did not send"),
        (0, None, [], "by itself"),
        (3, None, ["hello"], "exit code 3"),
        (None, None, [], "exit code None"),
    ],
)
def test_known_ends(
    code: int | None, signal_name: str | None, lines: list[str], expected: str
) -> None:
    """
    Each known end has its reason, on one line, without a path.
    """
    reason = diagnose(code, signal_name, lines)
    assert expected in reason
    assert "\n" not in reason
    assert "/secret" not in reason


@given(
    st.none() | st.integers(),
    st.none() | st.text(),
    st.lists(st.text() | st.sampled_from(NOT_FOUND_MODEL)),
)
def test_never_raises(code: int | None, signal_name: str | None, lines: list[str]) -> None:
    """
    Whatever an engine prints, there is a reason.
    """
    assert diagnose(code, signal_name, lines)


def test_only_the_end_is_judged() -> None:
    """
    A mishap long ago that the engine survived is not the reason.
    """
    assert "exit code 1" in diagnose(1, None, ["failed to load model", *["fine"] * 60])
