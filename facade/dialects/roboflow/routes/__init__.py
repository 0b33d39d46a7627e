"""The routes of Roboflow's dialect, one module a group."""
