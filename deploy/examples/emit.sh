#!/usr/bin/env bash
# Emits one event to a ledger's JSON door with curl, and waits for its receipt.
#
#   emit.sh < event.json
#
# WAYBILL_SERVER      https://ledger.acme.dev:8420 [http://127.0.0.1:8420]
# WAYBILL_TOKEN_FILE  the file of a token with the role emit
# WAYBILL_CA          file of the certificate authority, where the system does not know it
#
# Prints the answer. Exits 0 with a receipt, 1 when the event was refused (mend it: again will be refused again), and with
# curl's own code when nobody answered: run it again, the same event is recorded once.
set -euo pipefail

server=${WAYBILL_SERVER:-http://127.0.0.1:8420}

# What curl is told in a file is in no list of processes.
settings() {
    if [[ -n ${WAYBILL_TOKEN_FILE:-} ]]; then
        printf 'header = "authorization: Bearer %s"\n' "$(<"$WAYBILL_TOKEN_FILE")"
    fi
    if [[ -n ${WAYBILL_CA:-} ]]; then
        printf 'cacert = "%s"\n' "$WAYBILL_CA"
    fi
}

answer=$(printf '{"events": [%s]}' "$(cat)" |
    curl --silent --show-error --fail-with-body --config <(settings) \
        --max-time 60 --retry 5 --retry-connrefused \
        --header 'content-type: application/json' --data-binary @- "$server/waybill.v1.EmitService/Emit") || {
    code=$?
    printf '%s\n' "$answer" >&2
    exit "$code"
}
printf '%s\n' "$answer"
if grep -q '"refusal": *{' <<<"$answer"; then
    exit 1
fi
