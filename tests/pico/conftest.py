"""What the pico tests share: the folders, the shipped tokenizer and models (loaded once), and small documents."""
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

PICO = ROOT / "appendix" / "pico"
MODEL = PICO / "model"
SMALL_DOCS = Path(__file__).resolve().parent / "docs"


@pytest.fixture(autouse=True)
def one_thread():
    """One thread: the model is so small that a second one mostly waits, above all on a busy machine."""
    import torch
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="session")
def hf_model():
    import torch
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
