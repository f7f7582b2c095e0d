// The result of a repair: verdict, figures, the slider on t with the model at that t, triggers, files.

import { action, h, save, say } from "./dom.js";
import { bytes, get, once, post } from "./http.js";
import { ASR, interval, percent, short } from "./words.js";

const FIGURES = [
  ["clean_accuracy", "Accuracy on clean images", null],
  ["attack_success_rate", "Attack success, measured", ASR],
  ["proxy_success_rate", "Attack success of inverted triggers", "Of the triggers that the scan found; an estimate of the true attack."],
];
const POLL_MS = 400;

/** {verdict, details}: what comes before the curve, and after it. */
export function result(job, points, draw, signal) {
  const found = job.result;
  const verdict = found.criteria_met
    ? `The repaired model meets your criteria: ${sentence(found)}.`
    : `No model on the path meets your criteria; the best is kept: ${sentence(found)}.`;
  return {
    verdict: h("section", { class: `card verdict ${found.criteria_met ? "met" : "missed"}` },
      h("h2", {}, verdict), h("p", {}, found.reason), figures(found),
      found.warnings.length ? h("ul", { class: "warnings" }, found.warnings.map((one) => h("li", {}, one.detail ?? one))) : null,
      downloads(job)),
    details: [slider(job, [...points].sort((a, b) => a.t - b.t), draw), triggers(job, signal)].filter(Boolean),
  };
}

function sentence({ before, after }) {
  const rate = after.attack_success_rate != null ? "attack_success_rate" : "proxy_success_rate";
  const attack = after[rate] == null ? "" : `, attack success ${percent(before[rate])} → ${percent(after[rate])}`;
  return `accuracy ${percent(before.clean_accuracy)} → ${percent(after.clean_accuracy)}${attack}`;
}

function figures({ before, after }) {
  const cell = (side, name) => h("td", {}, h("span", { class: "value" }, percent(side[name])), h("span", { class: "range" }, interval(side[`${name}_interval`])));
  return h("table", { class: "figures" },
    h("caption", {}, "On images that neither the repair nor the choice has seen; below, the 95 % interval."),
    h("thead", {}, h("tr", {}, ["", "Before", "After"].map((name) => h(name ? "th" : "td", { scope: name ? "col" : null }, name)))),
    h("tbody", {}, FIGURES.filter(([name]) => before[name] != null || after[name] != null).map(([name, label, meaning]) =>
      h("tr", {}, h("th", { scope: "row" }, label, meaning && h("span", { class: "small block" }, meaning)), cell(before, name), cell(after, name)))));
}

function downloads(job) {
  const file = (label, route, name, attributes) => action(label, async () => save(await bytes(`/repair/${job.id}/${route}`), name), attributes);
  return h("div", { class: "downloads" },
    file("Download the repaired model", "weights", `repaired-${short(job.id)}.safetensors`, { class: "first" }),
    file("Report", "report", `report-${short(job.id)}.html`),
    file("Report as JSON", "report.json", `report-${short(job.id)}.json`),
    file("Manifest", "manifest", `manifest-${short(job.id)}.json`),
    file("Signed attestation", "attestation", `attestation-${short(job.id)}.json`));
}

/** Any t: the figures of the nearest measured point, and the weights of exactly that t. */
function slider(job, points, draw) {
  const chosen = job.result.t;
  const input = h("input", { id: "t", type: "range", min: 0, max: 1, step: 0.005, value: chosen, list: "measured", oninput: show });
  const output = h("output", { for: "t" });
  const told = h("dl", { class: "pairs", "aria-live": "polite" });
  const exact = h("p", { class: "small" });
  const get_it = action("Download the model at this t", download);
  const marks = h("datalist", { id: "measured" }, points.map(({ t }) => h("option", { value: t })));

  function nearest(t) {
    return points.reduce((best, point) => (Math.abs(point.t - t) < Math.abs(best.t - t) ? point : best));
  }

  function show() {
    const t = Number(input.value);
    const point = nearest(t);
    output.textContent = t.toFixed(3);
    draw({ chosen, t });
    told.replaceChildren(...FIGURES.filter(([name]) => point[name] != null).flatMap(([name, label]) => [
      h("dt", {}, label), h("dd", {}, percent(point[name]), h("span", { class: "small" }, ` ${interval(point[`${name}_interval`])}`))]),
    h("dt", {}, "Confidence on clean images"), h("dd", {}, percent(point.clean_confidence)),
    h("dt", {}, "Loss on clean images"), h("dd", {}, point.clean_loss.toFixed(3)));
    exact.textContent = t === chosen
      ? "This is the chosen model. Its figures here are of the images that chose t; those above are of others."
      : point.t === t ? "Measured at this very t." : `Measured at the nearest point, t = ${point.t.toFixed(3)}.`;
  }

  async function download() {
    const t = Number(input.value);
    const name = `repaired-${short(job.id)}-t${t}.safetensors`;
    if (t !== chosen) await selected(job.id, t);
    save(await bytes(`/repair/${job.id}/weights?t=${t}`), name);
    say(`The model at t = ${t} is downloaded.`);
  }

  show();
  return h("section", { class: "card" }, h("h2", {}, "Another point of the path"),
    h("label", { for: "t" }, "t: 0 is the suspect"), h("div", { class: "slider" }, input, output), marks, told, exact, get_it);
}

/** Has the model at t written, and waits until it is. */
async function selected(id, t) {
  const { items } = await get(`/repair/${id}/selections`);
  let selection = items.find((one) => one.t === t && one.state !== "failed") ?? await post(`/repair/${id}/selections`, { t }, once());
  while (!["succeeded", "failed"].includes(selection.state)) {
    await new Promise((wake) => setTimeout(wake, POLL_MS));
    selection = await get(selection.links.self);
  }
  if (selection.state === "failed") throw Object.assign(new Error("The model at this t could not be made."), { problem: selection.problem });
}

function triggers(job, signal) {
  const pictures = new Set(job.result.artifacts.map(({ name }) => name));
  const shown = job.result.targets.filter((target) => pictures.has(target.picture));
  if (!shown.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "Inverted triggers"),
    h("p", {}, "The smallest change that makes the suspect answer a class, found by the scan. A flagged one stood out, and no longer works on the repaired model. Beside it: images that the repair did not see, without the trigger and with it."),
    listed(job, shown.filter(({ flagged }) => flagged), signal),
    h("details", {}, h("summary", {}, "Triggers of classes that were not flagged"), listed(job, shown.filter(({ flagged }) => !flagged), signal)));
}

function listed(job, targets, signal) {
  return targets.length ? h("ul", { class: "triggers" }, targets.map((target) => trigger(job, target, signal))) : h("p", { class: "small" }, "None stood out.");
}

function trigger(job, target, signal) {
  const what = target.class_name ?? "every class";
  const image = picture(job, target.picture, `Inverted ${target.kind} for ${what}`, signal);
  return h("li", { class: target.flagged ? "flagged" : null }, image, h("div", {},
    h("h3", {}, what, target.flagged && h("span", { class: "pill bad" }, "flagged")),
    h("p", { class: "small" }, `${target.kind}, anomaly index ${target.anomaly_index?.toFixed(1)}, works on ${percent(target.success_rate, 0)} of images`,
      target.success_rate_after == null ? "" : `, on the repaired model on ${percent(target.success_rate_after, 0)}`),
    target.fooled && fooled(job, what, target.fooled, signal)));
}

/** Images that the trigger fools the suspect on: as they are, with the trigger, and what both models say. */
function fooled(job, what, { picture: name, images }, signal) {
  return h("figure", { class: "fooled" },
    picture(job, name, `Images that the suspect takes for ${what} with the trigger: above without it, below with it`, signal),
    h("ul", {}, images.map(({ label, taken_for, repaired_says }) => h("li", {}, label,
      h("span", { class: "block bad" }, `suspect: ${taken_for}`),
      h("span", { class: `block ${repaired_says === label ? "good" : "bad"}` }, `repaired: ${repaired_says}`)))));
}

function picture(job, name, alt, signal) {
  const image = h("img", { alt });
  bytes(`/repair/${job.id}/artifacts/${name}`).then((blob) => {
    image.src = URL.createObjectURL(blob);
    signal.addEventListener("abort", () => URL.revokeObjectURL(image.src));
  }).catch(() => { image.alt = "The picture is gone."; });
  return image;
}
