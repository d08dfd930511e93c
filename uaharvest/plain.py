"""Makes foreign text safe for a terminal: it cannot move the cursor, change colours or hide other text."""


def one_line(text: object) -> str:
    r"""Return a text on one line, with unprintable characters escaped: `\x1b`, `\n`, `\u202e`.

    These are control and format characters (including bidirectional ones), line separators and lone surrogates.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(text)
    )


def lines(text: object) -> str:
    """Return a text of several lines, with each line escaped as by `one_line`."""
    return "\n".join(one_line(line) for line in str(text).split("\n"))
