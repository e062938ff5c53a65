// The list of groups and runs: what each line is, and whether it is drawn.

const entries = [];        // {group, item, box, boxes}

/** List the groups of the tab that is shown. */
function buildSidebar() {
  entries.length = 0;
  document.getElementById("groups").replaceChildren(...DATA.groups.map(buildGroup));
  const told = new Set(DATA.groups.flatMap(group => group.runs.map(run => run.status)));
  const keys = Object.entries(DATA.states).filter(([status, { mark }]) => mark && told.has(status));
  document.getElementById("key").textContent = keys.map(([, { mark, said }]) => `${mark} ${said} run`)
    .concat("n is the number of finished runs; mean curves use only these.").join("; ");
}

/** Let the list's filter and buttons act. */
function startSidebar() {
  document.getElementById("filter").addEventListener("input", event => change({ filter: event.target.value }));
  document.getElementById("show-all").addEventListener("click", () => change({ hidden: new Set(), off: new Set() }));
  document.getElementById("show-none").addEventListener("click", () =>
    change({ hidden: new Set(DATA.groups.map(group => group.label)) }));
}

function buildGroup(group) {
  const box = h("input", { type: "checkbox", change: () => { toggle(view.hidden, group.label, !box.checked); change(); } });
  const seeds = group.runs.map(run => `${run.seed}${markOf(run)}`).join(" ");
  const n = group.runs.filter(run => run.status === "finished").length;
  const name = h("label", { class: "group-name", title: group.label }, box, swatch(group),
    h("span", { class: "label" }, group.label),
    h("small", {}, `n = ${n}`, h("span", { class: "seeds" }, ` seed${group.runs.length === 1 ? "" : "s"} ${seeds}`)));
  const only = h("button", { type: "button", class: "only", "aria-label": `Only ${group.label}`, click: () =>
    change({ hidden: new Set(DATA.groups.filter(other => other !== group).map(other => other.label)) }) }, "only");
  const boxes = [];
  const runs = h("details", {}, h("summary", { "aria-label": `Runs of ${group.label}` }, "runs"),
    h("ul", {}, ...group.runs.map(run => buildRun(run, boxes))));
  const item = h("li", { class: "group", pointerenter: () => emphasise(group), pointerleave: () => emphasise(null),
    focusin: () => emphasise(group), focusout: () => emphasise(null) }, name, only, runs);
  entries.push({ group, item, box, boxes });
  return item;
}

function buildRun(run, boxes) {
  const box = h("input", { type: "checkbox", change: () => { toggle(view.off, runKey(run), !box.checked); change(); } });
  boxes.push([run, box]);
  const { mark, said } = DATA.states[run.status];
  return h("li", {}, h("label", { title: run.name }, box,
    `seed ${run.seed} `, h("small", {}, mark && `${mark} ${said} `, h("span", { class: "run-name" }, run.name))));
}

/** Update the list to the current view. */
function drawSidebar() {
  for (const { group, item, box, boxes } of entries) {
    item.hidden = !listed(group);
    item.classList.toggle("hidden-group", view.hidden.has(group.label));
    box.checked = !view.hidden.has(group.label);
    boxes.forEach(([run, own]) => { own.checked = !view.off.has(runKey(run)); });
  }
  const filter = document.getElementById("filter");
  if (filter.value !== view.filter) filter.value = view.filter;
}
