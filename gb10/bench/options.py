"""What can be asked for on the command line, and what of it makes no sense."""

from __future__ import annotations

import argparse
import json
import os

from gb10.bench.expect import Expectation
from gb10.errors import UserError

# preset: (concurrency levels, seconds a level, what it is for)
PRESETS = {"quick": ((1, 4), 14, "about 30 seconds: is it alive, and roughly how fast?"),
           "standard": ((1, 4, 16), 58, "about 3 minutes: figures to quote"),
           "sweep": ((1, 2, 4, 8, 16, 32, 64), 84, "about 10 minutes: how it scales with the number of users")}
MAX_TOKENS, IN_FLIGHT = 128, 256

EPILOG = """\
Examples:
  {prog}                                              a menu, in a terminal
  {prog} --engine vllm                                the quick preset against vLLM on port 8002
  {prog} --url http://127.0.0.1:8000/v1 --concurrency 1,4,16 --requests 50 --max-tokens 256
  {prog} --engine vllm,ollama --seconds 60            interleaved, with a verdict: which is faster, if any
  {prog} --engine trtllm --prompt-tokens 2048 --preset sweep
  {prog} --engine vllm --rate 2 --seconds 120         requests by the clock (Poisson), whatever the server does
  {prog} --engine vllm --expect 'tpot_p50<30ms' --expect errors=0      exit code 1 when not kept
  {prog} --report                                     the last run again; --report --list lists them
  {prog} --report 2 1                                 one saved run against another
  {prog} --report --html report.html                  the last run as one file
  {prog} --explain TPOT                               what a figure means, exactly
  {prog} --selftest                                   how well does this client measure, here and now?

python3 appendix/llm_benchmark.py and ./course bench are the same. It changes nothing on the server. The API key, if one is needed, comes from GB10_API_KEY and is written nowhere.
Exit codes: 0 done; 1 requests failed or an expectation was not kept; 2 the request made no sense; 130 stopped by Ctrl-C
(with a report of what was done).
"""


def parser(prog: str) -> argparse.ArgumentParser:
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            raise UserError(f"{message}. What it understands: {prog} --help")

    p = Parser(prog=prog, description="Measure OpenAI-compatible servers: how long until the first token, how fast the others, for "
               "how many users, and how sure that is.", epilog=EPILOG.replace("{prog}", prog),
               formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    g = p.add_argument_group("whom to measure")
    g.add_argument("--url", action="append", metavar="URL", help="a server, with or without /v1; twice for a comparison")
    g.add_argument("--engine", metavar="E[,E]", help="ollama trtllm vllm own sglang, on their usual ports; two for a comparison; "
                   "'up' for all that answer")
    g.add_argument("--model", action="append", metavar="M", help="which of its models (default: the first that it lists)")
    g.add_argument("--api", choices=("chat", "completions"), default="chat", help="which of the two APIs (default: chat)")
    g.add_argument("--key-env", metavar="NAME", default="GB10_API_KEY", help="the environment variable that holds the API key")
    g = p.add_argument_group("how much")
    g.add_argument("--preset", choices=PRESETS, help="; ".join(f"{k}: {v[2]}" for k, v in PRESETS.items()) +
                   " (default: quick, unless --requests, --seconds or --rate says otherwise)")
    g.add_argument("--concurrency", metavar="C,C,…", help="requests in flight at once; each level is measured by itself")
    g.add_argument("--requests", type=int, metavar="N", help="requests at each level")
    g.add_argument("--seconds", type=float, metavar="S", help="at each level, start requests for so long")
    g.add_argument("--rate", metavar="R,R,…", help="requests per second by the clock, instead of --concurrency")
    g.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson", help="with --rate (default: poisson)")
    g.add_argument("--warmup", type=int, default=1, metavar="N", help="requests beforehand that count for nothing (default: 1)")
    g = p.add_argument_group("what work")
    g.add_argument("--max-tokens", type=int, default=MAX_TOKENS, metavar="T", help=f"tokens of each answer (default: {MAX_TOKENS})")
    g.add_argument("--any-length", action="store_true", help="let answers end where they end, and count them all")
    g.add_argument("--prompt-tokens", type=int, metavar="P", help="tokens of each prompt, found with the server's own count")
    g.add_argument("--prompt", metavar="TEXT", help="a prompt of yours instead of filler; @FILE reads one")
    g.add_argument("--warm", action="store_true", help="the same prompt each time: let the prefix cache work, on purpose")
    g.add_argument("--turns", type=int, default=1, metavar="N", help="conversations of N turns instead of single requests")
    g.add_argument("--temperature", type=float, default=0.0, metavar="X", help="(default: 0)")
    g.add_argument("--seed", type=int, default=0, metavar="N", help="of prompts, arrivals and sampling (default: 0)")
    g.add_argument("--extra", metavar="JSON", help="more fields, as in '{\"chat_template_kwargs\": {\"enable_thinking\": false}}'")
    g = p.add_argument_group("when to give up")
    g.add_argument("--stall", type=float, default=60, metavar="S", help="an answer that has begun and then brings nothing for S seconds (60)")
    g.add_argument("--timeout", type=float, default=1800, metavar="S", help="a request that takes longer than S seconds, waiting included (1800)")
    g = p.add_argument_group("judging")
    g.add_argument("--slo", metavar="X=MS,…", help="limits for goodput: ttft=500,tpot=50,e2e=10000 in ms")
    g.add_argument("--expect", action="append", default=[], metavar="COND", help="a condition such as 'ttft_p99@16<500ms'; may be repeated")
    g.add_argument("--weights", metavar="FORMAT", help="the model's format, for the roofline line: bf16 fp8 nvfp4 q4_k_m …")
    g.add_argument("--roofline-model", metavar="M", help="its name in the catalogue, its folder or config.json (default: by its name)")
    g.add_argument("--machine", metavar="NAME", help="where the server runs, for the roofline line (default: here)")
    g = p.add_argument_group("results")
    g.add_argument("--results", metavar="DIR", help="where runs are kept (default: bench-results in the course's folder)")
    g.add_argument("--label", metavar="NAME", help="a name for this run, shown in leaderboards")
    g.add_argument("--resume", nargs="?", const="last", metavar="RUN", help="go on with a run that was interrupted (default: the last)")
    g.add_argument("--json", metavar="FILE", help="write the figures as JSON; - for standard output")
    g.add_argument("--html", metavar="FILE", help="write a report as one file")
    g.add_argument("--md", metavar="FILE", help="the same as Markdown")
    g.add_argument("--csv", metavar="FILE", help="a row for each level")
    g.add_argument("--quiet", action="store_true", help="no progress")
    g = p.add_argument_group("instead of measuring")
    g.add_argument("--report", nargs="*", metavar="RUN", help="show a saved run (default: the last), or one against another")
    g.add_argument("--list", action="store_true", help="with --report: list the runs")
    g.add_argument("--leaderboard", nargs="+", metavar="PATH", help="rank the runs of a class: folders of runs, or files of --json")
    g.add_argument("--explain", nargs="?", const="", metavar="FIGURE", help="what the figures mean")
    g.add_argument("--selftest", action="store_true", help="measure a server whose true times are known")
    return p


def defaults():
    """The settings of a command without flags."""
    o = parser("bench").parse_args([])
    o.argv = None                        # a notebook's call has none
    o.key = os.environ.get(o.key_env) or None
    return o


def positive(value, what: str, least=1) -> None:
    if value is not None and not least <= value < float("inf"):      # also refuses nan
        raise UserError(f"{what} {value:g} makes no sense: give {least} or more.")


def check(o) -> None:
    """Fill in what follows from the rest; raises UserError for what makes no sense. Nothing has been asked of anybody yet."""
    for value, what, least in ((o.requests, "--requests", 1), (o.seconds, "--seconds", 0.1), (o.max_tokens, "--max-tokens", 1),
                               (o.prompt_tokens, "--prompt-tokens", 1), (o.turns, "--turns", 1), (o.stall, "--stall", 0.1),
                               (o.timeout, "--timeout", 0.1), (o.warmup, "--warmup", 0), (o.temperature, "--temperature", 0),
                               (o.seed, "--seed", 0)):
        positive(value, what, least)
    o.levels = levels(o.concurrency, "--concurrency", int)
    o.rates = levels(o.rate, "--rate", float)
    o.expectations = [Expectation(text) for text in o.expect]
    o.slos = slos(o.slo)
    o.extra = extra(o.extra)
    o.prompt_text = getattr(o, "prompt_text", None) if o.prompt is None else prompt(o.prompt)     # a resumed run's is known
    for text, what in ((o.label, "--label"), (o.prompt_text, "--prompt"), (json.dumps(o.extra, ensure_ascii=False), "--extra"),
                       *((name, "--model") for name in o.model or ())):
        utf8(text, what)
    if o.rates and o.turns > 1:
        raise UserError("--turns goes with --concurrency: a conversation's next turn waits for the answer, not for the clock.")
    if o.turns > 1 and o.api != "chat":
        raise UserError("--turns needs the chat API.")
    if o.prompt_text is not None and o.prompt_tokens is not None:
        raise UserError("--prompt and --prompt-tokens exclude each other: a text of yours has the length that it has.")
    if o.requests and o.seconds and not o.rates:
        raise UserError("--requests and --seconds exclude each other: say how many or for how long.")
    if o.preset and (o.requests or o.seconds or o.rates):
        raise UserError("a preset says how much by itself: leave out --requests, --seconds and --rate, or the preset.")
    if o.rates and not (o.requests or o.seconds):
        o.seconds = 60.0
    if not (o.requests or o.seconds or o.preset):
        o.preset = "quick"
    if o.preset:
        preset_levels, o.seconds, _ = PRESETS[o.preset]
        o.levels = o.levels or list(preset_levels)
    if not o.levels:
        o.levels = [IN_FLIGHT] if o.rates else [1]
    if o.rates and len(o.levels) > 1:
        raise UserError("with --rate one --concurrency is enough: the most requests that may be in flight.")
    files(o)
    catalogued(o)


def files(o) -> None:
    """The files that the result shall be written to."""
    for path, what in ((o.html, "--html"), (o.md, "--md"), (o.csv, "--csv"), (o.json, "--json")):
        if path is not None and path != "-":
            writable(path, what)


def catalogued(o) -> None:
    """The names that the roofline line is given. Looked up before the work, not after it."""
    if o.machine or o.weights or o.roofline_model:
        from gb10 import catalog
        from gb10.bench import roof

        for name, what, look in ((o.machine, "--machine", catalog.machine), (o.weights, "--weights", catalog.weight_format),
                                 (o.roofline_model, "--roofline-model", roof.find_model)):
            try:
                if name and not (what == "--machine" and name.lower() in ("this", "here", "local")):
                    look(name)
            except ValueError as e:
                raise UserError(f"{what}: {e}") from None


def utf8(text: str | None, what: str) -> None:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise UserError(f"{what} {text!r} is not UTF-8.") from None


def levels(text: str | None, what: str, kind) -> list:
    if text is None:
        return []
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{what} {text!r} can't be read: give numbers with commas between them, 1,4,16 for instance.") from None
    least = 1 if kind is int else 0.001
    if not all(least <= n <= 4096 for n in found):
        raise UserError(f"{what} {text}: each must be at least {least} and at most 4096.")
    if len(set(found)) < len(found):
        raise UserError(f"{what} {text}: the same level twice.")
    return found


def slos(text: str | None) -> dict | None:
    if text is None:
        return None
    out = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = name.strip().lower()
        try:
            out[name] = float(value)
        except ValueError:
            out[name] = -1
        if name not in ("ttft", "tpot", "e2e") or not 0 < out[name] < float("inf"):
            raise UserError(f"--slo {text!r} can't be read: give limits in ms, as in ttft=500,tpot=50.")
    return out


def extra(text: str | None) -> dict:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"--extra {text!r} is no JSON object: write '{{\"top_k\": 20}}', for instance.")
    own = {"messages", "prompt", "stream", "stream_options", "model", "max_tokens", "min_tokens"} & value.keys()
    if own:
        raise UserError(f"--extra can't set {', '.join(sorted(own))}: the benchmark does that itself.")
    return value


def prompt(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    try:
        with open(text[1:], encoding="utf-8") as f:
            return f.read()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"--prompt {text}: {getattr(e, 'strerror', None) or 'not UTF-8'}.") from None


def writable(path: str, what: str) -> None:
    """Find out before the work, not after it, that its result has no place."""
    if not path:
        raise UserError(f"{what} names no file.")
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as e:
        raise UserError(f"{what} {path[:60]}: {e.strerror}.") from None
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UserError(f"{what} {path}: {'that is a folder' if os.path.isdir(path) else 'its folder is not there or can not be written to'}.")
