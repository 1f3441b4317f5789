// A click on the head of a column sorts its table: numbers by size, everything else by the alphabet.
document.addEventListener("DOMContentLoaded", () => {
  const valueOf = (cell) => {
    const text = cell.textContent.trim().replaceAll(",", "");
    return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  for (const table of document.querySelectorAll("table")) {
    if (!table.tHead || table.tBodies.length !== 1) continue;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      let descending = true;
      head.style.cursor = "pointer";
      head.title = "sort";
      head.addEventListener("click", () => {
        descending = !descending;
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => compare(valueOf(a.cells[column]), valueOf(b.cells[column])) * (descending ? -1 : 1));
        table.tBodies[0].append(...rows);
      });
    });
  }
});
