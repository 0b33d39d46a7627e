"""Networks inside a process, the load on its cores, and what processes share."""
