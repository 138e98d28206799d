// Small things that the other files share: elements, how figures are written, and what is said to a person.

export const at = (id) => document.getElementById(id);

export const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A probability as a person reads it. */
export function percent(share) {
  if (share < 0.0005) return "<\u00a00.1\u00a0%";
  if (share >= 0.9995) return ">\u00a099.9\u00a0%"; // no model is certain
  return `${(100 * share).toFixed(1).replace(/\.0$/, "")}\u00a0%`;
}

export const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1000)} KB` : `${(bytes / 1e6).toFixed(1).replace(/\.0$/, "")} MB`);

/** Tell a screen reader; many answers at once become one sentence. */
const unsaid = [];
let saying;
export function say(text) {
  unsaid.push(text);
  clearTimeout(saying);
  saying = setTimeout(() => {
    const few = unsaid.length <= 3;
    at("said").textContent = few ? unsaid.join(" ") : `${unsaid.length} pictures answered. ${at("count").textContent}.`;
    unsaid.length = 0;
  }, 250);
}

/** Say above the pictures what went wrong; nothing takes it away. */
export function notice(text) {
  at("notice").replaceChildren(...(text ? [element("p", { className: "note bad", textContent: text })] : []));
}
