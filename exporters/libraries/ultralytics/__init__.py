"""Networks of ultralytics: loading, exporting, and the reference pipeline."""
