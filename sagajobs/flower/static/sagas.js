// Keeps what a page shows up to date: it asks for the page again, and puts in what has changed. Without it, reload.
(() => {
  "use strict";
  const EVERY = 4000;
  const regions = () => document.querySelectorAll("[data-live]");
  const status = document.getElementById("sagas-live");
  if (!status || !regions().length) return;

  const say = (words) => { if (status.textContent !== words) status.textContent = words; };

  // What somebody marks, types in, or has open is not taken from under his hands.
  const inUse = (region) => {
    const selection = window.getSelection();
    if (selection && !selection.isCollapsed && region.contains(selection.anchorNode)) return true;
    const focused = document.activeElement;
    return region.contains(focused) && /^(INPUT|SELECT|TEXTAREA)$/.test(focused.tagName);
  };

  const put = (region, fresh) => {
    if (!fresh || region.innerHTML === fresh.innerHTML || inUse(region)) return;
    const focused = region.contains(document.activeElement) ? document.activeElement.id : "";
    const left = region.scrollLeft;
    region.replaceChildren(...fresh.childNodes);
    region.scrollLeft = left;
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(window.location.href, { cache: "no-store", signal: AbortSignal.timeout(15000) });
        if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const region of regions()) put(region, page.getElementById(region.id));
        say("live");
      } catch {
        say("no answer; what is shown is old");
      }
    }
    setTimeout(refresh, EVERY);
  };
  say("live");
  setTimeout(refresh, EVERY);
})();
