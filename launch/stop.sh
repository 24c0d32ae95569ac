#!/usr/bin/env bash
# Ends what run.sh started, on every host: SIGTERM, on which a run saves, then SIGKILL.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/slice.sh

usage 'usage: launch/stop.sh SLICE --zone=ZONE [--project=P]'
read_slice "$@"
on all 'launch/host.sh stop'
