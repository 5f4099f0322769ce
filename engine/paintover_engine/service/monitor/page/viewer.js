// One job, looked at: before and after with a wipe, the matte, confidence along the frames, stages, and words for what failed.

import { act, copySupport, read } from "./api.js";
import { buttonsOf, movable } from "./card.js";
import { drawConfidence } from "./strip.js";
import { button, duration, element, rangeInWords } from "./words.js";

const AHEAD = 10;

export class Viewer {
  constructor(root, step, closed) {
    this.root = root;
    this.step = step;
    this.closed = closed;
    this.wipe = 0.5;
    this.matte = false;
    this.playing = 0;
    this.kept = new Map();
    document.addEventListener("keydown", (event) => this.key(event));
  }

  get isOpen() {
    return !this.root.hidden;
  }

  open(job, frame) {
    const other = !this.job || this.job.id !== job.id;
    this.pause();
    this.job = job;
    if (other) {
      this.kept.clear();
      this.build();
    }
    this.root.hidden = false;
    this.go(frame ?? (other ? firstMade(job) : this.frame));
    this.update(job);
    this.more();
  }

  close() {
    this.pause();
    this.root.hidden = true;
    this.job = undefined;
    this.closed();
  }

  build() {
    const { job } = this;
    this.plate = element("img", { alt: "The plate", draggable: false });
    this.result = element("img", { className: "over", alt: "The result", draggable: false });
    this.tint = element("div", { className: "matte-tint" });
    this.line = element("div", { className: "wipe" });
    this.unmade = element("div", { className: "unmade", textContent: "This frame is not made yet." });
    this.stage = element("div", { className: "stage" }, this.plate, this.result, this.tint, this.line,
      element("span", { className: "side left", textContent: "before" }), element("span", { className: "side right", textContent: "after" }), this.unmade);
    const drag = (event) => {
      const box = this.stage.getBoundingClientRect();
      this.setWipe((event.clientX - box.left) / box.width);
    };
    this.stage.addEventListener("pointerdown", (event) => {
      this.stage.setPointerCapture(event.pointerId);
      drag(event);
    });
    this.stage.addEventListener("pointermove", (event) => event.buttons && drag(event));
    this.wiper = element("input", { type: "range", min: 0, max: 100, value: 50, className: "sr", "aria-label": "Wipe between before and after" });
    this.wiper.addEventListener("input", () => this.setWipe(this.wiper.value / 100));

    this.confidence = element("canvas", { "aria-hidden": "true" });
    this.scrubber = element("input", { type: "range", min: job.first, max: job.last, "aria-label": "Frame" });
    this.scrubber.addEventListener("input", () => { this.pause(); this.go(Number(this.scrubber.value)); });
    this.player = button("Play", () => this.toggle());
    this.matter = button("Matte", () => this.toggleMatte(), { "aria-pressed": "false" });
    this.where = element("output");
    this.trouble = element("div", { className: "trouble", role: "alert" });
    this.chips = element("div", { className: "chips" });
    this.unsure = element("ul", { className: "ranges", "aria-label": "Frames that are not sure" });
    this.phases = element("ol", { className: "phases", "aria-label": "Stages" });
    this.facts = element("dl", { className: "facts" });
    this.buttons = element("div", { className: "play" });
    this.heading = element("h3");
    this.root.replaceChildren(
      element("header", {}, this.heading, button("Close", () => this.close(), { "aria-label": "Close the job" })),
      this.stage, this.wiper,
      element("div", { className: "scrub" }, this.confidence, this.scrubber),
      element("div", { className: "play" }, this.player, this.matter, this.where),
      this.unsure, this.chips, this.trouble, this.buttons, this.phases, this.facts,
    );
  }

  update(job) {
    this.job = job;
    this.heading.replaceChildren(job.source, element("small", { textContent: `#${job.id} · ${job.method} · ${job.word}` }));
    drawConfidence(this.confidence, job, Math.max(1, this.confidence.clientWidth), 34, true);
    this.trouble.hidden = job.state !== "failed";
    if (job.state === "failed") {
      this.trouble.replaceChildren(job.message, button("Copy for support", () => copySupport(job.id)));
    }
    this.drawButtons();
    this.drawPhases();
    this.drawFacts();
    if (job.made.has(this.frame) !== this.isMade) this.go(this.frame);
  }

  drawButtons() {
    const { job } = this;
    const names = `${job.id} ${buttonsOf(job).join()} ${job.priority} ${job.finished}`;
    if (this.names === names) return;
    this.names = names;
    const focused = [...this.buttons.children].indexOf(document.activeElement);
    const made = buttonsOf(job).map(([label, action]) => button(label, () => act(job.id, action)));
    if (movable(job)) {
      made.push(button("Earlier", () => this.step(job.id, -1)), button("Later", () => this.step(job.id, 1)));
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

  async more() {
    const { id } = this.job;
    const details = await read(`/jobs/${id}`);
    if (!details || this.job?.id !== id) return;
    this.job.made = new Map(details.frames);
    this.parameters = details.parameters;
    this.unsure.hidden = details.unsure.length === 0;
    this.unsure.replaceChildren(...details.unsure.map((range) => element("li", { textContent: rangeInWords(range) })));
    this.chips.hidden = details.suggested.length === 0;
    this.chips.replaceChildren(...(details.suggested.length ? ["Paint this frame next:", ...details.suggested.slice(0, 8).map((frame) =>
      button(`frame ${frame}`, () => { this.pause(); this.go(frame); this.setWipe(0); }))] : []));
    this.update(this.job);
  }

  go(frame) {
    const { job } = this;
    this.frame = Math.max(job.first, Math.min(job.last, frame));
    this.isMade = job.made.has(this.frame);
    this.scrubber.value = this.frame;
    this.scrubber.setAttribute("aria-valuetext", `frame ${this.frame}`);
    const confidence = job.made.get(this.frame);
    this.where.textContent = `frame ${this.frame}${confidence === undefined ? "" : ` · confidence ${confidence.toFixed(2)}`}`;
    this.plate.src = this.address("plate", this.frame);
    this.result.hidden = this.line.hidden = !this.isMade;
    this.unmade.hidden = this.isMade;
    if (this.isMade) this.result.src = this.address("result", this.frame);
    this.drawMatte();
    this.setWipe(this.wipe);
  }

  address(view, frame) {
    const wide = this.stage.clientWidth * (window.devicePixelRatio || 1);
    return `/jobs/${this.job.id}/${view}/${frame}?side=${wide > 760 ? 1280 : 640}`;
  }

  drawMatte() {
    this.stage.classList.toggle("matted", this.matte && this.isMade);
    if (this.matte && this.isMade) this.tint.style.maskImage = `url("${this.address("matte", this.frame)}")`;
  }

  toggleMatte() {
    this.matte = !this.matte;
    this.matter.setAttribute("aria-pressed", String(this.matte));
    this.drawMatte();
  }

  setWipe(share) {
    this.wipe = Math.max(0, Math.min(1, share));
    const percent = `${this.wipe * 100}%`;
    this.result.style.clipPath = `inset(0 0 0 ${percent})`;
    this.line.style.left = percent;
    this.wiper.value = Math.round(this.wipe * 100);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    this.player.textContent = "Stop";
    const step = async () => {
      const next = this.frame >= this.job.last ? this.job.first : this.frame + 1;
      for (let ahead = 0; ahead < AHEAD; ahead += 1) this.fetch(next + ahead);
      await this.fetch(next);
      if (!this.playing) return;
      this.go(next);
      this.playing = setTimeout(step, 1000 / this.job.rate);
    };
    this.playing = setTimeout(step, 0);
  }

  pause() {
    clearTimeout(this.playing);
    this.playing = 0;
    if (this.player) this.player.textContent = "Play";
  }

  fetch(frame) {
    if (frame > this.job.last) return null;
    const views = this.job.made.has(frame) ? ["plate", "result"] : ["plate"];
    return Promise.all(views.map((view) => {
      const address = this.address(view, frame);
      if (!this.kept.has(address)) {
        const image = new Image();
        image.src = address;
        this.kept.set(address, image);
        if (this.kept.size > 6 * AHEAD) this.kept.delete(this.kept.keys().next().value);
      }
      return this.kept.get(address).decode().catch(() => null);
    }));
  }

  key(event) {
    if (!this.isOpen || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape") return this.close();
    if (event.target.closest?.("input, button") && event.key !== "m") return;
    if (event.key === "ArrowLeft") this.go(this.frame - 1);
    else if (event.key === "ArrowRight") this.go(this.frame + 1);
    else if (event.key === " ") { event.preventDefault(); this.toggle(); }
    else if (event.key === "m") this.toggleMatte();
  }
}

function firstMade(job) {
  const key = (job.keyframes ?? [])[0];
  if (key !== undefined && job.made.has(key)) return key;
  return job.made.size ? job.made.keys().next().value : job.first;
}
