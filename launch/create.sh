#!/usr/bin/env bash
# Asks for a slice as a queued resource and returns once all of its hosts are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/slice.sh

usage 'usage: launch/create.sh SLICE --zone=ZONE --type=TYPE [--runtime=IMAGE] [--project=P] [--spot]
  The same by environment: R1_TPU_ZONE, R1_TPU_TYPE, R1_TPU_RUNTIME, R1_TPU_PROJECT, R1_TPU_SPOT=1.
  The name is that of the queued resource and of its node. An existing request is waited for.'
read_slice "$@"
need_type

shown=''
while true; do
  now=$(state)
  [[ $now == "$shown" ]] || echo "$SLICE: $now"
  shown=$now
  case $now in
    ACTIVE) exit 0 ;;
    ABSENT)
      tpus queued-resources create "$SLICE" --node-id="$SLICE" --accelerator-type="$TYPE" \
        --runtime-version="$RUNTIME" ${SPOT:+--spot}
      ;;
    FAILED | SUSPENDING | SUSPENDED)
      echo "error: $SLICE is $now and will not come back; call launch/delete.sh $SLICE first" >&2
      exit 1
      ;;
  esac
  sleep "$SECONDS_BETWEEN"
done
