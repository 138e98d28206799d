// The cards: what is shown of each picture, and what a person can do with it.

import { server } from "./server.js";
import { at, element, percent, say } from "./words.js";

const SHOWN = 5; // classes, before all are asked for

/** As they are shown: {file, url, card, part, state, answer, model, error, final, tries, cuts, abort, told}. */
export const items = [];

export const model = () => server.models.find((one) => one.name === at("model").value) ?? server.models[0];

export const shownName = (name, one = model()) => (Object.hasOwn(one?.class_names ?? {}, name) ? one.class_names[name] : name);

/** Return a new item with its card; `acts` has what its buttons do: `remove`, `retry` and `look`. */
export function makeItem(file, acts, told) {
  const card = at("card").content.firstElementChild.cloneNode(true);
  const part = (name) => card.querySelector(`.${name}`);
  const item = { file, url: URL.createObjectURL(file), card, part, told, tries: 0, cuts: 0 };
  const name = file.name || "picture";
  part("name").textContent = part("name").title = name;
  part("own").addEventListener("error", () => part("frame").classList.add("bare"));
  part("own").src = item.url; // read when it comes near the screen: it is a lazy one
  part("own").alt = name;
  part("heat").alt = `${name}, with the places that speak for the class in bright colours`;
  for (const [act, label] of [["remove", `Remove ${name}`], ["retry", `Try ${name} again`]]) {
    part(act).setAttribute("aria-label", label);
    part(act).addEventListener("click", () => acts[act](item));
  }
  part("look").addEventListener("click", () => acts.look(item));
  part("more").addEventListener("click", () => bars(item, part("more").getAttribute("aria-expanded") === "false"));
  card.tabIndex = -1;
  return item;
}

/** Put items above those that are there. */
export function place(added) {
  const before = items.splice(0);
  for (const item of [...added, ...before]) items.push(item); // one by one, as a folder may hold very many
  const fragment = document.createDocumentFragment();
  for (const item of added) fragment.append(item.card);
  at("cards").prepend(fragment);
  for (const item of added) show(item, "waiting");
}

/** Take items away with all that they hold. */
export function discard(some) {
  for (const item of some) {
    item.abort?.abort();
    item.card.remove();
    URL.revokeObjectURL(item.url);
  }
  count();
}

export function show(item, state, why = "") {
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
  return `In doubt between ${answer.set.length} classes; ${best} is likeliest.${covered(one)}`;
}

/** How often the prediction sets are right: as promised, or, of a model in 8 bits, as measured. */
function covered({ confidence, test, evaluated_by: by }) {
  const { coverage, test_coverage: found } = confidence?.conformal ?? {};
  if (coverage) return ` The model's sets hold the right class ${percent(coverage)} of the time.`;
  return found ? ` The model's sets held the right class of ${percent(found.value)} of ${pictures(test, by)}.` : "";
}

/** On what a figure was measured. */
function pictures(test, by = "test pictures") {
  const count = test?.n ? `${test.n.toLocaleString("en")} ` : "";
  return /\bpictures\b/.test(by) ? count + by : `${count}pictures, by ${by}`;
}

/** How good a model is, on how many pictures, and how sure that is. */
export function measured({ output, test, evaluated_by: by }) {
  const several = output === "multilabel";
  const figure = several ? test?.mean_average_precision : test?.accuracy;
  if (!figure) return "";
  const interval = ` (95\u00a0% interval: ${percent(figure.low)} to ${percent(figure.high)}).`;
  return several
    ? ` Its mean average precision is ${percent(figure.value)} on ${pictures(test, by)}${interval}`
    : ` It was right on ${percent(figure.value)} of ${pictures(test, by)}${interval}`;
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

/** Lay the heat map over the picture, once it has come. */
export function overlay(item) {
  const { part } = item;
  part("heat").hidden = part("legend").hidden = false;
  part("look").setAttribute("aria-pressed", "true");
  part("legend").textContent = `Bright places speak for ${shownName(item.answer.label)}; where nothing is bright, no single place speaks for it. A dark rim is what the model does not see.`;
  say(`${item.file.name}: ${part("legend").textContent}`);
}

export function unlook({ part }) {
  part("heat").hidden = part("legend").hidden = true;
  part("look").setAttribute("aria-pressed", "false");
}

let counting = false;

/** Count once for all that happens now: a folder of thousands is added at once. */
function count() {
  if (counting) return;
  counting = true;
  queueMicrotask(() => {
    counting = false;
    const number = (...states) => items.filter((one) => states.includes(one.state)).length;
    const [waiting, failed] = [number("waiting", "asking"), number("error")];
    const parts = [`${items.length} ${items.length === 1 ? "picture" : "pictures"}`];
    if (waiting) parts.push(`${waiting} waiting`);
    if (failed) parts.push(`${failed} without an answer`);
    at("count").textContent = parts.join(" · ");
    at("bar").hidden = !items.length;
    at("again").hidden = items.filter((one) => one.state === "error" && !one.final).length < 2;
    document.body.classList.toggle("some", items.length > 0);
  });
}
