"""
What the mock engine says, in exactly the shapes of llama-server.

Pure: text, counts and times come in, JSON values go out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, Literal

from attrs import frozen

Json = dict[str, Any]
CompletionKind = Literal["chat", "text", "native"]
_DIMENSIONS = 8
_MAX_ECHO_CHARACTERS = 2000


class BadRequest(Exception):
    """
    llama-server would answer 400; C{str()} is its message.
    """


@frozen
class Completion:
    """
    One answer, before it is put into a shape.

    @ivar tokens: its pieces of text, in order.
    @ivar finish_reason: C{stop}, or C{length} if C{max_tokens} cut it.
    """

    kind: CompletionKind
    id: str
    model: str
    created: int
    prompt_tokens: int
    tokens: tuple[str, ...]
    finish_reason: str
    include_usage: bool

    @property
    def text(self) -> str:
        """
        The whole of it.
        """
        return "".join(self.tokens)


def split_tokens(text: str) -> list[str]:
    """
    @return: words, each with the space before it, as tokenizers do.
    """
    words = text.split()
    return [word if at == 0 else f" {word}" for at, word in enumerate(words)]


def prompt_of(request: Mapping[str, Any], kind: CompletionKind) -> str:
    """
    @return: the text that is answered: the last message, or the prompt.
    @raise BadRequest: there is none.
    """
    if kind != "chat":
        prompt = request.get("prompt")
        if prompt is None:
            raise BadRequest('"prompt" must be specified')
        return _flatten(prompt)
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' is required and must be a list of messages")
    last = messages[-1]
    return _flatten(last.get("content") if isinstance(last, dict) else last)


def _flatten(content: object) -> str:
    if isinstance(content, list):
        return " ".join(_flatten(part) for part in content)
    if isinstance(content, dict):
        return str(content.get("text", ""))
    return "" if content is None else str(content)


def answer_tokens(prompt: str, wanted_tokens: int | None, limit: int | None) -> tuple[str, ...]:
    """
    @param wanted_tokens: how long every answer is; L{None} for one sentence.
    @param limit: C{max_tokens} of the request; L{None} or negative for none.
    """
    said = prompt[:_MAX_ECHO_CHARACTERS]
    tokens = split_tokens(f"This is the mock engine. You said: {said}")
    if wanted_tokens is not None:
        tokens = list(islice(cycle([tokens[0], *tokens[1:], " And"]), wanted_tokens))
    if limit is not None and limit >= 0:
        tokens = tokens[:limit]
    return tuple(tokens)


def token_limit(request: Mapping[str, Any]) -> int | None:
    """
    @return: the longest answer that the request allows.
    """
    for name in ("max_completion_tokens", "max_tokens", "n_predict"):
        limit = request.get(name)
        if isinstance(limit, int) and not isinstance(limit, bool):
            return None if limit < 0 else limit
    return None


def usage(completion: Completion, generated: int) -> Json:
    """
    @return: the counts of tokens.
    """
    return {
        "completion_tokens": generated,
        "prompt_tokens": completion.prompt_tokens,
        "total_tokens": completion.prompt_tokens + generated,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def timings(completion: Completion, generated: int, elapsed_ms: float) -> Json:
    """
    @return: llama-server's own measurements.
    """
    elapsed_ms = max(elapsed_ms, 0.001)
    return {
        "cache_n": 0,
        "prompt_n": completion.prompt_tokens,
        "prompt_ms": 1.0,
        "prompt_per_token_ms": 1.0 / max(1, completion.prompt_tokens),
        "prompt_per_second": completion.prompt_tokens * 1000.0,
        "predicted_n": generated,
        "predicted_ms": elapsed_ms,
        "predicted_per_token_ms": elapsed_ms / max(1, generated),
        "predicted_per_second": generated * 1000.0 / elapsed_ms,
    }


def whole_answer(completion: Completion, elapsed_ms: float) -> Json:
    """
    @return: the answer to a request that does not stream.
    """
    generated = len(completion.tokens)
    measured = timings(completion, generated, elapsed_ms)
    if completion.kind == "native":
        return _native_end(completion, completion.text, measured)
    choice: Json = {"finish_reason": completion.finish_reason, "index": 0}
    if completion.kind == "chat":
        choice["message"] = {"role": "assistant", "content": completion.text}
    else:
        choice |= {"text": completion.text, "logprobs": None}
    return {
        "choices": [choice],
        **_frame(completion, is_chunk=False),
        "usage": usage(completion, generated),
        "timings": measured,
    }


def first_chunks(completion: Completion) -> Iterator[Json]:
    """
    @return: what is streamed before the first token.
    """
    if completion.kind == "chat":
        yield _chat_chunk(completion, {"role": "assistant", "content": None}, None)


def token_chunk(completion: Completion, token: str, generated: int) -> Json:
    """
    @return: one token of a stream.
    @param generated: how many there are with this one.
    """
    if completion.kind == "chat":
        return _chat_chunk(completion, {"content": token}, None)
    if completion.kind == "text":
        return _text_chunk(completion, token, None)
    return {
        "index": 0,
        "content": token,
        "tokens": [],
        "stop": False,
        "id_slot": -1,
        "tokens_predicted": generated,
        "tokens_evaluated": completion.prompt_tokens,
    }


def last_chunks(completion: Completion, elapsed_ms: float) -> list[Json]:
    """
    @return: what is streamed after the last token, before C{[DONE]}.
    """
    generated = len(completion.tokens)
    measured = timings(completion, generated, elapsed_ms)
    if completion.kind == "native":
        return [_native_end(completion, "", measured)]
    if completion.kind == "text":
        end = _text_chunk(completion, "", completion.finish_reason)
        return [{**end, "usage": usage(completion, generated), "timings": measured}]
    end = _chat_chunk(completion, {}, completion.finish_reason)
    if not completion.include_usage:
        return [{**end, "timings": measured}]
    counts = {**_chat_chunk(completion, {}, None), "choices": []}
    return [end, {**counts, "usage": usage(completion, generated), "timings": measured}]


def _chat_chunk(completion: Completion, delta: Json, finish_reason: str | None) -> Json:
    choice = {"finish_reason": finish_reason, "index": 0, "delta": delta}
    return {"choices": [choice], **_frame(completion, is_chunk=True)}


def _text_chunk(completion: Completion, text: str, finish_reason: str | None) -> Json:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}
    return {"choices": [choice], **_frame(completion, is_chunk=True)}


def _frame(completion: Completion, *, is_chunk: bool) -> Json:
    kind = "text_completion"
    if completion.kind == "chat":
        kind = "chat.completion.chunk" if is_chunk else "chat.completion"
    return {
        "created": completion.created,
        "id": completion.id,
        "model": completion.model,
        "system_fingerprint": "mock",
        "object": kind,
    }


def _native_end(completion: Completion, content: str, measured: Json) -> Json:
    return {
        "index": 0,
        "content": content,
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": completion.model,
        "tokens_predicted": len(completion.tokens),
        "tokens_evaluated": completion.prompt_tokens,
        "generation_settings": {},
        "prompt": "",
        "has_new_line": False,
        "truncated": False,
        "stop_type": "limit" if completion.finish_reason == "length" else "eos",
        "stopping_word": "",
        "tokens_cached": completion.prompt_tokens + len(completion.tokens),
        "timings": measured,
    }


def sse(value: Json) -> bytes:
    """
    @return: one event of a stream.
    """
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def error(status: int, message: str, kind: str) -> Json:
    """
    @return: an error as llama-server words it.
    """
    return {"error": {"code": status, "message": message, "type": kind}}


def models(model: str, created: int, context_tokens: int) -> Json:
    """
    @return: the list of the one model.
    """
    entry = {
        "id": model,
        "aliases": [model],
        "tags": [],
        "object": "model",
        "created": created,
        "owned_by": "llamacpp",
        "meta": {"n_ctx": context_tokens, "n_ctx_train": context_tokens, "n_params": 0, "size": 0},
    }
    return {"object": "list", "data": [entry]}


def props(model: str, slots: int, context_tokens: int) -> Json:
    """
    @return: what the engine tells about itself.
    """
    return {
        "default_generation_settings": {"params": {}, "n_ctx": context_tokens},
        "total_slots": slots,
        "model_alias": model,
        "model_path": model,
        "modalities": {"vision": False, "audio": False},
        "chat_template": "{{ messages[-1]['content'] }}",
        "build_info": "mock",
        "is_sleeping": False,
    }


def slots(total: int, busy: int, context_tokens: int) -> list[Json]:
    """
    @return: what each slot is doing.
    """
    return [
        {"id": at, "n_ctx": context_tokens, "speculative": False, "is_processing": at < busy}
        for at in range(total)
    ]


def embeddings(request: Mapping[str, Any], model: str) -> Json:
    """
    @return: one made-up vector for each input, the same for the same text.
    @raise BadRequest: there is no input.
    """
    content = request.get("input", request.get("content"))
    if content is None:
        raise BadRequest('"input" or "content" must be provided')
    texts: Sequence[object] = content if isinstance(content, list) else [content]
    counted = sum(len(split_tokens(_flatten(text))) for text in texts)
    return {
        "model": model,
        "object": "list",
        "usage": {"prompt_tokens": counted, "total_tokens": counted},
        "data": [
            {"embedding": _vector(_flatten(text)), "index": at, "object": "embedding"}
            for at, text in enumerate(texts)
        ],
    }


def _vector(text: str) -> list[float]:
    totals = [1.0] * _DIMENSIONS
    for at, byte in enumerate(text.encode()):
        totals[at % _DIMENSIONS] += byte
    length = sum(total * total for total in totals) ** 0.5
    return [total / length for total in totals]


def token_numbers(request: Mapping[str, Any]) -> Json:
    """
    @return: a number for each word, the same for the same word.
    """
    words = split_tokens(_flatten(request.get("content")))
    return {"tokens": [sum(word.encode()) for word in words]}
