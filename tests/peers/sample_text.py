"""A text of many scripts, made here and always the same: what the fixtures of the tokenizers are about.

Words of real languages are few and common; everything else is drawn from ranges of code points.
"""
import random

WORDS = {
    "latin": "the of and to in is that it was for on as with his they be at one have this from or had by".split(),
    "german": "über für größer Straße Öl Übung mögen läßt naïve façade".split(),
    "greek": "και το να είναι από με την ένα άλλο λόγος".split(),
    "cyrillic": "что это как так его но они если мы уже ёлка й".split(),
    "arabic": "في من على إلى هذا التي كان ذلك".split(),
    "hebrew": "של את על זה לא הוא היא אם".split(),
    "devanagari": "है के में की से को यह और हिन्दी क्षत्रिय".split(),
    "thai": "ที่ และ ใน ของ เป็น ได้ ไม่ น้ำ".split(),
    "chinese": "的 一 是 不 了 在 人 有 我 他 这 中国 汉字".split(),
    "japanese": "これ は それ です ます カタカナ がぎぐ 日本語".split(),
    "korean": "이 그 저 것 수 있다 한국어 값".split(),
}
CODE = """def f(x, *, y=0x1F):  # comment\n\treturn {"a": [x ** 2 for x in range(10)], 'b': None}
for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }  // loop\n    if (x != NULL && y->next) return -1;
SELECT * FROM t WHERE id >= 1000 AND name LIKE '%foo%';\n<div class="x">it's, they're, I'VE, we'll, He'D, I'm</div>
"""
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧", "🇩🇪", "❤️", "🏳️‍🌈", "1️⃣", "🧑🏻‍💻"]
MARKS = ["e\u0301", "a\u0323\u0302", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u212b", "\u0958", "q\u0307\u0323", "\u0344", "o\u0308\u0304",
         "\u09c7\u09be", "\U0001d15e", "\uf900", "\u2126", "\u1e9b\u0323", "\u200d", "\u180e", "\u0345x", "\u017f's", "K'\u017f"]
BLANKS = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", "\u180e", "          ", " " * 30,
          "\n\n\n  ", "\x0b", "\x0c", "\x1c"]
TOKENS = ["<|endoftext|>", "<|im_start|>", "<mask>", "  <mask>  ", "<|endof", "|||EMAIL|||", "<pad", "é<x>é"]
BROKEN = [b"\x80", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82\xe2\x82\xac", b"\x00"]


def make_text(seed, size, blanks=True):
    """About `size` bytes, some of them no UTF-8."""
    rng = random.Random(seed)
    parts, length = [], 0
    while length < size:
        kind = rng.random()
        if kind < 0.50:
            words = WORDS[rng.choice(list(WORDS))]
            part = " ".join(rng.choice(words) for _ in range(rng.randint(1, 12))) + rng.choice(["", ".", ",", "!", "…", "。", "؟", "\n"])
        elif kind < 0.58:
            part = CODE[rng.randrange(len(CODE) // 2):][: rng.randint(5, 120)]
        elif kind < 0.64:
            part = rng.choice(EMOJI) * rng.randint(1, 3)
        elif kind < 0.70:
            part = rng.choice(MARKS) + rng.choice(["", "b", " ", "\u0301"])
        elif kind < 0.80:
            part = rng.choice(BLANKS)
        elif kind < 0.84:
            part = rng.choice(TOKENS)
        elif kind < 0.88:
            part = str(rng.randrange(10 ** rng.randint(1, 14))) + rng.choice(["", "٣", "²", "Ⅷ", ".5", "e-3"])
        elif kind < 0.92:
            part = "".join(chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x250, 0x2000), rng.randrange(0x2000, 0xD800),
                                           rng.randrange(0xE000, 0x10000), rng.randrange(0x10000, 0x2FA20)])) for _ in range(rng.randint(1, 8)))
        elif kind < 0.95:
            part = "".join(rng.choice("abcXYZ0189+/=_-") for _ in range(rng.randint(20, 200)))
        else:
            part = rng.choice(BROKEN)
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        if blanks and rng.random() < 0.6:
            data += b" "
        parts.append(data)
        length += len(data)
    return b"".join(parts)
