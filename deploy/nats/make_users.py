#!/usr/bin/env python3
"""Makes the users of a Waybill broker: a key for each, and what each may do.

The broker gets users.conf, which holds public keys only. Each user's seed is in a file of its own, readable by its owner
alone; give it to that user and to nobody else. Run again with more emitters to add them: keys that are there stay.
Needs Python and openssl, nothing else.

    make_users.py --keys /root/waybill-nats --config /etc/nats/users.conf \\
        --emitter ci-checkout=//ci.acme.dev/checkout --emitter pager=//pager.acme.dev
"""
import argparse
import base64
import os
import re
import subprocess
import sys

# Where replicas of a ledger announce their signed checkpoints, beside the stream.
CHECKPOINTS = "waybill.checkpoint.v1.>"
SEED, USER = 18 << 3, 20 << 3
ED25519_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


def token(text):
    """The text as one token of a subject, as proto/README.md says."""
    plain = b"abcdefghijklmnopqrstuvwxyz0123456789-"
    return "".join(chr(byte) if byte in plain else f"_{byte:02x}" for byte in text.encode()) or "_"


def crc16(data):
    """CRC-16/XMODEM, with which nkeys end."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc.to_bytes(2, "little")


def nkey(prefix, key):
    return base64.b32encode(prefix + key + crc16(prefix + key)).decode().rstrip("=")


def raw_seed(text):
    """The 32 bytes of a user's seed."""
    decoded = base64.b32decode(text + "=" * (-len(text) % 8))
    body, crc = decoded[:-2], decoded[-2:]
    if len(body) != 34 or crc16(body) != crc or not text.startswith("SU"):
        raise ValueError("not the seed of a user")
    return body[2:]


def public_key(seed):
    command = ["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"]
    return subprocess.run(command, input=ED25519_PKCS8 + seed, stdout=subprocess.PIPE, check=True).stdout[-32:]


def key_of(directory, name):
    """The public key of a user, whose seed is made where there is none yet."""
    path = os.path.join(directory, name + ".nk")
    try:
        with open(path, encoding="ascii") as file:
            seed = raw_seed(file.read().strip())
    except FileNotFoundError:
        seed = os.urandom(32)
        # A seed's prefix is two halves: that it is one, and of what.
        prefix = bytes([SEED | USER >> 5, (USER & 31) << 3])
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(nkey(prefix, seed) + "\n")
    except ValueError as error:
        sys.exit(f"{path}: {error}")
    return nkey(bytes([USER]), public_key(seed))


def inbox(name):
    return f"_INBOX_{name.replace('-', '_')}.>"


def emitter(name, source):
    """Publishes its own source's subjects, and reads the answers to that."""
    return {"publish": [f"waybill.events.v1.*.{token(source)}.>"], "subscribe": [inbox(name)]}


def ledger(name, stream):
    """Publishes events and the gate's, makes the stream and follows it, tells other replicas where it stands and hears where
    they do. It may not change, purge or delete the stream."""
    api = ["STREAM.INFO.{}", "STREAM.CREATE.{}", "STREAM.MSG.GET.{}", "CONSUMER.CREATE.{}", "CONSUMER.CREATE.{}.>",
           "CONSUMER.DURABLE.CREATE.{}.*", "CONSUMER.INFO.{}.*", "CONSUMER.DELETE.{}.*", "CONSUMER.MSG.NEXT.{}.*"]
    publish = ["waybill.events.v1.>", "waybill.gate.v1.>", CHECKPOINTS, f"$JS.ACK.{stream}.>", "$JS.API.STREAM.NAMES"]
    return {"publish": publish + ["$JS.API." + call.format(stream) for call in api], "subscribe": [inbox(name), CHECKPOINTS]}


def written(name, key, permissions):
    lines = [f"    # {name}", f"    {{ nkey: {key}"]
    if permissions:
        lines.append("      permissions {")
        for verb, subjects in permissions.items():
            quoted = ", ".join(f'"{subject}"' for subject in subjects)
            lines.append(f"        {verb}: {{ allow: [{quoted}] }}")
        lines.append("      }")
    return "\n".join(lines + ["    }"])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", required=True, help="directory of the seeds")
    parser.add_argument("--config", required=True, help="the users.conf to write")
    parser.add_argument("--stream", default="WAYBILL_EVENTS", help="the stream that the ledgers follow [%(default)s]")
    parser.add_argument("--ledger", action="append", metavar="NAME", help="a ledger; may be repeated [ledger]")
    parser.add_argument("--operator", default="operator", metavar="NAME", help="who may do everything [%(default)s]")
    parser.add_argument("--emitter", action="append", default=[], metavar="NAME=SOURCE", help="an emitter; may be repeated")
    said = parser.parse_args()
    emitters = [pair.partition("=") for pair in said.emitter]
    users = {name: ledger(name, said.stream) for name in said.ledger or ["ledger"]}
    users |= {name: emitter(name, source) for name, _, source in emitters}
    users[said.operator] = None
    names = [said.operator, *(said.ledger or ["ledger"]), *(name for name, _, _ in emitters)]
    if len({inbox(name) for name in names}) < len(names) or not all(re.fullmatch("[a-z0-9-]+", name) for name in names):
        parser.error("each user needs a name of its own, of a-z, 0-9 and -")
    if not all(source for _, _, source in emitters):
        parser.error("an emitter reads NAME=SOURCE")
    if not re.fullmatch("[A-Za-z0-9_-]+", said.stream):
        parser.error("a stream's name is of letters, digits, _ and -")
    return said, users


def main():
    said, users = arguments()
    os.makedirs(said.keys, mode=0o700, exist_ok=True)
    blocks = [written(name, key_of(said.keys, name), permissions) for name, permissions in users.items()]
    text = "# Written by make_users.py. Public keys only; the seeds are with their users.\nusers: [\n" + ",\n".join(blocks) + "\n]\n"
    with open(said.config + ".new", "w", encoding="ascii") as file:
        file.write(text)
    os.replace(said.config + ".new", said.config)


main()
