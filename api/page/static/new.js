// A new repair: files, how the model sees images, what the service recognises, start.

import { action, explained, h, say } from "./dom.js";
import { get, once, post, upload } from "./http.js";
import { measuring } from "./measure.js";
import { architecture, duration, size } from "./words.js";

const PRESETS = {
  cifar: { label: "CIFAR-10", mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] },
  imagenet: { label: "ImageNet", mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
  half: { label: "0.5 for every channel", mean: [0.5], std: [0.5] },
  none: { label: "none: 0 to 1", mean: [0], std: [1] },
  own: { label: "other values", mean: null, std: null },
};
const KINDS = {
  model: { label: "Suspect model", accept: ".safetensors,.pt,.pth,.ckpt,.tar", hint: "safetensors, or a state dict as torch.save writes it" },
  clean: { label: "Clean images", accept: ".zip,.npz,.parquet", hint: "a zip with one folder of PNG, JPEG or WebP per class, an npz, or Parquet" },
  triggered: { label: "Triggered images (if you have any)", accept: ".zip,.npz,.parquet", hint: "in folders named after the class that the attacker wants; they only measure" },
};
const PATIENCE_MS = 350;

export function fresh(signal) {
  const files = {};
  const seen = h("div", { "aria-live": "polite" });
  const found = h("div", { "aria-live": "polite" });
  const fields = settings(changed);
  const measured = measuring(signal, fields.use);
  const start = action("Start the repair", begin, { class: "first" });
  const button = start.querySelector("button");
  button.disabled = true;
  const key = once();
  let timer = 0, turn = 0;

  const pickers = Object.keys(KINDS).map((kind) => picker(kind, (file) => {
    files[kind] = file;
    if (kind === "clean" && file) fields.suggest(file.facts.shape);
    changed();
  }));

  function changed() {
    button.disabled = true;
    clearTimeout(timer);
    timer = setTimeout(look, PATIENCE_MS);
  }

  /** Show the images as the model will see them, and ask whether the job would run. */
  async function look() {
    const mine = ++turn;
    const current = (work) => work.catch((error) => h("p", { class: "wrong", role: "alert" }, explained(error)));
    const strip = files.clean && await current(samples(files.clean, fields.preprocessing(files.clean.facts.shape[0])));
    if (mine !== turn || signal.aborted) return;
    seen.replaceChildren(...[strip].filter(Boolean));
    if (!files.model || !files.clean) return measured.stop();
    const checked = await current(preflight());
    if (mine !== turn || signal.aborted) return;
    found.replaceChildren(checked);
    button.disabled = checked.getAttribute("role") === "alert";
    if (button.disabled) return measured.stop();
    say("Everything fits. The repair can be started.");
    measured.measure(statement());
  }

  const statement = () => ({ suspect: files.model.id, clean: files.clean.id, ...fields.statement(files.clean.facts.shape[0]) });
  const body = () => ({ ...statement(), ...(files.triggered && { triggered: files.triggered.id }), ...fields.wanted() });

  async function preflight() {
    const answer = await post("/repair", { ...body(), validate_only: true });
    const waiting = answer.queue.jobs_before;
    return h("dl", { class: "pairs" },
      h("dt", {}, "Architecture"), h("dd", {}, architecture(answer.architecture), `, ${answer.architecture.num_classes} classes`),
      h("dt", {}, "Expected"), h("dd", {}, `about ${duration(answer.estimate.seconds)}`, waiting ? `, after ${waiting} other jobs` : ""));
  }

  async function begin() {
    await measured.stop(); // the repair does it first
    const job = await post("/repair", body(), key);
    location.hash = `#/job/${job.id}`;
  }

  return [
    h("h1", {}, "New repair"),
    h("section", { class: "card drop", ...dropping(pickers) },
      h("h2", {}, "1. Files"), h("p", { class: "small" }, "Choose them, or drop them anywhere in this box."), pickers),
    h("section", { class: "card" }, h("h2", {}, "2. How the model sees an image"), fields.seeing, seen),
    h("section", { class: "card" }, h("h2", {}, "3. What is recognised"),
      found, measured.element, h("p", { class: "small" }, "The architecture is recognised from the tensors. Name it if that goes wrong."), fields.naming, fields.further),
    start,
  ];
}

function picker(kind, onfile) {
  const { label, accept, hint } = KINDS[kind];
  const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": `Upload of ${label}` });
  const told = h("p", { class: "small", "aria-live": "polite" }, hint);
  const input = h("input", { id: `file-${kind}`, type: "file", accept, onchange: () => input.files[0] && take(input.files[0]) });
  async function take(file) {
    onfile(null);
    bar.hidden = false;
    told.className = "small";
    told.textContent = `Uploading ${file.name} (${size(file.size)}) …`;
    try {
      const stored = await upload(file, kind, (share) => {
        bar.value = share;
        if (share === 1) told.textContent = `Reading ${file.name} …`;
      });
      told.textContent = `${file.name}: ${contents(stored)}`;
      onfile(stored);
    } catch (error) {
      told.className = "wrong";
      told.replaceChildren(...explained(error));
    }
    bar.hidden = true;
  }
  const element = h("div", { class: "field" }, h("label", { for: `file-${kind}` }, label), input, bar, told);
  element.take = take;
  element.kind = kind;
  return element;
}

function contents({ kind, facts }) {
  if (kind === "model") {
    const weights = facts.tensors.reduce((sum, [, , shape]) => sum + shape.reduce((a, b) => a * b, 1), 0);
    return `${facts.tensors.length} tensors, ${weights.toLocaleString()} numbers`;
  }
  const [channels, height, width] = facts.shape;
  const names = facts.classes.slice(0, 12).join(", ") + (facts.classes.length > 12 ? ", …" : "");
  return `${facts.images.toLocaleString()} images of ${width} × ${height} × ${channels} in ${facts.classes.length} ${facts.classes.length === 1 ? "class" : "classes"}: ${names}`;
}

/** Files that are dropped go where their names belong: weights are the model, the first set is the clean one. */
function dropping(pickers) {
  const into = Object.fromEntries(pickers.map((one) => [one.kind, one]));
  return {
    ondragover: (event) => event.preventDefault(),
    ondrop: (event) => {
      event.preventDefault();
      for (const file of event.dataTransfer.files) {
        const isSet = /\.(zip|npz|parquet)$/i.test(file.name);
        const kind = !isSet ? "model" : /trigger/i.test(file.name) ? "triggered" : "clean";
        into[kind].take(file);
      }
    },
  };
}

async function samples(file, { mean, std, channels }) {
  const query = new URLSearchParams([...mean.map((v) => ["mean", v]), ...std.map((v) => ["std", v]), ["channels", channels]]);
  const { items, means, deviations } = await get(`/files/${file.id}/samples?${query}`);
  const far = means.some((value) => Math.abs(value) > 0.8) || deviations.some((value) => value < 0.5 || value > 1.6);
  const list = (values) => values.map((value) => value.toFixed(2)).join(", ");
  return h("div", {},
    h("ul", { class: "strip" }, items.map(({ class_name, png }) =>
      h("li", {}, h("img", { src: `data:image/png;base64,${png}`, alt: `An image of ${class_name}` }), h("span", {}, class_name)))),
    h("p", { class: far ? "note" : "small" },
      `As the model will see them: grey is zero. Mean per channel ${list(means)}, deviation ${list(deviations)}.`,
      far ? " Most models are trained on images with a mean near 0 and a deviation near 1: check the normalisation." : ""));
}

function settings(onchange) {
  const input = (id, attributes) => h("input", { id, oninput: onchange, autocomplete: "off", spellcheck: "false", ...attributes });
  const field = (label, control, hint) => h("div", { class: "field" }, h("label", { for: control.id }, label), control, hint && h("p", { class: "small" }, hint));
  const option = ([value, { label }]) => h("option", { value }, label);
  const preset = h("select", { id: "preset", onchange: () => { pick(preset.value); onchange(); } }, Object.entries(PRESETS).map(option));
  const channels = h("select", { id: "channels", onchange }, ["RGB", "BGR"].map((name) => h("option", {}, name)));
  const mean = input("mean", { value: "0.5, 0.5, 0.5" }), std = input("std", { value: "0.5, 0.5, 0.5" });
  const own = h("div", { class: "row", hidden: true }, field("Mean per channel", mean), field("Standard deviation per channel", std));
  const name = input("architecture", { placeholder: "found from the tensors" });
  const options = input("options", { placeholder: "width=16" });
  const label = input("label", { maxlength: 200 });
  const drop = input("drop", { type: "number", min: 0, max: 100, step: 0.1, value: 2.5 });
  const steps = input("steps", { type: "number", min: 1, placeholder: "the service chooses" });
  const asr = input("asr", { type: "number", min: 0, max: 100, step: 0.1, value: 5 });
  const mirror = h("input", { id: "mirror", type: "checkbox", checked: true, onchange });
  const classes = input("classes", { placeholder: "by name of the folders" });
  const accept = h("input", { id: "accept", type: "checkbox", onchange });
  let picked = false; // by a person, whom no guess overrules
  const pick = (value) => { picked = true; preset.value = value; own.hidden = value !== "own"; };
  const numbers = (text) => text.split(",").map(Number);

  function preprocessing(count) {
    const known = PRESETS[preset.value];
    const spread = (values) => (values.length === 1 ? Array(count).fill(values[0]) : values);
    return { mean: spread(known.mean ?? numbers(mean.value)), std: spread(known.std ?? numbers(std.value)), channels: channels.value };
  }

  function chosenArchitecture() {
    if (!name.value.trim()) return {};
    const given = options.value.split(",").map((part) => part.trim()).filter(Boolean).map((part) => part.split("="));
    return { architecture: { name: name.value.trim(), options: Object.fromEntries(given.map(([key, value]) => [key, plain(value)])) } };
  }

  return {
    preprocessing,
    suggest: ([count, height]) => {
      if (!picked) preset.value = count !== 3 ? "none" : height <= 64 ? "cifar" : "imagenet";
    },
    use: (better) => {
      pick("own");
      mean.value = better.mean.join(", ");
      std.value = better.std.join(", ");
      channels.value = better.channels;
      if (better.classes) classes.value = better.classes.join(", ");
      onchange();
    },
    statement: (count) => ({
      ...chosenArchitecture(),
      preprocessing: preprocessing(count),
      ...(classes.value.trim() && { classes: classes.value.split(",").map((one) => one.trim()) }),
    }),
    wanted: () => ({
      criteria: { max_accuracy_drop: drop.value / 100, max_attack_success_rate: asr.value / 100 },
      method: { mirror: mirror.checked, ...(steps.value && { steps: Number(steps.value) }) },
      accept_low_accuracy: accept.checked,
      ...(label.value.trim() && { labels: { name: label.value.trim() } }),
    }),
    seeing: [h("div", { class: "row" },
      field("Normalisation, as in its training", preset), field("Order of the channels", channels)), own],
    naming: h("div", { class: "row" }, field("Architecture", name), field("Its options", options)),
    further: h("details", {}, h("summary", {}, "Further settings"),
      field("A name for this repair", label),
      h("div", { class: "row" }, field("Accuracy that may be lost, in points", drop), field("Attack success that may be left, in %", asr)),
      h("div", { class: "field check" }, mirror, h("label", { for: "mirror" }, "A mirrored image shows the same class (not so for digits and signs)")),
      h("div", { class: "field check" }, accept, h("label", { for: "accept" }, "Go on although the suspect does badly on the clean images")),
      field("Steps of the fit", steps),
      field("Classes in the model's order", classes, "Separated by commas; only if it is not the order of the folders' names.")),
  };
}

function plain(value = "true") {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
