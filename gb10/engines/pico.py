"""The shipped model in this process, by transformers: for what no engine shows, such as every logit."""

from __future__ import annotations

import logging
from functools import cache

from gb10.paths import PICO


@cache
def load() -> tuple:
    """(model in FP32, in evaluation mode; tokenizer). Loaded once."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)          # what transformers and the libraries it looks for say while they load
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging as hf

        hf.disable_progress_bar()
        return AutoModelForCausalLM.from_pretrained(PICO, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(PICO)
    finally:
        logging.disable(before)
