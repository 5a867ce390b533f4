"use strict";
// Sorting, filtering, copying, and the curves over rho. Without it the page is whole, if still.

const SVG = "http://www.w3.org/2000/svg";
const DATA = JSON.parse(document.getElementById("data").textContent);

function element(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// ---- tables

function cellValue(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace("\u2212", "-"));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, "en", { numeric: true });
}

function sortBy(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");

  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(cellValue(a, column), cellValue(b, column)) * (descending ? -1 : 1));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent || "#";
    button.title = "Sort";
    button.addEventListener("click", () => sortBy(table, column));
    head.replaceChildren(button);
  });
}

// ---- claims

const filters = [...document.querySelectorAll("[data-filter]")];
const search = document.getElementById("search");

function filterClaims() {
  const verdict = filters.find((one) => one.getAttribute("aria-pressed") === "true").dataset.filter;
  const words = search.value.toLowerCase();
  for (const row of document.querySelectorAll("#claims tbody tr")) {
    const right = verdict === "" || row.dataset.verdict === verdict;
    row.hidden = !(right && row.textContent.toLowerCase().includes(words));
  }
}

for (const button of filters) {
  button.addEventListener("click", () => {
    for (const other of filters) other.setAttribute("aria-pressed", String(other === button));
    filterClaims();
  });
}
search.addEventListener("input", filterClaims);

// ---- commands

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // A page from a file may not write to the clipboard: select the text instead.
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

// ---- curves

const WIDEST = 640, HEIGHT = 360, LEFT = 64, RIGHT = 16, TOP = 14, BOTTOM = 48;

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

function extent(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - margin, high + margin];
}

const SHAPES = {
  circle: (x, y) => `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0`,
  square: (x, y) => `M${x - 4.5} ${y - 4.5}h9v9h-9z`,
  diamond: (x, y) => `M${x} ${y - 6}l6 6l-6 6l-6 -6z`,
  up: (x, y) => `M${x} ${y - 6}l5.5 10h-11z`,
  down: (x, y) => `M${x} ${y + 6}l5.5 -10h-11z`,
  plus: (x, y) => `M${x - 2} ${y - 6}h4v4h4v4h-4v4h-4v-4h-4v-4h4z`,
  star: (x, y) => `M${x} ${y - 7}l2 4.8l5 .4l-3.8 3.3l1.2 5l-4.4 -2.7l-4.4 2.7l1.2 -5l-3.8 -3.3l5 -.4z`,
  left: (x, y) => `M${x - 6} ${y}l10 5.5v-11z`,
};

// The looks of curves are those of the figures: dnnlib/colours.py.
function look(index) {
  const colour = DATA.colours[index % DATA.colours.length];
  return {
    colour: colour === "#000000" ? "currentColor" : colour,
    shape: SHAPES[DATA.marks[index % DATA.marks.length]],
    dashes: DATA.dashes[index % DATA.dashes.length].map((one) => one * 1.8).join(" "),
  };
}

function drawPanel(panel, parent) {
  const box = document.createElement("div");
  if (panel.title) {
    const title = document.createElement("h3");
    title.textContent = panel.title;
    box.append(title);
  }
  const holder = document.createElement("div");
  const tip = document.createElement("p");
  tip.className = "tip";
  tip.setAttribute("aria-live", "polite");
  const hint = "Point at a mark, or move to it with the tab key, for its value.";
  tip.textContent = hint;
  const legend = document.createElement("div");
  legend.className = "legend";
  box.append(holder, tip, legend);
  parent.append(box);

  const shown = panel.curves.map(() => true);

  function draw() {
    const visible = panel.curves.filter((_, index) => shown[index]);
    const points = visible.flatMap((curve) => curve.points).filter((one) => typeof one.x === "number");
    holder.replaceChildren();
    if (!points.length) return;

    const WIDTH = Math.max(280, Math.min(WIDEST, holder.clientWidth));
    const [x0, x1] = extent(points.map((one) => one.x));
    const heights = points.flatMap((one) => [one.y - (one.error || 0), one.y + (one.error || 0), one.stated ?? one.y]);
    const [y0, y1] = extent(heights);
    const px = (x) => LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    const py = (y) => HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);

    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", `${panel.ylabel} over ${panel.xlabel}`);
    holder.append(svg);

    for (const y of ticks(y0, y1, 5)) {
      element("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: py(y), y2: py(y), class: "grid" }, svg);
      element("text", { x: LEFT - 8, y: py(y) + 4, "text-anchor": "end" }, svg, +y.toPrecision(6));
    }
    for (const x of ticks(x0, x1, WIDTH / 90)) {
      element("text", { x: px(x), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, svg, +x.toPrecision(6));
    }
    element("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, svg, panel.xlabel);
    const middle = (TOP + HEIGHT - BOTTOM) / 2;
    element("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, svg, panel.ylabel);

    panel.curves.forEach((curve, index) => {
      if (!shown[index]) return;
      const { colour, shape, dashes } = look(index);
      const path = curve.points.map((one, at) => `${at ? "L" : "M"}${px(one.x)} ${py(one.y)}`).join("");
      element("path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dashes }, svg);
      for (const one of curve.points) {
        const x = px(one.x), y = py(one.y);
        if (one.error) {
          const [low, high] = [py(one.y - one.error), py(one.y + one.error)];
          const d = `M${x} ${low}V${high}M${x - 4} ${low}h8M${x - 4} ${high}h8`;
          element("path", { d, stroke: colour, "stroke-width": 1.3 }, svg);
        }
        if (one.stated !== undefined) {
          element("text", { x, y: py(one.stated) + 5, "text-anchor": "middle", style: `fill:${colour}` }, svg, "\u00d7");
        }
        const images = one.images ? `, ${one.images} images` : "";
        const paper = one.stated === undefined ? "" : `; paper ${one.stated}`;
        const name = curve.name ? `${curve.name}: ` : "";
        const text = `${name}${panel.ylabel} ${one.text} at ${panel.xlabel} ${one.x}${images}${paper}`;
        const mark = element("path", {
          d: shape(x, y), fill: colour, class: "hit", tabindex: 0, role: "img", "aria-label": text,
        }, svg);
        element("title", {}, mark, text);
        for (const event of ["mouseenter", "focus", "click"]) {
          mark.addEventListener(event, () => { tip.textContent = text; });
        }
        mark.addEventListener("mouseleave", () => { tip.textContent = hint; });
      }
    });
  }

  panel.curves.forEach((curve, index) => {
    if (!curve.name) return;
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const swatch = document.createElementNS(SVG, "svg");
    const { colour, shape, dashes } = look(index);
    swatch.setAttribute("class", "swatch");
    swatch.setAttribute("viewBox", "0 0 36 16");
    element("path", { d: "M0 8H36", stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dashes }, swatch);
    element("path", { d: shape(18, 8), fill: colour }, swatch);
    button.append(swatch, curve.name);
    button.addEventListener("click", () => {
      shown[index] = !shown[index];
      button.setAttribute("aria-pressed", String(shown[index]));
      draw();
    });
    legend.append(button);
  });
  draw();
  let width = holder.clientWidth;
  addEventListener("resize", () => {
    if (holder.clientWidth !== width) draw();
    width = holder.clientWidth;
  });
}

for (const holder of document.querySelectorAll(".curves")) {
  for (const panel of DATA.items[holder.dataset.item]) drawPanel(panel, holder);
}
