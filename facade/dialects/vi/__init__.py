"""The dialect of Datature Vi's questions about pictures."""
