"""What a caller asks of `midinet.generate`, checked before TensorFlow starts."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import NUM_PROGRAMS, melodic_substitute
from midinet.data.habits import Habits
from midinet.errors import OptionError
from midinet.generation.prompts import Prompt, SeedLength, time_ms
from midinet.generation.settings import (
    DEFAULT_LENGTH,
    PLAIN_FREEDOM,
    Freedom,
    GrammarRules,
    SamplingSettings,
    default_freedom,
)
from midinet.generation.tempo import Bpm, parse_bpm
from midinet.midi.general_midi import find_instruments

_LONGEST_S = 86_400
# Of the songs that the demo model learned from: 3,063,888 tokens in 13.1 hours.
TOKENS_PER_HOUR = 234_000
_MOST_TOKENS_A_SECOND = 1_000  # ten times what dense music takes; bounds what --seconds may cost


@dataclasses.dataclass(frozen=True)
class Limit:
    """How much to compose: some tokens, or as many as some time of music takes.

    Attributes:
        tokens: the most tokens to make per piece.
        seconds: so much music, about; None: only tokens count.
    """

    tokens: int
    seconds: float | None

    @classmethod
    def checked(cls, length: int | None, seconds: float | None) -> Limit:
        """A limit of `length` tokens (None: the default), or of some seconds.

        Raises:
            OptionError: nothing, or more than a day.
        """
        length = DEFAULT_LENGTH if length is None else length
        if length < 1:
            raise OptionError(f"length is {length}: it must be at least 1 token")
        if seconds is None:
            return cls(length, None)
        if not 0 < seconds <= _LONGEST_S:
            raise OptionError(f"seconds is {seconds:g}: it must be above 0 and at most a day")
        return cls(int(seconds * _MOST_TOKENS_A_SECOND) + 1, seconds)

    @property
    def expected_tokens(self) -> int:
        """About how many tokens a piece will have."""
        if self.seconds is None:
            return self.tokens
        return min(self.tokens, round(self.seconds / 3600 * TOKENS_PER_HOUR))

    def is_reached(self, heard_s: np.ndarray, has_ended: np.ndarray) -> bool:
        """Whether all pieces have ended or are long enough; tokens are counted elsewhere."""
        return self.seconds is not None and bool((has_ended | (heard_s >= self.seconds)).all())

    def cut(self, tokens: np.ndarray) -> np.ndarray:
        """The tokens of a piece within the limit."""
        return tokens if self.seconds is None else tokens[time_ms(tokens) < self.seconds * 1000]


@dataclasses.dataclass
class Request:
    """The arguments of `midinet.generate`, whose docstring describes them.

    Attributes:
        limit: how much to compose.
        seed_cut: how much of the song or the primer to go on from.
        tempo: the tempo to compose to.

    Raises:
        OptionError: an argument is impossible, or does not go with another one.
    """

    length: int | None
    top_k: int | None
    save_directory: str | Path | None
    dataset: str | Path | None
    inclusive: bool
    primer: str | Path | None
    song: str | None
    accompany: str | Path | None
    keep: str | None
    seed_length: int | str
    seconds: float | None
    full_length: bool
    temperature: float | None
    top_p: float | None
    repetition: float | None
    seed: int
    num: int
    instruments: str | None
    max_instruments: int | None
    max_silence: float
    max_note: float | None
    output: str | Path
    plot: bool
    wav: bool
    mp3: bool
    html: bool
    soundfont: str | Path | None
    bpm: float | str | None
    progress: bool
    limit: Limit = dataclasses.field(init=False)
    seed_cut: SeedLength = dataclasses.field(init=False)
    tempo: Bpm = dataclasses.field(init=False)
    _players: tuple[list[int], bool] | None = dataclasses.field(init=False)
    _settings: SamplingSettings = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.seed_cut = SeedLength.parse(self.seed_length)
        if self.num < 1:
            raise OptionError(f"num is {self.num}: it must be at least 1 piece")
        if self.primer is not None and self.dataset is not None:
            raise OptionError("primer and dataset: a piece can go on from one of them only")
        if self.song is not None and self.dataset is None:
            raise OptionError(f"song {self.song!r}: name the data set that holds it too")
        if self.accompany is not None and (self.primer, self.dataset) != (None, None):
            raise OptionError("accompany: it can't be combined with -d or --primer")
        if self.keep is not None:
            find_instruments(self.keep)
            if self.accompany is None:
                raise OptionError(f"keep {self.keep!r}: name the song with --accompany too")
        if self.inclusive and self.primer is None and self.dataset is None:
            raise OptionError("inclusive: without -d or --primer there is nothing to put in front")
        self._players = None if self.instruments is None else find_instruments(self.instruments)
        silence_ms = _to_ms("max_silence", self.max_silence)
        rules = GrammarRules(
            max_silence_ms=silence_ms,
            may_end=not self.full_length,
            max_programs=self.max_instruments,
        )
        if self.max_note is not None:
            rules = dataclasses.replace(rules, max_note_ms=_to_ms("max_note", self.max_note))
        self._settings = SamplingSettings(seed=self.seed, rules=rules)
        self._with_freedom(PLAIN_FREEDOM)  # finds impossible values before the model is opened
        self.tempo = parse_bpm(self.bpm)
        self.limit = Limit.checked(self.length, self.seconds)
        if self.soundfont is not None and not (self.sounds or self.html):
            raise OptionError(
                f"soundfont {self.soundfont}: it needs --wav, --mp3 or --html, which play the "
                "music with it"
            )

    @property
    def sounds(self) -> list[str]:
        """The suffixes of the sound files that are to be written."""
        return [".wav"] * self.wav + [".mp3"] * self.mp3

    def _with_freedom(self, freedom: Freedom) -> SamplingSettings:
        """The settings, with these values where the caller gives none."""
        names = ("top_k", "temperature", "top_p", "repetition")
        given = {name: getattr(self, name) for name in names}
        values = freedom.of_sampling() | {n: v for n, v in given.items() if v is not None}
        return dataclasses.replace(self._settings, **values)

    def settings_for(
        self,
        codec: CodecSettings,
        prompt: Prompt,
        hears_state: bool,
        habits: Habits | None = None,
    ) -> SamplingSettings:
        """How to sample tokens.

        Args:
            codec: what they mean.
            prompt: what the pieces go on from, or accompany. Where the caller limits neither which
                instruments play nor how many, its number does.
            hears_state: whether the model hears the state of the music.
            habits: what was usual for each instrument in its training. The caller's `max_note`
                takes the place of their longest notes.

        Raises:
            OptionError: only percussion may play, of which the model knows nothing; or only
                instruments that are kept.
        """
        freedom = default_freedom(hears_state)
        settings = self._with_freedom(freedom)
        kept = prompt.kept
        kept_programs = set() if kept is None else kept.token_programs(codec)
        if len(kept_programs) == NUM_PROGRAMS:
            raise OptionError("keep: all instruments are kept, so that none is left to join them")
        rules = settings.rules or GrammarRules()
        if not prompt.name:
            rules = dataclasses.replace(rules, earliest_end_ms=freedom.earliest_end_ms)
        if habits is not None:
            if self.max_note is not None:
                habits = habits._replace(longest_note_ms=(rules.max_note_ms,) * NUM_PROGRAMS)
            rules = dataclasses.replace(rules, habits=habits)
        if self._players is None:
            from_nothing = None if prompt.name else freedom.max_programs
            most = self.max_instruments or prompt.max_instruments or from_nothing
            return dataclasses.replace(
                settings, rules=dataclasses.replace(rules, max_programs=most)
            )
        programs = _as_programs(*self._players, codec)
        if not set(programs) - kept_programs:
            raise OptionError(
                f"instruments: {self.instruments} is kept already, so name others to join it"
            )
        return dataclasses.replace(settings, rules=dataclasses.replace(rules, programs=programs))


def _as_programs(programs: list[int], percussion: bool, codec: CodecSettings) -> tuple[int, ...]:
    """Instruments as the codec writes them: percussion takes a program, whose own moves on."""
    drums = codec.drum_program
    if drums is None:
        if not programs:
            raise OptionError("instruments: this model knows no percussion, so name others too")
        return tuple(programs)
    substitute = melodic_substitute(drums)
    melodic = {substitute if program == drums else program for program in programs}
    return tuple(sorted(melodic | ({drums} if percussion else set())))


def _to_ms(name: str, seconds: float) -> int:
    if not math.isfinite(seconds):
        raise OptionError(f"{name} is {seconds:g}: it must be a number of seconds")
    return round(seconds * 1000)
