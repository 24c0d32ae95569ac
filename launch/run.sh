#!/usr/bin/env bash
# The committed code onto every host of a slice, COMMAND started on each, host 0's output shown.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/slice.sh

usage 'usage: launch/run.sh SLICE --zone=ZONE [--project=P] -- COMMAND...
  COMMAND runs in the folder of the code, in its environment. A broken connection does not end it;
  Ctrl-C ends the showing alone: launch/stop.sh SLICE ends the run. Exit status: 0 when all hosts
  ended well; else that of the first host that did not, 75, 76, 134, 137 (start again) only where no
  host had another; 69 when hosts cannot be reached.'
read_slice "$@"
need_command

UNREACHABLE=69
archive=$(mktemp)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz -o "$archive" HEAD
git diff --quiet HEAD -- || echo "note: changes that are not committed stay here" >&2
quoted=$(printf '%q ' "${COMMAND[@]}")

tpus tpu-vm scp "$archive" "$SLICE:r1_jax.tar.gz" --worker=all || exit $UNREACHABLE
# Over what is there: a folder that lies in it, such as the environment, stays.
on all 'tar -xzf ../r1_jax.tar.gz && launch/host.sh prepare' || exit $UNREACHABLE
on all "launch/host.sh start $quoted" || exit $UNREACHABLE

broken=0
while true; do
  # The connection may break; the run goes on, and what it says is shown though it ended meanwhile.
  if on 0 'launch/host.sh follow'; then broken=0; else ((++broken)); fi
  of_0=$(on 0 'launch/host.sh status') || exit $UNREACHABLE
  if ! grep -q '^running' <<<"$of_0" && ((broken == 0 || broken > 3)); then break; fi
  sleep "$SECONDS_BETWEEN"
done
patience=$((SECONDS + ${R1_LAUNCH_PATIENCE:-180})) # hosts that miss another end by themselves
while true; do
  found=$(on all 'launch/host.sh status') || exit $UNREACHABLE
  if ((SECONDS >= patience)) || ! grep -q '^running' <<<"$found"; then break; fi
  sleep "$SECONDS_BETWEEN"
done

worst=0
while read -r word code; do
  case $word in
    running) code=76 ;; # it hangs without host 0, as after the loss of a host
    exit) ;;
    *) continue ;; # what gcloud says of its connection
  esac
  case $worst/$code in
    */0 | */75 | */76 | */134 | */137) ((worst)) || worst=$code ;; # start again
    0/* | 75/* | 76/* | 134/* | 137/*) worst=$code ;;
  esac
done <<<"$found"
((worst == 0)) || echo "$SLICE: hosts ended with" \
  "$(grep -E '^(exit|running)' <<<"$found" | sort | uniq -c | awk '{print $2, $3 " x " $1}' | paste -sd ';')" >&2
exit "$worst"
