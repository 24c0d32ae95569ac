"""A `gcloud compute tpus` without a cloud: notes every call, and runs what ssh is given right here.

The folder FAKE_GCLOUD holds calls.jsonl (argv of every call), states (what describe says, a word a
line, the last one again and again; no file: no such resource), hosts/N (home of host N) and, where
a test puts it, next.py: run before ssh, with `worker` and `command` in sight.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(os.environ["FAKE_GCLOUD"])
STATES = HERE / "states"


def hosts(worker: str) -> list[pathlib.Path]:
    return sorted((HERE / "hosts").iterdir()) if worker == "all" else [HERE / "hosts" / worker]


def main(words: list[str]) -> int:
    with open(HERE / "calls.jsonl", "a") as calls:
        calls.write(json.dumps(words) + "\n")
    flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
    assert words[:2] == ["compute", "tpus"], words
    kind, verb, *rest = words[2:]
    if (kind, verb) == ("queued-resources", "describe"):
        if not STATES.exists():
            sys.stderr.write("ERROR: (gcloud) NOT_FOUND: Resource was not found.\n")
            return 1
        first, *others = STATES.read_text().split()
        if first == "DENIED":
            sys.stderr.write("ERROR: (gcloud) PERMISSION_DENIED: no access to project\n")
            return 1
        if others:
            STATES.write_text("\n".join(others))
        sys.stdout.write(first + "\n")
    elif (kind, verb) == ("queued-resources", "create"):
        STATES.write_text("WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE\n")
    elif (kind, verb) == ("queued-resources", "delete"):
        STATES.unlink()
    elif (kind, verb) == ("tpu-vm", "scp"):
        source, target = (word for word in rest if not word.startswith("--"))
        for host in hosts(flags["worker"]):
            shutil.copy(source, host / target.split(":")[1])
    elif (kind, verb) == ("tpu-vm", "ssh"):
        worker, command = flags["worker"], flags["command"]
        if (HERE / "next.py").exists():
            exec(
                (HERE / "next.py").read_text(), {"worker": worker, "command": command, **globals()}
            )
        codes = []
        for host in hosts(worker):
            env = os.environ | {"HOME": str(host)}
            codes.append(subprocess.run(["bash", "-c", command], cwd=host, env=env).returncode)
        return max(codes)
    else:
        raise AssertionError(words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
