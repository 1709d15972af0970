"""Checkers of lesson 03, notebook 4: the efficiency audit."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import fmean, median, stdev

from gb10.check.verdict import Case, Mistake, Verdict, grade

TOLERANCE = 0.05


# ---------------------------------------------------------------- the same work?

def _spoilers(a, b, *, prompt=lambda p, q: abs(p - q) > TOLERANCE * max(p, q), cached=None, output=lambda m, n: m != n,
              flight=True):
    cached = cached or (lambda a, b: any(s["cached_tokens"] > TOLERANCE * s["prompt_tokens"] for s in (a, b)))
    out = ["prompt_tokens"] * bool(prompt(a["prompt_tokens"], b["prompt_tokens"]))
    out += ["cached_tokens"] * bool(cached(a, b))
    out += ["output_tokens"] * bool(output(a["output_tokens"], b["output_tokens"]))
    return out + ["in_flight"] * (flight and a["in_flight"] != b["in_flight"])


def _run(prompt, cached, output, flight):
    return {"prompt_tokens": prompt, "cached_tokens": cached, "output_tokens": output, "in_flight": flight}


_RUNS = (
    (_run(512, 0, 128, 1), _run(512, 0, 128, 1), "the same in everything"),
    (_run(512, 4, 128, 1), _run(520, 0, 128, 1), "a chat template of eight tokens more, four of them cached"),
    (_run(512, 0, 128, 1), _run(410, 0, 128, 1), "two tokenizers"),
    (_run(1000, 0, 64, 4), _run(1052, 0, 64, 4), "1000 and 1052 tokens: 4.9 % of the longer"),
    (_run(1000, 0, 64, 4), _run(1060, 0, 64, 4), "1000 and 1060 tokens: 5.7 % of the longer"),
    (_run(512, 496, 128, 1), _run(512, 496, 128, 1), "both from the cache: nothing was measured of reading a prompt"),
    (_run(512, 0, 128, 1), _run(512, 496, 128, 1), "one from the cache"),
    (_run(512, 0, 128, 1), _run(512, 0, 91, 1), "one ended early"),
    (_run(512, 0, 128, 1), _run(512, 0, 128, 16), "one user and sixteen"),
    (_run(2048, 2032, 128, 8), _run(300, 0, 64, 1), "nothing is the same"),
)

_RUN_MISTAKES = (
    Mistake(lambda a, b: _spoilers(a, b, prompt=lambda p, q: p != q),
            "templates and tokenizers differ by a few tokens, and that is no other work: prompts count as different when they are "
            "more than 5 % of the longer one apart."),
    Mistake(lambda a, b: _spoilers(a, b, prompt=lambda p, q: abs(p - q) > TOLERANCE * min(p, q)),
            "you took 5 % of the shorter prompt; asked is 5 % of the longer one."),
    Mistake(lambda a, b: _spoilers(a, b, prompt=lambda p, q: q - p > TOLERANCE * max(p, q)),
            "your difference has a sign: it finds the second prompt too long and never too short. Take abs()."),
    Mistake(lambda a, b: _spoilers(a, b, prompt=lambda p, q: p - q > TOLERANCE * max(p, q)),
            "your difference has a sign: it finds the first prompt too long and never too short. Take abs()."),
    Mistake(lambda a, b: _spoilers(a, b, cached=lambda a, b: a["cached_tokens"] != b["cached_tokens"]),
            "cached tokens spoil a comparison also when both sides have as many: a prompt from the cache was not read, and the time to "
            "the first token says nothing about reading. A few tokens of a template are no harm: the limit is 5 % of the prompt."),
    Mistake(lambda a, b: _spoilers(a, b, cached=lambda a, b: a["cached_tokens"] + b["cached_tokens"] > 0),
            "the first tokens of a chat template come from any cache, and do no harm: the limit is 5 % of the side's own prompt."),
    Mistake(lambda a, b: _spoilers(a, b, cached=lambda a, b: a["cached_tokens"] > TOLERANCE * a["prompt_tokens"]),
            "look at the cache of both sides: one is enough to spoil the comparison."),
    Mistake(lambda a, b: _spoilers(a, b, cached=lambda a, b: False),
            "a prompt that came from the cache was not read: compare cached_tokens with 5 % of prompt_tokens, on each side."),
    Mistake(lambda a, b: _spoilers(a, b, output=lambda m, n: abs(m - n) > TOLERANCE * max(m, n) and max(m, n) > 2 * min(m, n)),
            "answers are made equally long by the benchmark: any difference in output_tokens says that a side stopped early."),
    Mistake(lambda a, b: _spoilers(a, b, flight=False), "with other requests in flight a request waits for them: look at in_flight, too."),
    Mistake(lambda a, b: not _spoilers(a, b), "that says whether the work was the same; asked are the names of what spoils it."),
    Mistake(lambda a, b: bool(_spoilers(a, b)), "asked is which figures differ, as a list of their names; [] where nothing does."),
    Mistake(lambda a, b: len(_spoilers(a, b)), "asked are the names of what differs, not how many there are."),
)


def same_work(function: Callable) -> Verdict:
    """same_work(a, b) -> names of what spoils the comparison of two runs, in the order of the figures; [] for the same work."""
    cases = [Case((a, b), _spoilers(a, b), name) for a, b, name in _RUNS]
    return grade(
        "same_work", function, cases, mistakes=_RUN_MISTAKES,
        hint="go through the four figures in their order and collect the names of those that spoil it: prompt_tokens more than 5 % of "
             "the longer apart; cached_tokens of either side above 5 % of its own prompt; output_tokens or in_flight not equal.",
        done="ask this of every published comparison before you read its speeds. Most don't say.")


# ---------------------------------------------------------------- a paired bootstrap

def _interval(a, b, draws, *, of=fmean, low=0.025, high=0.975, order=sorted):
    differences = [y - x for x, y in zip(a, b, strict=True)]
    means = order(of([differences[i] for i in draw]) for draw in draws)
    return means[int(low * len(means))], means[int(high * len(means))]


def _unpaired(a, b, draws):
    means = sorted(fmean(b[i] for i in other) - fmean(a[i] for i in draw)
                   for draw, other in zip(draws, draws[1:] + draws[:1], strict=True))
    return means[int(0.025 * len(means))], means[int(0.975 * len(means))]


def _normal(a, b, draws):
    d = [y - x for x, y in zip(a, b, strict=True)]
    half = 1.96 * stdev(d) / math.sqrt(len(d))
    return fmean(d) - half, fmean(d) + half


def _pairs(n: int, count: int, effect: float, seed: int):
    """Two paired series that rise and fall together, the second higher by `effect`, and `count` draws of n positions."""
    rng = random.Random(seed)
    a = [3 + rng.gauss(0, 0.4) for _ in range(n)]
    b = [x + effect + rng.gauss(0, 0.03) for x in a]
    return [round(x, 4) for x in a], [round(x, 4) for x in b], [[rng.randrange(n) for _ in range(n)] for _ in range(count)]


_PAIRS = ((_pairs(6, 400, 0.05, 1), "six pairs of blocks, the second a little higher"),
          (_pairs(40, 200, 0.0, 2), "forty windows of text, no difference"),
          (_pairs(12, 1000, -0.2, 3), "twelve pairs, the second lower"))

_PAIR_MISTAKES = (
    Mistake(_unpaired, "you drew the two sides apart. They were measured in pairs, and what a pair has in common (a hard passage, a warm "
                       "machine) must cancel: take the difference of each pair first, then draw differences."),
    Mistake(lambda a, b, draws: _interval(b, a, draws), "the sign is turned: asked is b minus a."),
    Mistake(lambda a, b, draws: _interval(a, b, draws, order=list), "the means have to be sorted before you take the one at 2.5 % and the one "
                                                                    "at 97.5 %."),
    Mistake(lambda a, b, draws: _interval(a, b, draws, low=0.05, high=0.95), "that is a 90 % interval: 2.5 % lie beyond each end of a 95 % one."),
    Mistake(lambda a, b, draws: _interval(a, b, draws, low=0.0, high=0.99999), "those are the smallest and the largest mean; they move further "
                                                                               "out the more often you draw."),
    Mistake(lambda a, b, draws: _interval(a, b, draws, of=median), "that is the median of each draw; asked is the mean."),
    Mistake(lambda a, b, draws: _interval(a, b, draws, of=sum), "that is the sum of each draw; asked is the mean."),
    Mistake(_normal, "that is the textbook interval, mean ± 1.96 standard errors. It is close; asked is the one from the given draws."),
    Mistake(lambda a, b, draws: fmean(y - x for x, y in zip(a, b, strict=True)),
            "that is the mean difference; asked is the interval around it, two numbers."),
)


def paired_interval(function: Callable) -> Verdict:
    """paired_interval(a, b, draws) -> (low, high): 95 % bootstrap interval of the mean of b - a over paired values."""
    cases = [Case(args, _interval(*args), name) for args, name in _PAIRS]
    return grade(
        "paired_interval", function, cases, mistakes=_PAIR_MISTAKES, rel=1e-9, absolute=1e-12,
        hint="first the difference b - a of each pair; then for each draw the mean of the differences at its positions; sort these "
             "means; low is at position int(0.025 * n), high at int(0.975 * n), with n the number of draws.",
        done="where the interval holds 0, say \"no difference shown\", and not \"they are equal\".")


# ---------------------------------------------------------------- is there an arm64 image?

def _arm64(manifest, *, os_="linux", architecture="arm64"):
    return any(entry.get("platform", {}).get("architecture") == architecture and entry.get("platform", {}).get("os") == os_
               for entry in manifest.get("manifests", []))


def _listed(*platforms, **more):
    entries = [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": f"sha256:{n:064x}", "size": 7143} |
               ({"platform": dict(zip(("os", "architecture", "variant"), p.split("/"), strict=False))} if p else {})
               for n, p in enumerate(platforms, 0xA64)]
    return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries} | more


_MANIFESTS = (
    (_listed("linux/amd64", "linux/arm64"), "two platforms"),
    (_listed("linux/amd64"), "a list with one platform"),
    (_listed("linux/arm64/v8", "linux/amd64"), "arm64 with a variant, and first"),
    (_listed("linux/amd64", "linux/arm/v7"), "a 32-bit ARM: no Spark runs it"),
    (_listed("linux/amd64", "windows/arm64"), "arm64, but of Windows"),
    (_listed("linux/amd64", "unknown/unknown", "linux/arm64", "unknown/unknown"), "attestations between the images"),
    (_listed("linux/amd64", annotations={"org.opencontainers.image.description": "arm64 is planned"}), "arm64 in a description only"),
    (_listed("linux/amd64", None), "an entry without a platform"),
    ({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
      "config": {"size": 9000, "digest": "sha256:00"}, "layers": []}, "one image, no list: it promises nothing"),
)

_MANIFEST_MISTAKES = (
    Mistake(lambda m: "arm64" in str(m), "you searched the text. It also holds descriptions, and platforms of other systems: look at each "
                                         "entry's platform."),
    Mistake(lambda m: any(e.get("platform", {}).get("architecture") == "arm64" for e in m.get("manifests", [])),
            "arm64 of Windows is no image for a Spark: os has to be linux in the same entry."),
    Mistake(lambda m: any(str(e.get("platform", {}).get("architecture")).startswith("arm") and e["platform"].get("os") == "linux"
                          for e in m.get("manifests", [])),
            "arm is the 32-bit architecture; the Spark's is arm64."),
    Mistake(lambda m: any(e.get("platform") == {"os": "linux", "architecture": "arm64"} for e in m.get("manifests", [])),
            "a platform can have a variant (v8) besides: compare os and architecture only."),
    Mistake(lambda m: bool(m.get("manifests")) and m["manifests"][0].get("platform", {}).get("architecture") == "arm64",
            "look at all entries of the list, not at the first alone."),
    Mistake(lambda m: len(m.get("manifests", [])) > 1, "several entries are no proof: attestations are entries, too."),
    Mistake(lambda m: not _arm64(m), "the answer is turned round: True where there is an image for linux/arm64."),
)


def manifest_has_arm64(function: Callable) -> Verdict:
    """manifest_has_arm64(manifest) -> bool: whether a manifest list (a dictionary) has an image for linux/arm64."""
    cases = [Case((m,), _arm64(m), name) for m, name in _MANIFESTS]
    return grade(
        "manifest_has_arm64", function, cases, mistakes=_MANIFEST_MISTAKES,
        hint="go through manifest.get(\"manifests\", []); an entry counts when its platform has architecture arm64 and os linux. Entries "
             "can lack a platform, and a manifest of one image has no list: False.",
        done="docker would have told you with \"exec format error\", after the download.")
