"""Requests to public servers: encrypted, with time limits, and with faults sorted by what helps.

A *passing fault* (a cut connection, a busy server) may go away by itself and is worth
another try; any other `DownloadError` is not. Plain http is accepted from this machine
only, where the tests have their server; every redirection is held to the same rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from urllib.parse import urljoin, urlsplit

import requests

from napari_alnct import __version__
from napari_alnct.core.errors import AlnctError, JobCancelled

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
CONNECT_TIMEOUT_S = 20.0
MOST_REDIRECTS = 5
LONGEST_RETRY_AFTER_S = 300.0
RANGE_REFUSED = 416
PASSING = (408, 425, 429, 500, 502, 503, 504)
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
REMEDIES = {
    401: "it needs an account there; get the file with a browser",
    403: "it refuses this network; try again later or from another network",
    404: "check the address",
    410: "the file was taken away; look for a newer version",
}


class DownloadError(AlnctError):
    """A file cannot be fetched or does not arrive as announced."""


class PassingFault(DownloadError):
    """A fault that may go away by itself.

    Parameters
    ----------
    message : str
        One sentence.
    wait_s : float, optional
        How long the server asks to wait before the next try.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to keep trying.

    Parameters
    ----------
    n_tries : int
        Tries in a row that bring nothing before giving up; each one that brings a byte starts the count anew.
    first_wait_s, longest_wait_s : float
        Wait after the first failure, doubled after each further one up to the longest.
    stall_s : float
        Silence after which a connection counts as cut.
    """

    n_tries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    stall_s: float = 60.0

    def wait_s(self, n_failed: int) -> float:
        """Give the wait after this many failures in a row.

        Examples
        --------
        >>> [Patience().wait_s(n) for n in (1, 2, 3, 9)]
        [1.0, 2.0, 4.0, 60.0]
        """
        return min(self.first_wait_s * 2.0 ** min(n_failed - 1, 30), self.longest_wait_s)


def open_url(
    url: str, name: str, headers: Mapping[str, str] = NO_HEADERS, *, stall_s: float = 60.0
) -> requests.Response:
    """Give the answer of a server, its body not yet read.

    Parameters
    ----------
    url : str
        Address; https, or http on this machine.
    name : str
        What to call the file in messages.
    headers : mapping of str to str
        Further request headers, such as Range.
    stall_s : float
        Silence after which the connection counts as cut.

    Returns
    -------
    requests.Response
        Status 2xx or 416; the caller closes it.

    Raises
    ------
    PassingFault
        If the server cannot be reached or is busy.
    DownloadError
        If the address is not safe, or the server refuses.
    """
    is_local = _is_local(url)
    for _ in range(MOST_REDIRECTS + 1):
        refuse_unsafe(url, name, allow_local=is_local)
        response = _get(url, name, headers, stall_s)
        if not response.is_redirect:
            return _accepted(response, name)
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise DownloadError(f"{name}: {host_of(url)} redirects more than {MOST_REDIRECTS} times; check the address")


def refuse_unsafe(url: str, name: str, *, allow_local: bool = True) -> None:
    """Refuse an address that is not encrypted.

    Parameters
    ----------
    url : str
        Address.
    name : str
        What to call the file in messages.
    allow_local : bool
        Accept http on this machine.

    Raises
    ------
    DownloadError
        If it is neither https nor, where allowed, http on this machine.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise DownloadError(f"{name}: {url!r} is no address ({error}); copy it again") from error
    if scheme != "https" and not (allow_local and _is_local(url)):
        raise DownloadError(f"{name}: an address must begin with https://, found {scheme or 'none'}; use https")


def pause(seconds: float, is_cancelled: Callable[[], bool]) -> None:
    """Wait, unless the user stops.

    Parameters
    ----------
    seconds : float
        How long.
    is_cancelled : callable
        Tells whether the user has stopped.

    Raises
    ------
    JobCancelled
        If the user has stopped.
    """
    end = time.monotonic() + seconds
    while True:
        if is_cancelled():
            raise JobCancelled("the download was stopped")
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.1))


def host_of(url: str) -> str:
    """Give the server of an address, for messages.

    Examples
    --------
    >>> host_of("https://zenodo.org/api/records/1")
    'zenodo.org'
    """
    return urlsplit(url).netloc or "the server"


def _is_local(url: str) -> bool:
    """Tell whether an address is plain http on this machine."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and parts.hostname in LOCAL_HOSTS
    except ValueError:
        return False


def _get(url: str, name: str, headers: Mapping[str, str], stall_s: float) -> requests.Response:
    sent = {"Accept-Encoding": "identity", "User-Agent": f"napari-alnct/{__version__}", **headers}
    timeout = (CONNECT_TIMEOUT_S, stall_s)
    try:
        return requests.get(url, headers=sent, timeout=timeout, stream=True, allow_redirects=False)
    except requests.exceptions.SSLError as error:
        remedy = "check the clock of this machine and the proxy"
        raise DownloadError(f"{name}: the certificate of {host_of(url)} cannot be trusted; {remedy}") from error
    except requests.Timeout as error:
        raise PassingFault(f"{name}: {host_of(url)} does not answer; check the network") from error
    except requests.ConnectionError as error:
        raise PassingFault(f"{name}: {host_of(url)} cannot be reached; check the network") from error
    except (requests.RequestException, ValueError) as error:
        raise DownloadError(f"{name}: {url!r} is no address that can be asked; copy it again") from error


def _accepted(response: requests.Response, name: str) -> requests.Response:
    """Give the response when it brings something, else the fault it stands for."""
    code = response.status_code
    if 200 <= code < 300 or code == RANGE_REFUSED:
        return response
    response.close()
    answer = f"{name}: {host_of(response.url)} answered {code} {response.reason or ''}".rstrip()
    if code in PASSING:
        raise PassingFault(f"{answer}; try again later", _retry_after_s(response.headers.get("Retry-After")))
    raise DownloadError(f"{answer}; {REMEDIES.get(code, 'check the address or try again later')}")


def _retry_after_s(text: str | None) -> float | None:
    """Give the wait that a server asks for, in seconds or as a date, never more than the longest."""
    if text is None:
        return None
    try:
        seconds = float(text) if text.strip().isdigit() else _seconds_until(parsedate_to_datetime(text))
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def _seconds_until(moment: datetime) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
