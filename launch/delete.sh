#!/usr/bin/env bash
# Gives a slice back, with its queued resource. What lies on its hosts is lost.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/slice.sh

usage 'usage: launch/delete.sh SLICE --zone=ZONE [--project=P]'
read_slice "$@"
if [[ $(state) == ABSENT ]]; then
  echo "$SLICE: there is none"
  exit 0
fi
tpus queued-resources delete "$SLICE" --force # with the node in it
