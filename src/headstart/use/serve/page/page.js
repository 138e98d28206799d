// The page of the server: every picture is a request of its own, so that none is lost when another one fails.

import { takePictures } from "./sources.js";
import { at, element, percent, sentence, size } from "./words.js";

const PARALLEL = 4; // requests at once; fewer while the server says that it is busy
const MOST_TRIES = 8; // of a picture that the server is too busy for
const SHOWN = 5; // classes, before all are asked for
const REFUSED = [400, 404, 413, 415, 422]; // the same file would be refused again

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const items = []; // as they are shown: {file, url, card, state, answer, model, error, final, tries, cuts, abort, …}
let server = { models: [], limits: {}, heat: false, ready: false };
let allowed = PARALLEL;
let asking = 0;
let heldUntil = 0;
let gone = false;
let locked = false;

// ---- The server ----

function headers() {
  const key = sessionStorage.getItem("headstart-key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Fetch; a reply that is no JSON (of a proxy, say) becomes an error sentence. */
async function call(path, options = {}) {
  const reply = await fetch(path, { ...options, headers: headers() });
  const text = await reply.text();
  let told;
  try {
    told = JSON.parse(text);
  } catch {
    told = { error: `the server answered ${reply.status} ${reply.statusText} and nothing that this page understands.` };
  }
  return { status: reply.status, told, after: Number(reply.headers.get("Retry-After")) || 0 };
}

async function loadModels() {
  let answer, description;
  try {
    [answer, description] = await Promise.all([call("models"), call("openapi.json")]);
  } catch {
    return lost();
  }
  if (answer.status === 401) return lock(sessionStorage.getItem("headstart-key") ? answer.told.error : "");
  if (answer.status !== 200) return notice(sentence(answer.told.error));
  const query = description.told.paths?.["/predict"]?.post?.parameters ?? [];
  server = { ...answer.told, limits: answer.told.limits ?? {}, heat: query.some((one) => one.name === "heat_map"), ready: true };
  at("key").hidden = true;
  locked = false;
  const select = at("model");
  const chosen = select.value;
  select.replaceChildren(...server.models.map((one) => new Option(one.name, one.name)));
  if (server.models.some((one) => one.name === chosen)) select.value = chosen;
  at("models").hidden = server.models.length < 2;
  about();
  pump();
}

const model = () => server.models.find((one) => one.name === at("model").value) ?? server.models[0];

function about() {
  const one = model();
  const classes = one.classes.map((name) => shownName(name, one));
  const listed = classes.length > 12 ? `${classes.slice(0, 10).join(", ")} and ${classes.length - 10} more` : classes.join(", ");
  const does = one.output === "multilabel" ? `gives ${classes.length} labels` : `tells ${classes.length} classes apart`;
  at("about").textContent = `${one.name} ${does}: ${listed}.${measured(one)}`;
  document.title = `${one.name} · headstart`;
}

/** How good the model is, on how many pictures, and how sure that is. */
function measured({ output, test, evaluated_by }) {
  const several = output === "multilabel";
  const figure = several ? test?.mean_average_precision : test?.accuracy;
  if (!figure) return "";
  const count = test.n ? `${test.n.toLocaleString("en")} ` : "";
  const pictures = !evaluated_by || evaluated_by === "test pictures" ? `${count}test pictures` : `${count}pictures, by ${evaluated_by}`;
  const interval = ` (95 % interval: ${percent(figure.low)} to ${percent(figure.high)}).`;
  return several
    ? ` Its mean average precision is ${percent(figure.value)} on ${pictures}${interval}`
    : ` It was right on ${percent(figure.value)} of ${pictures}${interval}`;
}

const shownName = (name, one = model()) => (Object.hasOwn(one?.class_names ?? {}, name) ? one.class_names[name] : name);

function lock(why) {
  locked = true;
  at("key").hidden = false;
  if (why) at("why-key").textContent = sentence(why);
  at("why-key").classList.toggle("bad", Boolean(why));
  at("secret").focus();
}

/** The server cannot be reached: say so, keep what waits, and look again until it is back. */
async function lost() {
  if (gone) return;
  gone = true;
  at("gone").firstElementChild.textContent =
    "The server cannot be reached. Your pictures are kept here, and are sent when it is back.";
  at("gone").hidden = false;
  say("The server cannot be reached.");
  for (let wait = 1; gone; wait = Math.min(2 * wait, 8)) {
    await Promise.race([sleep(1000 * wait), new Promise((resolve) => at("gone").addEventListener("click", resolve, { once: true }))]);
    if (await alive()) back();
  }
}

function back() {
  gone = false;
  at("gone").hidden = true;
  say("The server is back.");
  loadModels();
}

async function alive() {
  try {
    return (await fetch("healthz", { signal: AbortSignal.timeout(5000) })).ok;
  } catch {
    return false;
  }
}

// ---- Pictures ----

function add(files, told = () => {}) {
  const chosen = [...files];
  if (!chosen.length) return;
  notice("");
  const added = chosen.map((file) => {
    const card = at("card").content.firstElementChild.cloneNode(true);
    const item = { file, url: URL.createObjectURL(file), card, told, tries: 0, cuts: 0 };
    const part = (name) => item.card.querySelector(`.${name}`);
    item.part = part;
    const name = file.name || "picture";
    part("name").textContent = part("name").title = name;
    part("own").addEventListener("error", () => part("frame").classList.add("bare"));
    part("own").src = item.url;
    part("own").alt = name;
    part("heat").alt = `${name}, with the places that speak for the class in bright colours`;
    part("remove").addEventListener("click", () => remove(item));
    part("remove").setAttribute("aria-label", `Remove ${name}`);
    part("retry").addEventListener("click", () => retry([item]));
    part("retry").setAttribute("aria-label", `Try ${name} again`);
    part("look").addEventListener("click", () => look(item));
    part("more").addEventListener("click", () => bars(item, part("more").getAttribute("aria-expanded") === "false"));
    item.card.tabIndex = -1;
    return item;
  });
  items.unshift(...added);
  at("cards").prepend(...added.map((item) => item.card));
  for (const item of added) show(item, "waiting");
  pump();
}

function remove(item) {
  const place = items.indexOf(item);
  items.splice(place, 1);
  item.abort?.abort();
  item.card.remove();
  URL.revokeObjectURL(item.url);
  count();
  (items[Math.min(place, items.length - 1)]?.part("remove") ?? at("files")).focus();
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
  while (server.ready && !gone && !locked && asking < allowed) {
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

// ---- What is shown of a picture ----

function show(item, state, why = "") {
  item.state = state;
  item.card.dataset.state = state;
  const { answer, part } = item;
  const words = { waiting: why ? "Waiting for the server" : "Waiting", asking: "Looking…", error: "No answer", done: answer && verdict(answer) };
  part("verdict").textContent = words[state];
  part("why").textContent = state === "error" ? item.error : state === "done" ? reason(item) : why;
  part("retry").hidden = state !== "error" || item.final;
  part("look").hidden = state !== "done" || !server.heat;
  if (state !== "done") {
    part("bars").replaceChildren();
    part("more").hidden = true;
    unlook(item);
    part("heat").removeAttribute("src");
  } else bars(item, false);
  if (state === "done" || state === "error") {
    const text = `${item.file.name}: ${state === "done" ? `${verdict(answer)}. ${reason(item)}` : item.error}`;
    say(text);
    item.told(text);
  }
  count();
}

function verdict(answer) {
  if (answer.unknown) return "None of these";
  if (answer.labels) return answer.labels.map((name) => shownName(name)).join(", ") || "No label";
  const doubt = answer.set ?? [];
  if (doubt.length > 1 && doubt.length <= 3) return doubt.map((name) => shownName(name)).join(" or ");
  return shownName(answer.label);
}

function reason({ answer, model: one }) {
  const best = `${shownName(answer.label)} (${percent(answer.probabilities[answer.label])})`;
  if (answer.unknown) return `It is unlike the pictures that the model learned from. If it had to be one: ${best}.`;
  if (!(answer.set?.length > 1)) return "";
  const coverage = one.confidence?.conformal?.coverage;
  const often = coverage ? ` The model's sets hold the right class ${percent(coverage)} of the time.` : "";
  return `In doubt between ${answer.set.length} classes; ${best} is likeliest.${often}`;
}

function bars(item, all) {
  const { answer, part } = item;
  // Not in the order of the answer: a browser puts names that are whole numbers first.
  const rows = Object.entries(answer.probabilities).sort(([, a], [, b]) => b - a);
  const inside = new Set(answer.unknown ? [] : (answer.labels ?? answer.set ?? [answer.label]));
  const shown = all ? rows : rows.slice(0, SHOWN);
  part("bars").replaceChildren(
    ...shown.map(([name, probability]) => {
      const fill = element("i");
      requestAnimationFrame(() => requestAnimationFrame(() => (fill.style.width = `${100 * probability}%`)));
      const track = element("div", { className: "track", ariaHidden: "true" }, fill);
      const share = element("span", { className: "share", textContent: percent(probability) });
      return element("li", { className: inside.has(name) ? "in" : "" }, element("span", { textContent: shownName(name) }), share, track);
    }),
  );
  part("more").hidden = rows.length <= SHOWN;
  part("more").textContent = all ? `Show ${SHOWN} only` : `Show all ${rows.length}`;
  part("more").setAttribute("aria-expanded", String(all));
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
  part("heat").hidden = part("legend").hidden = false;
  part("look").setAttribute("aria-pressed", "true");
  part("legend").textContent = `Bright places speak for ${shownName(item.answer.label)}; where nothing is bright, no single place speaks for it. A dark rim is what the model does not see.`;
  say(`${item.file.name}: ${part("legend").textContent}`);
}

function unlook({ part }) {
  part("heat").hidden = part("legend").hidden = true;
  part("look").setAttribute("aria-pressed", "false");
}

function count() {
  const number = (...states) => items.filter((one) => states.includes(one.state)).length;
  const [waiting, failed] = [number("waiting", "asking"), number("error")];
  const parts = [`${items.length} ${items.length === 1 ? "picture" : "pictures"}`];
  if (waiting) parts.push(`${waiting} waiting`);
  if (failed) parts.push(`${failed} without an answer`);
  at("count").textContent = parts.join(" · ");
  at("bar").hidden = !items.length;
  at("again").hidden = items.filter((one) => one.state === "error" && !one.final).length < 2;
  document.body.classList.toggle("some", items.length > 0);
}

// ---- Words ----

/** Tell a screen reader; many answers at once become one sentence. */
const unsaid = [];
let saying;
function say(text) {
  unsaid.push(text);
  clearTimeout(saying);
  saying = setTimeout(() => {
    const few = unsaid.length <= 3;
    at("said").textContent = few ? unsaid.join(" ") : `${unsaid.length} pictures answered. ${at("count").textContent}.`;
    unsaid.length = 0;
  }, 250);
}

function notice(text) {
  at("notice").replaceChildren(...(text ? [element("p", { className: "note bad", textContent: text })] : []));
}

// ---- The rest of the controls ----

at("model").addEventListener("change", () => {
  about();
  retry(items.filter((one) => !(one.state === "error" && one.final)));
  at("model").focus(); // where the person is
});

at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("headstart-key", at("secret").value.trim());
  at("secret").value = "";
  loadModels().then(() => locked || at("files").focus());
});

at("again").addEventListener("click", () => retry(items.filter((one) => one.state === "error" && !one.final)));
at("clear").addEventListener("click", () => {
  for (const item of items.splice(0)) {
    item.abort?.abort();
    item.card.remove();
    URL.revokeObjectURL(item.url);
  }
  count();
  at("files").focus();
});

takePictures(add, notice);
loadModels();
