// Where a shot begins: this machine's folders, a clip of them, its frames, and "Paint this frame".

import { post, read, say, send } from "./api.js";
import { painting } from "./viewer.js";
import { button, count, element } from "./words.js";

export class Chooser {
  constructor(dialog) {
    this.dialog = dialog;
    this.path = element("input", { type: "text", "aria-label": "Folder or clip", spellcheck: false });
    this.path.addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); this.typed(); }
    });
    this.up = button("Up", () => this.browse(this.parent));
    this.list = element("ul", { className: "entries", "aria-label": "Folders and clips" });
    this.folders = element("div", { className: "folders" }, element("div", { className: "play" }, this.up, this.path), this.list);
    this.picture = element("img", { alt: "", className: "frame" });
    this.scrubber = element("input", { type: "range", "aria-label": "Frame" });
    this.scrubber.addEventListener("input", () => this.show(Number(this.scrubber.value)));
    this.where = element("output");
    this.painter = button("Paint this frame", () => this.paint());
    this.clip = element("div", { className: "clip", hidden: true }, this.picture, this.scrubber,
      element("div", { className: "play" }, this.painter, button("Another clip", () => this.leave()), this.where));
    this.title = element("h2", { id: "chooser-title", textContent: "Open a shot" });
    dialog.setAttribute("aria-labelledby", "chooser-title");
    dialog.replaceChildren(element("header", {}, this.title, button("Close", () => dialog.close(), { "aria-label": "Close" })), this.folders, this.clip);
  }

  open() {
    this.dialog.showModal();
    if (!this.here) this.browse("");
  }

  async browse(path) {
    const found = await read(`/folders?path=${encodeURIComponent(path)}`, true);
    if (!found) return;
    this.here = found.path;
    this.parent = found.parent;
    this.path.value = found.path;
    this.up.disabled = found.parent === null;
    const inside = (name) => `${found.path.replace(/[\\/]$/, "")}${found.path.includes("\\") ? "\\" : "/"}${name}`;
    const entry = (kind, label, note, action) => element("li", {}, element("button", { type: "button", className: `entry ${kind}`, onclick: action },
      element("span", { textContent: label }), element("small", { textContent: note })));
    const entries = [
      ...found.clips.map((clip) => entry("clip", clip.name, clip.frames ? count(clip.frames, "picture") : "video", () => this.choose(inside(clip.source)))),
      ...found.folders.map((name) => entry("folder", name, "folder", () => this.browse(inside(name)))),
    ];
    this.list.replaceChildren(...(entries.length ? entries : [element("li", { className: "empty", textContent: "No clip and no folder is here." })]));
  }

  // Dropped files: a browser tells no path of them, so the engine gets a copy. Several are the frames of a sequence.
  async drop(files) {
    const clip = [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    let kept = null;
    for (const [index, file] of files.entries()) {
      say(files.length === 1 ? `Copying ${file.name} …` : `Copying ${index + 1} of ${count(files.length, "picture")} …`);
      kept = await send(`/dropped/${clip}/${encodeURIComponent(file.name)}`, file);
      if (!kept) return;
    }
    if (!this.dialog.open) this.dialog.showModal();
    await this.browse(kept.folder);
    const found = this.list.querySelector(".entry.clip");
    if (found) found.click();
    else say("One picture is no shot: drop a video, or all pictures of a sequence.");
  }

  // A typed path is a clip where it ends in a file's suffix, else a folder.
  typed() {
    const path = this.path.value.trim();
    if (/\.\w{2,5}$/.test(path)) this.choose(path);
    else this.browse(path);
  }

  async choose(path) {
    const shot = await post("/shots", { path });
    if (!shot) return;
    this.shot = shot;
    this.folders.hidden = true;
    this.clip.hidden = false;
    this.title.textContent = shot.name;
    this.scrubber.min = shot.first;
    this.scrubber.max = shot.last;
    this.show(shot.keyframes[0] ?? shot.first);
    this.painter.focus();
  }

  show(frame) {
    this.frame = frame;
    this.scrubber.value = frame;
    this.where.textContent = `frame ${frame} of ${this.shot.first}–${this.shot.last}`;
    const address = `/shots/${this.shot.id}/plate/${frame}?side=1280`;
    this.wanted = address;
    const next = new Image();
    next.src = address;
    next.decode().then(() => { if (this.wanted === address) { this.picture.src = address; this.picture.alt = `Frame ${frame}`; } }, () => null);
  }

  leave() {
    this.clip.hidden = true;
    this.folders.hidden = false;
    this.title.textContent = "Open a shot";
  }

  async paint() {
    say(`Opening frame ${this.frame} …`);
    const opened = await post(`/shots/${this.shot.id}/frames/${this.frame}/paint`);
    if (!opened) return;
    this.dialog.close();
    say(painting(opened));
  }
}
