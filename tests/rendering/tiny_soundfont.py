"""Makes SoundFonts of a few kilobytes, so that each test says what its font is like."""

import struct

import numpy as np

RATE_HZ = 22050
KEY = 69  # all samples are the note A4, 440 Hz


def generators(**values):
    """Generators by name, for a zone; ranges are (lowest, highest)."""
    numbers = {
        **{"pan": 17, "keys": 43, "velocities": 44, "attenuation": 48, "coarse_tune": 51},
        **{"fine_tune": 52, "loop_mode": 54, "scale_tuning": 56, "exclusive_class": 57},
        **{"root_key": 58, "attack": 34, "hold": 35, "decay": 36, "sustain": 37, "release": 38},
        **{"cutoff": 8, "mod_env_to_cutoff": 11, "mod_decay": 28, "mod_sustain": 29},
        **{"delay": 33, "reverb": 16, "start": 0, "fixed_key": 46, "vibrato": 6},
    }
    content = []
    for name, value in values.items():
        amount = value[0] | value[1] << 8 if isinstance(value, tuple) else value & 0xFFFF
        content.append((numbers[name], amount))
    return content


def make_soundfont(
    instruments=(("sine", ({},)),),
    presets=((0, 0, 0), (128, 0, 0)),
    preset_zone=(),
    samples=None,
    names=("Piano A4", "Other A4"),
):
    """The bytes of an SF2 file.

    Args:
        instruments: for each instrument its name and its zones, `generators` as dictionaries; a
            zone may name its sample by `sample`, else it plays the first one.
        presets: bank, program and index of the instrument.
        preset_zone: generators that each preset adds.
        samples: int16 arrays with whole periods, each looped as a whole; None gives a sine wave
            and a louder square wave.
        names: of the samples.
    """
    if samples is None:
        phase = np.arange(2205) / RATE_HZ * 440
        samples = [np.rint(8000 * np.sin(2 * np.pi * phase)).astype("<i2")]
        samples.append(np.where(phase % 1 < 0.5, 12000, -12000).astype("<i2"))
    headers, data, position = [], b"", 0
    for name, sample in zip(names, samples, strict=False):
        end = position + len(sample)
        numbers = (position, end, position, end, RATE_HZ, KEY, 0, 0, 1)
        headers.append(struct.pack("<20s5IBbHH", name.encode(), *numbers))
        data += sample.astype("<i2").tobytes() + bytes(92)
        position = end + 46
    headers.append(struct.pack("<20s5IBbHH", b"EOS", *[0] * 9))

    inst, ibag, igen = [], [], []
    for name, zones in instruments:
        inst.append(struct.pack("<20sH", name.encode(), len(ibag)))
        for zone in zones:
            ibag.append(struct.pack("<HH", len(igen), 0))
            zone = dict(zone)
            sample = zone.pop("sample", 0)
            igen += [struct.pack("<HH", *pair) for pair in generators(**zone)]
            if sample is not None:  # a zone without a sample is the global one
                igen.append(struct.pack("<HH", 53, sample))
    inst.append(struct.pack("<20sH", b"EOI", len(ibag)))
    ibag.append(struct.pack("<HH", len(igen), 0))

    phdr, pbag, pgen = [], [], []
    for bank, program, instrument in presets:
        phdr.append(struct.pack("<20sHHHIII", b"preset", program, bank, len(pbag), 0, 0, 0))
        pbag.append(struct.pack("<HH", len(pgen), 0))
        pgen += [struct.pack("<HH", *pair) for pair in generators(**dict(preset_zone))]
        pgen.append(struct.pack("<HH", 41, instrument))
    phdr.append(struct.pack("<20sHHHIII", b"EOP", 0, 0, len(pbag), 0, 0, 0))
    pbag.append(struct.pack("<HH", len(pgen), 0))

    tables = {"phdr": phdr, "pbag": pbag, "pmod": [bytes(10)], "pgen": [*pgen, bytes(4)]}
    tables |= {"inst": inst, "ibag": ibag, "imod": [bytes(10)], "igen": [*igen, bytes(4)]}
    tables["shdr"] = headers
    pdta = b"".join(chunk(name, b"".join(rows)) for name, rows in tables.items())
    body = chunk("LIST", b"INFO" + chunk("ifil", b"\2\0\4\0"))
    body += chunk("LIST", b"sdta" + chunk("smpl", data)) + chunk("LIST", b"pdta" + pdta)
    return chunk("RIFF", b"sfbk" + body)


def chunk(name, content):
    return name.encode() + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
