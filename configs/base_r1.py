"""The base model of the tiny R1 chain: Countdown asked and reasoned about in two languages.

As configs/base_countdown.py, but questions come in English and Chinese in turn, and a chain is in
either language whatever it was asked in, and now and then goes on in the other: what R1-Zero's
language mixing (paper section 2.3.2) can grow from. One document in ten states a fact, so that
there is something to know besides Countdown (section 2.3.3).

Command:   python -m r1_jax pretrain --config=configs/base_r1.py --workdir=runs/base_r1
Hardware:  two CPU cores, 2 GiB
Obtained:  see bases/README.md, with commit and digest
"""

from configs import base_countdown


def get_config():
    config = base_countdown.get_config()
    config.task.languages = ("en", "zh")
    config.model.vocab_size = 768
    config.corpus.num_documents = 200_000
    config.corpus.languages = ("en", "zh")
    config.corpus.switch = 0.15
    config.corpus.statements = 0.1
    return config
