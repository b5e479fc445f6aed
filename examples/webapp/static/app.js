// What scripts add: the visitor's own time zone, and a page that follows its appointment. All else works without.
"use strict";

const OFTEN = 1000; // milliseconds between two looks while something is under way,
const SELDOM = 5000; // and when all is settled: the host may still cancel or move

const zone = document.querySelector("select[data-guess]");
if (zone) {
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (own !== zone.value && [...zone.options].some((option) => option.value === own)) {
    zone.value = own;
    zone.form.submit();
  }
}

const page = document.querySelector("[data-follow]");
if (page) setTimeout(look, "settled" in page.dataset ? SELDOM : OFTEN);

async function look() {
  let seen = null;
  try {
    const reply = await fetch(page.dataset.follow);
    if (reply.ok) seen = await reply.json();
  } catch {
    // no connection: said below
  }
  document.getElementById("silence").hidden = seen !== null;
  if (seen) show(seen);
  setTimeout(look, seen && !seen.settled ? OFTEN : SELDOM);
}

function show(seen) {
  // Only what has changed, as a screen reader says whatever is set.
  for (const part of ["status", "message", "when"]) {
    const place = document.getElementById(part);
    if (place.textContent !== seen[part]) place.textContent = seen[part];
  }
  document.getElementById("status").dataset.word = seen.status;
  document.getElementById("changes").hidden = !seen.changeable;
}
