"""A model's config.json from the Hugging Face hub, and the size of its weights; never the weights, never its code."""

from __future__ import annotations

import json

TIMEOUT = 5              # seconds, one try: whoever asks is waiting


class HubTrouble(ValueError):
    """The hub can't be reached, or doesn't have the model."""


def fetch(repo: str) -> tuple[dict, int | None]:
    """(config.json, bytes of the safetensors files or None) of a model on the hub, or of the hub's local cache."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    other = "give a folder or a config.json, or one of './course fit --list'."
    try:
        path = hf_hub_download(repo, "config.json", local_files_only=True)
    except (LocalEntryNotFoundError, EntryNotFoundError, ValueError):
        if constants.HF_HUB_OFFLINE:
            raise HubTrouble(f"{repo} is not in the catalogue, and the hub is switched off (HF_HUB_OFFLINE): {other}") from None
        try:
            get_hf_file_metadata(hf_hub_url(repo, "config.json"), timeout=TIMEOUT)      # one try, before the client's many
            path = hf_hub_download(repo, "config.json")
        except GatedRepoError as e:
            raise HubTrouble(f"{repo} is gated: accept its terms on https://huggingface.co/{repo} and set HF_TOKEN, or "
                             "give its config.json as a file.") from e
        except RepositoryNotFoundError as e:
            raise HubTrouble(f"the hub has no model {repo}, or it is private: check the name, or set HF_TOKEN.") from e
        except LocalEntryNotFoundError as e:
            raise HubTrouble(f"{repo} is not in the catalogue, and the hub can't be reached: {other}") from e
        except EntryNotFoundError as e:
            raise HubTrouble(f"{repo} has no config.json on the hub (GGUF only?): give the model that it was made from.") from e
        except Exception as e:     # DNS, proxies, TLS, timeouts: every transport has its own
            raise HubTrouble(f"{repo} is not in the catalogue, and the hub can't be reached ({type(e).__name__}): {other}") from e
    with open(path, encoding="utf-8") as f:
        return json.load(f), _size(repo, hf_hub_download)


def _size(repo: str, download) -> int | None:
    """Bytes of all shards, from the index; None for models of one file."""
    try:
        with open(download(repo, "model.safetensors.index.json", etag_timeout=TIMEOUT), encoding="utf-8") as f:
            return int(json.load(f)["metadata"]["total_size"])
    except (OSError, ValueError, KeyError):         # the hub's errors are OSErrors; the size is a bonus
        return None
