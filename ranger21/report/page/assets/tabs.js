// The tabs: one for each comparison, and an overview of several.

let shownTab = null;       // the key of the tab that is shown

/** Return the parts of the page that belong to a tab. */
const parts = key => [...document.querySelectorAll("[data-tab]")].filter(part => part.dataset.tab === key);

/** Show the tab of the current view, if another one is shown. */
function showTab() {
  if (shownTab === view.tab) return;
  shownTab = view.tab;
  DATA.groups = DATA.tabs.find(tab => tab.key === shownTab).groups;
  document.querySelectorAll("[data-tab]").forEach(part => { part.hidden = part.dataset.tab !== shownTab; });
  document.querySelectorAll("[role=tab]").forEach(link => link.setAttribute("aria-selected", link.dataset.tabLink === shownTab));
  document.querySelector('[role=tab][aria-selected="true"]')?.scrollIntoView({ block: "nearest", inline: "nearest" });
  document.getElementById("curves").hidden = !DATA.groups.length;
  emphasised = null;
  chooseTimeUnit();
  buildAxes();
  buildSidebar();
  buildPanels();
  drawSwatches();
}

/** Let a click on a tab, or on a link to one, show it in this window. */
addEventListener("click", event => {
  const link = event.target.closest?.("[data-tab-link]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  change({ tab: link.dataset.tabLink, zoom: null });
  document.getElementById("tabs").scrollIntoView({ block: "nearest" });
});

/** Move between the tabs with the left and right arrow keys. */
document.getElementById("tabs").addEventListener("keydown", event => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], links = [...document.querySelectorAll("[role=tab]")];
  if (!step) return;
  const next = links[(links.indexOf(document.activeElement) + step + links.length) % links.length];
  next.focus();
  change({ tab: next.dataset.tabLink, zoom: null });
});
