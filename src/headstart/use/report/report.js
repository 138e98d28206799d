(() => {
  const gallery = document.getElementById("gallery");
  if (!gallery) return;
  const pictures = [...gallery.children], cells = [...document.querySelectorAll("button[data-cell]")];
  const all = document.getElementById("all"), caption = document.getElementById("caption");
  const empty = document.getElementById("empty");
  const first = pictures.filter((picture) => !picture.hidden), heading = caption.textContent;
  let chosen = "";

  function choose(cell) {
    chosen = cell === null || cell.dataset.cell === chosen ? "" : cell.dataset.cell;
    let count = 0;
    for (const picture of pictures) {
      picture.hidden = chosen ? picture.dataset.cell !== chosen : !first.includes(picture);
      count += picture.hidden ? 0 : 1;
    }
    for (const button of cells) button.setAttribute("aria-pressed", String(button.dataset.cell === chosen));
    all.hidden = !chosen;
    empty.hidden = !chosen || count > 0;
    caption.textContent = heading;
    if (chosen) {
      const total = Number(cell.querySelector("b").textContent.replaceAll(",", ""));
      const some = count < total ? `${count} of ${total.toLocaleString("en")}` : `${count}`;
      caption.textContent = `${cell.title.replace(/: show the pictures$/, "")}: ${some}`;
    }
  }

  for (const cell of cells) cell.addEventListener("click", () => choose(cell));
  all.addEventListener("click", () => choose(null));
  // In the matrix the arrow keys go from cell to cell, Escape goes back to the mistakes.
  document.querySelector(".matrix:not(.labels)")?.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const [row, column] = (event.target.dataset.cell ?? "").split("-").map(Number);
    if (!step || Number.isNaN(column)) return;
    event.preventDefault();
    for (let r = row + step[0], c = column + step[1]; ; r += step[0], c += step[1]) {
      const next = cells.find((cell) => cell.dataset.cell === `${r}-${c}`);
      if (!next) return;
      if (!next.disabled) return next.focus();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen) choose(null);
  });
})();
