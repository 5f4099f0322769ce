// One scenario of the panel: scenarios.js NAME PANEL HOME PAINTED. Ends with status 0 when all was as it should be.

const assert = require("assert");
const fs = require("fs");
const path = require("path");
const { standIn } = require("./standin.js");

const [name, panel, home, painted] = process.argv.slice(2);
const folder = path.join(home, "Library/Application Support/paintover");
const host = standIn(home);
const { ids, state } = host;

async function until(found, what) {
  const end = Date.now() + 40000;
  for (;;) {
    const value = found();
    if (value) return value;
    assert(Date.now() < end, `${what}: ${ids.status.textContent} | ${ids.shots.textContent}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

const button = (text) => ids.shots.querySelectorAll("button").find((one) => one.textContent.includes(text));
const status = (text) => until(() => ids.status.textContent.includes(text), `the status "${text}"`);

const scenarios = {
  async lists_and_opens_a_keyframe() {
    await host.show();
    await until(() => button("frame 4"), "a button for frame 4");
    assert(ids.shots.textContent.includes("plate"));
    await button("frame 4").click();
    const [document] = state.documents;
    assert(document.path.startsWith(folder) && document.path.endsWith("_0004.psd"), document.path);
    assert.strictEqual(fs.readFileSync(document.path).subarray(0, 4).toString(), "8BPS");
    assert(ids.status.textContent.includes("paint above the plate"));
    await button("frame 4").click();
    assert(ids.status.textContent.includes("Going on with frame 4"));
  },

  async a_save_is_carried_through_and_its_neighbours_are_shown() {
    await host.show();
    await (await until(() => button("frame 4"), "a button")).click();
    await host.save(state.documents[0], fs.readFileSync(painted));
    assert(!ids.status.className.includes("wrong"), ids.status.textContent);
    await until(() => ids.shots.textContent.includes("done"), "the job's end");
    const images = await until(() => {
      const all = ids.strip.querySelectorAll("img");
      return all.length === 7 && all;
    }, "seven neighbours");
    for (const image of images) {
      const bytes = state.urls.get(image.src);
      assert.strictEqual(bytes.subarray(0, 3).toString("hex"), "ffd8ff", "a JPEG");
    }
    assert.deepStrictEqual(ids.strip.textContent.split(/\s+/).filter(Boolean).map(Number), [0, 2, 3, 4, 5, 6, 8]);
    await status("Carried through");
    const revoked = [...state.urls.values()].filter((bytes) => bytes === null).length;
    assert.strictEqual(state.urls.size - revoked, images.length, "pictures that were replaced are let go");
    // The same picture again makes no other job.
    const { Engine } = require(path.join(panel, "engine.js"));
    const [before] = await new Engine().get("/shots");
    await host.save(state.documents[0], fs.readFileSync(painted));
    const [after] = await new Engine().get("/shots");
    assert.strictEqual(after.job.id, before.job.id);
  },

  async a_shot_is_opened_from_the_disk_and_painted() {
    await host.show();
    await until(() => button("frame 4"), "a button");
    await ids.new.click(); // closed without a choice
    state.file = process.env.CHOSEN;
    await ids.new.click();
    await status("has frames 0 to 5; choose one and paint");
    const { Engine } = require(path.join(panel, "engine.js"));
    const [shot] = await new Engine().get("/shots");
    assert.strictEqual(shot.source, state.file.replace(/\d+(\.\w+)$/, (all, end) => "#".repeat(5) + end));
    const [number] = ids.shots.querySelectorAll("input");
    for (const [typed, answer] of [["9", "has frames 0 to 5; type one"], ["3", "This is frame 3 of"]]) {
      number.value = typed;
      for (const listener of number.listeners.input) listener();
      await button("Paint this frame").click();
      await status(answer);
    }
    assert(state.documents[0].path.endsWith("_0003.psd"));
  },

  async a_frame_is_shown_large() {
    await host.show();
    await (await until(() => button("frame 4"), "a button")).click();
    await host.save(state.documents[0], fs.readFileSync(painted));
    const cells = await until(() => ids.strip.children.length && ids.strip.children, "neighbours");
    await cells[0].click();
    const [image] = await until(() => (ids.large.querySelectorAll("img").length ? ids.large.querySelectorAll("img") : null), "it");
    const after = state.urls.get(image.src);
    const press = (text) => ids.large.querySelectorAll("button").find((one) => one.textContent === text).click();
    await press("Show before");
    const before = state.urls.get(ids.large.querySelectorAll("img")[0].src);
    assert(ids.large.textContent.includes("before") && !before.equals(after));
    await press("1:1");
    assert(!ids.large.children[1].className.includes("fit"));
    await press("Close");
    assert.strictEqual(ids.large.children.length, 0);
  },

  async another_documents_save_is_nobodys_business() {
    await host.show();
    await until(() => button("frame 4"), "a button");
    const other = path.join(home, "holiday.psd");
    const before = ids.status.textContent;
    await host.save({ id: 7, path: other }, fs.readFileSync(painted));
    assert.strictEqual(ids.status.textContent, before);
  },

  async a_broken_file_is_a_sentence() {
    await host.show();
    await (await until(() => button("frame 4"), "a button")).click();
    const whole = fs.readFileSync(state.documents[0].path);
    await host.save(state.documents[0], Buffer.from("8BPS, but nothing that Photoshop wrote. ".repeat(20)));
    fs.writeFileSync(state.documents[0].path, whole);
    assert.strictEqual(ids.status.className, "wrong");
    const said = ids.status.textContent;
    assert(said.endsWith("."), said);
    await new Promise((done) => setTimeout(done, 2500));
    assert.strictEqual(ids.status.textContent, said, "it stays until the next save");
  },

  async a_dialog_that_stands_open_is_a_sentence() {
    await host.show();
    state.busy = true;
    await (await until(() => button("frame 4"), "a button")).click();
    await status("Photoshop has a dialog open");
  },

  async without_an_engine_it_says_what_to_start() {
    await host.show();
    await status(
      fs.existsSync(folder) ? "does not run; start it with `paintover monitor`" : "There is no engine's folder",
    );
    assert.strictEqual(ids.choose.style.display, "block");
  },

  async another_data_folder_can_be_chosen_and_is_remembered() {
    await host.show();
    await status("There is no engine's folder");
    state.chosen = process.env.CHOSEN;
    await ids.choose.click();
    await until(() => button("frame 4"), "a button");
    assert.strictEqual(ids.choose.style.display, "none");
    assert.deepStrictEqual(Object.keys(state.tokens), [localStorage.getItem("paintover.folder")]);
  },

  async a_wrong_token_is_a_sentence() {
    await host.show();
    await status("The engine is another one");
  },

  async a_panel_that_is_hidden_asks_nothing() {
    await host.show();
    await until(() => button("frame 4"), "a button");
    host.hide();
    const asked = global.fetch;
    let count = 0;
    global.fetch = (...given) => {
      count += 1;
      return asked(...given);
    };
    await new Promise((done) => setTimeout(done, 4500));
    assert.strictEqual(count, 0);
    await host.show();
    await until(() => count > 0, "another question");
  },
};

require(path.join(panel, "panel.js"));
scenarios[name]().then(
  () => {
    host.hide();
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
