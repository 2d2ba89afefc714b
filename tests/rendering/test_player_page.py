"""The page to listen to: what it holds and, in a headless Chromium, what it draws and plays."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import re
import time

import numpy as np
import pytest

from midinet.errors import AudioError
from midinet.midi.notes import Notes
from midinet.midi.reader import read_midi
from midinet.midi.writer import notes_to_midi
from midinet.rendering.player_page import PlayerPiece, notebook_html, player_page
from tests.conftest import make_song
from tests.rendering.chromium import PROGRAM, Chromium

needs_chromium = pytest.mark.skipif(not PROGRAM, reason="there is no Chromium")

PIANO, VIOLIN, DRUMS = (0, False), (40, False), (0, True)
HOSTILE = (
    "</script><script>document.title = 'owned'</script>\"'><img src=x onerror=alert(1)>{{data}}"
)


def make_notes(*notes: tuple[float, float, tuple[int, bool], int]) -> Notes:
    """Notes from (start in s, end in s, instrument, pitch)."""
    start_s, end_s, instruments, pitch = zip(*notes, strict=True) if notes else ((),) * 4
    return Notes(
        start_ms=np.array(start_s, float) * 1000,
        end_ms=np.array(end_s, float) * 1000,
        program=np.array([program for program, _ in instruments], np.uint8),
        pitch=np.array(pitch, np.uint8),
        velocity=np.full(len(notes), 100, np.uint8),
        is_drum=np.array([is_drum for _, is_drum in instruments], bool),
    )


def make_piece(notes: Notes, title: str = "A piece", **options) -> PlayerPiece:
    data = io.BytesIO()
    notes_to_midi(notes).save(file=data)
    return PlayerPiece(title, notes, data.getvalue(), f"{title}.mid", **options)


def data_of(page: str) -> dict:
    """What a browser finds in the page's data element."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


SCALE = make_notes(
    *((0.5 * i, 0.5 * i + 0.4, PIANO, 60 + i) for i in range(8)),
    *((0.5 * i + 0.25, 0.5 * i + 0.3, DRUMS, 38) for i in range(8)),
    (0.0, 4.0, VIOLIN, 79),
    (4.0, 8.0, VIOLIN, 81),
)
SCALE = SCALE[np.argsort(SCALE.start_ms, kind="stable")]


# What the page holds


def test_holds_the_notes_and_the_midi_file():
    piece = make_piece(SCALE, seed_end_ms=2000, facts={"Random seed": "7"}, command="do it again")
    data = data_of(player_page([piece]))
    [held] = data["pieces"]
    assert np.cumsum(held["notes"]["startStepMs"]).tolist() == SCALE.start_ms.tolist()
    assert held["notes"]["lengthMs"] == (SCALE.end_ms - SCALE.start_ms).round().tolist()
    assert held["notes"]["pitch"] == SCALE.pitch.tolist()
    names = [instrument["name"] for instrument in held["instruments"]]
    assert names == ["Acoustic Grand Piano", "Violin", "Percussion"]
    assert base64.b64decode(held["midi"]) == piece.midi
    assert (held["seedEnd"], held["facts"], held["command"]) == (
        2.0,
        [["Random seed", "7"]],
        "do it again",
    )


def test_holds_only_the_samples_that_are_heard():
    one_second = data_of(player_page([make_piece(make_notes((0, 1, DRUMS, 49)))]))
    short = data_of(player_page([make_piece(make_notes((0, 0.1, DRUMS, 49)))]))
    everything = data_of(player_page([make_piece(SCALE)]))
    size = [sum(map(len, data["samples"])) for data in (short, one_second, everything)]
    assert 0 < size[0] <= size[1] < size[2]


def test_a_usual_piece_stays_under_a_megabyte_and_a_half():
    data = io.BytesIO()
    make_song(1, num_notes=1000).save(file=data)
    piece = PlayerPiece("song", read_midi(data.getvalue()), data.getvalue(), "song.mid")
    assert len(player_page([piece])) < 1_500_000


def test_pieces_share_their_samples():
    one, two = make_piece(SCALE), make_piece(SCALE, "Another")
    assert data_of(player_page([one, two]))["samples"] == data_of(player_page([one]))["samples"]


def test_titles_and_names_are_no_markup():
    page = player_page([make_piece(SCALE, HOSTILE, facts={HOSTILE: HOSTILE}, command=HOSTILE)])
    assert page.count("</script>") == 2
    assert "<img" not in page
    [held] = data_of(page)["pieces"]
    assert held["title"] == HOSTILE
    assert held["fileName"] == f"{HOSTILE}.mid"


def test_a_name_that_is_no_text_becomes_text():
    page = player_page([make_piece(SCALE, "song \udce4")])
    assert "song ?" in page
    page.encode("utf-8")


def test_a_font_that_is_none_is_named(tmp_path):
    (tmp_path / "bad.sf2").write_bytes(b"no font")
    with pytest.raises(AudioError, match=r"bad\.sf2"):
        player_page([make_piece(SCALE)], soundfont=tmp_path / "bad.sf2")


# What a browser makes of it


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens a page of pieces in a window of 1000 by 800 pixels, and checks it when all is done."""

    def open_(*pieces: PlayerPiece) -> Chromium:
        path = tmp_path / "page.html"
        path.write_text(player_page(pieces), encoding="utf-8")
        browser.resize(1000, 800)
        browser.set_dark(False)
        browser.open(path)
        browser.wait_for("!!window.midinetPage")
        return browser

    yield open_
    assert browser.errors == []
    assert browser.requests == []


def levels(browser: Chromium, begin_s: float, end_s: float) -> np.ndarray:
    """Renders a part of the piece offline: its loudness in dB in steps of 5 ms, `(steps, 2)`."""
    encoded = browser.evaluate(
        f"""renderOffline(midinetPage.player, {begin_s}, {end_s}).then((buffer) => {{
            const step = 220;
            const out = new Float32Array(2 * Math.floor(buffer.length / step));
            for (let side = 0; side < 2; side++) {{
                const samples = buffer.getChannelData(side);
                for (let i = 0; i < out.length / 2; i++) {{
                    let sum = 0;
                    for (let j = 0; j < step; j++) sum += samples[i * step + j] ** 2;
                    out[2 * i + side] = 10 * Math.log10(sum / step + 1e-12);
                }}
            }}
            return Array.from(out);
        }})"""
    )
    return np.array(encoded).reshape(-1, 2)


STEP_S = 220 / 44100


def first_heard_s(loudness: np.ndarray, threshold_db: float = -60) -> float:
    """When a rendering is first louder than a threshold, in seconds."""
    return float(np.argmax(loudness.max(axis=1) > threshold_db)) * STEP_S


@needs_chromium
class TestSound:
    def test_notes_sound_at_their_times(self, open_page):
        hits = (0.5, 1.25, 2.0, 2.6)
        notes = make_notes(*((at, at + 0.1, DRUMS, 37) for at in hits))
        browser = open_page(make_piece(notes))
        for at in hits:
            assert first_heard_s(levels(browser, at - 0.3, at + 0.2)) == pytest.approx(
                0.3, abs=0.02
            )

    def test_time_holds_over_five_minutes(self, open_page):
        notes = make_notes(*((float(at), at + 0.1, DRUMS, 37) for at in range(0, 301, 20)))
        browser = open_page(make_piece(notes))
        rendered = levels(browser, 0, 300.5)
        onset_s = first_heard_s(rendered[int(299.5 / STEP_S) :]) + int(299.5 / STEP_S) * STEP_S
        assert onset_s == pytest.approx(300, abs=0.02)

    def test_a_held_note_lasts_and_ends(self, open_page):
        browser = open_page(make_piece(make_notes((0.0, 6.0, VIOLIN, 69))))
        loudness = levels(browser, 0, 10).max(axis=1)
        assert loudness[int(1 / STEP_S) : int(5.9 / STEP_S)].min() > -45
        assert loudness[int(9 / STEP_S) :].max() < -70

    def test_notes_have_their_pitch(self, open_page):
        for pitch in (57, 69, 84):
            browser = open_page(make_piece(make_notes((0.0, 2.0, (73, False), pitch))))
            samples = browser.evaluate(
                "renderOffline(midinetPage.player, 0, 2)"
                ".then((b) => Array.from(b.getChannelData(0).slice(22050, 66150)))"
            )
            # The flute's partials are multiples of its pitch; the lowest of the strong ones is it.
            spectrum = np.abs(np.fft.rfft(np.array(samples) * np.hanning(len(samples))))
            lowest_hz = float(np.argmax(spectrum > 0.3 * spectrum.max()))
            expected_hz = 440 * 2 ** ((pitch - 69) / 12)
            assert lowest_hz == pytest.approx(expected_hz, rel=0.03)

    def test_mute_and_solo(self, open_page):
        browser = open_page(make_piece(SCALE))
        all_db = levels(browser, 0, 2).mean()
        browser.click("#legend li:nth-child(2) button:nth-of-type(1)")
        assert levels(browser, 4.6, 6).max() < -35  # the violin alone plays there
        assert browser.evaluate("midinetPage.player.audible") == [True, False, True]
        browser.click("#legend li:nth-child(3) button:nth-of-type(2)")
        assert browser.evaluate("midinetPage.player.audible") == [False, False, True]
        assert levels(browser, 0, 2).mean() < all_db - 10
        pressed = "[...document.querySelectorAll('#legend button')].map((b) => b.ariaPressed)"
        assert browser.evaluate(pressed) == ["false", "false", "true", "false", "false", "true"]
        assert "silent" in browser.evaluate("document.querySelector('#legend li').className")

    def test_muting_while_it_plays_is_heard_at_once(self, open_page):
        browser = open_page(make_piece(SCALE))
        browser.press(" ")
        browser.click("#legend li:nth-child(1) button")
        browser.wait_for("midinetPage.player.ensemble.instruments[0].gain.gain.value < 0.01")
        assert browser.evaluate("midinetPage.player.ensemble.instruments[1].gain.gain.value") == 1
        assert browser.evaluate("midinetPage.player.playing")

    def test_a_closed_hi_hat_ends_an_open_one(self, open_page):
        ringing = make_notes((0.0, 1.0, DRUMS, 46))
        choked = make_notes((0.0, 1.0, DRUMS, 46), (0.2, 0.3, DRUMS, 42))
        loudness = [
            levels(open_page(make_piece(notes)), 0, 0.6)[int(0.4 / STEP_S) :].mean()
            for notes in (ringing, choked)
        ]
        assert loudness[1] < loudness[0] - 6

    def test_pieces_are_about_as_loud_as_each_other(self, open_page):
        soft = make_piece(dataclasses.replace(SCALE, velocity=SCALE.velocity // 3))
        peaks = [
            np.quantile(levels(open_page(piece), 0, 5), 0.9) for piece in (soft, make_piece(SCALE))
        ]
        assert abs(peaks[0] - peaks[1]) < 6
        assert -32 < min(peaks) <= max(peaks) < -8


@needs_chromium
class TestPlaying:
    def test_space_plays_and_pauses(self, open_page):
        browser = open_page(make_piece(SCALE))
        assert browser.evaluate("document.getElementById('play').ariaLabel") == "Play"
        browser.press(" ")
        browser.wait_for("midinetPage.player.position > 0.3")
        assert browser.evaluate("midinetPage.player.context.state") == "running"
        assert browser.evaluate("document.getElementById('play').ariaLabel") == "Pause"
        browser.press(" ")
        where = browser.evaluate("midinetPage.player.position")
        time.sleep(0.2)
        assert browser.evaluate("midinetPage.player.position") == where
        assert not browser.evaluate("midinetPage.player.playing")

    def test_notes_are_put_on_the_audio_clock_at_their_times(self, open_page):
        browser = open_page(make_piece(SCALE))
        browser.evaluate(
            """window.put = [];
            const schedule = Ensemble.prototype.schedule;
            Ensemble.prototype.schedule = function (note, begin, offset) {
                put.push([note, begin + offset - midinetPage.player.startClock]);
                return schedule.call(this, note, begin, offset);
            };"""
        )
        browser.click("#play")
        browser.wait_for("midinetPage.player.position > 2.5")
        put = browser.evaluate("put")
        assert [note for note, _ in put] == list(range(len(put)))
        assert len(put) >= 12
        late_s = [at - SCALE.start_ms[note] / 1000 for note, at in put]
        assert np.abs(late_s).max() < 0.001

    def test_the_play_head_moves_in_roll_and_overview(self, open_page):
        browser = open_page(make_piece(SCALE))
        picture = (
            "['roll-head', 'overview-notes'].map((id) => document.getElementById(id).toDataURL())"
        )
        before = browser.evaluate(picture)
        browser.press(" ")
        browser.wait_for("midinetPage.player.heardPosition > 0.6")
        browser.wait_for("midinetPage.drawnAt > 0.5")
        after = browser.evaluate(picture)
        assert before[0] != after[0]
        assert before[1] != after[1]
        assert float(browser.evaluate("document.getElementById('overview').ariaValueNow")) >= 0.5

    def test_the_roll_of_a_long_piece_moves_under_the_head(self, open_page):
        notes = make_notes(*((float(at), at + 0.5, PIANO, 60) for at in range(100)))
        browser = open_page(make_piece(notes))
        assert browser.evaluate("midinetPage.roll.span") < 40
        browser.evaluate("midinetPage.seek(50)")
        browser.press(" ")
        browser.wait_for("midinetPage.player.position > 50.3")
        shown = browser.evaluate("[midinetPage.roll.from, midinetPage.roll.span]")
        assert shown[0] < 50 < shown[0] + shown[1]

    def test_clicks_and_keys_seek(self, open_page):
        browser = open_page(make_piece(SCALE))
        position = "midinetPage.player.position"
        browser.click("#overview", share_x=0.5)
        assert browser.evaluate(position) == pytest.approx(4, abs=0.1)
        browser.wait_for("/0:0[34]/.test(document.getElementById('position').textContent)")
        browser.press("ArrowRight", modifiers=8)
        assert browser.evaluate(position) == pytest.approx(5, abs=0.1)
        browser.press("ArrowLeft")
        assert browser.evaluate(position) == 0
        browser.press("End")
        assert browser.evaluate(position) == 8
        browser.press("Home")
        assert browser.evaluate(position) == 0
        browser.click("#roll", share_x=0.5)
        where = browser.evaluate("midinetPage.roll.timeToX(midinetPage.player.position)")
        middle = browser.evaluate("document.getElementById('roll').clientWidth / 2")
        assert where == pytest.approx(middle, abs=1.5)

    def test_seeking_while_it_plays_goes_on_there(self, open_page):
        browser = open_page(make_piece(SCALE))
        browser.press(" ")
        browser.press("ArrowRight")
        browser.wait_for("midinetPage.player.position > 5.2")
        assert browser.evaluate("midinetPage.player.playing")

    def test_stops_at_the_end_and_begins_anew(self, open_page):
        browser = open_page(make_piece(make_notes((0.0, 1.0, PIANO, 60))))
        browser.evaluate("midinetPage.seek(0.8)")
        browser.press(" ")
        browser.wait_for("!midinetPage.player.playing")
        assert browser.evaluate("midinetPage.player.position") == 1
        browser.press(" ")
        assert browser.evaluate("midinetPage.player.position") < 0.5

    def test_zoom(self, open_page):
        browser = open_page(make_piece(SCALE))
        span = "midinetPage.roll.span"
        browser.press("+")
        browser.click("#zoom-in")
        assert browser.evaluate(span) == pytest.approx(8 / 1.5**2)
        browser.press("-")
        assert browser.evaluate(span) == pytest.approx(8 / 1.5)
        browser.press("0")
        assert browser.evaluate(span) == 8

    def test_several_pieces_to_choose_from(self, open_page):
        other = make_piece(make_notes((0.0, 3.0, VIOLIN, 60)), "The other", command="other command")
        browser = open_page(make_piece(SCALE), other)
        assert browser.evaluate("document.querySelectorAll('[role=radio]').length") == 2
        browser.press(" ")
        browser.press("2")
        shown = "['title', 'command'].map((id) => document.getElementById(id).textContent)"
        assert browser.evaluate(shown) == ["The other", "other command"]
        browser.wait_for("midinetPage.player.position > 0.1")
        assert browser.evaluate("midinetPage.player.index") == 1
        browser.click(".piece:first-child")
        assert browser.evaluate("document.querySelectorAll('#legend li').length") == 3
        checked = "[...document.querySelectorAll('[role=radio]')].map((r) => r.ariaChecked)"
        assert browser.evaluate(checked) == ["true", "false"]


@needs_chromium
class TestLooks:
    def pixel(self, browser: Chromium, x: float, y: float) -> list[int]:
        """The colour of the roll at a place in CSS pixels."""
        return browser.evaluate(
            f"""(() => {{
                const copy = new OffscreenCanvas(1, 1).getContext("2d");
                const place = [{x} * devicePixelRatio, {y} * devicePixelRatio, 1, 1];
                copy.drawImage(document.getElementById("roll-notes"), ...place, 0, 0, 1, 1);
                return Array.from(copy.getImageData(0, 0, 1, 1).data);
            }})()"""
        )

    def test_dark_mode_redraws(self, open_page):
        browser = open_page(make_piece(SCALE))
        background = "getComputedStyle(document.body).backgroundColor"
        light = browser.evaluate(background), browser.screenshot()
        browser.set_dark(True)
        browser.wait_for("midinetPage.theme.isDark")
        dark = browser.evaluate(background), browser.screenshot()
        assert light != dark
        # A seed line or a grid line is not there: the plain row of the percussion lane.
        y = browser.evaluate("midinetPage.roll.drumTop + midinetPage.roll.laneHeight / 2")
        assert max(self.pixel(browser, 995, y)[:3]) < 80

    def test_a_resize_redraws(self, open_page):
        browser = open_page(make_piece(SCALE))
        browser.resize(390, 800, is_phone=True)
        width = "document.getElementById('roll-notes').width"
        browser.wait_for(f"{width} < 800")
        assert browser.evaluate(width) == 2 * browser.evaluate(
            "document.getElementById('roll').clientWidth"
        )
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390

    def test_the_seed_is_told_apart(self, open_page):
        browser = open_page(make_piece(SCALE, seed_end_ms=4000))
        in_seed, after = (
            self.pixel(browser, browser.evaluate(f"midinetPage.roll.timeToX({at})"), 12)
            for at in (0.9, 7.6)
        )
        assert in_seed != after

    def test_what_was_kept_is_told_apart(self, open_page):
        edges = []
        for kept in ((), ("Violin",)):
            browser = open_page(make_piece(SCALE, kept=kept))
            names = "[...document.querySelectorAll('#legend .name')].map((e) => e.textContent)"
            expected = "Violin (kept)" if kept else "Violin"
            assert browser.evaluate(names) == ["Acoustic Grand Piano", expected, "Percussion"]
            assert browser.evaluate("document.querySelectorAll('.swatch.kept').length") == len(kept)
            x = browser.evaluate("midinetPage.roll.timeToX(2)")
            edges.append([self.pixel(browser, x, self.top(browser, pitch)) for pitch in (79, 64)])
        assert edges[0][0] != edges[1][0], "the violin's note has an outline"
        assert edges[0][1] == edges[1][1], "the piano's note has none"

    def top(self, browser: Chromium, pitch: int) -> float:
        """Where the first row of pixels of a note is."""
        return browser.evaluate(f"Math.ceil(midinetPage.roll.pitchY({pitch})) + 0.5")

    def test_everything_can_be_reached_and_has_a_name(self, open_page):
        browser = open_page(make_piece(SCALE), make_piece(SCALE, "Another"))
        controls = "[...document.querySelectorAll('button, a, input, [role=slider]')]"
        name = "(c) => c.ariaLabel || c.textContent.trim() || c.labels?.[0]?.textContent.trim()"
        assert all(browser.evaluate(f"{controls}.map({name})"))
        reached = set()
        for _ in range(30):
            browser.press("Tab")
            reached.add(
                browser.evaluate("document.activeElement.id || document.activeElement.ariaLabel")
            )
        expected = {"play", "volume", "zoom-in", "download", "overview", "copy", "Solo Percussion"}
        assert expected - reached <= {"copy"}  # there is no command to copy
        assert browser.evaluate("document.getElementById('roll').ariaLabel").startswith(
            "Piano roll"
        )

    def test_hostile_titles_do_nothing(self, open_page):
        piece = make_piece(SCALE, HOSTILE, facts={HOSTILE: HOSTILE}, command=HOSTILE)
        browser = open_page(piece, piece)
        assert browser.evaluate("document.title").count(HOSTILE) == 2
        assert browser.evaluate("document.getElementById('title').textContent") == HOSTILE
        assert browser.evaluate("document.querySelectorAll('img').length") == 0
        assert browser.evaluate("document.scripts.length") == 2

    def test_the_midi_file_can_be_downloaded(self, open_page):
        piece = make_piece(SCALE)
        browser = open_page(piece)
        link = "document.getElementById('download')"
        assert browser.evaluate(f"{link}.download") == "A piece.mid"
        address = browser.evaluate(f"{link}.href")
        assert base64.b64decode(address.split("base64,")[1]) == piece.midi

    @pytest.mark.parametrize(
        "notes",
        [make_notes(), make_notes((0.0, 0.1, DRUMS, 35)), make_notes((0.0, 0.1, PIANO, 127))],
        ids=["no notes", "percussion only", "one note"],
    )
    def test_small_pieces(self, open_page, notes):
        browser = open_page(make_piece(notes))
        browser.press(" ")
        browser.wait_for("midinetPage.player.position > 0.1")

    def test_works_in_a_notebook(self, browser, tmp_path):
        path = tmp_path / "notebook.html"
        frame = notebook_html(player_page([make_piece(SCALE, HOSTILE)]))
        path.write_text(f"<meta charset=utf-8>{frame}", encoding="utf-8")
        browser.open(path)
        inside = "document.querySelector('iframe').contentWindow"
        browser.wait_for(f"!!{inside}.midinetPage")
        browser.evaluate(f"{inside}.midinetPage.togglePlay()")
        browser.wait_for(f"{inside}.midinetPage.player.position > 0.2")
        assert browser.errors == []


def test_the_frame_of_a_notebook_can_not_be_left():
    page = player_page([make_piece(SCALE, '"></iframe>')])
    frame = notebook_html(page)
    assert frame.count("</iframe>") == 1
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == page
