"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """Give a number with its thing, in the singular for one.

    Parameters
    ----------
    number : int
        How many.
    thing : str
        In the singular; its plural ends in ``s``.

    Returns
    -------
    str

    Examples
    --------
    >>> counted(1, "mark"), counted(0, "slice"), f"1 of {counted(3, 'case')}"
    ('1 mark', '0 slices', '1 of 3 cases')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"
