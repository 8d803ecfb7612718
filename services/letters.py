"""What a name looks like, so that two names which people take for one another are found.

`mlflow_gate/letters.py` is the same for the MLflow server, which imports nothing of ours; a test compares the two.
"""

from __future__ import annotations

import unicodedata

_ALIKE = {
    "a": "АаΑαᎪᴀɑ",
    "b": "ВвΒᏴʙЬ",
    "c": "СсϹᏟᴄϲ",
    "d": "ԁᎠᴅԀ",
    "e": "ЕеΕᎬᴇҽ",
    "f": "ꜰϜ",
    "g": "ɡɢᏀԌ",
    "h": "НнΗһᎻʜհҺɦ",
    "j": "ЈјᎫᴊȷϳ",
    "k": "КкΚκᏦᴋ",
    "l": "iІіΙιıɩɪӏӀᏆᏞʟ1|",
    "m": "МмΜᎷᴍ",
    "n": "ΝɴոռИᴎ",
    "o": "ОоΟοᴏօՕ0",
    "p": "РрΡρᏢᴘ",
    "q": "ԛԚգ",
    "r": "ʀᎡг",
    "s": "ЅѕᏚꜱՏ",
    "t": "ТтΤτᎢᴛ",
    "u": "υᴜսՍ",
    "v": "ѵѴνᏙᴠ",
    "w": "ԝԜᏔᴡѡ",
    "x": "ХхΧχ",
    "y": "УуΥγүҮʏ",
    "z": "ΖᏃᴢ",
    ".": "·•∙⋅・。ꓸꞏ٠۰",
}
_AS_LATIN = str.maketrans({other: letter for letter, others in _ALIKE.items() for other in others})
_UNSEEN = frozenset({"Mn", "Me", "Cf", "Cc", "Zs", "Zl", "Zp"})
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_PUNCTUATION = frozenset({"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Lm"})
"""Also modifier letters: MLflow takes them in names, and they look like quotes and colons."""


def skeleton(name: str) -> str:
    """The same for names that look alike: without letter case, widths, accents, punctuation, and what nobody sees.

    Letters of other alphabets become the Latin ones they look like; ``i``, ``l`` and ``1`` are one, and so are ``o``
    and ``0``, ``rn`` and ``m``, ``vv`` and ``w``. Capitals are looked at before they become small.
    """
    letters = "".join(c for c in _seen(name) if unicodedata.category(c) not in _PUNCTUATION)
    return letters.replace("rn", "m").replace("vv", "w")


def blank(text: str) -> bool:
    """Whether nobody sees anything of a text."""
    return not "".join(_seen(text)).strip()


def begins_with(name: str, space: str) -> bool:
    """Whether a name begins with ``space`` and a dot, or looks as if it did."""
    wanted, before = skeleton(space), ""
    for part in _seen(name).split(".")[:-1]:
        before += skeleton(part)
        if before == wanted:
            return True
    return False


def _seen(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).translate(_AS_LATIN).casefold()
    seen = (
        c for c in unicodedata.normalize("NFKD", plain) if c not in _FILLERS and unicodedata.category(c) not in _UNSEEN
    )
    return "".join(seen).translate(_AS_LATIN).casefold()
