"""The serial protocol: frames, messages, transports, and the device that answers."""
