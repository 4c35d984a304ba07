#!/usr/bin/env python3
"""A second reader of archive versions 1 to 4, written from docs/format.md alone; Python's standard library only.
For version 4, whose basis rows lie in a profile, -p names that archive.

    python3 read_archive.py FILE            checks FILE and prints what its header says, as JSON
    python3 read_archive.py FILE -o OUT     also writes all tensors to OUT: f32, for each layer keys, then values,
                                            (kvHeads, tokenCount, headDim)

FILE may be chunks of tokens as well, one after the other. Exit code 1 and a message on stderr where FILE is not sound.
"""

import json
import math
import re
import struct
import sys
import zlib
from array import array

MAGIC = b"SVDQ\r\n\x1a\n"
KINDS = ("normal", "uniform")
UPPER_HALVES = {
    1: [0.797884560803],
    2: [0.452780034636, 1.510417608499],
    4: [0.128395029851, 0.38804829949, 0.656759118532, 0.942340456487, 1.256231197347, 1.618046386022,
        2.069017226531, 2.732589570995],
}
ELEMENT_BYTES = {"f32": 4, "f16": 2, "bf16": 2}
BLOCK_TOKENS = 32
PLANE_BYTES = 16


class Unsound(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Unsound(what)


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def round_up(x):
    return (x + 15) // 16 * 16


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def is_integer(x, low, high):
    return type(x) is int and low <= x <= high


class Cursor:
    """Reads a section from its start to its end."""

    def __init__(self, name, data):
        self.name, self.data, self.at = name, data, 0

    def take(self, size):
        check(self.at + size <= len(self.data), f"{self.name}: {size} bytes expected at {self.at}")
        self.at += size
        return self.data[self.at - size:self.at]

    def numbers(self, kind, count):
        return list(struct.unpack(f"<{count}{kind}", self.take(count * struct.calcsize(kind))))

    def end(self):
        check(self.at == len(self.data), f"{self.name}: {len(self.data) - self.at} bytes too many")


# ---------------------------------------------------------------------------------------------------------- head


def read_head(data):
    check(data[:8] == MAGIC, "magic")
    check(len(data) >= 32, "shorter than a preamble")
    version, header_bytes, file_bytes, header_crc, preamble_crc = struct.unpack_from("<IIQII", data, 8)
    check(version in (1, 2, 3, 4), f"version {version}")
    check(crc32c(data[:28]) == preamble_crc, "checksum of the preamble")
    check(file_bytes == len(data), f"length: {file_bytes} bytes expected")
    check(32 + header_bytes <= len(data), "header longer than the file")
    text = data[32:32 + header_bytes]
    check(crc32c(text) == header_crc, "checksum of the header")
    try:
        header = json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise Unsound(f"header: {error}") from None
    check_header(header)
    check(version >= 3 or type(header["anchorSpan"]) is not list, "anchorSpan: a list before version 3")
    check(version < 4 or type(header.get("profile")) is str, "profile")
    if version >= 2:
        check_segments(header, version)
    first = round_up(32 + header_bytes)
    return header, read_table(data, header, 32 + header_bytes, first)


def check_header(h):
    check(type(h) is dict, "header: no object")
    try:
        geometry, rotary = h["geometry"], h["rotary"]
        layers, heads, dim = geometry["layerCount"], geometry["kvHeads"], geometry["headDim"]
        check(type(h["model"]) is str and type(h["fingerprint"]) is str, "model or fingerprint")
        check(is_integer(layers, 1, 1024) and is_integer(heads, 1, 32), "layerCount or kvHeads")
        check(is_integer(dim, 32, 256) and dim % 4 == 0, "headDim")
        check(rotary["layout"] in ("half-split", "interleaved"), "rotary.layout")
        check(is_integer(rotary["pairs"], 0, dim // 2), "rotary.pairs")
        numbers = h["layerNumbers"]
        check(type(numbers) is list and all(is_integer(n, 0, 65535) for n in numbers), "layerNumbers")
        check(len(numbers) == layers == len(set(numbers)), "layerNumbers: how many, or some alike")
        check(is_integer(h["tokenCount"], 0, 2**31 - 1), "tokenCount")
        check(is_integer(h["sinks"], 0, h["tokenCount"]), "sinks")
        check(is_integer(h["recent"], 0, h["tokenCount"] - h["sinks"]), "recent")
        check(h["exactType"] in ELEMENT_BYTES, "exactType")
        span = h["anchorSpan"]
        spans = span if type(span) is list else [span]
        check(all(s is None or (is_integer(s, 1, 1 << 24) and s & (s - 1) == 0) for s in spans), "anchorSpan")
        check(type(span) is not list or len(span) == rotary["pairs"] and len(set(span)) > 1, "spans of pairs")
        check(h["layout"]["blockTokens"] == BLOCK_TOKENS and h["layout"]["planeBytes"] == PLANE_BYTES, "layout")
        check(type(h["sections"]) is list, "sections")
    except (KeyError, TypeError) as error:
        raise Unsound(f"header: {error!r}") from None


def check_segments(h, version):
    segments, layers = h.get("segments"), h["geometry"]["layerCount"]
    coded = h["tokenCount"] - h["sinks"] - h["recent"]
    check(type(segments) is list and len(segments) == layers, "segments")
    for counts in segments:
        check(type(counts) is list and len(counts) > 0, "segments of a layer")
        check(all(is_integer(n, 0, coded) for n in counts) and sum(counts) == coded, "tokens of segments")
    check(version > 2 or any(len(counts) > 1 for counts in segments), "one segment each in version 2")


def segments_of(data, header, layer, coded):
    """Coded tokens of each segment; version 1 ignores a field of that name."""
    return header["segments"][layer] if data[8] >= 2 else [coded]


def read_table(data, header, end, first):
    """Bytes of each section by (kind, layer), checksums right."""
    rows = header["sections"]
    has_tokens = len(rows) > 1 and type(rows[1]) is dict and rows[1].get("kind") == "tokens"
    names = [("frequencies", None)] + [("tokens", None)] * has_tokens
    for layer in range(header["geometry"]["layerCount"]):
        names += [(kind, layer) for kind in ("keys", "values", "exact-keys", "exact-values")]
    for layer in range(header["geometry"]["layerCount"] if data[8] >= 3 else 0):
        names += [(kind, layer) for kind in ("keys-rest", "values-rest")]
    check(len(rows) == len(names), f"{len(names)} sections expected, got {len(rows)}")
    sections = {}
    at = first
    for row, (kind, layer) in zip(rows, names):
        check(type(row) is dict and row.get("kind") == kind and row.get("layer") == layer, f"section {kind} {layer}")
        at = round_up(at)
        check(row.get("offset") == at - first, f"{kind} {layer}: offset {at - first} expected")
        check(is_integer(row.get("bytes"), 0, len(data) - at), f"{kind} {layer}: bytes")
        check(not any(data[end:at]), f"padding before {kind} {layer}")
        end = at + row["bytes"]
        section = data[at:end]
        check(crc32c(section) == row.get("crc32c"), f"{kind} {layer}: checksum")
        sections[kind, layer] = section
        at = end
    check(end == len(data), "bytes after the last section")
    return sections


def fingerprint_of(header, frequencies):
    geometry = header["geometry"]
    names = [header["model"], geometry["layerCount"], geometry["kvHeads"], geometry["headDim"],
             header["rotary"]["layout"], header["layerNumbers"]]
    text = json.dumps(names, separators=(",", ":"), ensure_ascii=False)
    text = re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)
    data = text.encode() + struct.pack(f"<{len(frequencies)}d", *frequencies)
    return f"{crc32c(data):08x}{zlib.crc32(data):08x}"


# --------------------------------------------------------------------------------------------------------- groups


def read_group(cursor, rest, header, coded, next_head, is_keys, held):
    heads, head_dim = header["geometry"]["kvHeads"], header["geometry"]["headDim"]
    first, count, n, flags = cursor.numbers("H", 4)
    check(first == next_head and 1 <= count <= heads - first, f"{cursor.name}: heads")
    check(flags & ~(7 if rest else 3) == 0, f"{cursor.name}: flags")
    dim = count * head_dim
    rows = None
    if held is not None:
        check(flags & 2 == 0, f"{cursor.name}: column scales beside a profile's")
        own = [group for group in held if (group["firstHead"], group["headCount"]) == (first, count)]
        check(own, f"{cursor.name}: no such group in the profile")
        rows = own[0]["rows"]
    group = {"firstHead": first, "headCount": count, "dim": dim}
    widths, group["levels"], group["rows"] = read_channels(cursor, n, dim, flags, rows)
    columns = halves(cursor, dim) if flags & 2 else [1.0] * dim
    check(all(c > 0 for c in columns), f"{cursor.name}: column scales")
    if is_keys:
        group["centre"] = halves(cursor, dim)
    else:
        least, step = cursor.numbers("f", 2)
        check(math.isfinite(least) and least >= 0 and math.isfinite(step) and step >= 1, f"{cursor.name}: norms")
        group["norm steps"] = (least, step)
        group["norms"] = norms_of(least, step, cursor.take(coded))
    if flags & 4:
        group["codes"] = read_stream(cursor, widths, coded)
        (m,) = rest.numbers("H", 1)
        more_widths, levels, more_rows = read_channels(rest, m, dim, flags, rows)
        group["levels"] += levels
        group["rows"] += more_rows
        group["codes"] += read_stream(rest, more_widths, coded)
        widths = widths + more_widths
    else:
        group["codes"] = read_planes(cursor, widths, coded)
    check(len(widths) <= dim and widths == sorted(widths, reverse=True), f"{cursor.name}: widths")
    group["rows"] = [[f32(x * c) for x, c in zip(row, columns)] for row in group["rows"]]
    return group


def read_channels(cursor, n, dim, flags, held):
    """Widths, levels and rows of n channels."""
    check(n <= dim, f"{cursor.name}: channels")
    widths = cursor.numbers("B", n)
    check(all(w in (1, 2, 4, 8) for w in widths), f"{cursor.name}: widths")
    kinds = cursor.numbers("B", n)
    scales = cursor.numbers("f", n)
    offsets = cursor.numbers("f", n) if flags & 1 else [0.0] * n
    check(all(k < 2 and not (k == 0 and w == 8) for k, w in zip(kinds, widths)), f"{cursor.name}: kinds")
    check(all(math.isfinite(s) and s >= 0 for s in scales), f"{cursor.name}: scales")
    check(all(math.isfinite(o) for o in offsets), f"{cursor.name}: offsets")
    levels = [levels_of(*book) for book in zip(widths, kinds, scales, offsets)]
    return widths, levels, read_rows(cursor, n, dim) if held is None else held_rows(cursor, n, held)


class Model:
    """Frequencies of the nibbles met so far."""

    def __init__(self):
        self.below = [2048 * i for i in range(16)]
        self.seen = 0

    def decode(self, coder):
        state = coder.states[coder.next % 4]
        slot = state % 32768
        nibble = max(i for i in range(16) if self.below[i] <= slot)
        own = (self.below + [32768])[nibble + 1] - self.below[nibble]
        state = own * (state // 32768) + slot - self.below[nibble]
        if state < 65536:
            state = state * 65536 + coder.word()
        coder.states[coder.next % 4] = state
        coder.next += 1
        rate = 32768 // (self.seen + 2)
        for i in range(16):
            target = 4 * i + (32704 if i > nibble else 0)
            self.below[i] += ((target - self.below[i]) * rate + 16384) // 32768
        self.seen = min(self.seen + 1, 126)
        return nibble


class Coder:
    def __init__(self, name, data):
        check(len(data) >= 16 and len(data) % 2 == 0, f"{name}: length of a range code")
        self.name, self.next = name, 0
        self.states = list(struct.unpack("<4I", data[:16]))
        self.words = list(struct.unpack(f"<{len(data) // 2 - 8}H", data[16:]))[::-1]

    def word(self):
        check(self.words, f"{self.name}: a range code ends early")
        return self.words.pop()

    def end(self):
        check(not self.words and self.states == [65536] * 4, f"{self.name}: end of a range code")


def read_stream(cursor, widths, coded):
    """Codes, a list of `coded` a channel."""
    (size,) = cursor.numbers("I", 1)
    stream = Cursor(f"{cursor.name}: stream", cursor.take(size))
    models = [[Model() for _ in range(17 if width == 8 else 1)] for width in widths]
    codes = [[] for _ in widths]
    for first in range(0, coded if widths else 0, 1024):
        coder = Coder(stream.name, stream.take(stream.numbers("I", 1)[0]))
        for _ in range(min(1024, coded - first)):
            for width, mine, out in zip(widths, models, codes):
                code = mine[0].decode(coder)
                if width == 8:
                    code = 16 * code + mine[1 + code].decode(coder)
                check(code < 2**width, f"{stream.name}: a code past its book")
                out.append(code)
        coder.end()
    stream.end()
    return codes


def levels_of(width, kind, scale, offset):
    last = 2**width - 1
    if KINDS[kind] == "uniform":
        units = [f32((2 * i - last) / last) for i in range(last + 1)]
    else:
        upper = [f32(x) for x in UPPER_HALVES[width]]
        units = [-x for x in reversed(upper)] + upper
    return [f32(offset + f32(scale * unit)) for unit in units]


def read_rows(cursor, n, dim):
    widths = cursor.numbers("B", n)
    check(all(2 <= w <= 12 for w in widths), f"{cursor.name}: basis widths")
    scales = cursor.numbers("f", n)
    check(all(math.isfinite(s) for s in scales), f"{cursor.name}: basis scales")
    rows = []
    for width, scale in zip(widths, scales):
        bits = int.from_bytes(cursor.take((dim * width + 7) // 8), "little")
        check(bits >> (dim * width) == 0, f"{cursor.name}: bits after a basis row")
        codes = [(bits >> (i * width)) & (2**width - 1) for i in range(dim)]
        signed = [code - 2**width if code >> (width - 1) else code for code in codes]
        rows.append([f32(code * scale) for code in signed])
    return rows


def held_rows(cursor, n, held):
    """Rows of the profile's group, column scales and all, by the numbers that stand in place of scales."""
    check(all(w == 0 for w in cursor.numbers("B", n)), f"{cursor.name}: basis widths beside a profile's rows")
    numbers = cursor.numbers("f", n)
    check(all(x in range(len(held)) for x in numbers), f"{cursor.name}: rows of the profile")
    return [held[int(x)] for x in numbers]


def halves(cursor, count):
    values = cursor.numbers("e", count)
    check(all(math.isfinite(x) for x in values), f"{cursor.name}: an f16 that is not finite")
    return values


def norms_of(least, step, codes):
    levels, level = [0.0], least
    for _ in range(255):
        level *= step
        check(level < 3.4028235677973366e38, "norms past f32")
        levels.append(f32(level))
    return [levels[code] for code in codes]


def read_planes(cursor, widths, coded):
    """Codes, a list of `coded` a channel."""
    blocks = (coded + BLOCK_TOKENS - 1) // BLOCK_TOKENS
    # Channels and shifts of their parts in each plane of a block; a part is (channel, shift up, shift down, bits).
    planes, c = [], 0
    while c < len(widths):
        width = widths[c]
        if width == 8:
            planes += [[(c, 4, 0, 4)], [(c, 0, 0, 4)]]
            c += 1
        else:
            together = [i for i in range(c, min(c + 4 // width, len(widths))) if widths[i] == width]
            planes.append([(channel, 0, width * k, width) for k, channel in enumerate(together)])
            c += len(together)
    codes = [[0] * coded for _ in widths]
    for block in range(blocks):
        for parts in planes:
            plane = cursor.take(PLANE_BYTES)
            for i in range(BLOCK_TOKENS):
                nibble = plane[i % 16] >> (4 if i >= 16 else 0) & 15
                token = BLOCK_TOKENS * block + i
                for channel, up, down, bits in parts if token < coded else []:
                    part = nibble >> down & (2**bits - 1)
                    codes[channel][token] |= part << up
                    nibble &= ~((2**bits - 1) << down)
                check(nibble == 0, f"{cursor.name}: free places of planes")
    return codes


def read_groups(sections, role, layer, header, segments, held):
    """Groups of each segment; held: those of the profile that has their rows, or None."""
    cursor = Cursor(f"{role} {layer}", sections[role, layer])
    rest_data = sections.get((f"{role}-rest", layer))
    rest = None if rest_data is None else Cursor(f"{role}-rest {layer}", rest_data)
    all_groups = [read_segment(cursor, rest, header, coded, role == "keys", held) for coded in segments]
    cursor.end()
    if rest:
        rest.end()
    return all_groups


def read_segment(cursor, rest, header, coded, is_keys, held=None):
    groups, head = [], 0
    while head < header["geometry"]["kvHeads"]:
        groups.append(read_group(cursor, rest, header, coded, head, is_keys, held))
        head += groups[-1]["headCount"]
    return groups


# -------------------------------------------------------------------------------------------------------- tensors


def rows_of(group, coded):
    """Rows of the coded tokens: centre, or 0, and the sum over channels."""
    latents = [[levels[code] for code in codes] for levels, codes in zip(group["levels"], group["codes"])]
    centre = group.get("centre", [0.0] * group["dim"])
    columns = list(zip(*group["rows"])) or [()] * group["dim"]
    for token in range(coded):
        latent = [channel[token] for channel in latents]
        yield [c + sum(map(float.__mul__, latent, column)) for c, column in zip(centre, columns)]


def rotate(row, position, token, header, frequencies):
    """By the anchor of each pair; `token` counts from the segment's first, which lies at `position`."""
    head_dim, pairs = header["geometry"]["headDim"], header["rotary"]["pairs"]
    interleaved = header["rotary"]["layout"] == "interleaved"
    span = header["anchorSpan"]
    spans = span if type(span) is list else [span] * pairs
    for start in range(0, len(row), head_dim):
        for i, frequency in enumerate(frequencies):
            u, v = (start + 2 * i, start + 2 * i + 1) if interleaved else (start + i, start + i + pairs)
            if spans[i] is None:
                continue
            anchor = position + token - token % spans[i]
            cos, sin = math.cos(anchor * frequency), math.sin(anchor * frequency)
            row[u], row[v] = row[u] * cos - row[v] * sin, row[v] * cos + row[u] * sin


def tensor_of(header, frequencies, segments, all_groups, exact, is_keys):
    """(kvHeads, tokenCount, headDim) f32."""
    heads, head_dim = header["geometry"]["kvHeads"], header["geometry"]["headDim"]
    tokens, sinks, recent = (header[name] for name in ("tokenCount", "sinks", "recent"))
    out = array("f", bytes(4 * heads * tokens * head_dim))
    starts = [sinks + sum(segments[:i]) for i in range(len(segments))]
    parts = [(start, coded, group) for start, coded, groups in zip(starts, segments, all_groups) for group in groups]
    for start, coded, group in parts:
        for t, row in enumerate(rows_of(group, coded)):
            if is_keys:
                rotate(row, start, t, header, frequencies)
            if not is_keys:
                row = [group["norms"][t] * x for x in row]
            for h in range(group["headCount"]):
                at = ((group["firstHead"] + h) * tokens + start + t) * head_dim
                out[at:at + head_dim] = array("f", row[h * head_dim:(h + 1) * head_dim])
    kept = sinks + recent
    for h in range(heads):
        for k in range(kept):
            at = (h * tokens + (k if k < sinks else tokens - kept + k)) * head_dim
            out[at:at + head_dim] = array("f", exact[(h * kept + k) * head_dim:(h * kept + k + 1) * head_dim])
    return out


def exact_elements(name, data, header):
    heads, head_dim = header["geometry"]["kvHeads"], header["geometry"]["headDim"]
    count = heads * (header["sinks"] + header["recent"]) * head_dim
    kind = header["exactType"]
    check(len(data) == count * ELEMENT_BYTES[kind], f"{name}: length")
    if kind == "bf16":
        bits = struct.unpack(f"<{count}H", data)
        values = struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(b << 16 for b in bits)))
    else:
        values = struct.unpack(f"<{count}{'f' if kind == 'f32' else 'e'}", data)
    check(all(map(math.isfinite, values)), f"{name}: not finite")
    return values


def read_profile(data):
    """Its name as archives have it, and the groups of (role, layer's number)."""
    header, sections = read_head(data)
    check(data[8] == 1 and header["tokenCount"] == 0, "no profile: an archive without tokens, in one segment")
    text = header["fingerprint"].encode()
    groups = {}
    for layer, number in enumerate(header["layerNumbers"]):
        for role in ("keys", "values"):
            text += sections[role, layer]
            (groups[role, number],) = read_groups(sections, role, layer, header, [0], None)
    return f"{crc32c(text):08x}{zlib.crc32(text):08x}", groups


def read_archive(data, profile=None):
    """The header, and a pair (keys, values) of f32 arrays a layer."""
    header, sections = read_head(data)
    cursor = Cursor("frequencies", sections["frequencies", None])
    frequencies = cursor.numbers("d", header["rotary"]["pairs"])
    cursor.end()
    check(all(-math.pi <= f <= math.pi for f in frequencies), "frequencies")
    check(fingerprint_of(header, frequencies) == header["fingerprint"], "fingerprint")
    if ("tokens", None) in sections:
        cursor = Cursor("tokens", sections["tokens", None])
        header["tokens"] = cursor.numbers("i", header["tokenCount"])
        cursor.end()
    coded = header["tokenCount"] - header["sinks"] - header["recent"]
    name, held = ("none", {}) if profile is None else read_profile(profile)
    check(data[8] < 4 or header["profile"] == name, f"profile {header.get('profile')} expected, got {name}")
    layers = []
    for layer, number in enumerate(header["layerNumbers"]):
        tensors, segments = [], segments_of(data, header, layer, coded)
        for kind in ("keys", "values"):
            own = held.get((kind, number), []) if data[8] == 4 else None
            groups = read_groups(sections, kind, layer, header, segments, own)
            exact = exact_elements(f"exact-{kind} {layer}", sections[f"exact-{kind}", layer], header)
            tensors.append(tensor_of(header, frequencies, segments, groups, exact, kind == "keys"))
        layers.append(tuple(tensors))
    return header, layers


# --------------------------------------------------------------------------------------------------------- chunks


def open_chunks(data):
    """Header and body of each chunk, checksums and links right."""
    chunks, at, link = [], 0, 0
    while at < len(data):
        check(len(data) - at >= 32 and data[at:at + 8] == b"SVDC\r\n\x1a\n", "magic of a chunk")
        version, header_bytes, chunk_bytes, linked, crc = struct.unpack_from("<IIQII", data, at + 8)
        check(version == 1 and 32 + header_bytes <= chunk_bytes <= len(data) - at, "version or length of a chunk")
        chunk = data[at:at + chunk_bytes]
        check(crc32c(chunk[:28] + chunk[32:]) == crc, "checksum of a chunk")
        check(linked == link, "link of a chunk")
        try:
            header = json.loads(chunk[32:32 + header_bytes].decode("utf-8"))
        except ValueError as error:
            raise Unsound(f"header of a chunk: {error}") from None
        chunks.append((header, Cursor(f"chunk {len(chunks)}", chunk[32 + header_bytes:])))
        at, link = at + chunk_bytes, crc
    return chunks


def read_pieces(body, pieces, segments, header):
    """Adds to segments: lists of tokens and, of keys and values, groups with the bytes of their codes."""
    for begins, count in pieces:
        if begins:
            keys, values = begin_groups(body, header, True), begin_groups(body, header, False)
            segments.append({"tokens": 0, "keys": keys, "values": values})
        segment = segments[-1]
        segment["tokens"] += count
        for group in segment["keys"] + segment["values"]:
            if "norm steps" in group:
                group["norms"] += norms_of(*group["norm steps"], body.take(count))
            if group["leading"] is None:
                group["codes"] = [a + b for a, b in zip(group["codes"], read_planes(body, group["widths"], count))]
            else:
                for part in group["parts"]:
                    part += body.take(body.numbers("I", 1)[0])


def begin_groups(body, header, is_keys):
    groups, head = [], 0
    while head < header["geometry"]["kvHeads"]:
        _, _, n, flags = struct.unpack_from("<4H", body.data, body.at)
        group = read_group(body, body, header, 0, head, is_keys, None)
        group["widths"] = [len(levels).bit_length() - 1 for levels in group["levels"]]
        group["leading"], group["parts"] = (n if flags & 4 else None), (bytearray(), bytearray())
        groups.append(group)
        head += group["headCount"]
    return groups


def end_streams(segment):
    for group in segment["keys"] + segment["values"]:
        if group["leading"] is None:
            continue
        widths = group["widths"][:group["leading"]], group["widths"][group["leading"]:]
        sized = [Cursor("stream", struct.pack("<I", len(part)) + part) for part in group["parts"]]
        group["codes"] = [code for c, w in zip(sized, widths) for code in read_stream(c, w, segment["tokens"])]


def read_chunks(data):
    """As read_archive."""
    chunks = open_chunks(data)
    first, last = chunks[0][0], chunks[-1][0]
    header = {**first["shared"], "tokenCount": last["tokenTo"], "recent": last["recent"], "sections": []}
    check_header(header)
    geometry, end, tokens = header["geometry"], 0, []
    layers = [{"segments": [], "keys": [], "values": []} for _ in range(geometry["layerCount"])]
    for i, (own, body) in enumerate(chunks):
        check(own["tokenFrom"] == end, "tokens of a chunk")
        end = own["tokenTo"]
        if i == 0:
            frequencies = body.numbers("d", header["rotary"]["pairs"])
        if own["hasTokens"]:
            tokens += body.numbers("i", end - own["tokenFrom"])
        exact_tokens = (header["sinks"] if i == 0 else 0) + own["recent"]
        size = exact_tokens * geometry["headDim"] * ELEMENT_BYTES[header["exactType"]]
        for layer, pieces in zip(layers, own["pieces"]):
            read_pieces(body, pieces, layer["segments"], header)
            for kind in ("keys", "values"):
                layer[kind].append([body.take(size) for _ in range(geometry["kvHeads"])])
        body.end()
    check(fingerprint_of(header, frequencies) == header["fingerprint"], "fingerprint")
    out = []
    for layer in layers:
        for segment in layer["segments"]:
            end_streams(segment)
        counts, tensors = [segment["tokens"] for segment in layer["segments"]], []
        for kind in ("keys", "values"):
            exact = exact_elements(kind, b"".join(b"".join(head) for head in zip(*layer[kind])), header)
            groups = [segment[kind] for segment in layer["segments"]]
            tensors.append(tensor_of(header, frequencies, counts, groups, exact, kind == "keys"))
        out.append(tuple(tensors))
    return {**header, **({"tokens": tokens} if tokens else {})}, out


def main(arguments):
    files = dict(zip(arguments[1::2], arguments[2::2]))
    if len(arguments) % 2 == 0 or not files.keys() <= {"-o", "-p"}:
        sys.exit(__doc__)
    with open(arguments[0], "rb") as file:
        data = file.read()
    profile = None
    if "-p" in files:
        with open(files["-p"], "rb") as file:
            profile = file.read()
    try:
        header, layers = read_chunks(data) if data[:4] == b"SVDC" else read_archive(data, profile)
    except Unsound as error:
        sys.exit(f"{arguments[0]}: {error}")
    if "-o" in files:
        with open(files["-o"], "wb") as file:
            for tensors in layers:
                for tensor in tensors:
                    if sys.byteorder == "big":
                        tensor.byteswap()
                    tensor.tofile(file)
    print(json.dumps(header))


if __name__ == "__main__":
    main(sys.argv[1:])
