"""How many streams a model that remembers has room for, and for how long one may be silent."""

PROCESSES = 2  # of the model's Python part
PLACES = 8  # streams that each of them remembers at once
MOST = PROCESSES * PLACES
IDLE_SECONDS = 60  # without a request, after which a stream is forgotten
