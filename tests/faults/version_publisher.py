"""The publisher that the tests kill. Run as a script: ROOT MODE. It says `ready`, then every name once it stands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from evalgate.publishing import publish
from evalgate.versions import staging

if __name__ == "__main__":
    root, mode = Path(sys.argv[1]), sys.argv[2]
    if mode == "in sight":  # where everybody sees it, instead of in a hidden folder
        staging.PREFIX_OF_STAGING = "new-"
    assert "torch" not in sys.modules
    os.write(1, b"ready\n")
    while True:
        os.write(1, f"{publish(root / 'model', root=root, environment={}).name}\n".encode())
