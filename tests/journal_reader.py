#!/usr/bin/env python3
"""Reads a Waybill journal from its page alone, checks every byte that counts, and prints position, chain and root.

Written from crates/store/README.md (journal) and crates/tlog/README.md (leaf, tree), with the standard library only.
Damage ends it with exit code 1; a torn write at the very end is told on stderr and is no damage.
"""
import hashlib, os, pathlib, struct, sys

SEGMENT_HEADER, FRAME_HEADER, FRAME_RAW_MAX, LEFT_BEHIND, RENAMED = 4096, 76, 16 << 20, 1, 2


def check(holds, what):
    if not holds:
        raise ValueError(what)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


CRC_TABLE = list(range(256))
for _ in range(8):
    CRC_TABLE = [crc >> 1 ^ (0x82F63B78 if crc & 1 else 0) for crc in CRC_TABLE]


def lz4(block):
    """An LZ4 block: some bytes as they are, then a copy of what was written before, again and again."""
    out, at = bytearray(), 0
    def length(at, nibble):
        total, more = nibble, nibble == 15
        while more:
            total, more, at = total + block[at], block[at] == 255, at + 1
        return total, at
    while True:
        token = block[at]
        plain, at = length(at + 1, token >> 4)
        out += block[at : at + plain]
        at += plain
        if at >= len(block):
            return bytes(out)
        back = block[at] | block[at + 1] << 8
        copied, at = length(at + 2, token & 15)
        check(0 < back <= len(out), "an LZ4 block copies from before its beginning")
        for _ in range(copied + 4):
            out.append(out[-back])


def record(data):
    """Position and leaf hash of a record; its meta part is bincode."""
    end, at = 5 + int.from_bytes(data[1:5], "little"), 5
    check(data[0] == 1 and end <= len(data), "a record is cut off or of an unknown version")
    def take(length):
        nonlocal at
        at += length
        check(at <= end, "a record's meta part is cut off")
        return data[at - length : at]
    def number():
        first = take(1)[0]
        return first if first < 251 else int.from_bytes(take({251: 2, 252: 4, 253: 8}[first]), "little")

    position, time, epoch, sequence = number(), number(), number(), number()
    salt = take(16) if take(1)[0] else b""
    subject = take(number())
    headers = sorted((take(number()), take(number())) for _ in range(number()))
    texts = [subject, struct.pack(">I", len(headers))] + [text for header in headers for text in header]
    parts = [text if i == 1 else struct.pack(">I", len(text)) + text for i, text in enumerate(texts)]
    leaf = struct.pack(">BIQQ", 1, epoch, sequence, time) + sha256(*parts) + bytes([len(salt) > 0])
    return position, sha256(b"\0", leaf, sha256(salt, data[end:]))


def frame_at(data, at, mark):
    """The frame that begins here: codec, raw length, records, first position, time, chain, end, body. Or None."""
    if data[at : at + 8] != mark or len(data) < at + FRAME_HEADER: return None
    _, codec, zero, body, raw, count, first, time, chain, crc = struct.unpack_from("<8sB3sIIIQQ32sI", data, at)
    start, end = at + FRAME_HEADER, at + FRAME_HEADER + body
    fits = codec <= 1 and not any(zero) and count and body <= raw <= FRAME_RAW_MAX and end <= len(data)
    whole = fits and crc32c(data[at : at + 72] + data[start:end]) == crc
    return (codec, raw, count, first, time, chain, end, data[start:end]) if whole else None


def segment(path, number):
    """Header fields of a segment, by name, and all its bytes."""
    data = pathlib.Path(path).read_bytes()
    page = data[:SEGMENT_HEADER]
    check(page[:8] == b"WAYBILLJ" and crc32c(page[:-4]) == int.from_bytes(page[-4:], "little"), f"{path}: bad header")
    names = "version reason number size mark position time chain segment offset id".split()
    head = dict(zip(names, struct.unpack_from("<HHIQ8sQq32sQQH", page, 8)))
    check(head["version"] == 1 and head["number"] == number, f"{path} is another segment, or of an unknown version")
    check(head["size"] == len(data), f"{path} is not as long as its header says")
    return head | {"id": page[98 : 98 + head["id"]], "base": [head[name] for name in names[5:10]], "data": data}


def open_frame(frame, chain, position, peaks):
    """Checks a frame and adds its leaves to the tree."""
    codec, raw_length, count, first, _, frame_chain, _, body = frame
    raw, leaves, at = lz4(body) if codec else body, [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "little")
        found, leaf = record(raw[at + 4 : at + 4 + length])
        check(found == position + len(leaves) + 1, f"position {found} is out of place")
        leaves, at = leaves + [leaf], at + 4 + length
        peaks.append((1, leaf))
        while len(peaks) > 1 and peaks[-2][0] == peaks[-1][0]:
            (size, left), (_, right) = peaks[-2:]
            peaks[-2:] = [(2 * size, sha256(b"\1", left, right))]
    holds = len(raw) == raw_length and len(leaves) == count and first == position + 1
    check(holds and sha256(chain, *leaves) == frame_chain, f"positions from {first} on do not have their chain")


def main(directory):
    names = sorted(name for name in os.listdir(directory) if name.endswith(".segment"))
    check(names == [f"{number:08}.segment" for number in range(1, len(names) + 1)], "a segment is missing")
    segments = [segment(os.path.join(directory, name), number) for number, name in enumerate(names, 1)]
    base, peaks, ledger = [0, 0, bytes(32), 0, 0], [], b""
    for name, here, following in zip(names, segments, segments[1:] + [None]):
        check(here["base"] == base, f"{name} does not go on where the one before ends")
        check(here["id"] == ledger or here["reason"] == RENAMED or here["number"] == 1, f"{name} is of another ledger")
        position, time, chain, at, data, mark = *base[:3], SEGMENT_HEADER, here["data"], here["mark"]
        while following is None or at < following["offset"]:
            frame = frame_at(data, at, mark)
            if frame is None:
                break
            open_frame(frame, chain, position, peaks)
            position, time, chain, at = position + frame[2], *frame[4:7]
        tail = data[at:].rstrip(b"\0")
        if tail and following is None:
            whole = any(frame_at(data, i, mark) for i in range(at, len(data)) if data[i : i + 8] == mark)
            check(not whole and len(tail) <= FRAME_HEADER + FRAME_RAW_MAX, f"{name}: no whole frame begins at {at}")
            print(f"{name}: a torn write of {len(tail)} bytes at {at}", file=sys.stderr)
        clean = not tail or following is None or following["reason"] == LEFT_BEHIND
        check(clean, f"{name}: bytes at {at}, behind the end")
        base, ledger = [position, time, chain, here["number"], at], here["id"]
    root = peaks.pop()[1] if peaks else sha256()
    while peaks:
        root = sha256(b"\1", peaks.pop()[1], root)
    print(f"ledger {ledger.decode()}\nposition {base[0]}\nchain {base[2].hex()}\nroot {root.hex()}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ValueError, IndexError, KeyError, struct.error) as error:
        sys.exit(f"damaged: {error}")
