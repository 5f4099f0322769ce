// The picture of one frame: before and after in one place, by wipe, difference or matte; fitted, enlarged, moved about.

import { element } from "./words.js";

const SIDES = [640, 1280, 2560, 16383];
const KEPT = 60;
const MOST = 16;

export const VIEWS = ["wipe", "before", "after", "difference", "matte"];

export class Stage {
  constructor(told) {
    this.told = told;
    this.view = "wipe";
    this.share = 0.5;
    this.zoom = 1;
    this.offset = [0, 0];
    this.kept = new Map();
    this.plate = element("img", { className: "plate", alt: "", draggable: false });
    this.result = element("img", { className: "over", alt: "", draggable: false });
    this.matte = element("img", { className: "matte", alt: "", draggable: false });
    this.line = element("div", { className: "wipe" });
    this.unmade = element("div", { className: "unmade", textContent: "This frame is not made yet." });
    this.left = element("span", { className: "side left", textContent: "before" });
    this.right = element("span", { className: "side right", textContent: "after" });
    this.picture = element("div", { className: "picture" }, this.plate, this.result, this.matte);
    this.root = element("div", { className: "stage" }, this.picture, this.line, this.left, this.right, this.unmade);
    this.watch();
  }

  watch() {
    this.pointers = new Map();
    this.root.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 && event.button !== 1) return;
      this.root.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
      const onLine = Math.abs(event.clientX - this.line.getBoundingClientRect().left) < 16;
      this.wiping = this.view === "wipe" && event.button === 0 && (this.zoom === 1 || onLine);
      if (this.wiping) this.wipeTo(event.clientX);
    });
    this.root.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel"]) this.root.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    this.root.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = this.root.getBoundingClientRect();
      this.enlarge(this.zoom * Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    this.root.addEventListener("dblclick", () => this.toggleActual());
    new ResizeObserver(() => this.place()).observe(this.root);
  }

  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (others.length === 1) {
      const apart = ([x, y]) => Math.hypot(x - others[0][0], y - others[0][1]);
      const box = this.root.getBoundingClientRect();
      const middle = [(event.clientX + others[0][0]) / 2 - box.left, (event.clientY + others[0][1]) / 2 - box.top];
      this.wiping = false;
      this.enlarge((this.zoom * apart([event.clientX, event.clientY])) / Math.max(1, apart(before)), ...middle);
    } else if (this.wiping) this.wipeTo(event.clientX);
    else this.pan(event.clientX - before[0], event.clientY - before[1]);
  }

  // What is shown. base: the address of the plates' pictures; against: of what "before" is; size: width, height.

  open(base, against, size) {
    this.base = base;
    this.against = against;
    this.size = size;
    this.kept.clear();
    this.picture.classList.remove("there");
    this.fit();
  }

  show(frame, isMade, side = "before") {
    this.frame = frame;
    this.isMade = isMade;
    this.left.textContent = side;
    this.unmade.hidden = isMade || this.view === "before";
    this.load();
    this.arrange();
  }

  setView(view) {
    this.view = view;
    this.root.dataset.view = view;
    if (this.frame !== undefined) this.show(this.frame, this.isMade, this.left.textContent);
    this.told();
  }

  arrange() {
    const { view } = this;
    this.root.dataset.view = view;
    const shown = this.isMade ? view : "before";
    this.result.hidden = !["wipe", "after", "difference"].includes(shown);
    this.matte.hidden = shown !== "matte";
    this.plate.hidden = shown === "matte";
    this.line.hidden = this.right.hidden = shown !== "wipe";
    this.left.hidden = !["wipe", "before"].includes(shown);
    this.plate.alt = `Frame ${this.frame} before`;
    this.result.alt = `Frame ${this.frame} after`;
    this.matte.alt = `The matte of frame ${this.frame}`;
    this.setWipe(this.share);
  }

  addresses(frame, isMade) {
    const side = this.side();
    const wanted = [[this.plate, `${this.against}/${frame}?side=${side}`]];
    if (isMade) {
      wanted.push([this.result, `${this.base}/result/${frame}?side=${side}`]);
      if (this.view === "matte") wanted.push([this.matte, `${this.base}/matte/${frame}?side=${side}`]);
    }
    return wanted;
  }

  // The side of the pictures that are asked for, in pixels: what the screen can show of them.
  side() {
    const wide = this.fitted().width * this.zoom * (window.devicePixelRatio || 1);
    const longest = this.size[0] >= this.size[1] ? wide : (wide * this.size[1]) / this.size[0];
    return SIDES.find((side) => side >= Math.min(longest * 0.9, Math.max(...this.size))) ?? SIDES.at(-1);
  }

  // Each picture stays until the next one is there: a lost engine, or a slow one, leaves the last.
  load() {
    for (const [image, address] of this.addresses(this.frame, this.isMade)) {
      if (image.wanted === address) continue;
      image.wanted = address;
      this.fetch(address).then((found) => {
        if (image.wanted !== address) return;
        if (found) {
          image.src = address;
          this.picture.classList.add("there");
        } else image.wanted = undefined;
      });
    }
  }

  fetch(address) {
    if (!this.kept.has(address)) {
      const image = new Image();
      image.src = address;
      this.kept.set(address, image.decode().then(() => true, () => { this.kept.delete(address); return false; }));
      if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(address);
  }

  ready(frame, isMade) {
    return Promise.all(this.addresses(frame, isMade).map(([, address]) => this.fetch(address)));
  }

  // Where it lies.

  fitted() {
    const { clientWidth, clientHeight } = this.root;
    const [width, height] = this.size ?? [16, 9];
    const scale = Math.min(clientWidth / width, clientHeight / height);
    return { width: Math.round(width * scale), height: Math.round(height * scale), scale };
  }

  fit() {
    this.zoom = 1;
    this.offset = [0, 0];
    this.place();
  }

  actual() {
    return 1 / (this.fitted().scale * (window.devicePixelRatio || 1));
  }

  toggleActual() {
    if (Math.abs(this.zoom - 1) > 0.01) this.fit();
    else this.enlarge(this.actual());
  }

  enlarge(zoom, x = this.root.clientWidth / 2, y = this.root.clientHeight / 2) {
    const least = Math.min(1, this.actual());
    const next = Math.max(least, Math.min(Math.max(MOST, this.actual()), zoom));
    const middle = [this.root.clientWidth / 2, this.root.clientHeight / 2];
    [x, y].forEach((at, axis) => {
      const from = at - middle[axis] - this.offset[axis];
      this.offset[axis] -= from * (next / this.zoom - 1);
    });
    this.zoom = next;
    this.place();
    if (this.frame !== undefined) this.load();
  }

  pan(dx, dy) {
    this.offset = [this.offset[0] + dx, this.offset[1] + dy];
    this.place();
  }

  place() {
    if (!this.size) return;
    const { width, height } = this.fitted();
    const room = [this.root.clientWidth, this.root.clientHeight];
    [width, height].forEach((length, axis) => {
      const most = Math.max(0, (length * this.zoom - room[axis]) / 2);
      this.offset[axis] = Math.max(-most, Math.min(most, this.offset[axis]));
    });
    Object.assign(this.picture.style, {
      width: `${width}px`, height: `${height}px`,
      transform: `translate(-50%, -50%) translate(${this.offset[0]}px, ${this.offset[1]}px) scale(${this.zoom})`,
    });
    this.root.classList.toggle("pixels", this.zoom > this.actual() * 1.5);
    this.root.classList.toggle("movable", this.zoom > 1.001);
    this.setWipe(this.share);
    this.told();
  }

  percent() {
    return Math.round((this.zoom / this.actual()) * 100);
  }

  wipeTo(clientX) {
    const box = this.picture.getBoundingClientRect();
    this.setWipe((clientX - box.left) / box.width);
    this.told();
  }

  setWipe(share) {
    this.share = Math.max(0, Math.min(1, share));
    const { width } = this.fitted();
    this.result.style.clipPath = this.view === "wipe" ? `inset(0 0 0 ${this.share * 100}%)` : "none";
    const left = this.root.clientWidth / 2 + this.offset[0] + (this.share - 0.5) * width * this.zoom;
    this.line.style.left = `${left}px`;
  }
}
