"""
llama-server's own command-line flags, as far as the embedded engine has them.

Pure: a command line becomes a list of L{Assignment}s, which
L{twisted_llama.engine.embedded} carries out.  Words of errors are
llama-server's, so that one diagnosis reads both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen


class UsageError(Exception):
    """
    A command line that llama-server would refuse; C{str()} is what it prints.
    """


@frozen
class Assignment:
    """
    One thing to set.

    @ivar target: the attribute's path on C{CommonParams}, as C{model.path}.
    @ivar value: what to set it to.
    @ivar enum: if the value is the name of a member, the enumeration's name in
        C{xllamacpp}.
    """

    target: str
    value: object
    enum: str | None = None


@frozen
class _Flag:
    targets: tuple[str, ...]
    convert: Callable[[str], object] | None
    value: object = None
    enum: str | None = None


def _value(convert: Callable[[str], object], *targets: str) -> _Flag:
    return _Flag(targets, convert)


def _switch(value: object, *targets: str) -> _Flag:
    return _Flag(targets, None, value)


def _member(enum: str, prefix: str, names: dict[str, str], target: str) -> _Flag:
    def convert(text: str) -> object:
        return f"{prefix}_{names[text.lower()]}"

    return _Flag((target,), convert, enum=enum)


def _members(*names: str) -> dict[str, str]:
    return {name: name.upper() for name in names}


def _layers(text: str) -> int:
    return {"auto": -1, "all": -2}.get(text) or int(text)


def _seed(text: str) -> int:
    return int(text) & 0xFFFFFFFF


def _switch_word(text: str) -> bool:
    return {"on": True, "off": False, "1": True, "0": False}[text.lower()]


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}


_CACHE_TYPES = _members("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
_FLASH = {"auto": "AUTO", "-1": "AUTO", "on": "ENABLED", "1": "ENABLED", "off": "DISABLED"}
_FLASH |= {"0": "DISABLED"}
_REASONING = {"none": "NONE", "auto": "AUTO", "deepseek": "DEEPSEEK"}
_REASONING |= {"deepseek-legacy": "DEEPSEEK_LEGACY"}

_FLAGS: dict[tuple[str, ...], _Flag] = {
    ("-m", "--model"): _value(str, "model.path"),
    ("-a", "--alias"): _value(_names, "model_alias"),
    ("-mm", "--mmproj"): _value(str, "mmproj.path"),
    ("--host",): _value(lambda text: [text], "hostnames"),
    ("--port",): _value(int, "port"),
    ("--api-key-file",): _value(str, "api_key_file"),
    ("-to", "--timeout"): _value(int, "timeout_read", "timeout_write"),
    ("--threads-http",): _value(int, "n_threads_http"),
    ("-c", "--ctx-size"): _value(int, "n_ctx"),
    ("-ngl", "--gpu-layers", "--n-gpu-layers"): _value(_layers, "n_gpu_layers"),
    ("-mg", "--main-gpu"): _value(int, "main_gpu"),
    ("-sm", "--split-mode"): _member(
        "llama_split_mode",
        "LLAMA_SPLIT_MODE",
        _members("none", "layer", "row", "tensor"),
        "split_mode",
    ),
    ("-fit", "--fit"): _value(_switch_word, "fit_params"),
    ("-t", "--threads"): _value(int, "cpuparams.n_threads", "cpuparams_batch.n_threads"),
    ("-tb", "--threads-batch"): _value(int, "cpuparams_batch.n_threads"),
    ("-np", "--parallel"): _value(int, "n_parallel"),
    ("-kvu", "--kv-unified"): _switch(True, "kv_unified"),
    ("-no-kvu", "--no-kv-unified"): _switch(False, "kv_unified"),
    ("-cb", "--cont-batching"): _switch(True, "cont_batching"),
    ("-nocb", "--no-cont-batching"): _switch(False, "cont_batching"),
    ("-b", "--batch-size"): _value(int, "n_batch"),
    ("-ub", "--ubatch-size"): _value(int, "n_ubatch"),
    ("-n", "--predict", "--n-predict"): _value(int, "n_predict"),
    ("--keep",): _value(int, "n_keep"),
    ("--context-shift",): _switch(True, "ctx_shift"),
    ("--no-context-shift",): _switch(False, "ctx_shift"),
    ("--cache-prompt",): _switch(True, "cache_prompt"),
    ("--no-cache-prompt",): _switch(False, "cache_prompt"),
    ("--cache-reuse",): _value(int, "n_cache_reuse"),
    ("-cram", "--cache-ram"): _value(int, "cache_ram_mib"),
    ("-sps", "--slot-prompt-similarity"): _value(float, "slot_prompt_similarity"),
    ("-fa", "--flash-attn"): _member(
        "llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE", _FLASH, "flash_attn_type"
    ),
    ("-ctk", "--cache-type-k"): _member("ggml_type", "GGML_TYPE", _CACHE_TYPES, "cache_type_k"),
    ("-ctv", "--cache-type-v"): _member("ggml_type", "GGML_TYPE", _CACHE_TYPES, "cache_type_v"),
    ("-nkvo", "--no-kv-offload"): _switch(True, "no_kv_offload"),
    ("-kvo", "--kv-offload"): _switch(False, "no_kv_offload"),
    ("--warmup",): _switch(True, "warmup"),
    ("--no-warmup",): _switch(False, "warmup"),
    ("-s", "--seed"): _value(_seed, "sampling.seed"),
    ("--temp", "--temperature"): _value(float, "sampling.temp"),
    ("--top-k",): _value(int, "sampling.top_k"),
    ("--top-p",): _value(float, "sampling.top_p"),
    ("--min-p",): _value(float, "sampling.min_p"),
    ("--rope-freq-base",): _value(float, "rope_freq_base"),
    ("--rope-freq-scale",): _value(float, "rope_freq_scale"),
    ("--embedding", "--embeddings"): _switch(True, "embedding"),
    ("--pooling",): _member(
        "llama_pooling_type",
        "LLAMA_POOLING_TYPE",
        _members("none", "mean", "cls", "last", "rank"),
        "pooling_type",
    ),
    ("--rerank", "--reranking"): _switch(True, "reranking"),
    ("--chat-template",): _value(str, "chat_template"),
    ("--jinja",): _switch(True, "use_jinja"),
    ("--no-jinja",): _switch(False, "use_jinja"),
    ("--reasoning-format",): _member(
        "common_reasoning_format", "COMMON_REASONING_FORMAT", _REASONING, "reasoning_format"
    ),
    ("--metrics",): _switch(True, "endpoint_metrics"),
    ("--slots",): _switch(True, "endpoint_slots"),
    ("--no-slots",): _switch(False, "endpoint_slots"),
    ("--ui", "--webui"): _switch(True, "ui"),
    ("--no-ui", "--no-webui"): _switch(False, "ui"),
    ("--sleep-idle-seconds",): _value(int, "sleep_idle_seconds"),
    ("--sse-ping-interval",): _value(int, "sse_ping_interval"),
    ("-lv", "--verbosity", "--log-verbosity"): _value(int, "verbosity"),
}
_BY_NAME = {name: flag for names, flag in _FLAGS.items() for name in names}


def parse_flags(argv: Sequence[str]) -> list[Assignment]:
    """
    @return: what to set, in the order given.
    @raise UsageError: an unknown flag, or a value that is missing or bad.
    """
    assignments: list[Assignment] = []
    words = iter(argv)
    for name in words:
        flag = _BY_NAME.get(name)
        if flag is None:
            raise UsageError(f"error: invalid argument: {name}")
        value = flag.value
        if flag.convert is not None:
            text = next(words, None)
            if text is None:
                raise UsageError(
                    f'error while handling argument "{name}": expected value for argument'
                )
            value = _convert(name, flag.convert, text)
        assignments += [Assignment(target, value, flag.enum) for target in flag.targets]
    return assignments


def _convert(name: str, convert: Callable[[str], object], text: str) -> object:
    try:
        return convert(text)
    except (ValueError, KeyError):
        raise UsageError(f'error while handling argument "{name}": invalid value') from None
