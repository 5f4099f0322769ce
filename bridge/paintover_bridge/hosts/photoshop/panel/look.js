// One frame of a result, large enough to judge: the whole or its own pixels, before or after.

const SIDE = 2560;

class Look {
  // root: where it is drawn; picture: (job, view, frame, side) to an image's URL; make: (kind, text, parent, class).
  constructor(root, picture, make) {
    Object.assign(this, { root, picture, make, fit: true, view: "result", urls: {} });
  }

  async open(job, frame) {
    this.close();
    this.shown = `${job} ${frame}`;
    const wanted = this.shown;
    const [result, plate] = await Promise.all(
      ["result", "plate"].map((view) => this.picture(job, view, frame, SIDE)),
    );
    if (this.shown !== wanted) {
      for (const url of [result, plate]) URL.revokeObjectURL(url);
      return; // another was opened meanwhile
    }
    this.urls = { result, plate };
    this.frame = frame;
    this.view = "result";
    this.draw();
  }

  draw() {
    this.root.textContent = "";
    const row = this.make("div", "", this.root, "row");
    const button = (text, work) => this.make("button", text, row).addEventListener("click", work);
    button(this.view === "result" ? "Show before" : "Show after", () => this.flip());
    button(this.fit ? "1:1" : "Fit", () => this.zoom());
    button("Close", () => this.close());
    this.make("span", `frame ${this.frame}, ${this.view === "result" ? "after" : "before"}`, row);
    const window = this.make("div", "", this.root, this.fit ? "window fit" : "window");
    const image = this.make("img", "", window);
    image.src = this.urls[this.view];
    image.addEventListener("click", () => this.flip());
  }

  flip() {
    this.view = this.view === "result" ? "plate" : "result";
    this.draw();
  }

  zoom() {
    this.fit = !this.fit;
    this.draw();
  }

  close() {
    for (const url of Object.values(this.urls)) URL.revokeObjectURL(url);
    this.urls = {};
    this.shown = "";
    this.root.textContent = "";
  }
}

module.exports = { Look };
