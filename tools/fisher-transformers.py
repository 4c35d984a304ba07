"""What errors of cached keys and values cost a model's next token, through Hugging Face transformers: a profile.

    python3 -m venv venv && venv/bin/pip install torch 'transformers==4.57.*' safetensors gguf accelerate
    npx svdq texts -o texts
    venv/bin/python tools/fisher-transformers.py MODEL texts/*.txt -o model.profile

MODEL is a Hugging Face folder or a GGUF file of a model whose rotary embeddings pair dimension i with i + pairs; that is
measured on the first layer before anything is written. Of each text the last tokens (--continue) are scored and up to
--context tokens before them are the cache. Texts should need their context: prose hardly does.

With g the gradient, by the cache, of the log probability of tokens drawn from the model's own predictions, E[g g'] is
the Fisher information: an error e costs e'E[g g']e / 2 nats of KL divergence of the next token. Written are sums over
the cache's tokens, means over scored tokens, draws and texts, for each kv head (src/codec/fisher.ts). `svdq compress
--profile` takes the file, and `svdq profile` joins it with others. Layout: src/engines/profile.ts.
"""

import argparse
import sys
from pathlib import Path

import torch
from model import all_ids, check_least, check_rotation, frequencies, load, name_of, turned, write
from transformers import DynamicCache


def main():
    args = arguments()
    model, tokenizer = load(args.model)
    model.requires_grad_(False)
    torch.manual_seed(args.seed)
    texts = [read(tokenizer, text, args) for text in args.text]
    keys, values = 0, 0
    for name, ids in zip(args.text, texts):
        of_keys, of_values = fisher(model, ids, args)
        keys, values = keys + of_keys / len(texts), values + of_values / len(texts)
        print(name, file=sys.stderr)
    tensors = {}
    for layer in range(len(keys)):
        tensors |= packed(f"layers.{layer}.key_fisher", keys[layer])
        tensors |= packed(f"layers.{layer}.value_fisher", values[layer])
    write(args.output, tensors, {
        "svdq_profile": 1,
        "model": args.name or name_of(args.model),
        "kv_heads": keys.shape[1],
        "head_dim": keys.shape[2],
        "rope_layout": "half-split",
    })


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face folder or GGUF file")
    parser.add_argument("text", nargs="+", help="UTF-8 text files, one measurement each")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--context", type=int, default=1536, help="most tokens of a cache (1536)")
    parser.add_argument("--continue", dest="continuation", type=int, default=64, help="last tokens, which are scored (64)")
    parser.add_argument("--draws", type=int, default=4, help="tokens drawn for each that is scored (4)")
    parser.add_argument("--sinks", type=int, default=4, help="first tokens, left out because caches keep them exact (4)")
    parser.add_argument("--recent", type=int, default=64, help="last tokens of the context, left out likewise (64)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", help="of the model, in the metadata (the file's or folder's)")
    args = parser.parse_args()
    check_least(parser, args, context=1, continuation=1, draws=1, sinks=0, recent=0)
    return args


def read(tokenizer, file, args):
    ids = all_ids(tokenizer, Path(file).read_text(encoding="utf-8"))[-(args.context + args.continuation) :]
    least = args.sinks + args.recent + 1 + args.continuation
    if len(ids) < least:
        sys.exit(f"{file}: expected at least {least} tokens, got {len(ids)}")
    return ids


def fisher(model, ids, args):
    """Of the keys before RoPE and of the values: (layers, kvHeads, headDim, headDim) each."""
    context, scored = ids[: -args.continuation], ids[-args.continuation :]
    cache, leaves = cache_of(model, context)
    check_rotation(leaves[0][0][0].detach(), context, frequencies(model))
    predicted = model(scored[None], past_key_values=cache, use_cache=True).logits[0].log_softmax(-1)
    places = torch.arange(len(scored))
    counted = slice(args.sinks, len(context) - args.recent)
    back = -torch.arange(len(context))[counted]
    sums = [0, 0]
    for draw in range(args.draws):
        drawn = torch.multinomial(predicted.detach().exp(), 1)[:, 0]
        last = draw + 1 == args.draws
        inputs = [leaf for pair in leaves for leaf in pair]
        gradients = torch.autograd.grad(predicted[places, drawn].sum(), inputs, retain_graph=not last)
        for kind in range(2):
            # Scored tokens are drawn on their own, so products of gradients of two of them are 0 on average.
            rows = torch.stack([gradient[0, :, counted] for gradient in gradients[kind::2]])
            if kind == 0:
                rows = turned(rows, back, frequencies(model))
            sums[kind] = sums[kind] + rows.mT @ rows
    return [total / (args.draws * len(scored)) for total in sums]


def cache_of(model, context):
    """The context's cache, and its keys and values layer by layer as what gradients are taken by."""
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(context[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
    leaves = []
    for number, layer in enumerate(cache.layers):
        if layer.keys.shape[2] != len(context):
            sys.exit(f"layer {number}: expected keys of {len(context)} tokens, got {layer.keys.shape[2]}: a window slides")
        layer.keys, layer.values = (part.detach().clone().requires_grad_() for part in (layer.keys, layer.values))
        leaves.append((layer.keys, layer.values))
    return cache, leaves


def packed(name, squares):
    """Upper triangles of (kvHeads, headDim, headDim) by row, in f16 over each head's largest element."""
    rows, columns = torch.triu_indices(*squares.shape[1:])
    scales = squares.abs().amax(dim=(1, 2))
    if not squares.isfinite().all():
        sys.exit(f"{name}: expected finite numbers, got {scales.max().item()}")
    triangles = squares[:, rows, columns] / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    return {name: triangles.half().contiguous(), f"{name}_scale": scales.contiguous()}


if __name__ == "__main__":
    main()
