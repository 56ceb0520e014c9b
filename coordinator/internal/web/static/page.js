// Keeps an open page as it would be if it were loaded again, and shows times
// in the reader's own zone. Without it the page is complete and stands still.
"use strict";
(() => {
  const body = document.body;
  const indicator = document.getElementById("live");
  let skew = new Date(body.dataset.now) - Date.now(); // the server's clock minus ours, in milliseconds
  let last = null; // when the server last spoke

  // --- Times. The server prints UTC; package human has the same rules.
  const two = (n) => String(n).padStart(2, "0");
  const hour = (d) => two(d.getHours()) + ":" + two(d.getMinutes());
  const second = (d) => hour(d) + ":" + two(d.getSeconds());
  const month = (d) => ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][d.getMonth()];
  const unit = (a, x, b, y) => a + " " + x + (b > 0 ? " " + b + " " + y : "");
  const now = () => new Date(Date.now() + skew);

  function span(s) {
    s = Math.max(0, Math.floor(s));
    if (s < 60) return s + " s";
    if (s < 3600) return unit(Math.floor(s / 60), "min", s % 60, "s");
    if (s < 86400) return unit(Math.floor(s / 3600), "h", Math.floor(s % 3600 / 60), "min");
    return unit(Math.floor(s / 86400), "d", Math.floor(s % 86400 / 3600), "h");
  }
  function ago(s) {
    if (s < 2) return "just now";
    if (s < 60) return Math.floor(s) + " s ago";
    if (s < 3600) return Math.floor(s / 60) + " min ago";
    if (s < 86400) return Math.floor(s / 3600) + " h ago";
    if (s < 14 * 86400) return span(s) + " ago";
    return Math.floor(s / 86400) + " d ago";
  }
  function day(d) {
    const today = now();
    if (d.toDateString() === today.toDateString()) return "";
    return d.getDate() + " " + month(d) + " " + (d.getFullYear() === today.getFullYear() ? "" : d.getFullYear() + " ");
  }
  const forms = {
    clock: second,
    when: (d) => day(d) + hour(d),
    at: (d) => day(d) + second(d),
    date: (d) => d.getDate() + " " + month(d) + " " + d.getFullYear(),
    fine: (d) => second(d) + "." + String(d.getMilliseconds()).padStart(3, "0"),
    ago: (d) => ago((now() - d) / 1000),
    span: (d) => span((now() - d) / 1000),
  };
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "local";
  const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });
  function tell(root, only) {
    for (const el of root.querySelectorAll(only || "time")) {
      const d = new Date(el.dateTime);
      const text = forms[el.dataset.form](d);
      if (el.textContent !== text) el.textContent = text;
      if (!only) el.title = full.format(d);
    }
  }

  // --- Parts. Only what differs is touched, so that focus, selection, scroll
  // position and the movement of bars stay.
  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    children(old, fresh);
  }
  function children(old, fresh) {
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      const same = next.id && [...old.children].find((el) => el.id === next.id);
      if (same) {
        if (same !== at) old.insertBefore(same, at);
        at = same.nextSibling;
        morph(same, next);
      } else if (!at || next.id || at.id) {
        old.insertBefore(next, at);
      } else {
        const after = at.nextSibling;
        morph(at, next);
        at = after;
      }
    }
    while (at) {
      const after = at.nextSibling;
      at.remove();
      at = after;
    }
  }
  function parse(html) {
    const t = document.createElement("template");
    t.innerHTML = html;
    tell(t.content);
    return t.content;
  }
  function put(id, html) {
    const el = document.getElementById(id);
    if (el) children(el, parse(html));
  }
  function append(more) {
    const log = document.getElementById("log");
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.append(parse(more.html));
    log.dataset.after = more.after;
    log.dataset.attempt = more.attempt;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  // --- Commands can be copied with one click.
  document.documentElement.classList.toggle("can-copy", Boolean(navigator.clipboard));
  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });

  // --- The stream.
  let source = null, retry = null, watchdog = null, delay = 1000;
  const typed = () => [...document.querySelectorAll("input, textarea")].some((el) => el.value !== el.defaultValue);
  function say(text, ok) {
    indicator.classList.toggle("lost", !ok);
    indicator.querySelector(".dot").classList.toggle("off", !ok);
    const words = indicator.querySelector("span");
    words.setAttribute("aria-live", ok ? "off" : "polite"); // only a loss is announced
    if (words.textContent !== text) words.textContent = text;
  }
  // To whom is not signed in any more, the stream does not come back.
  const check = () => fetch(body.dataset.live, { method: "HEAD", redirect: "manual" }).then((answer) => {
    if (answer.type === "opaqueredirect" || answer.status === 401) location.replace(body.dataset.live);
  }, () => {});
  function lost() {
    stop();
    check();
    say(last ? "last update " + second(last) + ", reconnecting" : "not live, reconnecting", false);
    retry = setTimeout(start, delay * (0.5 + Math.random() / 2));
    delay = Math.min(delay * 2, 15000);
  }
  function stop() {
    if (source) source.close();
    source = null;
    clearTimeout(retry);
    clearTimeout(watchdog);
  }
  function start() {
    stop();
    const log = document.getElementById("log");
    const query = new URLSearchParams({ path: body.dataset.live });
    if (log) {
      query.set("after", log.dataset.after);
      query.set("attempt", log.dataset.attempt);
    }
    source = new EventSource("/live?" + query);
    source.onmessage = (event) => hear(JSON.parse(event.data));
    source.onerror = lost;
    watchdog = setTimeout(lost, 30000);
  }
  function hear(message) {
    if (message.reload || (message.build !== body.dataset.build && !typed() && !body.dataset.reload)) {
      stop();
      location.replace(body.dataset.live); // also where this page came as the answer to a form
      return;
    }
    const at = new Date(message.at);
    skew = at - Date.now();
    last = at;
    delay = 1000;
    for (const [id, html] of Object.entries(message.fragments || {})) put(id, html);
    if (message.log) append(message.log);
    if (message.title) document.title = message.title + " · borgfleet";
    say("live · " + second(at), true);
    clearTimeout(watchdog);
    watchdog = setTimeout(lost, 30000); // the server speaks at least every 10 s
  }

  // --- A secret is in one answer only; a reload shows the page without it, and
  // asks nobody whether to send the form again.
  if (body.dataset.reload) history.replaceState(null, "", body.dataset.reload);

  const current = document.querySelector("header nav [aria-current]");
  if (current) current.scrollIntoView({ block: "nearest", inline: "nearest" });
  tell(document);
  document.getElementById("zone").textContent = "Times are " + zone + ".";
  setInterval(() => tell(document, 'time[data-form="ago"], time[data-form="span"]'), 1000);
  const log = document.getElementById("log");
  if (log && document.getElementById("job-progress")) log.scrollTop = log.scrollHeight;
  if (!indicator || !window.EventSource) return;
  for (const el of indicator.querySelectorAll(".zone")) el.remove();
  // A page that nobody sees holds no connection: browsers allow only few.
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => { if (event.persisted) start(); });
  if (!document.hidden) start();
})();
