// Speaks to the service: the key, JSON, uploads with progress, the event stream. Every refusal becomes a Refused.

const KEY = "modeconn.key";

/** An answer that is no success; `problem` is the RFC 9457 body. */
export class Refused extends Error {
  constructor(problem, status) {
    super(problem.detail ?? problem.title ?? `The service answered ${status}.`);
    this.problem = problem;
    this.status = status;
  }
}

/** The key of this tab; the browser forgets it when the tab is closed. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

const UNREACHABLE = {
  title: "The service does not answer",
  detail: "Check that it runs and that you are connected; what has been started goes on without this page.",
};

/** A request with the key. Raises Refused, also where nobody answers. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method, signal, body: body === undefined ? undefined : JSON.stringify(body),
      headers: {
        Authorization: `Bearer ${key.get()}`, ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers,
      },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(UNREACHABLE, 0);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  const problem = await answer.json().catch(() => ({ title: "The service answered strangely", detail: `Status ${answer.status}.` }));
  if (answer.status === 401 && key.get()) {
    key.forget();
    dispatchEvent(new CustomEvent("signed-out", { detail: problem }));
  }
  return told(problem, answer.status);
}

/** The refusal with what the service says to do about problems of its type. */
async function told(problem, status) {
  if (problem.type?.startsWith("/problems/")) {
    const explanation = await fetch(problem.type).then((answer) => answer.json()).catch(() => ({}));
    problem.remedy = explanation.remedy;
  }
  return new Refused(problem, status);
}

export const get = async (path) => (await ask(path)).json();
export const post = async (path, body, headers) => (await ask(path, { method: "POST", body, headers })).json();
export const bytes = async (path) => (await ask(path)).blob();

/** A new key for POSTs that must not be done twice, whatever the connection does. */
export const once = () => ({ "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-") });

/** Upload one file; `onprogress` hears a share in 0..1. (XMLHttpRequest: fetch does not tell how much has gone.) */
export function upload(file, kind, onprogress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/files?kind=${kind}&name=${encodeURIComponent(file.name.slice(0, 200))}`);
    request.setRequestHeader("Authorization", `Bearer ${key.get()}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && onprogress(event.loaded / event.total);
    request.onerror = () => reject(new Refused(UNREACHABLE, 0));
    request.onload = async () => {
      const body = parsed(request.responseText);
      if (request.status < 300) resolve(body);
      else reject(await told(body, request.status));
    };
    request.send(file);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return { title: "The service answered strangely", detail: text.slice(0, 200) };
  }
}

/** Events of a job, from the first to the last one; comes back by itself after a lost connection. */
export async function* events(path, signal, onlost = () => {}) {
  let last = 0;
  while (!signal.aborted) {
    try {
      const answer = await ask(path, { signal, headers: { "Last-Event-ID": String(last) } });
      onlost(false);
      for await (const event of parse(answer.body)) {
        last = event.id ?? last;
        yield event;
        if (["succeeded", "failed", "cancelled"].includes(event.type)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
      onlost(true);
    }
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

async function* parse(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r", "").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").filter((line) => !line.startsWith(":")).map(field));
      if (fields.data) yield { type: fields.event, id: fields.id && Number(fields.id), data: JSON.parse(fields.data) };
    }
  }
}

function field(line) {
  const at = line.indexOf(":");
  return [line.slice(0, at), line.slice(at + 1).trimStart()];
}
