// The live parts of the console. Everything works without it.

/** Times in the browser's zone; the title keeps UTC. */
function showLocalTimes(root) {
  const thisYear = new Date().getFullYear();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    const year = at.getFullYear() === thisYear ? undefined : "numeric";
    element.textContent = at.toLocaleString("en", {
      month: "short", day: "numeric", year, hour: "2-digit", minute: "2-digit", hourCycle: "h23",
    });
  }
}

/** Without a limit, one answer that never comes would be the last that is asked for. */
const ask = (url) => fetch(url, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(30000) });

/** Fetches a live part anew, but not while somebody looks elsewhere or has the focus in it. */
async function refresh(part) {
  if (document.hidden || part.contains(document.activeElement)) return;
  const answer = await ask(part.dataset.live);
  if (answer.redirected) return location.reload(); // the session is over
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").body;
  const status = (within) => within.querySelector("[data-status]")?.dataset.status;
  if (status(fresh) !== status(part)) return location.reload();
  showLocalTimes(fresh);
  part.replaceChildren(...fresh.childNodes);
}

/** Loads a part that takes its time, in place of the link to its page. */
async function loadLater(part) {
  const answer = await ask(part.dataset.later);
  if (answer.redirected || !answer.ok || part.contains(document.activeElement)) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").body;
  showLocalTimes(fresh);
  part.replaceChildren(...fresh.childNodes);
}

/** One after the other: each of them asks SES, which answers such calls once a second. */
async function loadLaterParts() {
  for (const part of document.querySelectorAll("[data-later]")) await loadLater(part).catch(() => {});
}

/** The local stack prints an address with its key behind the #, which no browser sends to a server. */
function signInWithFragment(form) {
  const key = location.hash.slice(1);
  if (!key || !["localhost", "127.0.0.1"].includes(location.hostname)) return;
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.key.value = key;
  form.requestSubmit();
}

/** Says at once that a file is too large for the form. */
function refuseLargeFile(input) {
  input.addEventListener("change", () => {
    const isLarge = input.files[0]?.size > 3_000_000;
    input.setCustomValidity(isLarge ? "This file has more than 3 MB. Upload it under “A larger file”." : "");
    if (isLarge) input.reportValidity();
  });
}

/** Checks a file while it stays chosen, so that importing it takes one more press. */
function checkInPlace(form) {
  form.addEventListener("submit", async (event) => {
    if (event.submitter?.name !== "check") return;
    event.preventDefault();
    const data = new FormData(form, event.submitter);
    event.submitter.disabled = true;
    try {
      const answer = await fetch(form.action, { method: "POST", body: data });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const result = fresh.getElementById("import-result");
      if (!result) return location.assign("/console/import");
      document.getElementById("import-result").replaceChildren(...result.childNodes);
    } finally {
      event.submitter.disabled = false;
    }
  });
}

/** Shows what is typed as a lead would get it, a moment after the last key. */
function previewWhileTyping(form) {
  let waiting;
  let asking = new AbortController();
  const ask = async (signal) => {
    const typed = new URLSearchParams(new FormData(form));
    const answer = await fetch("/console/templates/preview", { method: "POST", body: typed, signal });
    if (answer.redirected || !answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").body;
    document.getElementById("preview-result").replaceChildren(...fresh.childNodes);
    // The frame has a policy of its own, so it loads the mail by itself.
    if (form.checkValidity()) form.requestSubmit(form.querySelector("[data-typed]"));
  };
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    asking.abort(); // a slow answer to older text must not replace a newer one
    asking = new AbortController();
    waiting = setTimeout(() => ask(asking.signal).catch(() => {}), 600);
  });
}

/** A time is typed in the browser's zone, and sent in UTC as without this module. */
function typeLocalTime(input) {
  const sent = document.createElement("input");
  sent.type = "hidden";
  sent.name = input.name;
  input.removeAttribute("name");
  input.after(sent);
  const utc = (at) => at.toISOString().slice(0, 16);
  const keep = () => { sent.value = input.value && utc(new Date(input.value)); };
  if (input.value) {
    const at = new Date(`${input.value}Z`);
    input.value = utc(new Date(at.getTime() - at.getTimezoneOffset() * 60_000));
  }
  keep();
  input.addEventListener("input", keep);
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  for (const said of input.labels[0].querySelectorAll("[data-zone]")) said.textContent = `in your time zone (${timeZone})`;
}

/** Looks through the next part of a long list by itself where nothing has been found yet. */
function lookFurther(link) {
  setTimeout(() => {
    if (!document.hidden) location.replace(link.href);
  }, 500);
}

showLocalTimes(document);
for (const form of document.querySelectorAll("form[data-check]")) {
  checkInPlace(form);
  refuseLargeFile(form.elements.file);
}
for (const form of document.querySelectorAll("form[data-preview]")) previewWhileTyping(form);
for (const part of document.querySelectorAll("[data-live]")) {
  // Counted from the last answer, so that slow ones do not pile up.
  const wait = () => setTimeout(() => refresh(part).catch(() => {}).then(wait), 4000);
  wait();
}
loadLaterParts();
for (const input of document.querySelectorAll("input[type=datetime-local]")) typeLocalTime(input);
const further = document.querySelector("a[data-further]");
if (further) lookFurther(further);
const signIn = document.getElementById("sign-in");
if (signIn) signInWithFragment(signIn);
// A form that was sent is not sent again by a second click. After a download the page stays.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.submitter?.formTarget || event.submitter?.dataset.download !== undefined) return;
  setTimeout(() => {
    for (const button of event.target.querySelectorAll("button")) button.disabled = true;
  });
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
