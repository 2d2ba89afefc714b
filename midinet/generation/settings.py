"""The settings of composing, which are checked here; this module needs no TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from midinet.codec.vocabulary import NUM_PROGRAMS, STEP_MS, VOCAB_SIZE
from midinet.data.habits import Habits
from midinet.errors import OptionError

_MAX_MS = 3_600_000  # an hour
MIN_BPM, MAX_BPM = 10, 1000
MAX_VARIETY = 1000.0
MAX_REPETITION = 10.0
DEFAULT_LENGTH = 2500  # tokens of a piece


@dataclasses.dataclass(frozen=True)
class GrammarRules:
    """The grammar's rules that a user may choose; the others hold for every piece.

    Attributes:
        programs: the programs that may play notes, as the codec writes them; None: all.
        max_programs: how many different ones of them may play in a piece; None: all.
        max_silence_ms: longest time in which nothing sounds, in milliseconds.
        max_note_ms: longest note, in milliseconds; percussion has no length.
        habits: how long the notes of each instrument may be besides, and how many of them may sound
            at once; None: no such limits.
        may_end: whether a piece may end by itself.
        earliest_end_ms: when it may do so, in milliseconds from the beginning.

    Raises:
        OptionError: a value is impossible.
    """

    programs: tuple[int, ...] | None = None
    max_silence_ms: int = 3_000
    max_note_ms: int = 20_000
    may_end: bool = True
    max_programs: int | None = None
    earliest_end_ms: int = 0
    habits: Habits | None = None

    @property
    def longest_notes_ms(self) -> list[int]:
        """The longest note of each program: `(128,)`."""
        usual_ms = self.habits.longest_note_ms if self.habits else [self.max_note_ms] * NUM_PROGRAMS
        return [min(ms, self.max_note_ms) for ms in usual_ms]

    def __post_init__(self) -> None:
        if self.programs is not None and not self.programs:
            raise OptionError("instruments: at least one must be allowed to play")
        if self.programs is not None and not all(0 <= p < NUM_PROGRAMS for p in self.programs):
            raise OptionError(f"instruments: programs are 0 to {NUM_PROGRAMS - 1}")
        if self.max_programs is not None and self.max_programs < 1:
            raise OptionError(f"max_instruments is {self.max_programs}: it must be at least 1")
        for name, value in (
            ("max_silence", self.max_silence_ms),
            ("max_note", self.max_note_ms),
        ):
            if not STEP_MS <= value <= _MAX_MS:
                raise OptionError(
                    f"{name} is {value / 1000:g} seconds: "
                    f"it must be {STEP_MS / 1000:g} to {_MAX_MS // 1000}"
                )


class Freedom(NamedTuple):
    """How freely tokens are chosen: six of the SamplingSettings, and two of the rules."""

    top_k: int
    temperature: float
    top_p: float
    variety: float
    repetition: float
    kind_temperature: float
    max_programs: int | None  # in a piece from nothing; see GrammarRules
    earliest_end_ms: int  # likewise

    def of_sampling(self) -> dict[str, Any]:
        """Those that are SamplingSettings, by name."""
        rules = ("max_programs", "earliest_end_ms")
        return {name: value for name, value in self._asdict().items() if name not in rules}


# Found by composing with small models and comparing the pieces with real music: with less of
# variety they get stuck on one pitch, with less of repetition bars do not return, with more of it
# or a lower kind_temperature more pieces are sparse, and with a higher limit instruments crowd.
# midinet/demo/README.md has the table.
STATE_FREEDOM = Freedom(16, 0.92, 1.0, 40.0, 0.8, 0.95, 6, 20_000)
# For models that do not hear the state of the music, which lose their way more easily.
PLAIN_FREEDOM = Freedom(8, 1.0, 1.0, 0.0, 0.0, 1.0, None, 0)


def default_freedom(hears_state: bool) -> Freedom:
    """The freedom that suits a model, by whether it hears the state of the music."""
    return STATE_FREEDOM if hears_state else PLAIN_FREEDOM


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """How tokens are sampled: variety, grammar, repetition and kind_temperature, temperature, top-k
    and top-p are applied in this order.

    Attributes:
        top_k: choose among this many likeliest tokens; 1 always takes the likeliest.
        temperature: above 1 more surprising, below 1 more predictable.
        top_p: choose among the likeliest tokens that together have this probability.
        variety: how much less likely a pitch becomes that makes more than 0.3 of the melody, in
            nats per unit of its share, and how much likelier new instruments become where there
            are fewer than three. Only where there are rules.
        repetition: how strongly bars return: 0 as the model says, 1 more like real music. Only
            for models that know the meter, and with a metronome.
        kind_temperature: multiplies the temperature where it is chosen whether a note begins or
            ends, time passes or another instrument plays, and which one: below 1 makes fewer false
            entries.
        seed: of the random numbers; piece i uses seed + i, whatever else is in its batch.
        rules: what the grammar allows; None: whatever the model says, PAD included.
        bpm: quarter notes per minute of the metronome that the model hears; None: no metronome.
            Models that do not hear the state of the music ignore it.

    Raises:
        OptionError: a value is impossible.
    """

    top_k: int = PLAIN_FREEDOM.top_k
    temperature: float = PLAIN_FREEDOM.temperature
    top_p: float = PLAIN_FREEDOM.top_p
    variety: float = PLAIN_FREEDOM.variety
    repetition: float = PLAIN_FREEDOM.repetition
    kind_temperature: float = PLAIN_FREEDOM.kind_temperature
    seed: int = 0
    rules: GrammarRules | None = dataclasses.field(default_factory=GrammarRules)
    bpm: float | None = None

    @classmethod
    def of(
        cls,
        freedom: Freedom,
        bpm: float | None = None,
        habits: Habits | None = None,
    ) -> SamplingSettings:
        """The settings for a piece from nothing that is composed with this freedom."""
        rules = GrammarRules(
            max_programs=freedom.max_programs,
            earliest_end_ms=freedom.earliest_end_ms,
            habits=habits,
        )
        return cls(**freedom.of_sampling(), rules=rules, bpm=bpm)

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= VOCAB_SIZE:
            raise OptionError(
                f"top_k is {self.top_k}: choose among 1 to {VOCAB_SIZE} tokens, the vocabulary"
            )
        if not 0 < self.temperature < math.inf:
            raise OptionError(
                f"temperature is {self.temperature:g}: it must be above 0; "
                "to always take the likeliest token, choose -k 1"
            )
        if not 0 < self.kind_temperature < math.inf:
            raise OptionError(f"kind_temperature is {self.kind_temperature:g}: it must be above 0")
        if not 0 < self.top_p <= 1:
            raise OptionError(f"top_p is {self.top_p:g}: it must be above 0 and at most 1")
        if not 0 <= self.repetition <= MAX_REPETITION:
            raise OptionError(
                f"repetition is {self.repetition:g}: it must be 0 (as the model says) to "
                f"{MAX_REPETITION:g}"
            )
        if not 0 <= self.variety <= MAX_VARIETY:
            raise OptionError(
                f"variety is {self.variety:g}: it must be 0 (none) to {MAX_VARIETY:g}"
            )
        if self.bpm is not None and not MIN_BPM <= self.bpm <= MAX_BPM:
            raise OptionError(
                f"bpm is {self.bpm:g}: it must be {MIN_BPM} to {MAX_BPM} quarter notes per minute"
            )
        if self.seed < 0:
            raise OptionError(f"seed is {self.seed}: it must be at least 0")
