"""``python -m tritonvision``: the command line, by the interpreter that is named."""

from tritonvision.cli import main

main()
