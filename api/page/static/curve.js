// Draws accuracy and attack success over t. Grows point by point; the same figures are below it as a table.

import { h, s } from "./dom.js";
import { ASR, percent } from "./words.js";

const W = 640, H = 300, LEFT = 44, RIGHT = 12, TOP = 12, BOTTOM = 40;
const x = (t) => LEFT + t * (W - LEFT - RIGHT);
const y = (share) => TOP + (1 - share) * (H - TOP - BOTTOM);
const LINES = [
  { name: "accuracy", label: "Accuracy on clean images", of: (p) => p.clean_accuracy, band: (p) => p.clean_accuracy_interval },
  { name: "attack", label: "Attack success, measured", of: (p) => p.attack_success_rate, band: (p) => p.attack_success_rate_interval },
  { name: "proxy", label: "Attack success of inverted triggers", of: (p) => p.proxy_success_rate, band: () => null },
];

/** A point as `/curve` has it, out of one as an event has it. */
export function fromEvent(data) {
  return {
    ...data,
    clean_accuracy_interval: [data.clean_accuracy_low, data.clean_accuracy_high],
    attack_success_rate_interval: data.asr_low == null ? null : [data.asr_low, data.asr_high],
  };
}

/** The figure, and `draw(points, {t, chosen})`. `more`: further curves to lay under it, with names. */
export function curve(more = []) {
  const picture = s("svg", { viewBox: `0 0 ${W} ${H}`, class: "curve", role: "img", "aria-label": "Accuracy and attack success along the path" });
  const key = h("ul", { class: "key" });
  const rows = h("tbody");
  const table = h("details", {}, h("summary", {}, "The same as a table"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Points of the curve" }, h("table", {},
      h("thead", {}, h("tr", {}, ["t", "Accuracy", "Attack success, measured", "Inverted triggers"].map((name) => h("th", { scope: "col" }, name)))),
      rows)));

  function draw(points, { t = null, chosen = null } = {}) {
    const sorted = [...points].sort((a, b) => a.t - b.t);
    const shown = LINES.filter(({ of }) => sorted.some((p) => of(p) != null));
    picture.replaceChildren(...axes(), ...more.flatMap(under), ...shown.flatMap((one) => line(one, sorted)), ...marks(t, chosen));
    key.replaceChildren(...shown.map(({ name, label }) => h("li", { class: name, title: name === "accuracy" ? null : ASR }, label)));
    rows.replaceChildren(...sorted.map((p) => h("tr", { class: p.t === chosen ? "chosen" : null },
      h("th", { scope: "row" }, p.t.toFixed(3)), LINES.map(({ of }) => h("td", {}, percent(of(p)))))));
  }
  draw([]);
  return { element: h("figure", {}, picture, h("figcaption", {}, key), table), draw };
}

function axes() {
  const shares = [0, 0.25, 0.5, 0.75, 1];
  return [
    ...shares.map((share) => s("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(share), y2: y(share) })),
    ...shares.map((share) => s("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`)),
    ...shares.map((t) => s("text", { x: x(t), y: H - BOTTOM + 17, "text-anchor": "middle" }, t)),
    s("text", { x: x(0), y: H - 6, "text-anchor": "start" }, "t = 0: the suspect"),
    s("text", { x: x(1), y: H - 6, "text-anchor": "end" }, "t = 1: the other end"),
  ];
}

function line({ name, of, band }, points) {
  const there = points.filter((p) => of(p) != null);
  const banded = there.filter((p) => band(p));
  const edge = (side) => banded.map((p) => `${x(p.t)},${y(band(p)[side])}`);
  return [
    banded.length > 1 && s("polygon", { class: `band ${name}`, points: [...edge(0), ...edge(1).reverse()].join(" ") }),
    s("polyline", { class: `line ${name}`, points: there.map((p) => `${x(p.t)},${y(of(p))}`).join(" ") }),
    ...there.map((p) => s("circle", { class: `dot ${name}`, cx: x(p.t), cy: y(of(p)), r: 2.6 })),
  ].filter(Boolean);
}

function under({ points }) {
  const sorted = [...points].sort((a, b) => a.t - b.t);
  return LINES.flatMap((one) => line(one, sorted)).map((element) => { element.classList.add("other"); return element; });
}

function marks(t, chosen) {
  const at = (value, name) => s("line", { class: name, x1: x(value), x2: x(value), y1: TOP, y2: H - BOTTOM });
  return [chosen != null && at(chosen, "chosen-t"), t != null && t !== chosen && at(t, "looked-at")].filter(Boolean);
}
