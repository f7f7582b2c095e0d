// Two repairs side by side: figures, curves, and where their settings differ.

import { h } from "./dom.js";
import { get } from "./http.js";
import { curve } from "./curve.js";
import { architecture, interval, percent, title } from "./words.js";

const FIGURES = [["clean_accuracy", "Accuracy"], ["attack_success_rate", "Attack success, measured"], ["proxy_success_rate", "Attack success of inverted triggers"]];

export async function compare(signal, ...ids) {
  const both = await Promise.all(ids.map(async (id) => {
    const [job, path] = await Promise.all([get(`/repair/${id}`), get(`/repair/${id}/curve`)]);
    return { job, points: path.points };
  }));
  if (both.some(({ job }) => !job.result)) throw new Error("Both repairs must be finished to be compared.");
  const [one, other] = both;
  const figure = curve([{ points: other.points }]);
  figure.draw(one.points, { chosen: one.job.result.t });
  const heads = both.map(({ job }) => h("th", { scope: "col" }, h("a", { href: `#/job/${job.id}` }, title(job))));
  return [
    h("h1", {}, "Two repairs"),
    h("section", { class: "card" },
      h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Figure"), heads)),
        h("tbody", {}, rows(both)))),
      figure.element,
      h("p", { class: "small" }, `Full lines: ${title(one.job)}. Broken lines: ${title(other.job)}.`)),
    h("section", { class: "card" }, h("h2", {}, "Where the settings differ"), differences(one.job, other.job)),
  ];
}

function rows(both) {
  const row = (name, of) => h("tr", {}, h("th", { scope: "row" }, name), both.map(({ job }) => h("td", {}, of(job))));
  const measured = ["before", "after"].flatMap((when) => FIGURES
    .filter(([name]) => both.some(({ job }) => job.result[when][name] != null))
    .map(([name, label]) => row(`${label}, ${when}`, (job) => [
      percent(job.result[when][name]), h("span", { class: "small" }, ` ${interval(job.result[when][`${name}_interval`])}`)])));
  return [
    row("Criteria", (job) => (job.result.criteria_met ? "met" : "not met")), row("Chosen t", (job) => job.result.t.toFixed(3)),
    ...measured, row("Architecture", (job) => architecture(job.architecture)),
  ];
}

function differences(one, other) {
  const [left, right] = [one, other].map((job) => new Map(leaves(job.request)));
  const names = [...new Set([...left.keys(), ...right.keys()])].filter((name) => left.get(name) !== right.get(name));
  if (!names.length) return h("p", {}, "They do not differ.");
  return h("table", {}, h("tbody", {}, names.map((name) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, left.get(name) ?? "–"), h("td", {}, right.get(name) ?? "–")))));
}

function* leaves(value, path = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) yield [path, JSON.stringify(value)];
  else for (const [name, item] of Object.entries(value)) yield* leaves(item, path ? `${path}.${name}` : name);
}
