"""Models to measure: llamas of any size with random weights in Q4_K_M, and copies of models that never stop by themselves.

Speed depends on neither the weights' values nor on what is written. That a text ends does depend on them: so the rows of the
output matrix that belong to special tokens are zero, and a greedy reader never meets one."""

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy

ALIGNMENT = 32
CONTROL = 3
# Elements and bytes of a block, by ggml's number of the type.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110),
          12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2)}
F32, Q4_K, Q6_K = 0, 12, 14
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
CHAT_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    base: float


SHAPES = {
    "160m": Shape(12, 768, 3072, 12, 12, 32_000, 10_000.0),
    "8b": Shape(32, 4096, 14_336, 32, 8, 128_256, 500_000.0),
}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def key(name: str, kind: int, value) -> bytes:
    body = text(value) if kind == STRING else struct.pack(SCALARS[kind], value)
    return text(name) + struct.pack("<I", kind) + body


def array(name: str, kind: int, values: list) -> bytes:
    body = b"".join(map(text, values)) if kind == STRING else numpy.asarray(values, "<i4").tobytes()
    return text(name) + struct.pack("<IIQ", ARRAY, kind, len(values)) + body


def letters() -> list:
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(rest)) for byte in range(256)]


def word(index: int) -> str:
    """Three to five syllables that no other index has."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    parts = [syllables[index % 60], syllables[index // 60 % 60], syllables[index // 3600 % 60]]
    return "".join(parts)


def write(path: Path, shape: Shape) -> None:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    words = shape.vocabulary - 256 - 1 - len(special)
    tokens = letters() + ["Ġa"] + ["Ġ" + word(index) for index in range(words)] + special
    first = shape.vocabulary - len(special)
    head = shape.width // shape.heads
    keys = [
        key("general.architecture", STRING, "llama"), key("general.name", STRING, "random weights"),
        key("general.file_type", 4, 15), key("general.quantization_version", 4, 2),
        key("llama.context_length", 4, 8192), key("llama.embedding_length", 4, shape.width),
        key("llama.block_count", 4, shape.layers), key("llama.feed_forward_length", 4, shape.inner),
        key("llama.attention.head_count", 4, shape.heads), key("llama.attention.head_count_kv", 4, shape.kv_heads),
        key("llama.rope.dimension_count", 4, head), key("llama.vocab_size", 4, shape.vocabulary),
        key("llama.rope.freq_base", 6, shape.base), key("llama.attention.layer_norm_rms_epsilon", 6, 1e-5),
        key("tokenizer.ggml.model", STRING, "gpt2"), key("tokenizer.ggml.pre", STRING, "llama-bpe"),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.token_type", 5, [1] * first + [CONTROL] * len(special)),
        array("tokenizer.ggml.merges", STRING, ["Ġ a"]),
        key("tokenizer.ggml.bos_token_id", 4, first), key("tokenizer.ggml.eos_token_id", 4, first + 1),
        key("tokenizer.ggml.eot_token_id", 4, first + 4), key("tokenizer.ggml.add_bos_token", 7, True),
        key("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
    ]
    tensors = [("token_embd.weight", (shape.width, shape.vocabulary), Q4_K)]
    keys_width = shape.kv_heads * head
    for layer in range(shape.layers):
        # Which matrices llama.cpp gives more bits in Q4_K_M.
        eighth = shape.layers // 8
        more = Q6_K if layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2 else Q4_K
        for name, dimensions, kind in [
            ("attn_norm", (shape.width,), F32), ("attn_q", (shape.width, shape.width), Q4_K),
            ("attn_k", (shape.width, keys_width), Q4_K), ("attn_v", (shape.width, keys_width), more),
            ("attn_output", (shape.width, shape.width), Q4_K), ("ffn_norm", (shape.width,), F32),
            ("ffn_gate", (shape.width, shape.inner), Q4_K), ("ffn_up", (shape.width, shape.inner), Q4_K),
            ("ffn_down", (shape.inner, shape.width), more),
        ]:
            tensors.append((f"blk.{layer}.{name}.weight", dimensions, kind))
    tensors += [("output_norm.weight", (shape.width,), F32), ("output.weight", (shape.width, shape.vocabulary), Q6_K)]
    # Neither special tokens nor halves of characters are ever the likeliest.
    silent = [*range(0x80, 256), *range(first, shape.vocabulary)]

    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys)
    offset = 0
    for name, dimensions, kind in tensors:
        header += text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)
        offset += -(-size(dimensions, kind) // ALIGNMENT) * ALIGNMENT
    draw = numpy.random.default_rng(7)
    with path.open("wb") as file:
        file.write(header + bytes(-len(header) % ALIGNMENT))
        for name, dimensions, kind in tensors:
            data = weights(draw, dimensions, kind)
            if name == "output.weight":
                data.reshape(dimensions[1], -1)[silent] = 0
            file.write(data.tobytes() + bytes(-data.nbytes % ALIGNMENT))


def size(dimensions, kind: int) -> int:
    elements, bytes_ = BLOCKS[kind]
    count = 1
    for dimension in dimensions:
        count *= dimension
    return count // elements * bytes_


def weights(draw, dimensions, kind: int) -> numpy.ndarray:
    """Random blocks whose values have a standard deviation of about 0.02; norms are one."""
    if kind == F32:
        return numpy.ones(dimensions, "<f4").view(numpy.uint8)
    data = draw.integers(0, 256, size(dimensions, kind), numpy.uint8).reshape(-1, BLOCKS[kind][1])
    half = numpy.float16
    if kind == Q4_K:  # d, dmin, 12 bytes of scales and minima, 128 of quants: d·scale·quant - dmin·minimum
        data[:, 0:4] = numpy.array([1e-4, 7.5e-4], half).view(numpy.uint8)
    if kind == Q6_K:  # 192 bytes of quants, 16 scales, d
        data[:, 208:210] = numpy.array([1.5e-5], half).view(numpy.uint8)
    return data.reshape(-1)


def copy_without_end(source: Path, target: Path) -> None:
    """Copies a model and zeroes the output rows of its special tokens."""
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        read = lambda form: struct.unpack(form, file.read(struct.calcsize(form)))  # noqa: E731
        string = lambda: file.read(read("<Q")[0])  # noqa: E731

        def value(kind: int):
            if kind == STRING:
                return string()
            if kind == ARRAY:
                (inner, count) = read("<IQ")
                return [value(inner) for _ in range(count)]
            return read(SCALARS[kind])[0]

        _, version, tensor_count, key_count = read("<4sIQQ")
        keys = {}
        for _ in range(key_count):
            name = string().decode()
            keys[name] = value(read("<I")[0])
        tensors = {}
        for _ in range(tensor_count):
            name = string().decode()
            dimensions = read(f"<{read('<I')[0]}Q")
            tensors[name] = (dimensions, *read("<IQ"))
        alignment = keys.get("general.alignment", ALIGNMENT)
        data = -(-file.tell() // alignment) * alignment
        dimensions, kind, offset = tensors.get("output.weight") or tensors["token_embd.weight"]
        row = size(dimensions[:1], kind)
        for token, token_type in enumerate(keys["tokenizer.ggml.token_type"]):
            if token_type == CONTROL:
                file.seek(data + offset + token * row)
                file.write(bytes(row))
