// The tooltip: the values of all lines of a panel at the cursor.

const tooltip = document.getElementById("tooltip");
const MOST_ROWS = 16;
const FORMATS = [];        // a number format for each number of decimals, because making one is slow

/** Create an element with attributes and children; strings become text, never markup. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (typeof value === "boolean") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Create a short sample of a group's line, in its colour and dash pattern. */
function swatch(group) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [key, value] of Object.entries({ class: "swatch", width: 30, height: 10, "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  const drawn = { x1: 1, x2: 29, y1: 5, y2: 5, "stroke-width": 1.4 * group.width, "stroke-dasharray": group.dash.join(" ") };
  for (const [key, value] of Object.entries(drawn)) line.setAttribute(key, value);
  line.style.stroke = colourOf(group);
  svg.append(line);
  return svg;
}

/** Format values: per cent with two decimals, others with as many decimals as give the first value four digits. */
function valueTexts(values, unit) {
  const size = Math.floor(Math.log10(Math.abs(values[0]) || 1));
  if (size < -4 || size > 14) return values.map(value => value.toPrecision(4));
  const digits = unit === "%" ? 2 : Math.max(0, 3 - size);
  FORMATS[digits] ??= new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return values.map(value => FORMATS[digits].format(value));
}

/** Return the lines that have a value at an x, as {line, value, at: the function from y values to theirs at x}, the highest value first. */
function valuesAt(plot, x) {
  return plot.lines.map(line => {
    const at = values => interpolated(line.curve.x, values, [x])[0];
    return { line, value: at(line.curve.y), at };
  }).filter(({ value }) => value !== null).sort((a, b) => b.value - a.value);
}

/** Return the value of a line as text, with its spread. */
function valueText({ line: { n, curve }, value, at }, unit) {
  const spread = n < 2 ? [] : view.band === "sd" ? [at(curve.sd)] : [at(curve.low), at(curve.high)];
  const [number, ...others] = valueTexts([value, ...spread], unit);
  return others.length > 1 ? `${number} (${others.join(" – ")})` : [number, ...others].join(" ± ");
}

/** Return the rows nearest to the cursor, if there are too many to show all. */
function nearest(rows, y) {
  if (rows.length <= MOST_ROWS) return rows;
  const close = [...rows].sort((a, b) => Math.abs(a.value - y) - Math.abs(b.value - y)).slice(0, MOST_ROWS);
  return rows.filter(row => close.includes(row));
}

const lineName = ({ group, run, n }) =>
  run ? `${group.label} · seed ${`${run.seed} ${markOf(run)}`.trim()}` : `${group.label} · n = ${n}`;

/** Show the values of a plot's lines at its cursor. */
function showTooltip(plot) {
  const { idx, left, top } = plot.cursor;
  if (idx === null || idx === undefined || left < 0) return hideTooltip();
  const x = plot.data[0][idx], all = valuesAt(plot, x), rows = nearest(all, plot.posToVal(top, "y"));
  const where = h("p", {}, `${axisTitle(view.x)} `, h("b", {}, xText(x)));
  const table = h("table", {}, ...rows.map(row => h("tr", {}, h("td", {}, swatch(row.line.group)),
    h("th", {}, lineName(row.line)), h("td", { class: "number" }, valueText(row, plot.panel.unit)))));
  tooltip.replaceChildren(where, table);
  if (rows.length < all.length) tooltip.append(h("p", {}, `and ${all.length - rows.length} more`));
  tooltip.hidden = !all.length;
  placeTooltip(plot.over.getBoundingClientRect(), left, top);
}

/** Place the tooltip next to the cursor, inside the window. */
function placeTooltip(frame, left, top) {
  const { offsetWidth: width, offsetHeight: height } = tooltip, gap = 16;
  const x = frame.left + left, y = frame.top + top;
  const right = x + gap + width < innerWidth ? x + gap : Math.max(x - gap - width, 4);
  tooltip.style.left = `${right}px`;
  tooltip.style.top = `${Math.max(4, Math.min(y - height / 2, innerHeight - height - 4))}px`;
}

function hideTooltip() {
  tooltip.hidden = true;
}

/** Format an x value: whole numbers for steps and images, otherwise four digits. */
function xText(x) {
  return ["step", "images_seen"].includes(view.x) ? Math.round(x).toLocaleString("en") : String(Number(x.toPrecision(4)));
}
