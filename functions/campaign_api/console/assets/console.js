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

/** Fetches a live part anew, but not while somebody looks elsewhere or has the focus in it. */
async function refresh(part) {
  if (document.hidden || part.contains(document.activeElement)) return;
  const answer = await fetch(part.dataset.live, { headers: { accept: "text/html" } });
  if (answer.redirected) return location.reload(); // the session is over
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").body;
  const status = (within) => within.querySelector("[data-status]")?.dataset.status;
  if (status(fresh) !== status(part)) return location.reload();
  showLocalTimes(fresh);
  part.replaceChildren(...fresh.childNodes);
}

/** The local stack prints an address with its key behind the #, which no browser sends to a server. */
function signInWithFragment(form) {
  const key = location.hash.slice(1);
  if (!key || !["localhost", "127.0.0.1"].includes(location.hostname)) return;
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.key.value = key;
  form.requestSubmit();
}

showLocalTimes(document);
for (const part of document.querySelectorAll("[data-live]")) {
  setInterval(() => refresh(part).catch(() => {}), 4000);
}
const signIn = document.getElementById("sign-in");
if (signIn) signInWithFragment(signIn);
// A form that was sent is not sent again by a second click.
document.addEventListener("submit", (event) => {
  setTimeout(() => {
    for (const button of event.target.querySelectorAll("button")) button.disabled = true;
  });
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
