"""The settings of the codec, which decide what tokens mean."""

from __future__ import annotations

import dataclasses

from midinet.codec.vocabulary import DRUM_PROGRAM, NUM_PROGRAMS
from midinet.errors import ParametersError


@dataclasses.dataclass(frozen=True)
class CodecSettings:
    """How music becomes tokens; stored with every data set and every model.

    Attributes:
        drum_program: the program that stands for percussion. With None, percussion is left out
            when encoding, and decoding reads every program literally.
        sustain: whether the sustain pedal lengthens notes.
        volume: whether the volume of their channels scales the velocities of notes.

    Raises:
        ParametersError: drum_program is not a program, or another value is no truth value.
    """

    drum_program: int | None = DRUM_PROGRAM
    sustain: bool = True
    volume: bool = True

    def __post_init__(self) -> None:
        if self.drum_program is not None and (
            isinstance(self.drum_program, bool)
            or not isinstance(self.drum_program, int)
            or not 0 <= self.drum_program < NUM_PROGRAMS
        ):
            raise ParametersError(
                f"drum_program is {self.drum_program!r}: it must be a program from 0 to "
                f"{NUM_PROGRAMS - 1}, or none"
            )
        for name in ("sustain", "volume"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ParametersError(f"{name} is {value!r}: it must be true or false")

    def to_dict(self) -> dict[str, object]:
        """The settings as they are stored in JSON.

        Without volume they are what they were before there was that setting, so that older data
        sets and runs stay equal to themselves.
        """
        values = dataclasses.asdict(self)
        if not self.volume:
            del values["volume"]
        return values

    @classmethod
    def from_dict(cls, values: object) -> CodecSettings:
        """Reads the settings as they are stored in JSON; older ones know no volume.

        Raises:
            ParametersError: `values` is not a dictionary, a name is unknown or missing, or a value
                is impossible.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or {"volume", *values} != names:
            raise ParametersError(f"codec settings must be an object of {sorted(names)}")
        return cls(**{"volume": False, **values})
