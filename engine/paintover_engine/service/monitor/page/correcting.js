// The hand in the viewer: a drag of what slipped, a holdout where the paint is wrong, or the matte drawn anew.

import { say, send } from "./api.js";
import { button, element } from "./words.js";

const LONGEST = 4096; // pixels of a drawn matte's longer side
const INK = "#ff4a4a";
const TOOLS = {
  drag: ["Drag", "Drag what slipped to where it belongs; a second drag of the same part turns and scales it."],
  holdout: ["Hold out", "Brush over paint that does not belong here."],
  roto: ["Draw the matte", "Brush where the edit belongs; with Alt or Erase take away."],
};

export class Correcting {
  // told: after each change. corrected: with the job that goes on from a correction.
  constructor(stage, told, corrected) {
    this.stage = stage;
    this.told = told;
    this.corrected = corrected;
    this.canvas = element("canvas", { className: "drawn", hidden: true });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.size = element("input", { type: "range", min: 4, max: 200, value: 40, "aria-label": "Size of the brush" });
    this.kinds = Object.fromEntries(Object.entries(TOOLS).map(([kind, [label]]) => [kind, button(label, () => this.choose(kind))]));
    this.eraser = button("Erase", () => { this.erasing = !this.erasing; this.draw(); });
    this.applier = button("Apply", () => this.apply(), { className: "small strong", title: "Enter" });
    this.hint = element("output");
    this.root = element("div", { className: "play correct", hidden: true, role: "group", "aria-label": "Correct this frame" },
      ...Object.values(this.kinds), this.size, this.eraser, button("Clear", () => this.choose(this.kind)), this.applier,
      button("Cancel", () => this.close(), { title: "Esc" }), this.hint);
    stage.picture.append(this.canvas);
    this.watch();
  }

  get isOpen() {
    return !this.root.hidden;
  }

  open(job, frame) {
    this.job = job;
    this.frame = frame;
    const [width, height] = job.plate;
    this.scale = Math.min(1, LONGEST / Math.max(width, height));
    this.canvas.width = Math.round(width * this.scale);
    this.canvas.height = Math.round(height * this.scale);
    this.root.hidden = this.canvas.hidden = false;
    this.stage.setView("after");
    this.choose("drag");
  }

  close() {
    this.root.hidden = this.canvas.hidden = true;
    this.told();
  }

  async choose(kind) {
    this.kind = kind;
    this.points = [];
    this.erasing = this.changed = false;
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.draw();
    if (kind === "roto") await this.loadMatte(this.context);
  }

  // The frame's matte as it was carried, to be drawn on: its brightness becomes the canvas's alpha.
  async loadMatte(context) {
    const { job, frame } = this;
    const image = new Image();
    image.src = `/jobs/${job.id}/matte/${frame}?side=16383`;
    await image.decode().catch(() => say("The frame's matte is not there; draw it from nothing."));
    if (!image.naturalWidth || this.kind !== "roto" || this.changed) return;
    const { width, height } = this.canvas;
    context.drawImage(image, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height);
    for (let at = 0; at < pixels.data.length; at += 4) {
      pixels.data[at + 3] = pixels.data[at];
      [pixels.data[at], pixels.data[at + 1], pixels.data[at + 2]] = [255, 74, 74];
    }
    context.putImageData(pixels, 0, 0);
    this.canvas.dataset.loaded = String(frame);
  }

  watch() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return; // others move the picture
      event.stopPropagation();
      canvas.setPointerCapture(event.pointerId);
      this.from = this.last = this.at(event);
      this.changed = true;
      if (this.kind === "drag") this.points.push([...this.from, ...this.from]);
      else this.brush(event);
      this.draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.from) return;
      if (this.kind === "drag") this.points.splice(-1, 1, [...this.from, ...this.at(event)]);
      else this.brush(event);
      this.drawDrags();
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { this.from = undefined; });
    canvas.addEventListener("dblclick", (event) => event.stopPropagation());
  }

  // Where a pointer is on the canvas, in its pixels.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [["clientX", box.left, box.width, this.canvas.width], ["clientY", box.top, box.height, this.canvas.height]]
      .map(([name, start, shown, length]) => Math.max(0, Math.min(length - 1, ((event[name] - start) / shown) * length - 0.5)));
  }

  brush(event) {
    const { context } = this;
    const shown = this.canvas.width / this.canvas.getBoundingClientRect().width;
    const erases = this.kind === "roto" && (this.erasing || event.altKey);
    context.globalCompositeOperation = erases ? "destination-out" : "source-over";
    Object.assign(context, { strokeStyle: INK, lineWidth: this.size.value * shown, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(...this.last);
    this.last = this.at(event);
    context.lineTo(...this.last);
    context.stroke();
    context.globalCompositeOperation = "source-over";
  }

  drawDrags() {
    if (this.kind !== "drag") return;
    const { context } = this;
    const shown = this.canvas.width / this.canvas.getBoundingClientRect().width;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const [x, y, toX, toY] of this.points) {
      for (const [colour, width] of [["#000", 5], ["#fff", 2]]) {
        Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: width * shown });
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(toX, toY);
        context.stroke();
        context.beginPath();
        context.arc(toX, toY, (3 + width / 2) * shown, 0, 2 * Math.PI);
        context.fill();
      }
    }
  }

  draw() {
    for (const [kind, made] of Object.entries(this.kinds)) made.setAttribute("aria-pressed", String(kind === this.kind));
    this.canvas.dataset.kind = this.kind;
    this.size.hidden = this.kind === "drag";
    this.eraser.hidden = this.kind !== "roto";
    this.eraser.setAttribute("aria-pressed", String(this.erasing));
    this.applier.disabled = !this.changed;
    this.hint.textContent = TOOLS[this.kind][1];
    this.told();
  }

  async apply() {
    if (!this.changed || this.applier.disabled) return;
    const { job, frame, kind } = this;
    this.applier.disabled = true;
    const body = kind === "drag"
      ? JSON.stringify(this.points.map((point) => point.map((length) => (length + 0.5) / this.scale - 0.5)))
      : await new Promise((resolve) => this.canvas.toBlob(resolve));
    const made = await send(`/jobs/${job.id}/correct/${frame}/${kind}`, body);
    this.applier.disabled = false;
    if (!made) return;
    this.close();
    say(`Frame ${frame} is corrected; job #${made.job} goes on from it. ${made.notes.join(" ")}`);
    this.corrected(made.job, frame);
  }
}
