"""``python -m tritonvision``."""

from tritonvision.cli import main

if __name__ == "__main__":
    main()
