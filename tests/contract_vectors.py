"""Computes the golden vectors of proto/README.md in another language, from that page and the descriptors alone.

usage: contract_vectors.py README.md < FileDescriptorSet
"""
import base64
import hashlib
import struct
import sys
import urllib.parse

STRING, MESSAGE, BYTES, BOOL, ENUM, INT32, UINT32, SINT32 = 9, 11, 12, 8, 14, 5, 13, 17
FIXED = {1: 8, 6: 8, 16: 8, 2: 4, 7: 4, 15: 4}
NO_CONTENT, OCCUR_TIME, BASIS = {6, 18, 21}, 4, 5


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & (1 << 64) - 1, at


def put_varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def fields(data):
    """Number, value and raw bytes of each field."""
    at = 0
    while at < len(data):
        start = at
        key, at = varint(data, at)
        value, at = read_value(data, at, key & 7, key >> 3)
        yield key >> 3, value, data[start:at]


def read_value(data, at, wire_type, number):
    if wire_type == 0:
        return varint(data, at)
    if wire_type == 2:
        size, at = varint(data, at)
        return data[at:at + size], at + size
    if wire_type == 3:
        while True:
            key, at = varint(data, at)
            if key == number << 3 | 4:
                return None, at
            _, at = read_value(data, at, key & 7, key >> 3)
    size = 8 if wire_type == 1 else 4
    return data[at:at + size], at + size


class Field:
    def __init__(self, data):
        seen = {number: value for number, value, _ in fields(data)}
        self.name, self.number, self.type = seen[1].decode(), seen[3], seen[5]
        self.repeated = seen[4] == 3
        self.message = seen.get(6, b"").decode()
        self.oneof = None if 17 in seen else seen.get(9)
        self.presence = 9 in seen


class Schema:
    """Messages by full name: their fields by number, and whether they are entries of a map."""

    def __init__(self, data):
        self.messages, self.map_entries = {}, set()
        for _, file, _ in fields(data):
            package = b"".join(value for number, value, _ in fields(file) if number == 2).decode()
            for number, message, _ in fields(file):
                if number == 4:
                    self.add("." + package, message)

    def add(self, scope, data):
        parts = list(fields(data))
        name = scope + "." + next(value for number, value, _ in parts if number == 1).decode()
        self.messages[name] = {field.number: field for field in (Field(v) for n, v, _ in parts if n == 2)}
        for number, value, _ in parts:
            if number == 3:
                self.add(name, value)
            if number == 7 and any(option == 7 and on for option, on, _ in fields(value)):
                self.map_entries.add(name)


def scalar(kind, value):
    if kind in FIXED:
        return value
    if kind in (STRING, BYTES):
        return put_varint(len(value)) + value
    if kind == BOOL:
        return bytes([value != 0])
    if kind in (INT32, ENUM):
        low = value & 0xFFFFFFFF
        value = low | 0xFFFFFFFF00000000 if low >> 31 else low
    elif kind in (UINT32, SINT32):
        value &= 0xFFFFFFFF
    return put_varint(value)


def unpacked(kind, value):
    if not isinstance(value, bytes) or kind in FIXED and len(value) == FIXED[kind]:
        return [value]
    out, at = [], 0
    while at < len(value):
        if kind in FIXED:
            item, at = value[at:at + FIXED[kind]], at + FIXED[kind]
        else:
            item, at = varint(value, at)
        out.append(item)
    return out


def put(number, wire_type, value):
    return put_varint(number << 3 | wire_type) + value


def put_bytes(number, value):
    return put(number, 2, put_varint(len(value)) + value)


def canonical(schema, name, data):
    known, unknown = {}, []
    descriptor = schema.messages[name]
    for number, value, raw in fields(data):
        field = descriptor.get(number)
        if field is None:
            unknown.append((number, raw))
            continue
        if field.oneof is not None:
            for other in descriptor.values():
                if other.oneof == field.oneof and other.number != number:
                    known.pop(other.number, None)
        known.setdefault(number, []).append(value)
    if name == ".waybill.v1.Event":
        timeless = known.get(BASIS, [0])[-1] & 0xFFFFFFFF in (3, 4)
        for number in NO_CONTENT | ({OCCUR_TIME} if timeless else set()):
            known.pop(number, None)
    is_entry = name in schema.map_entries
    if is_entry:
        for number, field in descriptor.items():
            known.setdefault(number, [b"" if field.type in (STRING, BYTES, MESSAGE) else 0])
    out = b"".join(write(schema, descriptor[n], known[n], is_entry) for n in sorted(known))
    return out + b"".join(raw for _, raw in sorted(unknown, key=lambda field: field[0]))


def write(schema, field, values, is_entry):
    number, kind = field.number, field.type
    if field.message in schema.map_entries:
        entries = {}
        for value in values:
            key = [v for n, v, _ in fields(value) if n == 1]
            entries[key[-1] if key else b""] = value
        return b"".join(put_bytes(number, canonical(schema, field.message, entries[k])) for k in sorted(entries))
    if kind == MESSAGE:
        merged = values if field.repeated else [b"".join(values)]
        return b"".join(put_bytes(number, canonical(schema, field.message, value)) for value in merged)
    if field.repeated and kind in (STRING, BYTES):
        return b"".join(put_bytes(number, value) for value in values)
    if field.repeated:
        packed = b"".join(scalar(kind, item) for value in values for item in unpacked(kind, value))
        return put_bytes(number, packed) if packed else b""
    value = scalar(kind, values[-1])
    if not any(value) and not field.presence and not is_entry:
        return b""
    wire_type = 2 if kind in (STRING, BYTES) else {8: 1, 4: 5}.get(FIXED.get(kind), 0)
    return put(number, wire_type, value)


def key_of_parts(parts):
    return hashlib.sha256(b"".join(struct.pack(">I", len(part)) + part for part in parts)).hexdigest()


def shown_part(text):
    return bytes.fromhex(text[2:]) if text.startswith("0x") else text.strip('"').encode()


def encoded(text):
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode())


def repository(text):
    """Reads the spellings that the page names; enough for the vectors."""
    scheme, _, rest = text.rpartition("://")
    if not scheme and ":" in rest.split("/")[0]:
        rest = rest.replace(":", "/", 1)
    host, _, path = rest.partition("/")
    host = host.rpartition("@")[2].lower()
    for port in (":22", ":80", ":443"):
        host = host.removesuffix(port)
    return "/".join(encoded(part) for part in [host, *path.strip("/").removesuffix(".git").split("/")])


def deployment(schema, form):
    """The entities and the parts of the natural key of a deployment, from its canonical form."""
    def get(name, data, *path):
        for step in path:
            field = next(field for field in schema.messages[name].values() if field.name == step)
            found = [value for number, value, _ in fields(data) if number == field.number]
            if field.repeated or not found:
                return found
            name, data = field.message, found[-1]
        return data

    event = get(".waybill.v1.Event", form, "deployment")
    number, moved, _ = next(fields(event))
    predicate = schema.messages[".waybill.v1.DeploymentEvent"][number]
    info = get(predicate.message, moved, "deployment")
    service, environment, own_id = (
        get(".waybill.v1.DeploymentInfo", info, name).decode() for name in ("service", "environment", "deployment_id"))
    entities = [f"deployment:{encoded(service)}/{encoded(own_id)}", f"service:{encoded(service)}",
                f"environment:{encoded(environment)}"]
    for revision in get(".waybill.v1.DeploymentInfo", info, "revisions"):
        name, commit = (get(".waybill.v1.Revision", revision, part).decode() for part in ("repository", "revision"))
        entities += [f"commit:{repository(name)}/{encoded(commit)}", f"repository:{repository(name)}"]
    parts = ["waybill.natural-key.v1", f"deployment.{predicate.name}", service, environment, own_id]
    parts = [part.encode() for part in parts]
    if predicate.name == "progressed":
        parts.append(struct.pack(">Q", get(predicate.message, moved, "step_index") or 0))
    return " ".join(entities), parts


def token(text):
    plain = b"abcdefghijklmnopqrstuvwxyz0123456789-"
    return "".join(chr(byte) if byte in plain else f"_{byte:02x}" for byte in text.encode()) or "_"


def subject(org, source, kind, entities):
    """The subject of an event, from its kind and the names of what it is about."""
    family, _, predicate = kind.partition(".")
    services = [name for name in entities if name.startswith("service:")]
    about = (services + entities + [":"])[0]
    component = urllib.parse.unquote(about.partition(":")[2].rpartition("/")[2])
    return "waybill.events.v1." + ".".join(token(part) for part in (org, source, family, predicate, component))


def message_id(source, own_id, digest):
    hashed = hashlib.sha256(source + b"\0" + own_id + b"\0" + digest).digest()
    return base64.urlsafe_b64encode(hashed).decode().rstrip("=")


def kept(subject, headers):
    names = ["Content-Type", "ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time"]
    if subject.startswith("waybill.gate.v1."):
        names.append("Waybill-Sender")
    spelling = {name.lower(): name for name in names}
    pairs = (header.split(": ", 1) for header in headers)
    return [": ".join(pair) for pair in sorted([spelling[name.lower()], value] for name, value in pairs if name.lower() in spelling)]


def check_kept(vector):
    lines = [line.split(": ", 1) for line in vector.splitlines()]
    said = {key: [value for name, value in lines if name == key] for key in ("subject", "header", "kept")}
    computed = kept(said["subject"][0], said["header"])
    if computed != said["kept"]:
        sys.exit(f"{said['subject'][0]}: kept is {said['kept']} on the page, and computed {computed}")


def check(schema, vector):
    form = canonical(schema, ".waybill.v1.Event", bytes.fromhex(vector["bytes"]))
    parts = [shown_part(part) for part in vector["key_parts"].split(" ")]
    event = {number: value for number, value, _ in fields(bytes.fromhex(vector["bytes"])) if number in (1, 2)}
    digest = hashlib.sha256(form)
    computed = {
        "subject": subject("Acme", event[1].decode(), vector["kind"], vector.get("entities", "").split()),
        "message_id": message_id(event[1], event[2], digest.digest()),
        "canonical": form.hex(),
        "digest": digest.hexdigest(),
        "natural_key": key_of_parts(parts),
    }
    if vector["kind"].startswith("deployment."):
        computed["entities"], own_parts = deployment(schema, form)
        if own_parts != parts:
            sys.exit(f"{vector['kind']}: key_parts are {parts} on the page, and computed {own_parts}")
    for name, value in computed.items():
        if vector.get(name) != value:
            sys.exit(f"{vector['kind']}: {name} is {vector.get(name)} on the page, and computed {value}")
    return len(computed)


def main():
    page = open(sys.argv[1], encoding="utf-8").read()
    schema = Schema(sys.stdin.buffer.read())
    vectors, messages = (page.split(f"```{name}\n")[1].split("\n```")[0].split("\n\n") for name in ("vectors", "messages"))
    for vector in messages:
        check_kept(vector)
    count = sum(check(schema, dict(line.split(": ", 1) for line in vector.splitlines())) for vector in vectors)
    print(f"{len(vectors)} vectors, {count} values, {len(messages)} messages")


main()
