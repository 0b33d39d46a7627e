"""Videos and live pictures: read frame by frame, answered in order, tracked and written. Needs the extra ``video``."""
