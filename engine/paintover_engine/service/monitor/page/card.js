// One job in the list: built when it comes near the window, so that a thousand of them cost little.

import { read } from "./api.js";
import { Strip } from "./strip.js";
import { button, duration, element } from "./words.js";

export class Card {
  constructor(id, actions) {
    this.actions = actions;
    this.id = id;
    this.root = element("li", { className: "card" });
    this.root.dataset.job = String(id);
    this.near = false;
  }

  update(job) {
    this.job = job;
    this.root.className = `card ${job.state}${this.root.classList.contains("chosen") ? " chosen" : ""}`;
    if (this.near) this.draw();
  }

  approach(near) {
    if (near && !this.near) {
      this.near = true;
      this.build();
      this.draw();
    }
  }

  build() {
    const { id } = this;
    const open = (frame = null) => this.actions.open(id, frame);
    this.grip = element("span", { className: "grip", textContent: "⋮⋮", title: "Drag to change the order" });
    this.title = element("button", { type: "button", className: "title", onclick: () => open() });
    this.number = element("span", { className: "number", textContent: `#${id}` });
    this.method = element("span", { className: "tag" });
    this.priority = element("span", { className: "tag" });
    this.state = element("span", { className: "state" });
    this.told = element("span", { className: "told" });
    this.buttons = element("span", { className: "actions" });
    this.message = element("p", { className: "message" });
    this.strip = new Strip(open);
    this.done = element("i");
    this.root.replaceChildren(
      element("div", { className: "head" }, this.grip, this.title, this.number, this.method, this.priority, this.state, this.told, this.buttons),
      this.message,
      this.strip.root,
      element("div", { className: "line", "aria-hidden": "true" }, this.done),
    );
    this.root.addEventListener("keydown", (event) => {
      if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
        event.preventDefault();
        this.actions.step(id, event.key === "ArrowUp" ? -1 : 1);
      }
    });
  }

  draw() {
    const { job } = this;
    this.title.textContent = job.source;
    this.title.title = job.path;
    this.title.setAttribute("aria-label", `${job.source}, job ${job.id}, ${job.word}: open`);
    this.method.textContent = job.prepare ? `${job.method}, ahead of the keyframe` : job.method;
    this.priority.hidden = job.priority === 0;
    this.priority.textContent = `priority ${job.priority}`;
    this.state.textContent = job.word;
    this.told.replaceChildren(...told(job));
    this.message.hidden = !job.message;
    this.message.textContent = job.message;
    this.grip.hidden = !movable(job);
    this.root.draggable = movable(job);
    this.done.style.width = `${Math.round(job.progress.fraction * 1000) / 10}%`;
    this.drawButtons();
    this.strip.show(job);
    this.fetchFrames();
  }

  async fetchFrames() {
    const { job } = this;
    if (!job.finished || job.framesDone === 0 || this.asked === job.framesDone) return;
    this.asked = job.framesDone;
    const details = await read(`/jobs/${job.id}`);
    if (!details) return;
    this.job.made = new Map(details.frames);
    this.strip.doubt(details);
    this.strip.show(this.job);
  }

  drawButtons() {
    const wanted = buttonsOf(this.job);
    const names = wanted.map(([, action]) => action).join();
    if (this.names === names) return;
    this.names = names;
    const hadFocus = this.buttons.contains(document.activeElement);
    this.buttons.replaceChildren(
      ...wanted.map(([label, action]) => button(label, () => this.actions.act(this.id, action), { "aria-label": `${label} job ${this.id}` })),
    );
    if (hadFocus) this.buttons.firstElementChild?.focus();
  }
}

export function movable(job) {
  return job.state === "queued" || job.state === "paused" || job.state === "waiting_for_keyframe";
}

export function buttonsOf(job) {
  if (job.canRetry) return [["Retry", "retry"], ["Remove", "remove"]];
  if (job.finished) return [["Remove", "remove"]];
  return [job.state === "paused" ? ["Resume", "resume"] : ["Pause", "pause"], ["Cancel", "cancel"]];
}

export function told(job) {
  const { progress } = job;
  const strong = (text) => element("b", { textContent: text });
  if (job.state === "done") return [job.framesDone ? `${job.framesDone} frames in ` : "took ", strong(duration(job.seconds))];
  if (job.prepare && !job.finished) return [strong(`${Math.round(progress.prepared * 100)} %`), " of the whole is ready"];
  const parts = [];
  if (progress.frames_total) parts.push(`${job.framesDone} of ${progress.frames_total} frames`);
  if (job.state === "running" && progress.stage) parts.push(progress.stage === "write" ? "writing" : progress.stage);
  const left = job.state === "running" ? duration(progress.seconds_left - (Date.now() - job.heard) / 1000) : "";
  return [parts.join(" · "), parts.length ? " · " : "", strong(`${Math.round(progress.fraction * 100)} %`), left ? ` · ${left} left` : ""];
}
