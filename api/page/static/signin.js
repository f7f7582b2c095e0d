// Sign in with a key.

import { h, explained } from "./dom.js";
import { ask, key } from "./http.js";

export function signin(reason) {
  const wrong = h("p", { class: "wrong", role: "alert", hidden: !reason }, reason ? explained({ problem: reason }) : []);
  const input = h("input", {
    id: "key", type: "password", autocomplete: "current-password", required: true, spellcheck: "false",
    placeholder: "mcr_…", "aria-describedby": "key-hint",
  });
  async function submit(event) {
    event.preventDefault();
    key.set(input.value.trim());
    try {
      await ask("/quota");
      dispatchEvent(new Event("signed-in"));
    } catch (error) {
      key.forget();
      wrong.replaceChildren(...explained(error));
      wrong.hidden = false;
      input.focus();
    }
  }
  return [
    h("h1", {}, "Repair an image classifier that you do not trust"),
    h("p", {}, "Upload the model and some clean images. ModeConn looks for a hidden trigger, makes a path of models on which ",
      "the tampering fades, and gives you back one that is repaired, with the figures that say so."),
    h("form", { class: "card narrow", onsubmit: submit },
      h("label", { for: "key" }, "Access key"), input,
      h("p", { id: "key-hint", class: "small" }, "A service on your own machine keeps it in ", h("code", {}, "data/local.key"),
        ". Else ask whoever runs the service. The browser forgets it when you close this tab."),
      wrong, h("button", { class: "first" }, "Sign in")),
  ];
}
