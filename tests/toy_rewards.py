"""Functions that tests have graded in child processes: those import this file, so it is light."""

import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

from r1_jax.rewards import verdict


def good(answer, prompt):
    """Right is "good"."""
    if answer is None:
        return verdict.UNPARSED
    return verdict.RIGHT if answer == "good" else verdict.WRONG


def own_uid(answer, prompt):
    """Right is the problem's own uid, so that a wrong pairing shows."""
    if answer == "crash":
        return verdict.Verdict(0.0, verdict.Outcome.CRASH, {"ValueError": 1.0})
    if answer is None:
        return verdict.UNPARSED
    return verdict.RIGHT if answer == prompt.reference else verdict.WRONG


def raising(answer, prompt):
    raise KeyError("a bug")


def waits_for_file(answer, prompt):
    """Right, once the file that the reference names exists."""
    while not pathlib.Path(prompt.reference).exists():
        time.sleep(0.005)
    return verdict.RIGHT


def meets_another(answer, prompt):
    """Right, once two processes have left a file in the folder that the reference names."""
    folder = pathlib.Path(prompt.reference)
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.005)
    return verdict.RIGHT


def same(answer):
    return answer


def tagged(answer):
    return answer and f"v{answer}"


def letters(completion: str, question: str, reference: str) -> float:
    """A reward that even a model that knows nothing earns now and then."""
    return sum(c.isalpha() for c in completion) % 3 / 2


def digits(completion: str, question: str, reference: str) -> float:
    """The share of digits, which any policy can raise."""
    return sum(c.isdigit() for c in completion) / max(1, len(completion))


def half_fails(completion: str, question: str, reference: str) -> float:
    if "7" in completion:
        raise ZeroDivisionError("seven")
    return 1.0


def act(what: str, *values):
    """Does what a test asks of a child."""
    if what == "add":
        return sum(values)
    if what == "pid":
        return os.getpid()
    if what == "sleep":
        time.sleep(*values)
        return "slept"
    if what == "hang":  # in C, deaf to whatever Python could do about it
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        return 10**10**9
    if what == "raise":
        raise RuntimeError(*values)
    if what == "exit":
        raise SystemExit(3)
    if what == "die":
        os.kill(os.getpid(), *values)
    if what == "leave":
        os._exit(*values)
    if what == "eat":
        return len(bytearray(*values))
    if what == "recurse":
        return act("recurse")
    if what == "print":
        for stream in (1, 2):
            os.write(stream, b"x" * 10**6)
        return "printed"
    if what == "write":
        path, size = values
        with open(path, "wb") as file:
            return file.write(b"x" * size)
    if what == "long":
        return "x" * values[0]
    if what == "object":
        return object()
    if what == "modules":
        import sys

        return sorted(sys.modules)
    if what == "environment":
        return [os.environ.get(name) for name in values]
    if what == "child":
        pid = os.fork()
        if not pid:
            time.sleep(600)
        pathlib.Path(values[0]).write_text(str(pid))
        time.sleep(600)
    if what == "socket":
        with socket.socket(*values):
            return "open"
    if what == "pair":
        return [end.fileno() > 0 for end in socket.socketpair()]
    if what == "run":
        return subprocess.run(["true"]).returncode
    if what == "become":
        os.execv("/bin/true", ["true"])
    if what == "signal":
        os.kill(*values)
        return "sent"
    if what == "thread":
        found = []
        thread = threading.Thread(target=lambda: found.append("ran"))
        thread.start()
        thread.join()
        return found
    if what == "speak":  # on whatever is open, as no worker would
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"[1, 2, 3]\nnonsense\n")
            except OSError:
                continue
        time.sleep(600)
    raise ValueError(what)


def letter_share(completion: str, question: str, reference: str) -> float:
    """A reward that a model of bytes earns by chance."""
    return sum(c.isascii() and c.isalpha() for c in completion) / max(len(completion), 1)


def hostile_equal(left, right):
    """Equal but for spaces; some answers never end, raise, or end the process."""
    words = {left, right}
    while "hang" in words:
        pass
    if "raise" in words:
        raise RecursionError("an answer")
    if "die" in words:
        os.kill(os.getpid(), signal.SIGKILL)
    return left.replace(" ", "") == right.replace(" ", "")


def bad(completion: str, question: str, reference: str) -> float:
    """Pays for what the toy seldom says at first: "bad", and nothing said twice."""
    return float("bad" in completion and "good" not in completion)
