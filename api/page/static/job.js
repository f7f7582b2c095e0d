// One repair: live while it runs, then its result.

import { action, explained, h, say } from "./dom.js";
import { events, get, once, post } from "./http.js";
import { curve, fromEvent } from "./curve.js";
import { result } from "./result.js";
import { pill } from "./jobs.js";
import { ENDED, STAGES, STATES, architecture, duration, percent, title, when } from "./words.js";

export async function job(signal, id) {
  const [first, path] = await Promise.all([get(`/repair/${id}`), get(`/repair/${id}/curve`)]);
  const figure = curve();
  const points = new Map(path.points.map((point) => [point.t, point]));
  const head = h("div", { class: "title" });
  const live = h("section", { class: "card", "aria-label": "Progress" });
  const outcome = h("div");
  const details = h("div");
  const draw = (marks) => figure.draw([...points.values()], marks);
  const progress = progressView();
  live.append(progress.element);

  function heading(row) {
    const cancel = action("Cancel", async () => { await post(`/repair/${id}/cancel`, undefined, once()); });
    head.replaceChildren(h("h1", {}, title(row)), pill(row), ...(["queued", "running"].includes(row.state) ? [cancel] : []));
  }

  function ended(row) {
    heading(row);
    live.hidden = row.state === "succeeded";
    progress.end(row);
    if (row.state !== "succeeded") return outcome.replaceChildren(failure(row));
    const found = result(row, [...points.values()], draw, signal);
    outcome.replaceChildren(found.verdict);
    details.replaceChildren(...found.details);
    draw({ chosen: row.result.t, t: row.result.t });
  }

  async function follow() {
    for await (const { type, data } of events(`/repair/${id}/events`, signal, progress.lost)) {
      if (signal.aborted) return;
      if (type === "point" && data.path === "main") {
        points.set(data.t, fromEvent(data));
        draw();
      } else if (type === "state") {
        const row = await get(`/repair/${id}`);
        heading(row);
        progress.state(row);
      } else if (type === "stage" || type === "progress") progress.show(data);
      else if (type === "warning") progress.warn(data);
      else if (ENDED.includes(type)) {
        ended(await get(`/repair/${id}`));
        say(`The repair has ${STATES[type]}.`);
      }
    }
  }

  draw();
  heading(first);
  if (ENDED.includes(first.state)) ended(first);
  else {
    progress.state(first);
    follow().catch((error) => outcome.replaceChildren(h("p", { class: "wrong", role: "alert" }, explained(error))));
  }
  return [head, live, outcome, h("section", { class: "card" }, h("h2", {}, "The path"), figure.element), details, facts(first)];
}

/** Stages, bar, time left; what was warned of. */
function progressView() {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress of the repair" });
  const line = h("p", { class: "small" });
  const known = h("p", { hidden: true });
  const warnings = h("ul", { class: "warnings" });
  const lostNote = h("p", { class: "note", hidden: true, role: "status" }, "The connection is lost. The repair goes on; this page comes back by itself.");
  const stages = Object.entries(STAGES).map(([name, label]) => h("li", { "data-stage": name }, label));
  const names = Object.keys(STAGES);
  let stage = null;
  return {
    element: [h("h2", {}, "Progress"), bar, line, known, lostNote, h("ol", { class: "stages" }, stages), warnings].reduce(
      (box, child) => (box.append(child), box), h("div")),
    lost: (is) => { lostNote.hidden = !is; },
    show({ stage: now, fraction, seconds_left, numbers = {} }) {
      bar.value = fraction;
      if (numbers.suspect_accuracy != null) {
        known.textContent = `The suspect gets ${percent(numbers.suspect_accuracy)} of your clean images right.`;
        known.hidden = false;
      }
      const loss = numbers.loss ?? numbers.training_loss;
      line.textContent = [percent(fraction, 0), seconds_left != null && `about ${duration(seconds_left)} left`, loss != null && `loss ${loss.toFixed(3)}`]
        .filter(Boolean).join(" · ");
      if (now === stage) return;
      stage = now;
      stages.forEach((item, at) => {
        item.className = at < names.indexOf(now) ? "done" : at === names.indexOf(now) ? "now" : "";
        if (item.className === "now") item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
      });
      say(STAGES[now] ?? now);
    },
    state(row) {
      if (row.state === "queued") line.textContent = row.queue_position ? `Waits; number ${row.queue_position} in the queue.` : "Waits for a worker.";
      else if (row.state === "cancelling") line.textContent = "Stopping …";
      if (row.attempt > 1) this.warn({ detail: `Attempt ${row.attempt}: the one before was lost. It goes on from the last checkpoint.` });
    },
    warn(data) {
      const text = data.detail ?? data.reason;
      if (text && ![...warnings.children].some((item) => item.textContent === text)) warnings.append(h("li", {}, text));
    },
    end: (row) => { if (row.state !== "succeeded") line.textContent = `It has ${STATES[row.state]}.`; },
  };
}

function failure(row) {
  const again = action("Try it again", async () => {
    const next = await post(`/repair/${row.id}/retry`, undefined, once());
    location.hash = `#/job/${next.id}`;
  }, { class: "first" });
  return h("section", { class: "card" },
    h("h2", {}, row.state === "cancelled" ? "Cancelled" : "What went wrong"),
    row.problem ? problem(row.problem) : h("p", {}, "Nothing was kept of it. The files are still there."), again);
}

function problem(found) {
  const box = h("div", { class: "wrong", role: "alert" }, explained({ problem: found }));
  if (found.type?.startsWith("/problems/")) {
    fetch(found.type).then((answer) => answer.json()).then(({ remedy }) => remedy && box.append(h("p", {}, remedy))).catch(() => {});
  }
  if (found.last_lines?.length) box.append(h("details", {}, h("summary", {}, "What it printed last"), h("pre", {}, found.last_lines.join("\n"))));
  return box;
}

function facts(row) {
  const entries = [
    ["Id", row.id], ["Architecture", architecture(row.architecture)], ["Posted", when(row.created_at)], ["Started", when(row.started_at)],
    ["Attempt", row.attempt], ["Results are kept until", when(row.expires_at)], ...Object.entries(row.labels),
  ];
  return h("details", { class: "card" }, h("summary", {}, "About this repair"),
    h("dl", { class: "pairs" }, entries.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("h3", {}, "The request"), h("pre", {}, JSON.stringify(row.request, null, 1)));
}
