// The page of the server: every picture is a request of its own, so that none is lost when another one fails.

import { discard, items, makeItem, measured, model, overlay, place, show, shownName, unlook } from "./cards.js";
import { alive, begin, call, lock, lost, server } from "./server.js";
import { takePictures } from "./sources.js";
import { at, notice, sentence, size } from "./words.js";

const PARALLEL = 4; // requests at once; fewer while the server says that it is busy
const MOST_TRIES = 8; // of a picture that the server is too busy for
const REFUSED = [400, 404, 413, 415, 422]; // the same file would be refused again

let allowed = PARALLEL;
let asking = 0;
let heldUntil = 0;

// ---- Models ----

function models() {
  const select = at("model");
  const chosen = select.value;
  select.replaceChildren(...server.models.map((one) => new Option(one.name, one.name)));
  if (server.models.some((one) => one.name === chosen)) select.value = chosen;
  at("models").hidden = server.models.length < 2;
  about();
  pump();
}

function about() {
  const one = model();
  const classes = one.classes.map((name) => shownName(name, one));
  const listed = classes.length > 12 ? `${classes.slice(0, 10).join(", ")} and ${classes.length - 10} more` : classes.join(", ");
  const does = one.output === "multilabel" ? `gives ${classes.length} labels` : `tells ${classes.length} classes apart`;
  at("about").textContent = `${one.name} ${does}: ${listed}.${measured(one)}`;
  document.title = `${one.name} · headstart`;
}

// ---- Pictures ----

function add(files, told = () => {}) {
  if (!files.length) return;
  notice("");
  place(Array.from(files, (file) => makeItem(file, { remove, retry: (item) => retry([item]), look }, told)));
  pump();
}

function remove(item) {
  const index = items.indexOf(item);
  items.splice(index, 1);
  discard([item]);
  (items[Math.min(index, items.length - 1)]?.part("remove") ?? at("files")).focus();
}

function retry(some) {
  for (const item of some) {
    item.abort?.abort();
    Object.assign(item, { tries: 0, cuts: 0, answer: null, abort: null });
    show(item, "waiting");
  }
  if (some.length === 1) some[0].card.focus({ preventScroll: true }); // its button has gone
  pump();
}

/** Ask for as many waiting pictures as may be asked for at once, the uppermost first. */
function pump() {
  const pause = heldUntil - performance.now();
  if (pause > 0) return void setTimeout(pump, pause + 5);
  while (server.ready && !server.gone && !server.locked && asking < allowed) {
    const item = items.find((one) => one.state === "waiting");
    if (!item) return;
    asking += 1;
    ask(item).finally(() => {
      asking -= 1;
      pump();
    });
  }
}

async function ask(item) {
  const { limits } = server;
  if (limits.body && item.file.size + 1024 > limits.body) {
    return fail(item, `The file has ${size(item.file.size)}, and this server takes at most ${size(limits.body)}.`, true);
  }
  const abort = (item.abort = new AbortController());
  show(item, "asking");
  let answer;
  try {
    answer = await post(item, abort, "");
  } catch (error) {
    if (!stale(item, abort)) await broke(item, error, limits);
    return;
  }
  if (!stale(item, abort)) settle(item, answer);
}

const stale = (item, abort) => item.abort !== abort || !items.includes(item);

/** Send the file as it is: a smaller copy would not get the same answer. */
function post(item, abort, more) {
  const form = new FormData();
  form.append("files", item.file, item.file.name || "picture");
  const signal = AbortSignal.any([abort.signal, AbortSignal.timeout(1000 * ((server.limits.seconds ?? 30) + 15))]);
  return call(`predict?model=${encodeURIComponent(model().name)}${more}`, { method: "POST", body: form, signal });
}

function settle(item, { status, told, after }) {
  if (status === 200 && told.results?.[0]?.probabilities !== undefined) {
    allowed = Math.min(PARALLEL, allowed + 1);
    const [likeliest] = Object.entries(told.results[0].probabilities).sort(([, a], [, b]) => b - a);
    // A model of several labels a picture has no single label: its likeliest stands where one is needed.
    item.answer = { label: likeliest[0], ...told.results[0] };
    item.model = model();
    show(item, "done");
  } else if (status === 401) {
    show(item, "waiting");
    lock(told.error);
  } else if (status === 503 && item.tries < MOST_TRIES) {
    // Later each time, and not all at the same moment.
    const seconds = Math.min(30, Math.max(1, after) * 1.5 ** item.tries * (1 + Math.random() / 2));
    item.tries += 1;
    allowed = Math.max(1, allowed >> 1);
    heldUntil = Math.max(heldUntil, performance.now() + 1000 * seconds);
    show(item, "waiting", `The server is busy. Asked again in ${Math.ceil(seconds)} s.`);
  } else {
    const error = told.results?.[0]?.error ?? told.error ?? `the server answered ${status}.`;
    fail(item, sentence(error), REFUSED.includes(status));
  }
}

/** No reply came: find out whether it was the time, the file, the connection or the server. */
async function broke(item, error, limits) {
  if (error.name === "TimeoutError") return fail(item, `There was no answer within ${(limits.seconds ?? 30) + 15} s.`);
  try {
    await item.file.slice(0, 1).arrayBuffer();
  } catch {
    return fail(item, "The file can no longer be read: it was moved, changed or is a folder. Choose it again.", true);
  }
  show(item, "waiting");
  item.cuts += 1;
  if (!(await alive())) lost();
  else if (item.cuts > 2) fail(item, `The connection was cut while it was sent (${size(item.file.size)}). It may be too large.`);
}

function fail(item, message, final = false) {
  item.error = message;
  item.final = final;
  show(item, "error");
}

/** Lay the heat map over the picture, or take it away; it is asked for when somebody wants to see it. */
async function look(item) {
  const { part, abort } = item;
  if (part("look").getAttribute("aria-pressed") === "true") return unlook(item);
  if (!part("heat").src) {
    if (part("look").ariaBusy === "true") return;
    part("look").ariaBusy = "true";
    part("look").textContent = "Looking…";
    let problem = "The heat map did not come: the server could not be reached.";
    try {
      const { status, told } = await post(item, abort, "&top=1&heat_map=true");
      const drawn = told.results?.[0]?.heat_map;
      if (status === 401) lock(told.error);
      if (drawn?.startsWith("data:image/")) part("heat").src = drawn;
      problem = sentence(told.error ?? "the server drew no heat map for this picture.");
    } catch {
      if (!stale(item, abort) && !(await alive())) lost();
    }
    part("look").ariaBusy = "false";
    part("look").textContent = "Where it looked";
    if (stale(item, abort)) return;
    if (!part("heat").src) return notice(`${item.file.name}: ${problem}`);
  }
  overlay(item);
}

// ---- The rest of the controls ----

at("model").addEventListener("change", () => {
  about();
  retry(items.filter((one) => !(one.state === "error" && one.final)));
  at("model").focus(); // where the person is
});

at("again").addEventListener("click", () => retry(items.filter((one) => one.state === "error" && !one.final)));
at("clear").addEventListener("click", () => {
  discard(items.splice(0));
  at("files").focus();
});

takePictures(add, notice);
begin(models);
