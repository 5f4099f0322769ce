// The queue: follows the engine's events, and keeps three lists true to them.

import { act, SAID_MS, say } from "./api.js";
import { Card, movable } from "./card.js";
import { Chooser } from "./chooser.js";
import { Viewer } from "./viewer.js";
import { button, count, element, size } from "./words.js";

const FIRST_SHOWN = 60;
const jobs = new Map();
const cards = new Map();
const main = document.querySelector("main");
const lists = Object.fromEntries(["running", "waiting", "finished"].map((name) => [name, document.querySelector(`#${name} .cards`)]));
const shown = { running: FIRST_SHOWN, waiting: FIRST_SHOWN, finished: FIRST_SHOWN };
const viewer = new Viewer(document.getElementById("viewer"), { step, act: doOrRemove, versions, follow: openWhenKnown, closed: () => choose(null) });
const chooser = new Chooser(document.getElementById("chooser"));
const search = document.getElementById("search");
const going = new Map();
let chosen = null;
let awaited = null; // a job that is opened when the engine tells of it
let dragged = null;

const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) cards.get(Number(entry.target.dataset.job))?.approach(true);
}, { rootMargin: "400px" });

// Events.

function follow() {
  const events = new EventSource("/events");
  events.addEventListener("start", (event) => {
    performance.mark("told");
    const told = JSON.parse(event.data);
    connected(true);
    keepOnly(told.ids);
    for (const job of told.jobs) take(job, told.fresh);
    draw();
    performance.mark("drawn");
  });
  events.addEventListener("job", (event) => { take(JSON.parse(event.data)); drawSoon(); });
  events.addEventListener("gone", (event) => { forget(JSON.parse(event.data).ids); drawSoon(); });
  events.addEventListener("gauges", (event) => drawGauges(JSON.parse(event.data)));
  events.onerror = () => {
    connected(false);
    if (events.readyState === EventSource.CLOSED) setTimeout(again, 2000);
  };
}

async function again() {
  const answer = await fetch("/words.js").catch(() => null);
  if (answer && answer.status === 401) {
    const line = document.getElementById("connection");
    line.textContent = "This page is no longer known to the engine: run paintover monitor again.";
    return;
  }
  follow();
}

function connected(yes) {
  const line = document.getElementById("connection");
  line.hidden = yes;
  if (!yes) line.textContent = "The engine does not answer; the page goes on by itself when it is there again.";
}

function take(job, fresh = false) {
  const known = fresh ? undefined : jobs.get(job.id);
  job.made = known ? known.made : new Map();
  for (const [number, confidence] of job.frames) job.made.set(number, confidence);
  job.heard = Date.now();
  jobs.set(job.id, job);
  if (!cards.has(job.id)) {
    const card = new Card(job.id, { open, step, act: doOrRemove });
    cards.set(job.id, card);
    dragging(card.root);
    nearby.observe(card.root);
  }
  cards.get(job.id).update(job);
  if (awaited?.id === job.id) openWhenKnown(job.id, awaited.frame);
  if (chosen === job.id) viewer.update(job);
  else if (chosen !== null) viewer.drawVersions();
}

function keepOnly(ids) {
  const there = new Set(ids);
  forget([...jobs.keys()].filter((id) => !there.has(id)));
}

function forget(ids) {
  for (const id of ids) {
    if (chosen === id) viewer.close();
    const card = cards.get(id);
    if (card) {
      nearby.unobserve(card.root);
      card.strip?.close();
      card.root.remove();
    }
    cards.delete(id);
    jobs.delete(id);
  }
}

// Lists.

let drawing = 0;
function drawSoon() {
  if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; draw(); });
}

function sorted() {
  const order = (a, b) => b.priority - a.priority || a.position - b.position || a.id - b.id;
  const all = [...jobs.values()].filter((job) => !going.has(job.id) && isFound(job));
  return {
    running: all.filter((job) => job.state === "running" || job.state === "preparing").sort(order),
    waiting: all.filter(movable).sort(order),
    finished: all.filter((job) => job.finished).sort((a, b) => b.id - a.id),
  };
}

function draw() {
  const groups = sorted();
  for (const [name, list] of Object.entries(lists)) {
    const section = document.getElementById(name);
    section.hidden = groups[name].length === 0;
    arrange(list, groups[name].slice(0, shown[name]).map((job) => cards.get(job.id).root));
    const hidden = groups[name].length - shown[name];
    let more = section.querySelector(".more");
    if (!more) {
      more = button("", () => { shown[name] += 200; draw(); });
      more.classList.add("more");
      section.append(more);
    }
    more.hidden = hidden <= 0;
    more.textContent = `Show ${Math.min(200, hidden)} more of ${hidden}`;
  }
  const found = Object.values(groups).reduce((sum, group) => sum + group.length, 0);
  document.getElementById("empty").hidden = jobs.size - going.size > 0;
  document.getElementById("nothing").hidden = found > 0 || jobs.size - going.size === 0;
  const failed = groups.finished.filter((job) => job.state === "failed").length;
  const parts = [count(groups.running.length, "job") + " running", `${groups.waiting.length} waiting`, `${groups.finished.length - failed} done`];
  if (failed) parts.push(`${failed} failed`);
  document.getElementById("summary").textContent = parts.join(" · ");
}

function arrange(list, wanted) {
  const there = new Set(wanted);
  for (const node of [...list.children]) if (!there.has(node)) node.remove();
  let at = list.firstElementChild;
  for (const node of wanted) {
    if (node === at) at = at.nextElementSibling;
    else list.insertBefore(node, at);
  }
}

function drawGauges(told) {
  const gauge = (name, value, share, running = []) => {
    const fill = element("i");
    fill.style.width = `${Math.round(share * 100)}%`;
    return element("li", { className: "gauge" }, element("span", { title: running.join(", ") }, element("b", { textContent: name }), value, ...(running.length ? [element("i", { className: "running", textContent: running.join(", ") })] : [])),
      element("span", { className: share > 0.9 ? "bar high" : "bar", role: "img", "aria-label": `${name}: ${Math.round(share * 100)} % used` }, fill));
  };
  const made = told.devices.map((device) => gauge(device.name, `${size(device.used)} of ${size(device.total)}`, device.used / (device.total || 1), device.running));
  made.push(gauge("Cache", `${size(told.disk.used)} of ${size(told.disk.budget)}`, told.disk.used / told.disk.budget));
  document.getElementById("gauges").replaceChildren(...made);
  document.getElementById("notes").replaceChildren(...told.notes.map((note) => element("p", { className: "note", textContent: note })));
  const gone = [...jobs.keys()].filter((id) => !told.ids.includes(id));
  if (gone.length) { forget(gone); drawSoon(); }
}

// Looking at one.

function open(id, frame) {
  choose(id);
  viewer.open(jobs.get(id), frame);
}

function openWhenKnown(id, frame) {
  awaited = jobs.has(id) ? null : { id, frame };
  if (jobs.has(id)) open(id, frame);
}

function choose(id) {
  cards.get(chosen)?.root.classList.remove("chosen");
  if (id === null) cards.get(chosen)?.title?.focus();
  chosen = id;
  cards.get(id)?.root.classList.add("chosen");
  main.classList.toggle("open", id !== null);
}

// Searching, removing, and other results of a shot.

function isFound(job) {
  const wanted = search.value.trim().toLowerCase();
  const texts = [`#${job.id}`, job.path, job.output, job.method, job.word, job.message];
  return wanted.split(/\s+/).every((word) => texts.some((text) => text.toLowerCase().includes(word)));
}

function doOrRemove(id, action) {
  if (action === "remove") remove([id]);
  else act(id, action);
}

// What is removed is gone from the page at once, and from the engine when it can no longer be undone.
function remove(ids) {
  const leave = () => {
    for (const id of ids) {
      if (!going.has(id)) continue;
      going.delete(id);
      act(id, "remove");
    }
    forget(ids);
    drawSoon();
  };
  const timer = setTimeout(leave, SAID_MS);
  for (const id of ids) {
    going.set(id, leave);
    if (chosen === id) viewer.close();
  }
  draw();
  const what = ids.length === 1 ? `Job #${ids[0]} is removed.` : `${ids.length} jobs are removed.`;
  say(`${what} Files that were written stay. `, button("Undo", () => {
    clearTimeout(timer);
    for (const id of ids) going.delete(id);
    document.getElementById("toast").hidden = true;
    draw();
  }));
}

window.addEventListener("pagehide", () => { for (const leave of new Set(going.values())) leave(); });
document.getElementById("clear").addEventListener("click", () => remove(sorted().finished.map((job) => job.id)));
search.addEventListener("input", drawSoon);
for (const name of ["new", "begin"]) document.getElementById(name).addEventListener("click", () => chooser.open());

function versions(job) {
  return [...jobs.values()].filter((other) => other.shot === job.shot && other.id !== job.id && other.framesDone > 0 && !going.has(other.id)).sort((a, b) => b.id - a.id);
}

// A clip that is dropped anywhere on the page.

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  chooser.drop([...event.dataTransfer.files]);
});

// Order.

let moving = Promise.resolve();
function step(id, direction) {
  moving = moving.then(() => stepNow(id, direction)); // each from where the one before left it
}

async function stepNow(id, direction) {
  const row = sorted().waiting.map((job) => job.id);
  const at = row.indexOf(id);
  const target = direction < 0 ? row[at - 1] : row[at + 2];
  if (at < 0 || (direction < 0 && at === 0) || (direction > 0 && at === row.length - 1)) return;
  await place(id, target ?? null);
  if (!viewer.isOpen) cards.get(id)?.title?.focus();
}

async function place(id, before) {
  const job = await act(id, "place", { before });
  if (job) { job.frames = []; take(job); draw(); }
}

function dragging(node) {
  const id = Number(node.dataset.job);
  node.addEventListener("dragstart", (event) => {
    dragged = id;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", String(id));
    node.classList.add("dragged");
  });
  node.addEventListener("dragend", () => { dragged = null; unmark(); node.classList.remove("dragged"); });
  node.addEventListener("dragover", (event) => {
    if (dragged === null || dragged === id || !movable(jobs.get(id))) return;
    event.preventDefault();
    unmark();
    node.classList.add("above");
  });
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    if (dragged !== null && dragged !== id) place(dragged, id);
    unmark();
  });
}

function unmark() {
  for (const node of document.querySelectorAll(".above")) node.classList.remove("above");
}

lists.waiting.addEventListener("dragover", (event) => { if (dragged !== null && event.target === lists.waiting) event.preventDefault(); });
lists.waiting.addEventListener("drop", (event) => { if (dragged !== null && event.target === lists.waiting) place(dragged, null); });

setInterval(() => { for (const job of jobs.values()) if (job.state === "running") cards.get(job.id).update(job); }, 1000);
window.addEventListener("unhandledrejection", (event) => say(`The page failed: ${event.reason?.message ?? event.reason}`));
follow();
