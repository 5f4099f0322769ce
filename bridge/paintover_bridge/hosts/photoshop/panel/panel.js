// The panel: shots and their keyframes; a save of one goes into its shot, and the frames around it are shown.

const { entrypoints, storage } = require("uxp");
const { action, app, core } = require("photoshop");
const { Engine, Sentence } = require("./engine.js");
const { Look } = require("./look.js");

const POLL = 2000; // milliseconds, while the panel is shown
const SAVE_TRIES = 6; // while the file is still being written
const TRY = 400;
const NEIGHBOURS = [-8, -4, -2, -1, 0, 1, 2, 4, 8];
const SIDE = 320;
const MODAL = 9; // Photoshop's number for "somebody else has a dialog open"
const TYPES = "mov mp4 mkv mxf avi webm exr dpx tif tiff png jpg jpeg".split(" ");
const PICTURE = /^(.*?)(\d+)(\.(?:exr|dpx|tiff?|png|jpe?g))$/i;
const FOLDER = "paintover.folder"; // a persistent token's key

let engine = new Engine();
let shots = [];
let current = null; // {shot, frame}: what was opened or saved last
let carried = null; // the job of the last save, until it has ended
let shown = ""; // what the strip shows: job, frames and how many there were
let drawn = ""; // the shots that the list shows
let lost = true; // no engine answered last
let timer = null; // while the panel is shown
let begun = false;
let look = null; // the frame that is shown large
const numbers = {}; // the frame that is typed at a shot, by shot

const byId = (id) => document.getElementById(id);
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const plain = (path) =>
  path
    .replace(/^file:\/*(?=[A-Za-z]:)/, "")
    .replace(/^file:\/*/, "/")
    .replace(/\\/g, "/")
    .toLowerCase();

function say(sentence, wrong) {
  byId("status").textContent = sentence;
  byId("status").className = wrong ? "wrong" : "";
}

// Whatever goes wrong ends as a sentence: an exception that reaches Photoshop only ends in its console.
async function guarded(work) {
  try {
    return await work();
  } catch (error) {
    say(error instanceof Sentence ? error.message : `The panel failed: ${error.message || error}`, true);
    return undefined;
  }
}

// Shots ---------------------------------------------------------------------------------------------------------------

function make(kind, text, parent, name) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (name) made.className = name;
  parent.appendChild(made);
  return made;
}

function describe(job) {
  if (!job) return "nothing carried through yet";
  if (job.state === "failed") return job.message;
  if (job.state === "done") {
    return job.suggested.length ? `done; paint frame ${job.suggested[0]} next` : "done";
  }
  return `${job.state.replace(/_/g, " ")}, ${Math.round(job.fraction * 100)} %`;
}

function drawShots() {
  if (JSON.stringify(shots) === drawn) return; // a button that is just being pressed stays
  drawn = JSON.stringify(shots);
  const list = byId("shots");
  list.textContent = "";
  for (const shot of shots) {
    const row = make("div", "", list, "shot");
    make("div", shot.name, row, "name");
    make("div", describe(shot.job), row, shot.job && shot.job.state === "failed" ? "wrong" : "");
    const painted = new Set([...shot.keyframes, ...shot.pictures.map((picture) => picture.frame)]);
    const suggested = (shot.job && shot.job.suggested) || [];
    drawAnyFrame(shot, row);
    for (const frame of [...painted, ...suggested.slice(0, 1).filter((one) => !painted.has(one))].sort(
      (a, b) => a - b,
    )) {
      const verb = painted.has(frame) ? "Open" : "Paint";
      make("button", `${verb} frame ${frame}`, row).addEventListener("click", () => guarded(() => open(shot, frame)));
    }
  }
}

// Any frame of the shot, by its number.
function drawAnyFrame(shot, parent) {
  const row = make("div", "", parent, "row");
  const number = make("input", "", row);
  number.type = "number";
  number.value = String(shot.id in numbers ? numbers[shot.id] : shot.first);
  number.addEventListener("input", () => (numbers[shot.id] = number.value));
  make("button", "Paint this frame", row).addEventListener("click", () =>
    guarded(() => {
      const frame = Number(number.value);
      if (!Number.isInteger(frame) || frame < shot.first || frame > shot.last) {
        throw new Sentence(`${shot.name} has frames ${shot.first} to ${shot.last}; type one of them.`);
      }
      return open(shot, frame);
    }),
  );
}

// A clip from the disk: a video, or one picture of a sequence, which stands for all of them.
async function openShot() {
  const entry = await storage.localFileSystem.getFileForOpening({ types: TYPES });
  if (!entry) return;
  const path = entry.nativePath.replace(/\\/g, "/");
  const numbered = PICTURE.exec(path);
  const source = numbered ? `${numbered[1]}${"#".repeat(numbered[2].length)}${numbered[3]}` : path;
  const shot = await engine.post("/shots", { path: source });
  shots = await engine.get("/shots");
  drawShots();
  say(`${shot.name} has frames ${shot.first} to ${shot.last}; choose one and paint.`);
}

async function refresh() {
  shots = await engine.get("/shots");
  byId("choose").style.display = "none";
  if (lost) {
    lost = false;
    say(
      shots.length
        ? "Open a frame, paint above the plate, and save."
        : "There is no shot yet; paint a frame from your editing program.",
    );
  }
  drawShots();
  await drawStrip();
  const job = shots.map((shot) => shot.job).find((one) => one && one.id === carried);
  if (job && (job.state === "done" || job.state === "failed")) {
    carried = null;
    say(
      job.state === "done" ? "Carried through; the frames around it are below." : job.message,
      job.state === "failed",
    );
  }
}

// Painting ------------------------------------------------------------------------------------------------------------

async function open(shot, frame) {
  say(`Opening frame ${frame} of ${shot.name}…`);
  const { path, resumed, notes } = await engine.post(`/shots/${shot.id}/frames/${frame}/open`);
  const entry = await storage.localFileSystem.getEntryWithUrl(`file:${path}`);
  try {
    await core.executeAsModal(() => app.open(entry), { commandName: "Open a frame of Paintover" });
  } catch (error) {
    if (error.number === MODAL) throw new Sentence("Photoshop has a dialog open; close it and try again.");
    throw error;
  }
  current = { shot: shot.id, frame };
  say(
    [
      `${resumed ? "Going on with" : "This is"} frame ${frame} of ${shot.name}: paint above the plate, and save.`,
      ...notes,
    ].join(" "),
  );
  shots = await engine.get("/shots");
  drawShots();
}

// The shot and frame of a document's file; null for any other document.
function keyframeOf(path) {
  for (const shot of shots) {
    const picture = shot.pictures.find((one) => plain(one.path) === plain(path));
    if (picture) return { shot: shot.id, frame: picture.frame, path: picture.path };
  }
  return null;
}

function savedPath(descriptor) {
  const document = app.documents.find((one) => one.id === descriptor.documentID) || app.activeDocument;
  return (descriptor.in && descriptor.in._path) || (document && document.path) || "";
}

// Photoshop tells of a save when it begins and when it ended; only the latter counts.
async function onSave(event, descriptor) {
  const stage = descriptor.saveStage && descriptor.saveStage._value;
  if (stage && stage !== "saveSucceeded") return;
  const path = savedPath(descriptor);
  if (!path) return;
  if (!keyframeOf(path)) shots = await engine.get("/shots");
  const keyframe = keyframeOf(path);
  if (keyframe) await send(keyframe);
}

async function send({ shot, frame, path }) {
  say(`Frame ${frame} was saved; carrying it through.`);
  for (let attempt = 1; ; attempt += 1) {
    try {
      const { notes, job } = await engine.post(`/shots/${shot}/frames/${frame}`, { path });
      current = { shot, frame };
      carried = job;
      if (notes.length) say(notes.join(" "));
      await refresh();
      return;
    } catch (error) {
      if (attempt === SAVE_TRIES || !(error instanceof Sentence)) throw error;
      await wait(TRY);
    }
  }
}

// The draft's neighbouring frames -------------------------------------------------------------------------------------

async function drawStrip() {
  const shot = current && shots.find((one) => one.id === current.shot);
  if (!shot || !shot.job || !shot.job.frames) return;
  const wanted = `${shot.job.id} ${current.frame} ${shot.job.frames}`;
  if (wanted === shown) return;
  const { frames } = await engine.get(`/jobs/${shot.job.id}`);
  const there = new Set(frames.map(([number]) => number));
  const made = [];
  for (const frame of NEIGHBOURS.map((away) => current.frame + away).filter((one) => there.has(one))) {
    made.push({ frame, url: await engine.picture(shot.job.id, "result", frame, SIDE) });
  }
  const strip = byId("strip");
  for (const old of strip.querySelectorAll("img")) URL.revokeObjectURL(old.src);
  strip.textContent = "";
  for (const { frame, url } of made) {
    const cell = make("div", "", strip, "cell");
    make("img", "", cell).src = url;
    make("div", String(frame), cell);
    cell.addEventListener("click", () => guarded(() => look.open(shot.job.id, frame)));
  }
  shown = wanted;
}

// The panel's life ----------------------------------------------------------------------------------------------------

async function tick() {
  await guarded(() =>
    refresh().catch((error) => {
      lost = true;
      byId("choose").style.display = "block";
      throw error;
    }),
  );
  if (timer !== null) timer = setTimeout(tick, POLL);
}

async function choose() {
  const folder = await storage.localFileSystem.getFolder();
  if (!folder) return;
  localStorage.setItem(FOLDER, await storage.localFileSystem.createPersistentToken(folder));
  engine = new Engine(folder.nativePath.replace(/\\/g, "/"));
  await refresh();
}

async function recall() {
  const token = localStorage.getItem(FOLDER);
  if (!token) return;
  try {
    const folder = await storage.localFileSystem.getEntryForPersistentToken(token);
    engine = new Engine(folder.nativePath.replace(/\\/g, "/"));
  } catch (error) {
    localStorage.removeItem(FOLDER); // the folder is gone
  }
}

async function begin() {
  await recall();
  await tick();
}

entrypoints.setup({
  panels: {
    paintover: {
      // Photoshop gives it 300 ms: nothing is waited for.
      show() {
        if (timer !== null) return;
        timer = 0;
        if (begun) {
          tick();
          return;
        }
        begun = true;
        byId("choose").style.display = "none";
        byId("choose").addEventListener("click", () => guarded(choose));
        byId("new").addEventListener("click", () => guarded(openShot));
        look = new Look(byId("large"), (...frame) => engine.picture(...frame), make);
        begin();
      },
      hide() {
        clearTimeout(timer);
        timer = null;
      },
    },
  },
});

action.addNotificationListener(["save"], (event, descriptor) => guarded(() => onSave(event, descriptor)));
