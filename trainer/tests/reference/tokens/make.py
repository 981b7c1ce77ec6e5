"""Writes golden.json: the token ids of CLIP's own tokenizer for some thousand texts. Or encodes the recorded texts
again and compares.

    pip install --no-deps --requirement requirements.txt
    python make.py            # writes golden.json
    python make.py --check    # compares, exit code 1 on a difference

open_clip carries OpenAI's tokenizer with its special tokens renamed; their names are put back here. Its module imports
torch, which encoding doesn't use: an empty module takes its place. The texts are fixed ones and many from a seeded
generator: prompts, accents, emoji, CJK, combining marks, HTML references, odd white space, words of the vocabulary, and
text that was decoded in a wrong encoding.
"""

import html.entities
import importlib.util
import json
import pathlib
import platform
import random
import sys
import types
import unicodedata

import ftfy
import regex

HERE = pathlib.Path(__file__).parent
PACKAGE = pathlib.Path(importlib.util.find_spec("open_clip").origin).parent
FIXED = """a photo of a cat
a photo of a Egyptian Mau, a type of pet.
a centered satellite photo of Annual Crop Land.
a photo of a 2012 Mercedes-Benz C-Class Sedan.
a photo of a 747-400, a type of aircraft.
a photo of a F/A-18, a type of aircraft.
banded texture.
a photo of a person doing Playing_Sitar.
a photo of a Black-eyed Susan's bird's-eye view they're I'll we've don't can't i'd I'm
crème brûlée, jalapeño, São Paulo, Łódź, Dvořák, Ångström, smörgåsbord, Zürich
Привет, мир! Γειά σου Κόσμε. ΣΊΣΥΦΟΣ
你好，世界。 こんにちは世界 한국어 ไทย नमस्ते दुनिया مرحبا بالعالم שלום
👍🏽 😀😃 🏳️‍🌈 👨‍👩‍👧‍👦 🇩🇪🇫🇷 🏴󠁧󠁢󠁷󠁬󠁳󠁿 ☃️ ❤
“curly” ‘quotes’ „low“ ‚single‘ «guillemets» ʼn don’t
ﬁne ﬂow oﬀ oﬃce waﬄe ﬅ ﬆ Ĳssel ǅ ŉ
ＦＵＬＬ　ｗｉｄｔｈ １２３ ﾊﾝｶｸ ｶﾞ ￥ ￣
Tom &amp; Jerry &lt;b&gt; &eacute;t&eacute; &EACUTE; &SZLIG; &notit; &copy2024 &#233; &#xE9 &#128; &#0; &#59; &nosuch;
<b>bold</b> &amp; &eacute;
&amp;amp;amp;lt; &amp;amp;#233;
sÃ³ voilÃ  le travail, l’humanitÃ© âœ” â€œquotedâ€\x9d ðŸ˜€
ÃƒÂ© double, ÐŸÑ€Ð¸Ð²ÐµÑ‚, Ã la mode, Â© 2024
fÃ cil  Ã quele Ã  nÂ° 5
e\u0301 a\u030a n\u0303 \u1100\u1161\u11a8 q\u0323\u0307 \u0345 \u1fb3
zero\u200bwidth soft\u00adhyphen no\u00a0break \u2060joiner \ufeffbom \u2028line \u2029paragraph \x85next
\x1b[31mred\x1b[0m bell\x07 tab\tform\x0cfeed vertical\x0btab \x1c\x1d\x1e\x1f delete\x7f
½ ² ³ ¹ № ℡ ™ © ® § ¶ † ‡ • … – — ― ° ± × ÷ µ Ω Å ℃ Ⅻ ① ㎏ ㍿
1234567890 3.14159 1e-10 2^32 0xDEADBEEF 100% #1 @home ~!@#$%^&*()_+`-={}|[]\\:";'<>?,./
<|startoftext|>a photo<|endoftext|> <|STARTOFTEXT|> <start_of_text>
supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis
ſtop 'ſ K Å İstanbul ıI ß ẞ Ǆ ǅ ǆ
\u0130\u0307 \ufffd \ufffc \u206a \ufff9 \u061c \u200e
""".splitlines() + ["", " ", "\n", "\r\n a \r b \n\n c", "&lt;\n<\n&lt;", "a" * 60]
ENCODINGS = ["latin-1", "windows-1252", "windows-1251", "windows-1250", "windows-1253", "windows-1254", "windows-1257", "iso-8859-2", "mac-roman", "cp437"]
BLOCKS = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x5D0, 0x650), (0x900, 0x980), (0x1E00, 0x2000), (0x2010, 0x2800), (0x3040, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFB00, 0xFB07), (0xFF01, 0xFFEF), (0x1F300, 0x1F650)]


def tokenizer():
    spec = importlib.util.spec_from_file_location("tokenizer", PACKAGE / "tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("torch", types.SimpleNamespace(Tensor=None, LongTensor=None))
    spec.loader.exec_module(module)
    clip = module.SimpleTokenizer()
    start, end = "<|startoftext|>", "<|endoftext|>"
    clip.encoder[start], clip.encoder[end] = 49406, 49407
    clip.cache = {start: start, end: end}
    named = clip.pat.pattern
    assert named.startswith("<start_of_text>|<end_of_text>|")
    clip.pat = regex.compile(named.replace("<start_of_text>|<end_of_text>|", r"<\|startoftext\|>|<\|endoftext\|>|"), regex.IGNORECASE)
    return clip


def generated(count, clip):
    generator = random.Random(5)
    vocabulary = [clip.decoder[i].removesuffix("</w>") for i in range(49406)]
    vocabulary = [bytes(clip.byte_decoder[character] for character in word) for word in vocabulary]
    words = [word for line in FIXED[:16] for word in line.split()]
    references = sorted(html.entities.html5)
    texts = {}
    while len(texts) < count:
        kind = len(texts) % 6
        if kind == 0:
            text = generator.choice([" ", "", "\t "]).join(generator.choice(words) for _ in range(generator.randint(1, 8)))
        elif kind == 1:
            text = " ".join(generator.choice(words) for _ in range(generator.randint(1, 4)))
            text = text.encode().decode(generator.choice(ENCODINGS), "replace")
        elif kind == 2:
            text = "".join(chr(generator.randrange(*generator.choice(BLOCKS))) for _ in range(generator.randint(1, 14)))
        elif kind == 3:
            text = " ".join("&" + generator.choice(references) + generator.choice(["", ";", "x"]) for _ in range(3))
        elif kind == 4:
            drawn = [generator.choice(vocabulary) for _ in range(generator.randint(1, 12))]
            text = b" ".join(drawn).decode(errors="replace")
        else:
            text = bytes(generator.randrange(256) for _ in range(generator.randint(2, 14))).decode(generator.choice(ENCODINGS), "replace")
        # What newer tables than somebody's know as a letter is told apart differently: before and after the cleaning.
        cleaned = html.unescape(html.unescape(ftfy.fix_text(text)))
        if all(unicodedata.category(character) not in ("Cn", "Co", "Cs") for character in text + cleaned):
            texts[text] = None
    return list(texts)


def main():
    clip, path = tokenizer(), HERE / "golden.json"
    if "--check" in sys.argv:
        rows = json.loads(path.read_text())["rows"]
        different = [text for text, ids in rows if clip.encode(text) != ids]
        verdict = f"{len(different)} DIFFER, the first is {different[0]!r}" if different else "the same"
        print(f"golden.json: {len(rows)} texts, {verdict}")
        sys.exit(bool(different))
    versions = {"ftfy": ftfy.__version__, "regex": regex.__version__, "open_clip": "3.3.0"}
    versions["python"] = platform.python_version()
    # Without the start, the end and the padding.
    rows = ",\n".join(json.dumps([text, clip.encode(text)]) for text in FIXED + generated(5500, clip))
    path.write_text(f'{{"versions": {json.dumps(versions)}, "rows": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
