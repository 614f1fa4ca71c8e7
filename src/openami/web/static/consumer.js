// What a page of the app does beyond showing itself: says how old it is when it comes from the phone's memory, and has itself kept there.
(() => {
  const root = document.documentElement, box = document.getElementById("age"), kept = Number(root.dataset.kept) || 0;
  const opened = kept || Date.now();
  const ago = () => {
    const s = (Date.now() - opened) / 1000, words = new Intl.RelativeTimeFormat(root.lang, { numeric: "always" });
    return s < 3600 ? words.format(-Math.floor(s / 60), "minute") : s < 86400 ? words.format(-Math.floor(s / 3600), "hour") : words.format(-Math.floor(s / 86400), "day");
  };
  let cut = false;
  const say = () => {
    cut = true;
    box.textContent = box.dataset.text.replace("{ago}", ago());
    box.hidden = false;
    for (const b of document.querySelectorAll("form button")) b.disabled = true;
  };
  if (box && kept) say();
  const older = () => { if (cut) say(); };
  setInterval(older, 60000);
  document.addEventListener("visibilitychange", older);
  addEventListener("offline", () => box && say());
  addEventListener("online", () => { cut = false; if (kept) location.reload(); else if (box) { box.hidden = true; for (const b of document.querySelectorAll("form button")) b.disabled = false; } });
  for (const f of document.querySelectorAll("form[method=post]"))
    f.addEventListener("submit", e => { if (f.dataset.sent) e.preventDefault(); f.dataset.sent = "1"; });
  addEventListener("pageshow", () => { for (const f of document.querySelectorAll("form")) delete f.dataset.sent; });
  if (!("serviceWorker" in navigator)) return;
  addEventListener("load", () => navigator.serviceWorker.register("/my/sw.js", { scope: "/my" }).then(async () => {
    if (kept || navigator.serviceWorker.controller || !root.dataset.keep) return;
    const headers = { "content-type": "text/html; charset=utf-8", "x-kept": String(opened), "content-security-policy": root.dataset.keep };
    await (await caches.open("pages-1")).put(location.href, new Response("<!doctype html>" + root.outerHTML, { headers }));
    const files = await caches.open("files-1");
    for (const e of document.querySelectorAll("link[rel=stylesheet],link[rel=icon],script[src]")) {
      const file = await fetch(e.href || e.src);
      if ((file.headers.get("cache-control") || "").includes("immutable")) await files.put(file.url, file);
    }
  }).catch(error => console.info("not kept for without a network: " + error.message)));
})();
