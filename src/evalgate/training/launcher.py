"""Starts the ranks: `python -P -m evalgate.training.launcher FOLDER` becomes `accelerate launch`.

The launcher ends with the process that asked for it, and each rank with the launcher, so that no kill leaves an orphan.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from evalgate.training.distributed import LAUNCH
from evalgate.training.worker import end_with_parent


def main() -> None:
    """Become the launcher; the promise to end with the parent outlives the change of program."""
    folder = Path(sys.argv[1])
    if end_with_parent():
        config = ["--config_file", str(folder / LAUNCH)]
        worker = ["-m", "evalgate.training.worker", str(folder)]
        launch = [sys.executable, "-m", "accelerate.commands.launch", *config, *worker]
        os.execv(sys.executable, launch)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
