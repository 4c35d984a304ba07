"""A model's KV cache, or a sample of its queries, through Hugging Face transformers: text in, safetensors out.

    python3 -m venv venv && venv/bin/pip install torch 'transformers==4.57.*' safetensors gguf accelerate
    venv/bin/python tools/dump-transformers.py MODEL TEXT... -o OUT.safetensors --context 8192
    venv/bin/python tools/dump-transformers.py MODEL TEXT... -o SAMPLE.safetensors --query-sample 256

MODEL is a Hugging Face folder or a GGUF file of a model whose attention goes through transformers' attention
interface (Llama, Mistral, Qwen, Phi, Gemma, ...) with rotary embeddings that pair dimension i with i + pairs. Whether
that holds is measured on the first layer before anything is written. Layout of the files: src/engines/dump.ts and
src/engines/query-sample.ts.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from model import all_ids, check_least, check_rotation, frequencies, load, name_of, turned, write
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

TYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
CAPTURE = "svdq_capture"


class Capture:
    """Sees every layer's queries, keys (both after RoPE) and values: (heads, tokens, headDim)."""

    def __init__(self, keep):
        self.keep = keep

    def __call__(self, module, query, key, value, mask, **options):
        self.keep(module.layer_idx, query[0], key[0], value[0])
        return sdpa_attention_forward(module, query, key, value, mask, **options)


def main():
    args = arguments()
    model, tokenizer = load(args.model)
    AttentionInterface.register(CAPTURE, sdpa_attention_forward)
    AttentionMaskInterface.register(CAPTURE, sdpa_mask)
    model.set_attn_implementation(CAPTURE)
    config = model.config.get_text_config()
    layers = chosen_layers(args.layers, config.num_hidden_layers)
    if args.query_sample:
        tensors, metadata = query_sample(model, tokenizer, args, layers)
    else:
        tensors, metadata = cache_dump(model, tokenizer, args, layers)
    common = {
        "model": args.name or name_of(args.model),
        "layers": config.num_hidden_layers,
        "kv_heads": config.num_key_value_heads,
        "query_heads": config.num_attention_heads,
        "rope_layout": "half-split",
        "rope_frequencies": json.dumps(frequencies(model).tolist()),
        "text": args.text_name or ", ".join(Path(text).name for text in args.text),
    }
    write(args.output, tensors, {**common, **metadata})


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face folder or GGUF file")
    parser.add_argument("text", nargs="+", help="UTF-8 text files, read one after the other")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--context", type=int, default=2048, help="tokens of the cache (2048)")
    parser.add_argument("--continue", dest="continuation", type=int, default=256, help="tokens that follow (256)")
    parser.add_argument("--queries", type=int, default=512, help="last context tokens whose queries are kept too (512)")
    parser.add_argument("--skip", type=int, default=0, help="tokens of the text to leave out at its start")
    parser.add_argument("--layers", default="all", help='"all", or numbers with commas')
    parser.add_argument("--type", choices=TYPES, default="f16", help="of what is written; computed in f32 (f16)")
    parser.add_argument("--name", help="of the model, in the metadata (the file's or folder's)")
    parser.add_argument("--text-name", help="of the text, in the metadata (the files')")
    parser.add_argument(
        "--query-sample", type=int, metavar="N",
        help="write N queries a query head instead, before RoPE, evenly from the contexts of all texts",
    )
    args = parser.parse_args()
    check_least(parser, args, context=1, continuation=0, queries=0, skip=0, query_sample=1)
    return args


def chosen_layers(text, count):
    if text == "all":
        return list(range(count))
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) < count for part in parts):
        sys.exit(f'--layers: expected "all" or numbers from 0 to {count - 1} with commas, got {text}')
    return sorted({int(part) for part in parts})


def token_ids(tokenizer, files, skip, count):
    text = "".join(Path(file).read_text(encoding="utf-8") for file in files)
    # A token is a byte at least, except the few that tokenizers put in front.
    ids = all_ids(tokenizer, text)[skip : skip + count]
    if len(ids) < count:
        sys.exit(f"{', '.join(files)}: expected {count} tokens behind the first {skip}, got {len(ids)}")
    return ids


def run(model, ids, keep):
    """One pass without the output layer; keep(layer, queries, keys, values) is called for each layer."""
    limit = model.config.get_text_config().max_position_embeddings
    if len(ids) > limit:
        # The continuation may run past what the model was trained on: its keys are still what it would cache.
        print(f"note: {len(ids)} tokens, the model was made for {limit}", file=sys.stderr)
    AttentionInterface.register(CAPTURE, Capture(keep))
    with torch.inference_mode():
        model.base_model(ids[None], use_cache=False)


def cache_dump(model, tokenizer, args, layers):
    count = args.context + args.continuation
    kept = min(args.queries, args.context) + args.continuation
    ids = token_ids(tokenizer, args.text, args.skip, count)
    tensors = {"tokens": ids.to(torch.int32)}
    first_keys = []

    def keep(layer, query, key, value):
        if layer == 0:
            first_keys.append(key.clone())
        if layer not in layers:
            return
        parts = {"key": key, "value": value}
        if kept > 0:
            parts["query"] = query[:, -kept:]
        for part, tensor in parts.items():
            tensors[f"layers.{layer}.{part}"] = narrowed(f"layers.{layer}.{part}", tensor, args.type)
        print(f"layer {layer} of {model.config.num_hidden_layers}", file=sys.stderr)

    run(model, ids, keep)
    check_rotation(first_keys[0], ids, frequencies(model))
    return tensors, {
        "stored_layers": ",".join(map(str, layers)),
        "context_tokens": args.context,
        "continuation_tokens": args.continuation,
        "head_dim": first_keys[0].shape[2],
        "rope_applied": "true",
        **({"query_first_token": count - kept} if kept > 0 else {}),
    }


def query_sample(model, tokenizer, args, layers):
    """Every text gives the same number of places, evenly over its context, its first quarter left out."""
    rows = {layer: [] for layer in layers}
    positions = []
    shares = [len(part) for part in torch.arange(args.query_sample).tensor_split(len(args.text))]
    for text, share in zip(args.text, shares):
        if share == 0:
            continue
        ids = token_ids(tokenizer, [text], args.skip, args.context)
        places = torch.linspace(args.context // 4, args.context - 1, share).round().long()
        first_keys = []

        def keep(layer, query, key, _value):
            if layer == 0:
                first_keys.append(key.clone())
            if layer in rows:
                rows[layer].append(turned(query[:, places], -places, frequencies(model)))

        run(model, ids, keep)
        check_rotation(first_keys[0], ids, frequencies(model))
        positions.append(places)
        print(text, file=sys.stderr)
    tensors = {"positions": torch.cat(positions).to(torch.int32)}
    for layer, parts in rows.items():
        name = f"layers.{layer}.query"
        tensors[name] = narrowed(name, torch.cat(parts, dim=1), args.type)
    head_dim = tensors[f"layers.{layers[0]}.query"].shape[2]
    return tensors, {"rope_applied": "false", "head_dim": head_dim}


def narrowed(name, tensor, kind):
    out = tensor.to(TYPES[kind]).contiguous()
    if not out.isfinite().all():
        sys.exit(f"{name}: expected numbers that {kind} holds, got {tensor.abs().max().item():.3g}; take --type bf16 or f32")
    return out


if __name__ == "__main__":
    main()
