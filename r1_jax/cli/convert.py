"""`python -m r1_jax convert`: Hugging Face models in, and out."""

import pathlib

from absl import flags

from r1_jax.cli import flagset

_DOC = """
--from-hf=DIR --to=FOLDER reads config.json, safetensors and tokenizer.json of a Hugging Face model
(Qwen2.5, Qwen3, Llama 3, DeepSeek-V2, -V3 and R1) and writes a folder of weights that a run starts
from with --config.base=FOLDER. Element types are kept; fp8 blocks become bfloat16. A layer
of multi-token prediction (DeepSeek-V3's 61st) comes along unless --drop_mtp.

--from=MODEL --to-hf=DIR writes such a folder, a base's .safetensors file, or the newest checkpoint
(or --step) of a train run for transformers' from_pretrained. A run's weights are float32, and stay
so unless --dtype says otherwise.

Nothing is left where a conversion has failed.
"""


def main(argv):
    """Converts and says what was written; exits with 2 and one line if it cannot be done."""
    parsed = flagset.parse(argv, _DOC, _define)
    values = {name: parsed.values[name].value for name in parsed.values}
    given = {name for name in ("from-hf", "to", "from", "to-hf") if values[name]}
    if parsed.words or given not in ({"from-hf", "to"}, {"from", "to-hf"}):
        flagset.fail("give --from-hf=DIR --to=FOLDER, or --from=MODEL --to-hf=DIR")
    if given == {"from-hf", "to"} and (values["dtype"] or values["step"] is not None):
        flagset.fail("--dtype and --step belong to --from; --from-hf keeps what it finds")
    if given == {"from", "to-hf"} and values["drop_mtp"]:
        flagset.fail("--drop_mtp belongs to --from-hf")
    try:
        if given == {"from-hf", "to"}:
            _read(values["from-hf"], values["to"], values["drop_mtp"])
        else:
            _write(values["from"], values["to-hf"], values["dtype"], values["step"])
    except (OSError, ValueError) as error:
        flagset.fail(error)


def _read(source, to, drop_mtp):
    from r1_jax.interop import convert

    facts = convert.from_hf(source, to, drop_mtp=drop_mtp)
    print(
        f"{to}: {len(facts['leaves'])} parameters, digest {facts['digest'][:12]}; to start there:"
    )
    print(f"  --config.base={pathlib.Path(to).absolute()}")
    for name, value in _flat(facts["config"]["model"]):
        if name not in ("compute_dtype", "remat", "init_std"):
            print(f"  --config.model.{name}={value}")


def _flat(mapping, prefix=""):
    for name, value in mapping.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _write(source, to, dtype, step):
    from r1_jax.interop import convert

    if (pathlib.Path(source) / "config.json").is_file():
        from r1_jax.pipeline import policy

        stage, params, step = policy.restore(source, policy.open_config(source), step)
        found = convert.hf_weights.InMemory(params)
        config = policy.open_config(source).model
        model = convert.Model(found, config, convert.files_of(stage.tokens))
        source = f"step {step} of {source}"
    elif step is not None:
        raise ValueError(f"--step={step} is of a run; {source} is none")
    else:
        model = convert.open_model(source)
    convert.to_hf(model, to, dtype=dtype)
    print(f"{to}: {source}, for transformers.AutoModelForCausalLM.from_pretrained")


def _define(values):
    for name, text in (
        ("from-hf", "folder of a Hugging Face model"),
        ("to", "new folder of weights"),
        ("from", "folder of weights, weights file, or the --workdir of a train run"),
        ("to-hf", "new folder of a Hugging Face model"),
    ):
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_enum(
        "dtype", None, ["float32", "bfloat16"], "round to this, for --to-hf", flag_values=values
    )
    flags.DEFINE_integer("step", None, "checkpoint of a run; its newest", flag_values=values)
    flags.DEFINE_boolean(
        "drop_mtp", False, "leave the layer of multi-token prediction out", flag_values=values
    )
