"""Many pictures answered into Parquet files: every picture once, whatever dies meanwhile."""
