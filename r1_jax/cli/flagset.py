"""One command's flags: absl flags of its own, a configuration file and `--config.key=value`.

A command's main(argv) reads its words with parse(). The flags live in a FlagValues of the command's
own, not in absl's global one, so that several commands can run in one process (tests do).
"""

import dataclasses
import pathlib
import sys
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_flags

from r1_jax.core import build

PROJECT = str(pathlib.Path(__file__).parents[2])


@dataclasses.dataclass(frozen=True)
class Parsed:
    """What a command was told."""

    values: flags.FlagValues  # values.workdir is the value of --workdir
    words: tuple[str, ...]  # positional words, the program's name left out
    config: Any  # instance of config_class; None if the command has no configuration
    config_file: str = ""  # FILE or FILE:TEXT as --config named it
    overrides: tuple[tuple[str, str], ...] = ()  # (dotted key, text) of --config.key=value words


def parse(
    argv, doc, define=None, config_class=None, default_config=None, unread=(), config_flag="config"
):
    """Returns Parsed: flags, positional words and the configuration in `argv`.

    argv: argv[0] is the program's name in messages. doc: the command's help. define(values):
    declares the command's flags, `flags.DEFINE_string("workdir", None, "...", flag_values=values)`.
    config_class: dataclass of the configuration, or several, of which the first that has all of a
    file's keys is built; then --config=FILE (an ml_collections file with
    get_config(); FILE:TEXT calls get_config(TEXT)) and --config.key=value are understood. The file
    may leave out keys: they keep the class' defaults. default_config: the file used when none is
    given; if it is None, --config is required. unread: sections of the configuration that the
    command never looks at; to override one is an error. config_flag: the flag's name; under another
    than "config" the file may be absent, and Parsed.config is then None. Exits with status 2 and
    one line for anything wrong with the words, with status 0 after --help.
    """
    values = flags.FlagValues()
    if define is not None:
        define(values)
    words, overrides = _take_overrides(argv, config_flag) if config_class else (list(argv), [])
    if PROJECT not in sys.path:
        sys.path.append(PROJECT)  # configs/x.py may start from configs/y.py, wherever one stands
    if config_class is not None:
        config_flags.DEFINE_config_file(
            config_flag, default_config, "configuration file", flag_values=values, sys_argv=words
        )
    if any(word in ("--help", "-h", "-help") for word in words[1:]):
        print(_help(argv[0], doc, values, config_class, config_flag))
        sys.exit(0)
    try:
        positional = tuple(values(words))[1:]
        config, config_file = None, ""
        if config_class is not None:
            _refuse_unread(argv[0], overrides, unread)
            config = _config(values, overrides, config_class, config_flag)
            if config is not None:
                config_file = str(config_flags.get_config_filename(values[config_flag]))
    except (flags.Error, OSError, ValueError) as error:
        fail(error)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(argv[:1])  # libraries that read absl's global flags find their defaults
    return Parsed(values, positional, config, config_file, tuple(overrides))


def fail(message) -> NoReturn:
    """Prints `error: message` to stderr and exits with status 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _config(values, overrides, config_class, config_flag):
    found = values[config_flag].value
    if found is None and config_flag != "config":
        if overrides:
            raise ValueError(
                f"--{config_flag}.{overrides[0][0]} needs a file: --{config_flag}=FILE"
            )
        return None
    if found is None:
        raise ValueError("--config is required; give it a file, such as those in configs/")
    mapping = found.to_dict()
    if isinstance(config_class, tuple):
        config_class = next((c for c in config_class if _has(c, mapping)), config_class[0])
    for dotted, text in overrides:
        mapping = build.merge(mapping, dotted, build.Text(text))
    return build.build(config_class, mapping)


def _has(config_class, mapping):
    """Returns whether every key of `mapping` is one of the dataclass' fields."""
    return mapping.keys() <= {field.name for field in dataclasses.fields(config_class)}


def _refuse_unread(program, overrides, unread):
    for dotted, _ in overrides:
        section = dotted.partition(".")[0]
        if section in unread:
            raise ValueError(
                f"--config.{dotted} would change nothing: `{program}` does not read {section}.*"
            )


def _take_overrides(argv, config_flag):
    """Returns argv without its --config.key=value words, and those as pairs (dotted key, text)."""
    rest, overrides, i = [], [], 0
    while i < len(argv):
        word = argv[i]
        stripped = word.lstrip("-")
        if word.startswith("-") and stripped.startswith(f"{config_flag}."):
            dotted, equals, text = stripped.removeprefix(f"{config_flag}.").partition("=")
            if not equals:
                i += 1
                if i == len(argv):
                    fail(f"{word} has no value; write {word}=VALUE")
                text = argv[i]
            overrides.append((dotted, text))
        else:
            rest.append(word)
        i += 1
    return rest, overrides


def _help(program, doc, values, config_class, config_flag):
    names = [name for name in values if name == values[name].name]  # not the short names
    rows = [(f"--{name}", values[name].help, values[name].default) for name in sorted(names)]
    width = max((len(row[0]) for row in rows), default=0)
    lines = [
        f"  {name:<{width}}  {text}" + ("" if default is None else f" (default: {default})")
        for name, text, default in rows
    ]
    text = f"usage: {program} [flags]\n\n{doc.strip()}\n\nflags:\n" + "\n".join(lines)
    if config_class is not None:
        first = config_class[0] if isinstance(config_class, tuple) else config_class
        keys = build.describe(first)
        width = max(len(key) for key, _, _ in keys)
        text += (
            f"\n\nkeys of the configuration, each --{config_flag}.key=value; type and default:\n"
        )
        text += "\n".join(
            f"  {key:<{width}}  {kind}" + (f" = {default}" if default else "")
            for key, kind, default in keys
        )
    return text
