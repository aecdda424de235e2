"""Texts that formats and separators could damage."""

AWKWARD = [
    "a\0b\0",
    "x\u2028y\u2029z\x85",
    "",
    "line\nline\r\n",
    '\t"quoted"\\ \x1b[2J',
    "漢字 😀 é\u0301",
    "\ufeffmark",
    "1PAR1",
]
