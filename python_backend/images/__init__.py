"""Pictures: decoded, cut, resized."""
