"""Tells PlatformIO that these boards are microcontrollers. They need no packages of its registry: tools are on PATH."""

from platformio.public import PlatformBase


class MicrolithPlatform(PlatformBase):
    """The platform `microlith`; PlatformIO finds the class by this name."""

    def is_embedded(self) -> bool:
        """Boards have flash to upload to."""
        return True
