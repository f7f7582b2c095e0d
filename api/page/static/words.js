// Figures and states in words.

export const percent = (share, digits = 1) => (share == null ? "–" : `${(100 * share).toFixed(digits)} %`);
export const interval = (pair) => (pair ? `${(100 * pair[0]).toFixed(1)} to ${(100 * pair[1]).toFixed(1)} %` : "");

export const STAGES = {
  validating: "Check the model on your images",
  scanning: "Look for triggers",
  preparing_ends: "Make the second end",
  fitting_path: "Fit the path",
  sweeping: "Measure along the path",
  selecting: "Choose a model",
  exporting: "Write the results",
};
export const ENDED = ["succeeded", "failed", "cancelled"];
export const STATES = {
  queued: "waiting", running: "running", cancelling: "stopping", succeeded: "finished", failed: "failed", cancelled: "cancelled",
};
export const ASR = "Attack success rate: of triggered images whose true class is another one, the share that the model takes for the attacker's class. Lower is better.";

export function duration(seconds) {
  if (seconds == null) return "";
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function size(bytes) {
  for (const [unit, one] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) if (bytes >= one) return `${(bytes / one).toFixed(1)} ${unit}`;
  return `${bytes} bytes`;
}

export const when = (time) => (time ? new Date(time).toLocaleString() : "–");
export const short = (id) => id.slice(0, 8);

export function architecture(found) {
  const options = Object.entries(found?.options ?? {}).map(([name, value]) => `${name} ${value}`);
  return found ? [found.name, ...options].join(", ") : "not known yet";
}

/** What a job is called: its label `name`, else the beginning of its id. */
export const title = (job) => job.labels.name ?? `Repair ${short(job.id)}`;
