// One job, looked at: its frames, confidence along them, stages, and words for what failed. Its keys work wherever the
// focus is, but in a text that is typed.

import { act, copySupport, post, read, say } from "./api.js";
import { buttonsOf, movable } from "./card.js";
import { Correcting } from "./correcting.js";
import { Stage } from "./stage.js";
import { drawConfidence } from "./strip.js";
import { button, duration, element, rangeInWords } from "./words.js";

const AHEAD = 10;
const KEYS = [
  ["← →", "a frame back, forward"], ["Home End", "first, last frame"], ["K or Space", "play, stop"], ["N", "next frame to paint"],
  ["B", "before or after"], ["W", "wipe"], ["[ ]", "move the wipe"], ["D", "difference"], ["M", "matte"],
  ["+ −", "enlarge, reduce"], ["Z", "1:1, or the whole"], ["F", "full screen"], ["P", "paint this frame"], ["C", "correct this frame"],
  ["?", "these keys"], ["Esc", "close"],
];

export class Viewer {
  constructor(root, actions) {
    this.root = root;
    this.actions = actions;
    this.playing = 0;
    this.suggested = [];
    document.addEventListener("keydown", (event) => this.key(event), { capture: true });
  }

  get isOpen() {
    return !this.root.hidden;
  }

  open(job, frame) {
    const other = !this.job || this.job.id !== job.id;
    this.pause();
    this.job = job;
    this.root.hidden = false;
    if (other) {
      this.suggested = [];
      this.versus = null;
      this.build();
      this.place();
    }
    this.go(frame ?? (other ? firstMade(job) : this.frame));
    this.update(job);
    this.more();
  }

  close() {
    this.pause();
    if (document.fullscreenElement) document.exitFullscreen();
    this.root.hidden = true;
    this.job = undefined;
    this.actions.closed();
  }

  build() {
    const { job } = this;
    this.stage = new Stage(() => this.drawTools());
    this.hand = new Correcting(this.stage, () => this.drawTools(), (id, frame) => this.actions.follow(id, frame));
    this.wiper = element("input", { type: "range", min: 0, max: 100, value: 50, className: "sr", "aria-label": "Wipe between before and after" });
    this.wiper.addEventListener("input", () => this.stage.setWipe(this.wiper.value / 100));
    this.confidence = element("canvas", { "aria-hidden": "true" });
    this.marks = element("div", { className: "marks", "aria-hidden": "true" });
    this.scrubber = element("input", { type: "range", min: job.first, max: job.last, "aria-label": "Frame" });
    this.scrubber.addEventListener("input", () => { this.pause(); this.go(Number(this.scrubber.value)); });
    this.player = button("Play", () => this.toggle(), { title: "K" });
    this.tools = {
      wipe: button("Wipe", () => this.stage.setView("wipe"), { title: "W" }),
      flip: button("A/B", () => this.flip(), { title: "B" }),
      difference: button("Difference", () => this.look("difference"), { title: "D" }),
      matte: button("Matte", () => this.look("matte"), { title: "M" }),
      zoom: button("1:1", () => this.stage.toggleActual(), { title: "Z" }),
      correct: button("Correct", () => this.correct(), { title: "C" }),
      full: button("Full screen", () => this.fullScreen(), { title: "F" }),
      keys: button("Keys", () => this.toggleKeys(), { title: "?", "aria-expanded": "false" }),
    };
    this.painter = button("Paint this frame", () => this.paint(), { title: "P" });
    this.against = element("select", { "aria-label": "Compare with" });
    this.against.addEventListener("change", () => this.compareWith(this.against.value));
    this.where = element("output");
    this.trouble = element("div", { className: "trouble", role: "alert" });
    this.chips = element("div", { className: "chips" });
    this.unsure = element("ul", { className: "ranges", "aria-label": "Frames that are not sure" });
    this.phases = element("ol", { className: "phases", "aria-label": "Stages" });
    this.facts = element("dl", { className: "facts" });
    this.buttons = element("div", { className: "play" });
    this.heading = element("h3");
    this.help = element("dl", { className: "keys", hidden: true }, ...KEYS.flatMap(([key, what]) => [element("dt", { textContent: key }), element("dd", { textContent: what })]));
    this.names = "";
    this.root.replaceChildren(
      element("header", {}, this.heading, button("Close", () => this.close(), { "aria-label": "Close the job", title: "Esc" })),
      element("div", { className: "look" }, this.stage.root,
        element("div", { className: "scrub" }, this.confidence, this.marks, this.scrubber),
        element("div", { className: "play" }, this.player, ...Object.values(this.tools), this.where), this.hand.root),
      element("div", { className: "about", tabIndex: 0, role: "region", "aria-label": "About the job" },
        this.wiper, this.help,
        element("div", { className: "play" }, this.painter, this.against), this.unsure, this.chips, this.trouble, this.buttons, this.phases, this.facts),
    );
    this.root.tabIndex = -1;
    this.root.focus({ preventScroll: true });
  }

  place() {
    const { job } = this;
    const before = this.versus === null ? `/jobs/${job.id}/plate` : `/jobs/${this.versus}/result`;
    this.stage.open(`/jobs/${job.id}`, before, [job.width || 16, job.height || 9]);
  }

  update(job) {
    this.job = job;
    this.heading.replaceChildren(job.source, element("small", { textContent: `#${job.id} · ${job.method} · ${job.word}` }));
    drawConfidence(this.confidence, job, Math.max(1, this.confidence.clientWidth), 34, true);
    this.trouble.hidden = job.state !== "failed";
    if (job.state === "failed") {
      this.trouble.replaceChildren(job.message, button("Copy for support", () => copySupport(job.id)));
    }
    this.painter.hidden = job.uploaded;
    this.drawButtons();
    this.drawPhases();
    this.drawFacts();
    this.drawVersions();
    this.drawTools();
    if (job.made.has(this.frame) !== this.isMade) this.go(this.frame);
  }

  drawTools() {
    if (!this.tools || !this.stage) return;
    const { view } = this.stage;
    const pressed = { wipe: view === "wipe", flip: view === "before" || view === "after", difference: view === "difference", matte: view === "matte", correct: this.hand.isOpen };
    for (const [name, on] of Object.entries(pressed)) this.tools[name].setAttribute("aria-pressed", String(on));
    this.tools.flip.textContent = view === "before" || view === "after" ? `A/B: ${view}` : "A/B";
    this.tools.zoom.textContent = this.stage.zoom > 1.01 || this.stage.zoom < 0.99 ? `${this.stage.percent()} %` : "1:1";
    this.wiper.value = Math.round(this.stage.share * 100);
  }

  drawButtons() {
    const { job } = this;
    const names = `${job.id} ${buttonsOf(job).join()} ${job.priority} ${job.finished} ${job.output}`;
    if (this.names === names) return;
    this.names = names;
    const focused = [...this.buttons.children].indexOf(document.activeElement);
    const made = buttonsOf(job).map(([label, action]) => button(label, () => this.actions.act(job.id, action)));
    if (job.output && job.state === "done") {
      made.push(button("Open result", () => act(job.id, "open")), button("Show in folder", () => act(job.id, "reveal")));
    }
    if (movable(job)) {
      made.push(button("Earlier", () => this.actions.step(job.id, -1)), button("Later", () => this.actions.step(job.id, 1)));
    }
    if (!job.finished) {
      made.push(button("Priority −", () => act(job.id, "priority", { priority: job.priority - 1 })));
      made.push(button("Priority +", () => act(job.id, "priority", { priority: job.priority + 1 })));
    }
    if (job.state !== "failed") made.push(button("Copy for support", () => copySupport(job.id)));
    this.buttons.replaceChildren(...made);
    if (focused >= 0) this.buttons.children[Math.min(focused, made.length - 1)]?.focus();
  }

  drawPhases() {
    this.phases.replaceChildren(...this.job.progress.phases.map((phase) => {
      const share = phase.total ? phase.done / phase.total : 1;
      const fill = element("i");
      fill.style.width = `${share * 100}%`;
      const left = !this.job.finished && phase.left > 0 ? `, ${duration(phase.left)} left` : "";
      const spent = phase.seconds >= 0.5 ? ` in ${duration(phase.seconds)}` : "";
      return element("li", {}, phase.function.replaceAll("_", " "), element("span", { className: share === 1 ? "bar full" : "bar" }, fill),
        element("small", { textContent: `${phase.done} of ${phase.total}${spent}${left}` }));
    }));
  }

  drawFacts() {
    const { job } = this;
    const facts = [
      ["source", job.path],
      ["output", job.output || "kept in the engine, for its host"],
      ["frames", `${job.first}–${job.last}, ${job.width}×${job.height}`],
      ["keyframes", (job.keyframes ?? []).join(", ") || "none yet"],
      ["found ready", job.progress.stages_found ? `${job.progress.stages_found} of ${job.progress.stages_total} stages` : ""],
      ["settings", Object.entries(this.parameters ?? {}).map((pair) => pair.join("=")).join(", ")],
      ["took", job.finished ? duration(job.seconds) : ""],
      ["told", job.state === "failed" ? "" : job.message],
    ];
    this.facts.replaceChildren(...facts.filter(([, value]) => value).flatMap(([name, value]) =>
      [element("dt", { textContent: name }), element("dd", { textContent: value })]));
  }

  // Other results of the shot, to compare with.
  drawVersions() {
    const others = this.actions.versions(this.job);
    const names = others.map((job) => job.id).join();
    if (this.against.dataset.names === `${this.job.id} ${names}`) return;
    this.against.dataset.names = `${this.job.id} ${names}`;
    const options = [["", "compare with the plate"], ...others.map((job) => [String(job.id), `compare with #${job.id}, ${job.method}`])];
    this.against.replaceChildren(...options.map(([value, label]) => element("option", { value, textContent: label })));
    this.against.value = this.versus === null ? "" : String(this.versus);
    this.against.hidden = others.length === 0;
  }

  compareWith(value) {
    this.versus = value === "" ? null : Number(value);
    this.place();
    this.go(this.frame);
  }

  async more() {
    const { id } = this.job;
    const details = await read(`/jobs/${id}`);
    if (!details || this.job?.id !== id) return;
    for (const [number, confidence] of details.frames) this.job.made.set(number, confidence); // events may be ahead
    this.parameters = details.parameters;
    this.suggested = details.suggested;
    this.unsure.hidden = details.unsure.length === 0;
    this.unsure.replaceChildren(...details.unsure.map((range) => element("li", { textContent: rangeInWords(range) })));
    this.chips.hidden = details.suggested.length === 0;
    this.chips.replaceChildren(...(details.suggested.length ? ["Paint this frame next:", ...details.suggested.slice(0, 8).map((frame) =>
      button(`frame ${frame}`, () => { this.pause(); this.go(frame); }))] : []));
    const length = Math.max(1, this.job.last - this.job.first + 1);
    this.marks.replaceChildren(...details.suggested.map((frame) => {
      const mark = element("i");
      mark.style.left = `${((frame - this.job.first + 0.5) / length) * 100}%`;
      return mark;
    }));
    this.update(this.job);
  }

  go(frame) {
    const { job } = this;
    if (this.hand.isOpen && frame !== this.frame) this.hand.close();
    this.frame = Math.max(job.first, Math.min(job.last, frame));
    this.isMade = job.made.has(this.frame);
    this.scrubber.value = this.frame;
    this.scrubber.setAttribute("aria-valuetext", `frame ${this.frame}`);
    this.drawWhere();
    this.stage.show(this.frame, this.isMade, this.versus === null ? "before" : `#${this.versus}`);
  }

  drawWhere() {
    const confidence = this.job.made.get(this.frame);
    const rate = this.playing && this.rate ? ` · ${this.rate.toFixed(0)} of ${this.job.rate.toFixed(0)} frames a second` : "";
    this.where.textContent = `frame ${this.frame}${confidence === undefined ? "" : ` · confidence ${confidence.toFixed(2)}`}${rate}`;
  }

  // Ways to look.

  look(view) {
    this.stage.setView(this.stage.view === view ? "wipe" : view);
  }

  flip() {
    this.stage.setView(this.stage.view === "after" ? "before" : "after");
  }

  async fullScreen() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await this.root.requestFullscreen().catch(() => say("The browser does not let the page fill the screen."));
  }

  toggleKeys() {
    this.help.hidden = !this.help.hidden;
    this.tools.keys.setAttribute("aria-expanded", String(!this.help.hidden));
    if (!this.help.hidden) this.help.scrollIntoView({ block: "nearest" });
  }

  nextToPaint() {
    const next = this.suggested.find((frame) => frame > this.frame) ?? this.suggested[0];
    if (next === undefined) say("No frame needs paint before others.");
    else { this.pause(); this.go(next); }
  }

  async paint() {
    if (this.job.uploaded) return;
    this.pause();
    say(`Opening frame ${this.frame} …`);
    const opened = await post(`/shots/${this.job.shot}/frames/${this.frame}/paint`);
    if (opened) say(painting(opened));
  }

  correct() {
    if (this.hand.isOpen) return this.hand.close();
    this.pause();
    if ((this.job.keyframes ?? []).includes(this.frame)) return say(`Frame ${this.frame} is painted: paint it again instead.`);
    if (!this.isMade) return say("This frame is not made yet.");
    return this.hand.open(this.job, this.frame);
  }

  // Playing: each frame when it is there, so a slow machine shows fewer a second, and says so.

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    this.player.textContent = "Stop";
    let since = performance.now();
    let shown = 0;
    this.rate = 0;
    const step = async () => {
      const began = performance.now();
      const next = this.frame >= this.job.last ? this.job.first : this.frame + 1;
      for (let ahead = 1; ahead < AHEAD; ahead += 1) {
        if (next + ahead <= this.job.last) this.stage.ready(next + ahead, this.job.made.has(next + ahead));
      }
      await this.stage.ready(next, this.job.made.has(next));
      if (!this.playing) return;
      this.go(next);
      shown += 1;
      if (performance.now() - since > 1000) {
        this.rate = (shown * 1000) / (performance.now() - since);
        since = performance.now();
        shown = 0;
      }
      this.playing = setTimeout(step, Math.max(0, 1000 / this.job.rate - (performance.now() - began)));
    };
    this.playing = setTimeout(step, 0);
  }

  pause() {
    clearTimeout(this.playing);
    this.playing = 0;
    if (this.player) this.player.textContent = "Play";
  }

  // Keys.

  key(event) {
    if (!this.isOpen || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.closest?.("select, input:not([type=range]), textarea, dialog[open]")) return;
    if ((event.key === " " || event.key === "Enter") && event.target.closest?.("button")) return; // presses it
    const done = this.actionOf(event.key);
    if (!done) return;
    event.preventDefault();
    event.stopPropagation();
    done();
  }

  actionOf(key) {
    const { job, stage } = this;
    const step = (frame) => () => { this.pause(); this.go(frame); };
    return {
      ArrowLeft: step(this.frame - 1), ArrowRight: step(this.frame + 1), Home: step(job.first), End: step(job.last),
      " ": () => this.toggle(), k: () => this.toggle(), n: () => this.nextToPaint(),
      b: () => this.flip(), w: () => stage.setView("wipe"), d: () => this.look("difference"), m: () => this.look("matte"),
      "[": () => { stage.setWipe(stage.share - 0.05); this.drawTools(); }, "]": () => { stage.setWipe(stage.share + 0.05); this.drawTools(); },
      "+": () => stage.enlarge(stage.zoom * 1.25), "=": () => stage.enlarge(stage.zoom * 1.25), "-": () => stage.enlarge(stage.zoom / 1.25),
      z: () => stage.toggleActual(), f: () => this.fullScreen(), p: () => this.paint(), c: () => this.correct(), "?": () => this.toggleKeys(),
      Escape: () => (this.hand.isOpen ? this.hand.close() : this.close()),
      Enter: this.hand.isOpen ? () => this.hand.apply() : undefined,
    }[key.length === 1 ? key.toLowerCase() : key];
  }
}

export function painting(opened) {
  return opened.editor
    ? `${opened.editor} opens the frame. Paint on the layer Paint; each save is carried through. ${opened.saving ? `To save: ${opened.saving}` : ""}`
    : `No painting program was found. Open ${opened.picture} in yours, paint, and save: each save is carried through.`;
}

function firstMade(job) {
  const key = (job.keyframes ?? [])[0];
  if (key !== undefined && job.made.has(key)) return key;
  return job.made.size ? job.made.keys().next().value : job.first;
}
