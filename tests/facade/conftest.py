"""The fixtures of all tests of the facade."""

from houses import (  # noqa: F401  # pytest finds fixtures by their names in here
    hold,
    house,
    house_with,
    memory_engine,
    picture,
    served,
    shared_house,
    shared_house_with,
    until,
    whole_engine,
    whole_house,
    whole_house_with,
)
