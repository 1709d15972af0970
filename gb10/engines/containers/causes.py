"""What Docker's and the engines' last words mean, each in one sentence that says what to do.

The words are those that are seen on a Spark; issue numbers where somebody reported them.
"""

from __future__ import annotations

import re

DROP_CACHES = "sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'"

_RULES = tuple((re.compile(pattern, re.IGNORECASE), sentence) for pattern, sentence in (
    # Docker
    (r"port is already allocated|address already in use",
     "the port is taken: ./course status says by whom if it is an engine; another can be chosen with --port."),
    (r"no matching manifest for|exec format error|does not match the (?:detected )?host platform",
     "the image is not made for this machine's processor ({arch}): take a tag that is, with {prefix}_IMAGE."),
    (r"manifest unknown|manifest for \S+ not found|not found: manifest",
     "the registry has no such image or tag ({image}): choose another with {prefix}_IMAGE."),
    (r"pull access denied|unauthorized|authentication required|denied: requested access",
     ("the registry refuses the image ({image}): log in, docker login nvcr.io --username '$oauthtoken' --password-stdin with an "
      "NGC key, or check the name.")),
    (r"no space left on device|disk quota exceeded",
     "the disk is full: images take 10 to 30 GB and models more; docker system df and ./course models show where it went."),
    (r"could not select device driver|nvidia-container-cli|unresolvable CDI devices",
     "Docker can't give the container the GPU: install the NVIDIA Container Toolkit and restart Docker."),
    ((r"TLS handshake timeout|i/o timeout|no such host|temporary failure in name resolution|connection reset by peer|"
      r"network is unreachable|error pulling image.*timeout"),
     "the network failed: what has come is kept, run this again when it is back."),
    (r"Cannot connect to the Docker daemon", "Docker stopped: sudo systemctl start docker."),
    # memory, the most frequent trouble of a Spark (vllm-project/vllm #35313, #48140; #46307)
    (r"Free memory on device .* is less than desired",
     (f"the engine counts page cache as used memory and finds too little: give it back, {DROP_CACHES}, then run this again (or "
      f"the same command with --drop-caches).")),
    (r"CUDA out of memory|OutOfMemoryError|NV_ERR_NO_MEMORY|cudaErrorMemoryAllocation|failed to allocate memory|std::bad_alloc",
     ("it ran out of memory: take fewer users or a shorter context (--users 4 --context 8192), or a smaller model; nothing else "
      "should be running.")),
    (r"No available memory for the cache blocks|max seq len .* is larger than the maximum number of tokens",
     "no room is left for the KV cache after the weights: take a shorter context, --context 8192."),
    # the hub
    (r"GatedRepoError|gated repo|Access to model \S+ is restricted|403 Client Error",
     "the model is gated: accept its terms on its page at huggingface.co, export HF_TOKEN with read access to it, and run this again."),
    (r"RepositoryNotFoundError|40[14] Client Error|is not a valid model identifier",
     "the hub has no such model ({model}), or it is private and HF_TOKEN is not set: check the spelling."),
    (r"429 Client Error|Too Many Requests", "the hub or the registry asks to slow down: wait some minutes, or log in (HF_TOKEN, docker login)."),
    (r"LocalEntryNotFoundError|couldn't connect to ['\"]?https://huggingface.co|OfflineModeIsEnabled",
     "the model is not on this machine and the hub can't be reached: ./course models get, or install it from a bundle."),
    # the model
    (r"Model architectures? .* (?:are|is) not supported|does not recognize this architecture|KeyError: 'qwen3_5",
     "this version of the engine doesn't know the model's architecture: take a newer image with {prefix}_IMAGE, or another engine."),
    (r"no kernel image is available|unsupported gpu architecture",
     "the image has no kernels for this GPU: take the tag in compose/.env.example."),
    (r"unrecognized arguments?: (?P<what>\S+)|No such option: (?P<option>\S+)",
     "this version of the image doesn't know an option of the compose file: take the tag in compose/.env.example."),
    (r"NVIDIA Driver .* is too old|CUDA driver version is insufficient",
     "the image needs a newer driver than this machine has: update the system, or take an older tag."),
))


def why(text: str, **words: str) -> str | None:
    """The sentence for what the text says, if any of it is known. words: arch, prefix, image, model."""
    found = [(m.start(), sentence) for pattern, sentence in _RULES if (m := pattern.search(text))]
    if not found:
        return None
    # the first that went wrong, not what followed from it
    return min(found)[1].format(**{"arch": "", "prefix": "", "image": "", "model": ""} | words)
