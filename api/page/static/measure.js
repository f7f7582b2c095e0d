// How the suspect does on the clean images: asked of the service as soon as both are there, before any repair.

import { explained, h } from "./dom.js";
import { events, get, once, post } from "./http.js";
import { interval, percent } from "./words.js";

const WAITS = "Waiting for a worker that measures the suspect. You need not wait: a repair measures it first, too.";

/** `use` takes a suggested statement over into the form. Until `signal` is aborted. */
export function measuring(signal, use) {
  const element = h("div", { class: "measured", "aria-live": "polite" });
  const known = new Map();
  let current = null, leave = new AbortController(), cancelled = Promise.resolve();
  const show = (...children) => element.replaceChildren(...children);
  const small = (...text) => show(h("p", { class: "small" }, ...text));

  /** Gives up what is being measured; waited for, its place in the queue is free. */
  function stop() {
    leave.abort();
    current = null;
    show();
    return cancelled;
  }

  /** Measures under another statement than before; what was measured once is kept. */
  async function measure(statement) {
    const asked = JSON.stringify(statement);
    if (asked === current) return;
    stop();
    current = asked;
    leave = new AbortController();
    const until = AbortSignal.any([signal, leave.signal]);
    try {
      const found = known.get(asked) ?? await ended(statement, until);
      if (found.state === "succeeded") known.set(asked, found);
      if (!until.aborted) show(...view(found, use));
    } catch (error) {
      if (!until.aborted) small("The suspect could not be measured. ", ...explained(error));
    }
  }

  async function ended(statement, until) {
    small(WAITS);
    const { id } = await post("/diagnosis", statement, once());
    const cancel = () => { cancelled = post(`/diagnosis/${id}/cancel`, undefined, once()).catch(() => {}); };
    if (until.aborted) cancel();
    until.addEventListener("abort", cancel);
    for await (const { type } of events(`/diagnosis/${id}/events`, until)) {
      if (type === "stage") small("Measuring the suspect on your clean images …");
    }
    until.removeEventListener("abort", cancel);
    until.throwIfAborted();
    return get(`/diagnosis/${id}`);
  }

  return { element, measure, stop };
}

function view({ state, problem, result }, use) {
  if (state !== "succeeded") return [h("p", { class: "wrong", role: "alert" }, explained({ problem }))];
  const { images, accuracy, accuracy_interval, confidence, least_expected, chance, suspicious, suggestions, warnings } = result;
  const figures = h("dl", { class: "pairs" },
    h("dt", {}, "Suspect's accuracy"), h("dd", {}, `${percent(accuracy)} (${interval(accuracy_interval)}) of ${images.toLocaleString()} clean images`),
    h("dt", {}, "Its confidence"), h("dd", {}, percent(confidence)));
  if (!suspicious && !suggestions.length) return [figures, ...warnings.map((text) => h("p", { class: "note" }, text))];
  return [figures, h("div", { class: "note" },
    h("p", {}, suspicious && `${percent(least_expected)} is the least to expect where chance is ${percent(chance)}: a repair would refuse to start. `,
      suggestions.length ? "This suits the suspect better:"
        : "No usual normalisation, channel order or class order does better: check that model and images belong together."),
    h("ul", { class: "suggestions" }, suggestions.map(({ description, value }) =>
      h("li", {}, description, " ", h("button", { type: "button", onclick: () => use(value) }, "Use it")))))];
}
