// Finds Paintover's engine by the files in its data folder, and asks it over HTTP on this machine.

const os = require("os");
const { localFileSystem } = require("uxp").storage;

// The platform's folder for a user's data, as the engine chooses it.
function defaultFolder() {
  const home = os.homedir().replace(/\\/g, "/");
  return os.platform() === "darwin"
    ? `${home}/Library/Application Support/paintover`
    : `${home}/AppData/Local/paintover`;
}

// A sentence for the artist.
class Sentence extends Error {}

const NOT_RUNNING = "Paintover's engine does not run; start it with `paintover monitor`.";

class Engine {
  constructor(folder) {
    this.folder = folder || defaultFolder();
  }

  async read(name) {
    const entry = await localFileSystem.getEntryWithUrl(`file:${this.folder}/${name}`);
    return (await entry.read()).trim();
  }

  // Reads port and token anew after each failure: a restarted engine may have another port.
  async find() {
    if (this.base) return;
    try {
      const { port } = JSON.parse(await this.read("monitor.json"));
      this.token = await this.read("token");
      if (!port) throw new Sentence(NOT_RUNNING);
      this.base = `http://127.0.0.1:${port}`;
    } catch (error) {
      throw new Sentence(
        error instanceof Sentence ? error.message : `There is no engine's folder ${this.folder}; choose another.`,
      );
    }
  }

  async fetch(path, options) {
    await this.find();
    let answer;
    try {
      answer = await fetch(this.base + path, { ...options, headers: { Authorization: `Bearer ${this.token}` } });
    } catch (error) {
      this.base = null;
      throw new Sentence(NOT_RUNNING);
    }
    if (answer.ok) return answer;
    this.base = null;
    if (answer.status === 401)
      throw new Sentence("The engine is another one than its folder tells of; start it again.");
    const told = await answer.json().catch(() => ({}));
    throw new Sentence(told.message || `The engine answers ${answer.status} to ${path}.`);
  }

  async get(path) {
    return (await this.fetch(path, {})).json();
  }

  async post(path, body) {
    return (await this.fetch(path, { method: "POST", body: JSON.stringify(body || {}) })).json();
  }

  // A URL for an <img> of a job's frame; the caller revokes it. ImageBlob takes no WebP.
  async picture(job, view, frame, side) {
    const answer = await this.fetch(`/jobs/${job}/${view}/${frame}?side=${side}&as=jpeg`, {});
    return URL.createObjectURL(new ImageBlob(await answer.arrayBuffer(), { type: "image/jpg" }));
  }
}

module.exports = { Engine, Sentence };
