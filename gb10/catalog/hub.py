"""A model's config.json from the Hugging Face hub, and the size of its weights; never the weights, never its code."""

from __future__ import annotations

import json
import os


class HubTrouble(ValueError):
    """The hub can't be reached, or doesn't have the model."""


def fetch(repo: str) -> tuple[dict, int | None]:
    """(config.json, bytes of the safetensors files or None) of a model on the hub."""
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "5")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        path = hf_hub_download(repo, "config.json")
    except GatedRepoError as e:
        raise HubTrouble(f"{repo} is gated: accept its terms on https://huggingface.co/{repo} and set HF_TOKEN, or give its "
                         "config.json as a file.") from e
    except LocalEntryNotFoundError as e:        # offline, by choice or by fate
        raise HubTrouble(f"{repo} is not in the catalogue, and the hub can't be reached: give a folder or a config.json, or "
                         "one of './course fit --list'.") from e
    except RepositoryNotFoundError as e:
        raise HubTrouble(f"the hub has no model {repo}, or it is private: check the name, or set HF_TOKEN.") from e
    except EntryNotFoundError as e:
        raise HubTrouble(f"{repo} has no config.json on the hub (GGUF only?): give the model that it was made from.") from e
    except Exception as e:                      # DNS, proxies, TLS: each library has its own
        raise HubTrouble(f"{repo} is not in the catalogue, and the hub can't be reached ({type(e).__name__}): give a folder or "
                         "a config.json, or one of './course fit --list'.") from e
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    return config, _size(repo)


def _size(repo: str) -> int | None:
    from huggingface_hub import hf_hub_download

    try:
        with open(hf_hub_download(repo, "model.safetensors.index.json"), encoding="utf-8") as f:
            return int(json.load(f)["metadata"]["total_size"])
    except (OSError, ValueError, KeyError):                           # one file without an index, or no safetensors: the size is a bonus
        return None
