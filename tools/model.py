"""What the scripts of this folder share: a model of Hugging Face transformers, its text, its rotary embedding, files."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

# Keys of one token at two positions, turned back in f32, differ by rounding only; a wrong pairing differs by all.
LARGEST_TURN_ERROR = 0.01


def load(path):
    """Model in f32 and tokenizer of a Hugging Face folder or a GGUF file."""
    file = Path(path)
    where = {"gguf_file": file.name} if file.is_file() else {}
    folder = file.parent if file.is_file() else file
    if not folder.is_dir():
        sys.exit(f"{path}: expected a Hugging Face folder or a GGUF file, got nothing there")
    options = {"local_files_only": True, **where}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, **options)
    return model.eval(), tokenizer


def name_of(path):
    return Path(path).resolve().stem.split(".Q")[0]


def all_ids(tokenizer, text):
    return tokenizer(text, return_tensors="pt", verbose=False).input_ids[0]


def check_least(parser, args, **least):
    """Ends with the usage where a number that was given is less than its least."""
    for name, number in least.items():
        value = getattr(args, name)
        if value is not None and value < number:
            parser.error(f"{name}: expected at least {number}, got {value}")


def frequencies(model):
    return model.base_model.rotary_emb.inv_freq.double()


def turned(rows, positions, freqs):
    """rows (heads, count, headDim) rotated by positions (count), half-split pairs; the rest stays."""
    pairs = len(freqs)
    angles = positions.double()[:, None] * freqs
    cos, sin = angles.cos().float(), angles.sin().float()
    first, second, rest = rows[..., :pairs], rows[..., pairs : 2 * pairs], rows[..., 2 * pairs :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def check_rotation(keys, ids, freqs):
    """First layers see tokens alone, so keys of one token at any position agree once they are turned back."""
    back = turned(keys, -torch.arange(len(ids)), freqs)
    _, inverse, counts = ids.unique(return_inverse=True, return_counts=True)
    repeated = counts[inverse] > 1
    if not repeated.any():
        sys.exit("text: expected a token that comes twice, to check the rotation by, got none")
    means = torch.zeros(keys.shape[0], len(counts), keys.shape[2]).index_add_(1, inverse, back)
    means /= counts[None, :, None]
    error = ((back - means[:, inverse])[:, repeated].norm() / back[:, repeated].norm()).item()
    if not error < LARGEST_TURN_ERROR:
        sys.exit(f"model: expected rotary pairs i, i + {len(freqs)} at the frequencies it states, got keys that differ by {error:.3f}")


def write(path, tensors, metadata):
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        save_file(tensors, temporary, {key: str(value) for key, value in metadata.items()})
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    print(f"{path}: {os.path.getsize(path):,} bytes", file=sys.stderr)
