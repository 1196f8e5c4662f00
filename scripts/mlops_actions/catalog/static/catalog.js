// Search in the rows of a table, and two versions side by side. All data are in the page.
"use strict";

for (const search of document.querySelectorAll("input[type=search]")) {
  const rows = [...document.querySelectorAll(`#${search.dataset.rows} > tr`)].map((row) => [row, row.textContent.toLowerCase()]);
  const found = document.getElementById(search.getAttribute("aria-describedby"));
  search.hidden = false;
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    found.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
}

const data = document.getElementById("data");
if (data) compare(JSON.parse(data.textContent));

function compare({ versions, groups }) {
  const form = document.querySelector("form");
  const table = document.getElementById("compared");
  const given = new URLSearchParams(location.search);
  for (const name of ["a", "b"]) if (given.has(name)) form.elements[name].value = given.get(name);
  const rowOf = (rows, at) => {
    while (rows[at] === 0) at -= 1;
    return rows[at];
  };
  const show = () => {
    const [a, b] = ["a", "b"].map((name) => Number(form.elements[name].value));
    const [left, right] = [a, b].map((number) => versions.indexOf(number));
    table.replaceChildren();
    const missing = left < 0 ? a : right < 0 ? b : null;
    document.getElementById("said").textContent = missing === null ? "" : `There is no version ${missing}`;
    if (missing !== null) return;
    table.append(line("thead", [["", `version ${a}`, `version ${b}`]], "th"));
    for (const [group, { names, rows }] of Object.entries(groups)) {
      const [old, now] = [rowOf(rows, left), rowOf(rows, right)];
      const lines = names.map((name, i) => [name, old[i], now[i]]).filter(([, x, y]) => !(x === "–" && y === "–"));
      const wanted = form.elements.all.checked ? lines : lines.filter(([, x, y]) => x !== y);
      if (wanted.length) table.append(line("tbody", [[group], ...wanted], "td", form.elements.all.checked));
    }
    if (table.children.length === 1) document.getElementById("said").textContent = "Nothing differs";
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}

function line(part, rows, cell, marked) {
  const made = document.createElement(part);
  rows.forEach((values, index) => {
    const row = made.insertRow();
    const title = part === "tbody" && index === 0;
    if (part === "tbody") row.className = title ? "group" : marked && values[1] !== values[2] ? "differs" : "";
    values.forEach((value, i) => {
      const one = document.createElement(title || i === 0 ? "th" : cell);
      if (title) one.colSpan = 3;
      one.textContent = value;
      row.append(one);
    });
  });
  return made;
}
