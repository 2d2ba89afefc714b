// Drawing: the piano roll, and the small pictures of whole pieces.

const SEMITONES = 12;
const BLACK_KEYS = new Set([1, 3, 6, 8, 10]);
const DRUM_HIT_S = 0.06; // width of a percussion note, which has no length
const SHORTEST_SPAN_S = 2;
const TICKS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
const AXIS_HEIGHT = 22;
const LANE_GAP = 5;

function clock(seconds) {
  const whole = Math.floor(seconds + 1e-6);
  const rest = String(whole % 60).padStart(2, "0");
  return `${Math.floor(whole / 60)}:${rest}`;
}

/** The colours of the style sheet, light or dark as the page is now. */
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const names = ["roll", "black-keys", "grid", "octave", "seed", "seed-ink", "head", "drum"];
  const theme = Object.fromEntries(
    [...names, "ink", "faint", "accent", "line"].map((name) => [
      name,
      style.getPropertyValue(`--${name}`).trim(),
    ]),
  );
  theme.font = style.fontFamily;
  theme.isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  return theme;
}

/** An instrument's colour, made lighter or darker until it can be told from the background. */
function instrumentColour(instrument, theme) {
  if (instrument.isDrum) return theme.drum;
  let rgb = [1, 3, 5].map((at) => parseInt(instrument.colour.slice(at, at + 2), 16));
  const luminance = () => 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
  const target = theme.isDark ? 255 : 0;
  while (theme.isDark ? luminance() < 105 : luminance() > 185) {
    rgb = rgb.map((value) => Math.round(value + 0.08 * (target - value)));
  }
  return `rgb(${rgb.join(" ")})`;
}

/** Soft notes are paler, and stay visible. */
const opacity = (velocity) => 0.35 + (0.65 * velocity) / 127;

/** Makes a canvas as sharp as the screen; returns its context, scaled to CSS pixels. */
function fitCanvas(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const wanted = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wanted[0] || canvas.height !== wanted[1]) {
    [canvas.width, canvas.height] = wanted;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** The rows of a piece: pitches from the top down, and below them kinds of percussion. */
function rowsOf(piece) {
  const { instrument, pitch } = piece.notes;
  const isDrum = (note) => piece.instruments[instrument[note]].isDrum;
  const melodic = pitch.filter((_, note) => !isDrum(note));
  const hits = pitch.filter((_, note) => isDrum(note));
  const lanes = piece.drumLanes.filter(({ keys }) => hits.some((key) => keys.includes(key)));
  const low = melodic.reduce((a, b) => Math.min(a, b), 127);
  const high = melodic.reduce((a, b) => Math.max(a, b), 0);
  const margin = Math.max(3, Math.ceil((24 - (high - low)) / 2));
  const pitches = melodic.length
    ? { low: Math.max(0, low - margin), high: Math.min(127, high + margin) }
    : null;
  return { pitches, lanes };
}

/** Draws all notes of a piece into a rectangle, as an overview. */
function drawOverview(context, piece, theme, audible, x, y, width, height) {
  const { start, end, pitch, instrument, velocity } = piece.notes;
  const { pitches, lanes } = piece.rows;
  const drumHeight = lanes.length ? Math.min(3 * lanes.length, pitches ? height * 0.28 : height) : 0;
  const rollHeight = height - drumHeight - (drumHeight && pitches ? 2 : 0);
  const scale = width / piece.duration;
  if (piece.seedEnd) {
    context.fillStyle = theme.seed;
    context.fillRect(x, y, piece.seedEnd * scale, height);
  }
  for (let note = 0; note < start.length; note++) {
    const player = instrument[note];
    context.fillStyle = piece.colours[player];
    context.globalAlpha = opacity(velocity[note]) * (audible[player] ? 0.9 : 0.15);
    const left = x + start[note] * scale;
    if (piece.instruments[player].isDrum) {
      const rowHeight = drumHeight / lanes.length;
      const row = lanes.findIndex(({ keys }) => keys.includes(pitch[note]));
      const top = y + height - drumHeight + row * rowHeight;
      context.fillRect(left, top, 1.2, Math.max(1, rowHeight - 1));
    } else {
      const rowHeight = rollHeight / (pitches.high - pitches.low + 1);
      const top = y + (pitches.high - pitch[note]) * rowHeight;
      const across = Math.max(1, (end[note] - start[note]) * scale);
      context.fillRect(left, top, across, Math.max(1.4, rowHeight));
    }
  }
  context.globalAlpha = 1;
}

/** The piano roll: a canvas of notes, and one above it with what moves. */
class Roll {
  constructor(notesCanvas, headCanvas, player) {
    this.notesCanvas = notesCanvas;
    this.headCanvas = headCanvas;
    this.player = player;
    this.from = 0;
    this.span = 1;
  }

  get piece() {
    return this.player.piece;
  }

  /** Shows a new piece: all of a short one, the beginning of a long one. */
  reset() {
    const usual = Math.min(24, Math.max(8, this.notesCanvas.clientWidth / 45));
    this.from = 0;
    this.span = this.piece.duration <= usual * 1.25 ? this.piece.duration : usual;
  }

  get plotWidth() {
    return Math.max(1, this.notesCanvas.clientWidth - this.gutter - 8);
  }

  timeToX(seconds) {
    return this.gutter + ((seconds - this.from) / this.span) * this.plotWidth;
  }

  xToTime(x) {
    return this.from + ((x - this.gutter) / this.plotWidth) * this.span;
  }

  /** Moves the visible part so that it begins at `from`, within the piece. */
  scrollTo(from) {
    this.from = Math.min(Math.max(0, from), Math.max(0, this.piece.duration - this.span));
  }

  /** Shows more (factor above 1) or less, while `anchor` (in seconds) stays where it is. */
  zoom(factor, anchor) {
    const share = (anchor - this.from) / this.span;
    const longest = this.piece.duration;
    this.span = Math.min(longest, Math.max(Math.min(SHORTEST_SPAN_S, longest), this.span * factor));
    this.scrollTo(anchor - share * this.span);
  }

  /** Places the lanes: y of the top of a pitch's or a percussion lane's row. */
  layOut(width, height) {
    const { pitches, lanes } = this.piece.rows;
    this.gutter = width < 560 ? 50 : 58;
    const usable = height - AXIS_HEIGHT - 4;
    const laneHeight = pitches ? Math.min(15, (usable * 0.3) / Math.max(1, lanes.length)) : 26;
    this.drumHeight = lanes.length * laneHeight;
    this.drumTop = pitches ? height - this.drumHeight - 4 : AXIS_HEIGHT;
    this.laneHeight = laneHeight;
    this.rollHeight = pitches ? usable - this.drumHeight - (lanes.length ? LANE_GAP : 0) : 0;
    this.pitchHeight = pitches ? this.rollHeight / (pitches.high - pitches.low + 1) : 0;
  }

  /** Draws everything but what moves; called when the view, the size or the theme changes. */
  draw(theme) {
    const { context, width, height } = fitCanvas(this.notesCanvas);
    this.layOut(width, height);
    this.theme = theme;
    context.font = `${width < 560 ? 10 : 11}px ${theme.font}`;
    context.textBaseline = "middle";
    this.drawRows(context, width);
    this.drawTimes(context, width, height);
    context.save();
    context.beginPath();
    context.rect(this.gutter, AXIS_HEIGHT, width - this.gutter, height - AXIS_HEIGHT);
    context.clip();
    const audible = this.player.audible;
    this.forEachVisible((note, player, box) => {
      context.fillStyle = this.piece.colours[player];
      context.globalAlpha = opacity(this.piece.notes.velocity[note]) * (audible[player] ? 1 : 0.14);
      fillRounded(context, box);
      if (this.piece.instruments[player].isKept) outline(context, box, theme.ink);
    });
    context.restore();
  }

  drawRows(context, width) {
    const { theme } = this;
    const { pitches, lanes } = this.piece.rows;
    const across = width - this.gutter;
    if (pitches) {
      for (let pitch = pitches.low; pitch <= pitches.high; pitch++) {
        const y = this.pitchY(pitch);
        if (BLACK_KEYS.has(pitch % SEMITONES)) {
          context.fillStyle = theme["black-keys"];
          context.fillRect(this.gutter, y, across, this.pitchHeight);
        } else if (pitch % SEMITONES === 0) {
          context.fillStyle = theme.octave;
          context.fillRect(this.gutter, Math.round(y + this.pitchHeight) - 1, across, 1);
          context.fillStyle = theme.faint;
          context.textAlign = "right";
          context.fillText(`C${pitch / SEMITONES - 1}`, this.gutter - 6, y + this.pitchHeight / 2);
        }
      }
    }
    lanes.forEach(({ name }, row) => {
      const y = this.drumTop + row * this.laneHeight;
      context.fillStyle = row % 2 ? theme.roll : theme["black-keys"];
      context.fillRect(this.gutter, y, across, this.laneHeight);
      context.fillStyle = theme.faint;
      context.textAlign = "right";
      context.fillText(name, this.gutter - 6, y + this.laneHeight / 2);
    });
    if (pitches && lanes.length) {
      context.fillStyle = theme.line;
      context.fillRect(0, Math.round(this.drumTop - LANE_GAP / 2), width, 1);
    }
  }

  drawTimes(context, width, height) {
    const { theme } = this;
    const step = TICKS_S.find((tick) => (tick / this.span) * this.plotWidth >= 70) || 7200;
    const { seedEnd } = this.piece;
    if (seedEnd) {
      const x = Math.max(this.gutter, Math.min(width, this.timeToX(seedEnd)));
      context.fillStyle = theme.seed;
      context.globalCompositeOperation = theme.isDark ? "lighten" : "multiply";
      context.fillRect(this.gutter, 0, x - this.gutter, height);
      context.globalCompositeOperation = "source-over";
    }
    context.textAlign = "left";
    for (let tick = Math.ceil(this.from / step); tick * step <= this.from + this.span; tick++) {
      const x = Math.round(this.timeToX(tick * step));
      context.fillStyle = theme.grid;
      context.fillRect(x, 0, 1, height);
      context.fillStyle = theme.faint;
      const tenths = step < 1 ? `.${Math.round((tick * step * 10) % 10)}` : "";
      context.fillText(clock(tick * step) + tenths, x + 5, AXIS_HEIGHT / 2);
    }
    context.fillStyle = theme.line;
    context.fillRect(0, AXIS_HEIGHT - 1, width, 1);
    if (seedEnd) this.markSeed(context, this.timeToX(seedEnd), width, height);
  }

  markSeed(context, x, width, height) {
    if (x < this.gutter || x > width) return;
    context.fillStyle = this.theme["seed-ink"];
    context.fillRect(Math.round(x) - 1, 0, 2, height);
    context.font = `italic 600 11px ${this.theme.font}`;
    context.textAlign = "right";
    if (x - this.gutter > 40) context.fillText("seed", x - 7, AXIS_HEIGHT + 10);
    context.textAlign = "left";
    if (width - x > 90) context.fillText("continuation", x + 7, AXIS_HEIGHT + 10);
  }

  pitchY(pitch) {
    return AXIS_HEIGHT + (this.piece.rows.pitches.high - pitch) * this.pitchHeight;
  }

  /** Calls `action(note, instrument, [x, y, width, height])` for each note in sight. */
  forEachVisible(action, since = this.from, until = this.from + this.span) {
    const { start, end, pitch, instrument, longest } = this.piece.notes;
    const scale = this.plotWidth / this.span;
    const first = lowerBound(start, since - longest);
    for (let note = first; note < start.length && start[note] <= until; note++) {
      const player = instrument[note];
      const isDrum = this.piece.instruments[player].isDrum;
      const finish = isDrum ? Math.max(end[note], start[note] + DRUM_HIT_S) : end[note];
      if (finish < since) continue;
      const x = this.timeToX(start[note]);
      if (isDrum) {
        const row = this.piece.rows.lanes.findIndex(({ keys }) => keys.includes(pitch[note]));
        const across = Math.min(7, Math.max(2, DRUM_HIT_S * scale));
        const y = this.drumTop + row * this.laneHeight + 2;
        action(note, player, [x, y, across, Math.max(2, this.laneHeight - 4)]);
      } else {
        // Not quite to the next note: repeated notes stay apart.
        const across = Math.max(1.5, (end[note] - start[note]) * scale - 1);
        const thick = Math.max(2, this.pitchHeight * 0.86);
        action(note, player, [x, this.pitchY(pitch[note]), across, thick]);
      }
    }
  }

  /** Draws the play head, and brightens what sounds there. */
  drawHead(position, isPlaying) {
    const { context, width, height } = fitCanvas(this.headCanvas);
    const x = this.timeToX(position);
    if (x < this.gutter - 1 || x > width) return;
    if (isPlaying) {
      const audible = this.player.audible;
      context.save();
      context.beginPath();
      context.rect(this.gutter, AXIS_HEIGHT, width - this.gutter, height);
      context.clip();
      this.forEachVisible(
        (note, player, [left, top, across, thick]) => {
          if (!audible[player]) return;
          context.fillStyle = this.piece.colours[player];
          context.shadowColor = this.piece.colours[player];
          context.shadowBlur = 12;
          fillRounded(context, [left, top - 1, across, thick + 2]);
        },
        position,
        position,
      );
      context.restore();
    }
    context.fillStyle = this.theme.head;
    context.fillRect(x - 1, 0, 2, height);
    context.beginPath();
    context.moveTo(x - 7, 0);
    context.lineTo(x + 7, 0);
    context.lineTo(x, 10);
    context.fill();
  }
}

/** Draws the outline that tells kept notes from composed ones, within the note's box. */
function outline(context, [x, y, width, height], colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.strokeRect(x + 0.5, y + 0.5, Math.max(0.5, width - 1), Math.max(0.5, height - 1));
}

function fillRounded(context, [x, y, width, height]) {
  const radius = Math.min(3, width / 2, height / 2);
  if (radius < 1.2 || !context.roundRect) {
    context.fillRect(x, y, width, height);
    return;
  }
  context.beginPath();
  context.roundRect(x, y, width, height, radius);
  context.fill();
}
