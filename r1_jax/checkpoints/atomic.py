"""Files that are either the old ones or the new ones, never half of each."""

import os
import pathlib


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Puts `data` at `path`, or, on any error or kill, leaves what was there untouched.

    Written beside the target, flushed to the disk, renamed over it. The directory is created.
    Raises OSError as the file system does (no space, no permission), naming the file.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}; the file was left as it was before", str(path)
        ) from error
    finally:
        part.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself
    finally:
        os.close(directory)
