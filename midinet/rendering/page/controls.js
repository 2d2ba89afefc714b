// The page: builds what the data describes, and answers mouse, touch and keyboard.

const PLAY_ICON = "M7 4.5v15l13-7.5z";
const PAUSE_ICON = "M6 4.5h4.2v15H6zM13.8 4.5H18v15h-4.2z";
const HEAD_SHARE = 0.3; // where the play head stays while the roll moves under it
const TAP_PX = 6; // a pointer that moved less has clicked

const element = (id) => document.getElementById(id);

/** Makes an element; texts are set as text, so no title or name can become markup. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Turns the notes as they are stored into what the player and the roll use. */
function unpack(piece, drumLanes) {
  const { notes } = piece;
  let onset = 0;
  notes.start = notes.startStepMs.map((step) => (onset += step) / 1000);
  notes.end = notes.start.map((start, note) => start + notes.lengthMs[note] / 1000);
  notes.longest = notes.lengthMs.reduce((a, b) => Math.max(a, b), 0) / 1000;
  piece.drumLanes = drumLanes;
  piece.rows = rowsOf(piece);
  piece.colours = [];
}

class Page {
  constructor(data) {
    data.pieces.forEach((piece) => unpack(piece, data.drumLanes));
    data.voices = data.voices.map((row) =>
      Object.fromEntries(data.voiceFields.map((name, i) => [name, row[i]])),
    );
    this.data = data;
    this.player = new Player(data);
    this.roll = new Roll(element("roll-notes"), element("roll-head"), this.player);
    this.followsHead = true;
    this.cards = [];
    element("page").hidden = false;
    this.buildPieces();
    this.showPiece();
    this.listen();
    this.player.onchange = () => this.update();
    this.repaint();
    requestAnimationFrame(() => this.animate());
  }

  buildPieces() {
    const { pieces, font } = this.data;
    element("font").textContent = font ? `Sounds: ${font}` : "";
    element("pieces").hidden = pieces.length < 2;
    element("piece-keys").hidden = pieces.length < 2;
    if (pieces.length < 2) return;
    pieces.forEach((piece, index) => {
      const canvas = make("canvas", { "aria-hidden": "true" });
      const name = make("b", {}, piece.title);
      const summary = make("small", {}, piece.summary);
      const card = make("button", { type: "button", class: "piece", role: "radio" });
      card.append(name, canvas, summary);
      card.addEventListener("click", () => this.select(index));
      element("pieces").append(card);
      this.cards.push(card);
    });
    element("pieces").addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.select((this.player.index + step + pieces.length) % pieces.length);
      this.cards[this.player.index].focus();
    });
  }

  /** Fills in all that tells of the chosen piece. */
  showPiece() {
    const { piece } = this.player;
    element("title").textContent = piece.title;
    element("summary").textContent = piece.summary;
    element("duration").textContent = clock(Math.round(piece.duration));
    element("roll").setAttribute("aria-label", `Piano roll of ${piece.title}: ${piece.summary}`);
    element("overview").setAttribute("aria-valuemax", piece.duration.toFixed(1));
    element("download").href = `data:audio/midi;base64,${piece.midi}`;
    element("download").download = piece.fileName;
    element("facts").replaceChildren(
      ...piece.facts.map(([name, value]) =>
        make("div", {}, make("dt", {}, name), make("dd", {}, value)),
      ),
    );
    element("again").hidden = !piece.command;
    element("command").textContent = piece.command;
    this.cards.forEach((card, index) => {
      const isChosen = index === this.player.index;
      card.setAttribute("aria-checked", isChosen);
      card.tabIndex = isChosen ? 0 : -1;
    });
    this.buildLegend();
    this.roll.layOut(element("roll").clientWidth, element("roll").clientHeight);
    this.roll.reset();
  }

  buildLegend() {
    const { piece } = this.player;
    const counts = piece.instruments.map(() => 0);
    for (const instrument of piece.notes.instrument) counts[instrument]++;
    this.legend = piece.instruments.map(({ name, isKept }, index) => {
      const look = isKept ? "swatch kept" : "swatch";
      const swatch = make("span", { class: look, "aria-hidden": "true" });
      const count = `${counts[index].toLocaleString("en")} note${counts[index] === 1 ? "" : "s"}`;
      const mute = make("button", { type: "button", "aria-label": `Mute ${name}` }, "Mute");
      const solo = make("button", { type: "button", "aria-label": `Solo ${name}` }, "Solo");
      mute.addEventListener("click", () => this.player.toggleMute(index));
      solo.addEventListener("click", () => this.player.toggleSolo(index));
      const label = make("span", { class: "name", title: name }, isKept ? `${name} (kept)` : name);
      const item = make("li", {}, swatch, label, make("span", { class: "count" }, count), mute, solo);
      return { item, swatch, mute, solo };
    });
    element("legend").replaceChildren(...this.legend.map(({ item }) => item));
  }

  select(index) {
    if (index === this.player.index) return;
    this.player.select(index);
    this.followsHead = true;
    this.showPiece();
    this.repaint();
  }

  seek(seconds) {
    this.followsHead = true;
    this.player.seek(seconds);
    this.reveal(this.player.position);
  }

  /** Scrolls so that a place can be seen. */
  reveal(seconds) {
    const { roll } = this;
    if (seconds < roll.from || seconds > roll.from + roll.span) {
      roll.scrollTo(seconds - HEAD_SHARE * roll.span);
    }
    this.isStale = true;
  }

  zoom(factor) {
    const { roll } = this;
    const { position } = this.player;
    const isInSight = position >= roll.from && position <= roll.from + roll.span;
    roll.zoom(factor, isInSight ? position : roll.from + roll.span / 2);
    this.isStale = true;
  }

  /** Brings buttons and legend up to date after a change of the player. */
  update() {
    const { player } = this;
    element("play-icon").setAttribute("d", player.playing ? PAUSE_ICON : PLAY_ICON);
    element("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
    this.legend.forEach(({ item, mute, solo }, index) => {
      mute.setAttribute("aria-pressed", player.muted[player.index][index]);
      solo.setAttribute("aria-pressed", player.soloed[player.index][index]);
      item.classList.toggle("silent", !player.audible[index]);
    });
    this.updateOverview();
    this.isStale = true;
  }

  /** Draws everything anew, in the colours that the page has now. */
  repaint() {
    this.theme = readTheme();
    this.data.pieces.forEach((piece) => {
      piece.colours = piece.instruments.map((one) => instrumentColour(one, this.theme));
    });
    this.legend.forEach(({ swatch }, index) => {
      swatch.style.background = this.player.piece.colours[index];
    });
    this.cards.forEach((card, index) => {
      const piece = this.data.pieces[index];
      const { context, width, height } = fitCanvas(card.querySelector("canvas"));
      const all = piece.instruments.map(() => true);
      drawOverview(context, piece, this.theme, all, 0, 0, width, height);
    });
    this.update();
    this.draw();
  }

  /** Draws the roll, which moves under the play head, and where it stands in the overview. */
  draw() {
    this.isStale = false;
    this.roll.draw(this.theme);
    this.drawHeads();
  }

  /** Draws the notes of the overview, of which `drawHeads` needs a copy for every frame. */
  updateOverview() {
    const { player, theme } = this;
    const { context, width, height } = fitCanvas(element("overview-notes"));
    drawOverview(context, player.piece, theme, player.audible, 0, 4, width, height - 8);
    this.overview ||= make("canvas");
    this.overview.width = context.canvas.width;
    this.overview.height = context.canvas.height;
    this.overview.getContext("2d").drawImage(context.canvas, 0, 0);
  }

  /** Draws what moves: the play head in the roll and in the overview, and the time. */
  drawHeads() {
    const { player, roll, theme } = this;
    const { duration } = player.piece;
    const position = player.heardPosition;
    roll.drawHead(position, player.playing);

    const { context, width, height } = fitCanvas(element("overview-notes"));
    context.drawImage(this.overview, 0, 0, width, height);
    if (roll.span < duration) {
      context.strokeStyle = theme.accent;
      context.lineWidth = 2;
      const left = (roll.from / duration) * width;
      context.strokeRect(left + 1, 1, (roll.span / duration) * width - 2, height - 2);
    }
    context.fillStyle = theme.head;
    context.fillRect(Math.min(width - 2, (position / duration) * width), 0, 2, height);

    element("position").textContent = clock(position);
    const overview = element("overview");
    overview.setAttribute("aria-valuenow", position.toFixed(1));
    overview.setAttribute("aria-valuetext", `${clock(position)} of ${clock(duration)}`);
    this.drawnAt = position;
  }

  animate() {
    const { player, roll } = this;
    const position = player.heardPosition;
    if (player.playing && this.followsHead && roll.span < player.piece.duration) {
      const before = roll.from;
      roll.scrollTo(position - HEAD_SHARE * roll.span);
      this.isStale ||= roll.from !== before;
    }
    if (this.isStale) this.draw();
    else if (position !== this.drawnAt || player.playing) this.drawHeads();
    requestAnimationFrame(() => this.animate());
  }

  listen() {
    element("play").addEventListener("click", () => this.togglePlay());
    element("volume").addEventListener("input", (event) => {
      this.player.setVolume(event.target.value / 80);
    });
    element("zoom-in").addEventListener("click", () => this.zoom(1 / 1.5));
    element("zoom-out").addEventListener("click", () => this.zoom(1.5));
    element("zoom-all").addEventListener("click", () => this.zoom(Infinity));
    element("copy").addEventListener("click", () => this.copyCommand());
    document.addEventListener("keydown", (event) => this.onKey(event));
    // A button that was clicked gives the space bar back to play and pause.
    document.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button && event.detail > 0) button.blur();
    });
    new ResizeObserver(() => (this.isResized = true)).observe(element("roll"));
    const resize = () => this.isResized && ((this.isResized = false), this.repaint());
    new ResizeObserver(() => requestAnimationFrame(resize)).observe(element("page"));
    window.addEventListener("resize", () => this.repaint());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.repaint());
    this.listenToOverview();
    this.listenToRoll();
  }

  listenToOverview() {
    const overview = element("overview");
    const seek = (event) => {
      const box = overview.getBoundingClientRect();
      this.seek(((event.clientX - box.left) / box.width) * this.player.piece.duration);
    };
    overview.addEventListener("pointerdown", (event) => {
      overview.setPointerCapture(event.pointerId);
      seek(event);
    });
    overview.addEventListener("pointermove", (event) => event.buttons && seek(event));
  }

  /** A click seeks, dragging moves the roll, two fingers or Ctrl and the wheel zoom it. */
  listenToRoll() {
    const area = element("roll");
    const { roll } = this;
    const fingers = new Map();
    let travelled = 0;
    const timeAt = (event) => roll.xToTime(event.clientX - area.getBoundingClientRect().left);
    const spread = () => {
      const [a, b] = [...fingers.values()];
      return Math.max(20, Math.abs(a - b));
    };
    area.addEventListener("pointerdown", (event) => {
      area.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event.clientX);
      travelled = fingers.size > 1 ? Infinity : 0;
    });
    area.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      const moved = event.clientX - fingers.get(event.pointerId);
      const before = fingers.size > 1 ? spread() : 0;
      fingers.set(event.pointerId, event.clientX);
      travelled += Math.abs(moved);
      if (fingers.size > 1) roll.zoom(before / spread(), timeAt(event));
      else if (travelled > TAP_PX) roll.scrollTo(roll.from - (moved / roll.plotWidth) * roll.span);
      this.followsHead &&= travelled <= TAP_PX;
      this.isStale = true;
    });
    area.addEventListener("pointerup", (event) => {
      if (fingers.delete(event.pointerId) && travelled <= TAP_PX) this.seek(timeAt(event));
    });
    area.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
    const onWheel = (event) => {
      const across = event.shiftKey ? event.deltaY : event.deltaX;
      if (event.ctrlKey || event.metaKey) {
        roll.zoom(1.0025 ** event.deltaY, timeAt(event));
      } else if (Math.abs(across) > Math.abs(event.deltaY) || event.shiftKey) {
        roll.scrollTo(roll.from + (across / roll.plotWidth) * roll.span);
        this.followsHead = false;
      } else return;
      event.preventDefault();
      this.isStale = true;
    };
    area.addEventListener("wheel", onWheel, { passive: false });
  }

  togglePlay() {
    this.followsHead = true;
    this.player.toggle();
    element("status").textContent = this.player.playing ? "playing" : "paused";
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isOnButton = event.target.closest("button, a");
    if (event.target.closest("input")) return;
    const { position, piece } = this.player;
    const step = event.shiftKey ? 1 : 5;
    const actions = {
      " ": () => this.togglePlay(),
      ArrowLeft: () => this.seek(position - step),
      ArrowRight: () => this.seek(position + step),
      Home: () => this.seek(0),
      End: () => this.seek(piece.duration),
      "+": () => this.zoom(1 / 1.5),
      "=": () => this.zoom(1 / 1.5),
      "-": () => this.zoom(1.5),
      0: () => this.zoom(Infinity),
    };
    const number = Number(event.key);
    if (number >= 1 && number <= this.cards.length) this.select(number - 1);
    else if (event.key in actions && !(event.key === " " && isOnButton)) actions[event.key]();
    else return;
    event.preventDefault();
  }

  async copyCommand() {
    const { command } = this.player.piece;
    try {
      await navigator.clipboard.writeText(command);
      element("copy").textContent = "Copied";
      setTimeout(() => (element("copy").textContent = "Copy"), 1500);
    } catch {
      // Not every browser lets a page of a local file do that: the text is ready for Ctrl-C.
      getSelection().selectAllChildren(element("command"));
    }
  }
}

// Named on the window so that it can be driven from outside, as the tests do.
window.midinetPage = new Page(JSON.parse(element("data").textContent));
