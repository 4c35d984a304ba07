"""Weights of a GGUF file without their quantization, for evaluation: python3 scripts/make-f32-model.py [f32|f16] [IN] [OUT]

Quantized weights turn any tiny change of a cache into noise (KL 0.004 with Q4_1); on f32 or f16 weights that floor is
gone. Reads models/SmolLM2-135M-Instruct.Q4_1.gguf (scripts/fetch-model.mjs brings it) unless told otherwise and writes
models/NAME.f32.gguf (540 MB) or models/NAME.f16.gguf (270 MB). Git ignores models/. Needs `pip install gguf`.
"""

import os
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

TYPES = {"f32": (np.float32, 0), "f16": (np.float16, 1)}
ARCHITECTURE, FILE_TYPE = "general.architecture", "general.file_type"
INPUT = "models/SmolLM2-135M-Instruct.Q4_1.gguf"


def copy_keys(reader: GGUFReader, writer: GGUFWriter, file_type: int) -> None:
    """All metadata but what the writer sets itself; how weights are stored is said anew."""
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (ARCHITECTURE, FILE_TYPE, "general.quantization_version"):
            continue
        kind = field.types[0]
        item = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=item)
    writer.add_file_type(file_type)


def main(name: str = "f32", source: str = INPUT, target: str | None = None) -> None:
    if name not in TYPES:
        sys.exit(f"expected f32 or f16, got {name}")
    dtype, file_type = TYPES[name]
    target = target or f"{source.removesuffix('.gguf').rsplit('.', 1)[0]}.{name}.gguf"
    reader = GGUFReader(source)
    writer = GGUFWriter(target + ".part", reader.fields[ARCHITECTURE].contents())
    copy_keys(reader, writer, file_type)
    for tensor in reader.tensors:
        if tensor.tensor_type == GGMLQuantizationType.F32:
            rows = tensor.data
        else:
            rows = dequantize(tensor.data, tensor.tensor_type)
        # Norms stay f32, as llama.cpp's own converter has them.
        writer.add_tensor(tensor.name, np.ascontiguousarray(rows, dtype=np.float32 if rows.ndim < 2 else dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(target + ".part", target)
    print(f"{target} is there now, {os.path.getsize(target)} bytes")


main(*sys.argv[1:])
