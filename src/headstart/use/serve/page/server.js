// The talk with the server: what it serves, whether it is there, and what it wants to know of who asks.

import { at, say, sentence } from "./words.js";

const LOST = "The server cannot be reached.";
const KEPT = "Your pictures are kept here, and are sent when it answers again.";

/** What is known of the server; `ready` as soon as it has told its models. */
export const server = { models: [], limits: {}, heat: false, ready: false, gone: false, locked: false };

let changed = () => {};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function headers() {
  const key = sessionStorage.getItem("headstart-key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Fetch; a reply that is no JSON (of a proxy, say) becomes an error sentence. */
export async function call(path, options = {}) {
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

export async function alive() {
  try {
    return (await fetch("healthz", { signal: AbortSignal.timeout(5000) })).ok;
  } catch {
    return false;
  }
}

/** Ask what is served, again and again until that is known; `whenChanged` is called then and after a new key. */
export async function begin(whenChanged) {
  changed = whenChanged;
  at("key").addEventListener("submit", async (event) => {
    event.preventDefault();
    sessionStorage.setItem("headstart-key", at("secret").value.trim());
    at("secret").value = "";
    await load();
    if (!server.locked) at("files").focus();
  });
  await load();
}

async function load() {
  const why = await askModels();
  if (why) lost(why);
  else if (!server.locked) changed();
}

/** Return why the models are not known, or nothing once they are, or once a key is asked for. */
async function askModels() {
  let answer, description;
  try {
    const signal = AbortSignal.timeout(15000);
    [answer, description] = await Promise.all([call("models", { signal }), call("openapi.json", { signal })]);
  } catch {
    return LOST;
  }
  const { status, told } = answer;
  if (status === 401) return void lock(sessionStorage.getItem("headstart-key") ? told.error : "");
  if (status !== 200) return sentence(told.error ?? `the server answered ${status}.`);
  if (!told.models?.length) return "The server does not tell which models it has.";
  const query = description.told.paths?.["/predict"]?.post?.parameters ?? [];
  const heat = query.some((one) => one.name === "heat_map");
  Object.assign(server, { models: told.models, limits: told.limits ?? {}, heat, ready: true, locked: false });
  at("key").hidden = true;
}

export function lock(why) {
  server.locked = true;
  at("key").hidden = false;
  if (why) at("why-key").textContent = sentence(why);
  at("why-key").classList.toggle("bad", Boolean(why));
  at("secret").focus();
}

/** The server does not answer as it should: say so, keep what waits, and look again until it does. */
export async function lost(why = LOST) {
  if (server.gone) return;
  server.gone = true;
  const tell = () => (at("gone").firstElementChild.textContent = `${why} ${KEPT}`);
  tell();
  at("gone").hidden = false;
  say(why);
  for (let wait = 1; why; wait = Math.min(2 * wait, 8)) {
    await Promise.race([sleep(1000 * wait), new Promise((resolve) => at("gone").addEventListener("click", resolve, { once: true }))]);
    why = await askModels();
    if (why) tell();
  }
  server.gone = false;
  at("gone").hidden = true;
  say("The server is back.");
  if (!server.locked) changed();
}
