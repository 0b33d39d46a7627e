"""Models asked through a running facade, over HTTP."""
