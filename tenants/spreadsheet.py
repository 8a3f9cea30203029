"""Texts of other people's in files that a spreadsheet opens."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def plain(cell: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
