#!/usr/bin/env bash
# run.sh until it is done: a slice that was taken away is asked for again, a run that was
# interrupted goes on from its checkpoint.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/slice.sh

usage 'usage: launch/watch.sh SLICE --zone=ZONE --type=TYPE [--runtime=IMAGE] [--project=P] [--spot]
       [--restarts=100] -- COMMAND...
  Starts again after exit status 75 (preempted, saved), 76 (another host is lost), 134 (host 0 is),
  137 (killed), 69 (hosts out of reach), and whenever the slice is gone. Any other status on a slice
  that stands is of the program itself, and ends the watch with it. COMMAND must go on where it
  stopped, with --workdir on a disk or bucket that outlives the slice.'
read_slice "$@"
need_type
need_command

flags=("--zone=$ZONE" "--type=$TYPE" "--runtime=$RUNTIME")
[[ -z $PROJECT ]] || flags+=("--project=$PROJECT")
[[ -z $SPOT ]] || flags+=(--spot)

for ((start = 0; start <= RESTARTS; start++)); do
  case $(state) in
    FAILED | SUSPENDING | SUSPENDED) launch/delete.sh "$SLICE" "${flags[@]}" ;;
  esac
  launch/create.sh "$SLICE" "${flags[@]}"
  code=0
  launch/run.sh "$SLICE" "${flags[@]}" -- "${COMMAND[@]}" || code=$?
  ((code)) || exit 0
  now=$(state)
  case $code in
    69 | 75 | 76 | 134 | 137) ;;
    *) [[ $now != ACTIVE ]] || exit "$code" ;;
  esac
  echo "$SLICE: ended with $code, slice is $now; restart $((start + 1)) of $RESTARTS" >&2
  # What other hosts still run of it must end before the next start.
  [[ $now != ACTIVE ]] || launch/stop.sh "$SLICE" "${flags[@]}" || true
  sleep "$SECONDS_BETWEEN"
done
echo "error: $SLICE: not done after $RESTARTS restarts; see its log, or give --restarts" >&2
exit 1
