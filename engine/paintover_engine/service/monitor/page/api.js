// Talks to the engine that served this page.

import { element } from "./words.js";

export function act(id, action, body = {}) {
  return post(`/jobs/${id}/${action}`, body);
}

export async function post(path, body = {}) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Paintover": "1" },
    body: JSON.stringify(body),
    keepalive: true,
  }).catch(() => null);
  if (response === null) return say("The engine does not answer; it may be starting again.");
  if (!response.ok) return say(await sentence(response));
  return response.json();
}

// Sends a file as it is; false where that failed, which is said.
export async function send(path, file) {
  const response = await fetch(path, { method: "POST", headers: { "X-Paintover": "1" }, body: file }).catch(() => null);
  if (response?.ok) return response.json();
  say(response === null ? "The engine does not answer; it may be starting again." : await sentence(response));
  return false;
}

export async function read(path, aloud = false) {
  const response = await fetch(path).catch(() => null);
  if (response?.ok) return response.json();
  if (!aloud) return null;
  return say(response === null ? "The engine does not answer; it may be starting again." : await sentence(response));
}

async function sentence(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).message;
  } catch {
    return text;
  }
}

export const SAID_MS = 6000;
let hiding = 0;
export function say(text, ...buttons) {
  const toast = document.getElementById("toast");
  toast.replaceChildren(text, ...buttons);
  toast.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (toast.hidden = true), SAID_MS);
  return null;
}

export async function copySupport(id) {
  const response = await fetch(`/jobs/${id}/support`).catch(() => null);
  if (response === null || !response.ok) return say("The engine does not answer; try again.");
  const text = await response.text();
  try {
    await navigator.clipboard.writeText(text);
    return say("Copied: settings, log and machine of this job. It names your files; look through it first.");
  } catch {
    const link = element("a", { href: `/jobs/${id}/support`, download: `paintover-job-${id}.json` });
    link.click();
    return say("The browser does not let the page copy; it was saved as a file instead.");
  }
}
