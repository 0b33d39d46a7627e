"""Networks of ultralytics: loaded, exported, asked as the reference."""
