#!/usr/bin/env python3
"""Publishes what a deployment does straight to NATS, and keeps each event until the ledger has given its receipt.

Needs nats-py, with its extra [nkeys] where the broker asks for a key:

    emit.py --nats nats://127.0.0.1:4222 --seed ci-checkout.nk --outbox /var/lib/ci/outbox \\
        --source //ci.acme.dev/checkout --run 881 --service checkout --environment production \\
        --ledger https://ledger.acme.dev:8420 --token ci-checkout.token

Run it again after any failure: events have the same ids on every try, their times are said to be this script's (DERIVED) and so are
no content, and the ledger records each once. Without --ledger events stay in the outbox, since an acknowledgement of the
broker is no receipt.
"""
import argparse
import asyncio
import base64
import datetime
import json
import os
import pathlib
import ssl
import urllib.error
import urllib.request

import nats

DERIVED = "OCCUR_TIME_BASIS_DERIVED"


def token(text):
    """The text as one token of a subject, as proto/README.md says."""
    plain = b"abcdefghijklmnopqrstuvwxyz0123456789-"
    return "".join(chr(byte) if byte in plain else f"_{byte:02x}" for byte in text.encode()) or "_"


def keep(outbox, identity, kind, component, headers, event):
    """Writes a message to the outbox, unless it is there from an earlier try."""
    family, predicate = kind.split(".")
    source, own_id = identity
    path = outbox / (token(own_id) + ".json")
    if path.exists():
        return
    # With a salt the ledger can forget the event's bytes one day, should it ever have to.
    salt = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    message = {
        "source": source, "id": own_id,
        "subject": "waybill.events.v1." + ".".join(token(part) for part in ("", source, family, predicate, component)),
        "headers": {"Content-Type": "application/json", "Waybill-Salt": salt, **headers},
        "payload": json.dumps(event),
    }
    new = path.with_suffix(".new")
    with open(new, "w", encoding="utf-8") as file:
        json.dump(message, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def keep_deployment(said):
    """Two events: one that says all itself, one whose envelope is in CloudEvents headers."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    deployment = {"deploymentId": f"run-{said.run}", "service": said.service, "environment": said.environment}
    started = (said.source, f"run-{said.run}-started")
    keep(said.outbox, started, "deployment.started", said.service, {},
         {"source": started[0], "id": started[1], "occurTime": now, "occurTimeBasis": DERIVED, "deployment": {"started": {"deployment": deployment}}})
    finished = (said.source, f"run-{said.run}-finished")
    attributes = {"ce-specversion": "1.0", "ce-type": "dev.waybill.deployment.finished.v1",
                  "ce-source": finished[0], "ce-id": finished[1], "ce-time": now}
    keep(said.outbox, finished, "deployment.finished", said.service, attributes,
         {"occurTimeBasis": DERIVED, "deployment": {"finished": {"deployment": deployment, "outcome": "OUTCOME_SUCCESS"}}})


async def publish(said, messages):
    """Publishes to the stream; returns when the broker has stored all of it."""
    options = {}
    if said.seed:
        # Who may read only its own answers needs an inbox of its own name, as make_users.py gives it.
        options = {"nkeys_seed": str(said.seed), "inbox_prefix": f"_INBOX_{said.seed.stem.replace('-', '_')}".encode()}
    if said.ca:
        options["tls"] = ssl.create_default_context(cafile=said.ca)
    client = await nats.connect(said.nats, allow_reconnect=False, **options)
    try:
        for message in messages:
            stored = await client.jetstream().publish(message["subject"], message["payload"].encode(), headers=message["headers"])
            print(f"{message['id']}: stored by the broker at {stored.seq}")
    finally:
        await client.close()


def receipt(said, message):
    """Asks the ledger for a receipt, and waits for it as long as is said; none when it is not recorded yet."""
    headers = {"content-type": "application/json", "grpc-timeout": f"{said.wait}S"}
    if said.token:
        headers["authorization"] = "Bearer " + said.token.read_text(encoding="ascii").strip()
    # The ledger waits a minute at most.
    asked = {"event": {"source": message["source"], "id": message["id"]}, "wait": f"{min(said.wait, 60)}s"}
    body = json.dumps(asked).encode()
    request = urllib.request.Request(said.ledger + "/waybill.v1.LedgerService/GetReceipt", body, headers)
    context = ssl.create_default_context(cafile=said.ca) if said.ledger.startswith("https:") else None
    try:
        with urllib.request.urlopen(request, timeout=said.wait + 5, context=context) as answer:
            return json.load(answer)["receipt"]
    except urllib.error.HTTPError as error:
        print(f"{message['id']}: no receipt: {error.read().decode()}")
        return None


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("nats", "source", "run", "service", "environment"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--outbox", required=True, type=pathlib.Path, help="directory of events without a receipt")
    parser.add_argument("--seed", type=pathlib.Path, help="file of the user's seed, as make_users.py names it")
    parser.add_argument("--ca", help="file of the certificate authority, for broker and ledger")
    parser.add_argument("--ledger", help="address of the ledger, which gives receipts")
    parser.add_argument("--token", type=pathlib.Path, help="file of a token for the ledger")
    parser.add_argument("--wait", type=int, default=30, help="seconds to wait for each receipt [%(default)s]")
    return parser.parse_args()


def main():
    said = arguments()
    said.outbox.mkdir(parents=True, exist_ok=True)
    keep_deployment(said)
    kept = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(said.outbox.glob("*.json"))}
    asyncio.run(publish(said, kept.values()))
    if not said.ledger:
        return 0
    for path, message in kept.items():
        found = receipt(said, message)
        if found:
            print(f"{message['id']}: recorded at {found['position']}")
            path.unlink()
    return 1 if any(path.exists() for path in kept) else 0


raise SystemExit(main())
