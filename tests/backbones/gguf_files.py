"""Small GGUF files of random Llama models, as llama.cpp would write them, and a wheel of one."""

import base64
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
HEADS, KEY_HEADS, WIDTH, LAYERS, POSITIONS = 2, 1, 64, 2, 128
F32, Q4_1 = GGMLQuantizationType.F32, GGMLQuantizationType.Q4_1
CONTROL, NORMAL = 3, 1
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


def small_llama() -> LlamaForCausalLM:
    """Return a random model of some ten thousand parameters, tied embeddings, grouped heads."""
    config = LlamaConfig(
        vocab_size=len(tokens()),
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    for parameter in model.parameters():  # norms are ones, and would hide a missing one
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.arange(len(parameter)) / len(parameter)
    return model.eval()


def tokens() -> list[str]:
    """Return a vocabulary of the special tokens, all bytes, and one merge."""
    return [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "de"]


def write_gguf(
    file: Path,
    model: LlamaForCausalLM,
    kind: GGMLQuantizationType = F32,
    *,
    architecture: str = "llama",
    without: str = "",
    end_token: bool = True,
    pad_token: bool = True,
) -> dict[str, np.ndarray]:
    """Write a model; return the weights that the file holds, by the names of transformers.

    Args:
        file: The file to write.
        model: The model.
        kind: How matrices are stored.
        architecture: What the file calls its architecture.
        without: A tensor to leave out, by its name in the file.
        end_token: Whether the file names an end-of-text token.
        pad_token: Whether it names a padding token.
    """
    writer = GGUFWriter(file, architecture)
    config = model.config
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens())
    writer.add_token_types([CONTROL] * len(SPECIAL) + [NORMAL] * (len(tokens()) - len(SPECIAL)))
    writer.add_token_merges(["d e"])
    writer.add_bos_token_id(1)
    if end_token:
        writer.add_eos_token_id(2)
    if pad_token:
        writer.add_pad_token_id(0)
    held = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # tied: llama.cpp leaves it out
            continue
        weight = tensor.numpy()
        stored = kind if weight.ndim == 2 else F32
        blocks = quants.quantize(_interleaved(name, weight), stored)
        held[name] = _separated(name, quants.dequantize(blocks, stored))
        if _gguf_name(name) != without:
            writer.add_tensor(_gguf_name(name), blocks, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def write_wheel(file: Path, member: str, content: bytes, marker: Path) -> str:
    """Write a wheel with a file, and code that makes ``marker`` if it is run; return its digest."""
    name, version = file.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    files = {
        member: content,
        f"{name}/__init__.py": f"open({str(marker)!r}, 'w').close()\n".encode(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_record(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _record(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def _gguf_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _num_heads(name: str) -> int:
    return {"q_proj": HEADS, "k_proj": KEY_HEADS}.get(name.split(".")[-2], 0)


def _interleaved(name: str, weight: np.ndarray) -> np.ndarray:
    """Return rows of queries and keys in llama.cpp's order: row i of a head beside i + d/2."""
    if not (heads := _num_heads(name)):
        return weight
    parts = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(weight.shape))


def _separated(name: str, weight: np.ndarray) -> np.ndarray:
    if not (heads := _num_heads(name)):
        return weight
    parts = weight.reshape(heads, weight.shape[0] // heads // 2, 2, weight.shape[1])
    return parts.swapaxes(1, 2).reshape(weight.shape)
