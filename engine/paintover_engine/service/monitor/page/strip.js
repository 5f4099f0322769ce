// A job as a strip of film: unexposed frames show the plate, dark; made ones their picture, as they arrive.

import { element, rangeInWords } from "./words.js";

const LEAST_CELL = 44;
const SIDE = 160;

export function confidenceColour(confidence) {
  const style = getComputedStyle(document.documentElement);
  const name = confidence >= 0.75 ? "--good" : confidence >= 0.5 ? "--fair" : "--bad";
  return style.getPropertyValue(name).trim();
}

export class Strip {
  constructor(open) {
    this.cells = [];
    this.row = element("div", { className: "cells" });
    this.confidence = element("canvas", { className: "confidence", "aria-hidden": "true" });
    this.root = element("div", { className: "strip" }, this.row, this.confidence);
    this.root.addEventListener("click", (event) => {
      const cell = this.cells.find((one) => one.node.contains(event.target));
      open(cell ? cell.shown ?? cell.middle : null);
    });
    this.width = 0;
    this.suggested = [];
    this.unsure = [];
    this.watcher = new ResizeObserver(() => this.layOut());
    this.watcher.observe(this.root);
  }

  show(job) {
    const shape = `${job.first} ${job.last} ${job.width} ${job.height} ${job.keyframes}`;
    const changed = this.job === undefined || this.shape !== shape;
    this.job = job;
    this.shape = shape;
    if (changed) this.layOut(true);
    else this.fill();
  }

  // What is not to be trusted: ranges of frames with the cause, and the frames to paint next.
  doubt({ suggested, unsure }) {
    this.suggested = suggested;
    this.unsure = unsure;
  }

  close() {
    this.watcher.disconnect();
  }

  layOut(always = false) {
    const { job } = this;
    const height = this.row.clientHeight;
    const width = this.root.clientWidth - 12;
    if (!job || width <= 0 || (!always && Math.abs(width - this.width) < 2)) return;
    this.width = width;
    const frames = job.last - job.first + 1;
    const cell = Math.max(LEAST_CELL, Math.min(height * 2.2, (height * (job.width || 16)) / (job.height || 9)));
    const count = Math.max(1, Math.min(frames, Math.floor(width / cell)));
    this.cells = Array.from({ length: count }, (_, index) => {
      const from = job.first + Math.floor((index * frames) / count);
      const to = job.first + Math.floor(((index + 1) * frames) / count) - 1;
      const key = (job.keyframes ?? []).find((frame) => frame >= from && frame <= to);
      return { from, to, middle: key ?? Math.floor((from + to) / 2), shown: null, node: element("div", { className: "cell" }) };
    });
    for (const one of this.cells) {
      one.before = picture("before", `/jobs/${job.id}/plate/${one.middle}?side=${SIDE}`);
      one.node.append(one.before, element("em", { textContent: String(one.middle) }));
      if (frames / count < 1.5) one.node.style.maxWidth = `${cell * 1.6}px`;
    }
    this.row.replaceChildren(...this.cells.map((one) => one.node));
    this.fill();
  }

  fill() {
    const { job } = this;
    const next = job.state === "running" || job.state === "preparing";
    for (const one of this.cells) {
      one.node.classList.toggle("key", (job.keyframes ?? []).includes(one.middle));
      const worst = this.suggested.find((frame) => frame >= one.from && frame <= one.to);
      one.node.classList.toggle("unsure", worst !== undefined);
      const causes = this.unsure.filter((range) => range.first <= one.to && range.last >= one.from).map(rangeInWords);
      if (worst !== undefined) causes.push(`Paint frame ${worst} next.`);
      one.node.title = causes.join("\n");
      if (one.shown === null) {
        const made = nearest(job.made, one.middle, one.from, one.to);
        if (made !== null) this.expose(one, made);
      }
      one.node.classList.toggle("next", next && one.shown === null);
    }
    this.drawConfidence();
  }

  expose(one, number) {
    one.shown = number;
    one.after?.remove();
    one.after = picture("after", `/jobs/${this.job.id}/result/${number}?side=${SIDE}`);
    one.after.addEventListener("load", () => one.after.classList.add("shown"), { once: true });
    one.before.after(one.after);
    one.node.querySelector("em").textContent = String(number);
  }

  drawConfidence() {
    drawConfidence(this.confidence, this.job, Math.max(1, this.width), 4, false);
  }
}

export function drawConfidence(canvas, job, width, height, tall) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  const frames = job.last - job.first + 1;
  for (const [number, confidence] of job.made) {
    const x = ((number - job.first) / frames) * canvas.width;
    const high = tall ? Math.max(0.08, confidence) * canvas.height : canvas.height;
    pen.fillStyle = confidenceColour(confidence);
    pen.fillRect(Math.floor(x), canvas.height - high, Math.ceil(canvas.width / frames), high);
  }
}

function nearest(made, wanted, from, to) {
  let best = null;
  for (let distance = 0; distance <= to - from; distance += 1) {
    for (const number of [wanted - distance, wanted + distance]) {
      if (best === null && number >= from && number <= to && made.has(number)) best = number;
    }
    if (best !== null) break;
  }
  return best;
}

function picture(kind, source) {
  const made = element("img", { className: kind, alt: "", loading: "lazy", decoding: "async", draggable: false });
  made.addEventListener("error", () => (made.hidden = true), { once: true });
  made.src = source;
  return made;
}
