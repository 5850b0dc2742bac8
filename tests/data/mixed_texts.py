"""Texts of many kinds, from a seed: code, other scripts, spaces, texts of tokens in the middle."""

from __future__ import annotations

import random
from collections.abc import Sequence

WORDS = (
    "the and Hello WORLD don't I'LL we've naïve Straße œuvre snake_case camelCase HTTPServer e.g. "
    "3.14 1,000,000 2026 0x1F v2.0.1 user@host #tag … — “quoted” ‘s $100 50% C++ a/b ½ x² ①② Ⅷ ٣٤ "
    "१२३ ﬁne Ａｂ"
).split()
SCRIPTS = (
    "Привет, как дела?",
    "Καλημέρα κόσμε",
    "你好，世界。",
    "日本語のテキスト",
    "한국어 문장입니다",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "ខ្មែរ",
    "Việt Nam",
    "e\u0301a\u0300 n\u0303",
    "🙂🦙👩\u200d👩\u200d👧🇩🇪",
    "𝔘𝔫𝔦",
    "\u200b\u00a0\u2003",
    "\ufeff",
    "ĠÂ³",
    "▁▁x",
    "İı",
    "Ǆǅǆ",
)
CODE = (
    "def f(x):\n    return x ** 2\n",
    "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i];\n\t}",
    '<div class="a">&nbsp;</div>',
    "SELECT * FROM t WHERE a >= 10;",
    "\\frac{1}{2}",
    "if x:\r\n\tpass\r\n",
    '{"k": [1, 2.5, null]}',
    "// ====== //",
    "`ls -la | grep '\\.py$'`",
    "```python\nprint('hi')\n```",
    "x=y!=z",
    "a::b->c",
    "/* */",
    "!!!???",
    "((((",
    "\\n\\t",
)
SPACES = (
    *(" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "\n    ", "\t\t\t", " " * 7, " " * 33),
    *("\u00a0", "\u3000", "\v\f"),
)
POINTS = ((1, 0x2FF), (0x300, 0xD7FF), (0xE000, 0x1FFFF))  # all but halves of pairs


def texts(count: int, seed: int, special: Sequence[str] = ()) -> list[str]:
    """`count` texts; `special` are texts of tokens, whole or cut, between the rest."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        parts = [_part(draw, special) for _ in range(draw.randint(0, 14))]
        found.append(draw.choice(("", "", " ")).join(parts))
    return found


def _part(draw: random.Random, special: Sequence[str]) -> str:
    kind = draw.random()
    if kind < 0.35:
        return draw.choice(WORDS)
    if kind < 0.5:
        return draw.choice(SCRIPTS)
    if kind < 0.6:
        return draw.choice(CODE)
    if kind < 0.85:
        return draw.choice(SPACES)
    if kind < 0.9:
        return draw.choice("=-*_.a1é🙂 ") * draw.randint(1, 40)
    if kind < 0.93 or not special:
        return "".join(chr(draw.randint(*draw.choice(POINTS))) for _ in range(draw.randint(1, 6)))
    token = draw.choice(special)
    return token if kind < 0.98 else token[: draw.randint(0, len(token))]
