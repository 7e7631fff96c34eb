"""Run the command line of the code in the working folder, as a job on a cluster does: `python -m orchestration ...`."""

from orchestration.cli import main

main()
