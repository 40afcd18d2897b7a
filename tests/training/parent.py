"""A parent that trains the job of a work folder: `python parent.py FOLDER`, to be interrupted and killed."""

import sys
from pathlib import Path

from evalgate.training.job import read_job
from evalgate.training.process import train

train(read_job(Path(sys.argv[1])))
