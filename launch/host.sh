#!/usr/bin/env bash
# What one host does; run.sh and its neighbours call it there, in the folder of the code.
#   host.sh prepare            environment, from the locked requirements for TPUs
#   host.sh start COMMAND...   starts COMMAND, which outlives the connection; its output: .launch/log
#   host.sh follow             shows the output, from its beginning on, until COMMAND has ended
#   host.sh status             one line: none, running, or exit N
#   host.sh stop               SIGTERM to COMMAND, SIGKILL to it and its children after a grace period
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
GRACE=${R1_LAUNCH_GRACE:-120} # seconds in which a run has to save

is_running() { [[ -f .launch/pid && ! -f .launch/status ]] && kill -0 "$(<.launch/pid)" 2>/dev/null; }

prepare() {
  local python=python3
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python3 -m pip install --user --quiet uv # the images' own Python can be older
    python3 -m uv python install --quiet 3.12
    python=$(python3 -m uv python find 3.12)
  fi
  make --no-print-directory env PYTHON="$python" REQUIREMENTS=requirements/tpu.txt
}

start() {
  if is_running; then
    echo "error: $(hostname) already runs $(<.launch/command); end it with launch/stop.sh" >&2
    exit 1
  fi
  mkdir -p .launch
  rm -f .launch/status .launch/pid
  echo "$*" >.launch/command
  : >.launch/log
  [[ ! -d .venv/bin ]] || PATH=$PWD/.venv/bin:$PATH
  export R1_JAX_DISTRIBUTED=${R1_JAX_DISTRIBUTED:-auto} # one program on all hosts of the slice
  # A session of its own: the end is on record, and SIGKILL reaches the children too.
  # shellcheck disable=SC2016  # expanded by the inner shell
  setsid bash -c '
    echo $$ >.launch/group
    "$@" >>.launch/log 2>&1 </dev/null &
    echo $! >.launch/pid.part
    mv .launch/pid.part .launch/pid
    code=0
    wait $! || code=$?
    echo "$code" >.launch/status.part
    mv .launch/status.part .launch/status
  ' launch "$@" >/dev/null 2>&1 </dev/null &
  until [[ -f .launch/pid ]]; do sleep 0.05; done
}

follow() {
  [[ -f .launch/pid ]] || { echo "error: nothing was started on $(hostname)" >&2; exit 1; }
  tail -n +1 -s 0.2 --pid="$(<.launch/pid)" -f .launch/log
  while is_running; do sleep 0.05; done # until the end is on record
}

status() {
  if [[ -f .launch/status ]]; then
    echo "exit $(<.launch/status)"
  elif is_running; then
    echo running
  elif [[ -f .launch/pid ]]; then
    echo "exit 137" # killed, or the host went down: nobody was left to write it down
  else
    echo none
  fi
}

stop() {
  is_running || return 0
  local fifths=0
  kill -TERM "$(<.launch/pid)"
  while is_running && ((fifths++ < GRACE * 5)); do sleep 0.2; done
  if is_running; then
    echo "$(hostname): still there after $GRACE s; killed" >&2
    kill -KILL -- "-$(<.launch/group)"
  fi
}

case ${1:-} in
  prepare | start | follow | status | stop) "$@" ;;
  *) echo "error: '${1:-}' is none of prepare, start, follow, status, stop" >&2; exit 2 ;;
esac
