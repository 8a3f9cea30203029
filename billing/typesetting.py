"""Any text in a PDF: runs of the font that has its letters, and a visible escape for what none has.

FiraGO (SIL Open Font License, of pymupdf-fonts) has Latin, Greek, Cyrillic, Arabic, Hebrew, Devanagari, Georgian and
Thai, and is embedded. Chinese, Japanese and Korean are set in fonts that every reader brings. Nothing is shaped: Arabic
stands in separate letters. reportlab is imported here and in pdf.py alone, both of them where they are needed: it takes
half a second.
"""

import re
from functools import cache
from io import BytesIO
from itertools import groupby
from xml.sax.saxutils import escape

import pymupdf_fonts
from reportlab.pdfbase import pdfmetrics, ttfonts
from reportlab.pdfbase.cidfonts import UnicodeCIDFont

BASE, BOLD = "FiraGO", "FiraGO-Bold"
CHINESE, JAPANESE, KOREAN = "STSong-Light", "HeiseiKakuGo-W5", "HYGothic-Medium"
_BLOCKS = (  # first and last letter of what the readers' fonts have
    (0x3040, 0x30FF, JAPANESE),
    (0xAC00, 0xD7A3, KOREAN),
    (0x4E00, 0x9FA5, CHINESE),
    (0x3001, 0x3017, CHINESE),
    (0xFF01, 0xFF5E, CHINESE),
)
_LEFTWARD = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]+(?: +[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]+)*")


@cache
def _letters() -> frozenset[int]:
    """Make the fonts known to reportlab; the letters of FiraGO."""
    faces = {BASE: "figo", BOLD: "figbo"}
    fonts = {name: ttfonts.TTFont(name, BytesIO(pymupdf_fonts.myfont(code))) for name, code in faces.items()}
    for font in (*fonts.values(), *map(UnicodeCIDFont, (CHINESE, JAPANESE, KOREAN))):
        pdfmetrics.registerFont(font)
    return frozenset.intersection(*(frozenset(font.face.charToGlyph) for font in fonts.values()))


def marked(text: str) -> str:
    """The text as a Paragraph of reportlab wants it, in FiraGO unless it says otherwise."""
    runs = groupby(text, _font)
    return "".join(_run(font, "".join(letters)) for font, letters in runs)


def _font(letter: str) -> str | None:
    """The font of a letter; None where there is none."""
    code = ord(letter)
    if letter == " " or (letter.isprintable() and code in _letters()):
        return BASE
    return next((font for first, last, font in _BLOCKS if first <= code <= last), None)


def _run(font: str | None, letters: str) -> str:
    if font is None:
        return "".join(f"\\u{{{ord(letter):X}}}" for letter in letters)
    if font == BASE:
        return escape(_in_order(letters))
    return f'<font name="{font}">{escape(letters)}</font>'


def _in_order(letters: str) -> str:
    """What is written from right to left, turned round."""
    return _LEFTWARD.sub(lambda run: run[0][::-1], letters)
