// A stand-in of the documented modules that a UXP panel finds in Photoshop, and of as much of a page as it uses, with
// what is not there: no dataset, no getElementsByClassName; ImageBlob takes PNG and JPEG alone; a change of documents
// outside executeAsModal throws; a panel's `show` that takes more than 300 ms fails; other code's dialog is number 9.

const fs = require("fs");
const Module = require("module");
const path = require("path");

class Element {
  constructor(kind) {
    Object.assign(this, { kind, children: [], style: {}, className: "", src: "", listeners: {}, text: "" });
  }
  get textContent() {
    return this.text + this.children.map((child) => child.textContent).join(" ");
  }
  set textContent(text) {
    this.text = text;
    this.children = [];
  }
  appendChild(child) {
    this.children.push(child);
    return child;
  }
  addEventListener(name, listener) {
    (this.listeners[name] = this.listeners[name] || []).push(listener);
  }
  querySelectorAll(kind) {
    return this.children.flatMap((child) => [...(child.kind === kind ? [child] : []), ...child.querySelectorAll(kind)]);
  }
  async click() {
    for (const listener of this.listeners.click || []) await listener();
  }
}

class File {
  constructor(nativePath) {
    this.nativePath = nativePath;
  }
  async read() {
    return fs.readFileSync(this.nativePath, "utf8");
  }
}

function standIn(home) {
  const state = {
    modal: 0,
    busy: false,
    documents: [],
    listeners: [],
    panels: {},
    urls: new Map(),
    chosen: null,
    tokens: {},
    log: [],
  };
  const ids = {};
  for (const id of ["status", "choose", "new", "shots", "strip", "large"]) ids[id] = new Element("div");
  ids.status.textContent = "Looking for the engine…";

  const localFileSystem = {
    async getEntryWithUrl(url) {
      if (!/^file:\//.test(url)) throw new Error(`not a file's URL: ${url}`);
      const found = url.slice("file:".length);
      if (!fs.existsSync(found)) throw new Error(`Could not find an entry of '${url}'`);
      return new File(found);
    },
    async getFileForOpening({ types }) {
      return state.file && types.includes(state.file.split(".").pop()) ? new File(state.file) : null;
    },
    async getFolder() {
      return state.chosen && { nativePath: state.chosen };
    },
    async createPersistentToken(folder) {
      state.tokens[`t-${folder.nativePath}`] = folder;
      return `t-${folder.nativePath}`;
    },
    async getEntryForPersistentToken(token) {
      if (!state.tokens[token]) throw new Error("permission denied");
      return state.tokens[token];
    },
  };
  const app = {
    get documents() {
      return state.documents;
    },
    get activeDocument() {
      return state.documents[state.documents.length - 1] || null;
    },
    async open(entry) {
      if (!state.modal)
        throw new Error(
          "Event: open may modify the state of Photoshop. Such events are only allowed from inside a modal scope",
        );
      state.documents.push({ id: 100 + state.documents.length, path: entry.nativePath });
    },
  };
  const core = {
    async executeAsModal(work, options) {
      if (!options.commandName) throw new Error("commandName is missing");
      if (state.busy) throw Object.assign(new Error("host is in a modal state"), { number: 9 });
      state.modal += 1;
      try {
        return await work({}, {});
      } finally {
        state.modal -= 1;
      }
    },
  };
  const modules = {
    uxp: {
      storage: { localFileSystem },
      entrypoints: {
        setup(given) {
          state.panels = given.panels;
        },
      },
    },
    photoshop: {
      app,
      core,
      action: {
        addNotificationListener(events, listener) {
          state.listeners.push({ events, listener });
        },
      },
    },
    os: { homedir: () => home, platform: () => "darwin" },
  };
  const load = Module._load;
  Module._load = function (name, parent, main) {
    const inPanel = parent && parent.filename.includes(`${path.sep}panel${path.sep}`);
    return inPanel && modules[name] ? modules[name] : load(name, parent, main);
  };

  global.document = { getElementById: (id) => ids[id], createElement: (kind) => new Element(kind) };
  const kept = {};
  global.localStorage = {
    getItem: (key) => kept[key] || null,
    setItem(key, value) {
      kept[key] = value;
    },
    removeItem(key) {
      delete kept[key];
    },
  };
  global.ImageBlob = class {
    constructor(buffer, options) {
      if (!(buffer instanceof ArrayBuffer)) throw new TypeError("arrayBuffer is not of type ArrayBuffer");
      if (!["image/png", "image/jpg", "image/jpeg"].includes(options.type))
        throw new Error(`unsupported ${options.type}`);
      this.bytes = Buffer.from(buffer);
    }
  };
  URL.createObjectURL = (blob) => {
    const url = `blob:/${state.urls.size}`;
    state.urls.set(url, blob.bytes);
    return url;
  };
  URL.revokeObjectURL = (url) => {
    state.urls.set(url, null);
  };

  return {
    state,
    ids,
    async show() {
      const began = Date.now();
      state.panels.paintover.show();
      if (Date.now() - began > 300) throw new Error("the panel's show took too long");
    },
    hide() {
      state.panels.paintover.hide();
    },
    // What Photoshop tells of Ctrl+S: when it begins, with half the file there, and when it has ended.
    async save(document, bytes) {
      const told = (stage) => ({
        documentID: document.id,
        in: { _path: document.path, _kind: "local" },
        saveStage: { _enum: "saveStageType", _value: stage },
      });
      const tell = (stage) =>
        Promise.all(
          state.listeners.filter((one) => one.events.includes("save")).map((one) => one.listener("save", told(stage))),
        );
      fs.writeFileSync(document.path, bytes.subarray(0, bytes.length / 2));
      await tell("saveBegin");
      const late = setTimeout(() => fs.writeFileSync(document.path, bytes), 500); // "succeeded" can be early
      await tell("saveSucceeded");
      clearTimeout(late);
    },
  };
}

module.exports = { standIn };
