"""Where weights come from that are no file on this machine: the Hugging Face hub, and Roboflow."""
