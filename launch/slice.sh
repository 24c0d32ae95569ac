# What the other scripts share: reading a slice's settings, and gcloud for it. Sourced, not run.
# shellcheck shell=bash disable=SC2034  # set here, used there

# Prints `error: ...` and ends with 2: words or settings that cannot be used.
fail() {
  echo "error: $*" >&2
  exit 2
}

# usage TEXT: for read_slice, what --help prints.
usage() { USAGE=$1; }

# read_slice WORDS...: sets SLICE, ZONE, TYPE, RUNTIME, PROJECT, SPOT, RESTARTS, SECONDS_BETWEEN
# and, behind --, COMMAND. A flag beats its environment variable.
read_slice() {
  SLICE='' COMMAND=()
  ZONE=${R1_TPU_ZONE:-} TYPE=${R1_TPU_TYPE:-} RUNTIME=${R1_TPU_RUNTIME:-}
  PROJECT=${R1_TPU_PROJECT:-} SPOT=${R1_TPU_SPOT:-} RESTARTS=100
  SECONDS_BETWEEN=${R1_TPU_SECONDS_BETWEEN:-30}
  while (($#)); do
    case $1 in
      --help | -h) echo "$USAGE"; exit 0 ;;
      --zone=*) ZONE=${1#*=} ;;
      --type=*) TYPE=${1#*=} ;;
      --runtime=*) RUNTIME=${1#*=} ;;
      --project=*) PROJECT=${1#*=} ;;
      --restarts=*) RESTARTS=${1#*=} ;;
      --spot) SPOT=1 ;;
      --) shift; COMMAND=("$@"); break ;;
      -*) fail "$1 is no flag of ${0##*/}; see ${0##*/} --help, and write flags as --zone=ZONE" ;;
      *)
        [[ -z $SLICE ]] || fail "$1: one slice at a time, $SLICE was named; a command stands behind --"
        SLICE=$1
        ;;
    esac
    shift
  done
  [[ -n $SLICE ]] || fail "no slice was named; see ${0##*/} --help"
  [[ $SLICE =~ ^[a-z][-a-z0-9]{0,61}$ ]] ||
    fail "slice name '$SLICE' must be lower-case letters, digits and dashes, a letter first"
  [[ $RESTARTS =~ ^[0-9]+$ ]] || fail "--restarts=$RESTARTS must be a number, such as 100"
  [[ -n $ZONE ]] || fail "no zone was named; give --zone=us-east5-b or set R1_TPU_ZONE"
  command -v gcloud >/dev/null ||
    fail "gcloud is not on the PATH; install the Google Cloud CLI and call gcloud auth login"
}

# need_command: for scripts that start something.
need_command() {
  ((${#COMMAND[@]})) ||
    fail "no command was given; write it behind --, such as -- python -m r1_jax train --config=..."
}

# need_type: the slice's type, and the runtime image that belongs to it unless one was named.
need_type() {
  [[ -n $TYPE ]] || fail "no type was named; give --type=v5litepod-16 or set R1_TPU_TYPE"
  [[ -n $RUNTIME ]] && return
  case $TYPE in
    v4-*) RUNTIME=tpu-ubuntu2204-base ;;
    v5litepod-*) RUNTIME=v2-alpha-tpuv5-lite ;;
    v5p-*) RUNTIME=v2-alpha-tpuv5 ;;
    v6e-*) RUNTIME=v2-alpha-tpuv6e ;;
    *) fail "no runtime is known for --type=$TYPE (v4-*, v5litepod-*, v5p-*, v6e-*); give --runtime" ;;
  esac
}

# tpus WORDS...: gcloud compute tpus WORDS, in the slice's zone and project.
tpus() {
  gcloud compute tpus "$@" --zone="$ZONE" ${PROJECT:+"--project=$PROJECT"} --quiet
}

# on WORKER SCRIPT: runs SCRIPT in the code's folder on one host (0, 1, ...) or on all of them.
on() {
  tpus tpu-vm ssh "$SLICE" --worker="$1" --command="mkdir -p r1_jax && cd r1_jax && { $2; }"
}

# state: ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED, ..., or ABSENT where nobody asked for the slice.
# An error of gcloud's that is no NOT_FOUND is shown, and ends the script.
state() {
  local found
  if found=$(tpus queued-resources describe "$SLICE" --format='value(state.state)' 2>&1); then
    tail -n 1 <<<"$found"
  elif grep -qi 'not.\?found' <<<"$found"; then
    echo ABSENT
  else
    echo "$found" >&2
    return 1
  fi
}
