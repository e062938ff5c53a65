// The view: what the reader has chosen, how the page's address (#…) encodes it, and which runs are visible.

const FIRST_AXIS = Object.keys(DATA.axes)[0];
const CHOICES = {
  x: Object.keys(DATA.axes),
  lines: ["mean", "runs"],
  band: ["sd", "range"],
  kind: ["exponential", "window"],
};

function freshView() {
  return {
    tab: DATA.tabs[0].key, x: FIRST_AXIS, lines: "mean", band: "sd", smooth: 0, kind: "exponential", filter: "",
    zoom: null,           // [first, last] of x, in the unit shown on the axis
    hidden: new Set(),    // labels of groups
    off: new Set(),       // "label/name" of hidden runs
    scale: new Map(),     // "log" or "linear" by metric, where it differs from the panel's default
    wide: new Set(),      // metrics of enlarged panels
  };
}

const view = freshView();
const listeners = [];

/** Change the view, redraw everything and update the address. */
function change(changes = {}) {
  Object.assign(view, changes);
  listeners.forEach(listener => listener());
  rememberSoon();
}

const runKey = run => `${run.group.label}/${run.name}`;

/** Whether the group's label contains all words of the filter. */
function listed(group) {
  const label = group.label.toLowerCase();
  return view.filter.toLowerCase().split(/\s+/).every(word => label.includes(word));
}

const isVisible = group => listed(group) && !view.hidden.has(group.label);
const visibleRuns = group => isVisible(group) ? group.runs.filter(run => !view.off.has(runKey(run))) : [];
const isLog = panel => (view.scale.get(panel.metric) ?? (panel.log ? "log" : "linear")) === "log";

/** Add a value to a set, or remove it. */
function toggle(set, value, present = !set.has(value)) {
  if (present) set.add(value); else set.delete(value);
}

// The address

/** Encode the view as the fragment of an address: only what differs from the default. Groups and runs are named. */
function toFragment() {
  const parts = new URLSearchParams(), fresh = freshView();
  for (const key of ["tab", "x", "lines", "band", "smooth", "kind", "filter"])
    if (view[key] !== fresh[key]) parts.set(key, view[key]);
  if (view.zoom) parts.set("zoom", view.zoom.map(value => Number(value.toPrecision(5))).join(" "));
  for (const key of ["hidden", "off", "wide"]) view[key].forEach(value => parts.append(key, value));
  view.scale.forEach((scale, metric) => parts.append(scale, metric));
  return parts.toString();
}

/** Decode a fragment into a view, ignoring unknown parts. */
function fromFragment(fragment) {
  const parts = new URLSearchParams(fragment), found = freshView();
  for (const [key, values] of Object.entries(CHOICES)) if (values.includes(parts.get(key))) found[key] = parts.get(key);
  if (DATA.tabs.some(tab => tab.key === parts.get("tab"))) found.tab = parts.get("tab");
  found.filter = parts.get("filter") ?? "";
  found.smooth = Math.min(Math.max(Number(parts.get("smooth")) || 0, 0), 0.99);
  const zoom = (parts.get("zoom") ?? "").split(" ").map(Number);
  if (zoom.length === 2 && zoom[0] < zoom[1]) found.zoom = zoom;
  for (const key of ["hidden", "off", "wide"]) found[key] = new Set(parts.getAll(key));
  for (const scale of ["log", "linear"]) parts.getAll(scale).forEach(metric => found.scale.set(metric, scale));
  return found;
}

let timer = 0;

/** Update the address, without an entry in the history. Following a link to `#` would scroll to the top of the page. */
function rememberSoon() {
  clearTimeout(timer);
  timer = setTimeout(() => history.replaceState(null, "", `#${toFragment()}`), 200);
}

/** Follow changes of the address that this script did not make: pasted addresses, and back and forward. */
addEventListener("hashchange", () => change(fromFragment(location.hash.slice(1))));
