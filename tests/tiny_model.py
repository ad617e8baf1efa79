"""
A language model of a few hundred kilobytes with random weights, for tests that
need a real engine and no wisdom.

It answers any prompt with random lower-case words, never ends by itself (so
name C{max_tokens}), and takes about a millisecond per token.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import gguf
import numpy

_EMBEDDING = 64
_HEADS = 2
_FEED_FORWARD = 64
_LAYERS = 2
_CONTEXT_TOKENS = 8192
_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
_SYLLABLES = ("la", "ma", "ki", "to", "re", "nu", "so", "vi", "pe", "da")


def _vocabulary() -> tuple[list[str], list[float], list[int]]:
    types = gguf.TokenType
    pieces = [("<unk>", types.UNKNOWN), ("<s>", types.CONTROL), ("</s>", types.CONTROL)]
    pieces += [(f"<0x{byte:02X}>", types.BYTE) for byte in range(256)]
    pieces += [(f"\u2581{syllable}", types.NORMAL) for syllable in _SYLLABLES]
    pieces += [(syllable, types.NORMAL) for syllable in _SYLLABLES]
    pieces += [(letter, types.NORMAL) for letter in "abcdefghijklmnopqrstuvwxyz\u2581"]
    scores = [
        0.0 if kind is not types.NORMAL else -float(at) for at, (_, kind) in enumerate(pieces)
    ]
    return [text for text, _ in pieces], scores, [int(kind) for _, kind in pieces]


def write_tiny_model(path: Path, *, seed: int = 1) -> Path:
    """
    Write the model as a GGUF file of the llama architecture.

    @param seed: another seed is another model.
    @return: the path.
    """
    tokens, scores, kinds = _vocabulary()
    random = numpy.random.default_rng(seed)

    def weights(*shape: int) -> numpy.ndarray:
        return (random.standard_normal(shape) * 0.05).astype(numpy.float32)

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(_CONTEXT_TOKENS)
    writer.add_embedding_length(_EMBEDDING)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_EMBEDDING // _HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(int(gguf.LlamaFileType.ALL_F32))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(_TEMPLATE)

    embedding = weights(len(tokens), _EMBEDDING) * 10
    output = weights(len(tokens), _EMBEDDING) * 10
    # One direction that every state shares says "a syllable": without it, random
    # bytes would make broken UTF-8, and the end of text would come at random.
    embedding[:, 0] = 4.0
    output[:, 0] = -8.0
    first_word = 3 + 256
    output[first_word : first_word + 2 * len(_SYLLABLES), 0] = 8.0

    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", numpy.ones(_EMBEDDING, numpy.float32))
    writer.add_tensor("output.weight", output)
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{norm}.weight", numpy.ones(_EMBEDDING, numpy.float32))
        for square in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}.{square}.weight", weights(_EMBEDDING, _EMBEDDING))
        writer.add_tensor(f"{block}.ffn_gate.weight", weights(_FEED_FORWARD, _EMBEDDING))
        writer.add_tensor(f"{block}.ffn_up.weight", weights(_FEED_FORWARD, _EMBEDDING))
        writer.add_tensor(f"{block}.ffn_down.weight", weights(_EMBEDDING, _FEED_FORWARD))

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@functools.cache
def _keep() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tiny-model-")


@functools.cache
def tiny_model() -> Path:
    """
    @return: the model's file, written once for all tests of one run.
    """
    return write_tiny_model(Path(_keep().name) / "tiny.gguf")
