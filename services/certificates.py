"""The file of certificates that the environment names for HTTPS, where it cannot be used: without it nobody answers."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

REQUESTS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""What Python's `requests` reads, the first that is set."""
MLFLOW = ("MLFLOW_TRACKING_SERVER_CERT_PATH", *REQUESTS)
"""What MLflow's client reads."""


def unusable(address: str, names: tuple[str, ...], environ: Mapping[str, str] = os.environ) -> str | None:
    """Why the file that the first set variable of ``names`` names is no help at an HTTPS address; None when it may be.

    A folder is left to OpenSSL, and so is whether the certificates are the right ones.
    """
    name = next((one for one in names if environ.get(one)), None)
    if name is None or not address.startswith("https://"):
        return None
    path = environ[name]
    try:
        if not Path(path).is_dir():
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"{name} names {path}, which holds no certificate."
    except OSError as error:
        return f"{name} names {path}, which cannot be read: {error.strerror}."
    return None
