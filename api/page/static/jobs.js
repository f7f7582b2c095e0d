// The list of repairs: states, search, two to compare.

import { h } from "./dom.js";
import { get } from "./http.js";
import { ENDED, STATES, percent, title, when } from "./words.js";

const REFRESH_MS = 4000;

export async function jobs(signal) {
  let items = [], next = null;
  const chosen = new Set();
  const rows = h("tbody");
  const search = h("input", { id: "search", type: "search", oninput: draw, autocomplete: "off" });
  const state = h("select", { id: "state", onchange: load }, h("option", { value: "" }, "all"),
    Object.entries(STATES).map(([name, label]) => h("option", { value: name }, label)));
  const compare = h("a", { class: "button", href: "#/", hidden: true }, "Compare the two");
  const more = h("button", { type: "button", hidden: true, onclick: () => load({ further: true }) }, "Show older ones");
  const none = h("p", { hidden: true });

  async function load({ further = false } = {}) {
    const query = new URLSearchParams({ limit: "50", ...(state.value && { state: state.value }), ...(further && { cursor: next }) });
    const page = await get(`/repair?${query}`);
    items = further ? [...items, ...page.items] : page.items;
    next = page.next;
    draw();
  }

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const found = items.filter((job) => words(job).includes(wanted));
    rows.replaceChildren(...found.map(row));
    more.hidden = !next;
    none.hidden = found.length > 0;
    none.replaceChildren(...(items.length || state.value
      ? ["No repair matches."]
      : ["There are no repairs yet. ", h("a", { href: "#/new" }, "Start the first one"), "."]));
  }

  function row(job) {
    const pick = h("input", {
      type: "checkbox", checked: chosen.has(job.id), "aria-label": `Compare ${title(job)}`, disabled: job.state !== "succeeded",
      onchange: () => {
        if (pick.checked) chosen.add(job.id); else chosen.delete(job.id);
        const [one, other] = [...chosen];
        compare.hidden = chosen.size !== 2;
        compare.setAttribute("href", `#/compare/${one}/${other}`);
      },
    });
    const after = job.result?.after;
    return h("tr", {},
      h("td", {}, pick),
      h("th", { scope: "row" }, h("a", { href: `#/job/${job.id}` }, title(job))),
      h("td", {}, pill(job)),
      h("td", {}, after ? percent(after.clean_accuracy) : ""),
      h("td", {}, after ? percent(after.attack_success_rate ?? after.proxy_success_rate) : ""),
      h("td", {}, job.architecture?.name ?? ""),
      h("td", {}, when(job.created_at)));
  }

  await load();
  const timer = setInterval(() => {
    if (!document.hidden && items.some((job) => !ENDED.includes(job.state))) load().catch(() => {});
  }, REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  const columns = ["Compare", "Repair", "State", "Accuracy after", "Attack success after", "Architecture", "Posted"];
  return [
    h("div", { class: "title" }, h("h1", {}, "Repairs"), h("a", { class: "button first", href: "#/new" }, "New repair")),
    h("div", { class: "filters" }, h("label", { for: "search" }, "Search"), search, h("label", { for: "state" }, "State"), state, compare),
    h("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "Repairs" },
      h("table", {}, h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))), rows), none),
    more,
  ];
}

const words = (job) =>
  [title(job), job.id, job.state, job.architecture?.name, ...Object.entries(job.labels).flat()].join(" ").toLowerCase();

/** State, and for a finished repair whether the criteria are met. */
export function pill(job) {
  const met = job.result?.criteria_met;
  const [name, text] = job.state === "succeeded"
    ? met ? ["good", "✓ criteria met"] : ["bad", "✗ criteria not met"]
    : [job.state === "failed" ? "bad" : "", STATES[job.state]];
  return h("span", { class: `pill ${name}` }, text);
}
