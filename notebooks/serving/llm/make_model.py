"""Writes a language model with random weights: make_model.py FILE f32|f16|q8_0|q4_0

Its answers mean nothing; its memory and its time are those of any Llama of its size.
"""

import sys

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, INNER, CONTEXT = 512, 6, 8, 1536, 8192
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def vocabulary(writer: gguf.GGUFWriter) -> int:
    """Bytes and letters, as a Llama's tokenizer has them."""
    kind = gguf.TokenType
    tokens = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kind.BYTE) for byte in range(256)]
    tokens += [(sign + letter, kind.NORMAL) for sign in ("\u2581", "") for letter in LETTERS]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([int(each) for _, each in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return len(tokens)


def main(file: str, form: str) -> None:
    """The model, its matrices in this form."""
    writer = gguf.GGUFWriter(file, "llama")
    words = vocabulary(writer)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(words)
    random = np.random.default_rng(0)
    quantized = gguf.GGMLQuantizationType[form.upper()]

    def matrix(name: str, rows: int, columns: int) -> None:
        numbers = random.standard_normal((rows, columns), np.float32) * 0.05
        packed = gguf.quants.quantize(numbers, quantized)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=quantized)

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))

    matrix("token_embd", words, WIDTH)
    matrix("output", words, WIDTH)
    norm("output_norm")
    for layer in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{part}", WIDTH, WIDTH)
        for part in ("ffn_gate", "ffn_up"):
            matrix(f"blk.{layer}.{part}", INNER, WIDTH)
        matrix(f"blk.{layer}.ffn_down", WIDTH, INNER)
        norm(f"blk.{layer}.attn_norm")
        norm(f"blk.{layer}.ffn_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
