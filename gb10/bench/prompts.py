"""What is asked: texts of a wished length, and a nonce at the start so that no prefix cache knows them.

The same settings give the same texts (seeded); the nonce also holds a salt of the run, because the cache of an engine
outlives a run. All words have five letters, so that every request of a cell has the same number of bytes.
"""

from __future__ import annotations

WORDS = ["about", "above", "after", "again", "along", "among", "angle", "apple", "april", "arrow", "badge", "baker", "basin", "beach", "begin", "below", "bench", "berry", "birch", "black", "blade", "blend", "block", "board", "bonus", "booth", "bread", "brick", "bride", "bring", "broad", "brown", "brush", "build", "bunch", "cabin", "cable", "camel", "candy", "canoe", "cargo", "carry", "catch", "cause", "chain", "chair", "chalk", "charm", "chart", "chess", "chest", "chief", "child", "clean", "clear", "clerk", "cliff", "clock", "close", "cloth", "cloud", "coach", "coast", "color", "couch", "count", "court", "cover", "craft", "cream", "crisp", "cross", "crowd", "crown", "curve", "cycle", "daily", "dairy", "dance", "depth", "diary", "draft", "drama", "dream", "dress", "drift", "drink", "drive", "eager", "eagle", "early", "earth", "eight", "elbow", "empty", "enjoy", "enter", "equal", "event", "every", "exact", "extra", "faith", "field", "final", "first", "flame", "fleet", "float", "flood", "floor", "flour", "focus", "force", "forty", "found", "frame", "fresh", "front", "fruit", "giant", "glass", "globe", "glove", "grace", "grain", "grand", "grape", "grass", "great", "green", "group", "guard", "guest", "guide", "habit", "happy", "heart", "heavy", "honey", "horse", "hotel", "house", "human", "index", "inner", "issue", "jelly", "joint", "judge", "juice", "knife", "label", "large", "laser", "later", "laugh", "layer", "learn", "lemon", "level", "light", "limit", "linen", "local", "loyal", "lucky", "lunch", "magic", "major", "maple", "march", "metal", "meter", "minor", "model", "money", "month", "motor", "mount", "mouse", "music", "nerve", "never", "night", "noble", "noise", "north", "novel", "nurse", "ocean", "offer", "olive", "onion", "opera", "orbit", "order", "other", "outer", "owner", "paint", "panel", "paper", "party", "pasta", "patch", "pause", "peace", "pearl", "phase", "phone", "piano", "piece", "pilot", "place", "plain", "plane", "plant", "plate", "point", "polar", "power", "press", "price", "pride", "prime", "print", "prize", "proof", "proud", "pulse", "quick", "quiet", "quote", "radio", "ranch", "range", "rapid", "ratio", "reach", "ready", "right", "river", "robot", "rough", "round", "route", "royal", "salad", "scale", "scene", "scope", "score", "shade", "shape", "share"]
NONCE_DIGITS = 21                # of a 64-bit number, a multiple of three
OPENING = "Write a long story without an end about these words, and never stop:"
MASK = (1 << 64) - 1


def mixed(*parts: int) -> int:
    """A 64-bit number that looks random, from numbers that don't (splitmix64's finalizer, Steele et al. 2014)."""
    z = 0
    for part in parts:
        z = (z + part + 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
    return z


def nonce(*parts: int) -> str:
    """Digits, different for different numbers (but for one chance in 2^64).

    Tokenizers split digits one by one or in threes, so a fixed number of them has a fixed number of tokens; words do not.
    """
    return f"{mixed(*parts):0{NONCE_DIGITS}d}"


def text(words: int, seed: int, short: int = 0) -> str:
    """`words` words of filler behind an instruction that asks for a long answer, and `short` of one letter."""
    return " ".join([OPENING, *(WORDS[mixed(seed, i) & 255] for i in range(words)), *("a" for _ in range(short))])
